"""Locks and open files after a fork.

In a forked process only the thread that forked runs. A lock that another thread held is never released there, work that
it had half done stays so, and an open file shares its position with that of the parent.
"""

from __future__ import annotations

import os
import sys
import weakref
from functools import cached_property
from threading import RLock
from typing import Any, Protocol


class Renewable(Protocol):
    """An object with locks or open files of one process."""

    def renew(self) -> None:
        """Take locks that nobody holds, and let go of files, without waiting for anything."""


_OWNERS: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(owner: Renewable) -> None:
    """Call ``owner.renew()`` in each forked process, as long as the owner lives."""
    _OWNERS.add(owner)


def finish_before_forks(lock: Any) -> None:
    """Let each fork wait until ``lock`` is free, so that what it guards is whole in the child; for short work alone."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


def _renew() -> None:
    for owner in [*_OWNERS]:
        owner.renew()
    if sys.version_info < (3, 12):  # where a cached_property holds a lock while it is computed
        package = __name__.partition(".")[0]
        modules = [module for name, module in [*sys.modules.items()] if name.partition(".")[0] == package]
        classes = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
        for value in [value for cls in classes for value in vars(cls).values() if isinstance(value, cached_property)]:
            vars(value)["lock"] = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
