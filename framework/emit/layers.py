"""LayerProgram: the forward and backward passes of a layer's formula, derived and emitted once for its shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np

from framework.emit.numpy import Emitted, emit
from framework.errors import DerivativeError
from framework.graph.gradient import gradients
from framework.graph.graph import Call
from framework.graph.lower import is_columns, lower, recognise
from framework.graph.node import Node, needed, nodes_in, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.reads import Reads
from framework.graph.rows import mixing, over_shards
from framework.graph.trace import ROWS, Traced, trace

_FREE = frozenset({"constant", "rows", "row_numbers"})
"""Operations without arguments, which are computed again instead of saved."""

_WHOLE = {"i": "int64", "b": "bool"}
"""The dtype of made-up numbers of each kind."""


class LayerProgram:
    """A layer's formula for one shape of samples.

    Attributes:
        traced: The formula as a graph: the leaves of x and the parameters, then the output and the new buffers.
        leaves: The names of the arguments that are leaves of x.
        call: The call of an activation that ends the formula, or None.
        activates_input: Whether h, the argument of that call, is x itself.
        reads: The values that the formula reads besides its arguments and settings.
    """

    def __init__(
        self,
        formula: Callable[..., Any],
        shapes: Mapping[str, tuple[int, ...]],
        dtype: str,
        *,
        kinds: Mapping[str, str],
        leaves: tuple[str, ...],
        parameters: tuple[str, ...],
        mixes_rows: bool,
        reads: Reads,
        ours: bool,
    ) -> None:
        """Trace a formula.

        Args:
            formula: (leaves of x, parameters, ...) -> the output, or a tuple of the output and the new buffers.
            shapes: The shape of each argument, x first, with ``trace.ROWS`` for the number of rows.
            dtype: The dtype of floats.
            kinds: The kind of each buffer.
            leaves: The names of the arguments that are leaves of x; a plain x is one leaf.
            parameters: The names of the arguments that are learnt.
            mixes_rows: Whether the output of a row may depend on other rows.
            reads: The values that the formula reads besides its arguments and settings.
            ours: Whether the formula is the library's own, which tests check for any number of rows.

        Raises:
            DerivativeError: The formula cannot be traced, or it mixes rows.
        """
        traced = trace(formula, shapes, dtype, kinds=kinds, open_rows=not ours)
        output = traced.output
        if not isinstance(output, Node) or not output.shape or traced.graph.rows_in(output.shape[0]) != 1:
            found = traced.graph.shape_text(output.shape) if isinstance(output, Node) else repr(output)
            raise DerivativeError(f"the formula must return an array with a row for each row of x; it returns {found}")
        if not mixes_rows and (mixed := mixing(output)):
            raise DerivativeError(
                f"the formula mixes rows, by {mixed}: a row's output must depend on that row alone. Use another axis, "
                "or set mixes_rows = True in the class, as BatchNorm does"
            )
        self.traced, self.leaves, self.parameters, self.reads = traced, leaves, parameters, reads
        self.call: Call | None = traced.graph.calls.get(output)
        self.activates_input = self.call is not None and self.call.argument is traced.inputs.get("x")
        self.sample_shape = output.shape[1:]
        self._variants: dict[tuple[bool, bool], Emitted] = {}

    @cached_property
    def of_shards(self) -> LayerProgram:
        """The passes for a shard, a part of a batch: sums over rows go over all shards.

        Raises:
            DerivativeError: The formula mixes rows by something else.
        """
        if mixed := mixing(*nodes_in(self.traced.outputs), summing=False):
            raise DerivativeError(
                f"the formula mixes rows, by {mixed}; parts of a batch can be computed apart where np.sum, np.mean, "
                "np.var or np.std over the rows alone mix them"
            )
        twin, names = copy(self), [*self.traced.inputs]
        for name in [name for name, value in vars(LayerProgram).items() if isinstance(value, cached_property)]:
            twin.__dict__.pop(name, None)
        found = over_shards([*self.traced.outputs, *self.traced.inputs.values()])
        outputs, inputs = found[: -len(names)], found[-len(names) :]
        twin.traced = Traced(dict(zip(names, inputs, strict=True)), tuple(outputs))
        twin.call, twin._variants = twin.traced.graph.calls.get(twin.traced.output), {}
        return twin

    @cached_property
    def _graph(self) -> _Lowered:
        """The formula with all gradients, lowered for NumPy."""
        return _Lowered(self)

    @cached_property
    def predict(self) -> Emitted:
        """The forward pass without a record: (output, new buffers, h where an activation ends it and h is not x)."""
        lowered = self._graph
        return emit(lowered.results, lowered.inputs, name="predict")

    @cached_property
    def forward(self) -> Emitted:
        """The forward pass: as ``predict``, then the values that the backward pass reads, and those of ``softmax``."""
        lowered = self._graph
        results = {**lowered.results, **lowered.further, **lowered.softmax}
        return emit(results, lowered.inputs, name="forward", share=True)

    @cached_property
    def kept(self) -> tuple[int, ...]:
        """The places in the result of ``forward`` of what the backward pass reads."""
        return self._graph.kept

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the last results of ``forward`` are h less the largest of its row, and the sum of exp of that."""
        return bool(self._graph.softmax)

    @property
    def prediction(self) -> tuple[dict[str, Node], dict[str, Any]]:
        """The inputs and the results of ``predict`` by name, as nodes of a graph that is lowered for NumPy."""
        return self._graph.inputs, self._graph.results

    def backward(self, *, fused: bool, input_gradient: bool) -> Emitted:
        """Return the backward pass: (gradient, leaves of x, parameters, saved) -> dL/dx; fills parameters' gradients.

        Args:
            fused: Whether ``gradient`` is dL/dh of the activation that ends the formula, not dL/d(output).
            input_gradient: Whether dL/dx is wanted.
        """
        variant = (fused, input_gradient)
        if variant not in self._variants:
            lowered = self._graph
            found = lowered.gradients[fused]
            outputs = {f"d_{name}": found[name] for name in self.parameters}
            if input_gradient:
                outputs = {**{f"d{leaf}": found[leaf] for leaf in self.leaves}, **outputs}
            saved = {f"saved_{place}": node for place, node in enumerate(lowered.saved)}
            inputs = {f"in_{name}": node for name, node in lowered.inputs.items()}  # apart from saved_
            given = {"gradient": lowered.seeds[fused], **inputs, **saved}
            into = {f"d_{name}": f"out_{name}" for name in self.parameters}
            self._variants[variant] = emit(outputs, given, name="backward", into=into)
        return self._variants[variant]


