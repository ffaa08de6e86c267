"""Own composites: children that are called several times, fed by one another, and given inputs of their own."""

import re

import numpy as np
import pytest

from framework import (
    Composite,
    Dense,
    DivergedError,
    Dropout,
    HalfSquaredError,
    Model,
    Residual,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
    UsageError,
    check_gradients,
)

X = np.cos(np.arange(1.0, 13.0)).reshape(6, 2)
TRAINER = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.3), epochs=200, batch_size=3)


class Shared(Composite):
    """body(x) body(2 x): one child with two calls."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        record["ab"] = a, b = [self.forward_child("body", part, record) for part in (x, 2 * x)]
        return a * b

    def apply_backward(self, gradient, values, record, gradients):
        a, b = record["ab"]
        dx = 2 * self.backward_child("body", gradient * a, record)
        return dx + self.backward_child("body", gradient * b, record)


def dense(seed=1):
    return Dense(2, 2, Tanh(), seed=seed)


NESTED = {
    "a layer": dense,
    "layers": lambda: Sequential(dense(), dense(2)),
    "a residual": lambda: Residual(dense(), dense(2)),
    "a shared child": lambda: Shared(body=dense()),
    "deeper": lambda: Sequential(dense(), Shared(body=Sequential(dense(2), Shared(body=Residual(dense(3)))))),
}


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED)
def test_gradients_of_several_calls_of_a_child_add_up(body):
    model = Shared(body=body())
    assert check_gradients(model, HalfSquaredError(), X, np.ones((6, 2))).passed
    assert check_gradients(Sequential(model.copy(), dense(5)), HalfSquaredError(), X, np.ones((6, 2))).passed
    assert np.array_equal(model.forward(X), model(X))


def test_a_forward_without_backward_leaves_nothing_behind():
    model, fresh = Sequential(Shared(body=dense())), Sequential(Shared(body=dense()))
    for _ in range(3):
        model.forward(2 * X)
    for way in (model, fresh):
        way.forward(X)
        way.backward(np.ones((6, 2)))
    assert np.array_equal(model.parameters.gradient, fresh.parameters.gradient)


def test_each_call_of_a_child_draws_its_own_random_numbers():
    class Twice(Shared):
        def apply(self, x, values, record):
            return np.hstack([self.forward_child("body", x, record) for _ in range(2)])

    first, second = np.hsplit(Twice(body=Dropout(0.5)).forward(np.ones((50, 2)), key=(0, 1, 2)), 2)
    assert not np.array_equal(first, second)


def test_gradients_of_several_calls_accumulate_and_freeze():
    model = Shared(body=Sequential(dense(), dense(2)))
    model.forward(X)
    model.backward(np.ones((6, 2)))
    once = model.parameters.gradient.copy()
    model.forward(X)
    model.backward(np.ones((6, 2)), accumulate=True)
    assert np.allclose(model.parameters.gradient, 2 * once, rtol=1e-14)
    model.parameters.freeze("body.0.weights")
    model.forward(X)
    model.backward(np.ones((6, 2)))
    assert not model.parameters.gradients["body.0.weights"].any()
    assert np.array_equal(model.parameters.gradient[4:], once[4:])


def test_a_model_with_a_shared_child_trains():
    teacher = Shared(body=dense(9))
    run = TRAINER.fit(Sequential(Shared(body=dense(3))), (X, teacher(X)))
    assert run.history[-1]["loss"] < 0.02 * run.history[0]["loss"]


def test_each_backward_of_a_child_needs_a_forward():
    class Forgetful(Shared):
        calls: int

        def apply(self, x, values, record):
            record["ab"] = x, x
            for _ in range(self.calls):
                self.forward_child("body", x, record)
            return x

    for calls in (0, 1):
        model = Forgetful(body=dense(), calls=calls)
        model.forward(X)
        with pytest.raises(UsageError, match=re.escape("Forgetful: each backward_child('body') needs a forward_child")):
            model.backward(np.ones((6, 2)))


class Spoiled(Dense):
    """Dense, whose gradient by x is spoiled in row 3."""

    check = "off"

    def apply_backward(self, gradient, values, record, gradients):
        dx = super().apply_backward(gradient, values, record, gradients)
        gradients["bias"][0] = np.nan
        return np.where(np.arange(len(dx))[:, None] == 3, np.nan, dx)


@pytest.mark.parametrize("wrapped", [Residual, Sequential], ids=["in a residual", "in a sequence"])
def test_a_divergence_in_a_child_with_several_calls_is_found(wrapped):
    model = Sequential(dense(), wrapped(Shared(body=Spoiled(2, 2)), dense(2)))
    with pytest.raises(DivergedError) as caught:
        TRAINER.replace(shuffle=False, batch_size=6).fit(model, (X, X))
    place = "1.block.0" if wrapped is Residual else "1.0"
    line = f"layer {place} Shared hands back a gradient of nan in 1 of 6 rows: row 3 of the data"
    assert line in caught.value.__notes__
