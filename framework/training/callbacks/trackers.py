"""Trackers: callbacks that send each row of the history to TensorBoard or MLflow, which draw and compare runs.

On a resume, rows that the tracker lacks are sent, and those that it has are not doubled.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from framework.base.arrays import Array
from framework.base.errors import FrameworkError, SettingsError, shorten
from framework.base.extras import load_module
from framework.base.files import require_writable
from framework.base.settings.component import Component, NonNegative
from framework.base.settings.messages import warn
from framework.training.callbacks.reporting import Sender, text_of_path
from framework.training.checkpoint import save
from framework.training.runs.run import Run

_LARGEST = float(np.finfo(np.float64).max)


class _Tracker(Sender):
    """The base of trackers: rows are sent at most once in ``every`` seconds, and at the end."""

    every: NonNegative = 1.0

    def on_epoch_end(self, run: Run) -> None:
        """Send the rows that are not sent yet, unless the last ones were sent a moment ago."""
        live, now = run.live(self), time.monotonic()
        if now - live["last"] >= self.every:
            live["last"] = now
            super().on_epoch_end(run)

    def _moments(self, run: Run, rows: list[dict[str, Any]]) -> Array:
        """Return the moment at which each epoch ended, in seconds; that of the last one sent is ``live["moment"]``."""
        seconds = np.array([row.get("seconds", 0.0) for row in rows])
        begun: float = run.live(self).setdefault("moment", time.time() - seconds.sum())
        return begun + np.cumsum(seconds)


class TensorBoard(_Tracker):
    """Write each row of the history where ``tensorboard --logdir FOLDER`` shows it.

    A column is a scalar under its name, at the step of its epoch. TensorBoard keeps scalars as float32. The settings of
    the run are shown as text. Each run has a folder of its own inside ``folder``, so that TensorBoard compares them. A
    resumed run continues in its folder: it writes all rows into a new file, which replaces the older ones in
    TensorBoard.

    Attributes:
        folder: The folder; it is made if it is missing.
        name: The name of the run, and of its folder inside ``folder``; None is the time at which it begins.
        every: How many seconds lie between two writes, at least.

    Raises:
        UsageError: tensorboardX is not installed; it is in the extra ``tensorboard``.
        SettingsError: The folder cannot be written, holds another run of this name, or the name leads out of it; before
            training starts.
        OSError: A file cannot be written, for instance because the disk is full.

    Example:
        >>> TensorBoard("runs", name="first").folder
        'runs'

    Source:
        https://tensorboardx.readthedocs.io
    """

    folder: Annotated[str, BeforeValidator(text_of_path)]
    name: str | None = None

    def require(self, run: Run) -> None:
        """Check that tensorboardX is installed, make the folder, and refuse that of another run."""
        load_module("tensorboardX", "TensorBoard")
        own, name = Path(self.folder, self.name or ""), Path(self.name or "run")
        if name.is_absolute() or not name.parts or ".." in name.parts:
            raise SettingsError(
                f"must be that of a folder inside {self.folder!r}", name="TensorBoard: setting 'name'", got=self.name
            )
        require_writable(own, "TensorBoard", self.folder)
        if self.name and not all(path.suffix == f".{run.identity}" for path in own.glob("events.out.tfevents*")):
            raise SettingsError(
                f"TensorBoard: setting 'name' must not be that of another run; got {self.name!r}, which is in "
                f"{self.folder!r} already; leave it out, and the time is the name"
            )

    def _open(self, run: Run) -> None:
        """Begin a file, whose first event takes back those of older files."""
        files, events, summaries, texts = (
            load_module(f"tensorboardX.{name}", "TensorBoard")
            for name in ("event_file_writer", "proto.event_pb2", "proto.summary_pb2", "summary")
        )
        begun = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{run.identity[:4]}"
        own = Path(self.folder, self.name or run.memory(self).setdefault("name", begun)).absolute()
        own.mkdir(exist_ok=True)
        name = f".{time.time_ns()}.{run.identity}"  # tensorboardX's own name has whole seconds
        writer = files.EventsWriter(str(own / "events"), name)
        run.live(self).update(writer=writer, event=events.Event, summary=summaries.Summary)
        start = events.SessionLog(status=events.SessionLog.START)
        writer.write_event(events.Event(wall_time=time.time(), session_log=start))
        settings = {name: text.replace("|", "\\|") for name, text in settings_of(run).items()}
        rows = ["| setting | value |", "|---|---|", *(f"| {name} | `{text}` |" for name, text in settings.items())]
        table = texts.text("settings", "\n".join(rows))
        writer.write_event(events.Event(wall_time=time.time(), summary=table))
        writer.flush()

    def _send(self, run: Run, rows: list[dict[str, Any]]) -> None:
        live, moments = run.live(self), self._moments(run, rows)
        event, summary, value = live["event"], live["summary"], live["summary"].Value
        for row, moment in zip(rows, moments.tolist(), strict=True):
            values = [value(tag=key, simple_value=number) for key, number in row.items() if key != "epoch"]
            live["writer"].write_event(event(wall_time=moment, step=row["epoch"], summary=summary(value=values)))
        live["writer"].flush()
        live["moment"] = moments[-1]

    def _close(self, run: Run) -> None:
        run.live(self)["writer"].close()


class MLflow(_Tracker):
    """Send each row of the history to MLflow, with the settings as parameters and the model as artifacts.

    A column is a metric under its name, at the step of its epoch, in float64. At the end the model's JSON is stored as
    ``model.json`` and the run as ``checkpoint.safetensors``; the status becomes FINISHED, KILLED after Ctrl-C or
    SIGTERM, or FAILED after an error.

    A resumed run continues the same run of MLflow. MLflow deletes no value: where epochs were sent, and then made again
    from an older checkpoint, equal values are not sent twice, others are, with a warning, and ``seconds`` stay as they
    were. If MLflow cannot be reached during training, a warning says so, and the rows are sent with the next ones;
    at the end that is an error.

    Characters that MLflow refuses in a name become underscores.

    Attributes:
        uri: Where MLflow stores: a database, ``sqlite:///mlflow.db``, or a server, ``http://host:5000``.
        experiment: The experiment; it is made if it is missing.
        name: The name of the run; None lets MLflow choose one.
        artifacts: Whether the model's JSON and the checkpoint are stored.
        every: How many seconds lie between two calls, at least. A call costs some 20 ms, and 0.1 ms for each value.

    Raises:
        UsageError: MLflow is not installed; it is in the extra ``mlflow``.
        SettingsError: MLflow cannot store there; before training starts.

    Example:
        >>> MLflow(experiment="digits").uri
        'sqlite:///mlflow.db'

    Source:
        https://mlflow.org/docs/latest/ml/tracking
    """

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "Default"
    name: str | None = None
    artifacts: bool = True

    def require(self, run: Run) -> None:
        """Check that MLflow is installed and can store."""
        self._experiment()

    def on_epoch_end(self, run: Run) -> None:
        """Send the rows since the last time, when ``every`` seconds have passed; what fails is sent later."""
        try:
            super().on_epoch_end(run)
        except Exception as error:  # noqa: BLE001 (of any database and any network)
            if not run.live(self).get("failed"):
                run.live(self)["failed"] = True
                warn(f"MLflow: the rows up to epoch {run.epoch} could not be sent, and are sent later: {error!r}")

    @property
    def _place(self) -> str:
        """The URI with the whole path of a file: MLflow keeps what it opened under a URI, wherever that was."""
        start, path = self.uri[:10], self.uri[10:]
        inside = start == "sqlite:///" and path and not path.startswith((":memory:", "file:"))
        return f"{start}{Path(path).absolute()}" if inside else self.uri

    def _client(self) -> Any:
        mlflow = load_module("mlflow", "MLflow")
        if self.uri.startswith("sqlite"):
            load_module("sqlalchemy", "MLflow")
            load_module("alembic", "MLflow")
        return mlflow.MlflowClient(tracking_uri=self._place)

    def _experiment(self) -> str:
        """Return the id of the experiment."""
        try:
            client = self._client()
            experiment = client.get_experiment_by_name(self.experiment)
            if experiment is None:
                return str(client.create_experiment(self.experiment))
        except FrameworkError:
            raise
        except Exception as error:
            raise SettingsError(
                f"MLflow: settings 'uri' and 'experiment' must say where MLflow can store; got {self.uri!r} and "
                f"{self.experiment!r}: {error}"
            ) from error
        if experiment.lifecycle_stage != "active":
            raise SettingsError(
                f"MLflow: setting 'experiment' must not be that of a deleted one; got {self.experiment!r}; give "
                f"another name, or restore it: mlflow experiments restore --experiment-id {experiment.experiment_id}"
            )
        return str(experiment.experiment_id)

    def _open(self, run: Run) -> None:
        """Continue the run of MLflow that this run has, or make one."""
        memory, client = run.memory(self), self._client()
        run.live(self).update(client=client, known={}, names={})
        if "run_id" in memory:
            try:
                known: dict[str, dict[int, list[float | str]]] = {}
                for key in client.get_run(memory["run_id"]).data.metrics:
                    for metric in client.get_metric_history(memory["run_id"], key):
                        known.setdefault(key, {}).setdefault(metric.step, []).append(_as_stored(metric.value))
                run.live(self)["known"] = known
                client.update_run(memory["run_id"], status="RUNNING")
                return
            except Exception as error:  # noqa: BLE001 (MLflow has one class for all)
                warn(f"MLflow: run {memory['run_id']} is not at {self.uri!r}, so a new one begins: {error}")
        made = client.create_run(self._experiment(), run_name=self.name)
        parameter = load_module("mlflow.entities", "MLflow").Param
        parameters = [parameter(_name(key), value) for key, value in settings_of(run).items()]
        for start in range(0, len(parameters), 100):  # MLflow takes no more at once
            client.log_batch(made.info.run_id, params=parameters[start : start + 100])
        memory["run_id"] = made.info.run_id

    def _send(self, run: Run, rows: list[dict[str, Any]]) -> None:
        live, moments = run.live(self), self._moments(run, rows)
        metric = load_module("mlflow.entities", "MLflow").Metric
        metrics = [
            metric(self._name(run, key), value, int(1000 * moment), row["epoch"])
            for row, moment in zip(rows, moments.tolist(), strict=True)
            for key, value in self._new(run, row)
        ]
        for start in range(0, len(metrics), 1000):  # MLflow takes no more at once
            live["client"].log_batch(run.memory(self)["run_id"], metrics=metrics[start : start + 1000])
        live["moment"] = moments[-1]

    def _name(self, run: Run, key: str) -> str:
        """Return the name of a column's metric, which no other column has."""
        names: dict[str, str] = run.live(self)["names"]
        if key not in names:
            name = _name(key)
            while name in names.values():
                name += "_"
            names[key] = name
        return names[key]

    def _new(self, run: Run, row: dict[str, Any]) -> Iterator[tuple[str, float]]:
        """Give the values of a row that MLflow does not have."""
        live, step = run.live(self), row["epoch"]
        for key, value in row.items():
            if key == "epoch":
                continue
            before = live["known"].get(self._name(run, key), {}).get(step, ())
            if before and (key == "seconds" or _as_stored(value) in before):
                continue
            if before and not live.get("differs"):
                live["differs"] = True
                warn(
                    f"MLflow: {key!r} of epoch {step} was sent as {before[-1]!r} before and is {value!r} now; MLflow "
                    "deletes no value, and shows both"
                )
            yield key, value

    def _close(self, run: Run) -> None:
        """Store the artifacts, and say how the run ended."""
        client, run_id, error = run.live(self)["client"], run.memory(self)["run_id"], run.error
        try:
            if self.artifacts:
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        Path(folder, "model.json").write_text(run.model.to_json(indent=2), encoding="utf-8")
                        save(run, Path(folder, "checkpoint.safetensors"))
                    except FrameworkError as problem:  # a plain function among the layers, or numbers not finite
                        warn(f"MLflow: the model cannot be stored: {problem}")
                    client.log_artifacts(run_id, folder)
        finally:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            client.set_terminated(run_id, "FINISHED" if error is None else "KILLED" if killed else "FAILED")


