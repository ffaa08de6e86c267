"""Writer: a graph as nodes of an ONNX file; a function for each operation that is more than one operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from framework.backends.numpy import emit
from framework.base.arrays import Array
from framework.base.errors import SettingsError
from framework.export.file import File, Size
from framework.export.operations import EXTREMES, FORMULAS, LOGIC, OPERATORS, REDUCERS, WIDE
from framework.graph.graph import Graph, kind_of
from framework.graph.node import Node, dependents, matching, nodes_in, operands, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import Symbol, symbol_of, value_of


class Writer:
    """Writes a graph into a file.

    Attributes:
        file: The file.
        graph: The graph.
    """

    def __init__(
        self,
        file: File,
        graph: Graph,
        numbers: Mapping[str, tuple[Node, Array]] | None = None,
        layer_of: Callable[[Node], str] = lambda _node: "",
    ) -> None:
        """Begin.

        Args:
            file: The file.
            graph: The graph.
            numbers: The arrays that are known, by their names in the file, each with its node.
            layer_of: (node) -> the name of the layer that made it.
        """
        self.file, self.graph = file, graph
        self._layer_of = layer_of
        self._numbers = {node: (name, value) for name, (node, value) in (numbers or {}).items()}
        self._names: dict[Node, str] = {}
        self._still: set[Node] = set()  # what depends on known arrays alone
        self._loops: dict[Node, list[str]] = {}
        self._reshaped: dict[Node, Node] = {}  # a node as a reshape of a value of the file
        self._dtypes = {"f": graph.dtype, "i": "int64", "b": "bool"}

    def symbol_of_value(self, name: str, shape: tuple[int, ...], kind: str = "f") -> Symbol:
        """Return a value of the file, by its name, as a symbol of the graph."""
        node = self.graph.input(name, shape, kind)
        self._names[node] = name
        return Symbol(node)

    def name(self, node: Node, name: str) -> None:
        """Say which value of the file a node of the graph is."""
        self._names[node] = name

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node to the file, and return the name of its output."""
        return self.file.op(operator, *inputs, **attributes)

    def array(self, value: Any, kind: str) -> str:
        """Store an array in the dtype of a kind, and return its name."""
        return self.file.array(np.asarray(value).astype(self._dtypes[kind]))

    def dtype(self, node: Node) -> str:
        """Return the dtype of a node in the file."""
        return self._dtypes[node.kind]

    def sizes(self, shape: tuple[int, ...]) -> list[Size]:
        """Return a shape with a name for the number of rows."""
        return ["rows" if self.graph.rows_in(size) == 1 else size for size in shape]

    def shape(self, shape: tuple[int, ...]) -> str:
        """Return the name of a shape, in which sizes may be multiples of the number of rows."""
        times = [self.graph.rows_in(size) for size in shape]
        if not any(times):
            return self.file.integers(shape)
        sizes = [0 if n else size for n, size in zip(times, shape, strict=True)]
        return self.op("Add", self.file.rows(times), self.file.integers(sizes))

    def count(self, times: int) -> str:
        """Return the name of a multiple of the number of rows, as a number."""
        return self.op("Squeeze", self.file.rows([times]), self.file.integers([0]))

    def cast(self, name: str, kind: str) -> str:
        """Return the name of an array in the dtype of a kind."""
        return self.file.cast(name, self._dtypes[kind])

    def transpose(self, node: Node, axes: tuple[int, ...], shape: tuple[int, ...]) -> str:
        """Return the name of a transposed array in this shape, which is stored so if the array is stored."""
        name = self.text(node, node.kind)
        stored = self.file.stored.get(name)
        if stored is None:
            return self.op("Reshape", self.op("Transpose", name, perm=[*axes]), self.shape(shape))
        return self.file.array(stored.transpose(axes).reshape(shape), name=f"{name} transposed")

    def base_of(self, node: Node) -> Node:
        """Return the array that a node is a reshape of, or the node itself."""
        node = self._reshaped.get(node, node)
        return self.base_of(node.args[0]) if matching(node, "reshape") and node not in self._still else node

    def write_reshape(self, node: Node, name: str, shape: tuple[int, ...]) -> str:
        """Write a node as a reshape of a value of the file, and return its name; a further reshape reads that value."""
        self._reshaped[node] = value_of(self.symbol_of_value(name, shape).reshape(node.shape))
        return self.text(self._reshaped[node], node.kind)

    def write(self, outputs: Iterable[Node]) -> list[str]:
        """Write what these nodes are computed from, and return their names."""
        outputs = [*outputs]
        self._fold(outputs)
        self._write(order_nodes(outputs))
        return [self.text(node, node.kind) for node in outputs]

    def _fold(self, outputs: list[Node]) -> None:
        """Compute what depends on the parameters alone, and store the results."""
        order = order_nodes(outputs)
        here = {*order}
        numbers = {node: known for node, known in self._numbers.items() if node in here}
        begin = [node for node in order if node.op in ("input", "rows", "row_numbers") and node not in numbers]
        begin += [node for node in order if any(map(self.graph.rows_in, node.shape))]
        moving = dependents(order, dict.fromkeys(begin))
        self._still = here - moving
        used = {arg for node in moving for arg in nodes_in(node.args)} - moving
        fixed = [node for node in order if node in used and node.fill is None]
        for node in fixed:
            if node in numbers:
                name, value = numbers[node]
                self._names[node] = self.file.array(value, self._dtypes[node.kind], name)
        computed = [node for node in fixed if node not in numbers]
        if computed:
            results = emit(
                {str(index): node for index, node in enumerate(computed)},
                {name: node for node, (name, _) in numbers.items()},
                memory=False,
            )(*(value.astype(self._dtypes[node.kind]) for node, (_, value) in numbers.items()))
            for node, value in zip(computed, results if len(computed) > 1 else [results], strict=True):
                self._names[node] = self.array(value, node.kind)

    def _write(self, order: Iterable[Node]) -> None:
        for node in order:
            if node not in self._names and node not in self._still:
                self.file.layer = self._layer_of(node) or self.file.layer
                self._names[node] = self._write_node(node)

    def _write_node(self, node: Node) -> str:
        """Write a node, and return the name of its result."""
        kinds = {kind_of(arg) for arg in node.args}
        if node.op in LOGIC and (kinds == {"b"} or node.op.startswith("logical")):
            return self.op(LOGIC[node.op], *self.args(node, "b"))
        if node.kind == "i" and node.op in INTEGERS:
            return INTEGERS[node.op](self, *self.args(node))
        if self.graph.dtype == "float64" and node.op in WIDE:
            return self.formula(WIDE[node.op], node)
        if node.op in FORMULAS:
            return self.formula(FORMULAS[node.op], node)
        if node.op in STRUCTURES:
            return STRUCTURES[node.op](self, node)
        if OPERATIONS[node.op].lowered is not None:
            return self.write_lowered(node)
        if node.op not in OPERATORS:
            self._refuse(node)
        if node.op == "where":
            condition, a, b = node.args
            if node.kind == "b":  # ONNX Runtime does not choose between booleans
                chosen, not_chosen = self.text(condition, "b"), self.op("Not", self.text(condition, "b"))
                parts = [self.op("And", c, self.text(x, "b")) for c, x in ((chosen, a), (not_chosen, b))]
                return self.op("Or", *parts)
            names = [self.text(condition, "b"), self.text(a, node.kind), self.text(b, node.kind)]
            return self.op("Where", *names)
        kind = "f" if "f" in kinds or node.kind == "f" or node.op in ("isnan", "isinf") else "i"
        return self.op(OPERATORS[node.op], *self.args(node, kind))

    def args(self, node: Node, kind: str | None = None) -> list[str]:
        """Return the names of the arguments of a node in a kind, by default that of the node."""
        values = operands(node) if OPERATIONS[node.op].elementwise else node.args
        return [self.text(value, kind or node.kind) for value in values]

    def text(self, value: Any, kind: str) -> str:
        """Return the name of a node or a number, in a kind."""
        if not isinstance(value, Node):
            return self.file.number(value, self._dtypes[kind])
        if value not in self._names:
            self._names[value] = self._write_node(value)
        name = self._names[value]
        return name if value.kind == kind else self.cast(name, kind)

    def formula(self, formula: Callable[..., Any], node: Node, *more: str) -> str:
        """Write an operation as a formula of its arguments, and of further values of the result's shape by name."""
        further = [self.symbol_of_value(name, node.shape) for name in more]
        args = [*map(symbol_of, node.args)]
        if node.kind != "i" and node.op != "not_equal":  # which takes whole numbers as they are
            args = [arg.astype(float) if isinstance(arg, Symbol) else arg for arg in args]
        made = formula(*args, *further, **node.attributes)
        return self.write_value(value_of(made), node.kind)

    def write_lowered(self, node: Node) -> str:
        """Write a stable form by the operations that it is computed with."""
        lowered = OPERATIONS[node.op].lowered
        assert lowered is not None
        return self.formula(lowered, node)

    def write_value(self, value: Any, kind: str) -> str:
        """Return the name of a value that was added to the graph while it was being written."""
        if isinstance(value, Node):
            self._write(order_nodes([value], {*self._names}))
        return self.text(value, kind)

    def loop(self, node: Node) -> str:
        """Write a recurrence as a Scan, whose body is a graph of its own."""
        body, file = node.attributes["body"], self.file
        count = len(body.states)
        inside = (*body.states, *body.entries)
        inputs = [self.text(value, inner.kind) for value, inner in zip(node.args, inside, strict=False)]
        for captured in node.args[len(inside) :]:
            self.text(captured, captured.kind)
        outer, names, file.nodes = file.nodes, dict(self._names), []
        names_inside = {inner: file.new("step") for inner in inside}
        self._names |= names_inside
        self._write(body.order())
        outputs = body.outputs[: count + body.stacked]
        results = [self.op("Identity", self.text(output, output.kind)) for output in outputs]
        described = [
            [file.value_info(name, self._dtypes[inner.kind], None) for inner, name in pairs]
            for pairs in (names_inside.items(), zip(outputs, results, strict=True))
        ]
        graph = file.onnx.helper.make_graph(file.nodes, "step", *described)
        file.nodes, self._names = outer, names
        back = int(node.attributes["reverse"])
        self._loops[node] = file.ops(
            "Scan",
            inputs,
            len(outputs),
            body=graph,
            num_scan_inputs=len(body.entries),
            scan_input_directions=[back] * len(body.entries),
            scan_output_directions=[back] * body.stacked,
        )
        return self._loops[node][0]

    def part(self, node: Node) -> str:
        """Return the name of a result of a recurrence."""
        index: int = node.attributes["index"]
        return self._loops[node.args[0]][index]

    def _refuse(self, node: Node) -> NoReturn:
        where = f"layer {layer}: " if (layer := self._layer_of(node)) else ""
        if node.op == "python":
            said = f"{node.attributes['name']} is a Python function without a graph, which no file can hold"
        else:
            said = f"np.{node.op} has no operator in ONNX"
        raise SettingsError(f"{where}{said}; write the formula with other NumPy functions", where="export_onnx")


