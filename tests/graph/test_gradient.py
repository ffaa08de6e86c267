"""The derivative of elementwise formulas against JAX and differences; kinks, ties and overflow."""

import math

import numpy as np
import pytest
import scipy.special
from graph.both_ways import by_graph, by_jax
from oracles import in_float64, jax, jax_gradients, jnp

from framework import DerivativeError
from framework.backends.numpy import emit
from framework.base.special import erf, erfc
from framework.graph.gradient import derivative, gradients, textbook_derivative
from framework.graph.graph import Graph
from framework.graph.node import Node, order_nodes
from framework.graph.operations import OPERATIONS, STABLE
from framework.graph.stable import stabilise
from framework.graph.trace import ROWS, trace

GRID = np.array([-700.0, -50.0, -3.0, -1.0, -0.4, -1e-8, -0.0, 0.0, 1e-8, 0.4, 1.0, 3.0, 50.0, 700.0])
INSIDE = np.array([-0.9, -0.5, -0.1, 0.2, 0.7])
POSITIVE = np.array([1e-8, 0.1, 0.5, 1.0, 2.0, 40.0])


def computed(output, values):
    """Return what a node comes to, given the values of others."""
    inputs = {f"input_{place}": node for place, node in enumerate(values)}
    with np.errstate(all="ignore"):
        return emit({"output": output}, inputs, memory=False)(*values.values())


def derived(formula, h, dtype="float64"):
    """Return the derived derivative of a formula of h, in its stable form, at these points."""
    traced = trace(formula, {"h": (ROWS,)}, dtype)
    (stable,) = stabilise(traced.outputs)
    return computed(derivative(stable, traced.inputs["h"]), {traced.inputs["h"]: h})


def written(text):
    """Return the formula of h that this text is."""
    return eval(f"lambda h: {text}", {"np": np})


def absolute(x):
    return x * jnp.sign(x)  # the slope of jnp.abs is 1 at 0; by our convention it is 0


ONE_ARGUMENT = {  # the operations of one argument, and where each is smooth
    **dict.fromkeys(("exp", "exp2", "expm1", "tan", "arcsin", "arccos", "sinh", "cosh", "arcsinh", "arctanh"), INSIDE),
    **dict.fromkeys(("floor", "ceil", "rint", "trunc"), INSIDE),
    **dict.fromkeys(("log", "log2", "log10", "log1p", "sqrt", "cbrt", "reciprocal"), POSITIVE),
    **dict.fromkeys(("square", "negative", "positive", "sin", "cos", "arctan", "tanh", "erf", "erfc"), GRID),
    **dict.fromkeys(("abs", "sign"), GRID),
    **dict.fromkeys(("deg2rad", "radians", "rad2deg", "degrees"), GRID),
    "arccosh": POSITIVE[4:],
}
TWO_ARGUMENTS = (
    *("add", "subtract", "multiply", "divide", "power", "mod", "fmod", "maximum", "minimum", "fmax", "fmin"),
    *("hypot", "arctan2", "copysign"),
    "logaddexp",
)
OURS = {"erf": erf, "erfc": erfc}
JAXS = {
    "abs": absolute,
    "cbrt": lambda x: x ** (1 / 3),
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "positive": lambda x: x,
}


def both(name):
    """Return an operation, and that of JAX."""
    return OURS.get(name) or getattr(np, name), JAXS.get(name) or getattr(jnp, name)


@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_an_operation_has_the_derivative_of_jax(name):
    (function, oracle), points = both(name), ONE_ARGUMENT[name]
    found = derived(lambda h: function(h) + 0.0, points)
    if name == "tanh":  # compiled quickly, that of JAX is 1e-16 off, too much for a slope of 0.01

        def slopes(points):
            return jax.vmap(jax.grad(oracle))(points)

        expected = in_float64(slopes, points)
    else:
        _, (expected,) = jax_gradients(oracle, points)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
