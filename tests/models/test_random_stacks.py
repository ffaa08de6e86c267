"""Random stacks of layers for samples of one to three axes: engines agree, and copies and files predict the same."""

import math
import pickle

import numpy as np
import pytest
from layer_pieces import Gated, LastStep, Longer

from framework import (
    GRU,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAverage,
    LayerNorm,
    MaxPool,
    MeanSquaredError,
    MultiHeadAttention,
    Reshape,
    Residual,
    Sequential,
    SGDOptimizer,
    Softmax,
    Tanh,
    Trainer,
    load_model,
    save,
)
from framework.models import (
    RBF,
    AveragePool,
    Bidirectional,
    Conv1D,
    ConvTranspose1D,
    ConvTranspose2D,
    GroupNorm,
    Permute,
    PositionalEncoding,
    RMSNorm,
)

# (the numbers of axes that a layer takes, the layer given a sample's shape)
LAYERS = [
    ((1, 2, 3), lambda _: Dense(units=3)),
    ((1, 2, 3), lambda shape: Dense(shape[-1], 2)),
    ((1, 2, 3), lambda _: Tanh()),
    ((1, 2, 3), lambda _: Dropout(0.2)),
    ((1, 2, 3), lambda shape: LayerNorm(shape[-1]) if shape[-1] > 1 else Tanh()),
    ((1, 2, 3), lambda shape: Softmax() if shape[-1] > 1 else Tanh()),
    ((1, 2, 3), lambda _: Flatten()),
    ((1, 2, 3), lambda shape: Reshape((-1, shape[0]))),
    ((1, 2, 3), lambda shape: Reshape((math.prod(shape), 1))),
    ((1, 2, 3), lambda _: Longer()),
    ((1, 2, 3), lambda shape: Residual(Dense(units=shape[-1]), Tanh())),
    ((1, 2, 3), lambda shape: Residual(Flatten(), Dense(units=math.prod(shape)), Reshape(shape))),
    ((1, 2, 3), lambda _: Gated(value=Dense(units=2), gate=Sequential(Tanh(), Dense(units=2)))),
    (
        (1, 2, 3),
        lambda _: Gated(value=Sequential(Flatten(), Dense(units=3)), gate=Sequential(Flatten(), RBF(units=3))),
    ),
    ((1, 2, 3), lambda _: Sequential(Dense(units=2), Flatten(), Dense(units=4))),
    ((1, 2, 3), lambda _: RMSNorm()),
    ((2, 3), lambda shape: GroupNorm(shape[0]) if max(shape[1:]) > 1 else GlobalAverage()),
    ((1,), lambda shape: BatchNorm(shape[0])),
    ((2,), lambda _: GRU(units=3)),
    ((2,), lambda _: Bidirectional(GRU(units=2))),
    ((2,), lambda _: Sequential(GRU(units=2, returns="all"), PositionalEncoding())),
    ((2,), lambda _: MultiHeadAttention(heads=1)),
    ((2,), lambda _: Permute((2, 1))),
    ((2,), lambda _: LastStep()),
    ((2,), lambda _: Conv1D(filters=2, kernel=2, padding="same")),
    ((3,), lambda _: Conv2D(filters=2, kernel=2, padding="same")),
    ((2,), lambda _: ConvTranspose1D(filters=2, kernel=2)),
    ((3,), lambda _: ConvTranspose2D(filters=2, kernel=2, stride=2, padding=1)),
    ((3,), lambda _: Permute((3, 1, 2))),
    ((2, 3), lambda shape: MaxPool(window=2) if min(shape[1:]) > 1 else GlobalAverage()),
    ((2, 3), lambda _: AveragePool(window=1)),
    ((2, 3), lambda _: GlobalAverage()),
]


def stack(rng, shape, count):
    """Return layers for samples of this shape, whose sizes are found by calling each of them."""
    x, layers = np.zeros((2, *shape)), []
    for _ in range(count):
        makes = [make for axes, make in LAYERS if x.ndim - 1 in axes]
        make = makes[rng.integers(len(makes))]
        layers.append((make, x.shape[1:]))
        model = Sequential(make(x.shape[1:]))
        model.settle(x.shape[1:])
        x = model(x)
    return layers, x.shape[1:]


@pytest.mark.share(1 / 20)
@pytest.mark.parametrize("seed", range(60))
def test_what_trains_is_the_same_everywhere(seed, tmp_path):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 5, size=1 + seed % 3).tolist())
    layers, output = stack(rng, shape, 1 + seed % 5)
    x, y = rng.normal(size=(6, *shape)), rng.normal(size=(6, *output))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=3, epochs=2)
    numpy, auto = (
        trainer.replace(engine=engine).fit(Sequential(*(make(size) for make, size in layers)), (x, y))
        for engine in ("numpy", "auto")
    )
    expected = numpy.model(x)
    assert expected.shape == (6, *output)
    np.testing.assert_allclose(auto.model(x), expected, rtol=1e-7, atol=1e-10)
    save(numpy, tmp_path / "run.safetensors")
    loaded = load_model(tmp_path / "run.safetensors")
    for twin in (numpy.model.copy(), pickle.loads(pickle.dumps(numpy.model)), loaded):
        np.testing.assert_array_equal(twin(x), expected)
        assert (twin.known_shape, twin.output_shape) == (shape, output)