def _name(key: str) -> str:
    """Return a name that MLflow takes, which is also that of a file: what it refuses becomes an underscore.

    Example:
        >>> _name("loss (test)"), _name("test/loss"), _name("../loss")
        ('loss _test_', 'test/loss', '__/loss')
    """
    parts = re.sub(r"[^\w/.\- :]", "_", key)[:240].split("/")
    return "/".join(segment.replace(".", "_") if segment in (".", "..") else segment or "_" for segment in parts)


def _as_stored(value: float) -> float | str:
    """Return a value as it is compared with what MLflow stores: infinity as the largest number."""
    return min(max(value, -_LARGEST), _LARGEST) if value == value else "nan"  # noqa: PLR0124 (only NaN is so)


def settings_of(run: Run) -> dict[str, str]:
    """Return the settings of a training as short texts by name, those of its components after a dot.

    Example:
        >>> from framework import HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5))
        >>> found = settings_of(trainer.fit(Neuron(1), ([[1.0]], [2.0])))
        >>> found["optimizer"], found["optimizer.learning_rate"], found["batch_size"], found["model"]
        ('SGDOptimizer', '0.5', '32', 'Neuron(inputs=1)')
    """
    model = {"model": repr(run.model), "parameters": str(run.model.parameters.vector.size)}
    parts = {**_flatten_setting("optimizer", run.optimizer.recipe), **_flatten_setting("loss", run.loss_function)}
    return {name: shorten(text) for name, text in {**model, **run.recipe, **parts}.items()}


def _flatten_setting(name: str, value: Any) -> dict[str, str]:
    """Return a setting by its name; of a component, its class and each of its settings."""
    if not isinstance(value, Component):
        return {name: str(value)}
    texts = {name: type(value).__name__}
    for setting, inner in value.settings().items():
        if inner not in (None, ()):
            texts |= _flatten_setting(f"{name}.{setting}", inner)
    return texts
