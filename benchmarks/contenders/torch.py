"""PyTorch on the CPU: eager, or with the step compiled."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch._inductor.exc import InductorError

from benchmarks.contenders import SkipError, Task
from benchmarks.workloads import JUDGED_ROWS, Workload

Loss = Callable[[list[torch.Tensor], torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[torch.Tensor, torch.Tensor], None]
INCLUDES = "order, gather by an index tensor (no DataLoader), loss"
ACTIVATIONS = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}


class Steep(torch.nn.Module):
    """A user's activation."""

    def __init__(self, slope: float) -> None:
        """Keep the slope."""
        super().__init__()
        self.slope = slope

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return f(h)."""
        return 1 / (1 + torch.exp(-self.slope * h))


def step(work: Workload, *, compiled: bool) -> Task:
    """One step of the reference neuron."""
    x, y = (torch.from_numpy(array) for array in work.data())
    parameters = [torch.tensor(work.weights()[0])]

    def loss(parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * (torch.sigmoid(parameters[0] @ x) - y) ** 2

    train = compiled_step(loss, parameters, work) if compiled else eager_step(loss, parameters, work)

    def begin() -> None:
        with torch.no_grad():
            parameters[0].copy_(torch.from_numpy(work.weights()[0]))

    return Task(begin, lambda: train(x, y), lambda: [parameters[0].detach().numpy()], "the loss")


def neuron(work: Workload, *, compiled: bool) -> Task:
    """A network of one unit."""
    return network(work, compiled=compiled)


def network(work: Workload, *, compiled: bool) -> Task:
    """Linear layers. The matrices are stored as torch.nn.Linear stores them."""
    if work.momentum and compiled:
        raise SkipError("written without momentum")
    x, y = (torch.from_numpy(array) for array in work.data())
    model = build(work)
    names, parameters = zip(*model.named_parameters(), strict=True)
    if work.sizes[-1] == 1:
        y = y[:, None]
    criterion = torch.nn.BCEWithLogitsLoss() if work.sizes[-1] == 1 else torch.nn.CrossEntropyLoss()

    def loss(parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        prediction = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))
        return criterion(prediction, y)

    trains = [compiled_step(loss, list(parameters), work)] if compiled else []

    def begin() -> None:
        fill(parameters, work)
        if not compiled:  # a new optimizer, whose velocities are 0
            trains[:] = [eager_step(lambda _, x, y: criterion(model(x), y), list(parameters), work)]

    def run(*epochs: int) -> None:
        for order in map(torch.from_numpy, work.orders(*epochs)):
            for first in range(0, work.rows, work.batch):
                rows = order[first : first + work.batch]
                trains[0](x[rows], y[rows])

    def weights() -> list[np.ndarray]:
        return [parameter.detach().numpy().T for parameter in parameters]

    return Task(begin, run, weights, INCLUDES)


def fill(parameters: Iterable[torch.Tensor], work: Workload) -> None:
    """Put the first weights in place."""
    with torch.no_grad():
        for parameter, array in zip(parameters, work.weights(), strict=True):
            parameter.copy_(torch.from_numpy(array.T))


def inference(work: Workload, *, compiled: bool) -> Task:
    """The model, called without a record for gradients."""
    if compiled:
        raise SkipError("the eager model is what is asked for")
    x = torch.from_numpy(work.data()[0])
    model = build(work).append(torch.nn.Softmax(dim=1))
    fill(model.parameters(), work)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(round(work.steps)):
                model(x)

    return Task(lambda: None, run, None, "nothing: from tensor to tensor", lambda: model(x).square().sum().item())


def build(work: Workload) -> torch.nn.Sequential:
    """Return the layers."""
    model = torch.nn.Sequential()
    for inputs, units in pairwise(work.sizes):
        if len(model):
            model.append(Steep(work.slope) if work.activation == "own" else ACTIVATIONS[work.activation]())
        model.append(torch.nn.Linear(inputs, units, dtype=getattr(torch, work.dtype)))
    return model


def eager_step(loss: Loss, parameters: list[torch.Tensor], work: Workload) -> Step:
    """Return the usual loop's step: zero_grad, backward, step."""
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.SGD(parameters, lr=work.rate, momentum=work.momentum)

    def train(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss(parameters, x, y).backward()
        optimizer.step()

    return train


def compiled_step(loss: Loss, parameters: list[torch.Tensor], work: Workload) -> Step:
    """Return a step that is one compiled function, update included.

    Compiling the loss and the optimizer's step, each for itself, is slower than eager on small models.
    """

    def train(parameters: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
        gradients = torch.func.grad(loss)(parameters, x, y)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=work.rate)

    compiled = torch.compile(train, dynamic=False)
    values = [parameter.detach() for parameter in parameters]

    def run(x: torch.Tensor, y: torch.Tensor) -> None:
        try:
            with torch.no_grad():
                compiled(values, x, y)
        except InductorError as error:
            raise SkipError(f"torch.compile: {str(error).splitlines()[0]}") from error

    return run


def classifier(work: Workload) -> tuple[Any, ...]:
    """Return x, y, the loss of a composed model, a step of its training, and what gives it its first weights again."""
    x, y = (torch.from_numpy(array) for array in work.data())
    model, parameters = composed(work)
    criterion = torch.nn.CrossEntropyLoss()

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return criterion(model(x), y)

    def begin() -> None:
        with torch.no_grad():
            for parameter, array in zip(parameters, composed(work)[1], strict=True):
                parameter.copy_(array)

    return x, y, loss, eager_step(lambda _, x, y: loss(x, y), parameters, work), begin


def layers(work: Workload, **_: object) -> Task:
    """The usual loop on one batch."""
    x, y, loss, train, begin = classifier(work)

    def run() -> None:
        for _ in range(round(work.steps)):
            train(x, y)

    return Task(begin, run, None, "the loss", lambda: loss(x, y).item())


def fit(work: Workload, *, compiled: bool) -> Task:
    """The usual loop over epochs."""
    if compiled:
        raise SkipError("the eager loop is what is asked for")
    x, y, loss, train, begin = classifier(work)

    def run(*epochs: int) -> None:
        for order in map(torch.from_numpy, work.orders(*epochs)):
            for first in range(0, work.rows, work.batch):
                rows = order[first : first + work.batch]
                train(x[rows], y[rows])

    return Task(begin, run, None, INCLUDES, lambda: loss(x[:JUDGED_ROWS], y[:JUDGED_ROWS]).item())


def passes(work: Workload, **_: object) -> Task:
    """Forward and backward of one layer."""
    x = torch.from_numpy(work.data()[0]).requires_grad_()
    model, parameters = composed(work)
    inputs = [x, *(parameter.requires_grad_() for parameter in parameters)]
    gradient = torch.cos(model(x).detach())

    def run() -> None:
        for _ in range(round(work.steps)):
            for value in inputs:
                value.grad = None
            model(x).backward(gradient)

    return Task(
        lambda: None, run, None, "nothing", lambda: sum(value.grad.double().square().sum().item() for value in inputs)
    )


class Last(torch.nn.Module):
    """The last outputs of a recurrent layer, or the outputs of attention."""

    def __init__(self, layer: torch.nn.Module) -> None:
        """Keep the layer."""
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs."""
        if isinstance(self.layer, torch.nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)[0][:, -1]


def composed(work: Workload) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """Return the model of "fit", "layers" or "passes", and its parameters in the order of ``Workload.weights``.

    A recurrent layer's second bias stands still at 0 and is not among them; the framework has one bias.
    """
    nn, d = torch.nn, {"dtype": getattr(torch, work.dtype)}
    model = {
        "dense": lambda: nn.Sequential(nn.Linear(784, 128, **d), nn.ReLU()),
        "convolution": lambda: nn.Conv2d(1, 8, 5, **d),
        "lenet": lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2, **d), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5, **d), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120, **d), nn.ReLU(), nn.Linear(120, 84, **d), nn.ReLU(), nn.Linear(84, 10, **d)),
        ),
        "gru": lambda: nn.Sequential(Last(nn.GRU(28, 64, batch_first=True, **d)), nn.Linear(64, 10, **d)),
        "lstm": lambda: nn.Sequential(Last(nn.LSTM(28, 64, batch_first=True, **d)), nn.Linear(64, 10, **d)),
        "attention": lambda: nn.Sequential(
            Last(nn.MultiheadAttention(64, 4, batch_first=True, **d)), nn.Flatten(), nn.Linear(2048, 10, **d)
        ),
    }[work.model]()
    parameters = list(model.parameters())
    arrays = work.weights()
    if work.model in ("gru", "lstm"):
        second = parameters.pop(3).requires_grad_(requires_grad=False)
        with torch.no_grad():
            second.zero_()
            if work.model == "gru":
                second[128:] = torch.from_numpy(arrays.pop(3))
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(torch.from_numpy(np.moveaxis(array, -1, 0)))
    return model, parameters
