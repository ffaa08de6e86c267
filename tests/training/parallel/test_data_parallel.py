import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import parallel_pieces as pieces
import pytest

from framework import (
    L2,
    Activation,
    BatchNorm,
    CrossEntropy,
    DataError,
    Dense,
    DivergedError,
    Embedding,
    Flatten,
    HalfSquaredError,
    Layer,
    MeanSquaredError,
    Model,
    Neuron,
    Run,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Softmax,
    latest,
    load,
    on,
)
from framework.backends.step import Slot, finish
from framework.base import UsageError
from framework.data.pieces import Piece, rows_of_batch
from framework.models import Composite, Constant
from framework.training import DataParallel
from framework.training.engines import Engine
from framework.training.parallel.shards import Shards, SharedGradient
from framework.training.parallel.workers import Workers
from framework.training.runs.figures import Figures

needs_mpi = pytest.mark.skipif(find_spec("mpi4py") is None, reason="mpi4py is not installed")


@pytest.fixture(scope="module")
def serial():
    """The digest of each case in one process, with as many threads of BLAS as the workers have."""
    (line,) = pieces.launched(0)
    return json.loads(line)


@needs_mpi
@pytest.mark.parametrize(
    "count",
    [pytest.param(count, marks=pytest.mark.share(1 / 10, group=f"{count} workers")) for count in (1, 2, 3, 4)],
)
@pytest.mark.parametrize("case", [*pieces.CASES, "divergence", "divergence in a dataset"])
def test_the_bits_are_the_same_on_any_number_of_workers(case, count, serial):
    assert pieces.digests(count)[case] == serial[case]


@needs_mpi
@pytest.mark.share(1 / 10)
def test_workers_without_a_shard_take_part():
    (serial,) = pieces.launched(0, shards=2)
    assert pieces.digests(3, 2) == json.loads(serial)


@pytest.mark.share(1 / 10)
@needs_mpi
@pytest.mark.parametrize("where", ["folder", "memory", "file"])
def test_workers_that_cannot_share_memory_send_their_sums(where, serial):
    assert set(pieces.launched(2, "without_shared_memory", where)) == {serial["in_shared_memory"]}


@needs_mpi
@pytest.mark.share(1 / 10)
@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 3)])
def test_a_run_continues_on_another_number_of_workers(before, after, serial, tmp_path):
    pieces.launched(before, "stopped", tmp_path)
    assert set(pieces.launched(after, "continued", tmp_path)) == {serial["unbroken"]}


@pytest.mark.share(1 / 10)
@needs_mpi
def test_a_signal_to_one_worker_stops_all_at_the_same_step(tmp_path):
    lines = pieces.launched(3, "interrupted", tmp_path)
    assert len(lines) == 3
    assert len(set(lines)) == 1
    assert lines[0].startswith("143 ended by SIGTERM, step ")
    assert f"step {load(latest(tmp_path)).step}," in lines[0]


@pytest.mark.parametrize(
    "network",
    [partial(pieces.network, "float64"), pieces.normalized, pieces.of_own_layers],
    ids=["plain", "norm", "own"],
)
@pytest.mark.parametrize("rows", [pieces.ROWS, 6])
def test_shards_train_as_the_whole_batch_does(network, rows):
    straight, parts = network(rate=0.0), network(rate=0.0)
    settings = {"epochs": 5, "regularizers": [L2(strength=0.01)]}  # SGD: Adam blows up the rounding of a zero gradient
    data = (pieces.X[:rows], pieces.CLASSES[:rows], pieces.WEIGHTS[:rows]), pieces.VALIDATION
    plain = pieces.trainer(strategy=None, **settings).fit(straight, *data)
    sharded = pieces.trainer(**settings).fit(parts, *data)
    np.testing.assert_allclose(parts.parameters.vector, straight.parameters.vector, rtol=1e-9, atol=1e-12)
    for name, buffer in straight.buffers.items():
        np.testing.assert_allclose(parts.buffers[name], buffer, rtol=1e-9, atol=1e-12)
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(sharded.history[key], plain.history[key], rtol=1e-9)


