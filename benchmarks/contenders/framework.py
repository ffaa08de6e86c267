"""This framework: Trainer with the NumPy engine or the compiled one, and the scripted step."""

import numpy as np

from benchmarks.contenders import SkipError, Task
from benchmarks.memory import FileRows
from benchmarks.workloads import JUDGED_ROWS, SEED, Workload
from framework import (
    GRU,
    LSTM,
    Activation,
    BinaryCrossEntropy,
    Conv2D,
    CrossEntropy,
    Dense,
    Flatten,
    HalfSquaredError,
    Layer,
    MaxPool,
    MultiHeadAttention,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.base import UsageError
from framework.training import compile_model

INCLUDES = "check of all data, order, gather, loss, checks of every step, history"


class Steep(Activation):
    """A user's activation, with a setting and without a written derivative."""

    slope: float = 1.0

    def __call__(self, h):
        """Return f(h)."""
        return 1 / (1 + np.exp(-self.slope * h))


def step(work: Workload, engine: str) -> Task:
    """The loop that the README writes by hand."""
    if engine != "numpy":
        raise SkipError("a scripted step is NumPy's")
    x, y = work.data()
    neuron = Neuron.from_weights(work.weights()[0], bias=0.0, activation=Sigmoid(), train_bias=False)
    loss = HalfSquaredError()
    optimizer = SGDOptimizer(neuron, learning_rate=work.rate)
    target = float(y)

    def run() -> None:
        neuron.forward(x)
        loss.backward(neuron, target)
        optimizer.step()

    def begin() -> None:
        neuron.weights = work.weights()[0]

    return Task(begin, run, lambda: [neuron.weights], "checks of input, target, loss and gradient; the loss")


def neuron(work: Workload, **settings: object) -> Task:
    """Epochs of a neuron."""
    return training(work, work.data(), **settings)


def network(work: Workload, **settings: object) -> Task:
    """Epochs of dense layers."""
    return training(work, work.data(), **settings)


def fit(work: Workload, **settings: object) -> Task:
    """Epochs of other layers."""
    return training(work, work.data(), **settings)


def inference(work: Workload, engine: str) -> Task:
    """The model, called, or what ``compile_model`` makes of it."""
    (x, _), model = work.data(), build(work)
    if engine == "compiled":
        try:
            model = compile_model(model)
        except UsageError as error:
            raise SkipError(f"not installed: {error}") from error
    elif engine != "numpy":
        raise SkipError("is not one of a model alone")

    def run() -> None:
        for _ in range(round(work.steps)):
            model(x)

    return Task(lambda: None, run, None, "checks of input", lambda: float(np.square(model(x)).sum()))


def memory(work: Workload, engine: str) -> Task:
    """One epoch from a Dataset on a file."""
    task = training(work, FileRows(work), engine)
    return Task(task.begin, task.run, None, "reading, check, order, gather, loss, checks of every step, history")


def training(work: Workload, data, engine: str, *, flush: bool = True) -> Task:
    """Epochs of Trainer."""
    loss = BinaryCrossEntropy() if work.sizes[-1] == 1 else CrossEntropy()
    optimizer = SGDOptimizer(learning_rate=work.rate, momentum=work.momentum)
    settings = {"batch_size": work.batch, "seed": SEED, "engine": engine, "flush_to_zero": flush}
    trainer = Trainer(loss=loss, optimizer=optimizer, **settings)
    models, runs = [], []

    def begin() -> None:
        models[:], runs[:] = [build(work)], []

    def run(epochs: int = 1, _start: int = 0) -> None:
        try:
            if runs:
                trainer.resume(runs[0], data, epochs=epochs)
                return
            runs[:] = [trainer.fit(models[0], data, epochs=epochs)]
        except UsageError as error:
            raise SkipError(f"not installed: {error}") from error
        if runs[0].engine != engine:
            raise SkipError(f"Trainer chose the engine {runs[0].engine!r}")

    def weights() -> list[np.ndarray]:
        model = models[0]
        if isinstance(model, Neuron):
            return [model.weights[:, None], np.atleast_1d(model.bias)]
        return [array for layer in model.layers for array in (layer.weights, layer.bias)]

    def judged() -> float:
        x, y = (array[:JUDGED_ROWS] for array in data)
        return float(loss(models[0](x), y))

    if work.kind == "fit":
        return Task(begin, run, None, INCLUDES, judged)
    return Task(begin, run, weights, INCLUDES)


def many(work: Workload, engine: str) -> Task:
    """Epochs of many models with rates of their own, all at once or one after another."""
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=work.rate),
        batch_size=work.batch,
        seed=SEED,
        engine="compiled",
    )
    data, optimizers = work.data(), [SGDOptimizer(learning_rate=rate) for rate in work.rates]
    models = []

    def begin() -> None:
        models[:] = [build(work) for _ in optimizers]

    def run(epochs: int = 1, _start: int = 0) -> None:
        if engine == "many":
            runs = trainer.fit_many(models, data, optimizers=optimizers, epochs=epochs)
        else:
            pairs = zip(models, optimizers, strict=True)
            runs = [trainer.replace(optimizer=each).fit(model, data, epochs=epochs) for model, each in pairs]
        if {run.engine for run in runs} != {"compiled"}:
            raise SkipError(f"Trainer chose the engine {runs[0].engine!r}")

    return Task(
        begin, run, lambda: [array for layer in models[-1].layers for array in (layer.weights, layer.bias)], INCLUDES
    )


