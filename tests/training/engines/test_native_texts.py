"""The texts of kernels: what they share, and what they do not."""

import re

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework import (
    L2,
    CrossEntropy,
    Dense,
    Huber,
    LayerNorm,
    MeanSquaredError,
    Sequential,
    SGDOptimizer,
    Softmax,
    Tanh,
    Trainer,
)
from framework.formulas import ELU, LeakyReLU
from framework.models import Bilinear
from framework.training.engines.native import kernel


@pytest.fixture
def text_of(monkeypatch):
    """Return a function that trains a model for an epoch, and returns the text of its kernel."""
    texts = []

    def recorded(text, entry, dtype, apart):
        texts.append("\n".join([*dict(apart).values(), text]))
        return compiled(text, entry, dtype, apart)

    compiled = kernel.compile_kernel
    monkeypatch.setattr(kernel, "compile_kernel", recorded)

    def text_of(model, loss=None, **settings):
        texts.clear()
        rng = np.random.default_rng(0)
        y = rng.normal(size=(12, 3)) if loss is not None else rng.integers(0, 3, 12)
        settings = {
            "batch_size": 6,
            "loss": loss or CrossEntropy(),
            "optimizer": SGDOptimizer(learning_rate=0.1),
        } | settings
        trainer = Trainer(epochs=1, engine="compiled", **settings)
        trainer.fit(model, (rng.normal(size=(12, 7)), y))
        (text,) = texts
        return text

    return text_of


def dense(activation=None):
    return Sequential(Dense(7, 5, activation or Tanh(), seed=0), Dense(5, 3, Softmax(), seed=1))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            {"model": lambda: dense(LeakyReLU(negative_slope=0.01))},
            {"model": lambda: dense(LeakyReLU(negative_slope=0.3))},
        ),
        ({"model": lambda: dense(ELU(alpha=0.7))}, {"model": lambda: dense(ELU(alpha=1.3))}),
        ({"loss": Huber(delta=0.9)}, {"loss": Huber(delta=1.7)}),
        ({"regularizers": [L2(strength=0.1)]}, {"regularizers": [L2(strength=0.03)]}),
        (
            {"model": lambda: Sequential(Dense(7, 5), LayerNorm(5, epsilon=1e-5), Dense(5, 3, Softmax()))},
            {"model": lambda: Sequential(Dense(7, 5), LayerNorm(5, epsilon=1e-3), Dense(5, 3, Softmax()))},
        ),
    ],
    ids=["slope", "alpha", "delta", "strength", "epsilon"],
)
def test_another_value_of_a_setting_compiles_nothing_new(text_of, first, second):
    texts = []
    for settings in (first, second):
        model = settings.get("model", dense)()
        if "loss" in settings:
            model = Sequential(Dense(7, 5, Tanh(), seed=0), Dense(5, 3, seed=1))
        texts.append(text_of(model, **{name: value for name, value in settings.items() if name != "model"}))
    assert texts[0] == texts[1]


def test_numbers_that_decide_what_is_compiled_are_literals(text_of):
    text = text_of(Sequential(Dense(7, 3, seed=0)), loss=MeanSquaredError())
    assert "real(2.0)" in text
    assert not re.search(r"settings\[", text)


def test_products_of_other_sizes_compile_nothing_new(text_of):
    def products(width):
        model = Sequential(Dense(7, width, Tanh(), seed=0), Dense(width, 3, Softmax(), seed=1))
        return set(re.findall(r"def nest_\w+\([^)]*\):\n    gemm.*", text_of(model)))

    assert products(33) == products(40)


@pytest.mark.parametrize(
    "model",
    [dense, lambda: Sequential(Bilinear(units=5, first=3), Dense(units=3, activation=Softmax()))],
    ids=["dense", "products of two parts of a row"],
)
def test_a_batch_of_one_row_is_read_where_it_lies(text_of, model):
    (train,) = re.findall(r"def train\(.*", text_of(model(), batch_size=1), re.DOTALL)
    assert "fetch_row(d0, " in train
    assert "gather(" not in train
