"""The cycles of each nest, which ``python -m benchmarks.nests`` prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llvmlite")

COUNT = """
from benchmarks import nests
text, cycles = nests.measure(nests.WORKLOADS["{}"].quick())
assert all(count > 0 for count in cycles.values())
print(text, *cycles, sep="\\n")
"""


@pytest.mark.parametrize("workload", ["small", "online"])
def test_each_nest_that_a_step_calls_has_its_cycles(workload):
    # In a process of its own: a kernel with clocks must not stay in this one.
    options = {"cwd": Path(__file__).parents[3], "check": True, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", COUNT.format(workload)], **options)  # noqa: PLW1510 (checked)
    _, _, train = done.stdout.partition("\ndef train(")
    step, _, names = train.rpartition("return stop\n")
    called = set(re.findall(r"\b((?:nest|gather|update)\w*)\(", step))
    assert set(names.split()) == called
    assert len(called) > 2
    assert "clock()" not in step