@pytest.mark.parametrize("place", [0, 1])
def test_an_operation_of_two_has_the_derivative_of_jax_by_each(name, place):
    function, oracle = both(name)
    x, other = np.array([0.3, 1.7, 2.2, 5.1]), 1.3
    pair = (lambda f, c: lambda h: f(h, c)) if place == 0 else (lambda f, c: lambda h: f(c, h))
    _, (expected,) = jax_gradients(pair(oracle, other), x)
    np.testing.assert_allclose(derived(pair(function, other), x), expected, rtol=1e-13, atol=1e-300)


def test_every_elementwise_operation_with_a_derivative_is_compared():
    elementwise = {name for name, row in OPERATIONS.items() if row.elementwise and any(row.rules)} - STABLE.keys()
    assert elementwise - set(ONE_ARGUMENT) - set(TWO_ARGUMENTS) == {"where"}


# kinks and ties


@pytest.mark.parametrize(
    ("formula", "at_the_kink"),
    [
        ("np.maximum(h, 0)", 0.0),
        ("np.maximum(0, h)", 0.0),
        ("np.fmax(h, 0)", 0.0),
        ("h * (h > 0)", 0.0),
        ("-(h * (h > 0))", 0.0),
        ("np.where(h > 0, h, 0)", 0.0),
        ("np.clip(h, 0, 1)", 0.0),
        ("np.abs(h)", 0.0),
        ("np.maximum(h, -h)", 0.0),
        ("np.maximum(h, 3 * h)", 2.0),
        ("np.sqrt(h * h + 1) - 1", 0.0),
        ("np.sign(h)", 0.0),
        ("np.heaviside(h, 0.5)", 0.0),
        ("np.copysign(h, h)", 1.0),
    ],
)
def test_a_kink_has_the_derivative_of_its_convention(formula, at_the_kink):
    assert derived(written(formula), np.array([0.0])).tolist() == [at_the_kink]


@pytest.mark.parametrize(
    ("formula", "place", "expected"),
    [
        ("np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))", 0.0, 0.5),
        ("np.maximum(h, 0) - np.maximum(-h, 0)", 0.0, 1.0),
        ("h * (h > 0) - (-h) * (h < 0)", 0.0, 1.0),
        ("np.where(h > 0, h, np.expm1(np.minimum(h, 0)))", 0.0, 1.0),
        ("np.where(h >= 0, 1 / (1 + np.exp(-np.abs(h))), 1 - 1 / (1 + np.exp(-np.abs(h))))", 0.0, 0.25),
        ("np.abs(h) * np.sign(h)", 0.0, 1.0),
        ("np.abs(np.tanh(h)) * np.copysign(np.maximum(h, 0.1), h)", 0.0, 0.1),
        ("np.maximum(h - 0.3, 0) + np.log1p(np.exp(-np.abs(h - 0.3)))", 0.3, 0.5),
        ("np.maximum(h - 5000, 0) + np.log1p(np.exp(-np.abs(h - 5000)))", 5000.0, 0.5),
        ("np.maximum(h * h - 0.1, 0) + np.log1p(np.exp(-np.abs(h * h - 0.1)))", math.sqrt(0.1), math.sqrt(0.1)),
    ],
)
def test_kinks_that_cancel_have_the_derivative_of_the_smooth_function(formula, place, expected):
    around = np.array([np.nextafter(place, -9e9), place, np.nextafter(place, 9e9)])
    np.testing.assert_allclose(derived(written(formula), around), expected, rtol=1e-6)
    np.testing.assert_allclose(derived(written(formula), np.array([place])), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("formula", "points", "expected"),
    [
        ("np.where(np.clip(h, 0.35, 0.65) >= h, h, 0.1 * h)", [-1, 0.2, 0.4, 0.5, 0.8, 2], [1, 1, 1, 1, 0.1, 0.1]),
        ("np.where(np.abs(h) <= h, h, 0.1 * h)", [-2, -1, 0.5, 2], [0.1, 0.1, 1, 1]),
        ("np.where(np.maximum(h, 0) > h, 0.1 * h, h)", [-2, -1, 0.5, 2], [0.1, 0.1, 1, 1]),
        ("np.where(np.minimum(h, 1) < h, 0.0, np.abs(h))", [-2, 0.5, 2], [-1, 1, 0]),
    ],
)
def test_a_comparison_of_sides_equal_on_an_interval_keeps_its_value(formula, points, expected):
    np.testing.assert_allclose(derived(written(formula), np.array(points)), expected)