def test_parts_of_a_batch_have_statistics_of_their_own():
    straight, parts = pieces.normalized(rate=0.0), pieces.normalized(rate=0.0)
    settings = {"batch_size": 20, "accumulate": 3}
    pieces.trainer(strategy=None, **settings).fit(straight, (pieces.X, pieces.CLASSES, pieces.WEIGHTS))
    pieces.trainer(**settings).fit(parts, (pieces.X, pieces.CLASSES, pieces.WEIGHTS))
    np.testing.assert_allclose(parts.parameters.vector, straight.parameters.vector, rtol=1e-9, atol=1e-12)
    for name, buffer in straight.buffers.items():
        np.testing.assert_allclose(parts.buffers[name], buffer, rtol=1e-9, atol=1e-12)


@pytest.mark.share(1 / 10)
@needs_mpi
def test_one_part_for_each_worker_trains_as_the_whole_batch_does():
    *lines, last = pieces.launched(3, "one_part_each")
    assert lines == [last] * 2
    straight = pieces.normalized(rate=0.0)
    pieces.trainer(strategy=None).fit(straight, (pieces.X, pieces.CLASSES))
    np.testing.assert_allclose(json.loads(last), straight.parameters.vector, rtol=1e-9, atol=1e-12)


def test_every_shard_has_its_own_random_numbers():
    model = pieces.network("float64", rate=0.5)
    x, y = np.ones((16, 12)), np.zeros(16, int)
    one = pieces.trainer(batch_size=16, epochs=1, strategy=DataParallel(shards=16)).fit(model.copy(), (x, y))
    other = pieces.trainer(batch_size=1, epochs=1, strategy=DataParallel(shards=1)).fit(model.copy(), (x[:1], y[:1]))
    assert one.history[0]["loss"] != other.history[0]["loss"]


def test_a_run_is_not_continued_with_other_shards():
    data = pieces.X, pieces.CLASSES
    run = pieces.trainer(epochs=1).fit(pieces.network(), data)
    with pytest.raises(UsageError, match=r"has strategy=DataParallel\(shards=8\); got DataParallel\(shards=4\)"):
        pieces.trainer(strategy=DataParallel(shards=4)).resume(run, data)
    again = pieces.trainer(strategy=DataParallel(shards=8, timeout=5.0)).resume(run, data)  # a time-out changes no bit
    assert again.epoch == 3


class Mixing(Layer):
    """Mixes rows by what is given."""

    mixes_rows = True
    how: str

    def formula(self, x):
        ways = {
            "max": lambda: x - x.max(axis=0),
            "product": lambda: x @ (x.T @ x),
            "places": lambda: x - (x[:, 0] * np.arange(len(x))).sum(),
            "softmax": lambda: Softmax()(x.T).T,
            "pairs": lambda: (x @ x.T) @ x,
        }
        return ways[self.how]()


class Largest(Layer):
    """Keeps a buffer of all rows, which no sum gives."""

    def initial_buffers(self):
        return {"largest": np.zeros(4)}

    def formula(self, x, largest):
        return x, {"largest": x.max(axis=0)}


