"""What a step costs in Python: the functions that it calls, and the files on the way to it."""

import runpy
from pathlib import Path
from types import SimpleNamespace

calls = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "calls.py")))


def test_a_warm_step_calls_few_functions_after_few_files():
    calls.Calls(calls.STEPS)
    step, files = calls.warm()
    assert 10 < sum(step.values()) <= calls.CALLS
    assert 10 < len(files) <= calls.FILES