CONSTANTS = ["(-1.0)", "(-0.65)", "(-0.35)", "0.1", "0.35", "0.5", "0.65", "1.0", "2.0"]
KINKED = [
    "np.maximum({0}, {1})",
    "np.minimum({0}, {1})",
    "np.fmax({0}, {c})",
    "np.maximum({0}, {c})",
    "np.clip({0}, -0.35, 0.65)",
    "np.abs({0})",
    "np.copysign({0}, {1})",
    "np.where({0} {op} {1}, {0}, {2})",
    "np.where({0} {op} {1}, {1}, {2})",
    "np.where({0} {op} {c}, {1}, {2})",
    "np.where(({0} {op} {c}) & ({1} > 0.1), {0}, {2})",
    "({0} + {1})",
    "({0} - {1})",
    "({c} * {0})",
    "({0} * np.exp(0.3 * {1}))",
    "np.tanh({0})",
    "np.log1p(np.exp(-np.abs({0})))",
]
DENSE = np.unique(np.concatenate([np.arange(-40, 41) / 20, np.linspace(-2.013, 2.017, 97)]))


def random_formula(rng, depth=3):
    if depth == 0 or rng.random() < 0.15:
        return "h" if rng.random() < 0.75 else rng.choice(CONSTANTS)
    parts = [random_formula(rng, depth - 1) for _ in range(3)]
    return rng.choice(KINKED).format(*parts, c=rng.choice(CONSTANTS), op=rng.choice([">", ">=", "<", "<="]))


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize("block", range(8))
def test_random_kinked_formulas_agree_with_differences_everywhere_and_with_jax_where_smooth(block):
    """At a kink, the derivative lies between the differences of both sides."""
    step, compared, smooth_ones = 1e-6, 0, 0
    for seed in range(50 * block, 50 * block + 50):
        text = random_formula(np.random.default_rng([seed, 7]))
        formula = written(f"{text} + 0.0 * h")

        def at(k, formula=formula):
            return formula(DENSE + k * step)

        found = derived(formula, DENSE)
        left, right = (at(-1) - at(-2)) / step, (at(2) - at(1)) / step
        continuous = (np.abs(at(1) - at(0)) < 1e-4) & (np.abs(at(-1) - at(0)) < 1e-4)
        inside = (found >= np.minimum(left, right) - 1e-3) & (found <= np.maximum(left, right) + 1e-3)
        assert inside[continuous].all(), f"{seed}: {text} at {DENSE[continuous & ~inside]}"
        compared += continuous.sum()
        if seed % 5:
            continue
        smooth = continuous & (np.abs(left - right) < 1e-3) & ~np.isin(DENSE, np.arange(-40, 41) / 20)
        _, (expected,) = jax_gradients(eval(f"lambda h: {text} + 0.0 * h", {"np": jnp}), DENSE)
        np.testing.assert_allclose(found[smooth], expected[smooth], rtol=1e-12, atol=1e-14, err_msg=text)
        smooth_ones += smooth.sum()
    assert compared > 45 * len(DENSE)
    assert smooth_ones > 6 * len(DENSE) // 3


# choices that are not taken, and overflow


