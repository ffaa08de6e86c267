"""Text: a graph as text and LaTeX for readers, as a textbook writes it.

The row of an operation in the table has its template. Operations that only arrange shapes are left out, and long
subexpressions that repeat get a letter.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain, count
from typing import Any

from framework.backends.writer import entry_text, gather_text
from framework.base.settings.messages import require_formula
from framework.graph.node import Node, order_nodes
from framework.graph.operations import OPERATIONS

_LETTERS = "uvwzpqrst"
_GREEK = frozenset(
    ["alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "sigma", "tau"]
)
_RIGHT = frozenset({"subtract", "multiply", "divide", "mod", "floor_divide", "matmul"})
"""Operations that group from the left, so that an argument on the right that binds as tightly needs brackets."""

CLASSES = 1009
"""The prime that stands for the length of a row, which is written as k: a number is often divided by it."""

_EXACT = {
    math.log(2.0): ("log(2)", r"\ln 2", 5),
    math.pi: ("pi", r"\pi", 5),
    2.0 * math.sqrt(2.0 / math.pi): ("2 * sqrt(2 / pi)", r"2 \sqrt{\frac{2}{\pi}}", 2),
    1.0 / math.sqrt(math.pi): ("1 / sqrt(pi)", r"\frac{1}{\sqrt{\pi}}", 2),
    1.0 / math.sqrt(2.0 * math.pi): ("1 / sqrt(2 * pi)", r"\frac{1}{\sqrt{2 \pi}}", 2),
}
"""Numbers that readers know by a name: text, LaTeX, and how tightly it binds."""

_TRANSPOSE = ("transpose({0}, {axes})", r"\operatorname{{transpose}}_{{{axes}}}\left({0}\right)")
"""The text and LaTeX of a transpose that does more than exchange the last two axes."""

_SOFTMAX = "exp({0}) / sum(exp({0}){along}, keepdims=True)", r"\frac{{e^{{{0}}}}}{{\sum{along} e^{{{0}}}}}"
"""The text and LaTeX of a softmax that is shown by itself."""


class Shown:
    """Formulas as text, and as LaTeX in a notebook.

    An output that a later one reads is written by its label, or by a letter where the label is not a plain name.

    Attributes:
        text: A line ``label = expression`` for each output.
        latex: The same in LaTeX: lines for an ``aligned`` environment.

    Example:
        >>> import numpy as np
        >>> from framework.graph.trace import ROWS, trace
        >>> from framework.graph.gradient import derivative
        >>> formula = trace(lambda x: np.tanh(x), {"x": (ROWS, 3)})
        >>> Shown({"f(x)": formula.output, "f'(x)": derivative(formula.output, formula.inputs["x"])})
        f(x) = tanh(x)
        f'(x) = 1 - a ** 2  where a = f(x)
    """

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        """Write nodes and plain numbers by label, such as ``f(h)``."""
        self.text = "\n".join(
            f"{label} = {expression}{'  where ' + ', '.join(f'{a} = {b}' for a, b in legend) if legend else ''}"
            for label, expression, legend in _Writer("text", outputs).lines()
        )
        self.latex = r" \\ ".join(
            rf"{label} &= {expression}"
            + (r" \quad\text{where } " + r",\; ".join(f"{a} = {b}" for a, b in legend) if legend else "")
            for label, expression, legend in _Writer("latex", outputs).lines()
        )

    def __repr__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_latex_(self) -> str:
        """Return the LaTeX that Jupyter draws."""
        return f"$$\\begin{{aligned}}{self.latex}\\end{{aligned}}$$"


def show(formula: Any) -> Shown:
    """Return a formula and its derivative as text, drawn as LaTeX in a notebook.

    Args:
        formula: An activation, a loss, or a layer whose number of inputs is known.

    Raises:
        DerivativeError: The formula cannot be traced.
        SettingsError: The argument is something else.

    Example:
        >>> from framework import Sigmoid
        >>> show(Sigmoid())
        f(h) = 1 / (1 + exp(-h))
        f'(h) = a * (1 - a)  where a = f(h)
    """
    require_formula("show", formula, "label_formulas", "an activation, a loss or a layer")
    return Shown(formula.label_formulas())


class _Writer:
    """Writes outputs as expressions, from the inputs on."""

    def __init__(self, form: str, outputs: Mapping[str, Any]) -> None:
        self.latex = form == "latex"
        self.outputs = outputs
        nodes = order_nodes(outputs.values())
        inputs = [node for node in nodes if node.op == "input"]
        self.taken = {*(node.name for node in inputs), *outputs}
        self.row = next((node.name for node in inputs if node.shape[-1:] == (CLASSES,)), "")

    def lines(self) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
        """Return label, expression and legend of each output."""
        labels: dict[Node, str] = {}
        for label, output in self.outputs.items():
            output = plain(output)  # noqa: PLW2901
            names = {node: known for node, known in labels.items() if node is not output}
            yield self._name(label), *self._line(output, names)
            if isinstance(output, Node) and output.args:
                labels.setdefault(output, label)

    def _line(self, output: Any, labels: dict[Node, str]) -> tuple[str, list[tuple[str, str]]]:
        """Return the expression of an output, and the names in it with their meaning."""
        if not isinstance(output, Node):
            return self._number(output)[0], []
        self.counts = False  # whether a number has been written in terms of k
        steps = [node for node in _with_bodies(order_nodes([output], labels)) if plain(node) is node]
        uses = Counter(arg for node in steps if node not in labels for arg in map(plain, _arguments_of(node)))
        step_inputs = {
            input_node for node in steps if node.op == "loop" for input_node in node.attributes["body"].given
        }
        free = (f"{letter}{turn or ''}" for turn in count() for letter in _LETTERS)
        letters = (name for name in free if name not in self.taken)
        outer = chain((letter for letter in "ay" if letter not in self.taken), letters)
        written: dict[Any, tuple[str, int]] = {}
        sizes: dict[Any, int] = {}
        legend = []
        for node in steps:
            if node in labels:
                name, known = labels[node], self._name(labels[node])
                if not name.isidentifier():
                    name = next(outer)
                    legend.append((name, known))
                written[node], sizes[node] = (self._name(name), 5), 1
                continue
            if node in step_inputs:
                written[node], sizes[node] = (next(letters), 5), 1
                continue
            args = [plain(arg) for arg in _arguments_of(node)]
            sizes[node] = 1 + sum(sizes.get(arg, 1) for arg in args)
            parts = [written[a] if isinstance(a, Node) else self._number(a) for a in args]
            if node.op == "loop":
                body, name = node.attributes["body"], next(letters)
                parts, results = parts[: len(body.given)], [made for made, _ in parts[len(body.given) :]]
                names = [written[input_node][0] for input_node in (*body.states, *body.entries)]
                legend.append((f"{name}({', '.join(names)})", f"({', '.join(results)})"))
                parts = [(name, 5), *parts, *([("reverse", 5)] if node.attributes["reverse"] else [])]
                args = [name, *args]
            made = self._write_operation(node, args[: len(parts)], parts)
            if uses[node] > 1 and sizes[node] > 3:
                name = self._name(next(letters))
                legend.append((name, made[0]))
                made, sizes[node] = (name, 5), 1
            written[node] = made
        if self.counts:
            legend.append(("k", r"\text{the length of a row}" if self.latex else f"{self.row}.shape[-1]"))
        return written[output][0], legend

    def _write_operation(self, node: Node, args: list[Any], parts: list[tuple[str, int]]) -> tuple[str, int]:
        """Return the text of an operation and how tightly it binds, given those of its arguments."""
        op = "square" if node.op == "multiply" and args[0] is args[1] else node.op
        row = OPERATIONS[op]
        template, binding = row.latex if self.latex else row.text, row.binding
        if op == "transpose" and node.attributes["axes"][-2:] != (node.ndim - 1, node.ndim - 2):
            template, binding = _TRANSPOSE[self.latex], 5
        if op == "softmax" and node in self.outputs.values():
            template, binding = _SOFTMAX[self.latex], 2
        texts = []
        for index, (arg, (made, tightness)) in enumerate(zip(args, parts, strict=True)):
            inner = arg.op if isinstance(arg, Node) else ""
            bound = self._bound(op, template, index, inner, made)
            brackets = rf"\left({made}\right)" if self.latex else f"({made})"
            texts.append(brackets if tightness < bound else made)
            binding = 2 if op == "negative" and bound == tightness == 2 else binding
        if self.latex and binding == 5 and not template.startswith("\\left"):
            binding = 1 if template.endswith(" {0}") else 4 if "^" in template[:4] or "}_" in template else binding
        return template.format(*texts, **self._fields(node, texts)), binding

    def _bound(self, op: str, template: str, index: int, inner: str, made: str) -> int:
        """Return how tightly an argument, made by the operation ``inner``, must bind to go without brackets."""
        binding = OPERATIONS[op].binding
        if op == "negative" and inner in ("multiply", "divide"):
            return 2
        start = template.find(f"{{{index}}}")
        if start < 0 or (self.latex and template[start - 1 : start] == "{"):
            return 0  # enclosed, as in a fraction
        if start == 0 and binding > 3:
            return 5  # before a power or an index
        if binding == 5:
            return 2 if self.latex and start > 0 and template.endswith(" {0}") else 0
        if self.latex and index == 1 and made.startswith("-"):
            return 5  # a sign after an operator
        grouped = index == 1 and op in _RIGHT and (op != "multiply" or inner in _RIGHT - {"multiply", "divide"})
        grouped |= op == "matmul" and inner in _RIGHT - {"matmul"}
        return max(binding, 1) + grouped

    def _fields(self, node: Node, texts: list[str]) -> dict[str, str]:
        """Return the further names in a template."""
        texts_of = {key: str(value) for key, value in node.attributes.items()}
        fields = {key: "".join(c if c.isprintable() else "?" for c in text) for key, text in texts_of.items()}
        first = node.args[0].ndim if node.args and isinstance(node.args[0], Node) else 0
        axes = node.attributes.get("axes", ())
        back = [axis - first for axis in axes] if len(axes) < first else []
        options = {"axis": back[0] if len(back) == 1 else tuple(back), **node.attributes}
        names = [name for name in ("axis", "keepdims", "ddof") if options.get(name)]
        fields["along"] = "".join(f", {name}={options[name]}" for name in names)
        if self.latex:
            along = ", ".join(rf"\mathrm{{{name}}} = {options[name]}" for name in names if name != "keepdims")
            fields["along"] = along and f"_{{{along}}}"
        if "axis" in node.attributes:
            fields["axis"] = str(node.attributes["axis"] - first)
        if node.op == "gather":
            fields["index"] = gather_text(axes, texts[1:])
        elif isinstance(node.attributes.get("index"), tuple):
            fields["index"] = _index(node.attributes["index"], node.args[0].shape)
        if "times" in fields:
            fields["times"] = node.graph.size_text(node.attributes["times"] * node.graph.rows)
            fields["times"] = rf"\text{{{fields['times']}}}" if self.latex else fields["times"]
        if node.op == "constant":
            numbers = node.attributes["value"].value
            fields["value"] = str(numbers.tolist()) if numbers.size <= 10 else self._name("constant")
        if "name" in fields:
            fields["name"] = self._name(fields["name"])
        return {**fields, "arguments": ", ".join(texts)}

    def _name(self, name: str) -> str:
        """Return a name or a label; in LaTeX, nothing in it is a command."""
        if not self.latex:
            return name
        return "".join(map(_latex_word, re.findall(r"\w+|\W", name)))

    def _number(self, value: Any) -> tuple[str, int]:
        if isinstance(value, bool):
            return (rf"\text{{{value}}}" if self.latex else str(value)), 5
        if value < 0:
            made, binding = self._number(-value)
            return f"-{made}", min(binding, 3)
        if self.row and value and value % CLASSES == 0:  # how long the rows of the trace are
            self.counts = True
            return ("k", 5) if value == CLASSES else (f"{value / CLASSES:.6g} {'' if self.latex else '* '}k", 2)
        made = f"{value:.6g}"
        if value < 1000 and not math.isclose(float(made), value, rel_tol=1e-14):
            return self._long_number(value, made)
        if self.latex:
            mantissa, e, exponent = made.partition("e")
            mantissa = mantissa.replace("inf", r"\infty").replace("nan", r"\text{nan}")
            return (rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 2) if e else (mantissa, 5)
        return made, 5

    def _long_number(self, value: float, made: str) -> tuple[str, int]:
        """Return a number of many digits by its name or as a quotient, if it has one."""
        for number, (*names, binding) in _EXACT.items():
            if math.isclose(value, number, rel_tol=1e-14):
                return names[self.latex], binding
        square = round(value * value)
        if value > 1 and math.isclose(square, value * value, rel_tol=1e-14):
            return (rf"\sqrt{{{square}}}" if self.latex else f"sqrt({square})"), 5
        over = f"{value * CLASSES:.6g}"
        ratio = Fraction(value).limit_denominator(1000)
        if self.row and math.isclose(float(over), value * CLASSES, rel_tol=1e-12):
            top, bottom, self.counts = over, "k", True
        elif math.isclose(ratio, value, rel_tol=1e-14):
            top, bottom = str(ratio.numerator), str(ratio.denominator)
        else:
            return made, 5
        return (rf"\frac{{{top}}}{{{bottom}}}" if self.latex else f"{top} / {bottom}"), 2


def plain(value: Any) -> Any:
    """Return a value without operations that only arrange shapes or kinds, and without a factor of 1."""
    while isinstance(value, Node):
        divided = value.op in ("multiply", "divide") and _is_one(value.args[1])
        if divided or OPERATIONS[value.op].text == "{0}":
            value = value.args[0]
        elif value.op == "multiply" and _is_one(value.args[0]):
            value = value.args[1]
        else:
            break
    return value


def _with_bodies(nodes: Iterable[Node]) -> Iterator[Node]:
    """Return nodes in the order in which they are written: the inputs of a loop's step, its nodes, then the loop."""
    for node in nodes:
        if node.op == "loop":
            body = node.attributes["body"]
            entering = {*body.given, *body.captured}
            step = order_nodes(_arguments_of(node)[len(body.given) :], entering)
            yield from (
                *body.states,
                *body.entries,
                *_with_bodies(step_node for step_node in step if step_node not in entering),
            )
        yield node


def _arguments_of(node: Node) -> tuple[Any, ...]:
    """Return the arguments of an operation; of a loop its first states and sequences, then the results of its step.

    A loop that was derived also stacks what its gradient reads, which is left out.
    """
    if node.op != "loop":
        return node.args
    body = node.attributes["body"]
    return (
        *node.args[: len(body.given)],
        *body.outputs[: None if node.attributes["reverse"] else len(body.states) + 1],
    )


def _is_one(value: Any) -> bool:
    return not isinstance(value, Node) and value == 1


def _index(index: tuple[Any, ...], shape: tuple[int, ...]) -> str:
    """Return the text of an index; whole axes at the end are left out."""
    parts = [entry_text(entry, size) for entry, size in zip(index, shape, strict=True)]
    while parts[-1] == ":":
        parts.pop()
    return ", ".join(parts)


def _latex_word(word: str) -> str:
    if len(word) == 1:
        return word if word.isalnum() or word in "'(), " else "?"
    if word in _GREEK:
        return f"\\{word}"
    escaped = word.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}" if not word.isdigit() else word
