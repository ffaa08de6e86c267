"""Testing: the checks that every component of the library passes, for your components too.

``check_component(MyActivation())`` runs all that apply to its kind and lists everything that fails. ``check_function``
compares a function with a reference, as exercises and ports do. ``check_written`` finds exercises that are still open.
"""

from __future__ import annotations

import ast
import copy
import inspect
import math
import pickle
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import framework
from framework.base.arrays import Array
from framework.base.errors import FrameworkError, UsageError, brief
from framework.base.lazy import import_all
from framework.base.random_streams import random_generator
from framework.base.settings.component import Component
from framework.base.settings.messages import word_errors
from framework.base.trees import flatten, leaves, map_leaves, sample_shape, take
from framework.formulas.activations import Activation
from framework.formulas.losses import Loss
from framework.formulas.losses.formulas import HalfSquaredError
from framework.formulas.losses.several import OutputLosses
from framework.formulas.metrics import Metric, WholeMetric
from framework.formulas.metrics.base import OutputMetric
from framework.formulas.schedules import Schedule
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.composite import ActivationLayer
from framework.models.initializers import Initializer
from framework.models.layer import Layer
from framework.models.sequential import Sequential
from framework.training.callbacks import Callback
from framework.training.checkpoint import save
from framework.training.gradients import check_gradients, numerical_gradient
from framework.training.optimizers import BoundOptimizer, Optimizer
from framework.training.optimizers.formulas import SGDOptimizer
from framework.training.trainer import Trainer
from framework.training.verification import differences

__all__ = ["ConformanceError", "check_component", "check_function", "check_written"]

Check = Callable[[Any], None]


class ConformanceError(FrameworkError, AssertionError):
    """A component fails some of the checks, all of which the message lists; or a function is wrong, or not written."""


@word_errors
def check_component(component: Component) -> tuple[str, ...]:
    """Run every check that applies to a component.

    Args:
        component: An activation, loss, metric, initializer, schedule, optimizer, layer, callback, or any component.

    Returns:
        The names of the checks that ran.

    Raises:
        ConformanceError: Some checks fail; lists each with its reason.
        SettingsError: The argument is not a component, but a class, for example.

    Example:
        >>> from framework import Tanh
        >>> "its derivative is that of its formula" in check_component(Tanh())
        True
    """
    before = _global_stream()
    failures: dict[str, list[str]] = {}  # the names of the checks by the reason, which several may share
    applicable = {
        name: check for kind in _CHECKS if isinstance(component, kind) for name, check in _CHECKS[kind].items()
    }
    for name, check in applicable.items():
        try:
            check(component)
        except Exception as error:  # noqa: BLE001 (all are reported together)
            failures.setdefault(f"{type(error).__name__}: {error}", []).append(name)
    if _global_stream() != before:
        failures["the stream has moved; use the rng it is given"] = ["it leaves NumPy's global random stream alone"]
    if failures:
        lines = [f"- {'; '.join(names)}: {reason}" for reason, names in failures.items()]
        count = sum(map(len, failures.values()))
        raise ConformanceError("\n".join([f"{component!r} fails {count} of {len(applicable)} checks:", *lines]))
    return tuple(applicable)


@word_errors
def check_function(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    *,
    tolerance: float = 1e-9,
) -> int:
    """Compare a function with a reference that gives the right results, case by case.

    Args:
        function: The function to check, such as the answer to an exercise or a port to NumPy.
        reference: A function of the same arguments that is right. Both return a number or an array.
        cases: The arguments of each call, a tuple for each.
        tolerance: The error that is allowed, relative to the largest number of the right result; 0 asks for equality.

    Returns:
        How many cases there are.

    Raises:
        ConformanceError: The function returns nothing, another shape or another result, or changes its arguments;
            names the first such case, and by which factor a result is off if the factor is the same everywhere.
        UsageError: There are no cases, or one is not a tuple.

    Example:
        >>> import numpy as np
        >>> from framework import Sigmoid
        >>> def slope(h):
        ...     return 1 / (1 + np.exp(-h)) ** 2
        >>> check_function(slope, Sigmoid().derivative, [(0.0,), (1.0,)])
        Traceback (most recent call last):
        framework.testing.ConformanceError: slope(1.0) must give 0.196612; got 0.534447
    """
    if not cases or not all(isinstance(case, tuple) for case in cases):
        raise UsageError(
            "must hold a tuple of arguments for each call", name="check_function: argument 'cases'", got=cases
        )
    for case in cases:
        call = f"{getattr(function, '__name__', type(function).__name__)}({', '.join(map(_argument, case))})"
        arguments = copy.deepcopy(case)
        if problem := _difference(function(*arguments), reference(*copy.deepcopy(case)), tolerance):
            raise ConformanceError(f"{call} {problem}")
        if any(isinstance(a, np.ndarray) and a.tobytes() != b.tobytes() for a, b in zip(case, arguments, strict=True)):
            raise ConformanceError(f"{call} changes its arguments; make a new array instead")
    return len(cases)


