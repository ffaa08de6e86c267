"""Derivatives, checked: a written derivative is compared with the formula before it is put to work.

Finite differences are taken on both sides of every point, so that a kink is told from a mistake: at a kink any value
between the two sides is right. Only points at which the formula is finite are judged. The tolerance follows the scale
of the formula and the error that the differences themselves estimate.
"""

from framework.derivatives.elementwise import (
    POINTS,
    check_derivative,
    check_elementwise,
    derivative_bounds,
    named_factors,
    require_elementwise,
    require_like,
    require_record,
)
from framework.derivatives.rows import ROWS, check_direction, check_rows, numerical_gradient

__all__ = [
    "POINTS",
    "ROWS",
    "check_derivative",
    "check_direction",
    "check_elementwise",
    "check_rows",
    "derivative_bounds",
    "named_factors",
    "numerical_gradient",
    "require_elementwise",
    "require_like",
    "require_record",
]