@pytest.mark.parametrize(
    ("formula", "points", "expected"),
    [
        ("np.where(h > 0, np.log(h), 0.0)", [-1.0, 0.0, 2.0], [0.0, 0.0, 0.5]),
        ("np.where(h > 0, np.exp(-1 / np.where(h > 0, h, 1.0)), 0.0)", [-1.0, 0.0, 1.0], [0.0, 0.0, math.exp(-1)]),
        ("np.where(h > 0, np.exp(-1 / np.where(h >= 0, h, 1.0)), 0.0)", [-1.0, 0.0, 1.0], [0.0, 0.0, math.exp(-1)]),
        ("np.where(h == 0, 0.0, h * np.log(np.where(h == 0, 1.0, np.abs(h))))", [-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]),
        ("h * np.log(np.where(h == 0, 1.0, np.abs(h)))", [-1.0, 1.0], [1.0, 1.0]),
        ("np.fmax(np.log(h), -5.0)", [-1.0, 1e-9, 2.0], [0.0, 0.0, 0.5]),
        ("np.fmin(np.sqrt(h), 2.0)", [-1.0, 1.0, 9.0], [0.0, 0.5, 0.0]),
    ],
)
def test_what_is_not_chosen_cannot_spoil_the_derivative(formula, points, expected):
    np.testing.assert_allclose(derived(written(formula), np.array(points)), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "formula",
    [
        "h / (1 + np.exp(-2 * h))",
        "h * np.reciprocal(1 + np.exp(-2 * h))",
        "h / (1 + np.exp(-h)) ** 2",
        "h * (1 / (1 + np.exp(-h)))",
        "np.abs(h) / (1 + np.exp(-h)) + np.maximum(h, 0) / np.cosh(h)",
        "h / (1 + np.sinh(h) ** 2)",
    ],
)
def test_a_denominator_that_overflows_leaves_a_derivative_of_0(formula):
    found = derived(written(formula), np.array([-1e300, -1e4, -800.0, 800.0]))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.0, found[3]], atol=1e-300)
    assert found[3] in (0.0, 1.0)


@pytest.mark.parametrize(
    "denominator", ["1 + np.exp(-np.abs(h))", "2 + np.exp(-(h * h))", "1 + np.exp(np.minimum(h, 0))", "1 + np.abs(h)"]
)
def test_a_denominator_that_cannot_overflow_is_not_watched(denominator):
    traced = trace(written(f"h / ({denominator})"), {"h": (ROWS,)})
    assert "isinf" not in {node.op for node in order_nodes([derivative(traced.output, traced.inputs["h"])])}


def test_an_exponent_of_two_factors_is_no_square_and_is_watched():
    assert derived(written("h / (2 + np.exp(-(h * (h - 1000))))"), np.array([500.0])).tolist() == [0.0]


def test_the_numbers_of_a_derivative_become_one():
    traced = trace(written("3 * (2 * np.sin(h))"), {"h": (ROWS,)})
    made = order_nodes([derivative(traced.output, traced.inputs["h"])])
    numbers = [arg for node in made if node.op == "multiply" for arg in node.args if not isinstance(arg, Node)]
    assert numbers == [6]


def test_kinks_that_meet_beside_an_error_function_are_smooth():
    found = derived(lambda h: np.maximum(h, 0) - np.maximum(-h, 0) + erf(h) * np.abs(h), np.array([0.0, 1.0]))
    expected = 1.0 + scipy.special.erf(1.0) + 2.0 / math.sqrt(math.pi) * math.exp(-1.0)
    np.testing.assert_allclose(found, [1.0, expected], rtol=1e-15)


def test_a_side_that_is_not_a_number_does_not_count_at_a_tie():
    bump = "np.where(h > 0, np.exp(-1 / np.where(h >= 0, h, 1.0)), 0.0)"
    formula = written(f"{bump} + np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))")
    assert derived(formula, np.array([0.0])).tolist() == [0.5]


def test_kinks_that_meet_for_some_numbers_of_a_constant_are_found():
    first, second = np.array([0.0, 1.0]), np.array([5.0, 1.0])
    traced = trace(
        lambda h: np.maximum(h - first, 0) + np.log1p(np.exp(-np.abs(h - second))) + np.abs(h - 7.0), {"h": (ROWS, 2)}
    )
    found = computed(derivative(traced.output, traced.inputs["h"]), {traced.inputs["h"]: np.array([[1.0, 1.0]])})
    assert found[0, 1] == 0.5 - 1.0