@word_errors
def check_written(exercise: str, *answers: Any) -> None:
    """Raise if a gap, ``...``, is left in an answer to an exercise. An index such as ``x[..., 0]`` does not count.

    Args:
        exercise: What the message calls the exercise.
        answers: The functions and values that the exercise asks for.

    Raises:
        ConformanceError: A gap is left.

    Example:
        >>> check_written("exercise 3", [...])
        Traceback (most recent call last):
        framework.testing.ConformanceError: exercise 3 is still open: replace the ... by your answer
    """
    for answer in answers:
        nodes = [*ast.walk(ast.parse(textwrap.dedent(inspect.getsource(answer))))] if inspect.isfunction(answer) else []
        indices = {node_inside for node in nodes if isinstance(node, ast.Subscript) for node_inside in ast.walk(node)}
        gaps = (isinstance(node, ast.Constant) and node.value is ... for node in {*nodes} - indices)
        if "Ellipsis" in repr(answer) or any(gaps):
            raise ConformanceError(f"{exercise} is still open: replace the ... by your answer")


def _argument(value: Any) -> str:
    """Return an argument for a message, a large array as its shape, a long list as its length."""
    value = value.item() if isinstance(value, np.generic) else value
    value = float(f"{value:.6g}") if isinstance(value, float) else value
    if isinstance(value, dict) or (isinstance(value, list | tuple) and len(value) > 8):
        return f"<{type(value).__name__} of {len(value)}>"
    return f"<array {value.shape}>" if isinstance(value, np.ndarray) and value.size > 8 else brief(value)


def _difference(result: Any, right: Any, tolerance: float) -> str:
    """Return how a result differs from the right one, "" if it does not."""
    if result is None:
        return "returns nothing; write return"
    try:
        got, wanted = np.asarray(result).astype(float, casting="same_kind"), np.asarray(right, float)
    except (TypeError, ValueError):
        return f"must give a number or an array; got {brief(result)}"
    if got.shape != wanted.shape:
        shapes = [f"an array of the shape {array.shape}" if array.shape else "one number" for array in (wanted, got)]
        return f"must give {shapes[0]}; got {shapes[1]}"
    largest = np.max(np.abs(wanted), initial=0.0, where=np.isfinite(wanted))
    wrong = ~np.isclose(got, wanted, rtol=0.0, atol=tolerance * largest, equal_nan=True)
    if not wrong.any():
        return ""
    index = tuple(np.argwhere(wrong)[0].tolist())
    pair = [f"{float(array[index]):.6g}" for array in (wanted, got)]
    if pair[0] == pair[1]:
        pair = [repr(float(array[index])) for array in (wanted, got)]
    return f"must give {pair[0]}{f' at {list(index)}' if index else ''}; got {pair[1]}{_factor(got, wanted)}"


def _factor(got: Array, wanted: Array) -> str:
    """Return a hint if a wrong result is a multiple of the right one."""
    factors = got[wanted != 0] / wanted[wanted != 0]
    if not factors.size or not np.allclose(factors, factors[0], rtol=1e-9, atol=0.0):
        return ""
    if np.isclose(factors[0], -1.0, rtol=1e-9):
        return "; the sign is wrong"
    return f"; all of it is {factors[0]:.9g} times the right result" if factors.size > 1 else ""


def _global_stream() -> str:
    """Return the state of NumPy's global stream, to see that nobody touches it."""
    return repr(np.random.get_state())  # noqa: NPY002


