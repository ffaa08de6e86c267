"""ONNX Runtime, on the file that ``export_onnx`` writes."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from benchmarks.contenders import Task
from benchmarks.contenders.framework import build
from benchmarks.workloads import Workload
from framework import export_onnx


def inference(work: Workload) -> Task:
    """A session with as many threads as the others."""
    x = work.data()[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(build(work), path)
        session = onnxruntime.InferenceSession(path, options)
    feed = {session.get_inputs()[0].name: x}
    outputs = [session.get_outputs()[0].name]

    def run() -> None:
        for _ in range(round(work.steps)):
            session.run(outputs, feed)

    return Task(
        lambda: None, run, None, "checks of input", lambda: float(np.square(session.run(outputs, feed)[0]).sum())
    )
