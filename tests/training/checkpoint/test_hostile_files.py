"""A file with a right checksum that is no checkpoint inside is refused: nothing is run, imported or written."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_pieces import RUN, TAGS, ZEROS, changed, forged, forgery_refused, metadata, names, opened, sealed

from framework import load
from framework.training.checkpoint.file import VERSION


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("whole") / "run.safetensors")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def tensor(shape=(1,), offsets=(0, 8), dtype="F64"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EMPTY = metadata("{}")
DEEP = 100_000
HEADERS = {
    "no metadata": ({"sha256": ZEROS}, b""),
    "metadata null": ({"a": tensor((0,), (0, 0)) | {"sha256": ZEROS}, "__metadata__": None}, b""),
    "metadata a list": ({"a": tensor((0,), (0, 0)) | {"sha256": ZEROS}, "__metadata__": [1]}, b""),
    "metadata of numbers": ({"__metadata__": EMPTY | {"version": 1}}, b""),
    "no run": ({"__metadata__": {k: v for k, v in EMPTY.items() if k != "run"}}, b""),
    "a later version": ({"__metadata__": EMPTY | {"version": str(VERSION + 1)}}, b""),
    "another format": ({"__metadata__": EMPTY | {"format": "pt"}}, b""),
    "two checksums": ({"__metadata__": EMPTY, "a": {"sha256": ZEROS}}, b""),
    "a tensor that is a list": ({"__metadata__": EMPTY, "a": []}, b""),
    "a tensor without a shape": ({"__metadata__": EMPTY, "a": {"dtype": "F64", "data_offsets": [0, 0]}}, b""),
    "negative offset": ({"__metadata__": EMPTY, "a": tensor(offsets=(-8, 0))}, bytes(8)),
    "offsets the wrong way": ({"__metadata__": EMPTY, "a": tensor(offsets=(8, 0))}, bytes(8)),
    "offset beyond the file": ({"__metadata__": EMPTY, "a": tensor(offsets=(0, 2**62))}, bytes(8)),
    "offset beyond 64 bits": ({"__metadata__": EMPTY, "a": tensor(offsets=(0, 2**64))}, bytes(8)),
    "overlapping": ({"__metadata__": EMPTY, "a": tensor(), "b": tensor()}, bytes(8)),
    "a gap": ({"__metadata__": EMPTY, "a": tensor(), "b": tensor(offsets=(16, 24))}, bytes(24)),
    "bytes of no tensor": ({"__metadata__": EMPTY, "a": tensor()}, bytes(9)),
    "shape and offsets differ": ({"__metadata__": EMPTY, "a": tensor((2,))}, bytes(8)),
    "huge shape": ({"__metadata__": EMPTY, "a": tensor((2**62, 8))}, bytes(8)),
    "huge shape of nothing": ({"__metadata__": EMPTY, "a": tensor((0, 2**62, 2**62), (0, 0))}, b""),
    "an axis beyond NumPy's": ({"__metadata__": EMPTY, "a": tensor((0, 2**63), (0, 0))}, b""),
    "more axes than NumPy's": ({"__metadata__": EMPTY, "a": tensor((1,) * 100)}, bytes(8)),
    "negative shape": ({"__metadata__": EMPTY, "a": tensor((-1,), (0, 0))}, b""),
    "fractional shape": ({"__metadata__": EMPTY, "a": tensor((1.5,))}, bytes(8)),
    "unknown dtype": ({"__metadata__": EMPTY, "a": tensor(dtype="object")}, bytes(8)),
    "a dtype that NumPy has not": ({"__metadata__": EMPTY, "a": tensor((4,), dtype="BF16")}, bytes(8)),
    "half bytes": ({"__metadata__": EMPTY, "a": tensor((16,), dtype="F4")}, bytes(8)),
    "a name twice": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'"},"a":1,"a":2}', b""),
    "deep": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'"},"a":' + b"[" * DEEP + b"]" * DEEP + b"}", b""),
    "deep and open": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'"},"a":' + b'{"a":' * DEEP, b""),
    "an endless number": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'"},"a":' + b"9" * 5000 + b"}", b""),
    "no UTF-8": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'"},"\xff\xfe":1}', b""),
    "half a surrogate": (b'{"__metadata__":{"sha256":"' + ZEROS.encode() + b'","\\ud800":""}}', b""),
    "no object": (b'["sha256":"' + ZEROS.encode() + b'"]', b""),
    "only the checksum": (b'"sha256":"' + ZEROS.encode() + b'"', b""),
}


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("kind", HEADERS)
def test_a_hostile_header_is_refused(kind):
    forgery_refused(sealed(*HEADERS[kind]))


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("length", [0, 1, 2**31, 2**32 + 8, 2**62, 2**63 - 8, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_wrong_header_length_is_refused(length):
    forgery_refused(struct.pack("<Q", length) + sealed({"__metadata__": EMPTY})[8:])


NAN, INF = float("nan"), float("inf")
VALUES = [None, True, -1, 0.5, 10**400, NAN, INF, "text", [], [[]], ["x"], {}, {"x": {}}, [None, 1, 2]]
TAKEN = {  # which of these values each field may have; the run's own must fit the rest of the document
    "frozen": [[]],
    "columns": [None, [], ["x"]],
    "target_columns": [None, [], ["x"]],
    "optimizer_rate": [-1, 0.5, NAN, INF],
    "seed": [10**400],
    "target_epoch": [10**400],
    "recipe": [{}],
    "batch_loss": [None, -1, 0.5, NAN, INF],
    "stop_reason": [None, "text"],
    "ended": [True],
    "engine": ["text"],
    "epoch_begun": [True],
    "sums": [{}],
    "seconds": [-1, 0.5, NAN, INF],
    "memories": [{}, {"x": {}}],
    "identity": ["text"],
}


def test_every_field_of_the_wrong_kind_is_refused(whole):
    arrays, document = whole
    for name in (*document, *document["progress"]):
        for value in VALUES:
            if repr(value) in map(repr, TAKEN.get(name, [])):
                Path("forged").write_bytes(forged(arrays, changed(document, **{name: value})))
                load("forged")
            else:
                forgery_refused(forged(arrays, changed(document, **{name: value})), RUN)


def test_a_shape_of_samples_that_the_model_does_not_take_is_refused(whole):
    arrays, document = whole
    for shape in ([], [None], [4, 2], [-4, 3], [True, 3], {"x": [3]}, {"x": {}}, [[3]], 3, "3"):
        forgery_refused(forged(arrays, document | {"shape": shape}), RUN)


def test_every_missing_field_and_every_unknown_one_is_refused(whole):
    arrays, document = whole
    progress = document["progress"]
    without = [document | {"progress": {k: v for k, v in progress.items() if k != name}} for name in progress]
    without += [{k: v for k, v in document.items() if k != name} for name in document]
    for name, text in zip([*progress, *document], without, strict=True):
        shown = forgery_refused(forged(arrays, text))
        assert all(name in line for line in shown.values())
    for other in (document | {"other": 1}, document | {"progress": progress | {"other": 1}}):
        assert "other" in forgery_refused(forged(arrays, other))["load"]


TEXTS = {
    "a name twice": ('"epoch":', '"epoch": 2, "epoch":'),
    "a name twice in the model": ('"units":', '"units": 3, "units":'),
    "deep memory": ('"memories": {', '"memories": {"x": {"x": ' + "[" * DEEP + "]" * DEEP + "}, "),
    "deep models": ('"model": {', '"model": {"type": "Residual", "block": ' * 2000 + "0" + "}" * 2000 + ', "y": {'),
    "cut off": ('"history"', ""),
    "endless digits": ('"epoch": ', '"epoch": ' + "1" * 5000),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_that_is_no_plain_json_is_refused(whole, what):
    arrays, document = whole
    text = json.dumps(document)
    assert TEXTS[what][0] in text
    forgery_refused(forged(arrays, text.replace(*TEXTS[what], 1)))


@pytest.mark.parametrize("depth", [30, 60, 120, 200, 240, 300, 480, 600, 900])
def test_nesting_is_taken_or_refused(whole, depth):
    arrays, document = whole
    for place in ("model", "memories", "recipe", "history"):
        for start, end in (("[", "]"), ('{"type":"Residual","block":', "}"), ('{"$tuple":[', "]}")):
            text = json.dumps(changed(document, **{place: "HERE"})).replace('"HERE"', f"{start * depth}0{end * depth}")
            forgery_refused(forged(arrays, text), RUN)
        forgery_refused(
            forged(arrays, json.dumps(document).replace('"memories": {', f'"memories": {{"x": {text}, ')), ()
        )


AUDIT = """
import sys
from framework import describe, load, load_model
paths = sys.argv[2:]
def visit():
    for path in paths:
        for door in (load, load_model, describe):
            try:
                door(path)
            except OSError:
                pass
visit()
seen, watched = [], False
sys.addaudithook(lambda event, values: seen.append((event, values)) if watched else None)
watched = True
visit()
watched = False
for event, values in seen:
    reading = event == "open" and (values[0] in paths or isinstance(values[0], int)) and not values[2] & 3
    if not reading and event not in ("object.__getattr__", "sys._getframe", "array.__new__"):
        print(event, values)
print("visited", len(paths))
"""


@pytest.mark.share(1 / 3)
def test_no_door_runs_imports_or_writes_anything(whole):
    arrays, document = whole
    tagged = [forged(arrays, document | {"model": {"type": tag}}) for tag in TAGS]
    files = [forged(arrays, document), *tagged, *(sealed(*parts) for parts in HEADERS.values())]
    for number, data in enumerate(files):
        Path(str(number)).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", AUDIT, "-", *names()], capture_output=True, text=True, check=True)
    assert done.stdout == f"visited {len(files)}\n"
