"""Object files are kept for later processes. One that cannot be trusted is made again."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from framework.backends.native import cache, kernels, machine
from framework.backends.native.cache import folder, read_cached, write

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no modes")
CONTENTS = b"\x00object\n" * 100


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """Return the folder of the cache, which is not there yet."""
    monkeypatch.setenv("FRAMEWORK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Makes the contents of a file, and counts how often."""

    def __init__(self, contents=CONTENTS):
        self.contents, self.calls = contents, 0

    def __call__(self):
        self.calls += 1
        return self.contents


def kept(name, make):
    """Return the contents of a file, which are made if it has none to be trusted."""
    contents = read_cached(name)
    if contents is None:
        contents = make()
        write(name, contents)
    return contents


def made(name="f.o", contents=CONTENTS):
    """Return how often the contents had to be made to read them."""
    maker = Maker(contents)
    assert kept(name, maker) == contents
    return maker.calls


def test_a_file_is_made_once(place):
    assert [made(), made(), made("g.o")] == [1, 0, 1]
    assert sorted(path.name for path in place.iterdir()) == ["f.o", "g.o"]


@POSIX
def test_only_the_user_can_write_to_the_folder_and_the_files(place):
    made()
    assert [path.stat().st_mode & 0o777 for path in (place, place / "f.o")] == [0o700, 0o600]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda file: file[:-1],
        lambda file: file[:8],
        lambda _: b"",
        lambda file: file + b"0",
        lambda file: b"0" + file[1:],
    ],
    ids=["shorter", "without contents", "empty", "longer", "changed"],
)
def test_a_damaged_file_is_made_again(place, damaged):
    made()
    (place / "f.o").write_bytes(damaged((place / "f.o").read_bytes()))
    assert [made(), made()] == [1, 0]


def test_a_file_under_another_name_is_not_read(place):
    made("g.o")
    (place / "g.o").replace(place / "f.o")
    assert [made(), made()] == [1, 0]


@POSIX
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to_is_not_read(place, mode):
    made()
    (place / "f.o").chmod(mode)
    assert [made(), made()] == [1, 0]


@POSIX
def test_a_file_of_another_user_is_not_read(monkeypatch):
    made()
    monkeypatch.setattr(os, "getuid", lambda: -2)
    assert [made(), made()] == [1, 1]


@POSIX
def test_a_folder_that_others_can_write_to_serves_own_files_alone(place):
    place.mkdir()
    place.chmod(0o777)
    (place / "f.o").write_bytes(b"of somebody else, with a mode that shows it")
    (place / "f.o").chmod(0o666)
    assert [made(), made()] == [1, 0]
    assert (place / "f.o").stat().st_mode & 0o777 == 0o600


@POSIX
def test_a_link_is_replaced_and_its_target_stays(place, tmp_path):
    place.mkdir()
    (tmp_path / "target").write_bytes(b"precious")
    (place / "f.o").symlink_to(tmp_path / "target")
    assert [made(), made()] == [1, 0]
    assert (tmp_path / "target").read_bytes() == b"precious"


@POSIX
def test_a_pipe_is_replaced_without_waiting_for_a_writer(place):
    place.mkdir()
    os.mkfifo(place / "f.o", 0o600)
    assert [made(), made()] == [1, 0]


def test_where_nothing_can_be_written_the_contents_are_made_each_time(place):
    place.write_text("a file, not a folder")
    assert [made(), made()] == [1, 1]


def test_a_full_disk_leaves_nothing_behind(monkeypatch, place):
    def full(_self, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert [made(), made()] == [1, 1]
    assert list(place.iterdir()) == []


def test_the_files_that_were_written_first_are_removed_and_others_stay(monkeypatch, place):
    monkeypatch.setattr(cache, "FILES", 3)
    place.mkdir()
    of_the_user = ["main.o", "thesis.tmp", "main.o.1.tmp"]
    left_over = f"train_{0:032x}.o.abc.tmp"  # of a process that was killed while it wrote
    for name in (*of_the_user, left_over):
        (place / name).write_bytes(b"")
        os.utime(place / name, ns=(0, 0))
    names = [f"train_{number:032x}.o" for number in (9, 3, 5, 1)]
    for age, name in enumerate(names):
        assert made(name) == 1
        os.utime(place / name, ns=(age + 1, age + 1))
    assert {path.name for path in place.iterdir()} == {*of_the_user, *names[1:]}


def test_processes_that_remove_files_at_once_leave_the_newest(monkeypatch, place):
    monkeypatch.setattr(cache, "FILES", 5)
    names = [f"train_{number:032x}.o" for number in range(40)]
    threads = [threading.Thread(target=lambda part=names[start::8]: [*map(made, part)]) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made(f"last_{0:032x}.o")
    left = [path.name for path in place.iterdir()]
    assert len(left) == 5
    assert f"last_{0:032x}.o" in left


def test_processes_that_write_the_same_file_at_once_leave_a_whole_one(place):
    threads = [threading.Thread(target=made) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in place.iterdir()] == ["f.o"]
    assert made() == 0


def test_the_folder_is_that_of_the_environment_or_the_users_cache(monkeypatch, tmp_path, place):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    assert folder() == place
    monkeypatch.delenv("FRAMEWORK_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert folder() == tmp_path / ".cache" / "framework"
    monkeypatch.setattr(Path, "home", unknown)
    assert folder() is None
    assert [made(), made()] == [1, 1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "framework"


TEXT = "def run(x: reals, n: int) -> real:\n    return x[n] + real({number})"


@pytest.fixture
def compilations(monkeypatch):
    """Return the texts of LLVM that have been compiled."""
    seen = []
    monkeypatch.setattr(kernels, "object_file", lambda text: seen.append(text) or machine.object_file(text))
    return seen


def run(number, dtype="float64", entry="run"):
    """Return a result of a kernel, which this process has not loaded."""
    kernels.compile_kernel.cache_clear()
    return kernels.compile_kernel(TEXT.format(number=number), entry, dtype)(np.array([1.0, 2.0], dtype), 1)


def test_a_kernel_is_compiled_once_for_a_text_a_dtype_a_processor_and_a_compiler(monkeypatch, compilations):
    def after(name, value):
        monkeypatch.setattr(kernels, name, lambda: value)
        return run(1)

    assert [run(1), run(1), run(2), run(1, "float32")] == [3.0, 3.0, 4.0, 3.0]
    assert len(compilations) == 3
    name, features, registers = machine.processor()
    assert [after("processor", (name, f"{features},-sse4a", registers)), after("_compiler", ("older",)), run(1)] == [
        3.0
    ] * 3
    assert len(compilations) == 5


def test_a_damaged_kernel_is_compiled_again(place, compilations):
    run(5)
    (path,) = place.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert run(5) == 7.0
    assert len(compilations) == 2


@pytest.mark.share(1 / 3)
def test_another_process_reads_the_kernel(place):
    run(6)
    before = [(path, path.stat().st_mtime_ns) for path in place.iterdir()]
    call = f"compile_kernel({TEXT.format(number=6)!r}, 'run', 'float64')"
    code = f"from framework.backends.native import compile_kernel; {call}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [(path, path.stat().st_mtime_ns) for path in place.iterdir()] == before