# structures: (writer, node) -> the name of the result


def _product(writer: Writer, node: Node) -> str:
    """Write a matrix product; in float64 as a sum over an index, where ONNX Runtime would join a transpose with it.

    It moves a transpose past other operations to do so. Its versions up to 1.24 have no operator for the two in
    float64, and 1.27 computes it in float32.
    """
    a, b = node.args
    joined = min(a.ndim, b.ndim) > 1 and any(matching(arg, "transpose") for arg in order_nodes(node.args))
    if not joined or writer.graph.dtype == "float32":
        return writer.op("MatMul", *writer.args(node))
    letters = "abcdefgh"[: node.ndim - 2]
    first, second = (letters[len(letters) - arg.ndim + 2 :] for arg in node.args)
    return writer.op("Einsum", *writer.args(node), equation=f"{first}ij,{second}jk->{letters}ik")


def _einsum(writer: Writer, node: Node) -> str:
    convolution = _convolution(writer, node) if writer.graph.dtype == "float32" else None
    return convolution or writer.op("Einsum", *writer.args(node), equation=node.attributes["subscripts"])


def _convolution(writer: Writer, node: Node) -> str | None:
    """Write the product of windows with a kernel as a convolution; return None for another product.

    With groups, their axis stands before the channels of the windows, and before the filters of the kernel.
    """
    windows, kernel = node.args[0], node.args[-1]
    places = windows.attributes["index"] if matching(windows, "index") else (None,) * windows.ndim
    windows = windows.args[0] if matching(windows, "index") else windows
    axes, grouped = (windows.ndim - 2) // 2, windows.ndim % 2
    start = 2 + grouped
    outer, inner = places[start : start + axes], places[start + axes :]
    (first, *others), _, output = (term.split(",") for term in node.attributes["subscripts"].partition("->"))
    if not (len(others) == 1 and matching(windows, "windows") and windows.ndim == len(first)):
        return None
    whole = {"axes": tuple(range(start, start + axes)), "steps": (1,) * axes}
    at, inside = first[start : start + axes], first[start + axes :]
    groups, channels, units = first[1 : 1 + grouped], first[1 + grouped], others[0][-1]
    if (
        any(windows.attributes[key] != value for key, value in whole.items())
        or (others, output) != ([f"{channels}{inside}{groups}{units}"], [f"{first[0]}{groups}{units}{at}"])
        or places[:start] != (None,) * start
        or any(entry is not None and (isinstance(entry, int | str) or entry[0]) for entry in places)
        or not all(entry is None or entry[1] == size for entry, size in zip(outer, windows.shape[start:], strict=False))
    ):
        return None
    x, pads = windows.args[0], [0] * (2 * axes)
    if grouped:
        x = _merge_groups(writer, x)
    if matching(x, "pad") and x.attributes["value"] == 0 and not any(map(any, x.attributes["width"][:2])):
        pads = [side[n] for n in (0, 1) for side in x.attributes["width"][2:]]
        x = x.args[0]
    order = (*range(axes + 1, kernel.ndim), *range(axes + 1))
    convolution = writer.op(
        "Conv",
        writer.text(x, "f"),
        writer.transpose(kernel, order, (math.prod(kernel.shape[axes + 1 :]), *kernel.shape[: axes + 1])),
        kernel_shape=[*kernel.shape[1 : axes + 1]],
        strides=[1 if entry is None else entry[2] for entry in outer],
        dilations=[1 if entry is None else entry[2] for entry in inner],
        pads=pads,
        group=kernel.shape[axes + 1] if grouped else 1,
    )
    return writer.write_reshape(node, convolution, _shape_of_merge(node)) if grouped else convolution


