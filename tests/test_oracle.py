"""Fifty steps of training agree with JAX in float64, and with every setting of PyTorch's SGD."""

import numpy as np
import pytest
from oracles import in_float64, jax, jnp, quickly, stored, weighted_mean

from framework import (
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    Identity,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
)

ROWS, STEPS, INPUTS, CLASSES = 12, 50, 5, 3
HIDDEN = [Tanh(), ReLU(), Sigmoid()]


class OwnSigmoid(Sigmoid):
    """The same numbers, but another class."""


class OwnSoftmax(Softmax):
    """The same numbers, but another class."""


JAX = {
    Identity: lambda h: h,
    Sigmoid: jax.nn.sigmoid,
    OwnSigmoid: jax.nn.sigmoid,
    Tanh: jnp.tanh,
    ReLU: jax.nn.relu,
    Softmax: jax.nn.softmax,
    OwnSoftmax: jax.nn.softmax,
}

# Each loss, element by element or row by row, from the logits h of the output layer or from its output a.
LOSSES = {
    "half": ("a", lambda a, y: 0.5 * (a - y) ** 2),
    "mse": ("a", lambda a, y: (a - y) ** 2),
    "bce": ("a", lambda a, y: -(y * jnp.log(a) + (1 - y) * jnp.log1p(-a))),
    "bce_logits": ("h", lambda h, y: -(y * jax.nn.log_sigmoid(h) + (1 - y) * jax.nn.log_sigmoid(-h))),
    "ce": ("a", lambda a, y: -jnp.log(a)[jnp.arange(ROWS), y]),
    "ce_logits": (
        "h",
        lambda h, y: -(jax.nn.log_softmax(h) * (jax.nn.one_hot(y, CLASSES) if y.ndim == 1 else y)).sum(1),
    ),
}


def targets(kind, rng):
    match kind:
        case "real":
            return rng.normal(size=(ROWS, CLASSES))
        case "binary":
            return rng.integers(0, 2, (ROWS, CLASSES)).astype(float)
        case "probability":
            return rng.uniform(size=(ROWS, CLASSES))
        case "class":
            return rng.integers(0, CLASSES, ROWS)
        case "one_hot":
            return np.eye(CLASSES)[rng.integers(0, CLASSES, ROWS)]
        case _:
            return rng.dirichlet(np.ones(CLASSES), ROWS)


def network(depth, output):
    sizes = [*[INPUTS, 7, 6, 4][:depth], CLASSES]
    layers = [Dense(sizes[i], sizes[i + 1], HIDDEN[i]) for i in range(depth - 1)]
    return Sequential(*layers, Dense(sizes[depth - 1], CLASSES, output), seed=depth)


def trained_by_jax(model, jax_loss, x, y, weights):
    """Return the losses of the steps and the parameters after them; each step weighs all rows anew."""
    layers = model.layers if isinstance(model, Sequential) else (model,)
    of, formula = LOSSES[jax_loss]

    def objective(parameters, weight):
        h, a = None, x
        for i, layer in enumerate(layers):
            h = a @ parameters[2 * i] + parameters[2 * i + 1]
            a = JAX[type(layer.activation)](h)
        return weighted_mean(formula(h if of == "h" else a, y), weight)

    def step(parameters, weight):
        value, gradients = jax.value_and_grad(objective)(parameters, weight)
        return [p - 0.1 * g for p, g in zip(parameters, gradients, strict=True)], value

    start = [value.copy() for value in model.parameters.values()]
    end, values = in_float64(quickly(lambda *both: jax.lax.scan(step, *both)), start, weights)
    return values, np.concatenate([value.ravel() for value in end])


def assert_same_training(model, loss, jax_loss, y, *, weight=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, INPUTS))
    batches = [rng.permutation(ROWS)[: 5 + step % 8] for step in range(STEPS)]  # of many sizes
    weights = np.zeros((STEPS, ROWS))  # a row outside the batch has the weight 0
    for step, rows in enumerate(batches):
        weights[step, rows] = 1.0 if weight is None else weight[rows]
    values, end = trained_by_jax(model, jax_loss, x, y, weights)
    optimizer = SGDOptimizer(model, learning_rate=0.1)
    start = model.parameters.vector.copy()
    for rows, value in zip(batches, values, strict=True):
        model.forward(x[rows])
        assert loss.backward(model, y[rows], None if weight is None else weight[rows]) == pytest.approx(
            value, rel=1e-10
        )
        optimizer.step()
    assert not np.allclose(start, model.parameters.vector, rtol=1e-3)
    np.testing.assert_allclose(model.parameters.vector, end, rtol=1e-10, atol=1e-14)


