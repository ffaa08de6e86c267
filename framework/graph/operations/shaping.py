"""Operations that arrange elements: views, parts, joins, windows, and look-ups by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.errors import ShapeError
from framework.graph.operations.base import Operation, Shape, given_shape, same_shape, unbroadcast


def index_shape(_graph: Any, shape: Shape, *, index: tuple[Any, ...]) -> Shape:
    """Return the shape of a part; an index has an entry for each axis: None, "reversed", an int or a slice's triple."""
    return tuple(
        size if part in (None, "reversed") else len(range(*part))
        for size, part in zip(shape, index, strict=True)
        if not isinstance(part, int)
    )


def apart(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Return whether two indices have no element in common along some axis."""
    for a, b in zip(first, second, strict=True):
        p, q = ((n, n + 1, 1) if isinstance(n, int) else n for n in (a, b))
        if isinstance(p, tuple) and isinstance(q, tuple) and p[2] == q[2] == 1 and (p[1] <= q[0] or q[1] <= p[0]):
            return True
    return False


def _set_index(g: Any, y: Any, x: Any, value: Any, *, index: tuple[Any, ...]) -> Any:
    part = g.record("index", index=index)
    return g.record("set_index", np.zeros_like(part), index=index), part


def _gather_shape(graph: Any, shape: Shape, *indices: Shape, axes: Shape) -> Shape:
    try:
        many = np.broadcast_shapes(*indices)
    except ValueError:
        raise ShapeError(f"indices of shapes {', '.join(map(graph.shape_text, indices))} do not broadcast") from None
    rest = [size for axis, size in enumerate(shape) if axis not in axes]
    place = axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
    return (*rest[:place], *many, *rest[place:])


def _concatenate_shape(graph: Any, *shapes: Shape, axis: int) -> Shape:
    first = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(
            a != b for n, (a, b) in enumerate(zip(shape, first, strict=True)) if n != axis
        ):
            raise ShapeError(
                f"np.concatenate along axis {axis}: the shapes {graph.shape_text(first)} and "
                f"{graph.shape_text(shape)} must differ in that axis alone"
            )
    return tuple(sum(shape[n] for shape in shapes) if n == axis else size for n, size in enumerate(first))


def _concatenate(g: Any, y: Any, *args: Any, axis: int) -> Any:
    parts, start = [], 0
    for x in args:
        stop = start + x.shape[axis]
        parts.append(g[(*(slice(None),) * axis, slice(start, stop))])
        start = stop
    return tuple(parts)


def _pad(g: Any, y: Any, x: Any, *, width: tuple[Shape, ...], value: float) -> Any:
    inner = (slice(b, b + n) if b or a else slice(None) for (b, a), n in zip(width, x.shape, strict=True))
    return (g[tuple(inner)],)


def _windows_shape(graph: Any, shape: Shape, *, axes: Shape, window: Shape, steps: Shape) -> Shape:
    sizes = list(shape)
    for axis, width, step in zip(axes, window, steps, strict=True):
        if width > sizes[axis]:
            raise ShapeError(f"a window of {width} is longer than axis {axis} of {graph.shape_text(shape)}")
        sizes[axis] = (sizes[axis] - width) // step + 1
    return (*sizes, *window)


SHAPING: dict[str, Operation] = {
    # where values come from
    "input": Operation(given_shape, text="{name}", latex="{name}"),
    "constant": Operation(given_shape, text="{value}", latex="{value}"),
    "rows": Operation(
        lambda _graph, **_: (), numpy="real({times})", text="{times}", latex="{times}", binding=2, kind="f"
    ),
    "row_numbers": Operation(given_shape, numpy="np.arange({times})", text="arange({times})", latex="i", kind="i"),
    "astype": Operation(
        same_shape, (), lambda g, y, x, *, to: (g if x.kind == "f" else None,), "{0}.astype({to})", "{0}", "{0}"
    ),
    # views
    "transpose": Operation(
        lambda _graph, shape, *, axes: tuple(shape[axis] for axis in axes),
        reverse=lambda g, y, x, *, axes: (np.transpose(g, np.argsort(axes).tolist()),),
        numpy="{0}.transpose{axes}",
        text="{0}.T",
        latex=r"{0}^\top",
        binding=4,
        view=True,
    ),
    "reshape": Operation(
        given_shape,
        reverse=lambda g, y, x, *, shape: (np.reshape(g, x.shape),),
        numpy="{0}.reshape({shape})",
        text="{0}",
        latex="{0}",
        view=True,
    ),
    "broadcast_to": Operation(
        given_shape,
        reverse=lambda g, y, x, *, shape: (None if isinstance(x, int | float) else unbroadcast(g, x.shape),),
        numpy="np.broadcast_to({0}, {shape})",
        text="{0}",
        latex="{0}",
        view=True,
    ),
    "index": Operation(
        index_shape,
        reverse=lambda g, y, x, *, index: (g.record("place", shape=x.shape, indices=(index,), add=False),),
        numpy="{0}[{index}]",
        text="{0}[{index}]",
        latex="{0}_{{{index}}}",
        view=True,
    ),
    "windows": Operation(
        _windows_shape,
        reverse=lambda g, y, x, **attributes: (g.record("fold", shape=x.shape, **attributes),),
        numpy="windows({0}, {axes}, {window}, {steps})",
        text="windows({0}, {window}, axis={axes})",
        view=True,
    ),
    # parts written into a whole, joins, look-ups
    "place": Operation(
        given_shape,
        reverse=lambda g, y, *parts, indices, **_: tuple(g.record("index", index=index) for index in indices),
    ),
    "set_index": Operation(
        same_shape, reverse=_set_index, text="{0} with [{index}] = {1}", latex="{0}_{{[{index}] = {1}}}", binding=0
    ),
    "gather": Operation(
        _gather_shape,
        reverse=lambda g, y, x, *indices, axes: (
            g.record("scatter_add", *indices, axes=axes, shape=x.shape),
            *(None for _ in indices),
        ),
        text="{0}[{index}]",
        latex="{0}_{{{index}}}",
    ),
    "scatter_add": Operation(
        given_shape,
        reverse=lambda g, y, x, *indices, axes, shape: (
            g.record("gather", *indices, axes=axes),
            *(None for _ in indices),
        ),
        numpy="scatter_add({shape}, {axes}, {arguments})",
    ),
    "concatenate": Operation(
        _concatenate_shape,
        reverse=_concatenate,
        numpy="np.concatenate(({arguments},), axis={axis}{out})",
        latex=r"\left[{arguments}\right]",
    ),
    "pad": Operation(
        lambda _graph, shape, *, width, value: tuple(n + sum(around) for n, around in zip(shape, width, strict=True)),
        reverse=_pad,
        text="pad({0}, {width})",
    ),
    "fold": Operation(
        given_shape, reverse=lambda g, y, x, *, shape, **attributes: (g.record("windows", **attributes),)
    ),
    # a Python function that has no graph and is called on arrays; its derivative is written by hand
    "python": Operation(
        same_shape,
        reverse=lambda g, y, x, *, function, pullback, name: (
            g.record("python", x, y, function=pullback, pullback=None, name=name),
        ),
        text="{name}({0})",
        latex=r"{name}\left({0}\right)",
    ),
    # a recurrence, as one operation with a body, and the parts of its result; see ``graph.loop``
    "loop": Operation(given_shape),
    "part": Operation(given_shape, text="{0}[{index}]", latex="{0}_{{{index}}}", numpy="{0}[{index}]"),
}
