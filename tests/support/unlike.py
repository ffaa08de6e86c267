"""Trainings on workers that are not alike: python unlike.py FOLDER prints what each worker raises in each case.

python unlike.py FOLDER CASE runs one case.
"""

import json
import os
import sys
import threading
from pathlib import Path

import parallel_pieces as pieces

from framework import (
    AdamOptimizer,
    Callback,
    Checkpoint,
    Dense,
    ReLU,
    Sequential,
    Softmax,
    Stream,
    Tanh,
    on,
)
from framework.backends.native import kernels
from framework.training.engines.native.engine import CompiledEngine
from framework.training.parallel.mpi import workers

FOLDER = Path(sys.argv[1] if __name__ == "__main__" else "")
RANK = workers(20).rank
ODD = RANK == 1
"""Whether this is the worker that differs from worker 0."""
DATA = pieces.X, pieces.CLASSES


class Remembers(Callback):
    def on_epoch_end(self, run):
        run.memory(self)["best"] = run.epoch


def another_model():
    model = Sequential(Dense(12, 4, Tanh() if ODD else ReLU()), Dense(4, 3, Softmax()))
    pieces.trainer().fit(model, DATA)


def another_dtype():
    pieces.trainer().fit(pieces.network("float32" if ODD else "float64"), DATA)


def a_weight():
    model = pieces.network()
    model.parameters["2.bias"][0] += ODD
    pieces.trainer().fit(model, DATA)


def a_buffer():
    model = pieces.normalized()
    if ODD:
        model.buffers["0.running_mean"][...] = 1.0
    pieces.trainer().fit(model, DATA)


def a_frozen_parameter():
    model = pieces.network()
    model.parameters.freeze("0.weights" if ODD else "2.weights")
    pieces.trainer().fit(model, DATA)


def other_epochs():
    pieces.trainer().fit(pieces.network(), DATA, epochs=2 if ODD else 3)


def a_callback():
    pieces.trainer(callbacks=[Remembers()] if ODD else []).fit(pieces.network(), DATA)


def fewer_rows():
    rows = 100 if ODD else 101
    pieces.trainer().fit(pieces.network(), (pieces.X[:rows], pieces.CLASSES[:rows]))


def trained():
    return pieces.trainer(AdamOptimizer(learning_rate=0.1), epochs=1, callbacks=[Remembers()])


def optimizer_memory_on_resume():
    run = trained().fit(pieces.network(), DATA)
    if ODD:
        [*run.optimizer.memory.values()][1][3] += 1.0
    trained().resume(run, DATA, epochs=1)


def memory_of_a_callback_on_resume():
    run = trained().fit(pieces.network(), DATA)
    if ODD:
        run.memories["Remembers.0"]["best"] = 7
    trained().resume(run, DATA, epochs=1)


def a_rate_on_resume():
    run = trained().fit(pieces.network(), DATA)
    if ODD:
        run.optimizer.learning_rate = 0.5
    trained().resume(run, DATA, epochs=1)


def a_folder_that_cannot_be_written():
    (FOLDER / "file").touch()
    pieces.trainer(callbacks=[Checkpoint(folder=FOLDER / "file")]).fit(pieces.network(), DATA)


def a_disk_that_is_full():
    saved = FOLDER / "saved"

    @on("batch_end")
    def fill(run):
        if run.step == 9 and RANK == 0:
            for path in saved.iterdir():
                path.unlink()
            saved.rmdir()
            saved.touch()

    pieces.trainer(callbacks=[Checkpoint(folder=saved, every=10), fill]).fit(pieces.network(), DATA)


def a_file_that_is_missing():
    class Rows:
        def __len__(self):
            return 50

        def read(self, start, stop):
            if ODD:
                raise FileNotFoundError("of worker 1")
            return pieces.X[start:stop], pieces.CLASSES[start:stop]

    pieces.trainer().fit(pieces.network(), Rows())


def a_reader_that_fails_in_the_second_epoch():
    def read(epoch):
        if ODD and epoch:
            raise FileNotFoundError("of worker 1")
        yield DATA

    pieces.trainer().fit(pieces.network(), Stream(read))


def a_stream_that_ends_early():
    def read(_epoch):
        for start in range(0, 160 if ODD else 200, 40):
            yield pieces.X[start : start + 40], pieces.CLASSES[start : start + 40]

    pieces.trainer().fit(pieces.network(), Stream(read, window=40))


