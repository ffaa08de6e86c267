"""Saving over a file leaves the old one or the new one, whole: when killed, when a call fails, on a full disk."""

import errno
import os
import random
import signal
import stat
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
from checkpoint_pieces import full_run, names

from framework import CheckpointError, load, save
from framework.training.runs.memory import Memory

PATH = "run.safetensors"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once")


@pytest.fixture(scope="module")
def run():
    return full_run()


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mark(run, number):
    """Make the run tell which one it is: in its arrays, and in its JSON."""
    run.model.parameters.vector = np.full_like(run.model.parameters.vector, number)
    run.seconds = float(number)
    run.memories["mark"] = Memory("mark", {"text": "x" * (number % 500)})  # files of different lengths
    return run


def number_of(path):
    """Load the file, and return which run it is, the same in all its parts."""
    loaded = load(path)
    values = {*loaded.model.parameters.vector.tolist(), loaded.seconds}
    assert len(values) == 1
    assert len(loaded.memories["mark"]["text"]) == loaded.seconds % 500
    return loaded.seconds


def child(work):
    """Do some work in a process that begins as a copy of this one; return its id."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, RuntimeWarning):  # NumPy and JAX have threads; the child uses none
            warnings.simplefilter("ignore", category)
        process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 (nothing may go on in the child)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return process


def saving(run, start, ready):
    """Save over PATH without end; write down first which run comes next."""

    def work():
        os.write(ready, b"1")
        for number in range(start, start + 10**6):
            Path("coming").write_text(str(number), "utf-8")
            save(mark(run, number), PATH)

    return work


@pytest.mark.share(1 / 10)
@needs_fork
def test_killed_at_any_moment_the_file_is_the_old_one_or_the_new_one(run):
    save(mark(run, 0), PATH)
    moment, longest, before = random.Random(0), 0.005, 0.0
    started, ready = os.pipe()
    for _ in range(200):
        process = child(saving(run, int(before) + 1, ready))
        os.read(started, 1)
        time.sleep(moment.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status)  # until then nothing had failed
        number, coming = number_of(PATH), Path("coming").read_text("utf-8") if Path("coming").exists() else ""
        assert before <= number
        assert not coming or number in (before, int(coming) - 1, int(coming))
        longest *= 1.1 if number == before else 0.95  # so most of them die in one of their first saves
        before = number
    os.close(started)
    os.close(ready)
    assert before > 0
    assert {name for name in names() if not name.startswith(".run.safetensors.")} == {PATH, "coming"}


class FailingAt:
    """Makes the n-th of all calls to the system fail, and counts them."""

    def __init__(self, monkeypatch, place, failure):
        self.place, self.failure, self.calls, self.active = place, failure, [], True
        for name in ("open", "fsync", "replace", "chmod"):
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        monkeypatch.setattr(Path, "open", self.wrapped("open", Path.open))

    def wrapped(self, name, call):
        def failing(*arguments, **named):
            if self.active:
                self.tick(name)
            result = call(*arguments, **named)
            return Failing(result, self) if hasattr(result, "write") else result

        return failing

    def tick(self, name):
        self.calls.append(name)
        if len(self.calls) == self.place:
            raise self.failure


class Failing:
    """An open file whose writes may fail, the first after half the bytes."""

    def __init__(self, file, failing):
        self.file, self.failing = file, failing

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.failing.tick("write")
        return self.file.write(data[len(data) // 2 :])


def no_space():
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("failure", [no_space, KeyboardInterrupt, MemoryError])
def test_whichever_call_fails_the_old_file_stays_and_nothing_is_left_behind(run, failure, old, monkeypatch):
    if old:
        save(mark(run, 1), PATH)
    before = Path(PATH).read_bytes() if old else None
    mark(run, 2)
    failed = []
    for place in range(1, 100):
        with monkeypatch.context() as patch:
            failing = FailingAt(patch, place, failure())
            error = None
            try:
                save(run, PATH)
            except BaseException as caught:  # noqa: BLE001 (KeyboardInterrupt among them)
                error = caught
        if len(failing.calls) < place:
            break
        failed.append(failing.calls[place - 1])
        assert isinstance(error, CheckpointError if failure is no_space else failure)
        assert failure is not no_space or str(error) == f"'{PATH}' cannot be written: No space left on device"
        if "replace" in failing.calls[: place - 1]:  # the new file is whole; it may not outlast a power failure
            assert number_of(PATH) == 2
            Path(PATH).write_bytes(before) if old else Path(PATH).unlink()
        assert names() == ([PATH] if old else [])
        assert not old or Path(PATH).read_bytes() == before
    assert {"open", "write", "fsync", "replace", *(["chmod"] if old else [])} <= set(failed)
    assert failed[-2:] == ["open", "fsync"]  # those of the folder
    assert number_of(PATH) == 2


@needs_fork
def test_when_the_disk_is_full_the_old_file_stays_and_nothing_is_left_behind(run):
    import resource

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(CheckpointError, match="cannot be written: File too large"):
            save(mark(run, 2), PATH)

    save(mark(run, 1), PATH)
    before = Path(PATH).read_bytes()
    assert os.waitpid(child(work), 0)[1] == 0
    assert Path(PATH).read_bytes() == before
    assert names() == [PATH]


@pytest.mark.share(1 / 5)
@needs_fork
def test_a_reader_never_sees_two_writers_at_work(run):
    save(mark(run, 0), PATH)

    def writer(first):
        def work():
            for number in range(first, 400, 2):
                save(mark(run, number), PATH)

        return work

    processes = [child(writer(1)), child(writer(2))]
    seen = set()
    while processes:
        seen.add(number_of(PATH))
        ended, status = os.waitpid(processes[0], os.WNOHANG)
        if ended:
            assert status == 0
            processes.remove(ended)
    assert len(seen) > 10
    assert names() == [PATH]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_no_file_is_left_open(run):
    Path("folder").mkdir()
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for _ in range(3):
        save(run, PATH)
        load(PATH)
        with pytest.raises(CheckpointError):
            load("folder")
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


def mode_of(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_gives(run, mask, mode):
    before = os.umask(mask)
    try:
        save(run, PATH)
    finally:
        os.umask(before)
    assert mode_of(PATH) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_a_file_that_is_replaced_keeps_its_mode(run, mode):
    save(run, PATH)
    Path(PATH).chmod(mode)
    save(mark(run, 5), PATH)
    assert mode_of(PATH) == mode
    assert number_of(PATH) == 5


def test_a_link_is_followed_and_stays(run):
    Path("folder").mkdir()
    Path("link").symlink_to("second")
    Path("second").symlink_to(Path("folder") / PATH)
    for number in (1, 2):  # the first makes the file that the link leads to
        save(mark(run, number), "link")
        assert Path("link").is_symlink()
        assert Path("second").is_symlink()
        assert number_of(Path("folder") / PATH) == number
    assert os.listdir("folder") == [PATH]  # noqa: PTH208


@pytest.mark.parametrize("path", [PATH, f"./{PATH}", f"folder/../{PATH}", f"folder/{PATH}", "ünï cödé\n.safetensors"])
def test_any_form_of_path_is_taken(run, path):
    Path("folder").mkdir()
    save(mark(run, 3), path)
    save(mark(run, 4), Path(path))
    assert number_of(path) == 4


REFUSED = ["nowhere/run.safetensors", "file/run.safetensors", "/proc/run.safetensors", "/dev/null/x", "folder"]
NO_PATHS = ["\0", "", "x" * 300, None, 1, 0.5, b"run.safetensors", ["run.safetensors"]]


@pytest.mark.parametrize("path", REFUSED + NO_PATHS, ids=lambda path: repr(path)[:20])
def test_where_no_file_can_be_written_the_error_names_the_path(run, path):
    Path("file").write_bytes(b"")
    Path("folder").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written: ") as caught:
        save(run, path)
    assert str(caught.value).startswith(repr(path))
    assert names() == ["file", "folder"]
    assert not os.listdir("folder")  # noqa: PTH208


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_pipe_or_a_device_is_not_replaced(run, through_a_link):
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    path = "link" if through_a_link else "pipe"
    with pytest.raises(CheckpointError, match=f"'{path}' cannot be written: a pipe or a device is there"):
        save(run, path)
    assert stat.S_ISFIFO(Path(path).stat().st_mode)
    assert names() == ["link", "pipe"]


def test_the_bytes_are_on_disk_before_the_name_leads_to_them(run, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, _noted(calls, name, getattr(os, name)))
    save(run, PATH)
    assert calls == ["fsync", "replace", "fsync"]


def _noted(calls, name, call):
    def noting(*arguments):
        calls.append(name)
        return call(*arguments)

    return noting
