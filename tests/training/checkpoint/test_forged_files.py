"""A right checksum over a document of a forger: the classes, counts, arrays and references in it are checked."""

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from checkpoint_pieces import BUILDING, DATA, RUN, TAGS, TRAINER, changed, forged, forgery_refused, names, opened

from framework import (
    BatchNorm,
    CheckpointError,
    Component,
    Dense,
    Loss,
    Model,
    Optimizer,
    ReLU,
    Sequential,
    Sigmoid,
    describe,
    load,
)
from framework.base import ResumeWarning
from framework.base.lazy import families, import_public
from framework.training.checkpoint.document import take_apart


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("whole") / "run.safetensors")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


COUNTS = {
    "steps": {"step": 3},
    "updates": {"optimizer_steps": 3},
    "epochs": {"epoch": 3},
    "a batch of an epoch that has not begun": {"batch": 1},
    "a batch beyond the epoch, with which a resume would not end": {"batch": 10**20, "epoch_begun": True},
}


@pytest.mark.parametrize("what", COUNTS)
def test_counts_that_do_not_agree_are_refused(whole, what):
    arrays, document = whole
    assert "counts do not agree" in forgery_refused(forged(arrays, changed(document, **COUNTS[what])), RUN)["load"]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: repr(tag[:20]))
def test_a_class_that_the_program_has_not_defined_is_refused_and_not_imported(whole, tag):
    arrays, document = whole
    for place in ("model", "optimizer", "loss_function"):
        doors = BUILDING if place == "model" else RUN
        forgery_refused(forged(arrays, document | {place: document[place] | {"type": tag}}), doors)
        forgery_refused(forged(arrays, document | {place: {"type": tag}}), doors)
    layers = [{"type": "Residual", "block": {"type": tag}}]
    forgery_refused(forged(arrays, document | {"model": {"type": "Sequential", "layers": layers}}), BUILDING)
    assert not {"this", "antigravity"} & set(sys.modules)


@pytest.mark.share(1 / 3)
def test_a_component_of_the_wrong_kind_is_refused(whole):
    arrays, document = whole
    made = {name: import_public(name) for name in families()}
    components = {name: cls for name, cls in made.items() if isinstance(cls, type) and issubclass(cls, Component)}
    assert len(components) > 50
    for name, cls in components.items():
        for place, kind in (("model", Model), ("optimizer", Optimizer), ("loss_function", Loss)):
            for settings in ({}, document[place]):
                Path("forged").write_bytes(forged(arrays, document | {place: settings | {"type": name}}))
                try:
                    load("forged")
                except CheckpointError:
                    continue
                assert issubclass(cls, kind)  # another optimizer may remember the same
    assert names() == ["forged"]


def test_a_description_does_not_command_the_terminal(whole):
    arrays, document = whole
    Path("forged").write_bytes(
        forged(arrays | {"x\x1b[2J": np.zeros(1)}, changed(document, engine="\x1b]0;title\x07\u202e"))
    )
    text = describe("forged")
    assert "engine: \\x1b]0;title\\x07\\u202e" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_what_a_resume_tells_does_not_command_the_terminal(whole):
    arrays, document = whole
    recipe = document["progress"]["recipe"] | {"data": "\x1b]0;title\x07", "\x1b[2J": "\x1b[31m"}
    Path("forged").write_bytes(forged(arrays, changed(document, recipe=recipe)))
    with pytest.warns(ResumeWarning) as caught:
        TRAINER.resume("forged", DATA, DATA)
    text = str(caught[0].message)
    assert r"data: was \x1b]0;title\x07, now" in text
    assert all(line.isprintable() for line in text.splitlines())


REFERENCES = [
    {"$array": "nothing"},
    {"$array": "../run.safetensors"},
    {"$array": 1},
    {"$array": {"$array": "parameters.0.bias"}},
    {"$array": "parameters.0.bias", "x": 1},
    {"$scalar": "parameters.0.bias"},
    {"$tuple": 1},
    {"$tuple": {"x": 1}},
    {"$dict": [1]},
    {"$code": "print()"},
    {"$array": "parameters.0.bias", "$scalar": "parameters.0.bias"},
]