def _require(truth: Any, message: str) -> None:
    if not truth:
        raise AssertionError(message)


def _same(a: Any, b: Any) -> bool:
    """Whether two components are equal; models are compared by their JSON, because each equals itself alone."""
    return a.to_json() == b.to_json() if isinstance(a, Model) else bool(a == b)


# every component


def _check_json(component: Component) -> None:
    _require(_same(Component.from_json(component.to_json()), component), "from_json(to_json()) gives another component")


def _check_repr(component: Component) -> None:
    names = {**import_all(), type(component).__name__: type(component)}
    _require(_same(eval(repr(component), names), component), f"{component!r} evaluates to another component")


def _check_equality(component: Component) -> None:
    twin = component.replace()
    _require(_same(twin, component), "a replace() without changes is not equal")
    if not isinstance(component, Model):
        _require(hash(twin) == hash(component), "equal components have different hashes")
        _require(component != object(), "it equals anything")


def _check_frozen(component: Component) -> None:
    for name in component.settings():
        try:
            setattr(component, name, getattr(component, name))
        except FrameworkError:
            continue
        raise AssertionError(f"setting '{name}' can be assigned; settings are frozen")


def _check_copies(component: Component) -> None:
    for twin in (copy.copy(component), copy.deepcopy(component), pickle.loads(pickle.dumps(component))):
        _require(_same(twin, component), "a copy or a pickle is another component")


def _check_docstring(component: Component) -> None:
    text = type(component).__doc__ or ""
    _require(text.strip() and text != Component.__doc__, "the class has no docstring")
    _require("Example:" in text, "the docstring has no 'Example:'")


# activations

_H: Array = np.array([[-3.0, -0.7, 0.0], [0.2, 1.1, 4.0]])


def _check_dtype(activation: Any) -> None:
    for dtype in ("float64", "float32"):
        h = _H.astype(dtype)
        kept = h.copy()
        layer = ActivationLayer(activation=activation, dtype=dtype)
        out, back = layer.forward(h), layer.backward(np.ones_like(h))
        _require(out.dtype == back.dtype == h.dtype, f"{dtype} becomes {out.dtype} and {back.dtype}")
        _require(np.array_equal(h, kept), "the formula changes its argument")
        _require(np.shape(activation(h)) == h.shape, "the formula changes the shape")


def _check_shapes(activation: Activation) -> None:
    if activation.coupled:
        return
    whole = np.asarray(activation(_H))
    _require(np.allclose(activation(_H.reshape(-1)), whole.reshape(-1)), "rows and a flat array give other values")
    _require(
        np.allclose([activation(h) for h in _H.reshape(-1)], whole.reshape(-1)), "single numbers give other values"
    )


def _check_derivative(formula: Any) -> None:
    if formula.check == "on":
        formula.check_derivative()


def _check_in_layer(activation: Any) -> None:
    model = Dense(3, 2, activation, seed=0)
    if activation.check == "on":
        check_gradients(model, HalfSquaredError(), _H, np.array([[0.1, 0.2], [0.3, 0.4]]))


# losses


def _check_loss_gradient(loss: Loss) -> None:
    prediction, target, weight = _sample_for(loss)
    gradients, predictions = loss.gradient(prediction, target, weight), flatten(prediction)
    for name, gradient in flatten(gradients).items():

        def value(array: Array, name: str = name) -> float:
            others = iter((predictions | {name: array}).values())
            return loss(map_leaves(lambda _: next(others), prediction), target, weight)

        numeric = numerical_gradient(value, predictions[name])
        _require(
            np.allclose(gradient, numeric, rtol=1e-5, atol=1e-8), "gradient is not the derivative of the weighted mean"
        )


def _check_loss_sums(loss: Loss) -> None:
    prediction, target, weight = _sample_for(loss)
    halves = [slice(0, 1), slice(1, 2)]
    sums = [loss.sums(take(prediction, half), take(target, half), weight[half]) for half in halves]
    totals = map(sum, zip(*sums, strict=True))
    _require(np.isclose(loss.result(*totals), loss(prediction, target, weight)), "sums over rows do not add up")


