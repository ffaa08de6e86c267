"""What is measured: the sizes, the data and the first weights that all contenders share, and the loss they must reach.

Nothing here multiplies matrices before the measuring is over, so that the processes of the peers start no threads of
NumPy's. The data are made up, with a fixed seed, so that the benchmark runs everywhere; their classes can be learnt.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

SEED = 0
SLOPE = 2.0
JUDGED_ROWS = 2000
QUICK_BATCHES = 3.5
FURTHER = "-further"
"""The end of a name for epochs after the first one: "small-further"."""
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
"""Relative. Float32 sums in another order differ by some 1e-7; one batch left out changes the loss by 1e-4 and more."""


@dataclass(frozen=True)
class Workload:
    """Work that every contender does alike: epochs of SGD, unless ``kind`` says something else.

    Attributes:
        name: What it is called on the command line.
        kind: Which function of a contender does it: "step", "neuron", "network", "fit", "memory", "layers",
            "passes", "inference" or "many".
        what: A line for people.
        sizes: Inputs, then the units of each layer; one unit is a sigmoid with binary cross-entropy, more are softmax.
            For "fit", "layers" and "passes" the shape of a sample.
        batch: Rows in a batch; the last one of an epoch may be smaller.
        rows: Rows of the data.
        rate: The learning rate.
        dtype: Of data and weights.
        activation: Of the hidden layers: "sigmoid", "relu", or "own": 1 / (1 + exp(-2 h)), written by the user.
        momentum: Of SGD. With momentum the data are images in which a third of the pixels is nearly always 0.
        warm: Epochs before those that are timed.
        more: How many seconds further epochs take together, roughly; there is at least one.
        file: The data of "memory".
        models: How many models are trained, each with a rate of its own.
    """

    name: str
    kind: str
    what: str
    sizes: tuple[int, ...]
    batch: int = 1
    rows: int = 1
    rate: float = 0.1
    dtype: str = "float64"
    activation: str = "sigmoid"
    momentum: float = 0.0
    warm: int = 0
    more: float = 0.3
    file: str = ""
    models: int = 1

    @property
    def steps(self) -> float:
        """Steps of all models in an epoch; the smaller last batch counts as its share."""
        return self.models * self.rows / self.batch

    @property
    def rates(self) -> list[float]:
        """The learning rate of each model, from 0.5 to 1 of that of the workload, which the last one has."""
        return [self.rate * (self.models + place) / (2 * self.models - 1) for place in range(self.models)]

    @property
    def has_epochs(self) -> bool:
        """Whether it is training by epochs, of which the first one and the further ones are measured."""
        return self.kind in ("neuron", "network", "fit", "many") and not self.name.startswith("growth")

    @property
    def multiplications(self) -> int:
        """Weights that a row meets in one forward pass: what the work of a step grows with."""
        return sum(inputs * units for inputs, units in pairwise(self.sizes))

    @property
    def slope(self) -> float:
        """The setting of the user's activation; the sigmoid is that with slope 1."""
        return SLOPE if self.activation == "own" else 1.0

    def quick(self) -> "Workload":
        """Return the same work, tiny."""
        sizes = self.sizes if max(self.sizes) < 1000 else tuple(size // 8 for size in self.sizes)
        sizes = (*sizes[:3], *sizes[3:][-1:])  # compiling takes a second for each layer
        enough = 1000 if self.batch == 1 else int(QUICK_BATCHES * self.batch)
        if self.kind == "memory":
            enough = self.rows // 6  # a smaller file has room in any memory
        return replace(self, sizes=sizes, rows=min(self.rows, enough), more=0)

    @property
    def model(self) -> str:
        """What "fit", "layers" and "passes" are made of: the first part of the name."""
        return self.name.partition("-")[0]

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (rows, inputs), and y (rows,): 0.0 and 1.0 for one unit, else classes; one batch for "layers"."""
        if self.kind == "step":
            return np.array([1.0, 1.0]), np.array(5.0)
        rng = np.random.default_rng(SEED)
        if self.kind in ("fit", "layers", "passes"):
            rows = self.rows if self.kind == "fit" else self.batch
            x = rng.standard_normal((rows, *self.sizes), dtype=self.dtype)
            return x, rng.integers(10, size=rows)
        shape = (self.batch if self.kind == "inference" else self.rows, self.sizes[0])
        if self.momentum:
            x = rng.random(shape, dtype=self.dtype)
            x[rng.random(shape) > np.where(np.arange(shape[1]) < shape[1] // 3, 2e-4, 0.4)] = 0
            return x, x[:, -self.sizes[-1] :].argmax(axis=1)
        x = rng.standard_normal(shape, dtype=self.dtype)
        if self.sizes[-1] > 1:
            return x, x[:, : self.sizes[-1]].argmax(axis=1)
        noise = rng.standard_normal(self.rows, dtype=self.dtype)
        return x, (x[:, :3].sum(axis=1) + noise > 0).astype(self.dtype)

    def weights(self) -> list[np.ndarray]:
        """Return new first weights: a matrix (inputs, units) and a bias (units,) for each layer, or those of LAYERS."""
        if self.kind == "step":
            return [np.array([0.1, 0.2])]
        rng = np.random.default_rng(SEED + 1)
        if self.kind in ("fit", "layers", "passes"):
            drawn = [rng.standard_normal(shape, dtype=self.dtype) for shape in LAYERS[self.model]]
            return [array * np.asarray(np.prod(array.shape[:-1]) ** -0.5, self.dtype) for array in drawn]
        arrays = []
        for inputs, units in pairwise(self.sizes):
            matrix = rng.standard_normal((inputs, units), dtype=self.dtype)
            arrays += [matrix * np.asarray(inputs**-0.5, self.dtype), np.zeros(units, self.dtype)]
        return arrays

    def order(self, epoch: int = 0) -> np.ndarray:
        """Return the order of the rows in one of Trainer's epochs. Every contender calls this while it is timed.

        It is framework.data.permutation(rows, SEED, epoch), written again because importing the framework takes a
        peer's process longer than that; were it another order, the final losses would tell.
        """
        digest = hashlib.blake2b(f"shuffle|{SEED}|{epoch}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).permutation(self.rows)

    def orders(self, epochs: int = 1, start: int = 0) -> Iterator[np.ndarray]:
        """Give the order of each of some epochs, made when its turn comes."""
        return map(self.order, range(start, start + epochs))

    def loss(self, weights: list[np.ndarray]) -> float:
        """Return the loss of trained weights on the first rows, in float64."""
        x, y = self.data()
        if self.kind == "step":
            return float(0.5 * (1 / (1 + np.exp(-weights[0] @ x)) - y) ** 2)
        a, y = x[:JUDGED_ROWS].astype(np.float64), y[:JUDGED_ROWS]
        for i in range(0, len(weights), 2):
            h = a @ weights[i].astype(np.float64) + weights[i + 1]
            a = np.maximum(h, 0) if self.activation == "relu" else 1 / (1 + np.exp(-self.slope * h))
        if h.shape[1] == 1:
            return float(np.mean(np.logaddexp(0, h[:, 0]) - y * h[:, 0]))
        top = h.max(axis=1)
        return float(np.mean(np.log(np.exp(h - top[:, None]).sum(axis=1)) + top - h[np.arange(len(y)), y]))


HEAD = [(64, 10), (10,)]
LAYERS: dict[str, list[tuple[int, ...]]] = {
    "dense": [(784, 128), (128,)],
    "convolution": [(1, 5, 5, 8), (8,)],
    "lenet": [
        *((1, 5, 5, 6), (6,), (6, 5, 5, 16), (16,)),
        *((400, 120), (120,), (120, 84), (84,), (84, 10), (10,)),
    ],
    "gru": [(28, 192), (64, 192), (192,), (64,), *HEAD],
    "lstm": [(28, 256), (64, 256), (256,), *HEAD],
    "attention": [(64, 192), (192,), (64, 64), (64,), (2048, 10), (10,)],
}
"""The shapes of the weights of "fit", "layers" and "passes", as the framework stores them."""


def fits(name: str, what: str, sample: tuple[int, ...]) -> Workload:
    """Return training by epochs."""
    return Workload(
        f"{name}-fit", "fit", f"{what}, batch 32, 1,600 rows of float32", sample, 32, 1600, 0.001, "float32"
    )


def layers(name: str, kind: str, what: str, sample: tuple[int, ...], batch: int) -> list[Workload]:
    """Return 50 steps on one batch, for both dtypes."""
    return [
        Workload(f"{name}{end}", kind, f"{what}, batch {batch}, {dtype}", sample, batch, 50 * batch, 0.01, dtype)
        for dtype, end in (("float64", ""), ("float32", "-float32"))
    ]


SMALL = Workload("small", "network", "20-16-2, batch 32, 20,000 rows", (20, 16, 2), 32, 20_000)
FASHION = Workload(
    "fashion-128", "network", "784-128-10, batch 128, 60,000 rows of float32", (784, 128, 10), 128, 60_000
)
FASHION = replace(FASHION, rate=0.01, dtype="float32", activation="relu")

WORKLOADS = {
    work.name: work
    for work in (
        Workload("step", "step", "the reference neuron, one scripted step", (2, 1), rate=1.0),
        Workload("online", "neuron", "one neuron, 20 features, batch 1, 200,000 rows", (20, 1), 1, 200_000),
        Workload("logistic", "neuron", "one neuron, 1,000,000 x 30, batch 256", (30, 1), 256, 1_000_000),
        SMALL,
        replace(SMALL, name="own", what=f"{SMALL.what}, with a user's activation", activation="own"),
        FASHION,
        replace(FASHION, name="fashion-32", what=FASHION.what.replace("batch 128", "batch 32"), batch=32),
        replace(
            FASHION,
            name="wide",
            what="1024-2048-2048-1000, batch 512, 10,000 rows of float32",
            sizes=(1024, 2048, 2048, 1000),
            batch=512,
            rows=10_000,
        ),
        replace(
            FASHION,
            name="momentum",
            what="784-128-10, batch 32, 8,000 images with dark edges, momentum 0.9, after 5 epochs",
            batch=32,
            rows=8000,
            momentum=0.9,
            warm=5,
        ),
        replace(SMALL, name="many", kind="many", what=f"16 models at once, each as small: {SMALL.what}", models=16),
        replace(SMALL, name="growth-base", what="small, what the others grow from"),
        replace(SMALL, name="growth-rows", what="small, ten times the rows", rows=200_000),
        replace(SMALL, name="growth-features", what="small, ten times the features", sizes=(200, 16, 2)),
        replace(SMALL, name="growth-units", what="small, ten times the units", sizes=(20, 160, 2)),
        replace(SMALL, name="growth-layers", what="small, ten times the hidden layers", sizes=(20, *10 * [16], 2)),
        *layers("dense", "passes", "one dense layer, 784-128 with ReLU: forward and backward", (784,), 128),
        *layers("convolution", "passes", "1 x 28 x 28, 8 filters of 5 x 5: forward and backward", (1, 28, 28), 32),
        *layers("lenet", "layers", "LeNet: two convolutions, three dense layers, whole steps", (1, 28, 28), 32),
        *layers("gru", "layers", "GRU of 64 units over 28 x 28 and a dense layer, whole steps", (28, 28), 32),
        *layers("lstm", "layers", "LSTM of 64 units over 28 x 28 and a dense layer, whole steps", (28, 28), 32),
        *layers(
            "attention", "layers", "attention of 4 heads over 32 x 64 and a dense layer, whole steps", (32, 64), 32
        ),
        fits("lenet", "LeNet: two convolutions, three dense layers", (1, 28, 28)),
        fits("gru", "GRU of 64 units over 28 x 28 and a dense layer", (28, 28)),
        fits("attention", "attention of 4 heads over 32 x 64 and a dense layer", (32, 64)),
        *(
            replace(
                SMALL,
                name=f"predict-{rows}",
                kind="inference",
                what=f"20-16-2, prediction of {text}, float32",
                batch=rows,
                rows=calls * rows,
                dtype="float32",
            )
            for rows, calls, text in ((1, 2000, "one row"), (32, 1000, "32 rows"), (1000, 200, "1,000 rows"))
        ),
        Workload("cold", "cold", "whole processes: an import, a first step", (20, 16, 2)),
        replace(
            SMALL,
            name="memory",
            kind="memory",
            what="64-16-2, batch 512, from a file of 1.5 GB, with 200 MB allowed beyond what the process had",
            sizes=(64, 16, 2),
            batch=512,
            rows=6_000_000,
            dtype="float32",
        ),
    )
}
GROUPS = {
    "page": [name for name, work in WORKLOADS.items() if work.kind in ("step", "inference", "cold") or work.has_epochs],
    "fit": ["lenet-fit", "gru-fit", "attention-fit"],
    "predict": ["predict-1", "predict-32", "predict-1000"],
    "layers": [name for name, work in WORKLOADS.items() if work.kind in ("layers", "passes")],
    "fashion": ["fashion-128", "fashion-32"],
    "growth": ["growth-base", "growth-rows", "growth-features", "growth-units", "growth-layers"],
}
