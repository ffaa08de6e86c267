"""Show: a formula and its derivative as text, and as LaTeX in a notebook."""

from __future__ import annotations

from typing import Any

from framework.emit.text import Shown
from framework.graph.tangent import derivative
from framework.settings.messages import require_formula


def show(formula: Any) -> Shown:
    """Return a formula and its derivative as text, drawn as LaTeX in a notebook.

    Args:
        formula: An activation, a loss, or a layer whose number of inputs is known.

    Raises:
        DerivativeError: The formula cannot be traced.
        SettingsError: The argument is none of these.

    Example:
        >>> from framework import Sigmoid
        >>> show(Sigmoid())
        f(h) = 1 / (1 + exp(min(-h, 709.783)))
        f'(h) = a * (1 - a)  where a = f(h)
    """
    require_formula("show", formula, "shown", "an activation, a loss or a layer")
    return Shown(formula.shown())


def labelled(program: Any, name: str) -> dict[str, Any]:
    """Return the value and, of an elementwise formula, the derivative of a program by label."""
    arguments = f"({', '.join(program.inputs)})"
    found = {f"{name}{arguments}": program.output}
    if program.elementwise:
        found[f"{name}'{arguments}"] = derivative(program.output, program.first, textbook=True)
    return found
