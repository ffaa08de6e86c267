"""Formulas: a formula is called once on symbols, and its record gives value, derivative, text and LaTeX."""

from framework.formulas.program import Program, forget_programs, program_of, trace
from framework.formulas.show import Shown, latex_of, show, show_program
from framework.formulas.symbols import Symbol

__all__ = ["Program", "Shown", "Symbol", "forget_programs", "latex_of", "program_of", "show", "show_program", "trace"]
