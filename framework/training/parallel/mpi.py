"""Workers over MPI (mpi4py): those that mpiexec or srun has started with a process.

A worker that fails, leaves or hangs ends the job. MPI alone would let the others wait for ever.
"""

from __future__ import annotations

import atexit
import faulthandler
import mmap
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import UsageError
from framework.base.extras import installing, load_module
from framework.base.settings.messages import warn
from framework.training.parallel.strategy import count_processes
from framework.training.parallel.workers import Workers

Value = TypeVar("Value")

PERIOD = 0.2
"""Seconds between two checks of the watchdog."""
ASKING = 0.8
"""The part of the time-out after which the watchdog asks where the others are."""
PATIENCE = 0.5
"""Seconds for one worker to end the job before the others do it too, and for MPI_Abort before the process is killed."""
STUCK = 70
"""The exit code after a time-out."""
LOOKS = 50
"""How often a worker looks whether all have come to a barrier, about 1 us each, before it offers its core to others."""
SHARED = "/dev/shm"
"""The folder of files in memory, where there is one. A file is unlinked as soon as all workers have opened it."""


class _Gone(NamedTuple):
    """The message of a worker that fails or leaves."""

    calls: int
    """The collective operations that it has begun; it takes part in no later one."""
    code: int
    cause: str
    final: bool
    """Whether its process ends. Otherwise it waits to hear whether all the others fail too."""


class _Place(NamedTuple):
    """Where a worker is."""

    calls: int
    stack: str


