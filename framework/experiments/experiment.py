"""Experiment: data, model and training as one component, read from a TOML or JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from framework.base.arrays import Array
from framework.base.errors import SettingsError, Text, brief, nearest, within
from framework.base.files import leads_to, read_text, real_path, write_whole
from framework.base.settings.component import Component, Count
from framework.data.sources import hold_out
from framework.data.table_files import TableFile
from framework.experiments.files.building import build
from framework.experiments.files.text import (
    apply_changes,
    drop_inferred_inputs,
    parse_change,
    places,
    read_settings,
    to_toml,
)
from framework.experiments.tables import classes_of, drop_unlabelled, groups_of, in_memory, read_alike
from framework.models import Model
from framework.models.base import with_models
from framework.training.trainer import Trainer


class Experiment(Component):
    """Data, model and training: what one file says, and ``framework train`` runs.

    Experiments are equal if their settings are, also those of their models; weights do not count.

    Attributes:
        data: The table to train on, with its target.
        model: The model. Numbers of inputs may be left out: they come from the data.
        trainer: Preprocessing, loss, optimizer, epochs, metrics, callbacks and seed.
        validation: The table that is evaluated after each epoch, whose columns are text where those of ``data`` are; or
            the part of ``data`` that is held out for it, such
            as 0.2; or None.
        holdout: Which rows are held out: ``"random"``, drawn by the trainer's seed; ``"stratified"``, drawn so that
            each class of the target has its share of both parts; or the ``"last"`` ones, for a table in the order of
            time.
        groups: A column of ``data``, such as the patient: rows with the same value are all trained on, or all held out,
            in each fold and by each member. It is an input only if ``data.columns`` lists it.
        fold: Which of 1 / ``validation`` parts is held out, from 0: over all folds, each row is held out once. With
            ``holdout="last"`` the rows have one block more, and fold k trains on those before block k + 1: no row is
            predicted from a later one. None holds out one part.
        members: How many networks are trained; the model is their mean. The seeds of member m are those of the trainer
            and of the model plus m, and so it has a held-out part of its own. All share one ``preprocess``, which is
            learnt from the rows that some member trains on.

    Raises:
        SettingsError: A setting is unknown, missing or wrong.

    Example:
        >>> from framework import CSV, AdamOptimizer, BinaryCrossEntropy, Neuron, Sigmoid, Trainer
        >>> experiment = Experiment(
        ...     data=CSV("income.csv", target="income"),
        ...     model=Neuron(activation=Sigmoid()),
        ...     trainer=Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(), epochs=20),
        ...     validation=0.2,
        ... )
        >>> experiment.save("income.toml")
        >>> Experiment.read("income.toml", ["trainer.epochs=5"]).trainer.epochs
        5
    """

    data: TableFile
    model: Model
    trainer: Trainer
    validation: Annotated[float, Field(gt=0, lt=1)] | TableFile | None = None
    holdout: Literal["random", "stratified", "last"] = "random"
    groups: str | None = None
    fold: Annotated[int, Field(ge=0)] | None = None
    members: Count = 1

    def model_post_init(self, context: object) -> None:
        """Check that there are rows to hold out where ``holdout``, ``groups``, ``fold`` or ``members`` needs them."""
        drawn = "groups" if self.groups is not None else "holdout" if self.holdout != "random" else ""
        if drawn and not isinstance(self.validation, float):
            problem = "says which rows of the data are held out, so 'validation' must be a part such as 0.2"
            raise SettingsError(problem, name=f"setting '{drawn}'", got=self.validation)
        if self.groups is not None and self.holdout == "last":
            raise SettingsError(
                'must be "random" or "stratified" where there are groups',
                name="setting 'holdout'",
                got=Text("'last', which may cut a group in two"),
                advice="leave out holdout or groups",
            )
        size = self.validation if isinstance(self.validation, float) else 1.0
        if self.fold is not None and not (math.isclose(round(1 / size) * size, 1) and self.fold < round(1 / size) > 1):
            raise SettingsError(
                "must be one of 0 to K - 1, where 'validation' is 1 / K, such as 0.2; got "
                f"{self.fold}, and validation = {brief(self.validation)}",
                name="setting 'fold'",
            )
        if self.members > 1:
            self._require_members()

    def _require_members(self) -> None:
        """Check that members can differ, and can be judged."""
        said, where = f"members = {self.members}", ("Experiment",)
        if self.validation is None:
            raise SettingsError(f"{said} needs rows that judge them: write validation = 0.2", where=where)
        if self.fold is not None:
            raise SettingsError(
                f"{said} are not cross-validated: write members = 1 in the file, or --set members=1; or leave out "
                "'fold', or --folds of a sweep",
                where=where,
            )
        if "seed" not in type(self.model).model_fields:
            kind = type(self.model).__name__
            raise SettingsError(
                f"{said} start from different weights, so the model needs a seed, which {kind} does not have: write "
                f"Sequential with the {kind} as its layer",
                where=where,
            )

    def __eq__(self, other: object) -> bool:
        """Compare the settings, also those of the model, whose weights do not count."""
        return repr(self) == repr(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    @classmethod
    def read(cls, path: str | os.PathLike[str], changes: Iterable[str] = ()) -> Self:
        """Read a file, of which ``.json`` is JSON and anything else TOML.

        Classes are looked up among those that the program has defined; nothing is imported.

        Args:
            path: The file.
            changes: Settings that replace those of the file, such as ``"trainer.epochs=20"``, in any order.

        Raises:
            SettingsError: The file cannot be read, or a setting is unknown, missing or wrong: names the line.
        """
        name = os.fspath(path)
        try:
            settings, lines = read_settings(read_text(path, "an experiment"), name)
        except SettingsError as error:
            if leads_to(path) == "file":
                raise
            hint = "framework resume continues the run of a folder" if leads_to(Path(path, "experiment.toml")) else ""
            hint = hint if leads_to(path) else "framework new writes one for a table"
            raise error.advise(hint) from None
        parsed_changes = {text: parse_change(text) for text in changes}
        made: Self = build(apply_changes(settings, parsed_changes), cls, places(name, lines, parsed_changes))
        return made

    def variants(self, trials: Iterable[Iterable[str]]) -> Iterator[Self]:
        """Give the experiment with the changes of each trial, such as ``"trainer.epochs=20"``; each model is new.

        Numbers of inputs that came from the units of a layer before come from them again.

        Raises:
            SettingsError: A setting is unknown or wrong.
        """
        bare = self.bare()
        for changes in trials:
            parsed_changes = {text: parse_change(text) for text in changes}
            yield build(apply_changes(bare, parsed_changes), type(self), places("the experiment", {}, parsed_changes))

    def bare(self) -> dict[str, Any]:
        """Return the settings as the tables of a file, without numbers of inputs that the layers before give."""
        settings, _ = read_settings(self.to_toml(), "to_toml")
        bare = drop_inferred_inputs(settings)
        return bare if build(bare, type(self), str) == self else settings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file from which ``read`` builds an equal experiment; ``.json`` is JSON, anything else TOML.

        Raises:
            SettingsError: A setting has no form in the file, or the file cannot be written.
        """
        name = os.fspath(path)
        text = f"{self.to_json(indent=2)}\n" if name.endswith(".json") else self.to_toml()
        write_whole(path, text)

    def to_toml(self) -> str:
        """Return the settings as TOML. Those that are None are left out.

        Raises:
            SettingsError: A setting is None and its default is not; JSON can hold it.
        """
        text = to_toml(json.loads(self.to_json()))
        settings, _ = read_settings(text, "to_toml")
        if build(settings, type(self), str).to_json() != self.to_json():
            raise SettingsError(
                "to_toml: a setting is None and its default is not, but TOML has no None; save as .json"
            )
        return text

    def parts(self) -> tuple[Any, Any]:
        """Return the training data and the validation data, or None for it, as ``fit`` takes them.

        Rows without a target are left out, with a warning that counts them.

        Raises:
            DataError: A table cannot be read, or no row has a target.
            SettingsError: ``validation`` leaves a part empty.
        """
        if isinstance(self.validation, float):
            train, held_out = next(self._splits(self._rows_with_target()))
            return in_memory(train.given), in_memory(held_out.given)
        data = in_memory(drop_unlabelled(self.data))
        if self.validation is None:
            return data, None
        with within("validation"):
            return data, in_memory(drop_unlabelled(read_alike(self.validation, self.data)))

    def _rows_with_target(self) -> Any:
        """Return the rows with a target, without the column of the groups unless ``data.columns`` lists it."""
        data = self.data
        if self.groups is not None and data.columns is None:
            data = data.replace(columns=[name for name in data.names if name != self.groups])
        return drop_unlabelled(data)

    def _splits(self, rows: Any) -> Iterator[tuple[Any, Any]]:
        """Give the training part and the held-out part of the rows for each member."""
        assert isinstance(self.validation, float)
        classes = classes_of(rows)[1] if self.holdout == "stratified" else None
        groups = None if self.groups is None else groups_of(rows, self.groups)
        for number in range(self.members):
            seed = None if self.holdout == "last" else self.trainer.seed + number
            yield hold_out(rows, self.validation, seed, "validation", self.fold, classes, groups)

    def member(self, number: int) -> Self:
        """Return the experiment of one of the ``members``, which has the seeds of this one plus its number.

        Example:
            >>> from framework import CSV, MeanSquaredError, Neuron, SGDOptimizer, Trainer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), seed=7)
            >>> data = CSV("line.csv", target="y")
            >>> whole = Experiment(data=data, model=Neuron(), trainer=trainer, validation=0.2, members=3)
            >>> member = whole.member(2)
            >>> member.trainer.seed, member.model.seed, member.members
            (9, 2, 1)
        """
        model = _with_seeds(self.model, number, first=True)
        return self.replace(model=model, trainer=self.trainer.replace(seed=self.trainer.seed + number), members=1)

    def held_out(self) -> tuple[Any, Array]:
        """Return the rows with a target, and whether each member holds them out, (members, rows)."""
        rows: Any = self._rows_with_target()
        return rows, np.array([held.given.draw.whole for _, held in self._splits(rows)])

    def moved(self, folder: str | os.PathLike[str]) -> Self:
        """Return the experiment with the paths of its tables absolute; ``folder`` is what they are relative to."""
        changes = {
            name: table.replace(path=_move_path(table.path, Path(folder).absolute()))
            for name, table in (("data", self.data), ("validation", self.validation))
            if isinstance(table, TableFile)
        }
        return self.replace(model=self.model.copy(), **changes)


