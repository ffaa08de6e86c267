"""Preprocess: which steps each column takes; ``fit`` learns their numbers in one pass over blocks of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, cast, get_args

from framework.base.errors import DataError, SettingsError, brief, nearest, shorten
from framework.base.frames import Frame, Kind
from framework.base.settings.component import Component, Named, _from_text
from framework.base.tables import as_html
from framework.data.sources import source_of
from framework.preprocessing.categories import Classes
from framework.preprocessing.fitted import FittedPreprocess, format_steps
from framework.preprocessing.numbers import Drop, Impute
from framework.preprocessing.proposing import code, propose, rules
from framework.preprocessing.reading import TARGET, Block, Blocks, kinds_of, raw_column
from framework.preprocessing.steps import Column, ColumnStep

_KINDS = tuple(f"<{kind}>" for kind in get_args(Kind))


class Preprocess(Component):
    """Which steps each column of a table takes on its way to the model.

    ``Trainer(preprocess=...)`` fits it on the training data, and the result belongs to the model. A column takes the
    steps of its name; else those of the first pattern that fits, where ``*`` stands for any characters; else those of
    its kind: ``<number>``, ``<boolean>``, ``<text>``, ``<category>``, ``<date>``, ``<duration>`` or ``<other>``; else
    those of ``"*"`` alone.

    Attributes:
        columns: The steps by name, pattern or kind. No steps leave numbers as they are.
        target: The steps of the target; of several targets, a dict of them by name, pattern or kind. A list is the same
            as ``{"*": ...}``.

    Raises:
        SettingsError: In ``fit``: a kind is misspelt, a column fits no rule, a rule fits no column, or a step does not
            take what the column holds.

    Example:
        >>> import pandas
        >>> from framework import OneHot, Preprocess, Standardize
        >>> from framework.preprocessing import Classes
        >>> table = pandas.DataFrame({"age": [20, 40], "city": ["Rome", "Oslo"], "late": ["no", "yes"]})
        >>> recipe = Preprocess(columns={"age": [Standardize()], "<text>": [OneHot(20)]}, target=[Classes()])
        >>> fitted = recipe.fit((table, "late"))
        >>> fitted.names
        ('age', 'city=Oslo', 'city=Rome')
        >>> fitted.transform(table)
        array([[-1.,  0.,  1.],
               [ 1.,  1.,  0.]])
    """

    columns: Named[tuple[ColumnStep, ...]]
    target: Named[tuple[ColumnStep, ...]] = ()

    def __init__(self, columns: Any, target: Any = ()) -> None:
        pairs = isinstance(target, list | tuple) and all(isinstance(item, tuple | list) for item in target)
        if not isinstance(target, Mapping) and not pairs:
            target = {"*": target} if target else ()
        super().__init__(columns=_as_lists(columns), target=_as_lists(target))

    @classmethod
    def of(cls, data: Any, target: str | Sequence[str] | None = None) -> Self:
        """Return a recipe that suits some data; ``print`` shows it as Python code.

        Numbers are standardised and clipped, after a logarithm where some are much larger than most. Missing ones
        become the median, also where only later rows have some. Text, and whole numbers of 3 to 10 different values,
        become columns of 0 and 1. Dates become their parts that change, without the month where all dates are of one
        year. Columns that are always the same, without values or different in each row, such as ids, are dropped. A
        target of text, booleans or up to 20 different whole numbers has classes. Look at the proposal: what a number
        means cannot be seen from the data.

        Args:
            data: A table, (table, "target"), or a Dataset of tables; read whole, in blocks.
            target: The name of the target's column, or of several.

        Example:
            >>> import pandas
            >>> table = pandas.DataFrame(
            ...     {"age": [31.5, None, 40.0, 52.0], "city": ["Rome", "Oslo", "Rome", "Bern"], "late": [0, 1, 0, 1]}
            ... )
            >>> print(Preprocess.of(table, target="late"))
            Preprocess(
                columns={
                    "age": [Impute("median"), Standardize(), Clip()],
                    "city": [OneHot()],
                },
                target=[Classes()],
            )
        """
        proposals, goals = propose(data, target, name="Preprocess.of")
        return cls(
            columns={key: steps for key, (steps, _) in rules(proposals).items()},
            target={"*" if len(goals) == 1 else goal.column: goal.steps for goal in goals},
        )

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows: each name, pattern or kind with its steps."""
        rows = [("column", key, shorten(format_steps(steps))) for key, steps in self.columns]
        rows += [("target", key, shorten(format_steps(steps))) for key, steps in self.target]
        return as_html([("", "name, pattern or <kind>", "steps"), *rows], left=3)

    def __str__(self) -> str:
        """Return the recipe as Python code."""
        return code(dict(self.columns), dict(self.target))

    def fit(self, data: Any, name: str = "Preprocess.fit") -> FittedPreprocess:
        """Return the recipe with the numbers that follow from some data.

        One pass over the data is enough, unless a step learns from what another one that learns has changed, as in
        ``[QuantileTransform(), Standardize()]``; each such step takes a further pass. Blocks have 65,536 rows whatever
        the source, so the same rows give the same bits from memory and from files.

        Args:
            data: (table, "target"), (table, y), a table, a Dataset whose ``read`` gives tables, or a Stream of tables,
                of which epoch 0 is read.
            name: The caller, for messages.

        Raises:
            SettingsError: A rule and the columns do not fit together; names the column.
            DataError: A value has no answer; names the column and the row.
        """
        source = source_of(data, name, alone=True)
        blocks = Blocks(source)
        if blocks.whole is not None and blocks.whole.x.rows == 0:
            raise DataError("must have at least one row; got none", name=f"{name}: argument 'data'")
        kinds, target_kinds, zones = kinds_of(blocks)
        target_kinds = target_kinds if self.target else {}
        chosen = _choose_steps(self.columns, kinds, f"{name}: column", "columns")
        chains = [
            _Chain(label, kind, steps, f"{name}: column {label!r}", zones.get(label)) for label, kind, steps in chosen
        ]
        titles = {source.target or label or TARGET: kind for label, kind in target_kinds.items()}
        chosen = _choose_steps(self.target, titles, f"{name}: target", "target") if titles else []
        goals = [_Chain(title, kind, steps, f"{name}: target {title!r}") for title, kind, steps in chosen]
        for goal in goals:
            goal.require_target()
        while any(chain.open for chain in (*chains, *goals)):
            for block in blocks:
                for chain in chains:
                    chain.gather(block.x, chain.label, block)
                for goal, label in zip(goals, target_kinds, strict=True):
                    goal.gather(cast("Frame", block.y), label, block)
            for chain in (*chains, *goals):
                chain.learn()
        kept = [chain for chain in chains if not any(isinstance(step, Drop) for step in chain.steps)]
        fitted = FittedPreprocess(
            columns={chain.label: chain.steps for chain in kept},
            kinds=[chain.kind for chain in kept],
            zones={chain.label: chain.zone for chain in kept if chain.zone is not None},
            target={goal.label: goal.steps for goal in goals},
            target_kinds=[goal.kind for goal in goals],
            recipe=self,
        )
        fitted.require_outputs(name)
        return fitted