def test_a_product_over_no_elements_has_the_gradients_0():
    compute, _ = by_graph(lambda x, w: x[:, :, :0] @ w, {"x": (ROWS, 3, 4), "w": (0, 2)})
    value, slopes = compute({"x": np.ones((5, 3, 4)), "w": np.ones((0, 2))}, np.ones((5, 3, 2)))
    assert not value.any()
    assert {name: (slope.shape, slope.any()) for name, slope in slopes.items()} == {
        "x": ((5, 3, 4), False),
        "w": ((0, 2), False),
    }


def test_a_tiny_derivative_keeps_its_relative_accuracy():
    points = np.array([-700.0, -300.0])
    np.testing.assert_allclose(derived(lambda h: 1 / (1 + np.exp(-h)), points), np.exp(points), rtol=1e-13)


@pytest.mark.parametrize("derive", [derivative, textbook_derivative])
def test_a_derivation_does_not_change_how_later_formulas_are_traced(derive):
    graph = Graph()
    h = graph.input("h", (3,))
    product = graph.add("multiply", h, 1.0)
    derive(graph.add("tanh", h), h)
    assert graph.add("multiply", h, 1.0) is product


def test_the_slope_of_a_mask_is_a_float():
    assert derived(lambda h: -(h * (h > 0)) + 1.0 * (h > 1), np.array([-1.0, 2.0])).tolist() == [0.0, -1.0]
    assert derived(lambda h: h * (h > 0).astype(float), np.array([-1.0, 2.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "formula",
    [
        "np.where(h > 0, 1.0, 0.1) * h",
        "h / (1 + np.exp(-2.0 * h))",
        "h * (h > 0)",
        "np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))",
        "np.where(np.clip(h, 0.35, 0.65) >= h, h, 0.1 * h)",
    ],
)
def test_a_derivative_of_float32_is_float32_and_has_the_numbers_of_float64(formula):
    found = derived(written(formula), INSIDE.astype(np.float32), "float32")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, derived(written(formula), INSIDE), rtol=2e-6)


def test_working_memory_does_not_change_a_derivative_with_ties():
    traced = trace(written("np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))"), {"h": (ROWS, 3)})
    h = np.array([[-1.0, 0.0, 2.0], [0.0, -0.0, 700.0]])
    found = derivative(traced.output, traced.inputs["h"])
    emitted = emit({"slope": found}, traced.inputs)
    np.testing.assert_array_equal(emitted(h), computed(found, {traced.inputs["h"]: h}))


# the derivative in terms of the output


@pytest.mark.parametrize(
    "formula",
    [
        "1.0 / (1.0 + np.exp(-h))",
        "1 / (np.exp(-h) + 1)",
        "1.0 / (1.0 + np.exp(np.minimum(-h, 709.782712893384)))",
        "1.0 / (1.0 + np.exp(np.minimum(709.782712893384, -h)))",
    ],
)
def test_the_sigmoid_derives_to_a_times_1_minus_a_bit_for_bit(formula):
    traced = trace(written(formula), {"h": (ROWS,)})
    (stable,) = stabilise(traced.outputs)
    found = derivative(stable, traced.inputs["h"])
    assert order_nodes([found], {stable})[0] is stable
    a = np.random.default_rng(0).random(1000)
    assert np.array_equal(computed(found, {stable: a}), a * (1.0 - a))


def test_the_tanh_derives_to_1_minus_a_squared_bit_for_bit():
    traced = trace(written("np.tanh(h)"), {"h": (ROWS,)})
    found = derivative(traced.output, traced.inputs["h"])
    a = np.random.default_rng(0).random(1000)
    assert np.array_equal(computed(found, {traced.output: a}), 1.0 - a * a)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("3.0 / (1 + np.exp(0.5 - 2 * h))", lambda s: 6 * s * (1 - s)),
        (
            "1.0 / (1.0 + np.exp(np.minimum(0.5 - 2 * h, 1.0)))",
            lambda s: np.where(s > 0.27, 2 * s * (1 - s), 0),
        ),
        ("1.0 / (2.0 + np.exp(0.5 - 2 * h))", lambda s: 2 * (1 / s - 1) / (1 + 1 / s) ** 2),
    ],
)
def test_relatives_of_the_sigmoid_are_derived_right(formula, expected):
    points = np.linspace(-2, 2, 9)
    s = 1 / (1 + np.exp(0.5 - 2 * points))
    np.testing.assert_allclose(derived(written(formula), points), expected(s), rtol=1e-13)


