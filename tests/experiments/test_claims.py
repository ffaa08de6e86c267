"""Claims of processes that may be killed at any moment."""

import errno
import os
import subprocess
import sys
import time

import pytest

from framework import SettingsError
from framework.experiments import processes as claims
from framework.experiments.processes import Claims

HOLD = """
import sys, time
from framework.experiments.processes import Claims
claim = Claims(sys.argv[1]).take("a", "3")
print("refused" if claim is None else "taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the claim on "a"."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_a_claim_is_held_until_it_is_given_back(tmp_path):
    with Claims(tmp_path).take("a"):
        assert Claims(tmp_path).take("a") is None
        with Claims(tmp_path).take("b") as other:
            assert other is not None
    with Claims(tmp_path).take("a") as again:
        assert again.path.name == "a.1"
    assert not [*tmp_path.iterdir()]


@pytest.mark.share(1 / 3)
def test_a_claim_of_a_killed_process_is_taken_over_at_once(tmp_path, holder):
    ours = Claims(tmp_path)
    assert ours.take("a") is None
    holder.kill()
    holder.wait(timeout=30)
    with ours.take("a") as claim:
        assert (claim.path.name, claim.successor.name) == ("a.2", "a.3")
        assert claim.notes() == ["3"]
        assert Claims(tmp_path).take("a") is None


def test_a_claim_that_was_taken_over_and_given_back_is_lost_for_good(tmp_path, monkeypatch):
    first = Claims(tmp_path).take("a", "3")
    first.path.write_text("another machine\n3")  # as the others see it while this process is suspended
    monkeypatch.setattr(claims, "SILENCE", -1.0)
    assert not first.lost
    for number in (2, 3):
        with Claims(tmp_path).take("a", "3") as claim:
            assert claim.path.name == f"a.{number}"
            assert claim.notes() == ["3", ""][: number - 1]
        assert first.lost
    with first:
        pass
    with Claims(tmp_path).take("a") as claim:
        assert claim.path.name == "a.4"


def test_claims_begin_again_where_the_earlier_ones_are_forgotten(tmp_path):
    (tmp_path / "a.1").write_text(f"{claims._machine()}\n3")
    with Claims(tmp_path).take("a") as claim:
        claim.forget()
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_leaves_no_claim(tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(claims.Claim, "_write", fill)
    with pytest.raises(SettingsError, match=r"the claim '.*/a\.1' cannot be written: No space left on device"):
        Claims(tmp_path).take("a")
    assert not [*tmp_path.iterdir()]


@pytest.mark.share(1 / 3)
def test_a_stopped_process_keeps_its_claim(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(claims, "SILENCE", 0.0)
    os.kill(holder.pid, 19)  # SIGSTOP
    assert Claims(tmp_path).take("a") is None


def test_a_claim_of_another_machine_is_dead_when_it_is_silent(tmp_path, monkeypatch):
    path = tmp_path / "a.1"
    path.write_text("another machine\n0")
    os.utime(path, (9e9, 9e9))  # by a clock that is wrong
    clock = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    ours = Claims(tmp_path)
    assert ours.take("a") is None
    clock[0] += 0.75 * claims.SILENCE
    os.utime(path)
    assert ours.take("a") is None
    clock[0] += 0.75 * claims.SILENCE
    assert ours.take("a") is None, "it was touched since the first look"
    clock[0] += 0.5 * claims.SILENCE
    with ours.take("a") as claim:
        assert claim.path.name == "a.2"


def test_a_claim_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    with Claims(tmp_path).take("a") as claim:
        os.utime(claim.path, (0, 0))
        for _ in range(500):
            time.sleep(0.01)
            if claim.path.stat().st_mtime > 0:
                break
        assert claim.path.stat().st_mtime > 0


@pytest.mark.share(1 / 10)
def test_one_of_many_gets_a_dead_claim(tmp_path, holder):
    holder.kill()
    holder.wait(timeout=30)
    start = "import sys, time; time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
    code = start + HOLD.replace("import sys, time\n", "").replace("time.sleep(60)", "sys.stdin.read()")
    command = [sys.executable, "-c", "from framework.experiments import processes as claims\n" + code, str(tmp_path)]
    command.append(str(time.time() + 3.0))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen(command, **pipes) for _ in range(4)]
    said = [process.stdout.readline() for process in others]
    for process in others:
        process.communicate(timeout=60)
    assert sorted(said) == ["refused\n"] * 3 + ["taken\n"]
