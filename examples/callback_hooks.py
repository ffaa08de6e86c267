"""Hooks into training: an own callback class, plain functions, a stop, a changed rate, and what the run remembers.

    python examples/callback_hooks.py

One neuron learns the breast cancer set. Every hook gets one argument, the run, which holds all that changes.
"""

import numpy as np

from framework import Accuracy, BinaryCrossEntropy, Callback, Neuron, SGDOptimizer, Sigmoid, Trainer, on, split
from framework.data import load_breast_cancer


class LongestGradient(Callback):  # noqa: D101
    def on_gradients(self, run):
        norm = float(np.linalg.norm(run.model.parameters.gradient))
        run.memory(self)["norm"] = max(norm, run.memory(self).get("norm", 0.0))


@on("epoch_end", every=5)
def report(run):
    """Print every fifth row of the history."""
    row = run.history[-1]
    print(f"epoch {run.epoch:2}: loss {row['loss']:.4f}, val_loss {row['val_loss']:.4f}, rate {row['learning_rate']:g}")


@on("epoch_end", every=10)
def halve_the_rate(run):
    """Change a setting of the optimizer; it is checked when it is assigned."""
    run.optimizer.learning_rate /= 2


@on("epoch_end")
def enough(run):
    """Stop as soon as the training loss is small."""
    if run.history[-1]["loss"] < 0.06:
        run.stop("the loss is below 0.06")


@on("train_end")
def farewell(run):
    """Run at the end, whatever happened."""
    print(f"stopped after {run.epoch} epochs and {run.step} steps: {run.stop_reason}")


def main():
    """Train with all of them, then train on."""
    (x, y), (x_test, y_test) = split(load_breast_cancer(), 0.25, seed=0, stratify=True)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    train, test = ((x - mean) / deviation, y), ((x_test - mean) / deviation, y_test)

    trainer = Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.4),
        epochs=100,
        metrics=[Accuracy()],
        callbacks=[LongestGradient(), report, halve_the_rate, enough, farewell],
    )
    run = trainer.fit(Neuron(30, Sigmoid()), train, validation=test)
    print("run.memory keeps", {name: memory for name, memory in run.memories.items() if memory})

    run = trainer.resume(run, train, test, epochs=2)  # the run keeps the callbacks' memory, so the limit still holds
    print(f"trained on to epoch {run.epoch}; held-out accuracy {run.history[-1]['val_accuracy']:.4f}")


if __name__ == "__main__":
    main()