# whole formulas


def test_a_loss_is_derived_by_its_prediction():
    traced = trace(lambda p, t: np.maximum(p, 0) - p * t + np.log1p(np.exp(-np.abs(p))), {"p": (ROWS,), "t": (ROWS,)})
    p, t = np.array([-800.0, -1.0, 0.0, 2.0]), np.array([0.0, 1.0, 1.0, 0.0])
    found = computed(derivative(traced.output, traced.inputs["p"]), {traced.inputs["p"]: p, traced.inputs["t"]: t})
    np.testing.assert_allclose(found, scipy.special.expit(p) - t, rtol=1e-15)


def test_equal_arguments_share_the_slope_of_logaddexp_whatever_their_size():
    found = derived(lambda h: np.logaddexp(h, h / 2 + h / 2), np.array([1.0, 1e17, -1e300]))
    assert found.tolist() == [1.0, 1.0, 1.0]


CONSTANT_OF_EQUAL = [name for name in TWO_ARGUMENTS if np.ptp(getattr(np, name)(POSITIVE, POSITIVE)) == 0]


@pytest.mark.parametrize("name", CONSTANT_OF_EQUAL)
def test_an_operation_that_equal_arguments_make_constant_leaves_nothing_in_a_slope(name):
    traced = trace(lambda h: np.exp(getattr(np, name)(h, h)) + h**2, {"h": (ROWS,)})
    variable, h = traced.inputs["h"], np.array([-3.0, -1e-5, 1e-5, 0.7])
    slope = derivative(traced.output, variable)
    np.testing.assert_array_equal(computed(slope, {variable: h}), 2 * h)
    assert [node.op for node in order_nodes([textbook_derivative(traced.output, variable)])] == ["input", "multiply"]


def test_parameters_and_constants_of_other_shapes_may_stand_in_the_formula():
    slopes = np.array([0.1, 0.2, 0.3])
    traced = trace(lambda h: np.where(h > 0, h, slopes * h) + np.abs(h), {"h": (ROWS, 3)})
    h = np.array([[-1.0, 0.5, -2.0]])
    found = derivative(traced.output, traced.inputs["h"])
    np.testing.assert_allclose(computed(found, {traced.inputs["h"]: h}), [[-0.9, 2.0, -0.7]])


def test_what_does_not_depend_on_the_variable_has_the_derivative_0():
    traced = trace(lambda h, c: (5.0, np.exp(c), h), {"h": (ROWS,), "c": (ROWS,)})
    assert [derivative(output, traced.inputs["h"]) for output in traced.outputs] == [0.0, 0.0, 1.0]


def test_a_formula_over_several_elements_has_no_derivative_of_each():
    traced = trace(lambda h: h - h.sum(axis=-1, keepdims=True), {"h": (ROWS, 3)})
    with pytest.raises(DerivativeError, match="several elements, in sum"):
        derivative(traced.output, traced.inputs["h"])


# formulas inside a graph


def softplus(h):
    return np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))


def test_kinks_that_meet_in_a_layer_are_smooth_in_the_gradient_of_every_parameter():
    shapes = {"x": (ROWS, 2), "weights": (2, 3), "bias": (3,)}
    traced = trace(lambda x, weights, bias: softplus(3 * (x @ weights + bias) - 1).sum(axis=-1), shapes)
    found = gradients([(traced.output, 1.0)], [*traced.inputs.values()])
    x, weights, bias = np.eye(2), np.array([[-1.0, 1 / 3, 2.0], [0.0, 1 / 3, 9.0]]), np.array([0.5, 0.0, 0.0])
    slope = 3 * scipy.special.expit(3 * (x @ weights + bias) - 1)
    values = dict(zip(traced.inputs.values(), (x, weights, bias), strict=True))
    for node, expected in zip(found, (slope @ weights.T, x.T @ slope, slope.sum(axis=0)), strict=True):
        np.testing.assert_allclose(computed(node, values), expected, rtol=1e-15)


