"""Show: a formula and its derivative as text and LaTeX."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

import numpy as np

from framework.errors import FrameworkError
from framework.formulas.program import Program
from framework.formulas.rules import OPERATIONS
from framework.formulas.symbols import Symbol


class Shown:
    """A formula and its derivative, as text, and as LaTeX in a notebook.

    Attributes:
        text: Lines ``f(h) = ...`` and ``f'(h) = ...``.
        latex: The same in LaTeX.
    """

    def __init__(self, text: str, latex: str) -> None:
        """Hold both forms."""
        self.text, self.latex = text, latex

    def __repr__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_latex_(self) -> str:
        """Return what Jupyter draws."""
        return f"$$\\begin{{aligned}}{self.latex}\\end{{aligned}}$$"


def show_program(program: Program, name: str) -> Shown:
    """Return both forms of a program: value, then derivative by the first input."""
    first = program.inputs[0].name
    arguments = ", ".join(symbol.name for symbol in program.inputs)
    slope = None if program.rows else program.slope
    texts, latexes = [], []
    for label, latex_label, result in [
        (f"{name}({arguments})", f"{name}({arguments})", program.output),
        (f"{name}'({arguments})", rf"\frac{{\partial {name}}}{{\partial {first}}}", slope),
    ]:
        if result is None:
            continue
        text, latex = _Writer("text"), _Writer("latex")
        texts.append(f"{label} = {text.write(result)}{text.legend()}")
        latexes.append(rf"{latex_label} &= {latex.write(result)}{latex.legend()}")
    return Shown("\n".join(texts), r" \\ ".join(latexes))


class Recorded(Protocol):
    """A formula that gives its record: an activation or a loss."""

    def program(self) -> Program:
        """Return the record."""


def show(formula: Recorded) -> Shown:
    """Return a formula and its derivative as text, drawn as LaTeX in a notebook.

    Args:
        formula: An activation or a loss.

    Raises:
        DerivativeError: The formula cannot be recorded.

    Example:
        >>> from framework import Tanh
        >>> show(Tanh())
        f(h) = tanh(h)
        f'(h) = 1 - tanh(h) * tanh(h)
    """
    program = formula.program()
    return show_program(program, "f" if len(program.inputs) == 1 else "value")


def latex_of(formula: Recorded) -> str | None:
    """Return the LaTeX of a formula for Jupyter, or None where it cannot be recorded."""
    try:
        return show(formula)._repr_latex_()
    except FrameworkError:
        return None


class _Writer:
    """Writes a symbol as an expression; what is long and comes twice gets a letter."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.names: dict[Symbol, str] = {}
        self.definitions: list[str] = []
        self._letters = iter("uvwzpqrst")

    def write(self, result: Any) -> str:
        """Return the expression."""
        if not isinstance(result, Symbol):
            return self._number(result)
        uses = Counter[Symbol]()
        self._count(result, uses)
        for node in result.tape.nodes:
            if uses[node] > 1 and node is not result and self._size(node) > 3:
                letter = next(self._letters, None)
                if letter is None:
                    break
                self.definitions.append(f"{letter} = {self._expression(node)[0]}")
                self.names[node] = letter
        return self._expression(result)[0]

    def legend(self) -> str:
        """Return what the letters stand for."""
        if not self.definitions:
            return ""
        separator = r",\; " if self.form == "latex" else ", "
        where = r" \quad\text{where } " if self.form == "latex" else "  where "
        return where + separator.join(self.definitions)

    def _count(self, node: Symbol, uses: Counter[Symbol]) -> None:
        uses[node] += 1
        if uses[node] == 1:
            for arg in node.args:
                if isinstance(arg, Symbol):
                    self._count(arg, uses)

    def _size(self, node: Symbol) -> int:
        return 1 + sum(self._size(arg) if isinstance(arg, Symbol) else 1 for arg in node.args)

    def _number(self, value: Any) -> str:
        if isinstance(value, bool | np.bool_):
            return str(bool(value))
        return f"{value:.6g}"

    def _expression(self, node: Any) -> tuple[str, int]:
        if not isinstance(node, Symbol):
            return self._number(node), 5 if node >= 0 else 3
        if node in self.names:
            return self.names[node], 5
        if node.op == "input":
            return node.name, 5
        operation = OPERATIONS[node.op]
        template = operation.text if self.form == "text" else operation.latex
        wraps = self.form == "latex" and node.op in ("divide", "exp", "sqrt", "reciprocal")
        written = []
        for place, arg in enumerate(node.args):
            text, binding = self._expression(arg)
            bound = operation.binding + (place == 1 and node.op in ("subtract", "divide", "mod", "power"))
            bound += node.op == "power" and place == 0
            if self.form == "latex" and place > 0 and text.startswith("-") and not wraps and operation.binding < 5:
                bound = max(bound, binding + 1)  # a sign after an operator
            if operation.binding < 5 and binding < bound and not wraps:
                text = rf"\left({text}\right)" if self.form == "latex" else f"({text})"
            written.append(text)
        return template.format(*written), operation.binding
