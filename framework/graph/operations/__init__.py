"""The table of operations: a row for each one that a formula may use."""

from framework.graph.operations.base import Operation, completed, unbroadcast
from framework.graph.operations.elementwise import COMPARISONS, ELEMENTWISE, GROWING, KINKS
from framework.graph.operations.products import PRODUCTS
from framework.graph.operations.reductions import REDUCTIONS
from framework.graph.operations.shaping import SHAPING, apart, index_shape

OPERATIONS = completed({**ELEMENTWISE, **REDUCTIONS, **PRODUCTS, **SHAPING})

__all__ = ["COMPARISONS", "GROWING", "KINKS", "OPERATIONS", "Operation", "apart", "index_shape", "unbroadcast"]
