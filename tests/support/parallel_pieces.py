"""Trainings with DataParallel, run in this process and by ``mpiexec -n N python parallel_pieces.py``."""

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from framework import (
    GRU,
    L2,
    R2,
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    Checkpoint,
    Conv2D,
    CrossEntropy,
    DataError,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    Heads,
    Layer,
    MeanSquaredError,
    Metric,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SGDOptimizer,
    Softmax,
    Stream,
    Tanh,
    Trainer,
    latest,
    load,
    on,
)
from framework.data import blocks
from framework.formulas import OutputLosses, OutputMetric, StepSchedule
from framework.models import Constant
from framework.training import DataParallel
from framework.training.parallel.mpi import workers

ROWS = 203
RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, 12))
CLASSES = (X[:, :3] + RNG.normal(size=(ROWS, 3))).argmax(axis=1)
WEIGHTS = RNG.uniform(size=ROWS) * (RNG.uniform(size=ROWS) > 0.2)
VALIDATION = X[:50], CLASSES[:50]
SHARDS = DataParallel(shards=int(os.environ.get("SHARDS", "8")), timeout=20)


def digest(run):
    """Return a digest of everything that a training has made, but for the time it took."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.history]
    made = [rows, run.sums, run.stop_reason, run.epoch, run.step, run.batch_loss, run.memories, run.optimizer.last_rate]
    found = hashlib.sha256(repr(made).encode())
    for array in (run.model.parameters.vector, *run.optimizer.memory.values(), *run.model.buffers.values()):
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def trainer(optimizer=None, **settings):
    optimizer = optimizer or SGDOptimizer(learning_rate=0.1, momentum=0.9)
    return Trainer(**{"loss": CrossEntropy(), "optimizer": optimizer, "epochs": 3, "strategy": SHARDS} | settings)


def network(dtype="float32", *, rate=0.3):
    return Sequential(
        Dense(12, 16, ReLU(), dtype=dtype), Dropout(rate, dtype=dtype), Dense(16, 3, Softmax(), dtype=dtype)
    )


def dropout_and_momentum(**settings):
    return trainer(metrics=[Accuracy()], **settings).fit(network(), (X, CLASSES), VALIDATION)


def adam_weights_and_early_stopping(**settings):
    stopping = EarlyStopping(monitor="val_loss", patience=2)
    optimizer = AdamOptimizer(learning_rate=StepSchedule(initial=0.05, decay=0.7, every=10), clip_norm=0.5)
    settings |= {"epochs": 40, "batch_size": 50, "callbacks": [stopping], "regularizers": [L2(strength=0.01)]}
    run = trainer(optimizer, **settings).fit(network("float64"), (X, CLASSES, WEIGHTS), VALIDATION)
    assert run.epoch < 40
    return run


def convolution():
    last = Dense(units=3, activation=Softmax())
    model = Sequential(Reshape((1, 4, 3)), Conv2D(filters=4, kernel=3), ReLU(), Flatten(), last)
    return trainer(batch_size=20).fit(model, (X, CLASSES))


def normalized(dtype="float64", *, rate=0.2):
    """A network with BatchNorm at its front, in the middle, and in a branch around which x is added."""
    return Sequential(
        BatchNorm(12, dtype=dtype),
        Dense(12, 8, ReLU(), dtype=dtype),
        Residual(Dense(8, 8, dtype=dtype), BatchNorm(8, dtype=dtype), Tanh()),
        Dropout(rate, dtype=dtype),
        Dense(8, 3, Softmax(), dtype=dtype),
    )


def wide(**settings):
    """Train with so many numbers that the workers of one machine share memory: for the gradient and three sums."""
    model = Sequential(Dense(12, 1100, ReLU()), BatchNorm(1100), Dense(1100, 3, Softmax()))
    return trainer(**settings).fit(model, (X, CLASSES))


def in_shared_memory():
    def shared():
        return sum("framework-" in line for line in Path("/proc/self/maps").read_text().splitlines())

    @on("epoch_end")
    def look(_):
        assert shared() == (4 if workers().size > 1 else 0)

    run = wide(callbacks=[look])
    assert shared() == 0
    return run


def without_shared_memory(where):
    """Train where worker 0 finds no folder or too little memory, or worker 1 cannot open the file."""

    def refuse(*_):
        raise OSError(errno.ENOMEM, "no memory")

    from framework.training.parallel import mpi

    if where == "folder":
        mpi.SHARED = "/dev/no such folder"
    elif where == "memory":
        os.posix_fallocate = refuse
    elif workers().rank == 1:
        mpi.mmap.mmap = refuse
    return wide()


class _OfUnits(Layer):
    """Mixes rows; has a parameter for each unit."""

    mixes_rows = True
    units: int

    def shapes(self):
        return {"w": (self.units,)}

    def initializers(self):
        return {"w": Constant(value=0.5)}


class Weighed(_OfUnits):
    """Mixes rows by sums with a parameter inside, over further axes too, and counts them; an activation ends it."""

    def initial_buffers(self):
        return {"seen": np.zeros(()), "mean": np.zeros(self.units)}

    def formula(self, x, w, seen, mean):
        found = (x * w).mean(axis=tuple(range(x.ndim - 1)))
        power = np.square(x - found).sum(axis=0) / len(x)
        spread = np.sqrt(power + x.var(axis=0) * w) + 1.0
        return Tanh()((x - found) / spread), {"seen": seen + len(x), "mean": 0.5 * (mean + found)}


def of_own_layers(rate=0.2):
    return Sequential(
        Reshape((4, 3)),
        Weighed(units=3),
        Flatten(),
        Dense(12, 8, ReLU()),
        Dropout(rate),
        Residual(Weighed(units=8)),
        Dense(8, 3, Softmax()),
    )


def own_layers_that_mix_rows():
    return trainer().fit(of_own_layers(), (X, CLASSES, WEIGHTS), VALIDATION)


def batch_norm(**settings):
    optimizer, data = AdamOptimizer(learning_rate=0.01), (X, CLASSES, WEIGHTS)
    return trainer(optimizer, metrics=[Accuracy()], **settings).fit(normalized("float32"), data, VALIDATION)


def batch_norm_with_fewer_rows_than_shards(**settings):
    return trainer(batch_size=5, **settings).fit(normalized(), (X[:13], CLASSES[:13]))


class Balanced(_OfUnits):
    """Mixes rows by sums of which one needs another, for each unit alone; an activation ends it."""

    def initial_buffers(self):
        return {"mean": np.zeros(self.units)}

    def formula(self, x, w, mean):
        found = (x * w).mean(axis=0)
        power = np.square(x - found).sum(axis=0) / len(x)
        scaled = (x - found) / np.sqrt(power + x.var(axis=0) * w + 1.0)
        return Tanh()(scaled * np.abs(scaled).mean(axis=0)), {"mean": 0.5 * (mean + found)}


def balanced(rate=0.2):
    return Sequential(
        Dense(12, 8, ReLU()), Balanced(units=8), Dropout(rate), Residual(Balanced(units=8)), Dense(8, 3, Softmax())
    )


def a_balanced_layer(**settings):
    return trainer(batch_size=20, **settings).fit(balanced(), (X, CLASSES, WEIGHTS), VALIDATION)


def batch_norm_in_parts(**settings):
    return trainer(batch_size=20, accumulate=2, epochs=2, **settings).fit(normalized("float32"), (X, CLASSES, WEIGHTS))


def gru():
    model = Sequential(Reshape((4, 3)), GRU(units=6), Dense(units=1))
    return trainer(loss=MeanSquaredError(), metrics=[R2()]).fit(model, (X, X[:, 0]), (X[:30], X[:30, 0]))


def parts_of_shards_drawn_by_weight():
    settings = {"batch_size": 3, "accumulate": 9, "sampling": "weighted"}
    return trainer(**settings).fit(network(), (X, CLASSES, WEIGHTS))


def several_outputs(**settings):
    model = Sequential(Dense(12, 8, Tanh()), Heads(kind=Dense(units=3, activation=Softmax()), size=Dense(units=1)))
    loss = OutputLosses(kind=CrossEntropy(), size=MeanSquaredError(), weights={"size": 0.2})
    metrics = [OutputMetric("kind", Accuracy())]
    return trainer(loss=loss, metrics=metrics, **settings).fit(
        model, (X, {"kind": CLASSES, "size": X[:, 0]}, WEIGHTS), 0.2
    )


def a_stream_in_windows():
    def read(epoch):
        for start in range(0, ROWS, 30):
            yield X[start : start + 30] + epoch, CLASSES[start : start + 30]

    return trainer().fit(network(), Stream(read, window=70), VALIDATION)


def a_dataset():
    class Squares:
        def __len__(self):
            return ROWS

        def read(self, start, stop):
            return X[start:stop], CLASSES[start:stop]

    return trainer().fit(network(), Squares(), 0.2)


class Asked:
    """A Dataset that counts the rows which it is asked for; ``bad`` is a row that is not finite."""

    def __init__(self, bad=None):
        self.x = X.copy()
        self.asked = []
        if bad is not None:
            self.x[bad] = np.nan

    def __len__(self):
        return ROWS

    def read(self, start, stop):
        self.asked += range(start, stop)
        return self.x[start:stop], CLASSES[start:stop]


class ByNumber(Asked):
    """The same, whose rows can be read by number."""

    def read_rows(self, rows):
        self.asked += rows
        return self.x[rows], CLASSES[rows]


@contextmanager
def small_windows():
    """Blocks of 10 rows and windows of 60, so that batches span windows."""
    before = blocks.BLOCK_ROWS, blocks.WINDOW_NUMBERS
    blocks.BLOCK_ROWS, blocks.WINDOW_NUMBERS = 10, 60 * X.shape[1]
    try:
        yield
    finally:
        blocks.BLOCK_ROWS, blocks.WINDOW_NUMBERS = before


def a_dataset_in_windows(kind=Asked, **settings):
    with small_windows():
        return trainer(**settings).fit(network(), kind(), kind())


def rows_by_number_in_windows(**settings):
    return a_dataset_in_windows(ByNumber, **settings)


class Weighted(ByNumber):
    """The same, with weights."""

    def read(self, start, stop):
        return (*super().read(start, stop), WEIGHTS[start:stop])

    def read_rows(self, rows):
        return (*super().read_rows(rows), WEIGHTS[rows])


def weighted_rows_in_windows():
    return a_dataset_in_windows(Weighted, batch_size=7)


def rows_by_number_in_order():
    return a_dataset_in_windows(ByNumber, shuffle=False)


def a_dataset_drawn_by_class():
    return a_dataset_in_windows(ByNumber, sampling="balanced")


def a_divergence_in_a_dataset():
    """Return the error of all workers where the output for one row of a Dataset overflows."""
    data = ByNumber()
    data.x[150] = 1e200
    try:
        with small_windows():
            trainer(loss=MeanSquaredError()).fit(Dense(12, 1), data)
    except ArithmeticError as error:
        return [type(error).__name__, error.run.step, *error.__notes__]


def rows_asked_for():
    """Return how many rows this worker was asked for in each epoch: in training and validation, by number, by block."""
    found = []
    for kind in ByNumber, Weighted, Asked:
        data, validation = kind(), kind()

        def look(_, both=(data, validation)):
            found.append([len(each.asked) for each in both])
            for each in both:
                each.asked.clear()

        with small_windows():
            trainer(callbacks=[on("train_begin")(look), on("epoch_end")(look)]).fit(network(), data, validation)
    return json.dumps(found)


def a_bad_row(number):
    """Train on data with a bad row, which one worker alone reads, and return the error."""
    try:
        with small_windows():
            trainer().fit(network(), ByNumber(int(number)))
    except DataError as error:
        return f"{type(error).__name__} {error}"


def fewer_rows_than_shards(**settings):
    return trainer(batch_size=5, epochs=2, **settings).fit(network(), (X[:13], CLASSES[:13]), (X[:3], CLASSES[:3]))


def a_metric_of_all_rows():
    worst = Metric.of(lambda prediction, target: prediction.max() + target.min())
    return trainer(metrics=[worst]).fit(network(), (X, CLASSES), VALIDATION)


def a_stop_within_an_epoch():
    @on("batch_end")
    def enough(run):
        if run.batch_loss < 1.0 and run.epoch:
            run.stop("enough")

    return trainer(batch_size=10, callbacks=[enough]).fit(network(), (X, CLASSES))


def a_stop_of_one_worker():
    """The last worker alone asks for the stop."""

    @on("batch_end")
    def mine(run):
        if run.step == 9 and workers().rank == workers().size - 1:
            run.stop("the last worker has had enough")

    return trainer(callbacks=[mine]).fit(network(), (X, CLASSES))


CASES = {
    case.__name__: case
    for case in (
        dropout_and_momentum,
        adam_weights_and_early_stopping,
        convolution,
        gru,
        batch_norm,
        batch_norm_with_fewer_rows_than_shards,
        batch_norm_in_parts,
        in_shared_memory,
        own_layers_that_mix_rows,
        parts_of_shards_drawn_by_weight,
        several_outputs,
        a_stream_in_windows,
        a_dataset,
        a_dataset_in_windows,
        rows_by_number_in_windows,
        rows_by_number_in_order,
        weighted_rows_in_windows,
        a_dataset_drawn_by_class,
        fewer_rows_than_shards,
        a_metric_of_all_rows,
        a_stop_within_an_epoch,
        a_stop_of_one_worker,
    )
}

KERNELS = [
    dropout_and_momentum,
    adam_weights_and_early_stopping,
    several_outputs,
    rows_by_number_in_windows,
    fewer_rows_than_shards,
    batch_norm,
    batch_norm_with_fewer_rows_than_shards,
    batch_norm_in_parts,
    a_balanced_layer,
]
"""The cases that are also trained with ``engine="compiled"``."""


def compiled(case):
    run = case(engine="compiled")
    assert run.engine == "compiled"
    return run


if find_spec("llvmlite") is not None:
    CASES |= {f"compiled_{case.__name__}": partial(compiled, case) for case in KERNELS}


def stopped(folder):
    """Train into the second epoch, and leave a checkpoint."""
    stop = on("batch_end")(lambda run: run.stop("for now") if run.step == 10 else None)
    return trainer(callbacks=[stop, Checkpoint(folder=folder)]).fit(network(), (X, CLASSES), VALIDATION)


def unbroken():
    """Train to the end at once."""
    return trainer().fit(network(), (X, CLASSES), VALIDATION)


def continued(folder):
    """Train from the newest checkpoint, in the second of three epochs, to the end."""
    return trainer().resume(load(latest(folder)), (X, CLASSES), VALIDATION, epochs=2)


def one_part_each():
    """Train with one part of a batch for each worker, and return the weights."""
    strategy = DataParallel(deterministic=False, timeout=20)
    run = trainer(strategy=strategy).fit(normalized(rate=0.0), (X, CLASSES), VALIDATION)
    return json.dumps(run.model.parameters.vector.tolist())


def interrupted(folder):
    """Train until a signal comes to the last worker, at any moment; all of them stop at the same step and save."""

    @on("train_begin")
    def signalled(_run):
        if workers().rank == workers().size - 1:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()

    try:
        trainer(epochs=100_000, callbacks=[Checkpoint(folder=folder), signalled]).fit(network(), (X, CLASSES))
    except SystemExit as error:
        run = error.run
        return f"{error.code} {run.stop_reason}, step {run.step}, {digest(run)}"


def divergence_of_one_shard():
    """Return the errors of all workers where the loss or the gradient of a single row overflows."""
    x = np.ones((64, 1))
    said = []
    x[63] = 1e200
    for weight, *layers in ((1.0,), (1.0, BatchNorm(1), Dense(1, 1)), (1e-50,)):
        model = Sequential(Dense.from_weights([[weight]]), *layers)
        try:
            trainer(loss=MeanSquaredError(), batch_size=64).fit(model, (x, np.ones(64)))
        except ArithmeticError as error:
            rows = re.findall(r"row \d+ of the batch", str(error))
            said.append([type(error).__name__, error.run.step, *rows, *error.__notes__])
    return said


def launched(count, *arguments, program=__file__, code=0, timeout=60, shards=8):
    """Return what ``mpiexec -n count`` prints, line by line, and check its exit code; 0 runs without mpiexec."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here)])
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "SHARDS": str(shards),
    }
    command = [sys.executable, str(program), *map(str, arguments)]
    if count:
        command = [str(Path(sys.executable).parent / "mpiexec"), "-n", str(count), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def once(function):
    """Call a function once for the same arguments, and raise its error again, which ``functools.cache`` does not."""
    results = {}

    @wraps(function)
    def call(*arguments):
        if arguments not in results:
            try:
                results[arguments] = function(*arguments), None, None
            except Exception as error:  # noqa: BLE001 (a failed assertion too)
                results[arguments] = None, error, error.__traceback__
        result, error, traceback = results[arguments]
        if error is not None:
            raise error.with_traceback(traceback)
        return result

    return call


@once
def digests(count, shards=8):
    """Return the digest of each case on ``count`` workers; all workers must agree."""
    found = [json.loads(line) for line in launched(count, shards=shards)]
    assert len(found) == count
    assert all(each == found[0] for each in found)
    return found[0]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        made = globals()[sys.argv[1]](*sys.argv[2:])
        sys.stdout.write((made if isinstance(made, str) else digest(made)) + "\n")
    else:
        found = {name: digest(case()) for name, case in CASES.items()}
        errors = {"divergence": divergence_of_one_shard(), "divergence in a dataset": a_divergence_in_a_dataset()}
        further = {"unbroken": digest(unbroken())} | errors
        sys.stdout.write(json.dumps(found | further) + "\n")