@pytest.mark.parametrize("reference", REFERENCES, ids=repr)
def test_a_reference_to_what_is_not_there_is_refused(whole, reference):
    arrays, document = whole
    for place in ({"memories": {"x": {"x": reference}}}, {"memories": {"x": reference}}):
        forgery_refused(forged(arrays, document | place), RUN)
    forgery_refused(forged(arrays, document | {"history": [reference]}), RUN)


@pytest.mark.parametrize("names", [["nothing"], ["0.weights", "nothing"], [""], ["parameters.0.weights"]])
def test_frozen_parameters_that_the_model_does_not_have_are_refused(whole, names):
    arrays, document = whole
    forgery_refused(forged(arrays, document | {"frozen": names}), BUILDING)


def test_arrays_of_other_shapes_and_dtypes_are_refused_with_every_difference(whole):
    arrays, document = whole
    kept = {name: array for name, array in arrays.items() if name != "optimizer.gradient_mean"}
    changed = kept | {
        "parameters.0.weights": arrays["parameters.0.weights"].T,
        "parameters.3.bias": arrays["parameters.3.bias"].astype("float32"),
        "optimizer.other": np.zeros(2),
    }
    text = forgery_refused(forged(changed, document), BUILDING)["load"]
    assert "parameters.0.weights: float64 (2, 3) here, float64 (3, 2) in the file" in text
    assert "parameters.3.bias: float64 (1,) here, float32 (1,) in the file" in text
    assert "optimizer.other: nothing here, float64 (2,) in the file" in text


def test_every_array_that_is_missing_added_or_changed_is_refused(whole):
    arrays, document = whole
    for name in [name for name in arrays if not name.startswith("memory.")]:
        doors = RUN if name.startswith(("optimizer.", "history.")) else BUILDING
        group = name.partition(".")[0]
        wrong = [arrays[name][..., None], arrays[name].astype("float32"), arrays[name].astype("int64"), np.zeros(0)]
        for files in (
            {other: array for other, array in arrays.items() if other != name},
            arrays | {f"{group}.more": np.zeros(3)},
            *({**arrays, name: array} for array in wrong),
        ):
            assert group in forgery_refused(forged(files, document), doors)["load"]


HUGE = {
    "one layer": {"type": "Dense", "inputs": 10**12, "units": 10**12, "activation": {"type": "ReLU"}},
    "beyond 64 bits": {"type": "Dense", "inputs": 2, "units": 10**400},
    "normalization": {"type": "BatchNorm", "units": 10**12},
    "layers": {
        "type": "Sequential",
        "layers": [{"type": "Dense", "inputs": 2, "units": 10**12}, {"type": "BatchNorm", "units": 10**12}],
    },
}


@pytest.mark.parametrize("what", HUGE)
def test_a_huge_model_is_refused_before_it_is_made(whole, what):
    arrays, document = whole
    data = forged(arrays, document | {"model": HUGE[what]})
    tracemalloc.start()
    forgery_refused(data, BUILDING)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.fixture(scope="module")
def large():
    """The arrays and the document of a run of 16 MB."""
    run = TRAINER.fit(
        Sequential(Dense(2, 150_000, ReLU()), BatchNorm(150_000), Dense(150_000, 1, Sigmoid())), DATA, DATA
    )
    arrays, text = take_apart(run)
    return arrays, json.loads(text)


FORGERIES = {
    "another layout": lambda arrays, document: (arrays, document | {"model": HUGE["layers"]}),
    "no buffers": lambda arrays, document: (
        {name: array for name, array in arrays.items() if "running_mean" not in name},
        document,
    ),
    "another array": lambda arrays, document: (arrays | {"optimizer.more": np.zeros(3)}, document),
    "frozen": lambda arrays, document: (arrays, document | {"frozen": ["nothing"]}),
    "counts": lambda arrays, document: (arrays, changed(document, step=3)),
    "memory": lambda arrays, document: (arrays, document | {"memories": {"x": {"x": {"$array": "nothing"}}}}),
    "loss": lambda arrays, document: (arrays, document | {"loss_function": {"type": "nothing"}}),
}


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("what", FORGERIES)
def test_refusing_costs_at_most_twice_the_file_and_a_little(large, what):
    data = forged(*FORGERIES[what](*large))
    assert len(data) > 8_000_000
    Path("forged").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        load("forged")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(data) + 500_000