class _Lowered:
    """A layer's formula and its gradients in one graph, lowered for NumPy.

    Attributes:
        inputs: x, the parameters and the other arguments by name.
        results: h, the output and the new buffers by name.
        seeds: The gradient that the backward pass starts from: dL/d(output), and dL/dh where an activation ends it.
        gradients: The gradients of x and the parameters by name, for each seed.
        saved: The values of the forward pass that the backward pass reads.
        further: Those of them that are not among the results, by name.
        softmax: For a loss, if the formula ends in a softmax: h less its largest number in the row, and the sum of exp
            of that; by name.
        kept: The places of ``saved`` in the results and ``further``.
    """

    def __init__(self, program: LayerProgram) -> None:
        traced, call = program.traced, program.call
        names = list(traced.inputs)
        wanted = [*program.leaves, *program.parameters]
        h = None if call is None else call.argument
        first = [traced.output, h, *traced.outputs[1:], *traced.inputs.values()]
        calls = traced.graph.calls
        if not any(c.pullback for c in calls.values()):  # a written derivative is for the nodes as they are
            first = recognise(first)
        graph = next(iter(nodes_in(first))).graph
        output, h, *rest = first
        ends_in_softmax = h is not None and output.op == "softmax"
        buffers, inputs = rest[: len(rest) - len(names)], dict(zip(names, rest[len(rest) - len(names) :], strict=True))
        seeds = {False: graph.input("gradient", output.shape)}
        if isinstance(h, Node):
            seeds[True] = graph.input("delta", h.shape)
        found = {
            fused: gradients([(h if fused else output, seed)], [inputs[name] for name in wanted])
            for fused, seed in seeds.items()
        }
        lowered = lower(
            [output, h, *buffers, *inputs.values(), *seeds.values(), *(g for part in found.values() for g in part)]
        )
        take = iter(lowered)
        output, h = next(take), next(take)
        new = [next(take) for _ in buffers]
        self.inputs = {name: next(take) for name in names}
        self.seeds = {fused: next(take) for fused in seeds}
        self.gradients = {fused: {name: next(take) for name in wanted} for fused in seeds}
        self.results = {"output": output, **{f"buffer_{place}": value for place, value in enumerate(new)}}
        if h is not None and not program.activates_input:
            self.results["h"] = h
        self.saved = self._read()
        further = [node for node in self.saved if node not in self.results.values()]
        self.further = {f"saved_{place}": node for place, node in enumerate(further)}
        self.softmax: dict[str, Node] = {}
        match output:
            case Node("divide", (Node("exp", (shifted,)), total)) if ends_in_softmax:
                self.softmax = {"shifted": shifted, "total": total}
        forward = [*self.results.values(), *further]
        self.kept = tuple(forward.index(node) for node in self.saved)

    def _read(self) -> list[Node]:
        """Return the nodes of the forward pass that a gradient reads; for a view, the array that it is taken from."""
        forward = needed(self.results.values())
        backward = [ordered(part.values()) for part in self.gradients.values()]
        forward |= {node for part in backward for node in part if node.op == "part" and node.args[0] in forward}
        known = {*self.inputs.values(), *self.seeds.values()}
        read: list[Node] = []
        for part, order in zip(self.gradients.values(), backward, strict=True):
            for node in order:
                read += [node] if node in forward and node in part.values() else []
                read += [arg for arg in nodes_in(node.args) if node not in forward and arg in forward]
        saved: list[Node] = []
        for value in read:
            base = value
            while OPERATIONS[base.op].view and isinstance(base.args[0], Node) and not is_columns(base):
                base = base.args[0]
            if base not in known and base not in saved and base.op not in _FREE and base.fill is None:
                saved.append(base)
        return saved


