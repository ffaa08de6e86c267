"""Text and LaTeX of graphs read as a textbook, evaluate back to the formula, and hold no commands of users."""

import re

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from framework.backends.text import Shown
from framework.base.special import erf, erfc
from framework.graph.gradient import derivative, gradients, textbook_derivative
from framework.graph.graph import Graph
from framework.graph.loop import loop
from framework.graph.operations import OPERATIONS
from framework.graph.trace import ROWS, trace

POSITIVE = np.array([1e-8, 0.1, 0.5, 1.0, 2.0, 40.0])


def written(source, names="h"):
    """Return the formula that this text is."""
    return eval(f"lambda {names}: {source}", {"np": np, "erfc": erfc, "sliding_window_view": sliding_window_view})


def of_one_variable(source):
    """Return the text of a formula of h and of its derivative."""
    traced = trace(written(source), {"h": (ROWS, 3)})
    found = textbook_derivative(traced.output, traced.inputs["h"])
    return Shown({"f(h)": traced.output, "f'(h)": found})


@pytest.mark.parametrize(
    ("formula", "value", "slope"),
    [
        ("h", "h", "1"),
        ("h ** 3", "h ** 3", "3 * h ** 2"),
        ("h * h", "h ** 2", "2 * h"),
        ("1.0 * np.tanh(1.0 * h) / 1", "tanh(h)", "1 - a ** 2  where a = f(h)"),
        ("np.exp(h)", "exp(h)", "exp(h)"),
        ("np.tanh(h)", "tanh(h)", "1 - a ** 2  where a = f(h)"),
        ("1 / (1 + np.exp(-h))", "1 / (1 + exp(-h))", "a * (1 - a)  where a = f(h)"),
        ("np.maximum(h, 0)", "max(h, 0)", "where(h > 0, 1, 0)"),
        ("-(h * (h > 0))", "-h * (h > 0)", "where(h > 0, -1, 0)"),
        ("np.where((h > 0) & (h < 1), h, 0)", "where((h > 0) & (h < 1), h, 0)", "where((h > 0) & (h < 1), 1, 0)"),
        ("np.log(h) ** 2", "log(h) ** 2", "2 * log(h) / h"),
        ("np.sqrt(h * h + 1) - 1", "sqrt(h ** 2 + 1) - 1", "h / sqrt(h ** 2 + 1)"),
        (
            "h / (1 + np.exp(-2 * h))",
            "h / (1 + exp(-2 * h))",
            "1 / (1 + u) + 2 * a * u / (1 + u)  where u = exp(-2 * h), a = f(h)",
        ),
        (
            "h * erfc(-h / 2) / 2",
            "h * erfc(-h / 2) / 2",
            "(erfc(-h / 2) + 1 / sqrt(pi) * h * exp(-(h / 2) ** 2)) / 2",
        ),
        (
            "h * np.tanh(np.log1p(np.exp(h)))",
            "h * tanh(log1p(exp(h)))",
            "u + h * (1 - u ** 2) / (1 + exp(-h))  where u = tanh(log1p(exp(h)))",
        ),
    ],
)
def test_a_formula_and_its_derivative_read_as_in_a_textbook(formula, value, slope):
    assert of_one_variable(formula).text.splitlines() == [f"f(h) = {value}", f"f'(h) = {slope}"]


def test_the_derivative_that_training_uses_differs_from_the_textbooks_only_at_ties_and_overflow():
    traced = trace(lambda h: h / (1 + np.exp(-2 * h)), {"h": (ROWS,)})
    for derive in (derivative, textbook_derivative):
        assert ("isinf" in Shown({"d": derive(traced.output, traced.inputs["h"])}).text) == (derive is derivative)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("np.tanh(h)", r"f(h) &= \tanh\left(h\right) \\ f'(h) &= 1 - a^2 \quad\text{where } a = f(h)"),
        ("np.exp(-h) ** 2", r"f(h) &= \left(e^{-h}\right)^{2} \\ f'(h) &= -2 \, \left(e^{-h}\right)^2"),
        ("1e-7 * h", r"f(h) &= 1 \cdot 10^{-7} \, h \\ f'(h) &= 1 \cdot 10^{-7}"),
        ("h + -2.0", r"f(h) &= h + \left(-2\right) \\ f'(h) &= 1"),
        (
            "(h + 1) / (h - 1)",
            r"f(h) &= \frac{h + 1}{h - 1} \\ f'(h) &= \frac{1}{h - 1} - \frac{h + 1}{\left(h - 1\right)^2}",
        ),
    ],
)
def test_latex_groups_what_belongs_together(formula, expected):
    assert of_one_variable(formula).latex == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda x: x.sum(axis=1), r"\sum_{\mathrm{axis} = -2} x"),
        (lambda x: x.sum(axis=(1, 2), keepdims=True), r"\sum_{\mathrm{axis} = (-2, -1)} x"),
        (lambda x: x.sum(), r"\sum x"),
        (lambda x: x.var(-1, ddof=1), r"\operatorname{var}_{\mathrm{axis} = -1, \mathrm{ddof} = 1}\left(x\right)"),
        (lambda x: x.max(axis=2), r"\max_{\mathrm{axis} = -1}\left(x\right)"),
        (lambda x: x.cumsum(axis=1), r"\operatorname{cumsum}_{\mathrm{axis} = -2}\left(x\right)"),
    ],
)
def test_latex_names_the_axes_of_a_reduction(formula, expected):
    assert Shown({"a": trace(formula, {"x": (ROWS, 2, 3)}).output}).latex == f"a &= {expected}"


