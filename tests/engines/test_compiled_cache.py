"""What compiles and what falls back, with one notice; kernels are cached, and never stale."""

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import compiled_pieces
import numpy as np
import pytest
from compiled_pieces import NEURON, PLAIN, RNG, X, Y, own_cache, require_same, trainer  # noqa: F401 (own_cache is a fixture)

from framework import (
    Activation,
    BinaryCrossEntropy,
    Dense,
    Dropout,
    HalfSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Tanh,
    UsageError,
)
from framework.engines.compiled import choice
from framework.engines.compiled import kernel as compiled_kernel
from framework.engines.compiled.cache import cache_folder, kernel_name, load
from framework.engines.compiled.lower import lowered
from framework.engines.compiled.source import Form, kernel_source
from framework.engines.compiled.wiring import CannotLower

pytest.importorskip("numba")


class Branching(Activation):
    """A formula that cannot be recorded: it decides by all its elements."""

    def __call__(self, h):
        return h * 2.0 if np.all(np.asarray(h) > -1e9) else h

    def derivative(self, h):
        return 2.0 + 0.0 * h


class Branched(SGDOptimizer):
    def update(self, values, gradients, rate, step, *memory):
        values -= rate * gradients if step < 3 else 0.5 * rate * gradients


def test_what_cannot_be_compiled_falls_back_with_one_notice():
    cases = [
        (Neuron(3, Branching()), HalfSquaredError(), PLAIN, "Branching"),
        (NEURON, BinaryCrossEntropy(), Branched(learning_rate=0.1), "Branched.update"),
        (Sequential(Dense(3, 4), Dropout(rate=0.5), Neuron(4)), HalfSquaredError(), PLAIN, "Dropout"),
    ]
    for model, loss, optimizer, name in cases:
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            run = trainer(loss=loss, optimizer=optimizer).fit(model.copy(), (X, Y))
        (notice,) = notices
        assert run.engine == "numpy"
        assert name in str(notice.message)
        assert notice.filename == __file__
        assert trainer(engine="auto", loss=loss, optimizer=optimizer).fit(model.copy(), (X, Y)).engine == "numpy"


def test_without_numba_the_compiled_engine_says_what_to_install(monkeypatch):
    half = trainer().fit(NEURON.copy(), (X, Y))
    monkeypatch.setattr(choice, "available", lambda: False)
    for action in (lambda: trainer().fit(NEURON.copy(), (X, Y)), lambda: trainer().resume(half, (X, Y), epochs=1)):
        with pytest.raises(UsageError, match="needs Numba and SciPy: pip install numba scipy"):
            action()
    assert trainer(engine="auto").fit(NEURON.copy(), (X, Y)).engine == "numpy"


class Forgets(SGDOptimizer):
    """Sets its values to a number, which no step of descent does."""

    def update(self, values, gradients, rate, step, *memory):
        values[...] = 0.5


def test_an_update_may_set_numbers():
    model = trainer(optimizer=Forgets(learning_rate=0.1)).fit(NEURON.copy(), (X, Y)).model
    assert (model.parameters.vector == 0.5).all()


def plan(activation=None, optimizer=PLAIN, loss=None):
    return lowered(Sequential(Dense(3, 4, activation or Tanh()), Neuron(4)), loss or HalfSquaredError(), optimizer)


FORM = Form(single=False, classes=False, weighted=False, keeps=False)


class Scaled(Activation):
    factor: float = 1.3

    def __call__(self, h):
        return np.tanh(self.factor * h)


def test_a_changed_formula_is_another_kernel_and_a_changed_setting_is_not():
    one = kernel_source(plan(Scaled()), FORM)
    other = kernel_source(plan(Scaled(factor=1.9)), FORM)
    assert (one.text, one.constants != other.constants) == (other.text, True)

    class Scaled2(Scaled):
        def __call__(self, h):
            return np.tanh(self.factor + h)

    assert kernel_name(kernel_source(plan(Scaled2()), FORM).text) != kernel_name(one.text)


def test_a_formula_defined_anew_is_compiled_anew():
    def define(power):
        class Bent(Activation):
            def __call__(self, h):
                return h / (1.0 + np.abs(h) ** power)

        return Bent

    for power in (1.0, 2.0):
        model = Neuron(3, define(power)())
        runs = [trainer(engine=e, loss=HalfSquaredError()).fit(model.copy(), (X, Y)) for e in ("numpy", "compiled")]
        np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)