def _as_lists(rules: Any) -> Any:
    """Return rules by name in which a single step is a list of one.

    Raises:
        SettingsError: A step has no name of a column, or what a column takes is not a step.
    """
    if isinstance(rules, ColumnStep):
        raise SettingsError(f"Preprocess: setting 'columns' must have steps by name, as {{'<number>': [{rules!r}]}}")
    for key, steps in rules.items() if isinstance(rules, Mapping) else ():
        for step in steps if isinstance(steps, list | tuple) else (steps,):
            if not isinstance(step, ColumnStep | Mapping | int | float | None):  # pydantic has the place of numbers
                meant = _from_text(ColumnStep, getattr(step, "__name__", step))
                advised = repr(meant) if isinstance(meant, ColumnStep) else "Standardize()"
                raise SettingsError(f"Preprocess: {key!r} must have a list of steps, as [{advised}]; got {brief(step)}")
    rules = rules.items() if isinstance(rules, Mapping) else rules
    if not isinstance(rules, Iterable) or not all(isinstance(rule, tuple) and len(rule) == 2 for rule in [*rules]):
        return rules
    return tuple((key, (steps,) if isinstance(steps, ColumnStep) else steps) for key, steps in rules)


def _choose_steps(
    rules: Sequence[tuple[str, tuple[ColumnStep, ...]]], kinds: Mapping[str, Kind], where: str, setting: str
) -> list[tuple[str, Kind, tuple[ColumnStep, ...]]]:
    """Return each column with its kind and its steps."""
    steps = dict(rules)
    for key in steps:
        if re.fullmatch(r"<\w+>", key) and key not in {*_KINDS, *kinds}:
            raise SettingsError(
                f"Preprocess: there is no kind {key!r}{nearest(key, _KINDS) or '.'} Kinds: {', '.join(_KINDS)}"
            )
    used = {key for key in steps if key in _KINDS}
    chosen = []
    patterns = {key: ".*".join(map(re.escape, key.split("*"))) for key in steps if "*" in key and key != "*"}
    for label, kind in kinds.items():
        keys = [*(key for key in steps if key == label)]
        keys += [key for key, pattern in patterns.items() if re.fullmatch(pattern, label, re.DOTALL)]
        keys += [key for key in (f"<{kind}>", "*") if key in steps]
        used.update(keys)
        if not keys:
            drop = ", with [Drop()] to leave it out" if setting == "columns" else ""
            problem = f"{where} {label!r} ({kind}) fits no rule of the Preprocess"
            raise SettingsError(problem, advice=f"write {label!r}: [...] or '<{kind}>': [...] in {setting}{drop}")
        chosen.append((label, kind, steps[keys[0]]))
    if unused := [key for key in steps if key not in used]:
        raise SettingsError(
            f"{where} {unused[0]!r} has a rule in the Preprocess, but is not in the data"
            f"{nearest(unused[0], kinds) or '.'} {setting.capitalize()}: {', '.join(kinds)}"
        )
    return chosen