PAIRS = [  # output, loss, JAX's loss, targets
    *((output, HalfSquaredError(), "half", "real") for output in (Identity(), Sigmoid(), Tanh(), ReLU(), Softmax())),
    *((output, MeanSquaredError(), "mse", "real") for output in (Identity(), Sigmoid(), Tanh(), ReLU(), Softmax())),
    (Sigmoid(), BinaryCrossEntropy(), "bce_logits", "binary"),
    (Sigmoid(), BinaryCrossEntropy(), "bce_logits", "probability"),
    (OwnSigmoid(), BinaryCrossEntropy(), "bce", "probability"),
    (Softmax(), BinaryCrossEntropy(), "bce", "binary"),
    (Softmax(), CrossEntropy(), "ce_logits", "class"),
    (OwnSoftmax(), CrossEntropy(), "ce", "class"),
    (Softmax(), CrossEntropy(), "ce_logits", "one_hot"),
    (Softmax(), CrossEntropy(), "ce_logits", "soft"),
]
NAMES = [f"{type(loss).__name__}-{output}-{kind}" for output, loss, _, kind in PAIRS]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("output", "loss", "jax_loss", "kind"), PAIRS, ids=NAMES)
def test_networks_with_every_output_and_loss(output, loss, jax_loss, kind, depth):
    rng = np.random.default_rng(depth)
    weight = rng.uniform(0.1, 2.0, ROWS) if depth % 2 else None
    assert_same_training(network(depth, output), loss, jax_loss, targets(kind, rng), weight=weight)


NEURONS = [
    *((activation, HalfSquaredError(), "half") for activation in (Identity(), Sigmoid(), Tanh(), ReLU())),
    *((activation, MeanSquaredError(), "mse") for activation in (Identity(), Sigmoid(), Tanh(), ReLU())),
    (Sigmoid(), BinaryCrossEntropy(), "bce_logits"),
]


@pytest.mark.parametrize(("activation", "loss", "jax_loss"), NEURONS)
def test_a_lone_neuron(activation, loss, jax_loss):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, ROWS).astype(float)
    assert_same_training(Neuron(INPUTS, activation, seed=2), loss, jax_loss, y, weight=rng.uniform(0.1, 2.0, ROWS))


SETTINGS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"weight_decay": 0.02},
    "decay and momentum": {"momentum": 0.5, "weight_decay": 0.02},
    "clip norm": {"clip_norm": 0.05},
    "clip value": {"clip_value": 0.01},
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_sgd_is_pytorchs(name, depth):
    x, y, batches = stored("sgd")["data"].values()
    start, values, end = stored("sgd")[f"{name} depth={depth}"].values()
    model = network(depth, Softmax())
    model.parameters.vector[:] = start
    optimizer = SGDOptimizer(model, learning_rate=0.1, **SETTINGS[name])
    for batch, value in zip(batches, values, strict=True):
        rows = batch[batch >= 0]
        model.forward(x[rows])
        assert CrossEntropy().backward(model, y[rows]) == pytest.approx(value, rel=1e-10)
        optimizer.step()
    assert not np.allclose(start, model.parameters.vector, rtol=1e-3)
    np.testing.assert_allclose(model.parameters.vector, end, rtol=1e-10, atol=1e-14)


def test_clipping_by_norm_is_that_of_pytorch_up_to_its_epsilon():
    gradient, expected = stored("clipping")["norm"].values()
    model = network(2, Softmax())
    model.parameters.gradient[:] = gradient
    SGDOptimizer(model, learning_rate=0.1, clip_norm=0.5).step()
    np.testing.assert_allclose(model.parameters.gradient, expected, rtol=1e-6)
