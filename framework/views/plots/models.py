"""Models: their layers, or the operations of a formula, as boxes with arrows; the weights of a layer as images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.backends.text import Shown, plain
from framework.base.arrays import Array
from framework.base.errors import FrameworkError, SettingsError, ShapeError, nearest
from framework.base.extras import load_module
from framework.base.shapes import format_shape, of_rows
from framework.base.trees import leaves, map_leaves, names
from framework.graph.graph import Graph
from framework.graph.node import Node, nodes_in, order_nodes
from framework.graph.symbol import Symbol, value_of
from framework.graph.walk import Walk
from framework.views.plots.style import COLORS, INK, axes, colorbar, literal, require_model, require_whole, size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def graph(model: Any, *, axis: Axes | None = None) -> Axes:
    r"""Draw the layers of a model, or the operations of a formula, as boxes: each below all those that it reads.

    The box of a layer has the shape of its output and the number of its parameters. A model that computes something
    with the outputs of its layers, as a Residual adds its input, has a box for the result, with a short formula. It is
    one box without its layers if its class writes ``apply_backward``. The box of an operation begins with the name of
    its result.

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
    boxes = _operations(model) if formula else _Layers(model).boxes
    rows = _arrange(boxes)
    left, right = (side(box.x + sign * box.width / 2 for row in rows for box in row) for side, sign in _SIDES)
    width, height = right - left, len(rows) * _STEP - _GAP
    inch = 1.0  # the scale at which the boxes fit into the axes
    if axis is not None and hasattr(axis, "get_position"):
        across, down = size_of(axis)
        inch = min(across / width, down / height, 1.0)
    axis = axes(axis, "graph", width=width + 0.2, height=height + 0.2)
    patches = load_module("matplotlib.patches", "plots.graph")
    fill = load_module("matplotlib.colors", "plots.graph").to_rgba(COLORS[0], 0.18)
    for box in boxes:
        axis.add_patch(
            patches.FancyBboxPatch(
                (box.x - box.width / 2, box.bottom),
                box.width,
                _HIGH,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=fill if box.filled else "none",
                edgecolor=INK,
                linewidth=1.2,
            )
        )
        text = literal(box.text)
        axis.text(box.x, box.bottom + _HIGH / 2, text, color=INK, ha="center", va="center", fontsize=9 * inch)
    for arrow in chain.from_iterable(map(_arrows, boxes)):
        axis.plot(*zip(*arrow, strict=True), color=INK, linewidth=1.2)
        tip: dict[str, Any] = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", arrow[-1], arrow[-2], arrowprops=tip)
    axis.set(xlim=(left - 0.1, right + 0.1), ylim=(-height - 0.1, 0.1), aspect="equal")
    axis.set_axis_off()
    return axis


_HIGH = 0.46
"""The height of a box, and between boxes, in inches."""
_GAP = 0.3
_STEP = _HIGH + _GAP
"""From the top of a row to the top of the next."""
_SIDES = (min, -1), (max, 1)
_LONGEST = 40
"""A longer formula for the outputs of layers is left out."""


@dataclass(eq=False)
class _Box:
    """A box; without a text, a place where an arrow passes a row.

    Attributes:
        text: Its lines.
        above: The boxes that it reads, or the places in the row above where their arrows pass.
        filled: Whether it has parameters.
        row: Its row, from above.
        x: The place of its middle.
    """

    text: str
    above: list[_Box]
    filled: bool = False
    row: int = 0
    x: float = 0.0

    @property
    def width(self) -> float:
        """The width in inches."""
        return max(map(len, self.text.splitlines())) * 0.078 + 0.24 if self.text else 0.2

    @property
    def bottom(self) -> float:
        """The place of the lower side."""
        return -self.row * _STEP - _HIGH

    @property
    def wanted(self) -> float:
        """The place below what it reads."""
        above = [box.x for box in self.above if box.text] or [box.x for box in self.above] or [0.0]
        return sum(above) / len(above)


def _arrange(boxes: list[_Box]) -> list[list[_Box]]:
    """Return boxes in rows, each below all that it reads, with the places where arrows pass a row."""
    rows: list[list[_Box]] = []
    for box in boxes:
        box.row = max((above.row + 1 for above in box.above), default=0)
        rows += [[] for _ in range(len(rows), box.row + 1)]
        rows[box.row].append(box)
        for index, above in enumerate(box.above):
            for passed in range(above.row + 1, box.row):
                box.above[index] = _Box("", [box.above[index]], row=passed)
                rows[passed].append(box.above[index])
    for row in rows:
        row.sort(key=lambda box: box.wanted)
        left = -math.inf
        for box in row:
            box.x = max(box.wanted, left + box.width / 2)
            left = box.x + box.width / 2 + _GAP
        moved = [box.x - box.wanted for box in row if box.text] or [0.0]
        for box in row:
            box.x -= sum(moved) / len(moved)
    return rows