def _merge_groups(writer: Writer, node: Node) -> Node:
    """Return an array whose groups and channels are one axis."""
    shape, x = _shape_of_merge(node), writer.base_of(node)
    return x if x.shape == shape else value_of(symbol_of(node).reshape(shape))


def _shape_of_merge(node: Node) -> tuple[int, ...]:
    rows, groups, channels, *sizes = node.shape
    return (rows, groups * channels, *sizes)


def _reduce(writer: Writer, node: Node) -> str:
    axes = writer.file.integers(node.attributes["axes"])
    kind = "i" if node.kind == "b" else node.kind  # any and all are the maximum and the minimum
    (x,), keepdims = writer.args(node, kind), int(node.attributes["keepdims"])
    result = writer.op(REDUCERS[node.op], x, axes, keepdims=keepdims)
    if node.op in ("max", "min") and kind == "f":  # which ONNX Runtime finds among the numbers that are not NaN
        absent = writer.op("ReduceMax", _absent(writer, x), axes, keepdims=keepdims)
        result = writer.op("Where", writer.cast(absent, "b"), writer.text(math.nan, "f"), result)
    return writer.cast(result, "b") if node.kind == "b" else result


def _absent(writer: Writer, x: str) -> str:
    """Return the name of an array of integers: 1 where x is NaN."""
    return writer.cast(writer.op("IsNaN", x), "i")