def test_a_notebook_draws_aligned_lines():
    found = of_one_variable("np.tanh(h)")
    assert isinstance(found, Shown)
    assert repr(found) == found.text
    assert found._repr_latex_() == rf"$$\begin{{aligned}}{found.latex}\end{{aligned}}$$"


@pytest.mark.parametrize(
    "formula",
    [
        "(h - 1) - (h - 2)",
        "2 ** (-h) / (h + 1) ** 2",
        "-((h + 1) * (h - 3))",
        "(h / 2) ** 3 / (h / 4)",
        "1 / (1 / (1 + h))",
        "(-h) ** 2 - (2 * h) ** 2",
        "(h ** 2) ** 3 - 2 ** (h / 40)",
        "h - (h - (h + 2) * (h - 3)) % 3 * (h % 2)",
        "(h + 1) % (h * 2)",
        "h * (h // 2)",
        "((h > 1) & (h < 3)) * h",
        "np.square(np.square(h) + 1)",
    ],
)
def test_the_text_evaluates_back_to_the_formula(formula):
    source = of_one_variable(formula).text.splitlines()[0].removeprefix("f(h) = ")
    np.testing.assert_allclose(written(source)(POSITIVE), written(formula)(POSITIVE), rtol=1e-12)


def test_a_loss_names_both_arguments():
    traced = trace(lambda prediction, target: (prediction - target) ** 2, {"prediction": (ROWS,), "target": (ROWS,)})
    slope = textbook_derivative(traced.output, traced.inputs["prediction"])
    assert Shown(
        {"value(prediction, target)": traced.output, "value'(prediction, target)": slope}
    ).text.splitlines() == [
        "value(prediction, target) = (prediction - target) ** 2",
        "value'(prediction, target) = 2 * (prediction - target)",
    ]


