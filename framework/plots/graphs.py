"""Graphs: the layers of a model and the operations of a formula, as boxes with arrows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.emit.text import Shown, plain
from framework.extras import required
from framework.graph.node import Node, ordered
from framework.plots.style import COLORS, INK, axes, literal, require_model, size_of
from framework.shapes import of_rows, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def graph(model: Any, *, axis: Axes | None = None) -> Axes:
    r"""Draw the layers of a model, or the operations of a formula, as boxes from top to bottom.

    The box of a layer has the shape of its output and the number of its parameters. The models of a Join and of Heads
    stand side by side, and a line beside a Residual's layers is its input, which is added to their output. Another
    Composite is one box. The box of an operation begins with the name of its result.

    Args:
        model: A model; or an activation or a loss, whose formula is drawn as the framework has traced it.
        axis: The axes to draw on; None makes a figure of the size that the boxes need.

    Raises:
        SettingsError: ``model`` is neither a model nor an activation or a loss.
        DerivativeError: The formula cannot be traced.
        UsageError: The model's inputs are not known yet.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import Dense, ReLU, Sequential, Softmax
        >>> axis = graph(Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax())), axis=Figure().subplots())
        >>> [str(text.get_text()) for text in axis.texts if text.get_text()]
        ['input\n(rows, 4)', '0 Dense(ReLU)\n(rows, 8), 40 parameters', '1 Dense(Softmax)\n(rows, 3), 27 parameters']
    """
    formula = not isinstance(model, type) and hasattr(model, "program") and not hasattr(model, "input_shape")
    part = _operations(model) if formula else _layers(model)
    inch = 1.0  # the scale at which the boxes fit into the axes
    if axis is not None and hasattr(axis, "get_position"):
        across, down = size_of(axis)
        inch = min(across / part.width, down / part.height, 1.0)
    axis = axes(axis, "graph", width=part.width + 0.2, height=part.height + 0.2)
    patches = required("matplotlib.patches", "plots.graph")
    fill = required("matplotlib.colors", "plots.graph").to_rgba(COLORS[0], 0.18)
    for box in part.boxes:
        axis.add_patch(
            patches.FancyBboxPatch(
                (box.x - box.width / 2, box.y - _HIGH),
                box.width,
                _HIGH,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=fill if box.filled else "none",
                edgecolor=INK,
                linewidth=1.2,
            )
        )
        axis.text(box.x, box.y - _HIGH / 2, literal(box.text), color=INK, ha="center", va="center", fontsize=9 * inch)
    for arrow in part.arrows:
        axis.plot(*zip(*arrow, strict=True), color=INK, linewidth=1.2)
        tip: dict[str, Any] = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", arrow[-1], arrow[-2], arrowprops=tip)
    axis.set(xlim=(-part.width / 2 - 0.1, part.width / 2 + 0.1), ylim=(-part.height - 0.1, 0.1), aspect="equal")
    axis.set_axis_off()
    return axis


_HIGH = 0.46
"""The height of a box, and between boxes, in inches."""
_GAP = 0.3


@dataclass
class _Box:
    """A box: the middle of its upper side, its width, and its text."""

    x: float
    y: float
    width: float
    text: str
    filled: bool


@dataclass
class _Part:
    """A part of a graph, which begins in the middle of its upper side, at (0, 0), and grows downwards."""

    width: float
    height: float
    boxes: list[_Box] = field(default_factory=list)
    arrows: list[list[tuple[float, float]]] = field(default_factory=list)
    fans: bool = False  # whether it brings the arrows from the part above it

    def take(self, other: _Part, x: float, y: float) -> None:
        """Take the boxes and arrows of another part in, moved to (x, y)."""
        self.boxes += [_Box(box.x + x, box.y + y, box.width, box.text, box.filled) for box in other.boxes]
        self.arrows += [[(a + x, b + y) for a, b in arrow] for arrow in other.arrows]


def _box(text: str, *, filled: bool = False) -> _Part:
    width = max(map(len, text.splitlines())) * 0.078 + 0.24
    return _Part(width, _HIGH, [_Box(0.0, 0.0, width, text, filled)])


def _stacked(parts: list[_Part]) -> _Part:
    """Return parts one below the other, with an arrow from each to the next."""
    whole = _Part(max(part.width for part in parts), -_GAP)
    for place, part in enumerate(parts):
        if place and not part.fans:
            whole.arrows.append([(0.0, -whole.height), (0.0, -whole.height - _GAP)])
        whole.height += _GAP
        whole.take(part, 0.0, -whole.height)
        whole.height += part.height
    return whole


def _beside(parts: list[_Part], *, fans: bool, joins: bool) -> _Part:
    """Return parts side by side; arrows lead to each from above, or from each to the middle below."""
    width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
    tallest, top = max(part.height for part in parts), _GAP if fans else 0.0
    whole = _Part(width, top + tallest + (_GAP if joins else 0.0), fans=fans)
    left = -width / 2
    for part in parts:
        x = left + part.width / 2
        whole.take(part, x, -top)
        if fans:
            whole.arrows.append([(0.0, _GAP), (x, -top)])
        if joins:
            whole.arrows.append([(x, -top - part.height), (x, -top - tallest), (0.0, -whole.height)])
        left += part.width + _GAP
    return whole


def _layers(model: Any) -> _Part:
    """Return a model and its input as a graph."""
    require_model(model, "graph")
    shape = model.known_shape
    part = _drawn(model, "", shape)
    if isinstance(shape, dict):  # the models of a Join draw their own
        return part
    return _stacked([_box(f"input\n{shown(of_rows(shape))}"), part])


def _drawn(model: Any, name: str, shape: Any) -> _Part:
    """Return a model that samples of this shape go through as a part of a graph."""
    start = f"{name}." if name else ""
    rows = model._summary_rows(name, shape)
    if branches := model.branches(_zeros(shape)):
        joins = isinstance(shape, dict)
        parts = []
        for key, (part, _) in branches.items():
            given = shape[key] if joins else part.narrowed(shape)
            drawn = _drawn(part, start + key, (1,) if given == () and not part.takes(()) else given)
            parts.append(_stacked([_box(f"input {key}\n{shown(of_rows(given))}"), drawn]) if joins else drawn)
        side_by_side = _beside(parts, fans=not joins, joins=joins)
        if not joins:
            return side_by_side
        joined = _box(f"{rows[0][0]}\n{shown(of_rows(rows[0][1]))}")
        side_by_side.take(joined, 0.0, -side_by_side.height)
        side_by_side.height += joined.height
        side_by_side.width = max(side_by_side.width, joined.width)
        return side_by_side
    parts = []
    for key, part in model.chain.items():
        shape = part.narrowed(shape)
        parts.append(_drawn(part, start + key, shape))
        shape = part.infer_shape(shape)
    if [*model.chain] == ["block"]:  # a Residual
        return _with_bypass(parts[0], f"{name} Residual: x + block(x)\n{shown(of_rows(shape))}".strip())
    return _stacked(parts) if parts else _layer(rows)


def _with_bypass(block: _Part, text: str) -> _Part:
    """Return a block, a box for the sum, and a line to that box from the arrow above the block."""
    total = _box(text)
    whole = _stacked([block, total])
    right = whole.width / 2 + _GAP
    whole.width = 2 * right
    above, middle = _GAP / 2, _HIGH / 2 - whole.height
    whole.arrows.append([(0.0, above), (right, above), (right, middle), (total.width / 2, middle)])
    return whole


def _layer(rows: list[tuple[str, Any, int]]) -> _Part:
    """Return the box of a layer, or of a model whose inside is not drawn."""
    numbers = sum(size for _, _, size in rows)
    counted = f", {numbers:,} parameters" if numbers else ""
    return _box(f"{rows[0][0].removesuffix('()')}\n{shown(of_rows(rows[0][1]))}{counted}", filled=numbers > 0)


def _zeros(shape: Any) -> Any:
    """Return a sample in a batch of its own; an open size counts as 1."""
    if isinstance(shape, dict):
        return {name: _zeros(each) for name, each in shape.items()}
    return np.zeros((1, *(size if isinstance(size, int) else 1 for size in shape)))


def _operations(formula: Any) -> _Part:
    """Return the operations of a formula as a graph: each below all those that it reads."""
    output = plain(formula.program().output)
    if not isinstance(output, Node):
        return _box(f"f = {output:g}")
    nodes = [node for node in ordered([output]) if plain(node) is node]
    names = _names(nodes)
    steps = [node for node in nodes if node.args]
    lines = Shown({names[node]: node for node in steps}).text.splitlines() if steps else []
    texts = names | dict(zip(steps, lines, strict=True))
    depths: dict[Node, int] = {}
    for node in nodes:
        depths[node] = 1 + max((depths[arg] for arg in _read(node)), default=-1)
    # Of each arrow, the places in the rows that it passes: (parent, node, row).
    passing = {
        (parent, node, row): row
        for node in nodes
        for parent in _read(node)
        for row in range(depths[parent] + 1, depths[node])
    }
    whole = _Part(0.0, (max(depths.values()) + 1) * (_HIGH + _GAP) - _GAP)
    places: dict[Any, float] = {}
    for row in range(max(depths.values()) + 1):
        items = [item for item, depth in (depths | passing).items() if depth == row]
        items.sort(key=lambda item: _mean_of_parents(item, places))
        parts = [_box(texts[item]) if item in texts else _Part(0.2, 0.0) for item in items]
        width = sum(part.width for part in parts) + _GAP * (len(parts) - 1)
        whole.width, left = max(whole.width, width), -width / 2
        for item, part in zip(items, parts, strict=True):
            places[item] = left + part.width / 2
            whole.take(part, places[item], -row * (_HIGH + _GAP))
            left += part.width + _GAP
    for node in nodes:
        whole.arrows += [_arrow(parent, node, depths, places) for parent in _read(node)]
    return whole


def _arrow(parent: Node, node: Node, depths: Mapping[Node, int], places: Mapping[Any, float]) -> list[Any]:
    """Return the points of an arrow, which passes straight through the rows between."""
    points = [(places[parent], -depths[parent] * (_HIGH + _GAP) - _HIGH)]
    for row in range(depths[parent] + 1, depths[node]):
        x, top = places[parent, node, row], -row * (_HIGH + _GAP)
        points += [(x, top), (x, top - _HIGH)]
    return [*points, (places[node], -depths[node] * (_HIGH + _GAP))]


def _read(node: Node) -> list[Node]:
    """Return the nodes that an operation reads, each once."""
    return [*dict.fromkeys(arg for arg in map(plain, node.args) if isinstance(arg, Node))]


def _names(nodes: list[Node]) -> dict[Node, str]:
    """Return a name for each node: that of an input, a letter for a step, f for the last one."""
    taken = {node.name for node in nodes if node.op == "input"}
    letters = (letter for letter in chain("uvwzpqrst", (f"u{n}" for n in count(1))) if letter not in taken)
    return {node: node.name if node.op == "input" else "f" if node is nodes[-1] else next(letters) for node in nodes}


def _mean_of_parents(item: Any, places: Mapping[Any, float]) -> float:
    """Return the mean place of what leads to a node, or to where an arrow passes a row."""
    if isinstance(item, tuple):
        parent, node, row = item
        return places.get((parent, node, row - 1), places[parent])
    above = [places[parent] for parent in _read(item)]
    return sum(above) / len(above) if above else 0.0
