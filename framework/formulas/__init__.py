"""Formulas: a formula is called once on symbols, and its record gives value, derivative, text and LaTeX."""

from framework.formulas.program import Program, trace
from framework.formulas.show import Shown, show_program
from framework.formulas.symbols import Symbol

__all__ = ["Program", "Shown", "Symbol", "show_program", "trace"]