class MPIWorkers(Workers):
    """All processes of one mpiexec or srun.

    Every collective operation takes place within ``guard``. There a watchdog thread ends the job (MPI_Abort) when this
    worker waits in an operation that cannot complete: another worker has failed or left before it, or the time-out is
    over. An error that leaves ``guard`` on all workers is an ordinary error, which the program may catch.
    """

    def __init__(self, count: int, timeout: float) -> None:
        """Find the others, which have to start within ``timeout`` seconds.

        Raises:
            UsageError: mpi4py finds no MPI library, or another one than that of the command which started ``count``.
        """
        faulthandler.dump_traceback_later(timeout, exit=True)  # MPI starts holding the GIL, so no thread could do this
        try:
            self._mpi = mpi = load_module("mpi4py.MPI", "training on several workers")
        except (ImportError, RuntimeError) as error:
            raise UsageError(
                f"mpi4py finds no MPI library ({str(error).splitlines()[0]}): pip install mpich, or load the MPI "
                f"module of the site"
            ) from None
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._world = mpi.COMM_WORLD
        if self._world.size != count:
            raise UsageError(
                f"{count} processes were started together, but mpi4py counts {self._world.size}: its library, "
                f"{mpi.Get_library_version().split(',')[0].splitlines()[0]!r}, is not that of the command that started "
                f"them. Use `framework launch`, the mpiexec that belongs to this library, or srun with its plugin: "
                f"--mpi=pmix for Open MPI, --mpi=pmi2 for MPICH"
            )
        self.rank, self.size = self._world.rank, self._world.size
        self._threads = mpi.Query_thread() == mpi.THREAD_MULTIPLE
        self._parent = os.getppid()
        self._comm: Any = None
        self._control: Any = None  # for messages of workers that are gone
        self._together = False  # whether all run on one machine
        self._depth, self._timeout = 0, 0.0
        self._calls = 0
        self._waiting: tuple[int, float] | None = None  # the number of the operation, and since when
        self._gone = dict[int, _Gone]()
        self._asked = 0  # the operation that the others were asked about
        self._places = dict[int, _Place]()
        self._thread = 0  # the one that trains
        self._lock = threading.Lock()
        self._requests: list[Any] = []
        self._hook, sys.excepthook = sys.excepthook, self._report
        atexit.register(self._leave)

    def broadcast(self, value: Value) -> Value:
        with self._operation():
            return self._comm.bcast(value)  # type: ignore[no-any-return]

    def gather(self, value: Value) -> list[Value]:
        with self._operation():
            gathered: list[tuple[int, Value]] = self._comm.allgather((self._depth, value))
        depths = [depth for depth, _ in gathered]
        if len(set(depths)) > 1:
            inner = depths.index(max(depths))
            problem = f"worker {inner} trains within a callback, and worker {depths.index(min(depths))} does not"
            raise UsageError(problem, advice="call fit on all workers, or there with a trainer without a strategy")
        return [value for _, value in gathered]

    def share(self, size: int) -> Array | None:
        memory = None
        with ExitStack() as stack:
            path = ""
            if self.rank == 0 and self._together:
                with suppress(OSError):  # there is no such folder, or not enough memory
                    created = stack.enter_context(NamedTemporaryFile(prefix="framework-", dir=SHARED))
                    os.posix_fallocate(created.fileno(), 0, size)
                    path = created.name
            if path := self.broadcast(path):
                with suppress(OSError), Path(path).open("r+b") as file:
                    memory = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)
            return memory if all(self.gather(memory is not None)) else None

    def barrier(self) -> None:
        with self._operation():
            request, looks = self._comm.Ibarrier(), 0
            while not request.Test():  # MPI's own Barrier keeps the core, which a worker that is late may need
                looks += 1
                if looks > LOOKS:
                    os.sched_yield()

    def alltoall(self, sent: Array, places: Sequence[Array], received: Array, origins: Sequence[Array]) -> None:
        byte = self._mpi.BYTE
        with self._operation():
            self._comm.Alltoallv([sent, *places, byte], [received, *origins, byte])

    def allgather(self, sent: Array, received: Array, origins: Sequence[Array]) -> None:
        byte = self._mpi.BYTE
        with self._operation():
            self._comm.Allgatherv([sent, byte], [received, *origins, byte])

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """Count a collective operation, and tell the watchdog that this worker waits in it."""
        if not self._depth:
            raise UsageError("workers exchange values only within guard(timeout)")
        self._calls += 1
        self._waiting = self._calls, time.monotonic()
        try:
            yield
        finally:
            self._waiting = None

    @contextmanager
    def guard(self, timeout: float) -> Iterator[None]:
        if self._depth and self._thread != threading.get_ident():
            raise UsageError(
                "fit: another thread of this process trains with DataParallel at this moment; train one model after "
                "the other, or one of them without a strategy"
            )
        outer, self._timeout = self._timeout, timeout
        stop = threading.Event()
        if self._depth == 0:
            watchdog = threading.Thread(target=self._watch, args=(stop,), name="watchdog of workers", daemon=True)
            watchdog.start()
        self._depth += 1
        self._thread = threading.get_ident()
        try:
            if self._comm is None:
                with self._operation():
                    self._control = self._world.Dup()
                    self._comm = self._world.Dup()
                    local = self._world.Split_type(self._mpi.COMM_TYPE_SHARED)
                    self._together = local.size == self.size
                    local.Free()
                _unlink_memory()
            yield
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._depth -= 1
            self._timeout = outer
            stop.set()

    def _watch(self, stop: threading.Event) -> None:
        """End the job when this worker waits for what cannot come, and this worker when its parent has ended."""
        while not stop.wait(min(PERIOD, self._timeout / 4)):
            if os.getppid() != self._parent:  # MPICH's mpiexec may kill its proxy before that has killed the workers
                with suppress(OSError):  # perhaps nobody reads it
                    print_line(f"the process that has started worker {self.rank} has ended")
                os.kill(os.getpid(), signal.SIGKILL)
            if self._threads:
                self._receive()
            if (waiting := self._waiting) is None:
                continue
            number, since = waiting
            for rank, gone in self._gone.items():
                if gone.calls < number:
                    self._end(gone.code, rank, f"worker {rank} {gone.cause}")
            late = (time.monotonic() - since) / self._timeout
            if late > ASKING and self._asked != number and self._threads:
                self._asked = number
                self._places.clear()
                self._send(None)
            if late > 1:
                self._end(STUCK, -1, self._stuck(number))

    def _stuck(self, number: int) -> str:
        """Return which workers the others wait for, and where these are."""
        lines = [f"worker {self.rank} has waited for the others for {self._timeout:g} s, the time-out."]
        for rank in range(self.size):
            worker = _Place(number, "") if rank == self.rank else self._places.get(rank)
            if worker is None:
                lines.append(f"worker {rank} gives no answer: it is not training, or stopped, or cannot be reached")
            elif worker.calls < number:
                lines.append(f"worker {rank} is here:\n{worker.stack.rstrip()}")
        lines.append(
            "Every worker must call fit. If one is only slow, give the strategy more seconds: DataParallel(timeout=...)"
        )
        if "mpi4py.run" not in sys.modules:  # it ends all workers on an error of one
            lines.append(
                "If its script has raised an error outside training: start the workers by framework launch, or with "
                "python -m mpi4py, and such an error ends all of them at once"
            )
        return "\n".join(lines)

    def _fail(self, error: BaseException) -> None:
        """Tell the others of an error, and wait until all of them fail too or one of them ends the job."""
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        code, cause = code or 1, "".join(traceback.format_exception(error))[-4000:]  # the end of a long one
        self._send(_Gone(self._calls, code, f"failed:\n{cause}", final=False))
        end = time.monotonic() + self._timeout
        while True:
            self._receive()
            with self._lock:
                if len(self._gone) == self.size - 1:
                    self._gone = {rank: gone for rank, gone in self._gone.items() if gone.final}
                    return
            if time.monotonic() > end:
                self._end(code, -1, f"worker {self.rank} failed, and the others did not end:\n{cause}")
            time.sleep(0.005)

    def _report(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print the error that ends this process: in one line, if another worker prints its traceback."""
        if hasattr(error, "told_by_worker"):
            time.sleep(PATIENCE)  # the other one comes first
            print_line(f"worker {self.rank} ends: {type(error).__name__}: {error}")
        else:
            self._hook(kind, error, trace)
            sys.stderr.flush()
        time.sleep(PERIOD)  # as in _end

    def _leave(self) -> None:
        """Tell the others that this process ends, whether normally or by an error outside of ``guard``."""
        if self._control is None or self._mpi.Is_finalized():
            return
        error = getattr(sys, "last_value", None)  # which is printed
        cause = f"failed: {type(error).__name__}: {error}" if error else "has left while others train"
        self._send(_Gone(self._calls, 1, cause, final=True))
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not all(request.Test() for request in self._requests):
            time.sleep(0.005)

    def _send(self, message: _Gone | _Place | None, *ranks: int) -> None:
        """Send a message to some workers, or to all others; None asks them where they are."""
        if self._control is not None:
            others = ranks or [rank for rank in range(self.size) if rank != self.rank]
            self._requests += [self._control.isend(message, rank) for rank in others]

    def _receive(self) -> None:
        """Take the messages of other workers."""
        if self._control is None:
            return
        with self._lock:
            for rank in range(self.size):
                # The next failure of a worker counts only when this worker has failed as often.
                while rank not in self._gone and self._control.Iprobe(source=rank):
                    message = self._control.recv(source=rank)
                    if isinstance(message, _Gone):
                        self._gone[rank] = message
                    elif isinstance(message, _Place):
                        self._places[rank] = message
                    else:
                        frame = sys._current_frames().get(self._thread)
                        stack = "".join(traceback.format_stack(frame)[-6:])
                        self._send(_Place(self._calls, stack), rank)

    def _end(self, code: int, failed: int, text: str) -> None:
        """Print a cause and end all workers. One worker does so at once, the others only if it does not."""
        if self.rank != (1 if failed == 0 else 0):
            time.sleep(PATIENCE)
        killer = threading.Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGKILL))  # if MPI_Abort hangs
        killer.daemon = True
        killer.start()
        print_line(f"{text.rstrip()}\nframework: ending all {self.size} workers")
        with suppress(Exception):
            sys.stdout.flush()
        time.sleep(PERIOD)  # mpiexec has to read this before it hears that all is over
        self._world.Abort(code)


def print_line(text: str) -> None:
    """Print a line at once, whatever it has: a file name, and so an error, may have bytes that are no UTF-8."""
    os.write(2, f"framework: {text}\n".encode(errors="backslashreplace"))


def _unlink_memory() -> None:
    """Unlink the memory that MPICH shares, which all workers have opened: it would stay behind if one is killed."""
    with suppress(OSError):  # only Linux has this file
        maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        for path in {line.split()[5] for line in maps if f"{SHARED}/mpich_shm_" in line}:
            Path(path).unlink(missing_ok=True)


RUN = "from mpi4py import MPI, run; run.main()"
"""As python -m mpi4py, which ends all workers after an error, but MPI starts before the script, which may end early."""


def workers(timeout: float = 600.0) -> Workers:
    """Return the workers that this process belongs to: those of mpiexec or srun, or itself alone.

    Args:
        timeout: The seconds that the first call waits for the others to start.

    Raises:
        UsageError: Several processes were started, and mpi4py is not installed or finds fewer of them.
    """
    count = count_processes()
    if count == 1:
        return Workers()
    if count not in _created:
        if find_spec("mpi4py") is None:
            raise UsageError(
                f"this process is one of {count}, and training them together needs mpi4py: {installing('mpi4py')}; on "
                f"a cluster install mpi4py alone, beside the MPI library of the site"
            )
        _created[count] = MPIWorkers(count, timeout)
    return _created[count]


_created = dict[int, Workers]()
"""The workers of MPI by their number; they are made once."""

_known_alone = Event()
"""Set where it is known that this process trains by itself: that is intended, or a warning was given."""


def expect_alone() -> None:
    """Let this process train by itself without a warning, also where others were started with it."""
    _known_alone.set()


def warn_if_alone() -> None:
    """Warn once, on worker 0, that the workers of ``framework launch`` train without a strategy."""
    if _created or _known_alone.is_set() or sys.orig_argv[1:3] != ["-c", RUN]:
        return
    _known_alone.set()
    if sys.modules["mpi4py.MPI"].COMM_WORLD.rank == 0:
        count = count_processes()
        warn(
            f"fit: the trainer has no strategy, so each of the {count} workers of framework launch trains a model by "
            f"itself; to train one together: Trainer(strategy=DataParallel()); if each is to train its own, start them "
            f"by mpiexec -n {count} python"
        )
