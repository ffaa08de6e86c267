"""Workers: the processes that train one model together, and what they exchange.

A leaf (shard) is a fixed part of each batch. The number of leaves belongs to the experiment; the number of workers does
not. A worker computes a consecutive range of leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from framework.base import errors
from framework.base.arrays import Array
from framework.base.errors import DivergedError, FrameworkError, UsageError

Value = TypeVar("Value")

Failure: TypeAlias = FrameworkError | None
"""An error as other workers hear of it: of its class, or of its base class in this package, with its fields."""


class Workers:
    """The workers of one process: this one alone.

    Attributes:
        rank: The number of this worker, from 0.
        size: The number of workers.

    Example:
        >>> alone = Workers()
        >>> alone.leaves(4), alone.gather("value")
        (range(0, 4), ['value'])
    """

    rank = 0
    size = 1

    def leaves(self, shards: int, rank: int | None = None) -> range:
        """Return the leaves that this worker computes, or the one of a rank; there may be no leaf for it."""
        rank = self.rank if rank is None else rank
        return range(rank * shards // self.size, (rank + 1) * shards // self.size)

    def broadcast(self, value: Value) -> Value:
        """Return the value of worker 0, which may be any object that can be pickled."""
        return value

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all workers in the order of their ranks; they are pickled."""
        return [value]

    def require_equal(
        self, values: Mapping[str, Any], where: str = "", advice: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Compare values by name over all workers: arrays by their bits, other values by their text.

        Args:
            values: The values by name.
            where: The beginning of the error.
            advice: What to do where a value differs, by its name.

        Raises:
            UsageError: They differ, on all workers; names the first value that does, and the workers.
        """
        if self.size == 1:
            return
        gathered = self.gather({name: _fingerprint(value) for name, value in values.items()})
        names = dict.fromkeys(name for values in gathered for name in values)
        differing = [name for name in names if len({values.get(name) for values in gathered}) > 1]
        if not differing:
            return
        texts = [values.get(differing[0], "nothing of this name") for values in gathered]
        others = [rank for rank, text in enumerate(texts) if text != texts[0]]
        ranks = f"{'workers' if len(others) > 1 else 'worker'} {', '.join(map(str, others))}"
        more = f"; also different: {', '.join(differing[1:4])}" if len(differing) > 1 else ""
        error = UsageError(
            f"{where}{differing[0]} must be equal on all workers; worker 0 has {texts[0]}, and {ranks} "
            f"{'have' if len(others) > 1 else 'has'} {', '.join(dict.fromkeys(texts[rank] for rank in others))}"
            f"{more}{', ...' if len(differing) > 4 else ''}"
            f"{f'; {advice[differing[0]]}' if differing[0] in advice else ''}"
        )
        raise error if self.rank == 0 else of_worker(0, error)

    @contextmanager
    def together(self, agree: Callable[[Exception | None], None] | None = None) -> Iterator[None]:
        """Do something on all workers; an error of one is raised on all of them, by ``agree`` if it is given."""
        error = None
        try:
            yield
        except Exception as raised:  # noqa: BLE001 (raised below)
            error = raised
        if agree is None:
            require_success(self.gather(failure_of(error)), self.rank, error)
        else:
            agree(error)

    @contextmanager
    def guard(self, timeout: float) -> Iterator[None]:
        """End all workers when one of them fails within this block, or lets the others wait for ``timeout`` seconds."""
        del timeout  # a worker that is alone waits for nobody
        yield

    def share(self, size: int) -> Array | None:
        """Return ``size`` bytes of memory that all workers share, zeroed; None where they cannot."""
        return None

    def barrier(self) -> None:
        """Wait for all workers."""

    def alltoall(self, sent: Array, places: Sequence[Array], received: Array, origins: Sequence[Array]) -> None:
        """Give each worker its part of the bytes of ``sent``; ``places`` has their counts and starts."""
        raise NotImplementedError

    def allgather(self, sent: Array, received: Array, origins: Sequence[Array]) -> None:
        """Collect the parts of all workers in ``received``; ``origins`` has their counts and starts in bytes."""
        raise NotImplementedError


def failure_of(error: Exception | None) -> Failure:
    """Return an error as the other workers hear of it."""
    if error is None:
        return None
    kind = next((base for base in type(error).__mro__ if vars(errors).get(base.__name__) is base), None)
    return (kind or UsageError).of(error)


def require_success(failures: Sequence[Failure], rank: int, error: Exception | None) -> None:
    """Check that no worker has failed.

    Args:
        failures: The failures of all workers, in the order of their ranks.
        rank: That of this worker.
        error: The error of this worker, or None.

    Raises:
        Exception: The error of this worker; without one, that of the first worker that has one. A DivergedError is
            always that of the first one, so that all workers name the same row.
    """
    first = next((number for number, failure in enumerate(failures) if failure is not None), rank)
    failure, own = failures[first], failures[rank]
    if failure is None:
        return
    if error is None or (isinstance(error, DivergedError) and repr(own) != repr(failure)):
        raise of_worker(first, type(failure).of(failure, f"worker {first}"))
    raise of_worker(first, error) if repr(own) == repr(failure) and rank != first else error


def of_worker(rank: int, error: Exception) -> Exception:
    """Mark an error as that of another worker, which prints the traceback, and return it."""
    error.told_by_worker = rank  # type: ignore[attr-defined]
    return error


def _fingerprint(value: Any) -> str:
    """Return a short text that differs where values differ."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} sha256 {hashlib.sha256(value.tobytes()).hexdigest()[:16]}"
    text = repr(value)
    if len(text) <= 200:
        return text
    return f"{text[:80]}... sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
