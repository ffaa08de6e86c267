"""Schedule a rewritten graph: which operations share loops, what lies in memory, and how.

Elementwise operations and reductions become groups, one nest of loops each; all other operations stand alone. The
decisions are those of four rules, each a function below: ``_unify`` (what shares loops), ``_choose_stored`` (what is
stored, and what is computed again wherever it is read), ``layout`` (the order of axes in memory) and ``_destination``
(results that are made where a larger array needs them). A wrong decision costs time and changes no result, so each is
tested by what it decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framework.graph.node import Node, nodes_in, order_nodes
from framework.training.engines.native.rewrite import JOINS, REDUCE, VIEWS, is_elementwise
from framework.training.engines.native.views import Buffer, Sizes, View, axis_groups, to_size
from framework.training.engines.records import CannotLower

EXPENSIVE = frozenset(
    {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "power", "erf", "erfc"}
    | {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2"}
    | {"sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"}
    | {"sqrt", "cbrt", "hypot", "divide", "reciprocal", "mod", "fmod", "floor_divide"}
)
"""Elementwise operations that cost more than reading a stored result: they are computed once.

All others are computed again by every nest that reads them. For this alone, masks of ReLU, a (1 - a), targets as one of
k and sums with a bias never lie in memory.
"""

MEMORY = -1
"""The reader of a result that must lie in memory, in place of a group."""

_LONGEST_ROW = 4096
"""The most elements of a reduction that the same nest reads again, as softmax does.

