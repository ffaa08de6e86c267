"""Predictions of a model in one native function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from framework.base.errors import SettingsError, brief
from framework.models import Model

if TYPE_CHECKING:
    from framework.training.engines.native.prediction import CompiledModel


def compile_model(model: Model) -> CompiledModel:
    """Return the model as a native function, for fast predictions of few rows.

    It is called like the model, and computes with the weights that the model has at each call. It takes every model
    whose layers have graphs, also with several inputs and outputs, and keeps kernels for eight shapes of samples.
    Where no kernel can be made, as for a layer that Python runs, NumPy computes the predictions, with a warning that
    says why; where it is only faster, without one. ``engine`` of the result says which of the two does. Results agree
    with ``model(x)`` to a few units of the last place. The prediction for a row does not depend on the rows beside it.
    Several threads may call it. Make it again when a global that a formula reads has changed.

    Raises:
        SettingsError: ``model`` is not a model.
        UsageError: llvmlite is not installed, or the model's number of inputs is not known yet.

    Example:
        >>> from framework import Dense, ReLU, Sequential, Softmax
        >>> fast = compile_model(Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax())))
        >>> fast.engine, fast([0.1, 0.2, 0.3, 0.4]).shape, fast.predict([[0.1, 0.2, 0.3, 0.4]]).shape
        ('compiled', (3,), (1, 3))
    """
    if not isinstance(model, Model):
        hint = "; write run.model" if isinstance(getattr(model, "model", None), Model) else ""
        hint = "; load_model reads one from a file" if isinstance(model, str | os.PathLike) else hint
        raise SettingsError(f"must be a model; got {brief(model)}{hint}", name="compile_model: argument 'model'")
    from framework.training.engines.native.prediction import compile_prediction  # noqa: PLC0415 (slow, and seldom needed)

    model.retrace()
    return compile_prediction(model, "compile_model")
