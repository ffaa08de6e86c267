"""What a step costs in Python: the functions that it calls, and the files on the way to it."""

import subprocess
import sys
from pathlib import Path

COUNT = """
from benchmarks import calls
calls.Calls(calls.STEPS)
step, files = calls.warm()
print(sum(step.values()), len(files), calls.CALLS, calls.FILES)
"""


def test_a_warm_step_calls_few_functions_after_few_files():
    # In a process of its own, which holds nothing of other tests.
    options = {"cwd": Path(__file__).parents[2], "check": True, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", COUNT], **options)  # noqa: PLW1510 (checked)
    step, files, most_calls, most_files = map(float, done.stdout.split())
    assert 10 < step <= most_calls
    assert 10 < files <= most_files
