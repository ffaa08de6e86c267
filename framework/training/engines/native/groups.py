"""Groups as nests of loops.

A group that reads none of its own reductions is one pass over its elements. One that does, such as softmax, unrolls
them if they are of a few elements; else it passes several times over each row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial, reduce
from itertools import product
from typing import NamedTuple

from framework.graph.node import Node, nodes_in
from framework.training.engines.native.formulas import FOLDS, Formula, storage_text
from framework.training.engines.native.indices import Coords, Index, coords_of, element_index
from framework.training.engines.native.rewrite import REDUCE
from framework.training.engines.native.schedule import EXPENSIVE, Coords as Variables, Group, split_views
from framework.training.engines.native.views import ROWS, View, size_text
from framework.training.engines.native.writer import Nest, NestWriter

UNROLLED = 8
"""The most elements of a reduction that are computed one after another in a formula, instead of in a loop."""

_JAMMED = 4
"""How many rows are added to sums in memory at a time, so that these are loaded and stored less often."""

_JOINS = FOLDS | {"all": "smallest({0}, {1})", "any": "largest({0}, {1})"}
"""How reductions join stored values: booleans are 0 and 1."""

_STARTS = {"sum": "0.0", "max": "-inf", "min": "inf", "prod": "1.0", "all": "1.0", "any": "0.0"}


def write_group(writer: NestWriter, position: int, group: Group) -> None:
    """Write the nest of a group, which is the operation of its block at this index."""
    block = group.block
    needed = [node for node in group.members if node in block.stored and 0 not in node.shape]
    live = [node for node in group.members if position in block.evaluated.get(node, ())]
    if not needed:
        return
    read = {split_views(arg)[0] for node in live for arg in nodes_in(node.args)}
    again = {variable for node in live if node.op in REDUCE and node in read for variable in group.sum_variables(node)}
    if math.prod(group.sizes[variable] for variable in again) > UNROLLED:
        _Rows(writer, position, group, needed, live, again).write()
    else:
        _Pass(writer, position, group, needed, again).write()


class _Result(NamedTuple):
    """A value of a pass.

    Attributes:
        node: The node that it is an element of, or that it is a part of the reduction of.
        view: Where the node is stored.
        at: Where the element lies.
        text: The value, as it is stored.
        summed: The loop variables that a reduction sums over.
    """

    node: Node
    view: View
    at: Index
    text: str
    summed: tuple[str, ...]


class _Body(NamedTuple):
    """One place of the loops of a pass: a formula, and the results that it gives."""

    formula: Formula
    results: list[_Result]

    def indices(self) -> list[Index]:
        """Return where the loaded and the stored elements lie."""
        return [*(index for _, index in self.formula.loads), *(result.at for result in self.results)]


class _Sum(NamedTuple):
    """A reduction in a pass.

    Attributes:
        result: What it joins.
        register: The name of its register.
        level: How many loops are outside of it. Within all of them the sum is in memory, else in its register.
        whole: Whether it is complete when the loops inside end, and was not begun before them.
    """

    result: _Result
    register: str
    level: int
    whole: bool


class _Pass:
    """Writes a group as one pass over its elements."""

    def __init__(
        self, writer: NestWriter, position: int, group: Group, needed: Sequence[Node], unrolled: set[str]
    ) -> None:
        """Choose the order of the loops, and which are unrolled.

        Args:
            writer: The writer of the kernel.
            position: The index of the group in its block.
            group: The group.
            needed: The members to store.
            unrolled: Variables without loops: the formula has the elements of all their values.
        """
        self._nest, self._position, self._group, self._needed = Nest(writer), position, group, needed
        self._lanes, self._sizes, self._unrolled = writer.lanes, dict(group.sizes), unrolled
        variables = {v for node in needed for v in group.reads.get(node, group.coords[node]) if v}
        while True:  # unroll the innermost loop as long as it is too short for vectors
            body = self._body({})
            loops = self._order_by_stride([v for v in group.sizes if v in variables - self._unrolled], body)
            if not self._is_short(loops, body):
                break
            self._unrolled = self._unrolled | {loops[-1]}
        self._loops = self._merge_loops(loops, body)
        self._sums = [*self._sums_of(result for result in body.results if result.summed)]
        self._jammed = self._loops[-2] if self._can_jam() else None

    def write(self) -> None:
        """Write the nest, and call it."""
        for total in self._sums:
            if self._in_memory(total) or not total.whole:
                self._nest.fill_first(total.result.view, _start(total.result.node))
        self._write_loops(0, 1)
        self._nest.call()

    def _body(self, shift: Mapping[str, int]) -> _Body:
        """Return the formula of one iteration and its results; the reductions come last.

        Args:
            shift: How much further than the loop variables some of the coordinates are.
        """
        group, block = self._group, self._group.block
        formula = Formula(self._nest.writer, block, self._position, {})
        results = []
        for node in self._needed:
            view, reduced = block.storage(node), group.sum_variables(node) if node.op in REDUCE else []
            within = [variable for variable in reduced if variable in self._unrolled]
            for values in self._values(v for v in group.coords[node] if v in self._unrolled):
                coords = _shift_coords(group.coords[node], values, shift)
                if node.op in REDUCE:
                    all_values = ({**values, **more} for more in self._values(within))
                    elements = (_shift_coords(group.reads[node], some, shift) for some in all_values)
                    text = formula.fold(node.op, (formula.value(node.args[0], element) for element in elements))
                else:
                    text = formula.value(node, coords)
                summed = tuple(variable for variable in reduced if variable not in self._unrolled)
                results.append(_Result(node, view, element_index(view, coords), storage_text(node, text), summed))
        return _Body(formula, sorted(results, key=lambda result: bool(result.summed)))

    def _values(self, variables: Iterable[str]) -> Iterator[dict[str, int]]:
        """Give all values of some variables."""
        names = [*variables]
        for values in product(*(range(self._group.sizes[name]) for name in names)):
            yield dict(zip(names, values, strict=True))

    # the loops

    def _order_by_stride(self, variables: Sequence[str], body: _Body) -> list[str]:
        """Return loop variables, those first that take the longest strides."""
        indices, stores = body.indices(), [result.at for result in body.results if not result.summed]
        return sorted(
            variables,
            key=lambda v: (_least_stride(v, indices), _least_stride(v, stores) or _least_stride(v, indices)),
            reverse=True,
        )

    def _is_short(self, loops: Sequence[str], body: _Body) -> bool:
        """Return whether the innermost of several loops is too short for vectors, so that it is unrolled."""
        if len(loops) < 2 or self._sizes[loops[-1]] > UNROLLED // 2 or self._continues(loops[-2], loops[-1], body):
            return False
        return math.prod(self._sizes[variable] for variable in {*self._unrolled, loops[-1]}) <= 2 * UNROLLED

    def _merge_loops(self, loops: Sequence[str], body: _Body) -> list[str]:
        """Return the loops, those as one whose elements follow one another."""
        left = [*loops]
        for depth in reversed(range(len(left) - 1)):
            outer, inner = left[depth : depth + 2]
            if self._continues(outer, inner, body):
                self._sizes[inner] *= self._sizes[outer]
                self._nest.merged.add(left.pop(depth))
        return left

    def _continues(self, outer: str, inner: str, body: _Body) -> bool:
        """Return whether in all arrays a step of a loop is where the loop inside ends."""
        size, variables = self._sizes[inner], body.formula.variables
        together = ((outer in result.summed) == (inner in result.summed) for result in body.results if result.summed)
        if outer in variables or inner in variables or not all(together):
            return False
        return all(index.factor(outer) == index.factor(inner) * size for index in body.indices())

    def _sums_of(self, results: Iterable[_Result]) -> Iterator[_Sum]:
        """Give the reductions, each with its place among the loops."""
        for number, result in enumerate(results):
            own = [v in self._group.coords[result.node] for v in self._loops]
            level = max((depth for depth, inside in enumerate(own, 1) if inside), default=0)
            whole = not any(variable in result.summed for variable in self._loops[:level])
            yield _Sum(result, f"a{number}", level, whole)

    def _in_memory(self, total: _Sum) -> bool:
        return total.level == len(self._loops)

    def _can_jam(self) -> bool:
        """Return whether the loop around the innermost one runs over rows that are all added to sums in memory."""
        if len(self._loops) < 2 or self._sizes[self._loops[-2]] < ROWS or not any(map(self._in_memory, self._sums)):
            return False
        return all(self._loops[-2] in total.result.summed for total in self._sums)

    # the text

    def _write_loops(self, depth: int, rows: int) -> None:
        """Write the loops from a depth on, the innermost one for some rows at a time."""
        if depth == len(self._loops):
            self._write_body(rows)
            return
        nest, sums = self._nest, [total for total in self._sums if total.level == depth]
        for total in sums:
            nest.add(f"{total.register} = {_start(total.result.node)}")
        variable = self._loops[depth]
        size = size_text(self._sizes[variable])
        bounds = {1: size}
        if variable == self._jammed:
            nest.add(f"whole = {size} - {size} % {_JAMMED}")
            bounds = {_JAMMED: f"0, whole, {_JAMMED}", 1: f"whole, {size}"}
        for count, bound in bounds.items():
            with nest.add_loops([(variable, bound)]):
                self._write_loops(depth + 1, max(rows, count))
        for total in sums:
            element = nest.at(total.result.view, total.result.at)
            value = total.register if total.whole else _join(total.result.node, element, total.register)
            nest.add(f"{element} = {value}")

    def _write_body(self, rows: int) -> None:
        nest, terms = self._nest, dict[int, list[str]]()
        for row in range(rows):
            formula, results = self._body({self._jammed: row} if self._jammed else {})
            outputs = [f"r{row}_{number}" for number in range(len(results))]
            nest.evaluate(formula, [result.text for result in results], outputs)
            for number, (result, output) in enumerate(zip(results, outputs, strict=True)):
                if result.summed:
                    terms.setdefault(number, []).append(output)
                else:
                    nest.add(f"{nest.at(result.view, result.at)} = {output}")
        long = self._jammed is not None or (bool(self._loops) and self._sizes[self._loops[-1]] >= 8 * self._lanes)
        for total, outputs in zip(self._sums, terms.values(), strict=True):
            node = total.result.node
            value = reduce(partial(_join, node), outputs)
            if self._in_memory(total):
                element = nest.at(total.result.view, total.result.at)
                nest.add(f"{element} = {_join(node, element, value)}")
            else:
                nest.add(_join_line(node, total.register, value, long=long))


class _Later(NamedTuple):
    """A value of a pass over a row that later passes read.

    Attributes:
        name: The register, or the array.
        variables: The variables of the row that it varies with; none for a register.
    """

    name: str
    variables: tuple[str, ...]


class _Rows:
    """Writes a group as several passes over each row: one for each reduction that waits for another one.

    The maximum, the sum of the exponentials and the quotients of softmax are three passes. Expensive values that a
    later pass reads, here the exponentials, are kept in an array of the nest.
    """

    def __init__(
        self,
        writer: NestWriter,
        position: int,
        group: Group,
        needed: Sequence[Node],
        live: Sequence[Node],
        again: set[str],
    ) -> None:
        """Sort the members into passes.

        Args:
            writer: The writer of the kernel.
            position: The index of the group in its block.
            group: The group.
            needed: The members to store.
            live: The members to compute.
            again: The variables of the passes; the loops of all others are around them.
        """
        self._nest, self._position, self._group, self._needed, self._live = Nest(writer), position, group, needed, live
        self._lanes = writer.lanes
        self._inner = [variable for variable in group.sizes if variable in again]
        self._levels: dict[Node, int] = {}
        for node in live:
            bases = (split_views(arg)[0] for arg in nodes_in(node.args))
            levels = (self._levels[base] + (base.op in REDUCE) for base in bases if base in self._levels)
            self._levels[node] = max(levels, default=0)
        self._later: dict[Node, _Later] = {}
        self._known: dict[tuple[Node, Coords], tuple[str, str]] = {}

    def write(self) -> None:
        """Write the nest, and call it."""
        passes = [(span, nodes, *self._formula(nodes, span)) for span, nodes in self._passes()]
        loads = [index for _, _, formula, _ in passes for _, index in formula.loads]
        outer = [variable for variable in self._group.sizes if variable not in self._inner]
        outer.sort(key=lambda variable: -_least_stride(variable, loads))
        for name, variables in self._later.values():
            if variables:
                self._nest.head.append(f"    {name} = memory({self._elements(variables)})")
        with self._loops(outer):
            for number, (span, nodes, formula, results) in enumerate(passes):
                self._write_pass(number, span, nodes, formula, results)
        self._nest.call()

    def _passes(self) -> Iterator[tuple[tuple[str, ...], list[Node]]]:
        """Give the variables and the members of each pass; those that need no loop come first."""
        kept = {base for node in self._live for base in self._values_to_keep(node)}
        for level in range(max(self._levels.values()) + 1):
            now = [node for node in self._live if self._levels[node] == level]
            needed = [node for node in self._needed if self._levels[node] == level]
            flat = [node for node in needed if node.op in REDUCE and not self._span(node)]
            stores = [node for node in needed if node.op not in REDUCE]
            reductions = [node for node in now if node.op in REDUCE and self._span(node) and not self._is_folded(node)]
            spans: dict[tuple[str, ...], dict[Node, None]] = {}
            for node in [*flat, *stores, *reductions, *(node for node in now if node in kept)]:
                spans.setdefault(self._span(node), {})[node] = None
            for span in sorted(spans, key=bool):
                yield span, [*spans[span]]

    def _values_to_keep(self, node: Node) -> Iterator[Node]:
        """Give the expensive values of earlier passes that a node reads and that are not stored."""
        for base in (split_views(arg)[0] for arg in nodes_in(node.args)):
            earlier = base in self._levels and self._levels[base] < self._levels[node]
            if earlier and base.op in EXPENSIVE and base not in self._needed and self._varies_with(base):
                yield base

    def _span(self, node: Node) -> tuple[str, ...]:
        """Return the inner variables that a node varies with, or that it sums over."""
        return tuple(v for v in self._inner if v in self._group.reads.get(node, self._group.coords[node]))

    def _varies_with(self, node: Node) -> tuple[str, ...]:
        """Return the inner variables that a node varies with."""
        return tuple(variable for variable in self._inner if variable in self._group.coords[node])

    def _elements(self, variables: Iterable[str]) -> int:
        return math.prod(self._group.sizes[variable] for variable in variables)

    def _is_folded(self, node: Node) -> bool:
        """Return whether a reduction of a few elements is computed again in the formulas that read it."""
        variables = self._varies_with(node)
        short = self._elements(self._span(node)) <= UNROLLED * self._elements(variables)
        return bool(variables) and node not in self._needed and short

    def _formula(self, nodes: Sequence[Node], span: tuple[str, ...]) -> tuple[Formula, list[str]]:
        """Return the formula of a pass and its results, and note how later passes read them."""
        group = self._group
        formula, results = Formula(self._nest.writer, group.block, self._position, self._known), []
        for node in nodes:
            value = node.args[0] if node.op in REDUCE else node
            text = formula.value(value, coords_of(group.reads.get(node, group.coords[node])))
            results.append(storage_text(node, text))
        for node in nodes:
            kept = bool(span) and self._is_whole(node) if node.op in REDUCE else node not in self._needed
            if kept:
                variables = self._varies_with(node)
                later = _Later(f"{'w' if variables else 'q'}{len(self._later)}", variables)
                self._later[node] = later
                self._known[node, coords_of(group.coords[node])] = f"{later.name}_x", self._element(later)
        return formula, results

    def _is_whole(self, node: Node) -> bool:
        """Return whether a reduction is complete when the passes over a row are."""
        return all(variable in self._inner for variable in self._group.sum_variables(node))

    def _element(self, later: _Later) -> str:
        if not later.variables:
            return later.name
        index, step = Index(), 1
        for variable in reversed(later.variables):
            index += Index.of(variable) * step
            step *= self._group.sizes[variable]
        return f"{later.name}[{index}]"

    # the text

    def _loops(self, variables: Iterable[str]) -> AbstractContextManager[None]:
        return self._nest.loops((variable, self._group.sizes[variable]) for variable in variables)

    def _write_pass(
        self, number: int, span: tuple[str, ...], nodes: Sequence[Node], formula: Formula, results: Sequence[str]
    ) -> None:
        nest = self._nest
        for node in nodes:
            if node.op in REDUCE and node in self._later:
                name, variables = self._later[node]
                with nest.loops([("z", self._elements(variables))] if variables else []):
                    nest.add(f"{name}{'[z]' if variables else ''} = {_start(node)}")
        with self._loops(span):
            outputs = [f"r{number}_{index}" for index, _ in enumerate(nodes)]
            nest.evaluate(formula, results, outputs)
            for node, output in zip(nodes, outputs, strict=True):
                self._keep(node, output, long=self._elements(span) >= 8 * self._lanes)
        for node in nodes:
            if node in self._needed and self._is_register(node):
                nest.add(f"{self._element_of(node)} = {self._later[node].name}")

    def _keep(self, node: Node, output: str, *, long: bool) -> None:
        """Write where a result of a pass goes: into memory, or to later passes."""
        nest, reduces = self._nest, node.op in REDUCE
        if node in self._needed and not self._is_register(node):
            element = self._element_of(node)
            if reduces:
                nest.fill_first(self._group.block.storage(node), _start(node))
            nest.add(f"{element} = {_join(node, element, output) if reduces else output}")
        if node in self._later:
            element = self._element(self._later[node])
            if self._is_register(node):
                nest.add(_join_line(node, element, output, long=long))
            else:
                nest.add(f"{element} = {_join(node, element, output) if reduces else output}")

    def _is_register(self, node: Node) -> bool:
        return node in self._later and not self._later[node].variables

    def _element_of(self, node: Node) -> str:
        return self._nest.element(self._group.block.storage(node), coords_of(self._group.coords[node]))


def _shift_coords(variables: Variables, values: Mapping[str, int], shift: Mapping[str, int]) -> Coords:
    """Return coordinates where some variables have a value, and some are shifted."""
    pairs = zip(variables, coords_of(variables, values), strict=True)
    return tuple(index + (shift.get(name, 0) if name else 0) for name, index in pairs)


def _least_stride(variable: str, indices: Iterable[Index]) -> int:
    """Return the shortest stride of a variable in arrays that vary with it; 0 if none does."""
    return min((abs(factor) for index in indices if (factor := index.factor(variable))), default=0)


def _start(node: Node) -> str:
    """Return what a reduction of nothing is."""
    return f"real({_STARTS[node.op]})"


def _join(node: Node, total: str, value: str) -> str:
    return _JOINS[node.op].format(total, value)


def _join_line(node: Node, register: str, value: str, *, long: bool) -> str:
    """Return the line that joins a value to a register, in a loop that is long or short.

    The compiler interleaves four sums where it finds ``+=``, which pays in long loops alone.
    """
    if node.op == "sum" and long:
        return f"{register} += {value}"
    return f"{register} = {_join(node, register, value)}"
