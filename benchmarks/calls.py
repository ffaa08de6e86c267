"""Count what training costs in Python: the calls of a step and of an epoch, and the files before the first update.

    python -m benchmarks.calls
    python -m benchmarks.calls --list       # name the functions of a step, and the files

The network is 20-16-2 with Sigmoid and Softmax, cross-entropy and plain SGD in batches of 32, by the NumPy engine
without callbacks. ``sys.setprofile`` sees every call of a Python function; those of the package count, and so do the
functions that it emits and those that a dataclass makes. A generator counts each time it goes on.

The calls of a step are those of an epoch of 60 batches less those of one of 40, divided by 20, so they are exact; those
of an epoch are counted alike, with one batch each, without those of its step; ``benchmarks.epochs`` has its time. The
first update is over as soon as a parameter has changed. The bar for files is that of a later fit of the process, which
traces the formulas again and finds their programs ready.
"""

import argparse
import gc
import sys
from collections import Counter
from types import FrameType
from typing import Any

import numpy as np

import framework as fw

BATCH, STEPS, MORE = 32, 40, 20
CALLS, EPOCH, FILES = 45, 75, 45
"""The bars."""


class Calls:
    """The calls of one ``fit``: by function, and by file up to the first update."""

    def __init__(self, batches: int, epochs: int = 1) -> None:
        rng = np.random.default_rng(0)
        data = rng.normal(size=(batches * BATCH, 20)), rng.integers(0, 2, batches * BATCH)
        model = fw.Sequential(fw.Dense(20, 16, fw.Sigmoid()), fw.Dense(16, 2, fw.Softmax()))
        trainer = fw.Trainer(
            loss=fw.CrossEntropy(),
            optimizer=fw.SGDOptimizer(learning_rate=0.1),
            batch_size=BATCH,
            epochs=epochs,
            progress=False,
        )
        self.functions, self.files = Counter[str](), Counter[str]()
        self._values = model.parameters.vector
        self._before = self._values.copy()
        self._updated = False
        gc.collect()  # finalizers of what was before would count
        sys.setprofile(self._note)
        try:
            trainer.fit(model, data)
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if not self._updated:
            self._updated = not np.array_equal(self._values, self._before)
        if event != "call":
            return
        code, module = frame.f_code, str(frame.f_globals.get("__name__", "emitted"))
        emitted = module == "emitted" and code.co_filename == "<string>"
        if not emitted and not f"{module}.".startswith("framework."):
            return
        self.functions[f"{module}: {code.co_qualname}"] += 1
        if not emitted and not self._updated:
            self.files[f"{module.replace('.', '/')}.py"] += 1


def warm() -> tuple[dict[str, float], Counter[str]]:
    """Return the calls of a warm step by function, and those of a later fit up to the first update by file."""
    short, long = Calls(STEPS), Calls(STEPS + MORE)
    return {name: (count - short.functions[name]) / MORE for name, count in sorted(long.functions.items())}, short.files


def of_epoch() -> float:
    """Return the calls of an epoch of one batch, with those of its step."""
    short, long = (Calls(1, epochs).functions.total() for epochs in (STEPS, STEPS + MORE))
    return (long - short) / MORE


def main() -> None:
    """Count, and print the counts with their bars."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the functions of a step, and the files")
    options = parser.parse_args()
    first, step, later = Calls(STEPS), *warm()
    print(f"a warm step: {sum(step.values()):g} calls; at most {CALLS}")
    print(f"an epoch of one step: {of_epoch():g} calls; at most {EPOCH}")
    print("from fit to the first update:")
    print(f"  first fit of a process: {len(first.files)} files, {first.files.total():,} calls")
    print(f"  a later fit: {len(later)} files, {later.total():,} calls; at most {FILES} files")
    if options.list:
        print("\nThe calls of a warm step:")
        for name in filter(step.__getitem__, step):
            print(f"{step[name]:6g}  {name}")
        print("\nThe calls until the first update, in a later fit and in the first one:")
        for name in sorted(first.files):
            print(f"{later[name]:6} {first.files[name]:6}  {name}")


if __name__ == "__main__":
    main()