def _sample_for(loss: Loss) -> tuple[Any, Any, Array]:
    """Return predictions, targets and weights that the loss takes; losses of the signs -1 and 1 get such targets."""
    if isinstance(loss, OutputLosses):
        samples = {name: _sample_for(loss_of_output) for name, loss_of_output in loss.losses.items()}
        weight = next(iter(samples.values()))[2]
        return (
            {name: sample[0] for name, sample in samples.items()},
            {name: sample[1] for name, sample in samples.items()},
            weight,
        )
    prediction, weight = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]), np.array([1.0, 2.0])
    target = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    try:
        loss(prediction, target)
    except FrameworkError:
        target = np.where(target > 0, 1.0, -1.0)
    return prediction, target, weight


# metrics, initializers, schedules


def _check_metric_sums(metric: Metric) -> None:
    if isinstance(metric, OutputMetric) and isinstance(metric.metric, Metric):
        metric = metric.metric
    if isinstance(metric, WholeMetric):
        return
    prediction = np.array([0.1, 0.8, 0.6, 0.3, 0.9, 0.4])
    target = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    try:
        metric(prediction, target)
    except Exception:  # noqa: BLE001 (a figure of classes needs an output for each)
        prediction = np.stack([1.0 - prediction, prediction], axis=1)
    parts = [metric.sums(prediction[rows], target[rows]) for rows in (slice(0, 4), slice(4, 6))]
    whole = metric(prediction, target)
    added = metric.result(*(sum(values) for values in zip(*parts, strict=True)))
    _require(np.isclose(added, whole), "sums over uneven batches do not add up to the whole")
    _require(isinstance(whole, float), "the result is not a plain float")


def _check_initializer(initializer: Initializer) -> None:
    for shape in ((4,), (4, 3)):
        first, again = (np.asarray(initializer(shape, random_generator(0, "check"))) for _ in range(2))
        _require(first.shape == shape, f"shape {shape} becomes {first.shape}")
        _require(np.array_equal(first, again), "the same generator gives other values")
        _require(np.isfinite(first).all(), "a value is not finite")


def _check_schedule(schedule: Schedule) -> None:
    rates = [schedule(step) for step in (0, 1, 2, 10, 99, 1000)]
    _require(all(np.isfinite(rate) and rate >= 0 for rate in rates), f"a rate is negative or not finite: {rates}")
    _require(rates == [schedule(step) for step in (0, 1, 2, 10, 99, 1000)], "the same step gives another rate")


# optimizers, layers, callbacks


def _train(optimizer: BoundOptimizer, steps: int) -> None:
    model = optimizer.model
    x = np.array([[0.5, -1.0], [1.5, 0.3], [-0.7, 0.8]])
    for _ in range(steps):
        model.forward(x, key=(0, 0, optimizer.steps))
        HalfSquaredError().backward(model, np.array([[0.3], [-0.2], [0.9]]))
        optimizer.step()


def _small() -> Sequential:
    return Sequential(Dense(2, 3, framework.Tanh()), Dense(3, 1))


def _check_optimizer_copies(optimizer: Optimizer) -> None:
    bound = optimizer.bind(_small())
    _train(bound, 3)
    for twin in (copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):
        straight = copy.deepcopy(bound)
        for one in (straight, twin):
            _train(one, 3)
        a, b = (one.model.parameters.vector for one in (straight, twin))
        _require(np.array_equal(a, b), "a copy or a pickle continues with other bits")


def _check_optimizer_frozen(optimizer: Optimizer) -> None:
    model = _small()
    model.parameters.freeze("0.weights")
    kept = model.parameters["0.weights"].copy()
    _train(optimizer.bind(model), 3)
    _require(np.array_equal(model.parameters["0.weights"], kept), "a frozen parameter moved")


def _check_optimizer_blocks(optimizer: Optimizer) -> None:
    if not optimizer.elementwise:
        return
    rng = random_generator(0, "check")
    values, gradients = rng.normal(size=10), rng.normal(size=10)
    whole, parts = values.copy(), values.copy()
    memory = [(np.zeros(10), np.zeros(10)) for _ in optimizer.memory]
    for step in (1, 2):
        optimizer.update(whole, gradients.copy(), 0.01, step, *(m for m, _ in memory))
        for block in (slice(0, 4), slice(4, 10)):
            optimizer.update(parts[block], gradients[block].copy(), 0.01, step, *(m[block] for _, m in memory))
    _require(np.array_equal(whole, parts), "elementwise is True, but an update in blocks gives other values")


