"""Fingerprints: other data, another text; the same data, the same text."""

import numpy as np
import pytest

from framework import DataError, MeanSquaredError, Neuron, SGDOptimizer, Trainer
from framework.data.fingerprints import fingerprint, fingerprints
from framework.models.rows import prepare

SIZES = [1, 7, 2047, 2048, 2049, 70_000, 600_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
def test_every_change_of_one_value_and_every_exchange_of_two_is_seen(size, dtype):
    rng = np.random.default_rng(size)
    array = rng.integers(0, 200, size).astype(dtype)
    before = fingerprint(array)
    assert fingerprint(array.copy()) == before
    for place in {0, size // 2, size - 1, *rng.integers(0, size, 5).tolist()}:
        changed = array.copy()
        changed[place] += 1
        assert fingerprint(changed) != before
    for one, other in rng.integers(0, size, (10, 2)):
        changed = array.copy()
        changed[[one, other]] = changed[[other, one]]
        assert (fingerprint(changed) == before) == (array[one] == array[other])


@pytest.mark.parametrize("size", [8168, 16_336, 20_000, 65_536])
def test_signs_count(size):
    labels = np.where(np.random.default_rng(size).random(size) > 0.5, 1.0, -1.0)
    before = fingerprint(labels)
    assert fingerprint(-labels) != before
    assert fingerprint(labels[::-1]) != before
    assert fingerprint(np.random.default_rng(1).permutation(labels)) != before
    one, other = np.argmax(labels > 0), np.argmax(labels < 0)
    labels[[one, other]] = labels[[other, one]]
    assert fingerprint(labels) != before


def test_shape_dtype_and_number_of_arrays_count():
    a = np.zeros((2, 3))
    texts = [fingerprint(a), fingerprint(a.T), fingerprint(a.astype("f4")), fingerprint(a[:0])]
    assert len(set(texts)) == 4


def test_rows_in_another_order_are_other_data():
    x = np.random.default_rng(0).normal(size=(1000, 30))
    one_hot = np.eye(512)[np.arange(1000) % 512]
    images = np.zeros((20, 16, 16))
    images[np.arange(20), np.arange(20) % 16] = 1.0
    for rows in (one_hot, images, np.eye(256), np.ones((300, 7)) * (np.arange(300) % 2)[:, None]):
        assert fingerprint(rows[[1, 0, *range(2, len(rows))]]) != fingerprint(rows)
    for seed in range(20):
        assert fingerprint(x[np.random.default_rng(seed).permutation(1000)]) != fingerprint(x)


@pytest.mark.parametrize("place", [0, 3 * 1021 * 64 + 5, -1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_pass_that_makes_the_fingerprint_finds_what_is_not_finite(dtype, place):
    x, y = np.ones((70_000, 3), dtype), np.zeros(70_000)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=70_000)
    x[-2:] = np.finfo(dtype).max / 8  # their sum overflows in float32's blocks, and nothing is wrong with that
    source = prepare((x, y), Neuron(3, dtype=dtype), (trainer.loss,), "fit", fingerprinted=True)
    assert source.fingerprint() == fingerprints(*source.arrays)
    x.reshape(-1)[place] = np.nan
    with pytest.raises(DataError, match=r"fit: argument 'x' must be finite; got nan at x\[\d+, \d\] \(1 of 210000"):
        trainer.fit(Neuron(3, dtype=dtype), (x, y))
