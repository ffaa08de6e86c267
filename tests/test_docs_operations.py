"""docs/operations.md is written from the table of operations; it is compared with the table."""

import re
import runpy
from pathlib import Path

from framework.graph.functions import FUNCTIONS
from framework.graph.operations import OPERATIONS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
WRITER = runpy.run_path(str(DOCS / "operations.py"))

LEFT_OUT = {"cumulative_sum", "cumulative_prod"}  # which NumPy 2.0 does not have
LEFT_OUT |= {"logaddexp.reduce"}  # named on the page as a method of a ufunc
LEFT_OUT |= {"getitem", "setitem", "copyto"} | {"shape", "ndim", "size", "iscomplexobj", "result_type"}
"""Operators and statements, which the page shows as such, and functions that return a property."""


def test_the_page_of_operations_is_what_the_table_says():
    assert WRITER["page"]() == PAGE, "run: python docs/operations.py"


def test_every_function_that_a_formula_may_call_is_on_the_page():
    called = set(re.findall(r"[.](\w+)\(", WRITER["CALLS"]))
    elementwise = {name for name, row in OPERATIONS.items() if row.elementwise}
    assert {*FUNCTIONS} - called - elementwise.union(WRITER["COMPOSED"]) == LEFT_OUT
