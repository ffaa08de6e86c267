"""A training with every piece that could lose something at a stop, for the tests that resume it in a new process."""

import warnings
from pathlib import Path

import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    CosineSchedule,
    Dense,
    Dropout,
    EarlyStopping,
    Layer,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Trainer,
    on,
    save,
)
from framework.training import ReduceOnPlateau, StopOnConvergence

RNG = np.random.default_rng(0)
DATA = (RNG.normal(size=(11, 2)), RNG.integers(0, 2, 11), RNG.uniform(0.5, 2, 11))  # batches of 4, 4 and 3 rows
HELD_OUT = (RNG.normal(size=(5, 2)), np.array([0, 1, 1, 0, 1]))
EPOCHS, STEPS = 3, 9


class Noise(Callback):
    """Remembers numbers, text, nested lists and arrays, and random numbers drawn in several hooks."""

    def on_epoch_begin(self, run):
        self.add(run)

    def on_batch_begin(self, run):
        self.add(run)

    def on_gradients(self, run):
        run.model.parameters.gradient += 1e-3 * run.rng(self).normal(size=run.model.parameters.gradient.shape)
        self.add(run)

    def on_batch_end(self, run):
        self.add(run)

    def on_epoch_end(self, run):
        self.add(run)

    def add(self, run):
        memory = run.memory(self)
        memory["sum"] = memory.get("sum", 0.0) + run.rng(self).normal()
        memory["hooks"] = [*memory.get("hooks", []), (run.hook, run.step)]
        memory["vector"] = memory.get("vector", np.zeros(3, np.float32)) + run.rng(self).normal(size=3).astype("f4")


class Drift(Layer):
    """A user's layer with a parameter and a buffer that every training pass changes."""

    check = "off"

    def shapes(self):
        return {"scale": (3,)}

    def initial_buffers(self):
        return {"passes": np.zeros(3)}

    def apply(self, x, values, record):
        if record.training:
            self.buffers["passes"][...] += x.mean(axis=0)
        record["x"] = x
        return x * (1 + values["scale"]) + 0.01 * self.buffers["passes"]

    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"][...] = (gradient * record["x"]).sum(axis=0)
        return gradient * (1 + values["scale"])


@on("epoch_end", every=2)
def slower(run):
    """A user's function that changes a setting of the optimizer and of the model."""
    if isinstance(run.optimizer.learning_rate, float):
        run.optimizer.learning_rate /= 2
    run.model.parameters.freeze("0.bias")


def momentum():
    return SGDOptimizer(learning_rate=0.1, momentum=0.9, nesterov=True, clip_norm=1.0)


def adam():
    return AdamOptimizer(learning_rate=CosineSchedule(initial=0.05, length=7), weight_decay=0.01)


OPTIMIZERS = {"momentum": momentum, "adam": adam}


def recipe(kind, *more):
    """Return the trainer; ReduceOnPlateau only where the rate is no schedule."""
    plateau = [ReduceOnPlateau(factor=0.5, patience=1)] if kind == "momentum" else []
    return Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=OPTIMIZERS[kind](),
        epochs=EPOCHS,
        batch_size=4,
        seed=3,
        metrics=[Accuracy()],
        callbacks=[EarlyStopping(patience=9), StopOnConvergence(tolerance=1e-9), *plateau, Noise(), slower, *more],
    )


def network(dtype="float64"):
    return Sequential(
        Dense(2, 3, ReLU(), dtype=dtype),
        BatchNorm(3, dtype=dtype),
        Drift(dtype=dtype),
        Dropout(rate=0.3, dtype=dtype),
        Dense(3, 1, Sigmoid(), dtype=dtype),
        seed=1,
    )


def stop_at(step):
    @on("batch_end")
    def stop(run):
        if run.step == step:
            run.stop("enough")

    return stop


def go_on(kind, folder):
    """Go on from every file ``stopped-N`` in the folder, and save what comes out as ``resumed-N``."""
    warnings.simplefilter("error")
    for path in sorted(Path(folder).glob("stopped-*.safetensors")):
        run = recipe(kind, stop_at(0)).resume(path, DATA, HELD_OUT)
        save(run, path.with_name(path.name.replace("stopped", "resumed")))
