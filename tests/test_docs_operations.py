"""docs/operations.md is written from the table of operations; it is compared with the table, and with NumPy."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.special

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
    assert {*FUNCTIONS} - called - elementwise == LEFT_OUT


OF_INTEGERS = {"invert", "bitwise_and", "bitwise_or"}


def written_derivatives():
    """Each elementwise function on the page, with its arguments and the text of its derivative by each of them."""
    table, constant = PAGE.partition("## Over several")[0].split("is 0 wherever it exists")
    for line in table.splitlines():
        if match := re.match(r"[|] (`(?:np|framework)[.]\w+[(](.*?)[)]`.*?) [|] (.*) [|]$", line):
            functions, letters, derivatives = match.groups()
            slopes = re.findall(r"(?:(\w): )?`([^`]+)`", derivatives.replace(r"\|", "|"))
            for function in re.findall(r"`\w+[.](\w+)", functions):
                yield function, letters.split(", "), {letter or "x": slope for letter, slope in slopes}
    for function in re.findall(r"`np[.](\w+)`", constant):
        if function not in OF_INTEGERS:
            letters = ["a", "b"][: getattr(np, function).nin]
            yield function, letters, dict.fromkeys(letters, "0")


WORDS = {**vars(np), "max": np.maximum, "min": np.minimum, "erf": scipy.special.erf, "erfc": scipy.special.erfc}
POINTS = np.array([-2.7, -0.8, -0.3, 0.4, 0.7, 1.6, 2.3])
"""Arguments where no function has a kink; those of two arguments differ."""
STEP = 1e-6


@pytest.mark.parametrize(
    ("function", "letters", "slopes"), [pytest.param(*row, id=row[0]) for row in written_derivatives()]
)
def test_derivatives_on_the_page_are_the_differences_of_the_functions(function, letters, slopes):
    grid = dict(zip(letters, np.meshgrid(*[POINTS * (1 - 0.037 * n) for n in range(len(letters))]), strict=True))
    if "c" in grid:
        grid["c"] = grid["c"] > 0

    def value(**changed):
        return np.asarray(WORDS[function](*(grid | changed).values()), float)

    with np.errstate(all="ignore"):
        assert slopes.keys() == set(letters) - {"c"}
        for letter, slope in slopes.items():
            difference = (value(**{letter: grid[letter] + STEP}) - value(**{letter: grid[letter] - STEP})) / (2 * STEP)
            defined = np.isfinite(difference)
            assert defined.sum() >= 2
            written = np.broadcast_to(eval(slope, WORDS | grid | {"y": value()}), difference.shape)
            np.testing.assert_allclose(written[defined], difference[defined], rtol=1e-5, atol=1e-7)