def _arrows(box: _Box) -> list[list[tuple[float, float]]]:
    """Return the points of the arrows that lead to a box, each straight through the rows between."""
    arrows = []
    for above in box.above:
        points = [(box.x, box.bottom + _HIGH)]
        while not above.text:
            points += [(above.x, above.bottom), (above.x, above.bottom + _HIGH)]
            above = above.above[0]  # noqa: PLW2901
        arrows.append([(above.x, above.bottom), *reversed(points)])
    return arrows


class _Layers(Walk):
    """Walks through a model for the boxes of its layers: the output of each is an input of the graph.

    Attributes:
        boxes: The boxes, each after those that it reads.
        graph: What models compute with the outputs of their layers.
        sources: The boxes of its inputs, and of the results.
        shapes: The shapes of samples of its inputs, in which sizes may be open.
    """

    def __init__(self, model: Any) -> None:
        """Walk through a model."""
        require_model(model, "graph")
        numbers = {f"number {name}": np.shape(value) for name, value in {**model.parameters, **model.buffers}.items()}
        self.boxes: list[_Box] = []
        self.graph, shape = Graph(model.dtype), model.known_shape
        self.sources: dict[Node, list[_Box]] = {}
        self.shapes: dict[Node, Any] = {}
        symbols = {name: Symbol(self.graph.input(name, size)) for name, size in numbers.items()}
        super().__init__(model, symbols, training=False)

        def add_input(name: str, size: Any) -> Symbol:
            name = name.replace("['", " ").replace("']", "")
            return self._input(name, size, [self._box(name, size, [])])

        self.trace_model(model, map_leaves(add_input, names(shape, "input"), shape))

    def trace_model(self, model: Any, x: Any, path: str = "", key_suffix: tuple[int, ...] = ()) -> Any:
        """Return inputs of the graph for the output of a model, and make the boxes in it."""
        path = path.removesuffix(".")
        shape = map_leaves(lambda leaf: self.shapes.get(leaf.node, leaf.shape[1:]), x)
        gives, before = model.infer_shape(shape), len(self.boxes)
        label, output = f"{path} {model._label}".strip(), None
        if not hasattr(model, "parts"):
            label = model._summary_rows(path, shape)[0][0].removesuffix("()")
        elif not self.runs_in_python(model):
            inside = map_leaves(
                lambda name, leaf, size: self._input(name, size, self._boxes_of(leaf)), names(x), x, shape
            )
            try:
                output = super().trace_model(model, inside, path and f"{path}.", key_suffix)
            except FrameworkError:  # it cannot be traced
                del self.boxes[before:]
        if output is None:
            box = self._box(label, gives, self._boxes_of(x), sum(map(math.prod, model.layout().values())))
            output = map_leaves(lambda size: self._input("", size, [box]), gives)
        elif made := [node for node in nodes_in(map(value_of, leaves(output))) if node not in self.sources]:
            formula = Shown({"a": made[0]}).text.removeprefix("a = ")
            short = len(made) == 1 and len(formula) <= _LONGEST
            box = self._box(f"{label}: {formula}" if short else label, gives, self._boxes_of(output))
            self.sources |= {node: [box] for node in made}
        of_x = isinstance(x, Symbol) and x.node.attributes.get("name") == "x"
        child = path.rpartition(".")[2]
        name = (child if child.isidentifier() else model._label) + ("(x)" if of_x else "")  # in the model's formula
        return map_leaves(
            lambda name, leaf, size: self._input(name, size, self._boxes_of(leaf)), names(gives, name), output, gives
        )

    def _boxes_of(self, x: Any) -> list[_Box]:
        """Return the boxes that symbols are made of."""
        order = order_nodes(map(value_of, leaves(x)), self.sources)
        return [*dict.fromkeys(box for node in order for box in self.sources.get(node, ()))]

    def _input(self, name: str, shape: Any, sources: list[_Box]) -> Symbol:
        """Return a new input of the graph for samples of a shape, in which an open size counts as 1."""
        sizes = (size if isinstance(size, int) else 1 for size in shape if size is not ...)
        attributes = {"name": name, "number": len(self.sources)}  # each is another one
        node = self.graph.intern_node("input", (), attributes, (self.graph.rows, *sizes))
        self.sources[node], self.shapes[node] = sources, shape
        return Symbol(node, fixed=True)

    def _box(self, label: str, shape: Any, above: list[_Box], numbers: int = 0) -> _Box:
        counted = f", {numbers:,} parameters" if numbers else ""
        self.boxes.append(_Box(f"{label}\n{format_shape(of_rows(shape))}{counted}", above, filled=numbers > 0))
        return self.boxes[-1]