def _place_of_extreme(writer: Writer, node: Node) -> str:
    """Write the place of an extreme; the first NaN counts as one, as in NumPy."""
    (x,), (axis,), keepdims = node.args, node.attributes["axes"], int(node.attributes["keepdims"])
    name = writer.text(x, "i" if x.kind == "b" else x.kind)
    index = writer.op(EXTREMES[node.op], name, axis=axis, keepdims=keepdims)
    if x.kind != "f":
        return index
    absent = _absent(writer, name)
    some = writer.op("ReduceMax", absent, writer.file.integers([axis]), keepdims=keepdims)
    return writer.op("Where", writer.cast(some, "b"), writer.op("ArgMax", absent, axis=axis, keepdims=keepdims), index)


def _argsort(writer: Writer, node: Node) -> str:
    """Write the stable order: TopK leaves equal elements as they stand; a second one puts the NaN last, as NumPy."""
    (x,), axis = node.args, node.attributes["axis"]

    def order(name: str) -> str:
        size = writer.file.integers([x.shape[axis]])
        return writer.file.ops("TopK", [name, size], 2, axis=axis, largest=0)[1]

    name = writer.text(x, "i" if x.kind == "b" else x.kind)
    if x.kind != "f":
        return order(name)
    absent = writer.op("IsNaN", name)
    first = order(writer.op("Where", absent, writer.text(math.inf, "f"), name))
    absent = writer.op("GatherElements", writer.cast(absent, "i"), first, axis=axis)
    return writer.op("GatherElements", first, order(absent), axis=axis)


