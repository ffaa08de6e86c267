"""Value and gradients of one formula by the graph and by JAX, so that tests can compare them."""

from functools import cache, wraps
from types import FunctionType, SimpleNamespace

import numpy as np
from oracles import in_float64, jax, jnp, quickly

from framework.backends.numpy import emit
from framework.graph.gradient import gradients
from framework.graph.trace import ROWS, trace


def jax_windows(x, window_shape, axis):
    """Return NumPy's sliding_window_view, which JAX does not have."""
    pairs = [(window_shape, axis)] if isinstance(axis, int) else zip(window_shape, axis, strict=True)
    for width, place in pairs:
        places = jnp.arange(x.shape[place] - width + 1)[:, None] + jnp.arange(width)
        x = jnp.moveaxis(jnp.take(x, places, axis=place), place + 1, -1)
    return x


class Jax:
    """``jax.numpy``, with the function that it lacks."""

    lib = SimpleNamespace(stride_tricks=SimpleNamespace(sliding_window_view=jax_windows))

    def __getattr__(self, name):
        return getattr(jnp, name)


SWAPPED = {
    "np": Jax(),
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "assigned": lambda a, index, value: a.at[index].set(value),
}
"""What stands in JAX under a name that formulas use."""


@cache
def _module_in_jax(module):
    """Return the names of a module with JAX in the place of NumPy, in its functions too."""
    space = {**vars(module), **SWAPPED}

    def moved(value):
        if isinstance(value, list):
            return [moved(part) for part in value]
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            return FunctionType(value.__code__, space, value.__name__, value.__defaults__, value.__closure__)
        return value

    space |= {name: moved(value) for name, value in space.items() if name not in SWAPPED}
    return space


def in_jax(module, function):
    """Return a function of a module whose text reads ``np``, with JAX under that name."""
    return _module_in_jax(module)[function.__name__]


def by_jax(formula, arrays, upstream, *, compiled=True, case=None):
    """Return the value in float64, and the gradients of sum(upstream * value) by name.

    One compiled program may compute x twice, with other last bits, so that the gradient of max(x) finds no x that is
    the maximum. Operation by operation that cannot happen, but it takes five times as long.
    """

    @wraps(formula, (), ())
    def both(arrays, upstream):
        value, pullback = jax.vjp(lambda arrays: formula(**arrays), arrays)
        return value, pullback(upstream)[0]

    return in_float64(quickly(both) if compiled else both, arrays, upstream, case=case, stable=not compiled)


def by_graph(formula, shapes, dtype="float64", kinds=None):
    """Return a function (arrays, upstream) -> the value and the gradients by name; and the graph."""
    traced = trace(formula, shapes, dtype, kinds=kinds)
    floats = [name for name in shapes if (kinds or {}).get(name, "f") == "f"]
    upstream = traced.graph.input("upstream", traced.output.shape)
    found = gradients([(traced.output, upstream)], [traced.inputs[name] for name in floats])
    outputs = {"value": traced.output} | {f"d_{name}": slope for name, slope in zip(floats, found, strict=True)}
    emitted = emit(outputs, {**traced.inputs, "upstream": upstream})

    def compute(arrays, upstream):
        value, *slopes = emitted(*(arrays[name] for name in shapes), upstream)
        return np.array(value), dict(zip(floats, map(np.array, slopes), strict=True))

    return compute, traced.graph


def made_up(shapes, rows, rng, dtype="float64"):
    """Return random arrays of these shapes."""
    return {
        name: rng.normal(size=tuple(rows if size == ROWS else size for size in shape)).astype(dtype)
        for name, shape in shapes.items()
    }


def error(found, expected):
    """Return the largest difference, relative to the largest number if that is above 1; NaN is infinitely far."""
    assert np.shape(found) == np.shape(expected)
    size = max(1.0, np.max(np.abs(expected), initial=0.0))
    return float(np.max(np.nan_to_num(np.abs(found - expected), nan=np.inf), initial=0.0) / size)
