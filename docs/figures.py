"""Makes the figures of docs/plots.md, docs/start.md and README.md: ``python docs/figures.py`` writes them to docs/.

Each function trains what it draws, so a figure shows what the library does today. ``python docs/figures.py FOLDER``
writes into another folder.
"""

import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from framework import (
    GELU,
    L2,
    Accuracy,
    Activation,
    AdamOptimizer,
    BinaryCrossEntropy,
    ConfusionMatrix,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanSquaredError,
    Neuron,
    ReLU,
    Reshape,
    Residual,
    Run,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    on,
    split,
)
from framework.data import load_breast_cancer, load_digits
from framework.formulas import Mish, OneCycleSchedule, Softsign
from framework.training import RecordNorms
from framework.views import plots


def digits() -> Any:
    """Return the digits, in two parts."""
    x, y = load_digits()
    return split((x / 16.0, y), 0.25, seed=0, stratify=True)


def cancer() -> tuple[Any, Any]:
    """Return two standardized columns of the breast cancer data, and the classes."""
    x, y = load_breast_cancer()
    x = x[:, [7, 20]]  # mean concave points and worst radius
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def spirals(arms: int = 3, rows: int = 90) -> tuple[Any, Any]:
    """Return points on arms of a spiral, and the arm of each."""
    rng = np.random.default_rng(0)
    place = np.tile(np.linspace(0.1, 1.0, rows), arms)
    arm = np.repeat(np.arange(arms), rows)
    angle = 4.2 * place + 2 * np.pi * arm / arms + rng.normal(0.0, 0.12, place.size)
    return np.stack([place * np.cos(angle), place * np.sin(angle)], axis=1), arm


def descent() -> Any:
    """Train a neuron of two weights, and draw every step on its loss."""
    data = cancer()
    neuron = Neuron.from_weights([-2.5, 3.0], activation=Sigmoid(), train_bias=False)
    points = [neuron.parameters.vector.copy()]

    @on("batch_end")
    def record(run: Run) -> None:
        points.append(run.model.parameters.vector.copy())

    trainer = Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=1.0, momentum=0.8),
        epochs=60,
        batch_size=569,
        callbacks=[record],
    )
    trainer.fit(neuron, data)
    return plots.loss_surface(neuron, trainer.loss, data, points)


def network() -> Any:
    """Return a model of the digits."""
    return Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))


def trained(model: Any, optimizer: Any, **settings: Any) -> Any:
    """Train a model on the digits."""
    train, test = digits()
    trainer = Trainer(loss=CrossEntropy(), optimizer=optimizer, metrics=[Accuracy()], **({"epochs": 30} | settings))
    return trainer.fit(model, train, validation=test)


def curves() -> Any:
    """Draw the loss, and the rate that follows a schedule."""
    run = trained(network(), AdamOptimizer(learning_rate=OneCycleSchedule(maximum=0.02)), epochs=40)
    return run.plot("loss", right="learning_rate")


def accuracy() -> Any:
    """Draw another column, of which the largest value is the best."""
    return trained(network(), AdamOptimizer(learning_rate=0.003)).plot("accuracy", mode="max")


def start() -> Any:
    """Draw the training of docs/start.md."""
    return trained(network(), AdamOptimizer(learning_rate=0.003), epochs=10).plot()


def compared() -> Any:
    """Draw the same training with four optimizers."""
    return plots.compare_runs(
        {
            "SGD": trained(network(), SGDOptimizer(learning_rate=0.1)),
            "momentum 0.9": trained(network(), SGDOptimizer(learning_rate=0.1, momentum=0.9)),
            "Adam": trained(network(), AdamOptimizer(learning_rate=0.003)),
            "Adam, slow": trained(network(), AdamOptimizer(learning_rate=0.0003)),
        }
    )


def boundary() -> Any:
    """Draw the probabilities of a model of two classes."""
    x, y = cancer()
    model = Sequential(Dense(2, 16, Tanh()), Dense(16, 1, Sigmoid()))
    Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=60).fit(model, (x, y))
    axis = plots.decision_boundary(model, (x, y), classes=["malignant", "benign"])
    axis.set(xlabel="mean concave points, standardized", ylabel="worst radius, standardized")
    return axis


def spiral() -> Any:
    """Draw the regions of three classes."""
    x, y = spirals()
    model = Sequential(Dense(2, 32, Tanh()), Dense(32, 32, Tanh()), Dense(32, 3, Softmax()))
    Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=150).fit(model, (x, y))
    return plots.decision_boundary(model, (x, y), classes=["first arm", "second arm", "third arm"])


