"""JAX: a graph as the source of a Python function of JAX arrays, for its compiler.

The text is that of NumPy, with ``jax.numpy``, and without what NumPy needs to be fast: XLA fuses operations and lays
out memory by itself. A loop becomes a scan. A convolution stays a product with the windows of its images: in a loop
over batches on a CPU, that is two to three times as fast as a convolution of XLA. JAX is given by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from framework.backends.writer import Page, Text, Writer, gather_text, require_inputs
from framework.base.errors import DerivativeError
from framework.graph.graph import Graph
from framework.graph.node import Constant, Node, order_nodes


class Source:
    """A graph as the text of a JAX function, and the constants in it; equal if both are.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> import numpy as np
        >>> traced = trace(lambda x, w: np.maximum(x @ w, 0.0), {"x": (ROWS, 3), "w": (3, 2)})
        >>> print(Source("formula", traced.outputs, traced.inputs.values(), traced.graph).text)
        def formula(i0, i1):
            v0 = jnp.matmul(i0, i1)
            v1 = jnp.maximum(v0, 0.0)
            return (v1,)
        <BLANKLINE>
    """

    def __init__(self, name: str, outputs: Iterable[Any], inputs: Iterable[Node], graph: Graph) -> None:
        """Write a function of the inputs, in this order, that returns the tuple of the outputs.

        Raises:
            DerivativeError: An operation has no form in JAX; names it. Or the outputs need an input that is not given.
        """
        self.name, self.dtype = name, graph.dtype
        input_nodes = list(inputs)
        writer = Jax(graph, {node: f"i{index}" for index, node in enumerate(input_nodes)}, Page())
        self.constants: dict[str, Constant] = writer.page.constants
        order = [node for node in order_nodes(outputs, input_nodes) if node not in writer.names]
        require_inputs(order)
        writer.write(order)
        results = "".join(f"{writer.text(output)}, " for output in outputs).rstrip()
        names = ", ".join(writer.names[node] for node in input_nodes)
        writer.page.line(f"return ({results})")
        self.text = "\n".join([f"def {name}({names}):", *writer.rows_line(input_nodes), *writer.page.lines, ""])

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.text, self.dtype, tuple(self.constants.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def function(self, jax: Any) -> Callable[..., tuple[Any, ...]]:
        """Return the function, given the module ``jax``."""
        jnp, real = jax.numpy, jax.numpy.dtype(self.dtype)
        space = {"jax": jax, "jnp": jnp, "lax": jax.lax, "real": real.type, "inf": jnp.inf, "nan": jnp.nan}
        space |= {"erf": jax.scipy.special.erf, "erfc": jax.scipy.special.erfc}
        space |= {name: partial(helper, jax) for name, helper in _HELPERS.items()}
        space |= {key: constant.value for key, constant in self.constants.items()}
        exec(self.text, space)
        function: Callable[..., tuple[Any, ...]] = space[self.name]
        return function


class Jax(Writer):
    """Writes the lines of a function, or of the step of a scan inside it."""

    def dtype(self, kind: str) -> str:
        return {"f": "real", "i": "int", "b": "bool"}[kind]

    def template(self, node: Node) -> str:
        return super().template(node).replace("np.", "jnp.")

    def constant(self, value: Any) -> str:
        return f"jnp.asarray({super().constant(Constant(value))})"

    def full(self, node: Node) -> str:
        return f"jnp.full({self.shape(node.shape)}, {self.text(node.fill)}, {self.dtype(node.kind)})"

    # operations

    def _gather(self, node: Node) -> str:
        x, *indices = self.arguments(node)
        index = gather_text(node.attributes["axes"], indices)
        return f"{x}.at[{index}].get(mode='fill')"  # NaN for an index that NumPy refuses

    def _place(self, node: Node) -> str:
        if joined := _find_concatenation(node):  # XLA computes it faster than a sum of padded parts
            axis, pieces = joined
            texts = [f"jnp.expand_dims({self.text(x)}, {axis})" if flat else self.text(x) for flat, x in pieces]
            return f"jnp.concatenate({_tuple(texts)}, {axis})"
        parts = [
            f"placed({self.shape(node.shape)}, {index}, {self.text(value)})"
            for index, value in zip(node.attributes["indices"], node.args, strict=True)
        ]
        return " + ".join(parts)

    def _python(self, node: Node) -> str:
        raise DerivativeError(f"{node.attributes['name']} is a function of Python on arrays, which JAX cannot compile")

    def _loop(self, node: Node) -> str:
        """Write a scan and the function of its step, which carries the states and the sums over the steps."""
        body = node.attributes["body"]
        count, stop = len(body.states), len(body.states) + body.stacked  # of the outputs: states, stacked ones, sums
        args = [self.text(arg) for arg in node.args[: count + len(body.entries)]]
        step = self.page.name("step")
        self.names |= {value: self.page.name("s") for value in (*body.states, *body.entries)}
        sums = [self.page.name("t") for _ in body.outputs[stop:]]
        carried = [*(self.names[state] for state in body.states), *sums]
        entries = [self.names[entry] for entry in body.entries]
        self.page.line(f"def {step}(carried, entries):")
        outer, self.page.indent = self.page.indent, f"{self.page.indent}    "
        for names, argument in ((carried, "carried"), (entries, "entries")):
            if names:
                self.page.line(f"{_tuple(names)} = {argument}")
        self.write(body.order())
        results = [self.text(output) for output in body.outputs]
        totals = [f"{total} + {text}" for total, text in zip(sums, results[stop:], strict=True)]
        self.page.line(f"return {_tuple([*results[:count], *totals])}, {_tuple(results[count:stop])}")
        self.page.indent = outer
        starts = zip(args[:count], body.outputs, strict=False)
        states = [f"jnp.asarray({text}, {self.dtype(o.kind)})" for text, o in starts]
        zeros = [f"jnp.zeros({self.shape(o.shape)}, {self.dtype(o.kind)})" for o in body.outputs[stop:]]
        options = f"length={node.attributes['steps']}, reverse={node.attributes['reverse']}"
        return f"lax.scan({step}, {_tuple([*states, *zeros])}, {_tuple(args[count:])}, {options})"

    def _part(self, node: Node) -> str:
        loop, index = node.args[0], node.attributes["index"]
        body = loop.attributes["body"]
        count, stop = len(body.states), len(body.states) + body.stacked  # as in _loop
        if count <= index < stop:
            return f"{self.names[loop]}[1][{index - count}]"
        return f"{self.names[loop]}[0][{index if index < count else index - body.stacked}]"

    texts: ClassVar[Mapping[str, Text]] = {
        "astype": "jnp.asarray({0}, {to})",
        "softmax": "jax.nn.softmax({0}, axis={axes})",
        "gather": _gather,
        "place": _place,
        "set_index": "{0}.at[{index}].set({1})",
        "python": _python,
        "loop": _loop,
        "part": _part,
    }


def _tuple(texts: Iterable[str]) -> str:
    return f"({''.join(f'{text}, ' for text in texts).rstrip()})"


def _find_concatenation(node: Node) -> tuple[int, list[tuple[bool, Node]]] | None:
    """Return the axis along which the parts of a "place" follow one another and fill it, and the parts in this order.

    A part whose index is a number lacks the axis, which the flag beside it says. None if the parts do not fill an axis.
    """
    indices = node.attributes["indices"]
    axes = [axis for axis in range(node.ndim) if any(index[axis] is not None for index in indices)]
    if len(axes) != 1 or not all(isinstance(arg, Node) for arg in node.args):
        return None
    entries = [index[axes[0]] for index in indices]
    spans = [(entry, entry + 1, 1) if isinstance(entry, int) else entry for entry in entries]
    if not all(isinstance(span, tuple) and span[2] == 1 for span in spans):
        return None
    pieces = sorted(zip(spans, entries, node.args, strict=True), key=lambda piece: piece[0])
    ends = [0, *(span[1] for span, _, _ in pieces)]
    if ends[:-1] != [span[0] for span, _, _ in pieces] or ends[-1] != node.shape[axes[0]]:
        return None
    return axes[0], [(isinstance(entry, int), arg) for _, entry, arg in pieces]


# functions that the source calls, which are given jax


def _windows(jax: Any, x: Any, axes: tuple[int, ...], window: tuple[int, ...], steps: tuple[int, ...]) -> Any:
    """Return every window of x along the axes: along one after another, which joins fewer slices at once."""
    for axis, width, step in zip(axes, window, steps, strict=True):
        reach = x.shape[axis] - width + 1
        slices = (jax.lax.slice_in_dim(x, index, index + reach, step, axis) for index in range(width))
        x = jax.numpy.stack([*slices], axis=-1)
    return x


def _fold(
    jax: Any, shape: tuple[int, ...], g: Any, axes: tuple[int, ...], window: tuple[int, ...], steps: tuple[int, ...]
) -> Any:
    """Add windows back into the array that they were taken from, along one axis after another."""
    for axis, width, step in reversed([*zip(axes, window, steps, strict=True)]):
        whole = (*g.shape[:axis], shape[axis], *g.shape[axis + 1 : -1])
        reach = (g.shape[axis] - 1) * step + 1
        index: list[Any] = [None] * len(whole)
        total: Any = 0.0
        for number in range(width):
            index[axis] = (number, number + reach, step)
            total = total + _pad_to_shape(jax, whole, tuple(index), g[..., number])
        g = total
    return g


def _pad_to_shape(jax: Any, shape: tuple[int, ...], index: tuple[Any, ...], values: Any) -> Any:
    """Return zeros with ``values`` at an index, which has an entry for each axis."""
    x = jax.numpy.expand_dims(values, [axis for axis, entry in enumerate(index) if isinstance(entry, int)])
    around, turned = [], []
    for axis, (entry, size) in enumerate(zip(index, shape, strict=True)):
        if entry in (None, "reversed"):
            around.append((0, 0, 0))
            turned += [axis] if entry == "reversed" else []
            continue
        start, stop, step = (entry, entry + 1, 1) if isinstance(entry, int) else entry
        places = range(start, stop, step)
        if step < 0:
            places, turned = places[::-1], [*turned, axis]
        last = places[-1] if len(places) else -1
        around.append((places[0] if len(places) else 0, size - 1 - last, abs(step) - 1))
    return jax.lax.pad(jax.numpy.flip(x, turned), jax.numpy.zeros((), x.dtype), around)


def _scatter_add(jax: Any, shape: tuple[int, ...], axes: tuple[int, ...], g: Any, *indices: Any) -> Any:
    """Return zeros with the parts of g added at the indices."""
    index: list[Any] = [slice(None)] * len(shape)
    for axis, entry in zip(axes, indices, strict=True):
        index[axis] = entry
    return jax.numpy.zeros(shape, g.dtype).at[tuple(index)].add(g)


_HELPERS: Mapping[str, Callable[..., Any]] = {
    "windows": _windows,
    "fold": _fold,
    "placed": _pad_to_shape,
    "scatter_add": _scatter_add,
}