class _Chain:
    """The steps of one column while they learn."""

    def __init__(
        self, label: str, kind: Kind, steps: Sequence[ColumnStep], where: str, zone: str | None = "own"
    ) -> None:
        self.label, self.kind, self.steps, self.where, self.zone = label, kind, list(steps), where, zone
        self.advice = ["drop such rows first"] if "target" in where else []
        self.statistics: dict[int, list[Any]] = {}

    @property
    def open(self) -> bool:
        """Whether some step still has numbers to learn."""
        return any(step.open for step in self.steps)

    def gather(self, frame: Frame, label: str, block: Block) -> None:
        """Add a column of a block, which ``frame`` has, to the statistics of the next steps that learn.

        After an ``Impute`` that learns in this pass, missing values stay missing. Its value is the same for each of
        them, so ``learn`` counts it for the later steps once it is known.
        """
        if not self.open:
            return
        column, filled = raw_column(frame, label, self.where, self.kind, block.start, self.zone), False
        column = replace(column, weight=block.weight)
        for index, step in enumerate(self.steps):
            step.require(column)
            if not step.open:
                column = step.apply(column)
                continue
            if not filled and step.missing == "refused":
                column.require_present(*self.advice)
            kept = self.statistics.setdefault(index, [step.statistic() for _ in column.arrays])
            step.gather(column, kept)
            if step.missing != "filled":
                return
            filled = True

    def learn(self) -> None:
        """Let each step learn from what it has gathered, in order."""
        filling: Column | None = None  # one row: what is filled in for missing values
        for index, step in enumerate(self.steps):
            statistics = self.statistics.pop(index, None)
            if statistics is None:
                if step.open:
                    return
                filling = None if filling is None else step.apply(filling)
                continue
            if filling is not None:
                step.count_missing(statistics, filling)
            self.steps[index] = learnt = step.learnt(statistics, self.where)
            if isinstance(learnt, Impute):
                filling = learnt.filling(self.where, boolean=self.kind == "boolean")

    def require_target(self) -> None:
        """Refuse steps that have no meaning for a target.

        Raises:
            SettingsError: Names the step.
        """
        for step in self.steps:
            if not isinstance(step, Classes) and type(step).inverse is ColumnStep.inverse:
                raise SettingsError(
                    f"{self.where}: {type(step).__name__} does not fit a target, as it cannot be undone; "
                    "for classes write Classes()"
                )
