"""An activation of your own, with a setting, in three lines: it works in Neuron, Dense, Trainer and JSON at once.

    python examples/own_activation.py

The formula is f(h) = arctan(s h) with the setting s. The class is all that is needed: the derivative follows from the
formula, and one that is written as well is checked. The rest of this script uses it.
"""

import numpy as np

from framework import (
    Accuracy,
    Activation,
    CrossEntropy,
    Dense,
    DerivativeError,
    HalfSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Softmax,
    Trainer,
    show,
    split,
)
from framework.data import load_digits


# fmt: off
class Arctan(Activation):  # noqa: D101
    scale: float = 1.0
    def __call__(self, h): return np.arctan(self.scale * h)


class WrongArctan(Arctan):  # noqa: D101
    def derivative(self, h): return 1 / (1 + (self.scale * h) ** 2)  # the factor s is forgotten
# fmt: on


def main():
    """Use the activation everywhere."""
    f = Arctan(scale=2.0)
    print("repr      ", f, "equal to its like:", f == Arctan(scale=2.0))
    print(show(f))
    print("values    ", f(np.array([-1.0, 0.0, 1.0])).round(4), f.derivative(np.array([-1.0, 0.0, 1.0])).round(4))

    neuron = Neuron.from_weights([0.1, 0.2], activation=f)
    optimizer = SGDOptimizer(neuron, learning_rate=0.1)
    prediction = neuron.forward([1.0, 1.0])
    loss = HalfSquaredError().backward(neuron, 1.0)
    optimizer.step()
    print(f"neuron     loss {loss:.4f} for {prediction:.4f}; after one step it predicts {neuron([1.0, 1.0]):.4f}")

    layer = Dense(3, 2, f)
    print("layer     ", layer, layer([1.0, 2.0, 3.0]).shape)

    x, y = load_digits()
    train, test = split((x / 16.0, y), 0.25, seed=0, stratify=True)
    model = Sequential(Dense(64, 32, f), Dense(32, 10, Softmax()))
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.05, momentum=0.9),
        epochs=20,
        metrics=[Accuracy()],
    )
    trainer.fit(model, train)
    print(f"trainer    held-out accuracy on digits {trainer.evaluate(model, test)['accuracy']:.4f}")

    text = f.to_json()
    print("JSON      ", text, "and back:", Activation.from_json(text))
    print("in a model", Dense.from_json(layer.to_json()))

    try:
        Arctan(scael=2.0)
    except SettingsError as error:
        print("a mistake ", error)

    try:
        Dense(3, 2, WrongArctan(scale=2.0))
    except DerivativeError as error:
        print("another   ", error)


if __name__ == "__main__":
    main()
