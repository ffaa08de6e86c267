"""What TensorBoard and MLflow have of a run, found by their own readers."""

import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import framework.training.callbacks.trackers
from framework import (
    Dense,
    HalfSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Tanh,
    Trainer,
    load,
    load_model,
    on,
    save,
)
from framework.base import UsageError
from framework.training import MLflow, TensorBoard

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's own tables
]

X = np.linspace(-1, 1, 16)[:, None]
DATA = X, X[:, 0] ** 2


@pytest.fixture(scope="module", autouse=True)
def database(tmp_path_factory):
    """One database for all tests: to make one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.chdir(tmp_path_factory.mktemp("mlflow"))
        yield "sqlite:///mlflow.db"


class Board:
    """TensorBoard, and what its reader finds."""

    holds = np.float32

    def __init__(self, folder):
        self.callback = TensorBoard(folder=folder, name="run", every=0)

    def read(self, run):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(f"{self.callback.folder}/run", size_guidance={"scalars": 0}).Reload()
        values = {key: [(each.step, each.value) for each in found.Scalars(key)] for key in found.Tags()["scalars"]}
        return {key: each for key, each in values.items() if each}  # it keeps the names of what it forgets


class Flow:
    """MLflow, and what its client finds."""

    holds = np.float64

    def __init__(self, uri):
        self.callback = MLflow(uri=uri, every=0, artifacts=False)

    def read(self, run):
        client, run_id = client_of(run)
        keys = client.get_run(run_id).data.metrics
        return {key: [(each.step, each.value) for each in client.get_metric_history(run_id, key)] for key in keys}


def client_of(run):
    from mlflow import MlflowClient

    return MlflowClient("sqlite:///mlflow.db"), run.memories["MLflow.0"]["run_id"]


@pytest.fixture(params=["TensorBoard", "MLflow"])
def tracker(request, tmp_path, database):
    return Board(tmp_path / "board") if request.param == "TensorBoard" else Flow(database)


def recipe(*callbacks, **settings):
    default = {"loss": HalfSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1), "epochs": 5}
    return Trainer(**default | settings, callbacks=callbacks)


def network():
    return Sequential(Dense(1, 3, Tanh()), Neuron(3))


def expected(run, tracker, without=()):
    """Return the history by column as (step, value), in the precision that the tracker holds."""
    keys = [key for key in run.history.keys if key not in ("epoch", *without)]
    return {key: [(row["epoch"], float(tracker.holds(row[key]))) for row in run.history if key in row] for key in keys}


def without_seconds(found):
    return {key: values for key, values in found.items() if key != "seconds"}


def test_every_value_is_there_at_its_epoch_also_those_that_later_callbacks_add(tracker):
    @on("epoch_end")
    def add(run):
        if run.epoch != 2:
            run.history[-1]["odd"] = 1 / 3 + run.epoch

    run = recipe(tracker.callback, add).fit(network(), DATA, DATA)
    assert tracker.read(run) == expected(run, tracker)
    assert {"loss", "val_loss", "learning_rate", "seconds", "odd"} == {*tracker.read(run)}


def test_a_resumed_run_goes_on_where_it_stopped(tracker):
    stop = on("batch_end")(lambda run: run.stop("enough") if run.step == 3 else None)
    run = recipe(tracker.callback, stop, batch_size=10).fit(network(), DATA)
    assert (run.epoch, run.step) == (1, 3)
    run = recipe(tracker.callback, on("batch_end")(lambda _run: None), batch_size=10).resume(run, DATA)
    assert run.epoch == 5
    assert tracker.read(run) == expected(run, tracker)


@pytest.mark.share(1 / 3)
def test_epochs_that_are_made_again_are_not_doubled(tracker, tmp_path):
    keep = on("epoch_end")(lambda run: save(run, tmp_path / "kept") if run.epoch == 2 else None)
    recipe(tracker.callback, keep, epochs=4).fit(network(), DATA)
    run = recipe(tracker.callback, keep).resume(tmp_path / "kept", DATA)
    assert without_seconds(tracker.read(run)) == expected(run, tracker, ["seconds"])
    assert [step for step, _ in tracker.read(run)["seconds"]] == [1, 2, 3, 4, 5]


def test_rows_that_a_killed_process_did_not_send_are_sent_by_the_next(tracker, tmp_path, monkeypatch):
    keep = on("epoch_end")(lambda run: save(run, tmp_path / "kept") if run.epoch == 3 else None)
    callback = tracker.callback.replace(every=1000.0)
    with monkeypatch.context() as patch:
        patch.setattr(type(callback), "on_train_end", type(callback)._close)  # nothing more is sent
        recipe(callback, keep).fit(network(), DATA)
    run = load(tmp_path / "kept")
    assert tracker.read(run) == {}
    run = recipe(callback, keep).resume(run, DATA)
    assert tracker.read(run) == expected(run, tracker)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_rows_are_sent_whatever_ends_the_training(tracker, error):
    @on("batch_begin")
    def fail(run):
        if run.epoch == 3:
            raise error

    with pytest.raises(error) as caught:
        recipe(tracker.callback.replace(every=1000.0), fail).fit(network(), DATA)
    run = caught.value.run
    assert len(run.history) == 3
    assert tracker.read(run) == expected(run, tracker)
    if isinstance(tracker, Flow):
        client, run_id = client_of(run)
        assert client.get_run(run_id).info.status == {ValueError: "FAILED", KeyboardInterrupt: "KILLED"}[error]


def test_rows_wait_until_the_time_has_come(tracker, monkeypatch):
    now, sent, send = [0.0], [], type(tracker.callback)._send
    monkeypatch.setattr(framework.training.callbacks.trackers.time, "monotonic", lambda: now[0])

    def note(self, run, rows):
        sent.append(([row["epoch"] for row in rows], self._moments(run, rows)))
        send(self, run, rows)

    monkeypatch.setattr(type(tracker.callback), "_send", note)
    wait = on("batch_end")(lambda _run: now.append(now.pop() + 0.4))
    run = recipe(tracker.callback.replace(every=1.0), wait, epochs=7).fit(network(), DATA)
    assert [epochs for epochs, _ in sent] == [[1, 2, 3], [4, 5, 6], [7]]
    steps = np.diff(np.concatenate([moments for _, moments in sent]))
    np.testing.assert_allclose(steps, run.history["seconds"][1:], atol=1e-6)  # of a clock of 1.8e9 seconds


def test_the_settings_are_there(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe(TensorBoard(folder=tmp_path, name="run")).fit(network(), DATA)
    (text,) = EventAccumulator(str(tmp_path / "run")).Reload().Tensors("settings/text_summary")
    (table,) = text.tensor_proto.string_val
    assert "| optimizer.learning_rate | `0.1` |" in table.decode().splitlines()


def test_each_run_has_a_folder_of_its_own_in_which_it_continues(tmp_path):
    trainer = recipe(TensorBoard(folder=tmp_path / "runs"), epochs=2)
    first, second = (trainer.fit(network(), DATA) for _ in range(2))
    save(first, tmp_path / "kept")
    trainer.resume(tmp_path / "kept", DATA, epochs=1)
    folders = [tmp_path / "runs" / run.memories["TensorBoard.0"]["name"] for run in (first, second)]
    assert {*(tmp_path / "runs").iterdir()} == {*folders}
    assert [len([*folder.iterdir()]) for folder in folders] == [2, 1]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{4}", folders[0].name)


def test_the_name_of_another_run_is_refused(tmp_path):
    trainer = recipe(TensorBoard(folder=tmp_path, name="first"))
    run = trainer.fit(network(), DATA)
    with pytest.raises(SettingsError, match="setting 'name' must not be that of another run; got 'first'"):
        trainer.fit(network(), DATA)
    trainer.resume(run, DATA, epochs=1)
    assert len([*(tmp_path / "first").iterdir()]) == 2


def test_mlflow_has_the_settings_the_model_and_the_run(database, tmp_path):
    run = recipe(MLflow(uri=database, name="first", experiment="squares")).fit(network(), DATA)
    client, run_id = client_of(run)
    found = client.get_run(run_id)
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert client.get_experiment(found.info.experiment_id).name == "squares"
    parameters = {"optimizer": "SGDOptimizer", "optimizer.learning_rate": "0.1", "epochs": "5", "parameters": "10"}
    assert parameters.items() <= found.data.params.items()
    folder = client.download_artifacts(run_id, "", tmp_path)
    assert json.loads(Path(folder, "model.json").read_text()) == json.loads(run.model.to_json())
    assert np.array_equal(load_model(f"{folder}/checkpoint.safetensors")(X), run.model(X))


def test_mlflow_keeps_what_is_not_finite_as_it_can(database):
    flow = Flow(database)

    @on("epoch_end")
    def add(run):
        run.history[-1].update(nothing=math.nan, much=math.inf, little=-math.inf)

    run = recipe(flow.callback, add, epochs=1).fit(network(), DATA)
    run = recipe(flow.callback, add).resume(run, DATA, epochs=1)
    found, largest = flow.read(run), np.finfo(float).max
    assert [step for step, value in found["nothing"] if math.isnan(value)] == [1, 2]
    assert found["much"] == [(1, largest), (2, largest)]
    assert found["little"] == [(1, -largest), (2, -largest)]


def test_mlflow_has_every_column_under_a_name_of_its_own_that_it_takes(database):
    flow, long = Flow(database), "x" * 300
    odd = {
        "": "_",
        "/": "_/_",
        "../a//b/.": "__/a/_/b/_",
        "a%": "a_",
        "a#": "a__",
        "a_": "a___",
        "é:": "é:",
        long: long[:240],
    }
    add = on("epoch_end")(lambda run: run.history[-1].update({key: place for place, key in enumerate(odd, run.epoch)}))
    run = recipe(flow.callback, add, epochs=1).fit(network(), DATA)
    run = recipe(flow.callback, add).resume(run, DATA, epochs=1)
    found = flow.read(run)
    assert {name: found[name] for name in odd.values()} == {
        name: [(1, place), (2, place + 1)] for place, name in enumerate(odd.values(), 1)
    }


@pytest.mark.usefixtures("database")
def test_a_deleted_experiment_is_refused():
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    made = client.create_experiment("gone")
    client.delete_experiment(made)
    with pytest.raises(SettingsError, match=f"must not be that of a deleted .*restore --experiment-id {made}"):
        recipe(MLflow(experiment="gone")).fit(network(), DATA)


def test_a_relative_database_is_in_the_folder_where_the_training_is(database, tmp_path, monkeypatch):
    recipe(MLflow(uri=database, artifacts=False), epochs=1).fit(network(), DATA)
    shutil.copy("mlflow.db", tmp_path)
    before = Path("mlflow.db").read_bytes()
    place = Path.cwd()
    monkeypatch.chdir(tmp_path)
    run = recipe(MLflow(uri=database, artifacts=False), epochs=1).fit(network(), DATA)
    assert (place / "mlflow.db").read_bytes() == before
    assert run.memories["MLflow.0"]["run_id"].encode() in Path("mlflow.db").read_bytes()


def test_values_that_differ_after_a_resume_are_sent_with_a_warning(database, tmp_path):
    flow = Flow(database)
    keep = on("epoch_end")(lambda run: save(run, tmp_path / "kept") if run.epoch == 1 else None)
    recipe(flow.callback, keep, epochs=3).fit(network(), DATA)
    run = load(tmp_path / "kept")
    run.model.parameters.vector = 2 * run.model.parameters.vector
    with pytest.warns(UserWarning, match="'loss' of epoch 2 was sent as .* deletes no value, and shows both"):
        run = recipe(flow.callback, keep, epochs=3).resume(run, DATA)
    losses = flow.read(run)["loss"]
    assert sorted(step for step, _ in losses) == [1, 2, 2, 3, 3]
    assert {(row["epoch"], row["loss"]) for row in run.history} <= {*losses}


def test_a_run_that_mlflow_has_lost_begins_again_with_all_rows(database):
    flow = Flow(database)
    run = recipe(flow.callback, epochs=2).fit(network(), DATA)
    run.memories["MLflow.0"]["run_id"] = "f" * 32
    with pytest.warns(UserWarning, match=f"run {'f' * 32} is not at 'sqlite:///mlflow.db', so a new one begins"):
        run = recipe(flow.callback).resume(run, DATA)
    assert flow.read(run) == expected(run, flow)


@pytest.mark.parametrize("arrives", [False, True])
def test_rows_are_sent_later_if_mlflow_does_not_answer(database, monkeypatch, arrives):
    from mlflow import MlflowClient

    flow, log, down = Flow(database), MlflowClient.log_batch, [False]

    def unreliable(self, run_id, metrics=(), **more):
        if arrives or not down[0]:
            log(self, run_id, metrics, **more)
        if down[0]:
            raise ConnectionError("no answer")

    monkeypatch.setattr(MlflowClient, "log_batch", unreliable)
    switch = on("batch_begin")(lambda run: down.append(down.pop() ^ (run.epoch in (1, 3))))
    with pytest.warns(UserWarning, match="rows up to epoch 2 could not be sent, and are sent later: .*no ans") as told:
        run = recipe(flow.callback, switch).fit(network(), DATA)
    assert sum("sent later" in str(each.message) for each in told) == 1  # SQLAlchemy warns too, of what MLflow uses
    assert flow.read(run) == expected(run, flow)


def test_a_resume_sends_what_could_not_be_sent_at_the_end(database, monkeypatch):
    from mlflow import MlflowClient

    flow = Flow(database)

    def fail(_client, _run_id, metrics=(), **_more):
        if metrics:
            raise ConnectionError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        with (
            pytest.warns(UserWarning, match="are sent later"),
            pytest.raises(ConnectionError, match="no ans") as caught,
        ):
            recipe(flow.callback).fit(network(), DATA)
    run = caught.value.run
    assert (run.epoch, flow.read(run)) == (5, {})
    recipe(flow.callback).resume(run, DATA)
    assert flow.read(run) == expected(run, flow)


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for callback, message in (
        (TensorBoard(folder=tmp_path / "file"), "TensorBoard: setting 'folder' must be a folder that can be written"),
        (
            TensorBoard(folder=tmp_path, name="a\0b"),
            "TensorBoard: setting 'folder' must be a folder that can be written",
        ),
        (TensorBoard(folder=tmp_path, name="../up"), "setting 'name' must be that of a folder inside .* got '../up'"),
        (TensorBoard(folder=tmp_path, name=str(tmp_path)), "setting 'name' must be that of a folder inside"),
        (TensorBoard(folder=tmp_path, name="."), "setting 'name' must be that of a folder inside"),
        (
            MLflow(uri="nowhere://mlflow.db"),
            "settings 'uri' and 'experiment' must say where MLflow can store; got 'now",
        ),
    ):
        model = network()
        before = model.parameters.vector.copy()
        with pytest.raises(SettingsError, match=message):
            recipe(callback).fit(model, DATA)
        assert np.array_equal(model.parameters.vector, before)


@pytest.mark.parametrize(
    ("callback", "module", "message"),
    [
        (
            TensorBoard(folder="board"),
            "tensorboardX",
            "TensorBoard needs tensorboardX: pip install tensorboardX crc32c",
        ),
        (MLflow(), "mlflow", "MLflow needs mlflow: pip install mlflow-skinny sqlalchemy alembic"),
        (MLflow(), "alembic", "MLflow needs alembic: pip install mlflow-skinny sqlalchemy alembic"),
    ],
)
def test_a_package_that_is_not_installed_is_named(callback, module, message, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=message):
        recipe(callback).fit(network(), DATA)
