"""Own composites: children that are called several times, fed by one another, and given inputs of their own."""

import gc
import re

import numpy as np
import pytest
from export_pieces import Shared

from framework import (
    BatchNorm,
    BinaryCrossEntropy,
    Dense,
    DerivativeError,
    DivergedError,
    Dropout,
    Embedding,
    Flatten,
    HalfSquaredError,
    Heads,
    Layer,
    Model,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Tanh,
    Trainer,
    check_gradients,
)
from framework.base import UsageError
from framework.formulas import OutputLosses, Step
from framework.models import Composite

X = np.cos(np.arange(1.0, 13.0)).reshape(6, 2)
TRAINER = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.3), epochs=200, batch_size=3)


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
        check = "off"  # it has no backward of its own

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
    assert np.allclose(model.parameters.gradient[4:], once[4:], rtol=1e-14)


class Forgetting(Shared):
    def apply_backward(self, gradient, values, record, gradients):
        a, _ = record["ab"]
        return 3 * self.backward_child("body", gradient * a, record)


class Negated(Shared):
    def apply_backward(self, gradient, values, record, gradients):
        return -super().apply_backward(gradient, values, record, gradients)


class Overwriting(Shared):
    def apply(self, x, values, record):
        record["ab"] = a, b = [self.forward_child("body", part, record) for part in (x, 2 * x)]
        a *= b
        return a