def _operations(formula: Any) -> list[_Box]:
    """Return the boxes of the operations of a formula."""
    output = plain(formula.program().output)
    if not isinstance(output, Node):
        return [_Box(f"f = {output:g}", [])]
    nodes = [node for node in order_nodes([output]) if plain(node) is node]
    taken = {node.name for node in nodes if node.op == "input"}
    letters = (letter for letter in chain("uvwzpqrst", (f"u{n}" for n in count(1))) if letter not in taken)
    texts = {node: node.name if node.op == "input" else next(letters) for node in nodes[:-1]}
    texts[nodes[-1]] = nodes[-1].name if nodes[-1].op == "input" else "f"
    steps = [node for node in nodes if node.args]
    lines = Shown({texts[node]: node for node in steps}).text.splitlines() if steps else []
    texts |= zip(steps, lines, strict=True)
    boxes: dict[Node, _Box] = {}
    for node in nodes:
        boxes[node] = _Box(texts[node], [boxes[arg] for arg in dict.fromkeys(nodes_in(map(plain, node.args)))])
    return [*boxes.values()]


def weights(
    model: Any,
    name: str | None = None,
    *,
    shape: tuple[int, int] | None = None,
    count: int = 64,
    axis: Axes | None = None,
) -> Axes:
    """Draw weights as images: one for each unit of a Dense layer, or one for each filter of a convolution.

    Blue is negative, grey 0 and yellow positive, on one scale for all images; printed in grey, larger is brighter. A
    filter over several channels has an image for each channel, side by side.

    Args:
        model: The model.
        name: The parameter, such as ``"0.weights"``; None takes the first one that has weights.
        shape: The height and the width of an image, for the inputs of a Dense layer. None takes a square.
        count: How many units or filters to draw at most, from the first on.
        axis: The axes to draw on; None makes a figure.

    Raises:
        SettingsError: The model has no such parameter; lists them. Or ``shape`` is not two sizes.
        ShapeError: The inputs do not fill an image of this shape; says how many there are.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from framework import Dense
        >>> axis = weights(Dense(64, 10), axis=Figure().subplots())
        >>> axis.images[0].get_array().shape  # 3 rows of 4 images, with a line between them
        (26, 35)

    Source:
        LeCun et al., Gradient-based learning applied to document recognition (1998); Zeiler and Fergus, Visualizing and
        understanding convolutional networks (2014), figure 2.
    """
    require_model(model, "weights")
    names = [*model.parameters]
    if name is None:
        name = next((parameter for parameter in names if parameter.rpartition(".")[2] == "weights"), "weights")
    if name not in names:
        hint = nearest(name, names)
        problem = f"must be a parameter of the model{hint or ';'} Parameters: {', '.join(names) or 'none'}"
        raise SettingsError(problem, name="plots.weights: argument 'name'")
    require_whole(count, 1, "plots.weights: argument 'count'")
    images = _images(np.asarray(model.parameters[name], np.float64), name, shape)[:count]
    grid = _side_by_side(images)
    largest = float(np.max(np.abs(images))) or 1.0
    tall = max(2.2, min(8.0, 4.6 * grid.shape[0] / grid.shape[1] + 0.4))
    axis = axes(axis, "weights", width=5.4, height=tall, layout="compressed")
    drawn = axis.imshow(
        np.ma.masked_invalid(grid), cmap="cividis", vmin=-largest, vmax=largest, interpolation="nearest"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(literal(name), color=INK, fontsize=10)
    colorbar(axis, drawn, "weight")
    return axis


def _images(values: Array, name: str, shape: Any) -> Array:
    """Return weights as images, (units, channels, height, width)."""
    if values.ndim == 4:  # (channels, height, width, filters) of a Conv2D
        return values.transpose(3, 0, 1, 2)
    if values.ndim == 3:  # (channels, kernel, filters) of a Conv1D
        return values.transpose(2, 0, 1)[:, None]
    if values.ndim not in (1, 2):
        raise ShapeError(f"argument 'name': {name} of shape {values.shape} cannot be images", where="plots.weights")
    rows = values.reshape(len(values), -1).T
    inputs = rows.shape[1]
    side = math.isqrt(inputs)
    if shape is None and side * side != inputs:
        problem = f"must be given: {name} has {inputs} inputs, which do not fill a square; write shape=(height, width)"
        raise ShapeError(problem, name="plots.weights: argument 'shape'")
    if shape is not None and not (
        isinstance(shape, tuple | list) and len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)
    ):
        raise SettingsError("must be (height, width)", name="plots.weights: argument 'shape'", got=shape)
    height, width = (side, side) if shape is None else shape
    if height * width != inputs:
        raise ShapeError(
            f"must hold the {inputs} inputs of {name}; got {height} x {width}", name="plots.weights: argument 'shape'"
        )
    return rows.reshape(-1, 1, height, width)


def _side_by_side(images: Array) -> Array:
    """Return images (units, channels, height, width) as one, with a line of NaN between them."""
    units, channels, height, width = images.shape
    across = math.ceil(math.sqrt(units * height / (width * channels)))
    across = max(1, min(units, across))
    down = -(-units // across)
    grid = np.full((down * (height + 1) - 1, across * (channels * width + 1) - 1), np.nan)
    for index, image in enumerate(images):
        top, left = index // across * (height + 1), index % across * (channels * width + 1)
        grid[top : top + height, left : left + channels * width] = np.concatenate([*image], axis=1)
    return grid
