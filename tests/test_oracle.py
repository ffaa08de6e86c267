"""Fifty steps of training agree with PyTorch in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

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
    """The same numbers, but another class: no loss is fused with it."""


class OwnSoftmax(Softmax):
    """The same numbers, but another class: no loss is fused with it."""


TORCH = {
    Identity: lambda h: h,
    Sigmoid: torch.sigmoid,
    OwnSigmoid: torch.sigmoid,
    Tanh: torch.tanh,
    ReLU: torch.relu,
    Softmax: lambda h: torch.softmax(h, dim=-1),
    OwnSoftmax: lambda h: torch.softmax(h, dim=-1),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The arrays are small: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weighted_mean(values, weight):
    """sum(w l) / sum(w) over all values, one weight a row."""
    if weight is None:
        return values.mean()
    weight = weight.reshape(-1, *[1] * (values.ndim - 1)).expand(values.shape)
    return (weight * values).sum() / weight.sum()


# Each loss, element by element or row by row, from the logits h of the output layer or from its output a.
LOSSES = {
    "half": ("a", lambda a, y: 0.5 * functional.mse_loss(a, y, reduction="none")),
    "mse": ("a", lambda a, y: functional.mse_loss(a, y, reduction="none")),
    "bce": ("a", lambda a, y: functional.binary_cross_entropy(a, y, reduction="none")),
    "bce_logits": ("h", lambda h, y: functional.binary_cross_entropy_with_logits(h, y, reduction="none")),
    "ce": ("a", lambda a, y: functional.nll_loss(torch.log(a), y, reduction="none")),
    "ce_logits": ("h", lambda h, y: functional.cross_entropy(h, y, reduction="none")),
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


class Twin:
    """The same network in PyTorch, from the same weights."""

    def __init__(self, model):
        layers = model.layers if isinstance(model, Sequential) else (model,)
        self.activations = [TORCH[type(layer.activation)] for layer in layers]
        self.parameters = [torch.tensor(value.copy(), requires_grad=True) for value in model.parameters.values()]

    def __call__(self, x):
        h, a = None, x
        for i, activation in enumerate(self.activations):
            h = a @ self.parameters[2 * i] + self.parameters[2 * i + 1]
            a = activation(h)
        return h, a

    def vector(self):
        return np.concatenate([value.detach().numpy().ravel() for value in self.parameters])


def assert_same_training(model, loss, torch_loss, y, *, weight=None, settings=None, torch_settings=None, clip=None):
    settings, torch_settings = settings or {}, torch_settings or {}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, INPUTS))
    twin = Twin(model)
    optimizer = SGDOptimizer(model, learning_rate=0.1, **settings)
    torch_optimizer = torch.optim.SGD(twin.parameters, lr=0.1, **torch_settings)
    start = model.parameters.vector.copy()
    for step in range(STEPS):
        rows = rng.permutation(ROWS)[: 5 + step % 8]  # batches of many sizes
        w = None if weight is None else weight[rows]
        model.forward(x[rows])
        value = loss.backward(model, y[rows], w)
        optimizer.step()
        torch_optimizer.zero_grad()
        h, a = twin(torch.from_numpy(x[rows]))
        of, formula = LOSSES[torch_loss]
        values = formula(h if of == "h" else a, torch.from_numpy(y[rows]))
        torch_value = weighted_mean(values, None if w is None else torch.from_numpy(w))
        torch_value.backward()
        if clip:
            clip(twin.parameters)
        torch_optimizer.step()
        assert value == pytest.approx(torch_value.item(), rel=1e-10)
    assert not np.allclose(start, model.parameters.vector, rtol=1e-3)
    np.testing.assert_allclose(model.parameters.vector, twin.vector(), rtol=1e-10, atol=1e-14)


PAIRS = [  # output, loss, PyTorch's loss, targets
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


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("output", "loss", "torch_loss", "kind"), PAIRS, ids=NAMES)
def test_networks_with_every_output_and_loss(output, loss, torch_loss, kind, depth):
    rng = np.random.default_rng(depth)
    weight = rng.uniform(0.1, 2.0, ROWS) if depth % 2 else None
    assert_same_training(network(depth, output), loss, torch_loss, targets(kind, rng), weight=weight)


NEURONS = [
    *((activation, HalfSquaredError(), "half") for activation in (Identity(), Sigmoid(), Tanh(), ReLU())),
    *((activation, MeanSquaredError(), "mse") for activation in (Identity(), Sigmoid(), Tanh(), ReLU())),
    (Sigmoid(), BinaryCrossEntropy(), "bce_logits"),
]


@pytest.mark.parametrize(("activation", "loss", "torch_loss"), NEURONS)
def test_a_lone_neuron(activation, loss, torch_loss):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, ROWS).astype(float)
    assert_same_training(Neuron(INPUTS, activation, seed=2), loss, torch_loss, y, weight=rng.uniform(0.1, 2.0, ROWS))


SETTINGS = {
    "plain": ({}, {}, None),
    "momentum": ({"momentum": 0.9}, {"momentum": 0.9}, None),
    "nesterov": ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}, None),
    "decay": ({"weight_decay": 0.02}, {"weight_decay": 0.02}, None),
    "decay and momentum": ({"momentum": 0.5, "weight_decay": 0.02}, {"momentum": 0.5, "weight_decay": 0.02}, None),
    "clip norm": ({"clip_norm": 0.05}, {}, lambda p: torch.nn.utils.clip_grad_norm_(p, 0.05)),
    "clip value": ({"clip_value": 0.01}, {}, lambda p: torch.nn.utils.clip_grad_value_(p, 0.01)),
}


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("settings", "torch_settings", "clip"), SETTINGS.values(), ids=SETTINGS)
def test_every_setting_of_sgd(settings, torch_settings, clip, depth):
    # PyTorch divides by norm + 1e-6 when it clips; this framework by the norm.
    if "clip_norm" in settings:

        def clip(parameters):
            norm = torch.sqrt(sum((value.grad**2).sum() for value in parameters))
            for value in parameters:
                value.grad *= min(1.0, settings["clip_norm"] / norm.item())

    y = np.random.default_rng(3).integers(0, CLASSES, ROWS)
    assert_same_training(
        network(depth, Softmax()),
        CrossEntropy(),
        "ce_logits",
        y,
        settings=settings,
        torch_settings=torch_settings,
        clip=clip,
    )


def test_clipping_by_norm_is_that_of_pytorch_up_to_its_epsilon():
    model = network(2, Softmax())
    parameters = [
        torch.zeros(value.shape, dtype=torch.float64, requires_grad=True) for value in model.parameters.values()
    ]
    rng = np.random.default_rng(0)
    for value, gradient in zip(parameters, model.parameters.gradients.values(), strict=True):
        gradient[...] = rng.normal(size=gradient.shape)
        value.grad = torch.from_numpy(gradient.copy())
    torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    SGDOptimizer(model, learning_rate=0.1, clip_norm=0.5).step()
    expected = np.concatenate([value.grad.numpy().ravel() for value in parameters])
    np.testing.assert_allclose(model.parameters.gradient, expected, rtol=1e-6)