def _check_model(layer: Model) -> None:
    shape = _shape_of_sample(layer)
    x = map_leaves(lambda size: np.cos(np.arange(1.0, 1.0 + 4 * math.prod(size))).reshape(4, *size), shape)
    x = map_leaves(lambda leaf, limit: np.where(np.isinf(limit), leaf, 0.0), x, layer.cardinalities(shape))
    model = layer.copy()
    try:
        prediction = model.forward(x, key=(0, 0, 0))
    except FrameworkError as error:
        raise UsageError(f"a batch of shape {map_leaves(np.shape, x)} is refused: {error}") from error
    _require(sample_shape(prediction) == layer.shape_after(shape), "shape_after is not true")
    if getattr(layer, "check", "on") == "on":
        check_gradients(model, _loss_of(prediction), x, map_leaves(np.zeros_like, prediction))
    twin = pickle.loads(pickle.dumps(model))
    _require(all(map(np.array_equal, leaves(twin(x)), leaves(model(x)))), "a pickle predicts something else")
    _require(np.array_equal(twin.parameters.vector, model.parameters.vector), "a pickle has other numbers")


def _shape_of_sample(layer: Model) -> Any:
    """Return the shape of a sample, in which open sizes are 3."""
    shape = map_leaves(lambda sizes: tuple(3 if size is None else size for size in sizes), layer.input_shape)
    channels_first = isinstance(layer, Layer) and layer.leading_axes and layer.inputs_axis == 0
    return (getattr(layer, layer.inferred) or 3, *shape) if channels_first else shape  # which lacks the channels


def _loss_of(prediction: Any) -> Loss:
    """Return a loss for a model that gives such predictions: one for each output, where there are several."""
    if not isinstance(prediction, dict):
        return HalfSquaredError()
    return OutputLosses(**{name: _loss_of(output) for name, output in prediction.items()})


def _check_callback(callback: Callback) -> None:
    x, y = np.linspace(-1, 1, 7)[:, None], np.linspace(0, 1, 7)
    trainer = Trainer(
        loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=4, batch_size=3, callbacks=[callback]
    )
    if callback.writes:
        return  # it would write into its folder
    straight, run = (trainer.fit(Neuron(1), (x, y), (x, y), epochs=epochs) for epochs in (4, 2))
    if straight.epoch == 4:
        with tempfile.TemporaryDirectory() as folder:
            save(run, f"{folder}/run")
            run = trainer.resume(f"{folder}/run", (x, y), (x, y))
        for difference in differences(straight, run):
            raise AssertionError("{0} is {2} after a resume, {1} without".format(*difference))


_CHECKS: dict[type, dict[str, Check]] = {
    Component: {
        "its JSON gives it back": _check_json,
        "its repr evaluates back": _check_repr,
        "equal settings are equal": _check_equality,
        "its settings are frozen": _check_frozen,
        "it copies and pickles": _check_copies,
        "its docstring has an example": _check_docstring,
    },
    Activation: {
        "its derivative is that of its formula": _check_derivative,
        "it keeps dtype, shape and argument": _check_dtype,
        "it works on numbers and on any shape": _check_shapes,
        "a layer with it has right gradients": _check_in_layer,
    },
    Loss: {
        "its slope is that of its formula": _check_derivative,
        "its gradient is that of the weighted mean": _check_loss_gradient,
        "its sums add up": _check_loss_sums,
    },
    Metric: {"its sums add up": _check_metric_sums},
    Initializer: {"it is a pure function of shape and generator": _check_initializer},
    Schedule: {"it is a pure function of the step": _check_schedule},
    Optimizer: {
        "it continues after a copy or a pickle": _check_optimizer_copies,
        "it leaves frozen parameters alone": _check_optimizer_frozen,
        "it may be called in blocks if it says so": _check_optimizer_blocks,
    },
    Model: {"its gradients are right and it pickles": _check_model},
    Callback: {"it remembers across a resume": _check_callback},
}