class Written(Layer):
    """Writes its passes itself."""

    mixes_rows = True
    check = "off"

    def apply(self, x, values, record):
        return x - x.mean(axis=0)

    def apply_backward(self, gradient, values, record, gradients):
        return gradient - gradient.mean(axis=0)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Mixing(how="max"), "layer 1, Mixing, mixes the rows of a batch: the formula mixes rows, by max over the rows"),
        (Mixing(how="product"), "layer 1, Mixing, .* by a product over the rows"),
        (Mixing(how="places"), "layer 1, Mixing, .* by the places of the rows"),
        (Mixing(how="softmax"), "layer 1, Mixing, .* by max over the rows"),
        (Mixing(how="pairs"), "layer 1, Mixing, .* by pairs of rows"),
        (Largest(), "layer 1, Largest, keeps buffers that a batch changes: .* by max over the rows"),
        (Written(), "layer 1, Written, mixes the rows of a batch: it writes apply"),
    ],
)
def test_a_layer_that_mixes_rows_by_more_than_sums_is_refused_by_name(layer, told):
    model = Sequential(Dense(12, 4), layer, Dense(4, 3, Softmax()))
    with pytest.raises(SettingsError, match=told):
        pieces.trainer().fit(model, (pieces.X, pieces.CLASSES))


class Slanted(Activation):
    """A written derivative that is not the formula's own."""

    check = "off"

    def __call__(self, h):
        return np.round(h)

    def derivative(self, h):
        return 0.5 + 0.0 * h


class Rounded(Layer):
    """Has activations with a written derivative in the middle and at the end."""

    mixes_rows = True

    def formula(self, x):
        inside = Slanted()(3.0 * (x - x.mean(axis=0)))
        return Slanted()(inside + x.sum(axis=0))


def test_written_derivatives_hold_in_layers_that_mix_rows():
    model = Sequential(Dense(12, 4), Rounded(), Dense(4, 3, Softmax()))
    settings = {"epochs": 1, "batch_size": pieces.ROWS, "optimizer": SGDOptimizer(learning_rate=0.1)}
    gradients = [
        pieces.trainer(strategy=strategy, **settings)
        .fit(model.copy(), (pieces.X, pieces.CLASSES))
        .model.parameters.gradients["0.weights"]
        for strategy in (None, DataParallel(shards=4))
    ]
    assert np.abs(gradients[0]).max() > 1e-3
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)


class CentredInPrediction(Layer):
    """Mixes rows in prediction by a formula of its own."""

    mixes_rows = True

    def formula(self, x):
        return x - x.mean(axis=0)

    def predict_formula(self, x):
        return 2.0 * (x - x.mean(axis=0))


class WithInputs(CentredInPrediction):
    """Says how many numbers a row has."""

    inputs: int | None = None


class CentredBefore(WithInputs):
    """Mixes rows in training alone."""

    def predict_formula(self, x):
        return 2.0 * x


@pytest.mark.parametrize("layer", [CentredInPrediction, WithInputs, CentredBefore])
def test_validation_does_not_depend_on_the_shards(layer):
    model = Sequential(Dense(12, 4), layer(), Dense(4, 3, Softmax()))
    trainer = pieces.trainer(epochs=1)
    run = trainer.fit(model, (pieces.X, pieces.CLASSES), pieces.VALIDATION)
    expected = trainer.evaluate(run.model, pieces.VALIDATION)
    assert run.history[0]["val_loss"] == pytest.approx(expected["loss"], rel=1e-12)


class OnArrays(Composite):
    """Carries the gradient back itself."""

    norm: Model
    check = "off"

    def children(self):
        return {"norm": self.norm}

    def apply(self, x, values, record):
        return self.forward_child("norm", x, record)

    def apply_backward(self, gradient, values, record, gradients):
        return self.backward_child("norm", gradient, record)


class Counted(CrossEntropy):
    """Goes through the rows itself."""

    def backward(self, model, target, weight=None, **options):
        return super().backward(model, target, weight, **options)


@pytest.mark.parametrize(
    ("layer", "loss", "told"),
    [
        (
            OnArrays(norm=BatchNorm(4)),
            CrossEntropy(),
            r"layer 1\.norm, BatchNorm, mixes the rows of a batch: OnArrays\.apply_backward computes with arrays",
        ),
        (
            BatchNorm(4),
            Counted(),
            "layer 1, BatchNorm, mixes the rows of a batch: Counted.backward computes with arrays",
        ),
    ],
)
def test_layers_that_mix_rows_are_refused_where_python_carries_their_gradient(layer, loss, told):
    model = Sequential(Dense(12, 4), layer, Dense(4, 3, Softmax()))
    with pytest.raises(SettingsError, match=told):
        pieces.trainer(loss=loss).fit(model, (pieces.X, pieces.CLASSES))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 5, "accumulate": 8}])
