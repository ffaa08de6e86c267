"""The document: everything in a Run except its arrays, as one validated JSON object; and how a run is taken apart."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from typing import Any, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, create_model

from framework.base.arrays import Array
from framework.base.errors import CheckpointError, DivergedError, UsageError
from framework.base.settings.component import Component, parse_json
from framework.base.shapes import is_known
from framework.base.trees import map_leaves
from framework.formulas.losses import Loss
from framework.models import Model
from framework.models.parameters import Columns
from framework.preprocessing.fitted import FittedPreprocess
from framework.training.optimizers import Optimizer
from framework.training.runs.divergence import not_finite
from framework.training.runs.history import History
from framework.training.runs.memory import Memory, pack, unpack
from framework.training.runs.run import Progress, Run

_Object = dict[str, Any]
_Form = tuple[tuple[int, ...], str]


_STRICT = ConfigDict(extra="forbid", strict=True)
_HINTS = get_type_hints(Progress, include_extras=True)
_FIELDS: Any = {field.name: (_HINTS[field.name], ...) for field in fields(Progress)}
_FIELDS["read"] = (_HINTS["read"], Progress.read)  # files of runs without a stream do not have it
_STORED_PROGRESS = create_model("Progress", __config__=_STRICT, **_FIELDS)
"""The fields of Progress as a model that requires each of the others."""


class Document(BaseModel):
    """Everything in a checkpoint except its arrays. Unknown or missing names and wrong kinds are refused."""

    model_config = _STRICT

    model: _Object
    frozen: list[str]
    columns: list[str] | None
    target_columns: list[str] | None
    preprocess: _Object | None = None  # files of models without one do not have it
    shape: list[int] | _Object | None = None  # that of a sample; left out where it is the model's input_shape
    loss_function: _Object
    optimizer: _Object
    optimizer_steps: NonNegativeInt
    optimizer_rate: float
    optimizer_length: NonNegativeInt | None = None  # left out where the schedule has a length of its own
    progress: Progress
    history: list[str]
    memories: dict[str, _Object]

    @classmethod
    def from_text(cls, text: str) -> Document:
        """Read and validate.

        Raises:
            CheckpointError: The text is not such a document; names the first thing that is wrong.
        """
        data = parse_json(text, "its document", CheckpointError)
        try:
            if isinstance(data, dict) and "progress" in data:
                data["progress"] = Progress(**dict(_STORED_PROGRESS.model_validate(data["progress"])))
            return cls.model_validate(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise CheckpointError(f"its document: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def take_apart(run: Run) -> tuple[dict[str, Array], str]:
    """Return a run's arrays by name, and its document.

    Raises:
        UsageError: The run is in the middle of a step, or later callbacks have not seen the end of it yet.
        DivergedError: A parameter is not finite, so that no training could resume from the file.
        CheckpointError: Something cannot be written: a setting that is a function, a memory that is no JSON value.
    """
    if run.in_step:
        raise UsageError("the step is not finished", where="save", advice="save in on_batch_end or on_epoch_end")
    if waiting := [repr(callback) for callback in run.waiting if not callback.writes]:
        raise UsageError(
            f"save: {run.hook} of {', '.join(waiting)} has not been called yet, and would be lost; write "
            "'writes = True' in your callback, or put it last in the trainer's callbacks"
        )
    if not run.consistent:
        raise UsageError("save: the run was interrupted in the middle of an update; load the last checkpoint")
    if bad := not_finite(run.model.parameters):
        raise DivergedError(
            f"save: {', '.join(bad)} of the model must be finite, or no training could resume from the file; nothing "
            "was written. Resume from an earlier checkpoint, or start again, with a lower learning rate"
        )
    optimizer = run.optimizer
    groups = {"parameters": run.model.parameters, "buffers": run.model.buffers, "optimizer": optimizer.memory}
    arrays = {f"{group}.{name}": array for group, items in groups.items() for name, array in items.items()}
    try:
        run.require_savable()
        document = {
            "model": _json(run.model),
            "frozen": list(run.model.parameters.frozen),
            "columns": run.model.columns,
            "target_columns": run.model.target_columns,
            "loss_function": _json(run.loss_function),
            "optimizer": _json(optimizer.recipe),
            "optimizer_steps": optimizer.steps,
            "optimizer_rate": optimizer.last_rate,
            "progress": asdict(run.progress),
            "history": _pack_history(run.history, arrays),
            "memories": {name: pack(dict(m), f"memory.{name}", arrays) for name, m in run.memories.items()},
        }
        if optimizer.length is not None:
            document["optimizer_length"] = optimizer.length
        if run.read == Progress.read:
            del document["progress"]["read"]
        if run.model.preprocess is not None:
            document["preprocess"] = _json(run.model.preprocess)
        if (shape := run.model.known_shape) != run.model.input_shape and is_known(shape):
            document["shape"] = shape
        text = json.dumps(document)
        Document.from_text(text)
    except (ValueError, TypeError, RecursionError) as error:  # SettingsError among them
        raise CheckpointError(f"the run cannot be saved: {error}") from error
    return arrays, text


def _json(component: Component) -> Any:
    """Return a component as JSON, from which it can be made again."""
    text = component.to_json()
    again = Component.from_json(text)
    if again.to_json() != text:
        raise CheckpointError(f"a setting of {component!r} comes back from JSON as another value")
    if name := _find_redefined(component, again):
        raise CheckpointError(
            f"the class {name} has been defined again since this one was made, and the file would be loaded with the "
            "newer formula; make the model again and train it, or define the class once"
        )
    return json.loads(text)


def _find_redefined(one: Any, other: Any) -> str | None:
    """Return the name of the first class of a component, or of one in its settings, that is another one."""
    if isinstance(one, tuple):
        return next(filter(None, map(_find_redefined, one, other)), None)
    if not isinstance(one, Component):
        return None
    if type(one) is not type(other):
        return type(one).__name__
    return _find_redefined(tuple(one.settings().values()), tuple(other.settings().values()))


def _pack_history(history: History, arrays: dict[str, Array]) -> list[str]:
    """Return the names of a history's columns, and put the columns into ``arrays``.

    A column of equal numbers is saved as one of them, and epochs 1, 2, 3, ... are left out. The last column is saved
    whole: it has the number of rows.
    """
    columns = history.columns()
    for index, (name, column) in enumerate(columns.items()):
        last = index == len(columns) - 1
        if last or name != "epoch" or not np.array_equal(column, _epochs(len(column))):
            bits = column.view(np.uint64)
            same = bits[0] == bits[-1] and (bits == bits[0]).all()
            arrays[f"history.{index}"] = column[:1] if same and not last else column
    return [*columns]


def history_of(names: list[str], arrays: dict[str, Array]) -> History:
    """Build the history again from the names of its columns.

    Raises:
        CheckpointError: The columns are not those that the document names.
    """
    places = [f"history.{index}" for index in range(len(names))]
    stored = {key: array for key, array in arrays.items() if key.startswith("history.")}
    rows = stored[places[-1]].size if names and places[-1] in stored else 0
    implied = [_epochs(rows if name == "epoch" else 0) for name in names]
    columns = [*map(stored.get, places, implied)]
    named = len(set(names)) == len(names) and stored.keys() <= set(places) and bool(rows) == bool(names)
    if not named or any(a.dtype != np.float64 or a.shape not in ((rows,), (1,)) for a in columns):
        raise CheckpointError("the columns of its history are not those of its document")
    return History.from_columns({name: np.broadcast_to(a, rows) for name, a in zip(names, columns, strict=True)}, rows)


def _epochs(rows: int) -> Array:
    return np.arange(1.0, rows + 1.0)


def rebuild_run(arrays: dict[str, Array], text: str) -> Run:
    """Build the run again.

    Raises:
        CheckpointError: A class is not defined, or the arrays are not those that the model and the optimizer have.
    """
    document = Document.from_text(text)
    # The model comes last: no number of it is made while something else may still be refused.
    history = history_of(document.history, arrays)
    progress, epochs = document.progress, len(history)
    finished = document.optimizer_steps == progress.step and epochs == progress.epoch
    begun = progress.batch <= progress.batches or (progress.layout[0] == 0 == epochs)  # a stream of unknown length
    if not (finished and begun) or (progress.batch and not progress.epoch_begun):  # a resume would never end
        raise CheckpointError("its counts do not agree: it does not hold a run between two steps")
    memories = {name: Memory(name, unpack(memory, arrays)) for name, memory in document.memories.items()}
    optimizer, loss = _component(Optimizer, document.optimizer), _component(Loss, document.loss_function)
    model = model_of(document, arrays, optimizer.memory)
    run = Run(model, optimizer.bind(model), loss, progress.seed)
    bound = run.optimizer
    for name, array in bound.memory.items():
        array[...] = arrays[f"optimizer.{name}"]
    bound.steps, bound.last_rate = document.optimizer_steps, document.optimizer_rate
    bound.length = document.optimizer_length
    run.progress = progress
    run.history, run.memories = history, memories
    return run


def model_of(document: Document, arrays: dict[str, Array], memory: tuple[str, ...] | None = None) -> Model:
    """Build the model; its layout is compared with the arrays before any number is made.

    Args:
        document: What the file says.
        arrays: What the file holds.
        memory: What an optimizer remembers, to be compared too; None where only the model is wanted.
    """
    model: Model = _component(Model, document.model)
    layout, dtype = model.layout(), model.dtype
    wanted: dict[str, _Form] = {f"parameters.{name}": (shape, dtype) for name, shape in layout.items()}
    if memory is None:
        _require_shapes(wanted, arrays, "parameters.")
    else:
        flat: _Form = ((sum(map(math.prod, layout.values())),), dtype)
        _require_shapes(wanted | {f"optimizer.{name}": flat for name in memory}, arrays, "parameters.", "optimizer.")
    if unknown := sorted(set(document.frozen) - set(layout)):
        raise CheckpointError(f"it freezes the parameter {unknown[0]!r}, which the model does not have")
    state = model._built(draw=False)
    buffers = {name: (array.shape, array.dtype.name) for name, array in model.buffers.items()}
    _require_shapes({f"buffers.{name}": form for name, form in buffers.items()}, arrays, "buffers.")
    for name, view in state.parameters.items():
        view[...] = arrays[f"parameters.{name}"]
    values = {name: arrays[f"buffers.{name}"] for name in buffers}
    inputs, targets = (None if names is None else tuple(names) for names in (document.columns, document.target_columns))
    preprocess = None if document.preprocess is None else _component(FittedPreprocess, document.preprocess)
    shape: Any = document.shape
    if shape is not None:
        shape = map_leaves(lambda sizes: tuple(sizes) if isinstance(sizes, list) else (None,), shape)
        if not (is_known(shape) and model.takes(shape)):
            raise CheckpointError(f"its model does not take samples of its shape {document.shape}")
    columns = Columns(inputs, targets, preprocess, trained=document.progress.step > 0, shape=shape)
    state.fill(state.parameters.vector, values, document.frozen, columns)
    return model


def _component(kind: Any, data: _Object) -> Any:
    return kind.from_json(json.dumps(data))


def _require_shapes(wanted: dict[str, _Form], arrays: dict[str, Array], *groups: str) -> None:
    """Compare what the built object has with what the file has, and list every difference."""
    forms = {name: (a.shape, a.dtype.name) for name, a in arrays.items() if name.startswith(groups)}
    lines = [
        f"{name}: {_form(wanted.get(name))} here, {_form(forms.get(name))} in the file"
        for name in dict.fromkeys([*wanted, *forms])
        if wanted.get(name) != forms.get(name)
    ]
    if lines:
        raise CheckpointError("\n".join(["its arrays are not those of its classes as they are defined here:", *lines]))


def _form(form: _Form | None) -> str:
    return "nothing" if form is None else f"{form[1]} {form[0]}"
