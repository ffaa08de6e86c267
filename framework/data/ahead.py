"""A thread that makes the next item while the current one is used."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

from framework.errors import UsageError

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds to wait for the thread at the end; one that hangs in a read is left behind."""


def ahead(items: Generator[T]) -> Generator[T]:
    """Give ``items``, each made by a thread while the one before it is used: at most one waits.

    The items and their order are the same as without the thread. An error of ``items`` is raised here, with its
    traceback. Closing this generator ends the thread and closes ``items``.

    Example:
        >>> list(ahead(n * n for n in range(4)))
        [0, 1, 4, 9]
    """
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    wanted = threading.Semaphore(1)
    stopped = threading.Event()

    def work() -> None:
        try:
            while wanted.acquire() and not stopped.is_set():
                made.put((next(items),))
        except StopIteration:
            made.put(None)
        except BaseException as error:  # noqa: BLE001 (raised below)
            made.put(error)
        finally:
            items.close()

    # The context holds NumPy's errstate.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="read ahead", daemon=True)
    thread.start()
    process = os.getpid()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            wanted.release()
            yield item[0]
            del item  # so that it need not live until the next one is there
            if os.getpid() != process:
                raise UsageError(
                    "a forked process cannot continue the training of its parent, whose data a thread reads; leave "
                    "the hook by os._exit, or give the Dataset read_ahead=False"
                )
    finally:
        if os.getpid() == process:  # in a forked one, nobody may ever release the locks
            stopped.set()
            wanted.release()
            thread.join(PATIENCE)