@pytest.mark.parametrize("formula", ["softplus(2 * h)", "1 / (1 + np.exp(-h))", "np.abs(2 * h) * np.sign(2 * h)"])
def test_a_value_inside_a_formula_has_its_own_gradient(formula):
    traced = trace(eval(f"lambda h: {formula}", {"np": np, "softplus": softplus}), {"h": (ROWS,)})
    x, h = traced.inputs["h"], np.array([-0.7, 0.4])
    for inner in order_nodes([traced.output])[1:-1]:
        found = gradients([(traced.output, 1.0)], [x, inner])[1]
        at = computed(inner, {x: h})
        low, high = (computed(traced.output, {x: h, inner: at + step}) for step in (-1e-6, 1e-6))
        np.testing.assert_allclose(computed(found, {x: h}), (high - low) / 2e-6, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "formula",
    [
        "np.clip(h, -1, 1)",
        "h * np.clip(h + 3, 0, 6) / 6",
        "np.where(np.abs(h) <= 1, 0.5 * h * h, np.abs(h) - 0.5)",
        "np.maximum(2 - 3 * h, 0) + np.maximum(h - 1, 0)",
        "np.where(h > 0, h, np.expm1(np.minimum(h, 0)))",
        "np.where(0 < h, h, np.expm1(np.minimum(0, h)))",
        "np.where(h >= 0, np.abs(h), np.tanh(np.abs(h)))",
        "np.where(h < 0, np.maximum(h, 0), np.maximum(h, 0) ** 2)",
    ],
)
def test_kinks_that_cannot_meet_and_guards_of_a_choice_cost_nothing(formula):
    traced = trace(written(formula), {"h": (ROWS,)})
    assert "fmax" not in {node.op for node in order_nodes([derivative(traced.output, traced.inputs["h"])])}
    step, points = 1e-6, np.array([-3.0, -1.0, -0.3, 0.0, 0.5, 1.0, 2 / 3, 2.0, 3.0])
    sides = [np.diff(written(formula)(points + step * np.array([[k], [k + 1]])), axis=0)[0] / step for k in (-2, 1)]
    found = derived(written(formula), points)
    assert (found >= np.minimum(*sides) - 1e-5).all()
    assert (found <= np.maximum(*sides) + 1e-5).all()


def test_a_choice_of_0_on_either_side_never_meets_infinity():
    points = np.array([-1.0, 1.0])
    assert derived(lambda h: np.where(h > 0, 0.0, np.sqrt(np.where(h > 0, 0.0, -h))), points).tolist() == [-0.5, 0.0]
    assert derived(lambda h: np.where(h < 0, np.sqrt(np.where(h < 0, -h, 0.0)), 0.0), points).tolist() == [-0.5, 0.0]


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("name", ["sort", "cumprod"])
def test_equal_elements_and_zeros_have_the_gradients_of_jax(name, axis):
    rng = np.random.default_rng(0)
    x, upstream = rng.integers(-1, 2, (5, 3, 4)).astype(float), rng.normal(size=(5, 3, 4))
    compute, _ = by_graph(lambda x: getattr(np, name)(x, axis=axis), {"x": (ROWS, 3, 4)})
    value, slopes = compute({"x": x}, upstream)
    expected, gradient = by_jax(lambda x: getattr(jnp, name)(x, axis=axis), {"x": x}, upstream)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(slopes["x"], gradient["x"], rtol=1e-14)
    if name == "sort":  # each of equal elements receives that of its own place
        wanted = np.empty_like(x)
        np.put_along_axis(wanted, np.argsort(x, axis=axis, stable=True), upstream, axis=axis)
        np.testing.assert_array_equal(slopes["x"], wanted)
