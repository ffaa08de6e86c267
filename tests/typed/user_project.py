"""A user's project as strict mypy sees it: every part is overridden as the docs say. `.ci/run` checks it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from framework import (
    Activation,
    Callback,
    Dense,
    Dropout,
    HalfSquaredError,
    Layer,
    Loss,
    MeanSquaredError,
    Metric,
    Neuron,
    Optimizer,
    RowLoss,
    Run,
    Schedule,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Trainer,
    load,
    on,
    save,
    split,
)
from framework.base import Positive
from framework.models import Regularizer

Array = npt.NDArray[Any]


class Swish(Activation):
    beta: Positive = 1.0

    def __call__(self, h: Array) -> Array:
        return h / (1.0 + np.exp(-self.beta * h))


class Scaled(Activation):
    top: Positive = 2.0

    @property
    def output_range(self) -> tuple[float, float]:
        return (0.0, self.top)

    def __call__(self, h: Array) -> Array:
        return self.top / (1.0 + np.exp(-h))


class Written(Activation):
    output_range = (-1.0, 1.0)

    def __call__(self, h: Array) -> Array:
        return np.tanh(h)

    def derivative(self, h: Array) -> Array:
        return 1.0 - np.tanh(h) ** 2


class Quartic(Loss):
    def value(self, prediction: Array, target: Array) -> Array:
        return (prediction - target) ** 4


class Distance(RowLoss):
    def value(self, prediction: Array, target: Array) -> Array:
        distance: Array = np.sqrt(np.sum((prediction - target) ** 2, axis=-1) + 1e-6)
        return distance


class Scale(Layer):
    inputs: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"scale": (self.inputs,)}

    def formula(self, x: Array, scale: Array) -> Array:
        return x * scale


class Momentum(Optimizer):
    momentum: float = 0.9
    memory = ("velocity",)

    def update(self, values: Array, gradients: Array, rate: float, step: int, velocity: Array) -> None:
        velocity *= self.momentum
        velocity += gradients
        values -= rate * velocity


class Halved(Schedule):
    initial: Positive

    def __call__(self, step: int) -> float:
        return self.initial / (1 + step)


class Largest(Metric):
    def sums(self, prediction: Array, target: Array, weight: Array | None = None) -> tuple[float, ...]:
        return float(np.abs(prediction - target).sum()), float(target.size)

    def result(self, total: float, count: float) -> float:
        return total / count


class Quadratic(Regularizer):
    def value(self, values: Array) -> Array:
        return values**2


class Printer(Callback):
    def on_epoch_end(self, run: Run) -> None:
        if run.loss is not None and run.loss < 0.1 and run.epoch > 2 and run.history[-1]["loss"] < 0.1:
            run.optimizer.learning_rate = 0.01


@on("batch_end")
def watch(run: Run) -> None:
    if run.batch_loss is not None and run.batch_loss < 0.1:
        run.stop("small enough")


def train(x: Array, y: Array) -> float:
    model = Sequential(Dense(2, 4, Swish(2.0)), Dropout(0.5), Dense(4, 4, Scaled(3.0)), Dense(4, 1, Written()))
    trainer = Trainer(
        loss=Quartic(),
        optimizer=Momentum(learning_rate=Halved(initial=0.1)),
        metrics=(Largest(), MeanSquaredError()),
        regularizers=(Quadratic(0.1),),
        callbacks=(Printer(), watch),
    )
    train_data, test_data = split((x, y), 0.2)
    run = trainer.fit(model, train_data, validation=test_data, epochs=3)
    save(run, "run.safetensors")
    again = trainer.resume(load("run.safetensors"), train_data, test_data, epochs=1)
    return trainer.evaluate(again.model, test_data)["loss"]


def by_hand(x: Array, y: Array) -> Array:
    neuron = Neuron(2, Sigmoid())
    optimizer = SGDOptimizer(neuron, learning_rate=1.0)
    bound = Momentum(learning_rate=0.1).bind(neuron)
    loss = HalfSquaredError()
    for _ in range(3):
        neuron.forward(x)
        value: float = loss.backward(neuron, y, count=4.0, accumulate=False)
        if value < 0.1 or optimizer.steps > 2 or bound.memory["velocity"].any():
            optimizer.learning_rate = 0.1
        optimizer.step()
    prediction: Array = neuron(x)
    return prediction
