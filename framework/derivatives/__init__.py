"""Derivatives, checked: a written derivative is compared with the derived one and with differences of the formula."""

from framework.derivatives.checks import (
    POINTS,
    ROWS,
    Subject,
    check_derivative,
    check_elementwise,
    require_like,
)
from framework.derivatives.differences import (
    derivative_bounds,
    numerical_gradient,
    resolved_bounds,
    slope_along,
)

__all__ = [
    "POINTS",
    "ROWS",
    "Subject",
    "check_derivative",
    "check_elementwise",
    "derivative_bounds",
    "numerical_gradient",
    "require_like",
    "resolved_bounds",
    "slope_along",
]