def _softmax_of(writer: Writer, node: Node) -> str:
    if len(node.attributes["axes"]) > 1:
        return writer.write_lowered(node)
    return writer.op("Softmax", *writer.args(node), axis=node.attributes["axes"][0])


def _reshape(writer: Writer, node: Node) -> str:
    """Write a reshape; rows that stay the first axis are copied from the input's shape, by a 0."""
    x = writer.base_of(node)
    name = writer.text(x, node.kind)
    if x.shape == node.shape:
        return name
    same = x.shape[:1] == node.shape[:1] and not any(map(writer.graph.rows_in, node.shape[1:]))
    if 0 in node.shape:
        return writer.op("Reshape", name, writer.shape(node.shape), allowzero=1)
    shape = (0, *node.shape[1:]) if same and x.shape else node.shape
    return writer.op("Reshape", name, writer.shape(shape))


def _index(writer: Writer, node: Node) -> str:
    name, parts = writer.text(node.args[0], node.kind), list(enumerate(node.attributes["index"]))
    cuts = [(axis, (-1, _FIRST, -1) if entry == "reversed" else entry) for axis, entry in parts if entry is not None]
    cuts = [(axis, (entry, entry + 1, 1) if isinstance(entry, int) else entry) for axis, entry in cuts]
    if cuts:
        starts, stops, steps = zip(*(entry for _, entry in cuts), strict=True)
        stops = tuple(_FIRST if stop < 0 else stop for stop in stops)  # Python's triples end before 0 at -1
        axes = writer.file.integers(axis for axis, _ in cuts)
        name = writer.op("Slice", name, *map(writer.file.integers, (starts, stops)), axes, writer.file.integers(steps))
    single = [axis for axis, entry in parts if isinstance(entry, int)]
    return writer.op("Squeeze", name, writer.file.integers(single)) if single else name


_FIRST = np.iinfo(np.int64).min
"""The end of a slice that goes back to the first element."""


def _windows(writer: Writer, node: Node) -> str:
    """Write windows as a look-up along each axis, with an axis for the places and one for those inside a window."""
    (x,), axes = node.args, node.attributes["axes"]
    name = writer.text(x, node.kind)
    moved = [*range(x.ndim)]  # what each axis of the result so far is: an axis of x, or -1 - n for the n-th window
    chosen = sorted(zip(axes, node.attributes["window"], node.attributes["steps"], range(len(axes)), strict=True))
    for axis, width, step, number in reversed(chosen):
        starts = np.arange(0, x.shape[axis] - width + 1, step)[:, None]
        name = writer.op("Gather", name, writer.array(starts + np.arange(width), "i"), axis=axis)
        moved.insert(axis + 1, -1 - number)
    order = [moved.index(axis) for axis in range(x.ndim)] + [moved.index(-1 - n) for n in range(len(axes))]
    return writer.op("Transpose", name, perm=order)


def _set_index(writer: Writer, node: Node) -> str:
    """Write a value into a part: one axis after the other, the new elements behind the old ones, then a look-up."""
    x, value = node.args

    def write_axis(name: str, shape: tuple[int, ...], index: tuple[Any, ...], axis: int) -> str:
        while axis < len(index) and index[axis] is None:
            axis += 1
        if axis == len(index):
            kept = tuple(1 if isinstance(entry, int) else size for entry, size in zip(index, shape, strict=True))
            return writer.op("Reshape", writer.text(value, node.kind), writer.shape(kept))
        size, entry = shape[axis], index[axis]
        places = np.atleast_1d(np.arange(size)[_python_index(entry)])
        inner = writer.op("Gather", name, writer.array(places, "i"), axis=axis)
        inner = write_axis(inner, (*shape[:axis], len(places), *shape[axis + 1 :]), index, axis + 1)
        where = np.arange(size)
        where[places] = size + np.arange(len(places))
        return writer.op("Gather", writer.op("Concat", name, inner, axis=axis), writer.array(where, "i"), axis=axis)

    return write_axis(writer.text(x, node.kind), node.shape, node.attributes["index"], 0)


def _python_index(entry: Any) -> Any:
    """Return the index of one axis as NumPy takes it."""
    if isinstance(entry, int):
        return entry
    start, stop, step = (None, None, -1) if entry == "reversed" else entry
    return slice(start, None if stop is not None and stop < 0 else stop, step)