def build(work: Workload) -> Neuron | Sequential:
    """Return a new model with the first weights."""
    if work.kind == "fit":
        model = composed(work.model, work.dtype)
        fill(work, model)
        return model
    arrays = work.weights()
    if work.sizes[-1] == 1:
        return Neuron.from_weights(arrays[0][:, 0], arrays[1][0], activation=Sigmoid(), dtype=work.dtype)
    hidden = {"relu": ReLU(), "sigmoid": Sigmoid(), "own": Steep(slope=work.slope)}[work.activation]
    layers = len(arrays) // 2
    activations = [*(layers - 1) * [hidden], Softmax()]
    return Sequential(
        *(
            Dense.from_weights(arrays[2 * i], arrays[2 * i + 1], activation=activations[i], dtype=work.dtype)
            for i in range(layers)
        )
    )


def layers(work: Workload, **_: object) -> Task:
    """The scripted loop: forward, loss, backward, update, on one batch."""
    (x, y), model, loss = work.data(), composed(work.model, work.dtype), CrossEntropy()
    optimizer = SGDOptimizer(model, learning_rate=work.rate)

    def run() -> None:
        for _ in range(round(work.steps)):
            model.forward(x, copy=False)
            loss.backward(model, y)
            optimizer.step()

    includes = "checks of input, target, loss and gradient; the loss"
    return Task(lambda: fill(work, model), run, None, includes, lambda: float(loss(model(x), y)))


def passes(work: Workload, **_: object) -> Task:
    """Forward and backward of one layer."""
    (x, _), model = work.data(), composed(work.model, work.dtype)
    fill(work, model)
    gradient = np.cos(model.forward(x))

    def run() -> None:
        for _ in range(round(work.steps)):
            model.forward(x, copy=False)
            model.last_pass().backward([gradient], model.parameters.gradients, input_gradient=True)

    def squares() -> float:
        model.forward(x)
        arrays = (model.backward(gradient), *model.parameters.gradients.values())
        return float(sum(np.sum(array.astype(float) ** 2) for array in arrays))

    return Task(lambda: None, run, None, "checks of input", squares)


def composed(name: str, dtype: str) -> Layer | Sequential:
    """Return the model of "fit", "layers" or "passes"."""
    d = {"dtype": dtype}
    if name == "dense":
        return Dense(784, 128, ReLU(), **d)
    if name == "convolution":
        return Conv2D(filters=8, kernel=5, inputs=1, **d)
    first = {
        "gru": lambda: [GRU(units=64, inputs=28, **d)],
        "lstm": lambda: [LSTM(units=64, inputs=28, **d)],
        "attention": lambda: [MultiHeadAttention(heads=4, inputs=64, **d), Flatten(**d)],
        "lenet": lambda: [
            *(Conv2D(filters=6, kernel=5, padding="same", inputs=1, **d), ReLU(), MaxPool(window=2, **d)),
            *(Conv2D(filters=16, kernel=5, inputs=6, **d), ReLU(), MaxPool(window=2, **d), Flatten(**d)),
            *(Dense(400, 120, ReLU(), **d), Dense(120, 84, ReLU(), **d)),
        ],
    }[name]()
    sizes = {"attention": 2048, "lenet": 84}
    model = Sequential(*first, Dense(sizes.get(name, 64), 10, Softmax(), **d))
    if name == "gru":
        model.parameters.freeze("0.reset_bias")  # PyTorch's second biases stand still too
    return model


def fill(work: Workload, model: Layer | Sequential) -> None:
    """Put the first weights in place."""
    for view, array in zip(model.parameters.values(), work.weights(), strict=True):
        view[...] = array
