"""Lowering: replace operations by others that NumPy computes faster."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

import numpy as np

from framework.graph.graph import Graph, rewrite_into, rewrite_node
from framework.graph.loop import Body, add_loop, node_of, part
from framework.graph.node import Node, dependents, matching, nodes_in, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import Symbol, value_of

Shape = tuple[int, ...]
Rule = Callable[[Graph, Node, tuple[Any, ...], "Counter[Node]"], Any]
"""(new graph, node, new arguments, how often each node is used) -> what the node becomes, or None for no change."""
_Rewriting = Callable[[Graph, Node, tuple[Any, ...]], Any]

_SHORT = 8
"""An axis of at most this many elements is reduced by adding or comparing whole slices."""
_TINY = 3
"""Last axes of at most this many elements, along which an argument is broadcast, are computed one index at a time."""
_FEW = 16
"""Products along a last axis of at most this many elements are made before they are summed."""
_NARROW = 64
"""A sum over leading axes first sums the first one, in longer runs, if at most this many elements remain."""
_WIDE = 96
"""Windows of images with lines of up to this length are added in longer runs; see ``_fold_rows``."""
_MANY = 16
"""A matrix product for each row pays if it has at least this many columns."""


def lower(outputs: Iterable[Any], inputs: Iterable[Node] = (), *, exact: bool = False) -> list[Any]:
    """Return the outputs in a new graph, with operations that NumPy computes fast.

    Args:
        outputs: Nodes and plain numbers of one graph.
        inputs: Nodes that become inputs; what they are computed from is dropped.
        exact: Whether the results must keep the bits of NumPy's own functions, except for those of np.einsum.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> traced = trace(lambda x: x.mean(axis=1), {"x": (ROWS, 3)})
        >>> lower(traced.outputs)
        [divide(v1, 3)(10007,)]
    """
    outputs, inputs = list(outputs), list(inputs)
    nodes = nodes_in(outputs)
    return Lowering(nodes[0].graph, inputs, exact=exact).add(outputs) if nodes else outputs


class Lowering:
    """A graph that is lowered part by part; each part may read the ones before it.

    Attributes:
        graph: The new graph.
        known: What each node became: a node of the new graph, or a number. A node that is given a value here stands
            for it: so the loss of a step reads the outputs of the model.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Iterable[Node] = (),
        *,
        exact: bool = False,
        plain: bool = False,
        rule: Rule | None = None,
    ) -> None:
        """Begin a graph; see ``lower``. A ``plain`` one keeps the operations as they are; ``rule`` replaces NumPy's."""
        self.graph = Graph(graph.dtype, graph.rows)
        self.graph.simplifies, self.graph.lowered = True, not plain and rule is None
        self.known: dict[Node, Any] = {}
        self._inputs, self._own = 0, rule
        self._rules, self._exact, self._plain = {} if plain else _EXACT if exact else _RULES, exact or plain, plain
        self._results: dict[Node, tuple[Any, ...]] = {}  # of loops
        for node in dict.fromkeys(inputs):
            self._input(node)

    def copy(self) -> Lowering:
        """Return a copy, which adds to the same graph."""
        other = copy(self)
        other.known, other._results = {**self.known}, {**self._results}
        return other

    def _input(self, node: Node) -> None:
        """Make a node an input; in brackets, so that its name is not that of a state inside a loop."""
        name = f" {node.name}" if node.op == "input" else ""
        self.known[node] = self.graph.input(f"<{self._inputs}{name}>", node.shape, node.kind)
        self._inputs += 1

    def add(self, outputs: Iterable[Any]) -> list[Any]:
        """Return nodes of the old graph as they became, with everything that they need."""
        outputs = list(outputs)
        order = [node for node in order_nodes(outputs, self.known) if node not in self.known]
        rule = self._rule(_uses(order, outputs))
        for node in order:
            if node.op == "input":
                self._input(node)
            elif node.op == "loop" and not self._exact:
                self.known[node] = self._results[node] = (*_Loop(self.graph, node, self.known, rule).results(),)
            elif node.op == "part" and node.args[0] in self._results:
                self.known[node] = self._results[node.args[0]][node.attributes["index"]]
            else:
                rewrite_node(self.graph, node, self.known, rule)
        return [self.known[output] if isinstance(output, Node) else output for output in outputs]

    def _rule(self, uses: Counter[Node]) -> _Rewriting:
        """Return what says what a node becomes, given how often each is used."""

        def rule(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
            row = OPERATIONS[node.op]
            if row.lowered is not None and not (self._plain and node.op == "softmax"):
                return expand(new, node, args, lambda order, output: self._rule(_uses(order, [output])))
            if self._own is not None:
                return self._own(new, node, args, uses)
            if node.op in self._rules:
                return self._rules[node.op](new, node, args, uses) if isinstance(args[0], Node) else None
            return None if self._exact or not row.elementwise else _by_parts(new, node, args)

        return rule


def expand(new: Graph, node: Node, args: tuple[Any, ...], rule_of: Callable[[list[Node], Any], _Rewriting]) -> Any:
    """Return a stable form as the operations that it is computed with, in a new graph.

    Args:
        new: The new graph.
        node: The node.
        args: Its arguments there.
        rule_of: (the operations, the result) -> the rule that rewrites them.
    """
    apart = Graph(new.dtype, new.rows)
    inputs = [apart.input(str(index), arg.shape, arg.kind) for index, arg in enumerate(node.args)]
    output = value_of(OPERATIONS[node.op].lowered(*map(Symbol, inputs), **node.attributes))  # type: ignore[misc]
    known: dict[Node, Any] = dict(zip(inputs, args, strict=True))
    return rewrite_into(new, [output], known, rule_of(order_nodes([output]), output))[0]


def is_columns(node: Node) -> bool:
    """Return whether a node is a reshape of windows, for which NumPy must copy."""
    base: Any = node.args[0] if node.op == "reshape" else None
    while matching(base, "reshape") or matching(base, "transpose"):
        base = base.args[0]
    return matching(base, "windows") and max(base.attributes["window"]) > 1


def _uses(order: Iterable[Node], outputs: Iterable[Any]) -> Counter[Node]:
    """Count how often each node is used, in the bodies of loops too."""
    uses = Counter(nodes_in(outputs))
    for node in order:
        uses.update(nodes_in(node.args))
        if node.op == "loop":
            body = node.attributes["body"]
            uses += _uses(order_nodes(body.outputs, {*body.states, *body.entries, *body.captured}), body.outputs)
    return uses


# NumPy's rules


def _extreme(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Compare the halves of a short axis as whole arrays."""
    x, axes = args[0], node.attributes["axes"]
    if not all(2 <= x.shape[axis] <= _SHORT for axis in axes):
        return None
    for axis in axes:
        while (size := x.shape[axis]) > 1:
            half = (size + 1) // 2
            x = new.add(f"{node.op}imum", _slice(new, x, axis, 0, half), _slice(new, x, axis, size - half, size))
    return new.add("reshape", x, shape=node.shape)


def _sum(new: Graph, node: Node, args: tuple[Any, ...], uses: Counter[Node]) -> Any:
    x, axes = args[0], node.attributes["axes"]
    product = matching(x, "multiply") or matching(x, "square")
    if product and uses[node.args[0]] == 1 and node.kind == "f" and (1 < x.ndim > len(axes) or _is_vector(x)):
        a, b = x.args * 2 if x.op == "square" else x.args
        if isinstance(a, Node) and isinstance(b, Node) and a.shape == b.shape:
            return _sum_of_products(new, a, b, axes, node.shape)
    if 1 < len(axes) < x.ndim and axes == tuple(range(len(axes))) and math.prod(x.shape[len(axes) :]) <= _NARROW:
        lines = new.add("reshape", new.add("sum", x, axes=(0,), keepdims=True), shape=x.shape[1:])
        return new.add("reshape", new.add("sum", lines, axes=axes[:-1], keepdims=True), shape=node.shape)
    if not node.attributes["keepdims"] and (twin := new.find("sum", (x,), axes=axes, keepdims=True)) is not None:
        return new.add("reshape", twin, shape=node.shape)
    whole = math.prod(node.shape)
    if _tiny_axes(x, x.shape) == axes and all(isinstance(p, Node) and math.prod(p.shape) == whole for p in x.args):
        total = x.args[0]
        for term in x.args[1:]:
            total = new.add("add", total, term)
        return new.add("reshape", total, shape=node.shape)
    if x.ndim > 2 and 0 < math.prod(x.shape[axis] for axis in axes) <= _SHORT:
        for axis in axes:
            parts = [_slice(new, x, axis, index, index + 1) for index in range(x.shape[axis])]
            x = parts[0]
            for term in parts[1:]:
                x = new.add("add", x, term)
        return new.add("reshape", x, shape=node.shape)
    return None


def _sum_of_products(new: Graph, a: Node, b: Node, axes: Shape, shape: Shape) -> Any:
    """Return sum(a * b) without an array for the product, where NumPy is faster without it."""
    if _is_vector(a):
        return new.add("reshape", new.intern_node("matmul", (a, b), {}, ()), shape=shape)
    if axes == (a.ndim - 1,) and a.shape[-1] <= _FEW:
        total = new.add("sum", new.add("multiply", a, b), axes=axes, keepdims=True)
        return new.add("reshape", total, shape=shape)
    letters = "abcdefghijklmnopqrstuvwxyz"[: a.ndim]
    kept = "".join(letter for axis, letter in enumerate(letters) if axis not in axes)
    return new.add("reshape", new.add("einsum", a, b, subscripts=f"{letters},{letters}->{kept}"), shape=shape)


def _is_vector(x: Node) -> bool:
    """Return whether an array has one axis, which is not that of the rows."""
    return x.ndim == 1 and not x.graph.rows_in(x.shape[0])


def _reshape(new: Graph, node: Node, args: tuple[Any, ...], uses: Counter[Node]) -> Any:
    """Drop axes of 1 in the sum or the product itself, where nothing else reads it."""
    x = args[0]
    if not isinstance(x, Node) or uses[node.args[0]] > 1:
        return None
    if x.op == "sum":
        axes = x.attributes["axes"]
        bare = tuple(size for axis, size in enumerate(x.args[0].shape) if axis not in axes)
        return (
            new.intern_node("sum", x.args, {"axes": axes, "keepdims": False}, bare, x.kind)
            if bare == node.shape
            else None
        )
    if x.op == "matmul" and x.shape == (*node.shape, 1) and matching(x.args[1], "reshape"):
        matrix, vector = x.args[0], x.args[1].args[0]
        return new.add("matmul", matrix, vector) if vector.ndim == node.ndim == 1 else None
    return None


def _mean(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    axes = node.attributes["axes"]
    total = new.add("sum", args[0], axes=axes, keepdims=node.attributes["keepdims"])
    return new.add("divide", total, _count(args[0], axes))


def _var(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    x, axes, ddof = args[0], node.attributes["axes"], node.attributes["ddof"]
    count = _count(x, axes)
    mean = new.add("divide", new.add("sum", x, axes=axes, keepdims=True), count)
    deviation = new.add("subtract", x, mean)
    if x.ndim > len(axes):
        total = _sum_of_products(new, deviation, deviation, axes, node.shape)
    else:
        squares = new.add("multiply", deviation, deviation)
        total = new.add("sum", squares, axes=axes, keepdims=node.attributes["keepdims"])
    return new.add("divide", total, new.add("subtract", new.lift(count), ddof) if ddof else count)


def _total(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Forget whether a gradient goes through a total, so that equal ones are computed once."""
    return new.add("total", *args, passes=False) if node.attributes["passes"] else None


def _matmul(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Multiply any number of axes by one matrix as one product of two matrices."""
    a, b = args
    if a.ndim == 2 or b.ndim != 2:
        return None
    rows = new.add("reshape", a, shape=(math.prod(a.shape[:-1]), a.shape[-1]))
    return new.add("reshape", new.add("matmul", rows, b), shape=node.shape)


def _einsum(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    return einsum_by_pairs(new, node, args, _contract)


def einsum_by_pairs(new: Graph, node: Node, args: tuple[Any, ...], contract: Contract) -> Any:
    """Compute products of pairs, the cheapest pair first.

    Args:
        new: The new graph.
        node: The einsum.
        args: Its arguments there.
        contract: (new graph, factor, factor, letters of the result) -> the product of factors that sum over a letter
            of both.
    """
    inputs, output = node.attributes["subscripts"].split("->")
    factors = [Factor(letters, arg) for letters, arg in zip(inputs.split(","), args, strict=True)]
    while len(factors) > 2:
        pairs = [(i, j) for j in range(len(factors)) for i in range(j)]
        i, j = min(pairs, key=lambda pair: math.prod(_sizes(factors[pair[0]], factors[pair[1]]).values()))
        rest = [factor for index, factor in enumerate(factors) if index not in (i, j)]
        needed = set(output).union(*(factor.letters for factor in rest))
        kept = "".join(c for c in dict.fromkeys(factors[i].letters + factors[j].letters) if c in needed)
        factors = [*rest, Factor(kept, _product(new, factors[i], factors[j], kept, contract))]
    if len(factors) == 2:
        return _product(new, factors[0], factors[1], output, contract)
    single = factors[0].sum_over(new, set(output))
    return single.arrange(new, *output)


class Factor:
    """A factor of an einsum: a node, and a letter for each axis."""

    def __init__(self, letters: str, node: Node) -> None:
        while node.op == "transpose":
            letters = "".join(letters[node.attributes["axes"].index(axis)] for axis in range(node.ndim))
            node = node.args[0]
        self.letters, self.node = letters, node

    @property
    def sizes(self) -> dict[str, int]:
        """The size of the axis of each letter."""
        return dict(zip(self.letters, self.node.shape, strict=True))

    def sum_over(self, new: Graph, kept: set[str]) -> Factor:
        """Return the factor summed over the letters that are not kept."""
        axes = tuple(axis for axis, letter in enumerate(self.letters) if letter not in kept)
        letters = "".join(letter for letter in self.letters if letter in kept)
        return Factor(letters, new.add("sum", self.node, axes=axes, keepdims=False) if axes else self.node)

    def as_they_lie(self, group: str) -> str:
        """Return letters in the order of the windows' axes in memory, in which copying is fastest."""
        if self.node.op != "windows":
            return group
        base = self.node.args[0]
        origin = (*range(base.ndim), *self.node.attributes["axes"])
        strides = {c: math.prod(base.shape[origin[n] + 1 :]) for n, c in enumerate(self.letters)}
        return "".join(sorted(group, key=lambda letter: (-strides[letter], self.letters.index(letter))))

    def arrange(self, new: Graph, *groups: str) -> Any:
        """Return the node with an axis for each group of letters."""
        order = tuple(self.letters.index(letter) for letter in "".join(groups))
        moved = new.add("transpose", self.node, axes=order)
        shape = tuple(math.prod(self.sizes[letter] for letter in group) for group in groups)
        return new.add("reshape", moved, shape=shape)


def _sizes(a: Factor, b: Factor) -> dict[str, int]:
    return {letter: max(a.sizes.get(letter, 1), b.sizes.get(letter, 1)) for letter in a.letters + b.letters}


Contract = Callable[[Graph, Factor, Factor, str], Any]


def _product(new: Graph, a: Factor, b: Factor, output: str, contract: Contract) -> Any:
    """Return the product of two factors, each summed first over the letters that it has alone."""
    a, b = a.sum_over(new, {*b.letters, *output}), b.sum_over(new, {*a.letters, *output})
    sizes = _sizes(a, b)
    inner = [c for c in a.letters if c in b.letters and c not in output]
    if not inner or any(size != sizes[c] for factor in (a, b) for c, size in factor.sizes.items()):
        return _spread_product(new, a, b, output)
    return contract(new, a, b, output)


def _contract(new: Graph, a: Factor, b: Factor, output: str) -> Any:
    """Return the product of two factors as a batched matrix product."""
    sizes = _sizes(a, b)
    inner = "".join(c for c in a.letters if c in b.letters and c not in output)
    batch = "".join(c for c in output if c in a.letters and c in b.letters)
    left = "".join(c for c in output if c in a.letters and c not in b.letters)
    right = "".join(c for c in output if c in b.letters and c not in a.letters)
    if not batch:
        made = _by_row(new, a, b, output, inner) or _by_row(new, b, a, output, inner)
        if made is not None:
            return made
    left, right, inner = a.as_they_lie(left), b.as_they_lie(right), b.as_they_lie(a.as_they_lie(inner))
    product = new.add("matmul", a.arrange(new, *batch, left, inner), b.arrange(new, *batch, inner, right))
    return _unfold(new, product, batch + left + right, output, sizes)


def _unfold(new: Graph, product: Node, letters: str, output: str, sizes: Mapping[str, int]) -> Any:
    """Return a product with an axis for each letter, in the order of the output."""
    apart = new.add("reshape", product, shape=tuple(sizes[letter] for letter in letters))
    return new.add("transpose", apart, axes=tuple(letters.index(letter) for letter in output))


def _by_row(new: Graph, columns: Factor, other: Factor, output: str, inner: str) -> Any:
    """Return the product as one matrix product for each row, or None where that copies or costs more.

    A convolution with channels first is kernel (units, inner) @ columns (rows, inner, places); its gradients are
    kernel' (inner, units) @ gradient (rows, units, places), and the sum over the rows of columns (rows, inner, places)
    @ gradient' (rows, places, units).
    """
    row, sizes = columns.letters[0], _sizes(columns, other)
    windows = columns.node.op == "windows" and columns.node.attributes["axes"][-1] == columns.node.args[0].ndim - 1
    places = "".join(c for c in columns.letters[1:] if (c in inner) == (row in inner))
    inside = "".join(c for c in columns.letters[1:] if c not in places)
    units = "".join(c for c in other.letters if c not in inner)
    lies_so = columns.letters == row + inside + places
    if new.rows_in(sizes[row]) != 1 or math.prod(sizes[c] for c in places) < _MANY or not (windows or lies_so):
        return None
    if row not in inner:
        product = new.add("matmul", other.arrange(new, units, inside), columns.arrange(new, row, inside, places))
        return _unfold(new, product, row + units + places, output, sizes)
    if not windows:
        return None
    turned = new.add("transpose", other.arrange(new, row, units, places), axes=(0, 2, 1))
    product = new.add("matmul", columns.arrange(new, row, inside, places), turned)  # faster than its transpose
    return _unfold(new, new.add("sum", product, axes=(0,), keepdims=False), inside + units, output, sizes)


def _spread_product(new: Graph, a: Factor, b: Factor, output: str) -> Any:
    """Return the product of two factors that sum over no shared letter, or of which one broadcasts an axis of 1."""
    letters = "".join(dict.fromkeys(output + a.letters + b.letters))

    def align(factor: Factor) -> Any:
        present = "".join(letter for letter in letters if letter in factor.letters)
        shape = tuple(factor.sizes.get(letter, 1) for letter in letters)
        return new.add("reshape", factor.arrange(new, *present), shape=shape)

    product = new.add("multiply", align(a), align(b))
    axes = tuple(range(len(output), len(letters)))
    return new.add("sum", product, axes=axes, keepdims=False) if axes else product


def _slice(new: Graph, x: Node, axis: int, start: int, stop: int) -> Any:
    index = tuple((start, stop, 1) if n == axis else None for n in range(x.ndim))
    return new.add("index", x, index=index)


def _by_parts(new: Graph, node: Node, args: tuple[Any, ...]) -> Any:
    """Compute an elementwise operation one index at a time along tiny last axes, over which NumPy would loop."""
    axes = next(filter(None, (_tiny_axes(arg, node.shape) for arg in args)), ())
    if not axes:
        return None
    indices, parts = [], []
    for places in np.ndindex(*(node.shape[axis] for axis in axes)):
        chosen = dict(zip(axes, ((position, position + 1, 1) for position in places), strict=True))
        indices.append(tuple(chosen.get(axis) for axis in range(node.ndim)))
        parts.append(new.add(node.op, *(_part(new, arg, indices[-1]) for arg in args)))
    return new.add("place", *parts, shape=node.shape, indices=tuple(indices), add=False)


def _tiny_axes(arg: Any, shape: Shape) -> Shape:
    """Return the tiny axes, with the last one, along which an argument is broadcast or was computed by index."""
    if not isinstance(arg, Node) or arg.ndim != len(shape) or arg.ndim < 3:
        return ()
    if arg.op == "place" and arg.shape == shape:
        axes = tuple(axis for axis, entry in enumerate(arg.attributes["indices"][0]) if entry is not None)
        parts = math.prod(shape[axis] for axis in axes)
        axes = axes if all(1 < shape[axis] <= _TINY for axis in axes) and parts == len(arg.args) else ()
    else:
        axes = tuple(
            n for n, (mine, size) in enumerate(zip(arg.shape, shape, strict=True)) if mine == 1 < size <= _TINY
        )
    return axes if axes and axes[-1] == len(shape) - 1 else ()


def _part(new: Graph, arg: Any, index: tuple[Any, ...]) -> Any:
    """Return the part of an argument that belongs to a part of the result."""
    if not isinstance(arg, Node):
        return arg
    mine = index[len(index) - arg.ndim :]
    return new.add(
        "index", arg, index=tuple(None if size == 1 else entry for entry, size in zip(mine, arg.shape, strict=True))
    )


def _fold(new: Graph, node: Node, args: tuple[Any, ...], _uses: Counter[Node]) -> Any:
    """Add windows back into the array that they were taken from, in whole parts where there are any."""
    g = args[0]
    return _fold_parts(new, node, g) if matching(g, "place") else _fold_rows(new, node, g)


def _fold_parts(new: Graph, node: Node, g: Node) -> Any:
    """Add back windows that were computed one index at a time."""
    axes, window, steps = (node.attributes[key] for key in ("axes", "window", "steps"))
    ndim = node.ndim
    if _tiny_axes(g, g.shape) != tuple(range(ndim, g.ndim)):
        return None
    indices = []
    for places in g.attributes["indices"]:
        index: list[Any] = [None] * ndim
        for axis, (start, *_), step in zip(axes, places[ndim:], steps, strict=True):
            index[axis] = (start, start + step * (g.shape[axis] - 1) + 1, step)
        indices.append(tuple(index))
    parts = [new.add("reshape", window_values, shape=g.shape[:ndim]) for window_values in g.args]
    overlap = any(width > step for width, step in zip(window, steps, strict=True))
    return new.add("place", *parts, shape=node.shape, indices=tuple(indices), add=overlap)


def _fold_rows(new: Graph, node: Node, g: Node) -> Any:
    """Add up windows of an image, the result of a product for each row, in runs longer than a line of the image.

    The lines of the gradient are padded with zeros to the length of the image's. Then all lines for one position in the
    window are one run, and the zeros at its end also serve as those in front of the next run, which is added one
    element to the right. Each line of the window has its own product, still in the cache when its runs are added.
    """
    ndim = node.ndim
    if node.attributes["axes"] != (ndim - 2, ndim - 1) or node.attributes["steps"] != (1, 1):
        return None
    height, width = node.shape[-2:]
    apart = g.args[0] if g.args else None
    if not isinstance(apart, Node) or g.op != "transpose" or apart.op != "reshape":
        return None
    if not matching(apart.args[0], "matmul") or apart.args[0].ndim != 3:
        return None
    order, (rows, columns) = g.attributes["axes"], g.shape[ndim - 2 : ndim]
    matrix, gradient = apart.args[0].args
    outer, inner = order[: ndim - 2], order[ndim:]
    lies_so = list(outer) == sorted(outer) and (inner[1], *order[ndim - 2 : ndim]) == (*range(g.ndim - 3, g.ndim),)
    if not lies_so or gradient.shape[-1] != rows * columns or not columns < width <= 1.5 * columns <= _WIDE:
        return None
    lines = new.add("reshape", gradient, shape=(*gradient.shape[:2], rows, columns))
    lines = new.add("pad", lines, width=((0, 0), (0, 0), (0, 0), (0, width - columns)), value=0.0)
    run, parts, indices = rows * width, [], []
    lines = new.add("reshape", lines, shape=(*gradient.shape[:2], run))
    places = new.add("reshape", matrix, shape=(*apart.shape[1:-2], matrix.shape[-1]))
    high, wide = node.attributes["window"]
    for down in range(high):
        line = _slice(new, places, inner[0] - 1, down, down + 1)
        line = new.add("reshape", line, shape=(math.prod(line.shape[:-1]), line.shape[-1]))
        product = new.add("reshape", new.add("matmul", line, lines), shape=(*node.shape[:-2], wide * run))
        runs = new.add("windows", product, axes=(ndim - 2,), window=(run,), steps=(run - 1,))
        parts.append(new.add("sum", runs, axes=(ndim - 2,), keepdims=False))
        indices.append((*(None,) * (ndim - 2), (down * width, down * width + run, 1)))
    flat = (*node.shape[:-2], height * width)
    return new.add("reshape", new.add("place", *parts, shape=flat, indices=tuple(indices), add=True), shape=node.shape)


def _count(x: Node, axes: Shape) -> int:
    return math.prod(x.shape[axis] for axis in axes)


# loops: matrix products move out, and become one product over all steps


class _Loop:
    """A loop in the new graph, from which products move out.

    The product of an entry, or of a result of each step, with a matrix that is the same in every step becomes one
    product of the whole sequence. The sum over the steps of a' b, as in the gradient of a matrix, becomes one product
    of the stacked a and b.
    """

    def __init__(self, new: Graph, node: Node, known: dict[Node, Any], rule: Callable[..., Any]) -> None:
        """Write a loop into a graph, given the new node of each old one and the rule that rewrites the body."""
        self.new, self.node, self.body = new, node, node.attributes["body"]
        args = [node_of(new, known[arg], arg) for arg in node.args]
        count = len(self.body.states)
        self.firsts, self.sequences = args[:count], args[count : count + len(self.body.entries)]
        self.inner: dict[Node, Any] = {outside: known[outside] for outside in self.body.captured}
        self.states = [self._input(state) for state in self.body.states]
        self.entries = [self._input(entry) for entry in self.body.entries]
        for inner in self.body.order():
            if not self._compute_before(inner):
                rewrite_node(new, inner, self.inner, rule)
        self.outputs = [node_of(new, self.inner[output], output) for output in self.body.outputs]
        moving = {*self.states, *self.entries}
        self.inside = dependents(order_nodes(self.outputs, moving), moving)  # what changes from step to step
        self.stacks: list[Node] = []

    def _input(self, node: Node) -> Node:
        made = self.inner[node] = self.new.input(f"step_{len(self.new.nodes)}", node.shape, node.kind)
        return made

    def _compute_before(self, product: Node) -> bool:
        """Compute a node before the loop, and return True, if it is the product of an entry and a matrix."""
        if product.op != "matmul":
            return False
        entry, matrix = product.args
        if entry not in self.body.entries or matrix not in self.body.captured:
            return False
        sequence = self.sequences[self.body.entries.index(entry)]
        if sequence.ndim != 3 or matrix.ndim != 2:
            return False
        self.sequences.append(self._product(sequence, self.inner[matrix]))
        self.entries.append(self._input(product))
        return True

    def results(self) -> list[Any]:
        """Return the new value of each output of the loop."""
        count, stacked = len(self.states), len(self.states) + self.body.stacked
        after = [
            self._stack_for_after(output) if index < stacked else self._sum_after(output)
            for index, output in enumerate(self.outputs[count:], count)
        ]
        sums = [output for output, made in zip(self.outputs[count:], after, strict=True) if made is None]
        outputs = [*self.outputs[:count], *self.stacks, *sums]
        used = set(order_nodes(outputs))
        pairs = [pair for pair in zip(self.entries, self.sequences, strict=True) if pair[0] in used]
        body = Body(self.states, [entry for entry, _ in pairs], outputs, len(self.stacks))
        moving = [*self.firsts, *(sequence for _, sequence in pairs)]
        self.loop = add_loop(
            self.new, body, moving, self.node.attributes["steps"], reverse=self.node.attributes["reverse"]
        )
        kept = iter(range(count + len(self.stacks), len(outputs)))
        return [
            *(part(self.loop, index) for index in range(count)),
            *(part(self.loop, next(kept)) if made is None else made() for made in after),
        ]

    def _stack_for_after(self, output: Node) -> Callable[[], Any]:
        """Return a function that computes a stacked output after the loop."""
        if matching(output, "matmul") and output.args[0] in self.inside and output.args[1] not in self.inside:
            a, b = output.args
            if a.ndim == 2:
                self._stack(a)
                return lambda: self._product(self._stack_of(a), b)
        self._stack(output)
        return lambda: self._stack_of(output)

    def _sum_after(self, output: Node) -> Callable[[], Any] | None:
        """Return a function that computes a sum over the steps after the loop, or None."""
        base = output.args[0] if output.op == "reshape" else output
        if matching(base, "matmul") and matching(base.args[0], "transpose") and base.ndim <= 2:
            a, b = base.args[0].args[0], base.args[1]
            if a in self.inside and b in self.inside:
                self._stack(a)
                self._stack(b)
                return lambda: self._add_reshaped(
                    "matmul", self._flat(a, turned=True), self._flat(b), shape=output.shape
                )
        if matching(base, "sum") and base.attributes["axes"] == (0,) and base.args[0].ndim == 2:
            a = base.args[0]
            self._stack(a)
            return lambda: self._add_reshaped("sum", self._flat(a), shape=output.shape, axes=(0,), keepdims=True)
        return None

    def _stack(self, value: Node) -> None:
        if value not in self.entries and value not in self.stacks:
            self.stacks.append(value)

    def _stack_of(self, value: Node) -> Any:
        """Return the values of all steps."""
        if value in self.entries:
            return self.sequences[self.entries.index(value)]
        return part(self.loop, len(self.states) + self.stacks.index(value))

    def _flat(self, value: Node, *, turned: bool = False) -> Any:
        """Return the values of all steps as one matrix, the steps below each other."""
        stack = self._stack_of(value)
        flat = self.new.add("reshape", stack, shape=(math.prod(stack.shape[:2]), *stack.shape[2:]))
        return self.new.add("transpose", flat, axes=(1, 0)) if turned else flat

    def _product(self, sequence: Node, matrix: Node) -> Any:
        flat = self.new.add("reshape", sequence, shape=(math.prod(sequence.shape[:-1]), sequence.shape[-1]))
        return self._add_reshaped("matmul", flat, matrix, shape=(*sequence.shape[:-1], matrix.shape[-1]))

    def _add_reshaped(self, op: str, *args: Any, shape: tuple[int, ...], **attributes: Any) -> Any:
        return self.new.add("reshape", self.new.add(op, *args, **attributes), shape=shape)


_EXACT: dict[str, Rule] = {"einsum": _einsum}
_RULES: dict[str, Rule] = {
    **_EXACT,
    "max": _extreme,
    "min": _extreme,
    "sum": _sum,
    "mean": _mean,
    "var": _var,
    "total": _total,
    "matmul": _matmul,
    "reshape": _reshape,
    "fold": _fold,
}
