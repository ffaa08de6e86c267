"""Whole models at random: layers, loss, optimizer, penalties and data, all drawn from a seed.

The layers are those of the library and those of ``users_classes``.
"""

import numpy as np
from catalogue import catalogue
from layer_pieces import Gated
from users_classes import (
    Bent,
    Bowl,
    Chosen,
    Compared,
    Cubic,
    Distance,
    Logistic,
    Looked,
    Mixed,
    Momentum,
    Noisy,
    Pairs,
    Power,
    Product,
    Quadratic,
    Quartic,
    Repeated,
    Scaled,
    Scan,
    Shares,
    Standardized,
    Steps,
    Tracked,
    Twice,
    Twins,
)

from framework import (
    GRU,
    L2,
    LSTM,
    Accuracy,
    Activation,
    BatchNorm,
    BinaryCrossEntropy,
    Conv2D,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    HalfSquaredError,
    Heads,
    Huber,
    Identity,
    Join,
    Layer,
    LayerNorm,
    MaxPool,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiHeadAttention,
    Neuron,
    Optimizer,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SimpleRNN,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
)
from framework.base.trees import leaves, map_leaves, sample_shape
from framework.formulas import (
    Cauchy,
    CosineSimilarity,
    ExponentialSchedule,
    Focal,
    Hinge,
    KLDivergence,
    LogCosh,
    OutputLosses,
    Poisson,
    Quantile,
    Sine,
    SquaredHinge,
    Step,
    Swish,
    WarmupSchedule,
)
from framework.models import (
    L1,
    RBF,
    AveragePool,
    Bidirectional,
    Bilinear,
    Conv1D,
    ConvTranspose1D,
    ConvTranspose2D,
    GroupNorm,
    Permute,
    PositionalEncoding,
    RMSNorm,
)

RATES = {"AdadeltaOptimizer": 1.0, "SGDOptimizer": 0.03, "Momentum": 0.03, "AdagradOptimizer": 0.02}
"""Learning rates of about the same effect; those of the other optimizers are 0.005."""

SETTINGS = {
    "SGDOptimizer": [{}, {"momentum": 0.9}, {"momentum": 0.8, "nesterov": True}, {"weight_decay": 0.1}],
    "RMSPropOptimizer": [{}, {"centered": True, "momentum": 0.5}],
    "AdagradOptimizer": [{}, {"initial": 0.1}],
    "AdamOptimizer": [{}, {"weight_decay": 0.1}, {"epsilon": 1e-3}],
    "LionOptimizer": [{}, {"weight_decay": 0.1}],
}
"""What is drawn for the own settings of an optimizer."""


