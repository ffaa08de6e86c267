"""Numbers of other programs that tests compare with: those of JAX and of PyTorch.

Where the two have different conventions (the slope at a kink, the variant of an optimizer), PyTorch's are ours. Those
of PyTorch are stored: ``tests/pytorch/make.py`` makes and lists them, and no test needs PyTorch.

What JAX computes for a test is stored too, because JAX compiles for a second what it runs once. ``pytest`` takes a
stored result if the arguments and the text of the function are those for which it was made. ``pytest --all`` computes
all results anew and compares. ``pytest --store tests/FILE.py`` stores what is new in a file, and with ``--all`` all of
its results.
"""

import inspect
import json
import os
import sys
from contextlib import suppress
from functools import cache, partial, reduce, wraps
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace

import numpy as np

VALUES = Path(__file__).parents[1] / "pytorch" / "values"
VALUES_OF_JAX = Path(__file__).parents[1] / "jax_values"
SAVED_BY_PYTORCH = VALUES / "saved.pt"
RUN = SimpleNamespace(anew=False, made={}, test="", calls=0)
"""Whether stored results are made anew, which ones were made, by file and case, and the current test with its calls."""


class Lazy:
    """JAX, or a function in it; the first call imports it."""

    def __init__(self, path):
        self._path = path

    def _value(self):
        import jax.scipy.special

        return reduce(getattr, self._path.split(".")[1:], jax)

    def __getattr__(self, name):
        if name.startswith(("__", "pytest_")):
            raise AttributeError(name)
        return getattr(self._value(), name) if "jax" in sys.modules else Lazy(f"{self._path}.{name}")

    def __call__(self, *arguments, **settings):
        return self._value()(*arguments, **settings)


jax, jnp = Lazy("jax"), Lazy("jax.numpy")

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


def in_float64(function, *arguments, case=None, stable=True):
    """Call a JAX function with arrays, those of floats in float64, and return its results as NumPy arrays.

    The results are stored under ``case``, by default the current test and the number of its call. Results that are not
    stable may differ between processors.
    """

    def converted(argument):
        array = np.asarray(argument)
        return jax.numpy.asarray(array.astype(np.float64) if array.dtype.kind == "f" else array)

    file, case = _case(case)
    key = _key(function, arguments)
    kept = _results(file).get(case)
    if kept and kept["key"] != key:
        kept = None
    if kept and not RUN.anew:
        return kept["results"]
    import jax

    with jax.enable_x64(True):
        results = jax.tree.map(np.asarray, function(*jax.tree.map(converted, arguments)))
    RUN.made.setdefault(file, {})[case] = {"key": key, "results": results}
    if kept and stable:
        for old, new in zip(_leaves(kept["results"]), _leaves(results), strict=True):
            np.testing.assert_allclose(old, new, rtol=1e-8, atol=1e-10, err_msg="stored and live results of JAX")
    return results


def _case(case):
    """Return the file of the current test, and the case under which a result is stored."""
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    RUN.calls, RUN.test = (RUN.calls + 1 if test == RUN.test else 0), test
    file, _, name = test.partition("::")
    return file, case or f"{name} {RUN.calls}"


def _leaves(tree):
    """Return the arrays of dicts, lists and tuples."""
    if tree is None:
        return []
    if isinstance(tree, dict | list | tuple):
        return [leaf for branch in (tree.values() if isinstance(tree, dict) else tree) for leaf in _leaves(branch)]
    return [np.asarray(tree)]


def _key(function, arguments):
    """Return a digest of the text of a function and of its arguments."""
    digest = blake2b(digest_size=8)
    function = inspect.unwrap(function, stop=_of_jax)
    while isinstance(function, partial):
        function = inspect.unwrap(function.func, stop=_of_jax)
    digest.update(_text(function).encode())
    for leaf in _leaves(arguments):
        digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
    return digest.hexdigest()


def _text(function):
    """Return a text that changes with a function."""
    if _of_jax(function):
        return (function._path if isinstance(function, Lazy) else function.__name__).rpartition(".")[2]
    try:
        return inspect.getsource(function)
    except OSError:  # of eval
        code = function.__code__
        return repr((code.co_code, code.co_consts, code.co_names))


def _of_jax(function):
    return isinstance(function, Lazy) or (getattr(function, "__module__", None) or "").startswith("jax")


def _path(file):
    return VALUES_OF_JAX / (file.removeprefix("tests/").removesuffix(".py").replace("/", ".") + ".npz")


@cache
def _results(file):
    """Return the stored results of a test file by case; the arrays are read-only."""
    if not _path(file).exists():
        return {}

    def built(tree):
        match tree:
            case {"array": [dtype, shape, start]}:
                count = int(np.prod(shape))
                return np.frombuffer(numbers, dtype, count, start).reshape(shape)
            case {"dict": branches}:
                return {name: built(branch) for name, branch in branches.items()}
            case {"tuple": branches}:
                return tuple(map(built, branches))
            case {"list": branches}:
                return list(map(built, branches))

    with np.load(_path(file)) as arrays:
        numbers, cases = arrays["numbers"].tobytes(), json.loads(str(arrays["cases"]))
    return {case: {"key": key, "results": built(tree)} for case, (key, tree) in cases.items()}


def store():
    """Store the results that were made, and keep those that are not made anew."""
    for file, made in RUN.made.items():
        cases = made if RUN.anew else _results(file) | made
        numbers = bytearray()

        def written(tree, numbers=numbers):
            if isinstance(tree, dict):
                return {"dict": {name: written(branch) for name, branch in tree.items()}}
            if isinstance(tree, list | tuple):
                return {"list" if isinstance(tree, list) else "tuple": [written(branch) for branch in tree]}
            numbers.extend(bytes(-len(numbers) % 8))
            start = len(numbers)
            numbers.extend(tree.tobytes())
            return {"array": [tree.dtype.str, tree.shape, start]}

        text = json.dumps({case: [cases[case]["key"], written(cases[case]["results"])] for case in sorted(cases)})
        VALUES_OF_JAX.mkdir(exist_ok=True)
        version = np.array(sys.modules["jax"].__version__)
        np.savez_compressed(_path(file), jax=version, cases=np.array(text), numbers=np.frombuffer(numbers, np.uint8))


@cache
def quick_options():
    """Return options with which JAX compiles several times as fast, for programs that run a few times."""
    import jax

    for options in _OPTIONS:
        with suppress(jax.errors.JaxRuntimeError):  # this version does not have one of the options
            jax.jit(lambda x: x, compiler_options=options)(1.0)
            return options
    return {}


def quickly(function):
    """Return a JAX function that compiles as one program, quickly."""

    @wraps(function, ("__name__", "__doc__"), ())
    def call(*arguments):
        return jax.jit(function, compiler_options=quick_options())(*arguments)

    return call


def jax_gradients(function, *arguments, upstream=None, case=None):
    """Return the output of a JAX function and the gradients of sum(upstream * output) by all arguments, in float64.

    Arguments are arrays of floats, or dicts and lists of them; upstream is 1 unless it is given.
    """

    @wraps(function, (), ())  # its text is that of the function
    def both(upstream, *arguments):
        output, pullback = jax.vjp(function, *arguments)
        return output, pullback(jax.numpy.ones_like(output) if upstream is None else upstream)

    return in_float64(quickly(both), upstream, *arguments, case=case)


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
