"""This framework: Trainer with the NumPy engine or the compiled one, and the scripted step."""

import numpy as np

from benchmarks.contenders import SkipError, Task
from benchmarks.memory import FileRows
from benchmarks.workloads import SEED, Workload
from framework import (
    Activation,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    FrameworkError,
    HalfSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
)

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


def neuron(work: Workload, engine: str) -> Task:
    """One epoch of a neuron."""
    return fit(work, engine, work.data())


def network(work: Workload, engine: str) -> Task:
    """One epoch of dense layers."""
    return fit(work, engine, work.data())


def memory(work: Workload, engine: str) -> Task:
    """One epoch from a Dataset on a file."""
    task = fit(work, engine, FileRows(work))
    return Task(task.begin, task.run, None, "reading, check, order, gather, loss, checks of every step, history")


def fit(work: Workload, engine: str, data) -> Task:
    """One epoch of Trainer."""
    loss = BinaryCrossEntropy() if work.sizes[-1] == 1 else CrossEntropy()
    settings = {"engine": engine} if "engine" in Trainer.model_fields else {}
    if engine != "numpy" and not settings:
        raise SkipError("this Trainer has no setting 'engine'")
    try:
        optimizer = SGDOptimizer(learning_rate=work.rate)
        trainer = Trainer(loss=loss, optimizer=optimizer, batch_size=work.batch, seed=SEED, **settings)
    except FrameworkError as error:
        raise SkipError(str(error)) from error
    models = []

    def begin() -> None:
        models[:] = [build(work)]

    def run() -> None:
        done = trainer.fit(models[0], data, epochs=1)
        if done.engine != engine:
            raise SkipError(f"Trainer chose the engine {done.engine!r}")

    def weights() -> list[np.ndarray]:
        model = models[0]
        if isinstance(model, Neuron):
            return [model.weights[:, None], np.atleast_1d(model.bias)]
        return [array for layer in model.layers for array in (layer.weights, layer.bias)]

    return Task(begin, run, weights, INCLUDES)


def build(work: Workload) -> Neuron | Sequential:
    """Return a new model with the first weights."""
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
