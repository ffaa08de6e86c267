"""Forked processes, each of which calls a function."""

import os
import signal
import warnings

DEADLINE = 60
"""Seconds after which a child that hangs is ended, and its test fails."""


def fork():
    """Fork, without the warnings that Python and JAX give while there are threads: tests watch for these hangs."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        return os.fork()


def start_child(function):
    """Fork a process that calls a function, and return its number."""
    if (child := fork()) == 0:
        signal.alarm(DEADLINE)
        try:
            function()
        except BaseException:  # noqa: BLE001 (the test must not go on in the child)
            os._exit(1)
        os._exit(0)
    return child


def end_child(child):
    """Return the exit code of a child: 0 if its function returned, 1 after an error, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(function):
    """Call a function in a forked process, and return the exit code."""
    return end_child(start_child(function))