class WholeModel:
    """A model with everything that a training needs, drawn from a seed.

    Attributes:
        model: The model, with its first numbers.
        x: The inputs; ``y`` the targets, and ``weight`` the weights of the rows or None.
        settings: Those of the trainer.
    """

    def __init__(self, *seed, dtype="float64"):
        """Draw a model."""
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self.size, parts = self.number(3, 7), self.pick(1, 1, 1, 1, 2, 3)
        whole = self.size * parts
        self.rows = 2 * whole + self.pick(*(rows for rows in range(2, whole) if rows % self.size != 1))
        self.batch = whole
        self.x, layers, shape, kind = self.inputs()
        for _ in range(self.number(1, 5)):
            layer, kind = self.layer(shape, kind)
            layers.append(layer)
            shape = shape_after(layer, shape)
        ends, self.loss, self.y, metrics = self.outputs(shape, kind)
        self.model = self.begun(Sequential(*layers, *ends), dtype)
        self.weight = self.weights()
        self.settings = {
            "loss": self.loss,
            "optimizer": self.optimizer(),
            "batch_size": self.size,
            "accumulate": parts,
            "seed": self.number(0, 99),
            "shuffle": self.chance(0.5),
            "regularizers": self.regularizers(),
            "metrics": metrics if self.chance(0.4) else [],
        }

    def trainer(self, **settings):
        return Trainer(**self.settings | settings)

    @property
    def data(self):
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    def __repr__(self):
        shapes = map_leaves(lambda leaf: (leaf.dtype.name, leaf.shape), self.data[0])
        frozen = ", ".join(self.model.parameters.frozen)
        return (
            f"WholeModel{self.seed}\nmodel: {self.model!r}\nx: {shapes}, frozen: [{frozen}], "
            f"weight: {self.weight is not None}\n{self.trainer()!r}"
        )

    # what is drawn

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def chance(self, share):
        return bool(self.rng.random() < share)

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def normal(self, *shape):
        return self.rng.normal(size=(self.rows, *shape))

    def activation(self, width):
        """Return an activation; some couple the units of a row."""
        simple = [cls for cls in catalogue(Activation) if cls not in (Softmax, Sine, Step)]
        coupled = [Softmax(), Standardized()] if width > 1 else []
        own = [Bent(), Bent(bend=0.1), Cubic(), Swish(beta=1.3), Sine(frequency=3.0), Step(), *coupled]
        return self.pick(*own) if self.chance(0.3) else self.pick(*simple)()

    # from the inputs to the outputs

    def inputs(self):
        """Return x, the first layers, the shape of what they give, and its kind."""
        kind = self.pick("row", "sequence", "sequence", "signal", "image", "image", "ids", "several", "mixed")
        if kind == "row":
            width = self.number(2, 6)
            return self.normal(width), [], (width,), "row"
        if kind == "sequence":
            steps, width = self.number(2, 5), self.number(2, 4)
            x = self.normal(steps, width)
            if self.chance(0.4):
                x *= (np.arange(steps) < self.rng.integers(1, steps + 1, self.rows)[:, None])[..., None]
            return x, [], (steps, width), "sequence"
        if kind == "signal":
            shape = self.number(1, 3), self.number(5, 9)
            return self.normal(*shape), [], shape, "signal"
        if kind == "image":
            shape = self.number(1, 3), self.number(4, 7), self.number(4, 7)
            return self.normal(*shape), [], shape, "image"
        if kind == "ids":
            steps, units = self.number(2, 4), self.number(2, 4)
            x = self.rng.integers(0, 5, (self.rows, steps))
            return x, [Embedding(5, units)], (steps, units), "sequence"
        if kind == "mixed":
            units = self.number(1, 4)
            return {"left": self.normal(3), "right": self.normal(2)}, [Mixed(units=units)], (units,), "row"
        return self.several()

    def several(self):
        """Return several inputs by name and a Join of them."""
        x = {"numbers": self.normal(3), "city": self.rng.integers(0, 4, self.rows)}
        branches = {
            "numbers": self.pick(None, LayerNorm(3), Dense(3, 2, Tanh()), Sequential(BatchNorm(3), Dropout(0.2))),
            "city": Embedding(4, self.number(1, 3)),
        }
        if self.chance(0.6):
            x["age"], branches["age"] = self.normal(), self.pick(None, Dense(1, 2, Tanh()), Softplus())
        if self.chance(0.4):
            x["words"] = self.rng.integers(0, 6, (self.rows, 3))
            branches["words"] = Sequential(Embedding(6, 2), self.pick(Flatten(), GRU(2), Scan(units=2, every=False)))
        join = Join(**branches)
        return x, [join], shape_after(join, sample_shape(x)), "row"

    def layer(self, shape, kind):
        """Return a layer for samples of a shape, and the kind of what it gives."""
        stay, go = getattr(self, f"_{kind}")(*shape)
        if go and self.chance(0.25):
            make, kind = self.pick(*go)
        else:
            make = self.pick(*self._any(shape[-1]) if self.chance(0.2) else stay)
        return make(), kind

    def _any(self, width):
        """Return what makes layers for samples of every kind."""
        makers = [
            lambda: Dropout(self.pick(0.1, 0.5)),
            lambda: self.activation(width),
            lambda: Layer.of(lambda x, slope: np.where(x > 0.2, x, x * (0.5 + slope)), shapes={"slope": ()}),
        ]
        return makers + [lambda: LayerNorm(width), lambda: RMSNorm(width)] * (width > 1)

    def block(self, width, *more):
        """Return a layer that gives rows of the same width."""
        layers = [
            *more,
            lambda: Dense(width, width, self.activation(width)),
            lambda: Sequential(Dense(units=width), self.activation(width)),
            lambda: Sequential(Dense(units=width, activation=Tanh()), Dropout(0.3)),
            Repeated,
            Chosen,
            Bowl,
            Noisy,
            lambda: Product(units=width),
            lambda: Scaled(units=width),
        ]
        return self.pick(*layers)()

    def _row(self, width):
        """Return what makes layers that stay with samples of this kind, and others with what they give."""
        units = self.number(1, 5)

        def norm():
            return Sequential(Dense(units=width, activation=Tanh()), BatchNorm(width))

        def heads():
            second = self.pick(None, Sequential(Dense(width, 3), Dropout(0.2)))
            return Sequential(Heads(a=Dense(width, 2), b=second), Join(a=None, b=Dense(units=units)))

        def twins():
            child = self.pick(Dense(width // 2, units, Tanh()), Sequential(Dense(width // 2, units), Dropout(0.2)))
            return Twins(half=width // 2, child=child, last=Dense(units, 3))

        stay = [
            lambda: Dense(width, units, self.activation(units)),
            lambda: Dense(units=units),
            lambda: RBF(units, inputs=self.pick(None, width)),
            lambda: BatchNorm(width),
            lambda: Residual(self.block(width, Tracked, norm), *([self.block(width)] if self.chance(0.5) else [])),
            lambda: Sequential(self.block(width), Sequential(Dense(units=units), self.activation(units))),
            lambda: Gated(value=Dense(width, units), gate=self.gate(width, units)),
            lambda: Twice(child=self.block(width)),
            lambda: self.block(width, Tracked, norm),
            lambda: self.block(width),
            lambda: Product(units=units),
            Quadratic,
            lambda: Looked(units=units),
            heads,
        ]
        stay += [lambda: Bilinear(units=units, first=self.number(1, width - 1))] * (width > 1)
        stay += [Pairs] * (width <= 8) + [twins] * (width % 2 == 0)
        return stay, [(lambda: Reshape((width // 2, 2)), "sequence")] * (width % 2 == 0)

    def gate(self, width, units):
        return self.pick(Dense(width, units, Sigmoid()), Sequential(Dropout(0.2), Dense(width, units), Sigmoid()))

    def attention(self, steps, width):
        heads = self.pick(*(heads for heads in (1, 2, 3) if width % heads == 0))
        mask = tuple(tuple(bool(seen) for seen in row) for row in np.tri(steps, k=1))
        settings = self.pick({}, {"causal": True}, {"masking": 0.0}, {"mask": mask}, {"units": 2 * heads})
        return MultiHeadAttention(heads=heads, inputs=self.pick(None, width), **settings)

    def recurrent(self, returns):
        kind = self.pick(GRU, LSTM, SimpleRNN)
        layer = kind(self.number(1, 4), returns=returns, masking=self.pick(None, 0.0))
        return Bidirectional(layer) if self.chance(0.25) else layer

    def _sequence(self, steps, width):
        units = self.number(1, 4)
        stay = [
            *[lambda: self.recurrent("all")] * 3,
            *[lambda: self.attention(steps, width)] * 2,
            lambda: Residual(self.pick(Dropout(0.2), Tanh()), self.attention(steps, width)),
            lambda: Scan(units=units),
            Steps,
            Compared,
            lambda: Dense(width, units, self.activation(units)),
            PositionalEncoding,
        ]
        go = [
            *[(lambda: self.recurrent("last"), "row")] * 3,
            (lambda: Scan(units=units, every=False), "row"),
            (lambda: Permute((2, 1)), "signal"),
            (Flatten, "row"),
            (lambda: Reshape((-1,)), "row"),
            (GlobalAverage, "row"),
        ]
        return stay, go

    def window(self, *sizes):
        """Return kernel, stride, dilation and padding that fit into some sizes."""
        kernel = tuple(self.number(1, min(3, size)) for size in sizes)
        padding = tuple(self.number(0, width // 2) for width in kernel)
        dilation = tuple(
            self.number(1, 2) if 2 * (width - 1) < size else 1 for width, size in zip(kernel, sizes, strict=True)
        )
        return kernel, self.number(1, 2), dilation, padding

    def convolution(self, kind, channels, *sizes):
        kernel, stride, dilation, padding = self.window(*sizes)
        padding = self.pick("same", "valid", padding, *["causal"] * (kind is Conv1D))
        filters, groups = self.pick((self.number(1, 4), 1), (channels * self.number(1, 2), channels))
        return kind(filters=filters, kernel=kernel, stride=stride, dilation=dilation, padding=padding, groups=groups)

    def pool(self, *sizes):
        window, stride, _, padding = self.window(*sizes)
        return self.pick(MaxPool, AveragePool)(window=window, stride=self.pick(None, stride), padding=padding)

    def _signal(self, channels, steps):
        go = [
            (lambda: Permute((2, 1)), "sequence"),
            (lambda: Flatten((channels, steps)), "row"),
            (GlobalAverage, "row"),
        ]
        stay = [
            lambda: self.convolution(Conv1D, channels, steps),
            lambda: self.pool(steps),
            *[lambda: GroupNorm(1)] * (channels * steps > 1),
            lambda: ConvTranspose1D(filters=self.number(1, 2), kernel=self.number(1, 3), stride=self.number(1, 2)),
        ]
        return stay, go

    def _image(self, channels, height, width):
        def depthwise():
            return Conv2D(filters=channels, kernel=3, padding="same", groups=channels)

        stay = [
            *[lambda: self.convolution(Conv2D, channels, height, width)] * 2,
            *[lambda: self.pool(height, width)] * 2,
            lambda: Residual(Conv2D(filters=channels, kernel=3, padding="same"), ReLU()),
            lambda: ConvTranspose2D(filters=self.number(1, 2), kernel=self.number(1, 3), stride=2, padding="same"),
            *[lambda: Residual(GroupNorm(1), depthwise())] * (channels * height * width > 1),
        ]
        return stay, [(lambda: Reshape((channels, -1)), "signal"), (Flatten, "row"), (GlobalAverage, "row")]

    # the outputs and their losses

    def outputs(self, shape, kind):
        """Return the last layers, the loss, the targets and metrics."""
        if len(shape) > 1 and self.chance(0.3):
            y = self.normal(*shape)
            return [self.activation(shape[-1])], self.numbers_loss(), y, [MeanSquaredError()]
        layers = []
        if len(shape) > 1:
            layers = [self.pick(Flatten(), GlobalAverage())]
            shape = shape_after(layers[0], shape)
        (width,) = shape
        if self.chance(0.75):
            ends, loss, y, metrics = self.head(width)
            return [*layers, *ends], loss, y, metrics
        heads = {name: self.head(width) for name in self.pick(("a", "b"), ("late", "kind", "price"))}
        ends = {name: ends[0] if len(ends) == 1 else Sequential(*ends) for name, (ends, *_) in heads.items()}
        weights = {name: self.pick(0.0, 0.3, 2.0) for name in [*heads][1:] if self.chance(0.6)}
        loss = OutputLosses(weights=weights, **{name: loss for name, (_, loss, *_) in heads.items()})
        return [*layers, Heads(**ends)], loss, {name: y for name, (_, _, y, _) in heads.items()}, []

    def numbers_loss(self):
        return self.pick(
            *(MeanSquaredError(), HalfSquaredError(), MeanAbsoluteError(), LogCosh(), Power()),
            *(Huber(delta=0.7), Cauchy(scale=0.8), Quantile(quantile=0.3)),
        )

    def head(self, width):
        """Return the layers of an output, its loss, targets and metrics."""
        units = self.number(2, 4)
        kind = self.pick("binary", "classes", "rows", "margins", "counts", "numbers", "numbers")
        if kind == "binary":
            smooth = BinaryCrossEntropy(label_smoothing=self.pick(0.0, 0.1), positive_weight=self.pick(1.0, 3.0))
            loss = self.pick(smooth, BinaryCrossEntropy(), Focal(), Focal(gamma=1.0, alpha=0.3))
            if self.chance(0.4):
                bounded = [Dense(width, 2, Tanh()), Neuron(2, Logistic())]
                ends = self.pick([Neuron(width, Sigmoid())], bounded)
                return ends, loss, self.normal() > 0.0, [Accuracy()]
            y = self.rng.random((self.rows, units)) if self.chance(0.3) else (self.normal(units) > 0.0) * 1.0
            return self.probabilities(width, units, Sigmoid(), Logistic()), loss, y, []
        if kind == "classes":
            weights = self.pick(None, tuple(self.rng.uniform(0.5, 2.0, units).round(2).tolist()))
            loss = CrossEntropy(label_smoothing=self.pick(0.0, 0.1), class_weights=weights)
            y, metrics = self.rng.integers(0, units, self.rows), [Accuracy()]
            if self.chance(0.4):
                loss, y, metrics = self.pick(loss, KLDivergence()), self.rng.dirichlet(np.ones(units), self.rows), []
            return self.probabilities(width, units, Softmax(), Shares()), loss, y, metrics
        if kind == "rows":
            return [Dense(width, units)], self.pick(Distance(), CosineSimilarity()), self.normal(units), []
        if kind == "margins":
            y = np.where(self.normal(units) > 0.0, 1.0, -1.0)
            loss = self.pick(Hinge(), SquaredHinge())
            return self.ended(Dense(width, units), self.pick(Identity(), Tanh())), loss, y, []
        if kind == "counts":
            y = self.rng.poisson(2.0, (self.rows, units))
            return [Dense(width, units, Tanh()), Softplus()], Poisson(), y, []
        if self.chance(0.3):
            return [Neuron(width, self.pick(Identity(), Tanh()))], self.numbers_loss(), self.normal(), []
        last = self.pick(None, LayerNorm(units), BatchNorm(units), Residual(Dense(units, units)), Dropout(0.2))
        ends = self.ended(Dense(width, units), self.activation(units)) + [last] * (last is not None)
        return ends, self.numbers_loss(), self.normal(units), [MeanSquaredError()] if self.chance(0.3) else []

    def probabilities(self, width, units, activation, other):
        """Return a Dense with an activation on whose h the loss works, or bounded numbers with another one."""
        if self.chance(0.7):
            return self.ended(Dense(width, units), activation)
        return [Dense(width, units, Tanh()), other]

    def ended(self, layer, activation):
        """Return a Dense with an activation, as one layer or as two."""
        return [layer.replace(activation=activation)] if self.chance(0.6) else [layer, activation]

    # numbers and settings

    def begun(self, model, dtype):
        """Return the model with its first numbers, some of them frozen."""
        model.settle(sample_shape(self.x))
        vector = model.parameters.vector
        vector += self.rng.normal(scale=0.1, size=vector.shape)
        model = model.astype(dtype)
        names = [*model.parameters]
        if len(names) > 2 and self.chance(0.3):
            model.parameters.freeze(self.pick(*names))
        return model

    def weights(self):
        weight = self.rng.random(self.rows) + 0.1
        if self.chance(0.3):
            weight[self.rng.random(self.rows) < 0.3] = 0.0
            weight[0] = 1.0
        return weight if self.chance(0.5) else None

    def optimizer(self):
        recipe = self.pick(*catalogue(Optimizer), Momentum)
        rate = RATES.get(recipe.__name__, 0.005)
        settings = self.pick(*SETTINGS.get(recipe.__name__, [{}]))
        names = [*self.model.parameters]
        if self.chance(0.3):
            rate = self.pick(
                CosineSchedule(initial=rate, length=5),
                ExponentialSchedule(initial=rate, decay=0.5),
                WarmupSchedule(schedule=CosineSchedule(initial=rate, length=9), length=2),
            )
        settings = settings | self.pick({}, {}, {"clip_norm": 0.2}, {"clip_value": 0.05})
        if names and self.chance(0.25):
            settings |= {"rate_factors": ((self.pick(*names), self.pick(0.1, 3.0)),)}
        if names and settings.get("weight_decay") and self.chance(0.5):
            settings |= {"decay_factors": ((self.pick(*names), self.pick(0.0, 2.0)),)}
        return recipe(learning_rate=rate, **settings)

    def regularizers(self):
        names = [*self.model.parameters]
        if not names or self.chance(0.6):
            return []
        name = self.pick("*", *names)
        several = [L1(strength=0.05, parameters="*"), Quartic(strength=0.1, parameters=name)]
        return self.pick([L2(strength=0.1, parameters=name)], several)


def shape_after(layer, shape):
    """Return the shape of what a layer gives for samples of a shape, without settling it."""
    return shape if isinstance(layer, Activation) else layer.replace().infer_shape(shape, settle=True)


TOLERANCE, NEAR, MARGIN = 1e-9, 1e-15, 10.0
VANISHING = 1e-12
"""A parameter that changes by less than this share of the largest change has a gradient of rounding alone."""


def require_agreement(drawn, found):
    """Check results against those of the NumPy engine.

    Each parameter and buffer may differ by 1e-9 of its largest change, or by its own rounding. Where the true gradient
    is 0, such as that of a bias before BatchNorm, the change is rounding alone. There the engines may differ by ten
    times what changes of x by 1e-15 make of NumPy's result.
    """
    expected = results(drawn, "numpy")
    wrong = _differences(drawn, expected, found)
    if wrong:
        wrong = _differences(drawn, expected, found, [results(drawn, "numpy", near=turn) for turn in (1, 2, 3)])
    assert not wrong, f"{drawn!r}\n" + "\n".join(f"{name}: {text}" for name, text in wrong.items())


def results(drawn, engine, near=0):
    """Train a copy, and return its numbers and the history by name.

    ``near`` seeds a change of x by 1e-15 of itself; where x holds ids, that of the parameters.
    """
    model, x, rng = drawn.model.copy(), drawn.x, np.random.default_rng(near)

    def moved(leaf):
        return leaf * (1.0 + NEAR * rng.uniform(-1.0, 1.0, leaf.shape)) if leaf.dtype.kind == "f" else leaf

    if near:
        x = map_leaves(moved, x)
        if any(leaf.dtype.kind != "f" for leaf in leaves(x)):
            model.parameters.vector[...] = moved(model.parameters.vector)
    run = drawn.trainer(engine=engine).fit(model, (x, *drawn.data[1:]))
    assert run.engine == engine
    numbers = {f"parameter {name}": value for name, value in run.model.parameters.items()}
    numbers |= {f"buffer {name}": value for name, value in run.model.buffers.items()}
    (row,) = run.history.rows
    return numbers | {f"history {key}": np.array(row[key], float) for key in sorted(row.keys() - {"seconds"})}


def _differences(drawn, expected, found, close=()):
    """Return what differs by more than is allowed, with both sizes."""
    start = {f"parameter {name}": value for name, value in drawn.model.parameters.items()}
    start |= {f"buffer {name}": value for name, value in drawn.model.buffers.items()}
    wrong, most = {}, max((_largest(expected[name] - value) for name, value in start.items()), default=0.0)
    for name, value in expected.items():
        change = _largest(value - start.get(name, 0.0))
        if name in start and change < VANISHING * most:
            continue
        allowed = TOLERANCE * change + 4.0 * np.finfo(float).eps * _largest(value)
        allowed = max([allowed, *(MARGIN * _largest(other[name] - value) for other in close)])
        difference = _largest(found[name] - value)
        if not difference <= allowed:
            wrong[name] = f"differs by {difference:.3g}, allowed are {allowed:.3g} of a change of {change:.3g}"
    return wrong


def _largest(array):
    return float(np.abs(array).max(initial=0.0))
