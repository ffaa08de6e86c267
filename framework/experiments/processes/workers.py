"""Processes of this machine that run the same command and share its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from framework.arithmetic import THREADS

RUN = """\
import os, signal, threading
def end():
    os.read(0, 1)  # returns when the parent has ended, or closes the pipe
    os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, too
threading.Thread(target=end, daemon=True).start()
import framework.__main__
"""
"""A process that ends with its parent, even if that is killed: training stops after the current batch."""

WAIT = 0.1
"""Seconds between two looks at the processes."""


def work_together(
    arguments: Sequence[str], workers: int, *, restarts: int = 0, stderr: int | None = subprocess.DEVNULL
) -> list[int]:
    """Run a ``framework`` command in processes with one BLAS thread each, and return their exit codes.

    Ctrl-C and SIGTERM end them before they raise KeyboardInterrupt and SystemExit.

    Args:
        arguments: The command.
        workers: How many processes.
        restarts: How many times a killed process is started again; its exit code is left out.
        stderr: Where they write errors; None is where this process does.
    """
    environment = dict.fromkeys(THREADS, "1") | os.environ
    processes, codes = list[subprocess.Popen[bytes]](), list[int]()
    reading, writing = os.pipe()

    def start() -> None:
        command, null = [sys.executable, "-c", RUN, *arguments], subprocess.DEVNULL
        processes.append(subprocess.Popen(command, env=environment, stdin=reading, stdout=null, stderr=stderr))

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number)) if main else None
    try:
        for _ in range(workers):
            start()
        while processes:
            for process in [each for each in processes if each.poll() is not None]:
                processes.remove(process)
                killed = process.returncode < 0 or process.returncode > 128  # by a signal
                if killed and restarts:
                    restarts -= 1
                    start()
                else:
                    codes.append(process.returncode)
            time.sleep(WAIT)
    finally:
        os.close(writing)
        for process in processes:
            process.wait()
        os.close(reading)
        if main:
            signal.signal(signal.SIGTERM, before)
    return codes
