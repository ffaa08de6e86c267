"""Writes the formula and the curve with which the page of a name begins; ``docs/build.py`` calls it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import isabstract, isclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import framework
from framework.backends.text import Shown
from framework.base.errors import FrameworkError
from framework.base.lazy import families, import_public
from framework.graph.graph import Graph, rewrite
from framework.graph.node import Node, order_nodes
from framework.graph.textbook import tidy
from framework.graph.trace import trace
from framework.training.engines.records import rehearse_update
from framework.views.plots import activation, style

KINDS = (framework.Activation, framework.Loss, framework.Optimizer, framework.models.Regularizer, framework.Schedule)

SETTINGS: dict[str, Any] = {
    "decay": 0.05,
    "every": 25,
    "initial": 0.1,
    "learning_rate": 0.1,
    "length": 100,
    "maximum": 0.1,
    "milestones": (40, 80),
    "rate": 0.1,
    "schedule": framework.CosineSchedule(initial=0.1, length=80),
    "strength": 0.01,
}
"""Values for settings without a default."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "CosineRestartsSchedule": {"length": 30},
    "ExponentialSchedule": {"decay": 0.97},
    "LionOptimizer": {"weight_decay": 0.01},
    "SGDOptimizer": {"momentum": 0.9},
    "StepSchedule": {"decay": 0.5},
    "WarmupSchedule": {"length": 20},
}
"""Settings of some classes that show more than others."""

SYMBOLS = {
    "prediction": "p",
    "target": "t",
    "value": "l",
    "values": "w",
    "gradients": "g",
    "gradient": "g",
    "rate": r"\eta",
    "step": "n",
    "mean": "m",
    "square": "v",
    "squares": "v",
}
"""Letters for names in a formula."""

RANGES: list[tuple[float, float, tuple[float, ...]]] = [
    (-3.0, 3.0, (0.0,)),
    (-3.0, 3.0, (1.0, -1.0)),
    (0.05, 6.0, (2.0,)),
    (0.005, 0.995, (1.0, 0.0)),
]
"""The least and the largest prediction and the targets that a loss is drawn with: the first that it takes."""


def write_formulas(folder: Path) -> None:
    """Write NAME.txt with the formula of each class that has one, and NAME.svg with its curve."""
    folder.mkdir(parents=True)
    for example in examples():
        name = type(example).__name__
        lines, latex, figure = [f"``{example!r}``", ""], latex_of(example), Figure((6.0, 3.2), layout="constrained")
        if latex:
            lines += [".. math::", "", rf"   \begin{{aligned}}{latex}\end{{aligned}}", ""]
        if draw(example, figure):
            figure.savefig(folder / f"{name}.svg", facecolor="none", metadata={"Date": None})
            lines += [
                f".. image:: /api/formulas/{name}.svg",
                f"   :alt: The curve of {name}",
                "   :class: dark-light",
                "",
            ]
        if len(lines) > 2:
            (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")


def examples() -> Iterator[Any]:
    """Yield an activation, loss, optimizer, regularizer or schedule of each public class."""
    for name in families():
        kind = import_public(name)
        if (
            isclass(kind)
            and issubclass(kind, KINDS)
            and not isabstract(kind)
            and kind is not framework.formulas.OutputLosses
        ):
            required = [field for field, details in kind.model_fields.items() if details.is_required()]
            example = kind(**{field: SETTINGS[field] for field in required} | DEFAULTS.get(name, {}))
            yield example.over(100) if isinstance(example, framework.Schedule) else example


def latex_of(example: Any) -> str:
    """Return the formula and its derivative, or what an optimizer assigns, as lines of LaTeX; empty without any."""
    if isinstance(example, framework.Optimizer):
        latex = Shown(assignments(example)).latex.replace("&=", r"&\leftarrow")
    elif isinstance(example, framework.models.Regularizer):
        latex = Shown({"value(values)": trace(example.value, {"values": (3, 3)}).output}).latex
    elif isinstance(example, framework.Schedule):
        return ""
    else:
        latex = framework.show(example).latex
    latex = re.sub(r"_\{\\mathrm\{axis\} = -?\d+\}", "", latex)  # there is one axis to sum over
    return re.sub(r"\\mathrm\{(\w+)\}", lambda match: SYMBOLS.get(match[1], match[0]), latex)


def assignments(optimizer: Any) -> dict[str, Any]:
    """Return what an optimizer assigns, in an order in which no line reads what a line before it has changed."""
    record = rehearse_update(optimizer, "float64")
    names = {f"memory_{place}": name for place, name in enumerate(optimizer.memory)}

    def rule(graph: Graph, node: Node, _: Any) -> Any:
        return graph.input(names.get(node.name, node.name), node.shape) if node.op == "input" else None

    changed = {name: node for name, node in record.outputs.items() if node is not record.inputs[name]}
    outputs = rewrite(changed.values(), rule)
    inputs = {node for node in order_nodes(outputs) if node.op == "input"}
    lines = {names.get(name, name): tidy(node, inputs) for name, node in zip(changed, outputs, strict=True)}

    def is_clear(order: tuple[str, ...]) -> bool:
        for place, name in enumerate(order):
            read = order_nodes([lines[name]], [lines[before] for before in order[:place]])
            if {node.name for node in read if node.op == "input"} & {*order[:place]}:
                return False
        return True

    order = next(filter(is_clear, permutations([*(name for name in lines if name != "values"), "values"])))
    return {name: lines[name] for name in order}


def draw(example: Any, figure: Figure) -> bool:
    """Draw the curve of an activation, of a loss of numbers or of a schedule; return whether there is one."""
    if isinstance(example, framework.Activation) and not example.coupled:
        activation(example, axis=figure.subplots())
        return True
    if isinstance(example, framework.Schedule):
        axis = style.axes(figure.subplots(), "schedule")
        steps = range(121)
        axis.plot(steps, [example(step) for step in steps], color=style.COLORS[0], linewidth=2.2)
        axis.set_xlabel("step")
        axis.set_ylabel("rate")
        axis.set_ylim(bottom=0.0)
    elif isinstance(example, framework.Loss) and not example.by_row:
        axis = style.axes(figure.subplots(), "loss")
        low, high, targets = next(filter(lambda chosen: takes(example, *chosen), RANGES))
        prediction, handles = np.linspace(low, high, 401), []
        for color, target in zip(style.COLORS, targets, strict=False):
            goal = np.full_like(prediction, target)
            for of, dashes in ((example.value, "-"), (example.slope, style.DASHED)):
                label = f"{'value' if dashes == '-' else 'slope'} for t = {target:g}"
                handles += axis.plot(
                    prediction, of(prediction, goal), color=color, linestyle=dashes, linewidth=2.0, label=label
                )
        axis.set_xlabel("p")
        axis.set_ylim(max(-4.0, axis.get_ylim()[0]), min(6.0, axis.get_ylim()[1]))
        style.legend(axis, handles)
    else:
        return False
    style.open_frame(axis)
    return True


def takes(loss: Any, low: float, high: float, targets: tuple[float, ...]) -> bool:
    """Return whether a loss is defined for predictions in a range, and for these targets."""
    try:
        for target in targets:
            loss(np.array([low, high]), np.array([target, target]))
    except FrameworkError:
        return False
    return True