def no_kernel():
    kernel = CompiledEngine.compile

    def broken(*_arguments):
        raise OSError("libLLVM is broken")

    CompiledEngine.compile = staticmethod(broken if ODD else kernel)
    try:
        pieces.trainer(engine="auto").fit(pieces.network(), DATA)
    finally:
        CompiledEngine.compile = staticmethod(kernel)


def no_llvmlite():
    find = kernels.find_spec
    kernels.find_spec = lambda name: None if ODD else find(name)
    try:
        pieces.trainer(engine="auto").fit(pieces.network(), DATA)
    finally:
        kernels.find_spec = find


def changed_weights_in_an_epoch():
    @on("epoch_end")
    def change(run):
        run.model.parameters["2.bias"][0] += ODD

    pieces.trainer(callbacks=[change]).fit(pieces.network(), DATA)


def a_stop_of_one_worker_in_an_epoch_hook():
    stop = on("epoch_end")(lambda run: run.stop("enough") if ODD else None)
    run = pieces.trainer(callbacks=[stop]).fit(pieces.network(), DATA)
    raise RuntimeError(f"not an error: {run.stop_reason} after {run.epoch} epochs")


def evaluations_of_one_worker_in_a_callback():
    def look(run):
        if ODD:
            plain = pieces.trainer(strategy=None, epochs=1)
            plain.evaluate(run.model, DATA)
            run.model.predict(pieces.X)
            plain.fit(run.model.copy(), DATA)

    straight = pieces.trainer().fit(pieces.network(), DATA)
    run = pieces.trainer(callbacks=[on("epoch_end")(look)]).fit(pieces.network(), DATA)
    raise RuntimeError(f"not an error: {pieces.digest(run) == pieces.digest(straight)}")


def a_training_of_all_workers_in_a_callback():
    inner = []

    def train(_run):
        inner.append(pieces.digest(pieces.trainer(epochs=1).fit(pieces.network(), DATA)))

    run = pieces.trainer(callbacks=[on("epoch_end")(train)]).fit(pieces.network(), DATA)
    alone = pieces.digest(pieces.trainer(epochs=1).fit(pieces.network(), DATA))
    straight = pieces.trainer().fit(pieces.network(), DATA)
    raise RuntimeError(f"not an error: {set(inner) == {alone}}, {pieces.digest(run) == pieces.digest(straight)}")


def a_training_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(pieces.trainer().fit(pieces.network(), DATA)))
    thread.start()
    thread.join()
    straight = pieces.trainer().fit(pieces.network(), DATA)
    raise RuntimeError(f"not an error: {pieces.digest(found[0]) == pieces.digest(straight)}")


def two_threads_at_once():
    """The second one begins within the first."""

    def second(run):
        def fit():
            try:
                pieces.trainer().fit(pieces.network(), DATA)
            except Exception as error:  # noqa: BLE001 (raised in the other thread)
                run.live(callback)["error"] = error

        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
        if "error" in run.live(callback):
            raise run.live(callback)["error"]

    callback = on("epoch_end")(second)
    pieces.trainer(callbacks=[callback]).fit(pieces.network(), DATA)


def a_training_of_one_worker():
    @on("epoch_end")
    def train(_run):
        if ODD:
            pieces.trainer().fit(pieces.network(), DATA)

    pieces.trainer(callbacks=[train]).fit(pieces.network(), DATA)


CASES = [
    another_model,
    another_dtype,
    a_weight,
    a_buffer,
    a_frozen_parameter,
    other_epochs,
    a_callback,
    fewer_rows,
    optimizer_memory_on_resume,
    memory_of_a_callback_on_resume,
    a_rate_on_resume,
    a_folder_that_cannot_be_written,
    a_disk_that_is_full,
    a_file_that_is_missing,
    a_reader_that_fails_in_the_second_epoch,
    a_stream_that_ends_early,
    no_kernel,
    no_llvmlite,
    changed_weights_in_an_epoch,
    a_stop_of_one_worker_in_an_epoch_hook,
    evaluations_of_one_worker_in_a_callback,
    a_training_of_all_workers_in_a_callback,
    a_training_in_a_thread,
    two_threads_at_once,
]


def raised(case):
    """Return what a case raises on this worker."""
    try:
        case()
    except Exception as error:  # noqa: BLE001 (printed)
        return f"{type(error).__name__}: {error}"
    return "nothing"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        globals()[sys.argv[2]]()
    else:
        found = {case.__name__: raised(case) for case in CASES}
        os.write(1, (json.dumps([RANK, found]) + "\n").encode())