def _gather(writer: Writer, node: Node) -> str:
    x, *indices = node.args
    axes, graph = node.attributes["axes"], writer.graph
    name = writer.text(x, node.kind)
    if len(axes) == 1:
        return writer.op("Gather", name, writer.text(indices[0], "i"), axis=axes[0])
    start, stop = axes[0], axes[-1] + 1
    if axes != tuple(range(start, stop)):
        order = (*axes, *(axis for axis in range(x.ndim) if axis not in axes))
        name, start, stop = writer.op("Transpose", name, perm=[*order]), 0, len(axes)
        shape = tuple(x.shape[axis] for axis in order)
    else:
        shape = x.shape
    flat: Any = 0
    for size, index in zip(shape[start:stop], map(symbol_of, indices), strict=True):
        count = symbol_of(graph.lift(size))
        count = count.astype(int) if isinstance(count, Symbol) else count
        flat = flat * count + np.where(index < 0, index + count, index)
    merged = (*shape[:start], math.prod(shape[start:stop]), *shape[stop:])
    name = writer.op("Reshape", name, writer.shape(merged))
    return writer.op("Gather", name, writer.write_value(value_of(flat), "i"), axis=start)


def _pad(writer: Writer, node: Node) -> str:
    width = node.attributes["width"]
    pads = writer.file.integers([side[n] for n in (0, 1) for side in width])
    return writer.op("Pad", *writer.args(node), pads, writer.text(node.attributes["value"], node.kind))


def _arctan(writer: Writer, node: Node) -> str:
    """Write the arctangent; in float64 that of float32, and one step with the sine and cosine of float64."""
    (name,) = writer.args(node)
    if writer.graph.dtype == "float32":
        return writer.op("Atan", name)
    return writer.formula(_refine, node, writer.cast(writer.op("Atan", writer.file.cast(name, "float32")), "f"))


def _refine(x: Any, near: Any) -> Any:
    """Return near + arctan((x - tan(near)) / (1 + x tan(near))), whose argument is tiny."""
    sine, cosine = np.sin(near), np.cos(near)
    steep = np.abs(x) > 1.0  # there both parts are divided by x, so that nothing overflows
    scale = np.where(steep, 1.0 / np.where(steep, x, 1.0), 1.0)
    x = np.where(steep, 1.0, x)
    return near + (x * cosine - scale * sine) / (scale * cosine + x * sine)


INTEGERS: dict[str, Callable[..., str]] = {
    "mod": lambda writer, a, b: writer.op("Mod", a, b),
    "floor_divide": lambda writer, a, b: writer.op("Div", writer.op("Sub", a, writer.op("Mod", a, b)), b),
    **dict.fromkeys(("floor", "ceil"), lambda writer, x: writer.op("Identity", x)),
}
"""Operations on integers: Div cuts off, and Mod has the sign of the divisor."""

STRUCTURES: dict[str, Callable[[Writer, Node], str]] = {
    "arctan": _arctan,
    "fmod": lambda writer, node: writer.op("Mod", *writer.args(node), fmod=1),
    # where values come from
    "constant": lambda writer, node: writer.array(node.attributes["value"].value, node.kind),
    "rows": lambda writer, node: writer.cast(writer.count(node.attributes["times"]), "f"),
    "row_numbers": lambda writer, node: writer.op(
        "Range", writer.text(0, "i"), writer.count(node.attributes["times"]), writer.text(1, "i")
    ),
    "astype": lambda writer, node: writer.text(node.args[0], node.kind),
    # products and reductions
    "matmul": _product,
    "einsum": _einsum,
    **dict.fromkeys(REDUCERS, _reduce),
    **dict.fromkeys(EXTREMES, _place_of_extreme),
    "argsort": _argsort,
    "softmax": _softmax_of,
    "cumsum": lambda writer, node: writer.op("CumSum", *writer.args(node), writer.array(node.attributes["axis"], "i")),
    # arrangement
    "reshape": _reshape,
    "broadcast_to": lambda writer, node: writer.op("Expand", *writer.args(node), writer.shape(node.shape)),
    "transpose": lambda writer, node: writer.op("Transpose", *writer.args(node), perm=[*node.attributes["axes"]]),
    "index": _index,
    "windows": _windows,
    "set_index": _set_index,
    "gather": _gather,
    "concatenate": lambda writer, node: writer.op("Concat", *writer.args(node), axis=node.attributes["axis"]),
    "pad": _pad,
    # a recurrence
    "loop": Writer.loop,
    "part": Writer.part,
}
"""Operations that are more than one operator, or have attributes."""