def surface() -> Any:
    """Draw a prediction that is a number."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (80, 2))
    y = np.sin(x[:, 0]) * np.cos(0.7 * x[:, 1])
    model = Sequential(Dense(2, 32, Tanh()), Dense(32, 1))
    Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=200).fit(model, (x, y))
    return plots.decision_boundary(model, (x, y))


def activation() -> Any:
    """Draw an activation with its derivative."""
    return GELU().plot(span=(-4, 4))


def written() -> Any:
    """Draw an activation that writes its derivative."""
    return Softsign().plot(span=(-4, 4))


def norms() -> Any:
    """Draw how the gradient vanishes on its way back through sigmoids."""
    layers = [Dense(64, 32, Sigmoid()), *(Dense(32, 32, Sigmoid()) for _ in range(4)), Dense(32, 10, Softmax())]
    run = trained(Sequential(*layers), SGDOptimizer(learning_rate=0.3), callbacks=[RecordNorms()])
    return plots.norms(run)


def confusion() -> Any:
    """Draw the mistakes on digits."""
    model = network()
    trained(model, AdamOptimizer(learning_rate=0.001), epochs=8)
    x, y = digits()[1]
    return plots.confusion_matrix(ConfusionMatrix(num_classes=10)(model.predict(x), y))


def calibration() -> Any:
    """Draw how far the probabilities of a model can be trusted."""
    x, y = load_digits()
    x = x / 16.0 + np.random.default_rng(0).normal(0.0, 0.4, x.shape)
    train, test = split((x, y), 0.75, seed=0)
    model = network()
    Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.003), epochs=40).fit(model, train)
    return plots.calibration(model.predict(test[0]), test[1])


def rates() -> Any:
    """Search for a learning rate."""
    trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9))
    return trainer.find_learning_rate(network(), digits()[0]).plot()


def weights() -> Any:
    """Draw what the units of a first layer look at."""
    model = Sequential(Dense(64, 16, Tanh()), Dense(16, 10, Softmax()))
    trained(model, AdamOptimizer(learning_rate=0.01), epochs=40, regularizers=[L2(strength=0.002)])
    return plots.weights(model)


def graph() -> Any:
    """Draw the layers of a model for images."""
    model = Sequential(
        Reshape((1, 8, 8)),
        Conv2D(filters=8, kernel=3, padding="same", inputs=1),
        ReLU(),
        MaxPool(window=2),
        Flatten(),
        Residual(Dense(128, 128, ReLU()), Dropout(0.2), Dense(128, 128)),
        Dense(128, 10, Softmax()),
    )
    return model.plot()


def formula() -> Any:
    """Draw the operations of a formula."""
    return plots.graph(Mish())


class Snake(Activation):
    """The activation of README.md."""

    frequency: float = 1.0

    def __call__(self, h: Any) -> Any:
        return h + np.sin(self.frequency * h) ** 2 / self.frequency


def snake() -> Any:
    """Draw the activation of docs/index.md."""
    _, axis = plt.subplots(figsize=(4, 3), layout="constrained", facecolor="none")
    return Snake().plot(axis=axis, span=(-4, 4))


def training(epochs: Collection[int] = (*range(1, 20), *range(20, 40, 2), *range(40, 61, 5))) -> list[Image.Image]:
    """Return a frame after each of these epochs: an activation, its derivative, and what a model with it predicts."""
    data, classes = spirals(rows=50), ["first", "second", "third"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), dpi=100, layout="constrained", facecolor="white")
    Snake().plot(axis=left, span=(-4, 4))
    frames = []

    @on("epoch_end")
    def draw(run: Run) -> None:
        if run.epoch in epochs:
            right.clear()
            plots.decision_boundary(run.model, data, classes=classes, axis=right)
            right.set(xlabel=f"epoch {run.epoch}, accuracy {run.history[-1]['accuracy']:.2f}", ylabel="")
            figure.canvas.draw()
            frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB"))

    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(learning_rate=0.01),
        epochs=max(epochs),
        metrics=[Accuracy()],
        callbacks=[draw],
    )
    trainer.fit(Sequential(Dense(2, 32, Snake()), Dense(32, 32, Snake()), Dense(32, 3, Softmax())), data)
    plt.close(figure)
    return frames


def save_moving(frames: list[Image.Image], path: Path) -> None:
    """Write frames as an endless GIF of the colours of every eighth one, which rests on the last one."""
    sample = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames[::8]]))
    colours = sample.quantize(128, method=Image.Quantize.MAXCOVERAGE)  # white stays white
    first, *rest = (frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=[120] * len(rest) + [4000], loop=0)


FIGURES: dict[str, Callable[[], Any]] = {
    "descent": descent,
    "curves": curves,
    "accuracy": accuracy,
    "start": start,
    "compared": compared,
    "boundary": boundary,
    "spirals": spiral,
    "surface": surface,
    "activation": activation,
    "written": written,
    "norms": norms,
    "confusion": confusion,
    "calibration": calibration,
    "rates": rates,
    "weights": weights,
    "graph": graph,
    "formula": formula,
    "snake": snake,
    "training": training,
}


def make(folder: Path, names: list[str]) -> Iterator[Path]:
    """Write figures as PNG files, frames as a GIF, and give their paths."""
    for name in names or FIGURES:
        drawn = FIGURES[name]()
        if isinstance(drawn, list):
            path = folder / f"plots_{name}.gif"
            save_moving(drawn, path)
        else:
            path = folder / f"plots_{name}.png"
            drawn.figure.savefig(path, dpi=100)
            plt.close(drawn.figure)
            with Image.open(path) as image:
                image.quantize(256, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)  # a third of the size
        yield path


if __name__ == "__main__":
    mpl.use("Agg")
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for written_to in make(into, sys.argv[2:]):
        print(written_to)
