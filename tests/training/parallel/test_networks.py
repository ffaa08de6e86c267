"""Workers in two network namespaces, as on two machines: TCP, and a link that is lost."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from failing import CAUSES, SCRIPT, left_behind

pytest.importorskip("mpi4py")
pytestmark = pytest.mark.share(1 / 10)
MPIEXEC = Path(sys.executable).with_name("mpiexec")
HOSTS = {"10.77.0.1": "a", "10.77.0.2": "b"}

SHELL = """#!/bin/sh
# in place of ssh: run a command in the namespace of a host
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in 10.77.0.1) space=%sa;; *) space=%sb;; esac
shift
exec ip netns exec $space sh -c "$*"
"""


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20).stdout


def wait_for_link(name):
    """Wait until the link can be used: the kernel looks for its carrier, and for addresses that come twice."""
    for _ in range(100):
        states = [ip("-n", name + end, "address", "show", "dev", "wire") for end in "ab"]
        if all("state UP" in state and "tentative" not in state for state in states):
            return
        time.sleep(0.1)
    pytest.fail(f"the link does not come up: {states}")


@pytest.fixture
def network(tmp_path):
    """The start of the names of two namespaces with a link between them."""
    if shutil.which("ip") is None or not MPIEXEC.exists():
        pytest.skip("needs iproute2 and MPICH's mpiexec")
    name = f"fw{os.getpid()}"
    try:
        try:
            for end in "ab":
                ip("netns", "add", name + end)
            ip("link", "add", "wire", "netns", f"{name}a", "type", "veth", "peer", "name", "wire", "netns", f"{name}b")
            for address, end in HOSTS.items():
                ip("-n", name + end, "address", "add", f"{address}/24", "dev", "wire")
                for device in ("wire", "lo"):
                    ip("-n", name + end, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        wait_for_link(name)
        (tmp_path / "shell").write_text(SHELL % (name, name))
        (tmp_path / "shell").chmod(0o755)
        yield name
    finally:
        for end in "ab":
            subprocess.run(["ip", "netns", "delete", name + end], check=False, capture_output=True, timeout=20)


def trained(network, folder, kind):
    """Run the script with a worker in each namespace."""
    environment = os.environ | {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "OMP_NUM_THREADS": "1"}
    command = ["ip", "netns", "exec", f"{network}a", str(MPIEXEC), "-launcher", "ssh"]
    command += ["-launcher-exec", str(folder / "shell"), "-hosts", ",".join(HOSTS), "-localhost", "10.77.0.1"]
    command += ["-n", "2", sys.executable, "-m", "mpi4py", str(SCRIPT), str(folder), kind]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_workers_train_over_tcp(network, tmp_path):
    done = trained(network, tmp_path, "nothing")
    assert done.stdout.split() == ["ended"] * 2, done.stderr


@pytest.mark.parametrize("kind", ["raise", "exit(0)", "sleep", "kill"])
def test_a_failure_over_tcp_ends_the_job(network, kind, tmp_path):
    done = trained(network, tmp_path, kind)
    assert done.returncode != 0
    assert CAUSES[kind] in done.stderr + done.stdout
    assert left_behind(tmp_path) == []


def test_a_lost_link_ends_the_job_on_both_sides(network, tmp_path):
    done = trained(network, tmp_path, f"run ip -n {network}b link set wire down")
    assert done.returncode != 0
    assert "worker 1 gives no answer: it is not training, or stopped, or cannot be reached" in done.stderr
    assert left_behind(tmp_path) == []
