"""TrainingSettings: what a training is made of, apart from its model and its data."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import field_validator

from framework.callbacks import Callback
from framework.callbacks.saving import Checkpoint
from framework.data.sampling import Sampling
from framework.errors import SettingsError
from framework.files import real_path
from framework.losses import Loss
from framework.metrics import Metric
from framework.optimizers import BoundOptimizer, Optimizer
from framework.parallel.strategy import DataParallel
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.recipe import Preprocess
from framework.regularizers import Regularizer
from framework.runs.figures import Figures
from framework.settings.component import Component, Count, Seed


class TrainingSettings(Component):
    """The settings of a ``Trainer``, which describes them."""

    loss: Loss
    optimizer: Optimizer
    epochs: Count = 1
    batch_size: Count = 32
    accumulate: Count = 1
    seed: Seed = 0
    shuffle: bool = True
    sampling: Sampling | None = None
    metrics: tuple[Metric | Loss, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    preprocess: Preprocess | None = None
    engine: Literal["auto", "numpy", "compiled", "jax"] = "numpy"
    flush_to_zero: bool = True
    strategy: DataParallel | None = None
    progress: bool = True

    @field_validator("optimizer", mode="before")
    @classmethod
    def _require_recipe(cls, value: Any) -> Any:
        if isinstance(value, BoundOptimizer):
            raise SettingsError(
                f"not be bound to a model: write {type(value.recipe).__name__}(learning_rate=...) without the model, "
                "and fit binds it"
            )
        return value

    @field_validator("preprocess", mode="before")
    @classmethod
    def _require_open(cls, value: Any) -> Any:
        if isinstance(value, FittedPreprocess):
            raise SettingsError(
                "be a Preprocess; the numbers belong to a model: model.preprocess = fitted, without preprocess here"
            )
        return value

    @cached_property
    def figures(self) -> Figures:
        """The loss and the metrics, as the columns of a history."""
        return Figures(self.loss, self.metrics)

    def columns(self, *, validated: bool) -> list[str]:
        """Return the columns of a history, with or without those of validation data."""
        figures, penalty = self.figures, ["penalty"] if self.regularizers else []
        val_keys = [f"val_{key}" for key in [*figures.keys, *(whole.key for whole in figures.whole)] if validated]
        return ["epoch", *figures.keys, *penalty, *val_keys, "learning_rate", "seconds"]

    def model_post_init(self, context: object) -> None:
        """Check that no two metrics have one name, no two callbacks one folder, and that sampling can draw."""
        if self.sampling is not None and not self.shuffle:
            raise SettingsError(f"Trainer: sampling={self.sampling!r} draws rows at random; leave shuffle=False out")
        folders = [real_path(callback.folder) for callback in self.callbacks if isinstance(callback, Checkpoint)]
        if len(folders) != len(set(folders)):
            raise SettingsError("Trainer: setting 'callbacks' must not hold two Checkpoints of one folder")
        if any(one is other for i, one in enumerate(self.callbacks) for other in self.callbacks[:i]):
            raise SettingsError("Trainer: setting 'callbacks' must not hold one object twice; use replace()")
        figures = self.figures
        found = [*figures.keys, *(whole.key for whole in figures.whole)]
        keys = ["epoch", "penalty", "learning_rate", "seconds", *found, *(f"val_{key}" for key in found)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            outputs = "; the outputs of Losses give columns too" if figures.of_outputs else ""
            raise SettingsError(
                f"Trainer: setting 'metrics' must have different names; got '{min(twice)}' twice{outputs}"
            )
