import os
import platform
import subprocess
import sys
from importlib import import_module

import pytest


def in_a_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", f"from framework.parallel.arithmetic import arithmetic, one_thread\n{code}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.share(1 / 3)
def test_another_number_of_threads_is_another_arithmetic():
    one, two = (in_a_process("print(arithmetic())", OPENBLAS_NUM_THREADS=count) for count in "12")
    assert "OpenBLAS" not in one or one != two


@pytest.mark.share(1 / 3)
def test_other_kernels_are_another_arithmetic():
    code = "print(arithmetic())"
    found = in_a_process(code, OPENBLAS_CORETYPE="Haswell")
    assert "OpenBLAS" not in found or "OpenBLAS Haswell" in found or "x86" not in platform.machine()
    module = import_module("numpy._core._multiarray_umath")
    features = [name for name in module.__cpu_dispatch__ if module.__cpu_features__[name]]
    assert not features or features[-1] not in in_a_process(code, NPY_DISABLE_CPU_FEATURES=features[-1])


@pytest.mark.share(1 / 3)
def test_one_thread_is_for_the_block_alone():
    code = "before = arithmetic()\nwith one_thread():\n    print(arithmetic())\nassert arithmetic() == before"
    inside = in_a_process(code, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    assert inside == in_a_process("print(arithmetic())", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