def _move_path(path: Any, folder: Path) -> Any:
    """Return a path, or each of several, behind a folder; URLs and absolute paths stay as they are."""
    if not isinstance(path, str):
        return tuple(_move_path(single, folder) for single in path)
    return path if "://" in path else str(real_path(folder / Path(os.path.expanduser(path))))  # noqa: PTH111


def _with_seeds(model: Model, number: int, *, first: bool = False) -> Model:
    """Return a new model whose seeds are higher by a number; the first model has one in any case."""
    settings = with_models(model.settings(), lambda inner: _with_seeds(inner, number))
    if first or settings.get("seed") is not None:
        settings["seed"] = (settings["seed"] or 0) + number
    return model._build_from(settings)


def score(value: Any, mode: str) -> float:
    """Return a number that is smaller for a better figure."""
    if value is None or not math.isfinite(value):
        return math.inf
    return float(-value if mode == "max" else value)


def choose_objective(experiment: Experiment, objective: str | None, mode: str | None) -> tuple[str, str]:
    """Return the column by which runs of an experiment are judged, and its mode."""
    trainer = experiment.trainer
    columns = trainer.columns(validated=experiment.validation is not None)
    monitored = {key: value for callback in trainer.callbacks for key, value in callback.judged().items()}
    if objective is None:
        objective = next(iter(monitored), "val_loss" if "val_loss" in columns else "loss")
    if objective not in columns:
        raise SettingsError(
            f"--objective {objective}: the history will not have it{nearest(objective, columns) or '.'} "
            f"Columns: {', '.join(columns)}"
        )
    better = trainer.figures.better.get(objective.removeprefix("val_"))
    known = {"greater": "max", "smaller": "min"}.get(better or "", mode or monitored.get(objective))
    if known is None:
        raise SettingsError(f"--objective {objective}: give --mode min or max; the figure does not say which is better")
    if mode not in (None, known):
        raise SettingsError(f"--mode {mode}: {objective} is better when it is {better}; leave --mode out")
    return objective, known
