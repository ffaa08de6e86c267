"""Numbers of other programs that tests compare with: those of JAX, computed live, and those of PyTorch, stored.

Where the two have different conventions (the slope at a kink, the variant of an optimizer), PyTorch's are ours.
``tests/pytorch/make.py`` makes the stored values and lists them; no test needs PyTorch.
"""

from contextlib import suppress
from functools import cache
from pathlib import Path

import jax
import numpy as np

VALUES = Path(__file__).parents[1] / "pytorch" / "values"
SAVED_BY_PYTORCH = VALUES / "saved.pt"


_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
_OPTIONS = [_QUICK | {"xla_cpu_use_fusion_emitters": False}, _QUICK, {}]
"""Options for JAX's compiler, from the quickest on; the first that the installed version knows is taken."""


@cache
def stored(name):
    """Return PyTorch's values of this name as ``{case: {key: array}}``; they are read-only."""
    cases = {}
    with np.load(VALUES / f"{name}.npz") as arrays:
        for path in arrays.files:
            if path != "torch":  # the version that made the file
                case, key = path.rsplit("/", 1)
                array = arrays[path]
                array.flags.writeable = False
                cases.setdefault(case, {})[key] = array
    return cases


def in_float64(function, *arguments):
    """Call a JAX function with arrays, those of floats in float64, and return its results as NumPy arrays."""

    def converted(argument):
        array = np.asarray(argument)
        return jax.numpy.asarray(array.astype(np.float64) if array.dtype.kind == "f" else array)

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, function(*jax.tree.map(converted, arguments)))


@cache
def quick_options():
    """Return options with which JAX compiles several times as fast, for programs that run a few times."""
    for options in _OPTIONS:
        with suppress(jax.errors.JaxRuntimeError):  # this version does not have one of the options
            jax.jit(lambda x: x, compiler_options=options)(1.0)
            return options
    return {}


def quickly(function):
    """Return a JAX function that compiles as one program, quickly."""
    return jax.jit(function, compiler_options=quick_options())


def jax_gradients(function, *arguments, upstream=None):
    """Return the output of a JAX function and the gradients of sum(upstream * output) by all arguments, in float64.

    Arguments are arrays of floats, or dicts and lists of them; upstream is 1 unless it is given.
    """

    def both(upstream, *arguments):
        output, pullback = jax.vjp(function, *arguments)
        return output, pullback(jax.numpy.ones_like(output) if upstream is None else upstream)

    return in_float64(quickly(both), upstream, *arguments)


def weighted_mean(values, weight=None):
    """Return JAX's sum(w l) / sum(w) over all values, with one weight per row."""
    weight = jax.numpy.ones(len(values)) if weight is None else weight
    weight = jax.numpy.broadcast_to(weight.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    return (weight * values).sum() / weight.sum()


def assert_within(got, expected, ulps):
    """At most this many ulps apart; below the normal range, at most this many times the smallest number."""
    limits = np.finfo(got.dtype)
    with np.errstate(over="ignore", under="ignore"):
        expected = expected.astype(got.dtype)
    np.testing.assert_allclose(
        got, expected, rtol=ulps * float(limits.eps), atol=ulps * float(limits.smallest_subnormal)
    )
