"""Cycles of each nest of a workload's kernel, medians over epochs: ``python -m benchmarks.nests small [--text]``."""

import argparse
import re

import numpy as np

import framework as fw
from benchmarks.contenders.framework import build
from benchmarks.workloads import WORKLOADS, Workload
from framework.backends.native import compile_kernel
from framework.backends.step import Slot
from framework.training.engines.native.program import StepKernel

STEPS, EPOCHS = 200, 9
CALL = re.compile(r"^( +)(?:\w+ = )?(nest_\w+|gather\w*|update\d+)\(.*\)$", re.MULTILINE)


def put_clocks(kernel: StepKernel) -> list[str]:
    """Compile a kernel with clocks, which add to numbers behind its settings; return the names of what is called."""
    start, first = kernel.text.index("\ndef train("), len(kernel.settings)
    names = list(dict.fromkeys(call[2] for call in CALL.finditer(kernel.text, start)))

    def timed(call: re.Match[str]) -> str:
        adds = f"settings[{first + names.index(call[2])}] += float(clock() - begun)"
        return f"{call[1]}begun = clock()\n{call[0]}\n{call[1]}{adds}"

    kernel.settings = np.append(kernel.settings, np.zeros(len(names)))
    kernel.function = compile_kernel(kernel.text[:start] + CALL.sub(timed, kernel.text[start:]), "train", kernel.dtype)
    return names


def measure(work: Workload) -> tuple[str, dict[str, float]]:
    """Return the text of the kernel of a workload, and the cycles of a step by what is called."""
    steps, model = min(STEPS, work.rows // work.batch), build(work)
    data = tuple(array[: steps * work.batch] for array in work.data())
    loss = fw.BinaryCrossEntropy() if work.sizes[-1] == 1 else fw.CrossEntropy()
    optimizer = fw.SGDOptimizer(learning_rate=work.rate, momentum=work.momentum)
    trainer = fw.Trainer(loss=loss, optimizer=optimizer, batch_size=work.batch, engine="compiled")
    run, memory = trainer.fit(model, data), Slot.of(model).workspace
    kernel = next(function for function in memory if isinstance(function, StepKernel))
    names, cycles = put_clocks(kernel), list[np.ndarray]()
    del memory[kernel]  # it knows where the settings were
    for _ in range(EPOCHS):
        kernel.settings[-len(names) :] = 0.0
        trainer.resume(run, data, epochs=1)
        cycles.append(kernel.settings[-len(names) :] / steps)
    return kernel.text, dict(zip(names, np.median(cycles, axis=0).tolist(), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nests", description=__doc__)
    parser.add_argument("model", choices=[name for name, work in WORKLOADS.items() if work.has_epochs])
    parser.add_argument("--text", action="store_true", help="print the kernel first")
    options = parser.parse_args()
    text, cycles = measure(WORKLOADS[options.model])
    print(text if options.text else "cycles a step, with some 50 for the clock")
    for name, count in sorted(cycles.items(), key=lambda pair: -pair[1]):
        print(f"{count:12,.0f}  {name}")