LAYERS = {
    "dense": (
        "np.tanh(x @ weights + bias)",
        {"x": (ROWS, 3), "weights": (3, 4), "bias": (4,)},
        "tanh(x @ weights + bias)",
    ),
    "gated": (
        "(x * gate) @ weights * gate[0]",
        {"x": (ROWS, 3), "weights": (3, 4), "gate": (3,)},
        "(x * gate) @ weights * gate[0]",
    ),
    "softmax": (
        "np.exp(x - x.max(axis=-1, keepdims=True)) / np.exp(x - x.max(axis=-1, keepdims=True)).sum(-1, keepdims=True)",
        {"x": (ROWS, 3)},
        "u / sum(u, axis=-1, keepdims=True)  where u = exp(x - max(x, axis=-1, keepdims=True))",
    ),
    "layer normalization": (
        "scale * (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)",
        {"x": (ROWS, 4), "scale": (4,)},
        "scale * (x - mean(x, axis=-1, keepdims=True)) / sqrt(var(x, axis=-1, keepdims=True) + 1e-05)",
    ),
    "attention": (
        "x @ query @ (x @ key).swapaxes(-1, -2) / np.sqrt(4)",
        {"x": (ROWS, 5, 3), "query": (3, 4), "key": (3, 4)},
        "x @ query @ (x @ key).T / 2",
    ),
    "embedding": ("table[ids]", {"ids": (ROWS, 5), "table": (7, 3)}, "table[ids]"),
    "columns": ("x[:, ids]", {"x": (ROWS, 7), "ids": (2,)}, "x[:, ids]"),
    "parts": ("x[:, 1:3] + x[:, ::-2][:, :2]", {"x": (ROWS, 4)}, "x[:, 1:3] + x[:, 3::-2]"),
    "pooling": (
        "sliding_window_view(x, 2, axis=1)[:, ::2].max(axis=-1)",
        {"x": (ROWS, 6)},
        "max(windows(x, (2,), axis=(1,))[:, ::2], axis=-1)",
    ),
    "contraction": (
        "np.einsum('rp,pu->ru', x, kernel)",
        {"x": (ROWS, 3), "kernel": (3, 2)},
        "einsum('rp,pu->ru', x, kernel)",
    ),
    "other axes": ("x.transpose(0, 2, 3, 1)", {"x": (ROWS, 2, 3, 4)}, "transpose(x, (0, 2, 3, 1))"),
    "written into": (
        "np.pad(x, ((0, 0), (1, 1))).cumsum(axis=1)",
        {"x": (ROWS, 2)},
        "cumsum(pad(x, ((0, 0), (1, 1))), axis=-1)",
    ),
    "all of it": ("x.sum() / x.size", {"x": (ROWS, 2)}, "sum(x) / (2 * rows)"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_reads_as_in_a_textbook(name):
    source, shapes, expected = LAYERS[name]
    kinds = {"ids": "i"} if "ids" in shapes else {}
    traced = trace(written(source, ", ".join(shapes)), shapes, kinds=kinds)
    assert Shown({"a": traced.output}).text == f"a = {expected}"
    assert Shown({"a": traced.output}).latex.startswith("a &= ")


RECURRENCES = {
    "state": lambda x, w: loop(lambda h, e: (np.tanh(h @ w + e), h), x[:, 0], x, axis=0)[0],
    "output": lambda x, w: loop(lambda h, e: ((t := np.tanh(h @ w + e)), t * 2), x[:, 0], x, axis=0)[1] + w[0],
    "both": lambda x, w: sum(parts[-1] for parts in loop(lambda h, e: (h * e, h @ w), x[:, 0], x, axis=0)),
    "two states": lambda x, w: loop(lambda s, e: ((s[1] - e, s[0] @ w), e), (x[:, 0], x[:, 1]), x, axis=0)[0][1],
    "inner": lambda x, w: loop(
        lambda h, e: (loop(lambda g, f: (g * f - w[0], g), h, x, axis=0)[0], e - h), x[:, 0], x, axis=0
    )[1],
}


@pytest.mark.parametrize("name", RECURRENCES)
def test_the_text_of_a_recurrence_computes_it(name):
    formula, shapes = RECURRENCES[name], {"x": (3, 3, 3), "w": (3, 3)}
    traced = trace(formula, shapes)
    _, _, line = Shown({"y": traced.output}).text.partition(" = ")
    expression, _, legend = line.partition("  where ")

    def step_of_several(step):
        def call(*given):
            *state, entry = given
            *new, output = step(*state, entry)
            return tuple(new), output

        return lambda state, entry: call(*state, entry)

    def run(step, *given):
        (*first, sequence) = given
        last, outputs = loop(step_of_several(step), tuple(first), sequence, axis=0)
        return (*last, outputs)

    meanings = {}
    for meaning in re.split(r", (?=\w+(?:\([\w, ]+\))? = )", legend):
        head, _, body = meaning.partition(" = ")
        name, _, names = head.rstrip(")").partition("(")
        meanings[name] = names.split(", ") if names else [], body

    class Scope(dict):
        def __missing__(self, name):
            names, body = meanings[name]

            def call(*given):
                return eval(body, {}, Scope(self, **dict(zip(names, given, strict=True))))

            return call if names else call()

    arrays = {name: np.sin(np.arange(np.prod(shape)) + 1).reshape(shape) for name, shape in shapes.items()}
    found = eval(expression, {}, Scope(arrays, tanh=np.tanh, loop=run))
    np.testing.assert_allclose(found, formula(**arrays), rtol=1e-12)


@pytest.mark.parametrize("name", RECURRENCES)
def test_a_recurrence_reads_the_same_after_its_gradient_is_known(name):
    traced = trace(RECURRENCES[name], {"x": (3, 3, 3), "w": (3, 3)})
    before = Shown({"y": traced.output}).text
    gradients([(traced.output, 1.0)], [*traced.inputs.values()])
    assert Shown({"y": traced.output}).text == before


def test_an_output_with_a_plain_label_stands_in_later_lines():
    traced = trace(
        lambda x, weights: ((h := x @ weights), np.tanh(h), np.tanh(h) * 2),
        {"x": (ROWS, 3), "weights": (3, 4)},
    )
    assert Shown(dict(zip(["h", "a", "loss"], traced.outputs, strict=True))).text.splitlines() == [
        "h = x @ weights",
        "a = tanh(h)",
        "loss = a * 2",
    ]


def test_what_an_output_is_made_of_does_not_count_where_its_name_stands():
    traced = trace(lambda h: (np.tanh(np.exp(-h) + 1), np.tanh(np.exp(-h) + 1) * (np.exp(-h) + 1)), {"h": (ROWS,)})
    lines = Shown({"f(h)": traced.outputs[0], "g(h)": traced.outputs[1]}).text.splitlines()
    assert lines[1] == "g(h) = a * (exp(-h) + 1)  where a = f(h)"


def test_letters_do_not_collide_with_inputs():
    traced = trace(
        lambda a, u: (np.tanh(a) * u, np.tanh(a) * u + np.exp(-a * u) ** 3 / np.exp(-a * u)),
        {"a": (ROWS,), "u": (ROWS,)},
    )
    lines = Shown({"f(a, u)": traced.outputs[0], "g(a, u)": traced.outputs[1]}).text.splitlines()
    assert lines[1] == "g(a, u) = y + v ** 3 / v  where y = f(a, u), v = exp(-a * u)"


def test_a_graph_of_many_steps_has_a_text_of_as_many_terms():
    def formula(h):
        for _ in range(2000):
            h = np.tanh(h) * h + 1
        return h

    found = Shown({"a": trace(formula, {"h": (ROWS,)}).output}).text
    assert len(found) < 2000 * 60
    assert "u1 = " in found


# names are never code


@pytest.mark.parametrize("name", ["learning_rate", r"\input{/etc/passwd}", "x}$$<script>", "a%b#c&d^e~f", "x\x1b[31m"])
def test_a_name_is_not_a_command_in_latex(name):
    graph = Graph()
    found = Shown({name: graph.add("tanh", graph.input(name, (3,)))}).latex
    assert found.count("{") == found.count("}")
    plain = found.replace(r"\mathrm", "").replace(r"\tanh\left", "").replace(r"\right", "").replace(r"\_", "")
    assert not set(plain.replace("&= ", "")) & set("\\$#%&^~<>\x1b")


def test_a_name_is_not_a_format():
    graph = Graph()
    assert Shown({"a": graph.add("tanh", graph.input("{0.graph}{name}", (3,)))}).text == "a = tanh({0.graph}{name})"


def test_every_operation_has_text_and_latex_whose_fields_are_known():
    for name, row in OPERATIONS.items():
        assert row.text, name
        assert row.latex, name


WORDS = {**vars(np), "max": np.maximum, "min": np.minimum, "erf": erf, "erfc": erfc}
OF_INTEGERS = {"invert", "bitwise_and", "bitwise_or"}
ELEMENTWISE = {name: len(row.rules) for name, row in OPERATIONS.items() if row.elementwise and row.lowered is None}
POINTS = np.array([-2.7, -0.8, -0.3, 0.4, 0.7, 1.6, 2.3])
"""Arguments where no function has a kink; those of two arguments differ."""
STEP = 1e-6


@pytest.mark.parametrize("name", sorted(ELEMENTWISE.keys() - OF_INTEGERS))
def test_the_text_of_a_derivative_is_the_difference_of_the_function(name):
    letters = {1: "x", 2: "ab", 3: "cab"}[ELEMENTWISE[name]]
    graph = Graph()
    inputs = {letter: graph.input(letter, (3,), "b" if letter == "c" else "f") for letter in letters}
    y = graph.add(name, *inputs.values())
    grid = dict(zip(letters, np.meshgrid(*[POINTS * (1 - 0.037 * n) for n in range(len(letters))]), strict=True))
    if "c" in grid:
        grid["c"] = grid["c"] > 0

    def value(**changed):
        return np.asarray(WORDS[name](*(grid | changed).values()), float)

    with np.errstate(all="ignore"):
        for letter in set(letters) - {"c"}:
            difference = (value(**{letter: grid[letter] + STEP}) - value(**{letter: grid[letter] - STEP})) / (2 * STEP)
            slope = Shown({"y": y, "": textbook_derivative(y, inputs[letter])}).text.split(" = ", 2)[2]
            written = np.broadcast_to(eval(slope, WORDS | grid | {"y": value()}), difference.shape)
            defined = np.isfinite(difference)
            assert defined.sum() >= 2
            np.testing.assert_allclose(written[defined], difference[defined], rtol=1e-5, atol=1e-7)