WRONG = {
    Forgetting: r"gradients\['body.(0.)?weights'\] is wrong",
    Negated: "dL/dx, which it returns, is wrong(.|\n)*sign is wrong",
    Overwriting: r"gradients\['body.(0.)?weights'\] is wrong",
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_wrong_gradient_is_found_at_first_use(kind, dtype):
    for body in (Dense(2, 2, Tanh(), dtype=dtype), Sequential(Dense(2, 2, Tanh(), dtype=dtype))):
        with pytest.raises(DerivativeError, match=f"{kind.__name__}.apply_backward: {WRONG[kind]}"):
            Sequential(kind(body=body))(X)


def test_right_gradients_pass_whatever_the_children_do():
    class Kept(Layer):
        def initial_buffers(self):
            return {"level": np.ones(2)}

        def formula(self, x, level):
            return x * level, {"level": level + 1.0}

    for layer in (BatchNorm(2), Dropout(0.5), Kept(), ReLU(), Dense(2, 2, Step())):
        model = Shared(body=Sequential(dense(), layer))
        model.forward(X, key=(0, 0, 0))
        model.backward(np.ones((6, 2)))


class Skipping(Composite):
    """body(x) + extra(x) where the first number of the batch is positive, else body(x)."""

    body: Model
    extra: Model

    def children(self):
        return {"body": self.body, "extra": self.extra}

    def apply(self, x, values, record):
        record["used"] = used = [name for name in self.children() if name == "body" or x[0, 0] > 0]
        return np.sum([self.forward_child(name, x, record) for name in used], axis=0)

    def apply_backward(self, gradient, values, record, gradients):
        return np.sum([self.backward_child(name, gradient, record) for name in reversed(record["used"])], axis=0)


@pytest.mark.parametrize(
    "around", [Sequential, lambda model: model, lambda model: Shared(body=model)], ids=["layers", "alone", "shared"]
)
def test_a_child_that_a_step_does_not_use_has_the_gradient_0(around):
    model = around(Skipping(body=dense(), extra=dense(2)))
    extra = [name for name in model.parameters if "extra" in name]
    for x in (np.abs(X), -np.abs(X)):
        model.forward(x)
        model.backward(np.ones((6, 2)))
        assert all(np.any(model.parameters.gradients[name]) == (x[0, 0] > 0) for name in extra)


class Mirrored(Shared):
    """body(x) + body(-x)."""

    def apply(self, x, values, record):
        return self.forward_child("body", x, record) + self.forward_child("body", -x, record)

    def apply_backward(self, gradient, values, record, gradients):
        return self.backward_child("body", gradient, record) * -1 + self.backward_child("body", gradient, record)


def test_a_child_that_one_of_two_calls_does_not_use_has_the_gradient_of_the_other():
    model = Mirrored(body=Skipping(body=dense(), extra=dense(2)))
    for x in (X, -X):
        assert check_gradients(model, HalfSquaredError(), x, np.ones((6, 2))).passed


def test_a_model_with_a_shared_child_trains():
    teacher = Shared(body=dense(9))
    run = TRAINER.fit(Sequential(Shared(body=dense(3))), (X, teacher(X)))
    assert run.history[-1]["loss"] < 0.02 * run.history[0]["loss"]


def test_each_backward_of_a_child_needs_a_forward():
    class Forgetful(Shared):
        check = "off"
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
    line = f"layer {place} Shared returns a gradient of nan in 1 of 6 rows: row 3 of the data"
    assert line in caught.value.__notes__


class Branches(Composite):
    """Two inputs, each through a child of its own."""

    table: Model
    dense: Model

    def children(self):
        return {"table": self.table, "dense": self.dense}

    @property
    def input_shape(self):
        return {"numbers": (None,), "city": (1,)}

    def apply(self, x, values, record):
        city = self.forward_child("table", x["city"], record)
        return self.forward_child("dense", x["numbers"], record) + city[:, 0]

    def apply_backward(self, gradient, values, record, gradients):
        city = self.backward_child("table", gradient[:, None], record)
        return {"city": city, "numbers": self.backward_child("dense", gradient, record)}


INPUTS = {"numbers": np.cos(np.arange(1.0, 19.0)).reshape(6, 3), "city": np.arange(6)[:, None] % 5}


def branches(**changes):
    return Branches(**{"table": Embedding(5, 2, seed=1), "dense": Dense(units=2, seed=2)} | changes)


@pytest.mark.parametrize("after", [None, (), (Dense(units=2),)], ids=["alone", "in a sequence", "before a layer"])
def test_children_take_their_numbers_of_inputs_from_what_apply_gives_them(after):
    model = branches() if after is None else Sequential(branches(), *(layer.copy() for layer in after))
    assert not model.settled
    TRAINER.fit(model, (INPUTS, np.ones((6, 2))), epochs=1)
    first = model if isinstance(model, Branches) else model[0]
    assert first.dense.inputs == 3
    assert check_gradients(model, HalfSquaredError(), INPUTS, np.ones((6, 2))).passed
    sample = {name: leaf[0] for name, leaf in INPUTS.items()}
    assert model.shape_after({"numbers": (3,), "city": (1,)}) == model(sample).shape


def test_parts_of_one_array_go_into_children_of_other_shapes():
    class Split(Branches):
        @property
        def input_shape(self):
            return (4,)

        def apply(self, x, values, record):
            self.forward_child("table", x[:, :1], record)
            return self.forward_child("dense", x[:, 1:], record)

    model = Sequential(Split(table=Embedding(5, 2), dense=Dense(units=2)), Dense(units=1))  # known without data
    assert model[0].dense.inputs == 3
    assert model.output_shape == (1,)


class Chain(Composite):
    down: Model
    up: Model

    def children(self):
        return {"down": self.down, "up": self.up}

    def apply(self, x, values, record):
        return x + self.forward_child("up", self.forward_child("down", x, record), record)

    def apply_backward(self, gradient, values, record, gradients):
        return gradient + self.backward_child("down", self.backward_child("up", gradient, record), record)


def test_the_summary_shows_what_a_child_makes_of_another_childs_output():
    model = Chain(down=Dense(4, 2), up=Sequential(Reshape((2, 1)), Dense(units=3), Flatten(), Dense(units=4)))
    TRAINER.fit(model, (np.ones((6, 4)), np.ones((6, 4))), epochs=1)
    lines = [
        line.split("  ")[0] + line[line.index("(rows") :].split("  ")[0] for line in model.summary().splitlines()[1:7]
    ]
    assert lines == [
        "Chain(rows, 4)",
        "down Dense(Identity)(rows, 2)",
        "up.0 Reshape()(rows, 2, 1)",
        "up.1 Dense(Identity)(rows, 2, 3)",
        "up.2 Flatten()(rows, 6)",
        "up.3 Dense(Identity)(rows, 4)",
    ]


def test_a_child_that_does_not_fit_is_named():
    with pytest.raises(ShapeError, match=re.escape("Chain: child 'up': Dense takes samples of shape (3,); got (2,)")):
        Sequential(Reshape((4,)), Chain(down=Dense(4, 2), up=Dense(3, 4)))
    with pytest.raises(ShapeError, match=re.escape("Branches: child 'dense': Dense takes samples of shape (4,); got")):
        TRAINER.fit(branches(dense=Dense(4, 2)), (INPUTS, np.ones((6, 2))))


def test_an_apply_that_cannot_take_zeros_says_what_to_write():
    class Picky(Chain):
        check = "off"

        def apply(self, x, values, record):
            return super().apply(x, values, record)[np.argwhere(x > 0)[0]]

    message = "Picky.apply fails on a sample of zeros of shape (4,), with which the shapes inside are found: IndexError"
    with pytest.raises(ShapeError, match=re.escape(message)):
        Sequential(Reshape((4,)), Picky(down=Dense(4, 2), up=Dense(2, 4)))

    class Told(Picky):
        def settle(self, shape):
            return self.up.settle(self.down.settle(shape))

        def shape_after(self, shape):
            return shape

    assert "down Dense" in Sequential(Told(down=Dense(4, 2), up=Dense(units=4))).summary()


@pytest.mark.parametrize("output", [None, [1.0]])
def test_an_apply_must_return_an_array(output):
    class Odd(Chain):
        def apply(self, x, values, record):
            return output

    with pytest.raises(ShapeError, match=f"an array, or a dict of arrays; got {type(output).__name__}"):
        Sequential(Odd(down=Dense(4, 2), up=Dense(2, 4)))


@pytest.mark.parametrize(
    "children",
    [lambda model: {"down": model.down, "down.0": model.up}, lambda model: [model.up]],
    ids=["a dot", "a list"],
)
def test_children_have_names_without_a_dot(children):
    class Odd(Chain):
        pass

    Odd.children = children
    with pytest.raises(SettingsError, match=r"Odd\.children must return a dict of models by names without a dot; got"):
        Odd(down=Dense(4, 2), up=Dense(2, 4))


def test_samples_of_another_shape_than_the_first_childs_need_an_input_shape():
    class Silent(Branches):
        input_shape = Composite.input_shape

    model = Silent(table=Embedding(5, 2), dense=Dense(3, 2))
    with pytest.warns(
        UserWarning, match=r"gradients of Silent were not checked, because it raises IndexError.*made-up"
    ):
        assert len(model.parameters) == 3
    advice = "Silent takes what its first child takes: for another shape, write input_shape"
    for wrapped in (model, Sequential(model.copy())):
        for x in (INPUTS, np.ones((6, 2, 2))):
            with pytest.raises(ShapeError, match=advice):
                TRAINER.fit(wrapped, (x, np.ones((6, 2))))
            with pytest.raises(ShapeError, match=advice):
                wrapped(x)
    with pytest.raises(ShapeError) as caught:
        Dense(3, 2)(INPUTS)
    assert "input_shape" not in str(caught.value)


def test_numbers_of_inputs_are_forgotten_after_a_refused_fit():
    model = branches()
    with pytest.raises(ShapeError):
        TRAINER.fit(model, (INPUTS, np.ones((6, 3))))
    assert not model.settled


def test_a_model_of_activations_alone_has_the_dtype_of_the_model_around_it():
    alone = Residual(Tanh()).in_dtype("float32")
    assert {alone.dtype, alone.copy().dtype, alone(X.astype("float32")).dtype.name} == {"float32"}
    model = Sequential(Dense(2, 2, dtype="float32"), Residual(Tanh()), Residual(Residual(Sequential(ReLU(), Tanh()))))
    for each in (model, model.copy(), Sequential.from_json(model.to_json())):
        assert {each.dtype, each(X).dtype.name, *(part.dtype for part in each.parts.values())} == {"float32"}
    assert model.in_dtype("float64")(X).dtype == "float64"
    with pytest.raises(SettingsError, match=r"got float64 \(1 Residual\) and float32 \(0 Dense\)"):
        Sequential(Dense(2, 2, dtype="float32"), Residual(Dense(2, 2)))


class Above(Composite):
    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        return {"above": x > 0.5, "count": (x > 0.5).sum(axis=1), "body": self.forward_child("body", x, record)}


def test_outputs_are_floats_whatever_apply_returns():
    model, passes = Above(body=dense()), dense()
    for output in (model(X), model.forward(X)):
        assert {leaf.dtype for leaf in output.values()} == {np.dtype(np.float64)}
        assert np.array_equal(output["above"], X > 0.5)
        assert np.array_equal(output["count"], (X > 0.5).sum(axis=1))
        assert np.array_equal(output["body"], passes(X))


class Misspelt(Layer):
    def formula(self, x):
        return x * {}["scale"]


class OfArrays(Above):
    def apply(self, x, values, record):
        if not isinstance(x, np.ndarray):
            raise TypeError("x must be an array")
        return self.forward_child("body", x, record)


def test_an_error_is_that_of_the_formula_in_which_it_is():
    with pytest.raises(KeyError, match="scale"):
        Sequential(dense(), Residual(Misspelt()))(X)
    advice = "write it with NumPy functions, or write apply_backward too: then Python runs both"
    message = f"^OfArrays.apply cannot be traced: TypeError: x must be an array; {advice}$"
    with pytest.raises(DerivativeError, match=message):
        Sequential(dense(), Residual(OfArrays(body=dense())))(X)


class Centred(Shared):
    """Mixes rows in ``apply``: with DataParallel, each part of a batch would be centred by itself."""

    apply_backward = Composite.apply_backward

    def apply(self, x, values, record):
        a = self.forward_child("body", x, record)
        return a - a.mean(axis=0)


def test_an_apply_that_mixes_rows_is_refused_and_a_layer_inside_may_mix_them():
    with pytest.raises(
        DerivativeError, match=r"Centred\.apply mixes rows, by mean over the rows: .* mixes_rows = True"
    ):
        Centred(body=dense()).forward(X)
    assert Sequential(dense(), BatchNorm(2)).forward(X).shape == (6, 2)


class ByHand(Shared):
    """Python runs its passes."""

    def apply(self, x, values, record):
        return self.forward_child("body", x, record)

    def apply_backward(self, gradient, values, record, gradients):
        return self.backward_child("body", gradient, record)


def test_buffers_of_a_child_that_python_runs_move_once_in_a_step_by_hand():
    y = {"price": X, "late": (X > 0).astype(float)}
    loss = OutputLosses(price=HalfSquaredError(), late=BinaryCrossEntropy())
    buffers = []
    for first in (BatchNorm(2), ByHand(body=BatchNorm(2))):
        model = Sequential(first, Heads(price=Dense(2, 2, seed=1), late=Dense(2, 2, Sigmoid(), seed=2)))
        model.forward(X)
        loss.backward(model, y)
        buffers.append([*model.buffers.values()])
    np.testing.assert_array_equal(*buffers)


def test_equal_trainings_share_their_working_memory():
    class Doubled(Shared):
        apply_backward = Composite.apply_backward

        def apply(self, x, values, record):
            return 2.0 * self.forward_child("body", x, record)

    model = Doubled(body=dense())
    for _ in range(4):
        TRAINER.replace(epochs=1).fit(model, (X, X))
    gc.collect()
    assert len(model._built().workspace) == 1


def test_an_apply_that_draws_random_numbers_is_refused():
    class Noisy(Shared):
        apply_backward = Composite.apply_backward

        def apply(self, x, values, record):
            return self.forward_child("body", x, record) + np.random.default_rng(record.key).random()

    with pytest.raises(DerivativeError, match=r"declare the random numbers in draws\(shape\) of a Layer"):
        Noisy(body=dense()).forward(X, key=(0, 1, 2))


@pytest.mark.parametrize("name", ["weights", "bias"])
def test_an_apply_that_reads_numbers_of_the_model_itself_is_refused(name):
    class Tied(Shared):
        apply_backward = Composite.apply_backward

        def apply(self, x, values, record):
            return self.forward_child("body", x, record) + np.sum(getattr(self.body, name))

    class Right(Shared):
        apply_backward = Composite.apply_backward

        def apply(self, x, values, record):
            return self.forward_child("body", x, record) @ values["body.weights"].T

    with pytest.raises(DerivativeError, match=r"Tied: .*as values\['body\.weights'\]"):
        Tied(body=dense())(X)
    assert check_gradients(Right(body=dense()), HalfSquaredError(), X, X).passed


class Switching(Composite):
    """Doubles the outputs of small batches."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        output = self.forward_child("body", x, record)
        return output if len(x) > 32 else 2.0 * output


def test_a_composite_that_branches_on_the_number_of_rows_is_named():
    with pytest.raises(DerivativeError, match=r"apply of 1 Switching .*must not branch on the number of rows"):
        Sequential(dense(), Switching(body=dense()))(X)
