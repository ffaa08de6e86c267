"""The job scripts of examples/cluster, with variables as Slurm sets them and stand-ins for its commands.

docs/clusters.md says how they ran with Slurm, which is not there in these tests. Of the lines of #SBATCH the tests
check only that they stand where Slurm reads them.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_pieces import command

from framework import Experiment, HalfSquaredError, Neuron, Parquet, SGDOptimizer, Trainer, latest, load

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Slurm runs on Linux")

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sbatch"))
SRUN = """#!/bin/bash
# Runs a command as srun does: on all tasks of the job, or with -N 1 -n 1 on this node.
echo "$@" >> srun.log
if [[ $1 == --kill-on-bad-exit=1 ]]; then
    echo $$ > step.pid
    exec mpiexec -n "$SLURM_NTASKS" "${@:2}"
fi
while [[ $1 == -* ]]; do shift 2; done
SLURM_PROCID=0 SLURM_NODEID=0 exec "$@"
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that starts a script in a folder with an environment, as a job of two tasks."""
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "activate").write_text(f'PATH="{tools}:$PATH"\n')
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text('#!/bin/bash\necho "$@" >> scontrol.log\n')
    (tools / "scancel").write_text('#!/bin/bash\necho "$@" >> scancel.log\nkill -TERM "$(<step.pid)"\n')
    (tools / "framework").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m framework "$@"\n')
    for tool in ("python", "mpiexec"):
        (tools / tool).write_text(f'#!/bin/bash\nexec "{Path(sys.executable).with_name(tool)}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    shutil.copy(CLUSTER / "train.py", tmp_path)
    slurm = {
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_JOB_NODELIST": socket.gethostname(),
        "SLURM_NODELIST": socket.gethostname(),
        "SLURM_TASKS_PER_NODE": "2",
        "PYTHONPATH": str(CLUSTER.parents[1]),
    }

    jobs = []

    def start(script, *arguments):
        script = ["bash", CLUSTER / script, *arguments]
        jobs.append(subprocess.Popen(script, env=os.environ | slurm, start_new_session=True))
        return jobs[-1]

    yield start
    for each in jobs:
        if each.poll() is None:  # a test has failed: framework launch ends the workers
            os.killpg(each.pid, signal.SIGTERM)
            each.wait(timeout=60)


def sha(folder="checkpoints"):
    return hashlib.sha256(load(latest(folder)).model.parameters.vector.tobytes()).hexdigest()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_accepts_a_script_and_slurm_reads_all_of_its_lines(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=60)
    lines = script.read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
    assert lines[0] == "#!/bin/bash"
    assert any(line.startswith("#SBATCH --time=") for line in lines[:first])
    assert not any("#SBATCH" in line for line in lines[first:])


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("script", ["train.sbatch", "train-srun.sbatch"])
def test_a_job_trains_on_its_tasks_what_one_process_trains(script, job, tmp_path):
    pytest.importorskip("mpi4py")
    assert job(script, "2").wait(timeout=120) == 0
    assert "hydra_pmi_proxy" in Path("srun.log").read_text()  # mpiexec has started the workers by srun
    found = sha()
    (tmp_path / "alone").mkdir()
    environment = os.environ | {"PYTHONPATH": str(CLUSTER.parents[1])}
    subprocess.run([sys.executable, CLUSTER / "train.py", "2"], cwd="alone", env=environment, check=True, timeout=120)
    assert sha("alone/checkpoints") == found
    assert not Path("scontrol.log").exists()


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("script", ["train.sbatch", "train-srun.sbatch"])
def test_a_job_at_the_end_of_its_time_is_saved_and_queued_again(script, job):
    pytest.importorskip("mpi4py")
    starts, reason = 0, None
    while reason is None and starts < 5:  # a step that is saved already is not saved again with the reason
        starts, before = starts + 1, latest("checkpoints")
        running = job(script, "100000")
        deadline = time.monotonic() + 100
        while latest("checkpoints") == before and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) != 0
        assert Path("scontrol.log").read_text() == "requeue 7\n" * starts
        reason = load(latest("checkpoints")).stop_reason
    assert reason is not None
    assert Path("scancel.log").exists() == (script == "train-srun.sbatch")


@pytest.fixture
def experiment(tmp_path):
    """An experiment and its data."""
    x = np.random.default_rng(0).normal(size=40)
    pq.write_table(pa.table({"x": x, "y": 2 * x}), tmp_path / "known.parquet")
    made = Experiment(
        data=Parquet(str(tmp_path / "known.parquet"), target="y"),
        model=Neuron(),
        trainer=Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=1),
    )
    made.save(tmp_path / "experiment.toml")


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("experiment")
def test_the_jobs_of_an_array_share_a_sweep(job):
    jobs = [job("sweep.sbatch", "experiment.toml", "--random", "4") for _ in range(2)]
    assert [each.wait(timeout=120) for each in jobs] == [0, 0]
    assert len([*Path("sweeps/rates/runs").glob("*/metrics.json")]) == 4


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("experiment")
def test_the_jobs_of_an_array_share_predictions(job):
    command("train", "experiment.toml", "--out", "run")
    Path("data").mkdir()
    pq.write_table(pq.read_table("known.parquet"), "data/a.parquet", row_group_size=10)
    jobs = [job("predict.sbatch", "run", "data", "predicted") for _ in range(2)]
    assert [each.wait(timeout=120) for each in jobs] == [0, 0]
    assert sorted(each.name for each in Path("predicted").glob("*.parquet")) == [
        f"a.parquet.0000{i}.parquet" for i in range(4)
    ]
