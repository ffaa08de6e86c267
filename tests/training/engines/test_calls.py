"""What training costs in Python: the functions that a step and an epoch call, and the files on the way to them."""

import subprocess
import sys
from pathlib import Path

COUNT = """
from benchmarks import calls
calls.Calls(calls.STEPS)
step, files = calls.warm()
print(sum(step.values()), calls.of_epoch(), len(files), calls.CALLS, calls.EPOCH, calls.FILES)
"""


def test_a_warm_step_and_an_epoch_call_few_functions_after_few_files():
    # In a process of its own, which holds nothing of other tests.
    options = {"cwd": Path(__file__).parents[3], "check": True, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", COUNT], **options)  # noqa: PLW1510 (checked)
    step, epoch, files, most_of_step, most_of_epoch, most_files = map(float, done.stdout.split())
    assert 10 < step <= most_of_step
    assert step < epoch <= most_of_epoch
    assert 10 < files <= most_files