Such a nest passes over each row several times. A row of 4,096 float64 numbers is as large as an L1 cache, 32 KiB; a
longer one is read from further away in each pass, which is what separate nests do too.
"""

_DEEPEST = 300
"""The most operations inside one another that are one formula: its text is written by recursion."""

_SOURCES = frozenset({"input", "constant", "rows", "row_numbers"})
"""Operations that compute nothing."""

Coords = tuple[str | None, ...]
"""The loop variable of each axis; None for an axis of 1."""


@dataclass(eq=False)
class Group:
    """Elementwise operations and reductions that share loops.

    Attributes:
        block: Where it belongs.
        members: The operations, in the order of computation.
        coords: The loop variables of each result.
        reads: Those of the argument of each reduction.
        sizes: The number of steps of each variable.
    """

    block: Block
    members: list[Node] = field(default_factory=list)
    coords: dict[Node, Coords] = field(default_factory=dict)
    reads: dict[Node, Coords] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node, variables: Sequence[str | None]) -> None:
        """Add an operation with these loop variables; axes without one get a new one, if they are longer than 1."""
        coords = [*variables]
        for axis, size in enumerate(loop_shape(node)):
            if coords[axis] is None and size != 1:
                coords[axis] = fresh = f"i{len(self.sizes)}"
                self.sizes[fresh] = to_size(size, node.graph.rows)
        self.members.append(node)
        if node.op in REDUCE:
            self.reads[node] = tuple(coords)
            axes, kept = node.attributes["axes"], node.attributes["keepdims"]
            coords = [None if axis in axes else v for axis, v in enumerate(coords) if kept or axis not in axes]
        self.coords[node] = tuple(coords)

    def sum_variables(self, node: Node) -> list[str]:
        """Return the variables that a reduction sums over."""
        return [variable for variable in self.reads[node] if variable and variable not in self.coords[node]]


def loop_shape(node: Node) -> Sizes:
    """Return the sizes that an elementwise operation or a reduction loops over."""
    return node.args[0].shape if node.op in REDUCE else node.shape


def split_views(node: Node) -> tuple[Node, list[Node]]:
    """Return the operation that makes the elements of a node, and the views of it from there to the node."""
    views: list[Node] = []
    while node.op in VIEWS and isinstance(node.args[0], Node):
        views.append(node)
        node = node.args[0]
    return node, views[::-1]


def sizes_of(node: Node) -> Sizes:
    """Return the shape of a node, as sizes."""
    return tuple(to_size(size, node.graph.rows) for size in node.shape)


def apply_view(view: View, node: Node) -> View:
    """Return a view through an operation that is a view.

    Raises:
        NeedsCopy: A reshape needs a copy of these elements.
    """
    if node.op in ("broadcast_to", "reshape"):
        apply: Any = getattr(view, node.op)
        viewed: View = apply(sizes_of(node))
        return viewed
    return getattr(view, node.op)(**node.attributes)  # type: ignore[no-any-return]


class Block:
    """A scheduled list of operations: a step, a part of it, or the body of a loop.

    Attributes:
        parent: The block around it, whose results it reads.
        root: The outermost block.
        loops: How many loops there are, in the root.
        outputs: The results that are read from outside.
        inputs: Nodes that are computed elsewhere.
        order: All nodes in the order of computation.
        computed: All nodes but the inputs.
        consumers: The nodes that read each node.
        ops: Groups, and the operations that stand alone, in order.
        where: The index in ``ops`` of each operation.
        evaluated: The indices of the groups that compute each operation.
        stored: The members of groups that are written to memory.
        views: Where each node lies in memory.
        loop_results: Where the results of each loop lie.
    """

    def __init__(self, outputs: Iterable[Any], inputs: Iterable[Node] = (), parent: Block | None = None) -> None:
        """Begin a block; ``schedule`` makes the decisions."""
        self.parent = parent
        self.root: Block = parent.root if parent else self
        self.loops = 0
        self.outputs, self.inputs = nodes_in(outputs), set(inputs)
        self.order = order_nodes(self.outputs, self.inputs)
        self.computed = {node for node in self.order if node not in self.inputs}
        self.consumers: dict[Node, list[Node]] = defaultdict(list)
        for node in self.order:
            for arg in nodes_in(node.args) if node in self.computed else ():
                self.consumers[arg].append(node)
        self.ops: list[Group | Node] = []
        self.where: dict[Node, int] = {}
        self.evaluated: dict[Node, set[int]] = {}
        self.stored: set[Node] = set()
        self.views: dict[Node, View] = {}
        self.loop_results: dict[Node, list[View]] = {}
        self._floating: set[Node] = set()
        self._depths: dict[Node, int] = {}

    def schedule(self) -> Block:
        """Decide what shares loops and what is stored.

        Raises:
            CannotLower: Too many operations are inside one another.
        """
        self._read_from_memory = set(self._bases_in_memory())
        for node in self._operations():
            if node.op == "part":
                continue
            if node.op not in REDUCE and not is_elementwise(node):
                self.where[node] = len(self.ops)
                self.ops.append(node)
                continue
            self._measure(node)
            if self._floats(node):
                self._floating.add(node)
            elif not self.is_scalar(node):
                self._join(node)
        self._choose_stored()
        return self

    def _measure(self, node: Node) -> None:
        """Note how many operations are inside one another, without products and loops between them."""
        self._depths[node] = 1 + max(
            (self._depths.get(split_views(arg)[0], 0) for arg in nodes_in(node.args)), default=0
        )
        if self._depths[node] > _DEEPEST:
            raise CannotLower(
                f"a formula of more than {_DEEPEST} operations inside one another, such as those of an unrolled loop, "
                "has no form in a kernel; framework.loop is one operation"
            )

    def _operations(self) -> Iterator[Node]:
        """Give what the block computes, in order."""
        return (node for node in self.order if node in self.computed and node.op not in VIEWS | _SOURCES)

    # numbers, and what is cheap

    def is_scalar(self, node: Node) -> bool:
        """Return whether a node is a number that depends on numbers of the step alone: it is computed before it."""
        if node.shape or node.op in REDUCE:
            return False
        return all(
            arg.op == "rows" or self.is_number(arg) or (is_elementwise(arg) and self.is_scalar(arg))
            for arg in nodes_in(node.args)
        )

    def is_number(self, node: Node) -> bool:
        """Return whether a node is a number of the step: what the loss is divided by."""
        names = node.name.rstrip(">").split(" ") if node.op == "input" and not node.shape else [""]
        return names[-1] == "count" and "number" not in names  # a parameter may be called count

    def _floats(self, node: Node) -> bool:
        """Return whether a cheap operation depends on cheap inputs alone, and is computed wherever it is read.

        It belongs to no group: targets as one of k are made from the classes in the nest of the loss. In a group of
        their own they would force what reads them into it.
        """
        if not is_elementwise(node) or node.op in EXPENSIVE or self.is_scalar(node) or node in self._read_from_memory:
            return False
        return all(self._is_cheap(split_views(arg)[0]) for arg in nodes_in(node.args))

    def _is_cheap(self, base: Node) -> bool:
        if base.op == "input":
            return base.kind == "i" or self.is_number(base)
        return base.op in _SOURCES or base.op == "broadcast_to" or base in self._floating or self.is_scalar(base)

    def _bases_in_memory(self) -> Iterator[Node]:
        """Give the operations that must lie in memory: the outputs, and what is read by no nest of a group."""
        for output in self.outputs:
            yield split_views(output)[0]
        for node in self._operations():
            for base, views in map(split_views, nodes_in(node.args)):
                if not (node.op in REDUCE or is_elementwise(node)) or _merges(views):
                    yield base

    # what shares loops

    def _join(self, node: Node) -> None:
        """Add an operation to the last group that it fits, which must not come before any of its arguments."""
        bases = [split_views(arg)[0] for arg in nodes_in(node.args)]
        makers = [base.args[0] if base.op == "part" else base for base in bases]
        first = max((self.where[maker] for maker in makers if maker in self.where), default=0)
        for index in range(len(self.ops) - 1, first - 1, -1):
            group = self.ops[index]
            variables = self._unify(node, group) if isinstance(group, Group) else None
            if variables is not None:
                break
        else:
            index, group, variables = len(self.ops), Group(self), [None] * len(loop_shape(node))
            self.ops.append(group)
        assert isinstance(group, Group)
        group.add(node, variables)
        self.where[node] = index

    def _unify(self, node: Node, group: Group) -> list[str | None] | None:
        """Return the loop variables of a group for an operation that reads its members; None if it does not fit.

        An operation joins the nest that makes its arguments, so that they stay in registers. It does not where

        - it reads no member: the nest would gain nothing;
        - it reads a member by other indices than the nest computes it with, such as the next element;
        - it reads a reduction over the rows, or over a long axis, which is complete only after a pass over all of it;
          so too if that axis is long together with those of other reductions that the nest reads;
        - it needs an axis that the nest has not: everything in the nest would be computed again along it. An axis that
          the nest reduces is run through again, as for softmax.
        """
        shape = loop_shape(node)
        variables: list[str | None] = [None] * len(shape)
        reads = False
        for arg in nodes_in(node.args):
            base, views = split_views(arg)
            if base not in group.coords:
                continue
            coords = _carry(group.coords[base], views)
            if coords is None or (base.op in REDUCE and _count_repeats(group, base) > _LONGEST_ROW):
                return None
            reads = True
            for axis, variable in enumerate(coords, len(shape) - arg.ndim):
                if variable and variables[axis] not in (None, variable):
                    return None
                variables[axis] = variable or variables[axis]
        missing = [axis for axis, size in enumerate(shape) if variables[axis] is None and size != 1]
        if len(missing) == 1:
            variables[missing[0]] = self._find_reduced_variable(
                group, to_size(shape[missing[0]], node.graph.rows), variables
            )
        used = [variable for variable in variables if variable]
        covers = not any(variables[axis] is None for axis in missing)
        return variables if reads and covers and len(set(used)) == len(used) else None

    @staticmethod
    def _find_reduced_variable(group: Group, size: int, used: list[str | None]) -> str | None:
        """Return a variable of this size that the group has only reduced so far."""
        read = (variable for node in group.members if node.op in REDUCE for variable in group.reads[node])
        return next((v for v in read if v and v not in used and group.sizes[v] == size), None)

    # what is stored

    def _choose_stored(self) -> None:
        """Decide, from the last operation to the first, which groups compute each one, and what is stored.

        A member of a group is stored if something else than a group reads it, or if another group does and it is a
        reduction or expensive. Where only cheap operations lie between two nests, the later one computes them again.
        """
        readers: dict[Node, set[int]] = defaultdict(set)
        for output in self.outputs:
            readers[split_views(output)[0]].add(MEMORY)
        for node in reversed([*self._operations()]):
            places = readers[node]
            if not places:
                continue
            if node.op == "part":
                readers[node.args[0]].add(MEMORY)
                continue
            own = self.where.get(node)
            if own is not None and not isinstance(self.ops[own], Group):
                places = {MEMORY}
            elif own is not None and places != {own} and (MEMORY in places or node.op in REDUCE | EXPENSIVE):
                places = {own}
                self.stored.add(node)
            self.evaluated[node] = places
            for base, views in map(split_views, nodes_in(node.args)):
                readers[base] |= places
                if places != {MEMORY} and _merges(views):
                    readers[base].add(MEMORY)

    # where it is stored

    def shape(self, node: Node) -> Sizes:
        """Return the shape of a node, as sizes."""
        return sizes_of(node)

    def buffer(
        self, name: str, shape: Iterable[int], kind: str = "f", order: Sizes | None = None, role: str = "temp"
    ) -> Buffer:
        """Return a new buffer; without an order its last axis is contiguous."""
        shape = tuple(shape)
        return Buffer(name, shape, kind, tuple(range(len(shape))) if order is None else order, role)

    def storage(self, node: Node) -> View:
        """Return where a node that lies in memory is; it is decided when it is first asked."""
        if node not in self.views:
            if self.parent is not None and node not in self.computed:
                return self.parent.storage(node)
            self.views[node] = self._allocate(node)
        return self.views[node]

    def _allocate(self, node: Node) -> View:
        if node.op == "part":
            index: int = node.attributes["index"]
            return self.loop_results[node.args[0]][index]
        if node.op == "constant":
            value = node.attributes["value"].value
            constant = self.buffer("const", value.shape, node.kind, role="const")
            constant.value = value
            return constant.view()
        if node.op == "broadcast_to":
            number = self.buffer("const", (), node.kind, role="const")
            number.value = np.array(node.args[0])
            return number.view().broadcast_to(sizes_of(node))
        view = self._destination(node)
        if view is None:
            view = self.buffer("t", sizes_of(node), node.kind, self.layout(node)).view()
        if node.op in JOINS and view.buffer.role == "temp" and not _covers(node):
            view.buffer.role, view.buffer.value = "filled", node.attributes.get("value", 0.0)
        return view

    def _destination(self, node: Node) -> View | None:
        """Return the part of a larger array that a node is made for, if nothing else reads it.

        So nothing is copied to pad an image, or to join the gradients of several heads; the zeros around are written
        once, before the first step.
        """
        readers = self.consumers[node]
        if len(readers) != 1 or node in self.outputs or readers[0].args.count(node) != 1:
            return None
        (whole,) = readers
        if whole.op not in JOINS or whole.op == "set_index" or whole.attributes.get("add"):
            return None
        return part_of(self.storage(whole), whole, whole.args.index(node))

    def layout(self, node: Node) -> Sizes | None:
        """Return the order of axes in memory: that of a transpose of the node that is then reshaped, or None.

        The heads of attention are split, transposed and merged again. Stored in the order of the merged array, the
        reshape is a view; in any other it is a copy.
        """
        orders = [(node, tuple(range(node.ndim)))]
        while orders:
            source, order = orders.pop()
            for turned in self.consumers[source]:
                if turned.op == "transpose":
                    axes = tuple(order[axis] for axis in turned.attributes["axes"])
                    if any(reader.op == "reshape" for reader in self.consumers[turned]):
                        return axes
                    orders.append((turned, axes))
        return None


def part_of(whole: View, node: Node, argument: int) -> View:
    """Return the part of a join that one of its arguments is written into."""
    if node.op == "pad":
        return whole.unpad(node.attributes["width"])
    if node.op == "place":
        return whole.index(node.attributes["indices"][argument])
    if node.op == "set_index":
        return whole.index(node.attributes["index"]) if argument else whole
    along = node.attributes["axis"]
    start = sum(sizes_of(arg)[along] for arg in node.args[:argument])
    span = start, start + sizes_of(node.args[argument])[along], 1
    return whole.index(span if axis == along else None for axis in range(node.ndim))


def _covers(node: Node) -> bool:
    """Return whether a join writes all of its memory itself."""
    if node.op == "place" and not node.attributes["add"]:
        return sum(math.prod(values.shape) for values in nodes_in(node.args)) == math.prod(node.shape)
    return node.op != "pad"


def _count_repeats(group: Group, reduction: Node) -> int:
    """Return over how many elements a nest passes again for this reduction and for those that are read already."""
    read = {reduction, *(split_views(arg)[0] for node in group.members for arg in nodes_in(node.args))}
    reductions = (node for node in group.members if node.op in REDUCE and node in read)
    variables = {variable for node in reductions for variable in group.sum_variables(node)}
    return math.prod(group.sizes[variable] for variable in variables)


def _carry(coords: Coords, views: Iterable[Node]) -> Coords | None:
    """Return the loop variables of the axes of a view; None if it reads other indices than those of the loops."""
    for view in views:
        source = view.args[0].shape
        if view.op == "transpose":
            coords = tuple(coords[axis] for axis in view.attributes["axes"])
        elif view.op == "broadcast_to":
            lead = view.ndim - len(source)
            spread = (1,) * lead + source
            coords = tuple(
                None if size != whole else variable
                for variable, size, whole in zip((None,) * lead + coords, spread, view.shape, strict=True)
            )
        elif view.op == "reshape":
            moved: list[str | None] = [None] * view.ndim
            for mine, others in _long_axes(source, view.shape):
                if len(mine) != len(others) or len(mine) > 1:
                    return None
                if mine:
                    moved[others[0]] = coords[mine[0]]
            coords = tuple(moved)
        else:
            return None
    return coords


def _merges(views: Iterable[Node]) -> bool:
    """Return whether a reshape among views makes one axis of several: its argument must lie in memory as one."""
    reshapes = (view for view in views if view.op == "reshape")
    return any(len(mine) > 1 for view in reshapes for mine, _ in _long_axes(view.args[0].shape, view.shape))


def _long_axes(source: Sizes, target: Sizes) -> Iterator[tuple[list[int], list[int]]]:
    """Give the groups of axes of a reshape without axes of 1."""
    for mine, others in axis_groups(source, target):
        yield [axis for axis in mine if source[axis] != 1], [axis for axis in others if target[axis] != 1]