def require_same(program: LayerProgram, formula: Callable[..., Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the graph of a formula computes what the formula itself does, for some numbers of rows.

    Raises:
        DerivativeError: It does not: the formula branches on the number of rows, or depends on something else that is
            not in the graph.
    """
    dtype = program.traced.graph.dtype
    for rows in (2, 5, 1):
        sizes = [tuple(rows if size == ROWS else size for size in shape) for shape in shapes.values()]
        arrays = [np.cos(np.arange(1.0, 1.0 + math.prod(size)) ** 1.3).reshape(size).astype(dtype) for size in sizes]
        kinds = [node.kind for node in program.traced.inputs.values()]
        arrays = [a if kind == "f" else (a > 0).astype(_WHOLE[kind]) for a, kind in zip(arrays, kinds, strict=True)]
        with np.errstate(all="ignore"):
            try:
                expected, *_ = formula(**dict(zip(shapes, arrays, strict=True)))
            except Exception:  # noqa: BLE001 (the made-up numbers are to blame)
                return
            found = program.predict(*arrays)
        found = found[0] if isinstance(found, tuple) else found
        tolerance = 1e-9 if dtype == "float64" else 1e-3
        if np.shape(expected) != found.shape or not np.allclose(
            found, expected, rtol=tolerance, atol=tolerance * np.nanmax(np.abs(expected), initial=0.0), equal_nan=True
        ):
            count = "1 row" if rows == 1 else f"{rows} rows"
            raise DerivativeError(
                f"the graph of the formula gives other values than the formula itself for {count}: it depends on "
                "the number of rows, or on something besides its arguments and settings"
            )