def test_where_nothing_can_be_written_kernels_are_compiled_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compiled_kernel, "load", lambda text: load(f"{text}# not cached\n"))
    assert trainer().fit(NEURON.copy(), (X, Y)).engine == "compiled"


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path / "framework"


def test_without_a_home_kernels_are_in_the_folder_that_is_set_or_nowhere(monkeypatch, tmp_path):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / ".cache" / "framework"
    monkeypatch.setattr(Path, "home", unknown)
    assert cache_folder() is None
    assert load(stub(tmp_path)).kept is False
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "framework"


def stub(folder):
    """Return the source of a module that says of itself what a kernel does: whether and where Numba keeps its code."""
    return f"""
from types import SimpleNamespace
import compiled_pieces
kept = CACHE
compiled_pieces.loading()
train = SimpleNamespace(stats=SimpleNamespace(cache_path={str(folder)!r}))
# {RNG.random()}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no modes")
def test_compiled_code_that_others_could_have_written_is_not_read(monkeypatch, tmp_path):
    (tmp_path / "planted.nbi").write_bytes(b"code of someone else")
    tmp_path.chmod(0o777)
    assert load(stub(tmp_path)).kept is True
    assert not list(tmp_path.iterdir())
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    (tmp_path / "own.nbi").write_bytes(b"code of this user")
    assert load(stub(tmp_path)).kept is True
    assert list(tmp_path.iterdir())
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert load(stub(tmp_path)).kept is False


def test_no_thread_sees_the_half_made_kernel_of_another(monkeypatch, tmp_path):
    source, seen = stub(tmp_path), []
    other = threading.Thread(target=lambda: seen.append(hasattr(load(source), "train")))

    def load_in_another_thread():
        other.start()
        other.join(timeout=0.1)  # it waits for this one

    monkeypatch.setattr(compiled_pieces, "loading", load_in_another_thread)
    load(source)
    other.join()
    assert seen == [True]


NAME = kernel_name(kernel_source(lowered(NEURON, BinaryCrossEntropy(), PLAIN), FORM).text)


@pytest.fixture
def on_disk():
    """Have the kernel of a neuron on the disk and not in this process; return its files, which are put back."""
    sys.modules.pop(NAME, None)  # another file of tests, with another cache, may have made it
    trainer().fit(NEURON.copy(), (X, Y))
    del sys.modules[NAME]
    files = {file.suffix: file for file in cache_folder().glob(f"__pycache__/{NAME}*.nb[ci]")}
    contents = {file: file.read_bytes() for file in files.values()}
    assert {*files} == {".nbi", ".nbc"}
    yield files
    sys.modules.pop(NAME, None)
    for file, content in contents.items():
        file.write_bytes(content)


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_a_damaged_file_is_deleted_and_the_kernel_compiled_anew(on_disk, ending):
    damaged = on_disk[ending]
    damaged.write_bytes(damaged.read_bytes()[:100])
    run = trainer().fit(NEURON.copy(), (X, Y))
    assert (run.engine, run.step) == ("compiled", 7)
    assert not damaged.exists()


@pytest.mark.usefixtures("on_disk")
def test_another_process_reads_the_kernel_from_the_disk():
    code = """
import sys
import numpy as np
from framework import *
trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1), engine="compiled", batch_size=8)
trainer.fit(Neuron(2, Sigmoid()), (np.ones((9, 2)), np.ones(9)))
(kernel,) = [module for name, module in sys.modules.items() if name.startswith("framework_kernel")]
print(kernel.__name__, sum(kernel.train.stats.cache_hits.values()), sum(kernel.train.stats.cache_misses.values()))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [NAME, "1", "0"]


def test_numba_is_imported_by_compiled_runs_alone():
    code = """
import sys
from framework import *
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
trainer.fit(Neuron(1), ([[1.0]], [1.0]))
print("numba" in sys.modules, "scipy" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_class_that_replaces_a_loop_of_its_base_is_left_to_numpy():
    class SlowerError(HalfSquaredError):
        def backward(self, *args, **options):
            return super().backward(*args, **options)

    with pytest.raises(CannotLower, match=r"SlowerError\.backward replaces Loss\.backward"):
        plan(loss=SlowerError())