def test_a_loss_may_go_through_the_rows_of_each_shard_itself(settings):
    plain, own = (
        pieces.trainer(loss=loss, epochs=1, **settings).fit(pieces.network("float64"), (pieces.X, pieces.CLASSES))
        for loss in (CrossEntropy(), Counted())
    )
    np.testing.assert_allclose(own.model.parameters.vector, plain.model.parameters.vector, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layers", [(), (BatchNorm(4),)])
def test_an_id_that_a_hook_makes_unknown_is_refused(layers):
    @on("batch_begin")
    def spoil(run):
        if run.step == 2:
            run.current[0][37] = 9

    ids = np.arange(64)[:, None] % 5
    model = Sequential(Embedding(5, 4), Flatten(), *layers, Dense(4, 3, Softmax()))
    with pytest.raises(DataError, match=r"whole ids in 0\.\.4; got 9"):
        pieces.trainer(callbacks=[spoil], batch_size=64).fit(model, (ids, ids[:, 0] % 3))


class Exiting(Layer):
    """Exits in one shard, on the way forward or back."""

    check = "off"
    shard: int
    way: str

    def reached(self, way, record):
        if way == self.way and record.training and record.key[3] == self.shard:
            sys.exit(7)

    def apply(self, x, values, record):
        self.reached("forward", record)
        return x

    def apply_backward(self, gradient, values, record, gradients):
        self.reached("back", record)
        return gradient


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("way", ["forward", "back"])
@pytest.mark.parametrize("shard", [0, 3, 7])
def test_an_exit_in_any_shard_ends_the_training(shard, way, place):
    layers = [Dense(12, 4), BatchNorm(4), Dense(4, 3, Softmax())]
    layers.insert(place, Exiting(shard=shard, way=way))
    with pytest.raises(SystemExit) as raised:
        pieces.trainer().fit(Sequential(*layers), (pieces.X, pieces.CLASSES))
    assert (raised.value.code, raised.value.run.step) == (7, 0)


@pytest.mark.parametrize("names", ["0.*", "2.block.1.*", "[0-2].*"])
def test_a_hook_may_freeze_parameters_where_rows_are_mixed(names):
    @on("epoch_end")
    def freeze(run):
        run.model.parameters.freeze(names)

    straight, parts = pieces.normalized(rate=0.0), pieces.normalized(rate=0.0)
    settings = {"callbacks": [freeze], "optimizer": SGDOptimizer(learning_rate=0.1)}
    pieces.trainer(strategy=None, **settings).fit(straight, (pieces.X, pieces.CLASSES))
    pieces.trainer(**settings).fit(parts, (pieces.X, pieces.CLASSES))
    np.testing.assert_allclose(parts.parameters.vector, straight.parameters.vector, rtol=1e-9, atol=1e-12)
    assert parts.parameters.frozen
    assert not any(gradient.any() for gradient in parts.parameters.frozen_gradients)


class Counting(Layer):
    """Counts batches, from a number on that a float32 does not hold."""

    def initial_buffers(self):
        return {"seen": np.array(2**24 + 1)}

    def formula(self, x, seen):
        return x, {"seen": seen + 1}


def test_whole_numbers_in_buffers_are_exact():
    single = {"dtype": "float32"}
    model = Sequential(Dense(12, 4, **single), Counting(**single), Dense(4, 3, Softmax(), **single))
    run = pieces.trainer(epochs=1).fit(model, (pieces.X, pieces.CLASSES))
    assert int(model.buffers["1.seen"]) == 2**24 + 1 + run.step


class Shifted(Layer):
    """Adds a number to each unit."""

    check = "off"

    def shapes(self):
        return {"shift": (4,)}

    def initializers(self):
        return {"shift": Constant(value=0.5)}

    def apply(self, x, values, record):
        return x + values["shift"]

    def apply_backward(self, gradient, values, record, gradients):
        np.sum(gradient, axis=0, out=gradients["shift"])
        return gradient


class Keeping(Shifted):
    """Writes into the gradient that it was given first."""

    kept: ClassVar[list[np.ndarray]] = []

    def apply_backward(self, gradient, values, record, gradients):
        if not self.kept:
            self.kept.append(gradients["shift"])
        return super().apply_backward(gradient, values, record, {"shift": self.kept[0]})


def test_a_layer_may_keep_an_array_of_its_gradient():
    written, kept = (
        pieces.trainer().fit(Sequential(Dense(12, 4), layer(), Dense(4, 3, Softmax())), (pieces.X, pieces.CLASSES))
        for layer in (Shifted, Keeping)
    )
    assert pieces.digest(kept) == pieces.digest(written)


def test_the_jax_engine_falls_back_to_numpy_by_name():
    with pytest.warns(UserWarning, match="engine='jax': falling back to NumPy"):
        run = pieces.trainer(engine="jax", epochs=1).fit(pieces.network(), (pieces.X, pieces.CLASSES))
    assert run.engine == "numpy"


def test_callbacks_within_a_step_see_the_whole_batch():
    seen = []
    look = on("gradients")(lambda run: seen.append(run.current[0].copy()))
    pieces.trainer(shuffle=False, batch_size=32, epochs=1, callbacks=[look]).fit(
        pieces.network(), (pieces.X, pieces.CLASSES)
    )
    np.testing.assert_array_equal(np.concatenate(seen), pieces.X.astype(np.float32))


def test_a_worker_reads_its_own_rows_alone():
    class Watched(np.ndarray):
        read: list

        def take(self, rows, **options):
            self.read.extend(rows)
            return self.view(np.ndarray).take(rows, **options)

    x = np.arange(20.0)[:, None].view(Watched)
    x.read = []
    order = np.arange(20)[::-1]
    weight = np.arange(20.0)
    piece = Piece((x, np.arange(20.0), weight), 10, 0, order)
    taken = piece.take(slice(2, 5))
    assert x.read == [17, 16, 15]
    assert taken[0][2:5, 0].tolist() == taken[1][2:5].tolist() == [17.0, 16.0, 15.0]
    assert taken[2].tolist() == weight[order[:10]].tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 40, "strategy": None},
        {"batch_size": 10, "accumulate": 4, "strategy": None},
        {"batch_size": 40},
        {"batch_size": 5, "accumulate": 8, "strategy": DataParallel(shards=2)},
    ],
)
def test_an_error_names_the_row_of_the_whole_batch(settings):
    x = np.ones((80, 1))
    x[77] = 1e200
    model = Sequential(Dense.from_weights([[1.0]]))
    with pytest.raises(DivergedError, match="first at row 37 of the batch") as caught:
        pieces.trainer(loss=MeanSquaredError(), shuffle=False, **settings).fit(model, (x, np.ones(80)))
    assert any("row 77 of the data" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("reads", [False, True])
def test_the_rows_of_other_workers_are_gathered_when_a_callback_reads_the_batch(reads):
    class Half(Shards):
        def rows_for(self, piece):
            return slice(0, piece.next_rows // 2)

    class OfHalf(SharedGradient):
        def gradient(self, fill, model, batch, key):  # the other rows are undefined
            return finish(fill(rows_of_batch(batch, slice(0, 2)), key, Slot.of(model), None))

    gathered, seen = [], []

    class Watched(np.ndarray):
        def take(self, rows, **options):
            gathered.extend(rows)
            return self.view(np.ndarray).take(rows, **options)

    model, loss = Neuron.from_weights([0.0]), HalfSquaredError()
    run = Run(model, SGDOptimizer(model, learning_rate=0.1), loss, seed=0)
    strategy = OfHalf(Half(Workers(), 2), noted=bool, agree=print)

    def look(hook):
        if reads and hook == "on_batch_end":
            seen.append(run.current[0][:, 0].tolist())

    engine = Engine(run, Figures(loss, ()), look, part_rows=4, strategy=strategy, watched=True)
    x, order = np.arange(4.0)[:, None].view(Watched), np.array([3, 1, 0, 2])
    engine.advance(Piece((x, np.zeros(4), None), 4, 0, order))
    assert gathered == ([3, 1, 3, 1, 0, 2] if reads else [3, 1])
    assert seen == ([[3.0, 1.0, 0.0, 2.0]] if reads else [])
    assert run.current[0][:, 0].tolist() == [3.0, 1.0, 0.0, 2.0]  # also after the step


@pytest.mark.share(1 / 10)
@needs_mpi
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_every_worker_reads_the_whole_batch_and_may_change_it(engine, tmp_path):
    if engine == "compiled":
        pytest.importorskip("llvmlite")
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, numpy as np\n"
        "import parallel_pieces as pieces\n"
        "from framework import on\n"
        "from framework.training.parallel.mpi import workers\n"
        "seen = []\n"
        "def note(run):\n"
        "    seen.append([float(part.sum()) for part in run.current])\n"
        "@on('batch_begin')\n"
        "def shift(run):\n"
        "    if run.step % 2:\n"
        "        run.current[0][:] += 1.0\n"
        "hooks = [on(hook, every=3)(note) for hook in ('batch_begin', 'gradients', 'batch_end', 'epoch_end')]\n"
        "data = pieces.X, pieces.CLASSES, pieces.WEIGHTS\n"
        "run = pieces.trainer(callbacks=[*hooks, shift], engine=sys.argv[1]).fit(pieces.network(), data)\n"
        "os.write(1, f'{seen} {pieces.digest(run)}\\n'.encode())\n"
    )
    (alone,) = pieces.launched(0, engine, program=program)
    assert pieces.launched(2, engine, program=program) == [alone] * 2


@pytest.mark.share(1 / 10)
@needs_mpi
def test_a_worker_asks_a_dataset_for_its_own_rows_alone():
    ends = [13, 13]  # the first and the last block, which each worker reads before for the fingerprint
    alone = json.loads(*pieces.launched(0, "rows_asked_for"))
    assert alone == 3 * [ends, *3 * [[pieces.ROWS, pieces.ROWS]]]
    both = np.array([json.loads(line) for line in pieces.launched(2, "rows_asked_for")])
    by_number, weighted, by_block = both[:, :4], both[:, 4:8], both[:, 8:]
    for found in (by_number, weighted, by_block):
        np.testing.assert_array_equal(found[:, 0], 2 * [ends])
        assert found[:, 1:].max() <= 0.55 * pieces.ROWS
        np.testing.assert_array_equal(found[:, 1:, 1].sum(axis=0), pieces.ROWS)
    np.testing.assert_array_equal(by_number[:, 1:, 0].sum(axis=0), pieces.ROWS)
    np.testing.assert_array_equal(weighted[:, 1:, 0].sum(axis=0), pieces.ROWS)


@pytest.mark.share(1 / 10)
@needs_mpi
def test_a_row_that_one_worker_reads_is_named_on_all():
    told = "fit: ByNumber.read(150, 15"
    first, second = sorted(pieces.launched(2, "a_bad_row", 150))
    assert told in first
    assert "nan at x[0, 0]" in first
    assert first.endswith("rows count from row 150 of the data")
    assert second == first.replace("DataError ", "DataError worker 0: ")


@pytest.mark.share(1 / 10)
@needs_mpi
def test_different_workers_are_refused_before_the_training(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "import parallel_pieces as pieces\n"
        "from framework.training.parallel.mpi import workers\n"
        "try:\n"
        "    rank = workers().rank\n"
        "    pieces.trainer(seed=rank).fit(pieces.network(), (pieces.X, pieces.CLASSES))\n"
        "except Exception as error:\n"
        "    os.write(1, f'{type(error).__name__} {error}\\n'.encode())\n"
    )
    lines = pieces.launched(3, program=program)
    told = "fit: seed must be equal on all workers; worker 0 has '0', and workers 1, 2 have '1', '2'"
    assert lines == [f"UsageError {told}; also different: run's seed; use the same settings on each worker"] * 3


@pytest.mark.share(1 / 10)
@needs_mpi
def test_more_workers_than_shards_are_told_once(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, warnings\n"
        "import parallel_pieces as pieces\n"
        "from framework.training import DataParallel\n"
        "from framework.training.parallel.mpi import workers\n"
        "settings = ({'shards': 2}, {'shards': 3}, {'shards': 2, 'deterministic': False})\n"
        "for strategy in (DataParallel(**each) for each in settings):\n"
        "    with warnings.catch_warnings(record=True) as found:\n"
        "        warnings.simplefilter('always')\n"
        "        pieces.trainer(epochs=1, strategy=strategy).fit(pieces.network(), (pieces.X, pieces.CLASSES))\n"
        "    for each in found:\n"
        "        os.write(1, f'{workers().rank} {each.message}\\n'.encode())\n"
    )
    told = "start fewer workers, or begin a new run with DataParallel(shards=3)"
    assert pieces.launched(3, program=program) == [f"0 fit: only 2 of 3 workers compute, each a shard; {told}"]


@pytest.mark.share(1 / 10)
@needs_mpi
@pytest.mark.parametrize("hook", ["train_begin", "epoch_end", "train_end"])
def test_an_error_in_a_hook_of_one_worker_is_raised_on_all(hook, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "import parallel_pieces as pieces\n"
        "from framework import on\n"
        "from framework.training.parallel.mpi import workers\n"
        "@on(sys.argv[1])\n"
        "def fail(run):\n"
        "    if workers().rank == 1:\n"
        "        raise OSError('the disk is full')\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        pieces.trainer(callbacks=[fail]).fit(pieces.network(), (pieces.X, pieces.CLASSES))\n"
        "    except Exception as error:\n"
        "        note = error.__notes__[-1] if workers().rank == 1 else ''\n"
        "        os.write(1, f'{workers().rank} {type(error).__name__} {error} {note}'.strip().encode() + b'\\n')\n"
    )
    lines = pieces.launched(3, hook, program=program)
    advice = "each worker calls this hook; worker 0 alone calls those of a class with writes = True"
    others = [f"{rank} UsageError worker 1: OSError: the disk is full" for rank in (0, 2)]
    assert sorted(lines) == sorted([f"1 OSError the disk is full {advice}", *others] * 2)


@pytest.mark.share(1 / 10)
@needs_mpi
@pytest.mark.parametrize("count", [2, 3])
def test_workers_may_fail_several_times_in_a_row(count, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from framework.training.parallel.mpi import workers\n"
        "team = workers()\n"
        "for _ in range(20):\n"
        "    for _ in range(5):\n"
        "        try:\n"
        "            with team.guard(5):\n"
        "                raise ValueError\n"
        "        except ValueError:\n"
        "            pass\n"
        "    with team.guard(5):\n"
        "        team.gather(1)\n"
        "os.write(1, b'ended\\n')\n"
    )
    assert pieces.launched(count, program=program) == ["ended"] * count


def test_the_package_is_imported_without_mpi():
    code = "import sys, framework; framework.training.DataParallel(); print('mpi4py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
