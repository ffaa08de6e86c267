"""A layer of your own, a convolution of ten lines, reads handwritten digits: its gradients follow from its formula.

    python examples/own_layer.py

The formula is that of a convolution over images (channels, height, width). The number of channels comes from the layer
before. A checkpoint of the trained model loads and predicts the same bits.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    CrossEntropy,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Trainer,
    check_gradients,
    load_model,
    save,
    show,
    split,
)
from framework.data import load_digits
from framework.models import He


# fmt: off
class Convolution(Layer):  # noqa: D101
    filters: int
    kernel: int = 3
    inputs: int | None = None
    input_shape = property(lambda self: (self.inputs, None, None))
    def inputs_of(self, shape): return shape[0]
    def shapes(self): return {"weights": (self.inputs, self.kernel, self.kernel, self.filters), "bias": (self.filters,)}
    def initializers(self): return {"weights": He()}
    def formula(self, x, weights, bias):
        windows = np.lib.stride_tricks.sliding_window_view(x, (self.kernel, self.kernel), axis=(2, 3))
        return np.einsum("ncstij,cijf->nfst", windows, weights) + bias[:, None, None]
# fmt: on


def network():
    """Return an untrained network for images of 8 x 8 pixels."""
    return Sequential(
        Reshape((1, 8, 8)),
        Convolution(filters=16),
        ReLU(),
        MaxPool(2),
        Flatten(),
        Dense(units=10, activation=Softmax()),
    )


def main():
    """Train the network, and show what follows from the formula."""
    x, y = load_digits()
    train, test = split((x / 16.0, y), 0.25, seed=0, stratify=True)
    trainer = Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=20, metrics=[Accuracy()])
    model = network()
    noise = np.random.default_rng(0).normal(size=(5, 64))  # of the digits, many pixels are 0, where ReLU has a kink
    report = check_gradients(model, CrossEntropy(), noise, train[1][:5])
    run = trainer.fit(model, train)
    print(model.summary(), "\n")
    print(f"formula    {show(model[1])}")
    print(f"gradients  right: {report.passed}")
    print(f"trainer    held-out accuracy on digits {trainer.evaluate(model, test)['accuracy']:.4f}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "own_layer.safetensors"
        save(run, path)
        print(f"checkpoint predicts the same bits: {np.array_equal(load_model(path)(test[0]), model(test[0]))}")


if __name__ == "__main__":
    main()
