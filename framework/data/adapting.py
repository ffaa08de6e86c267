"""Data of other libraries and plain iterables, as a Dataset or a Stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from framework.data.indexed import Indexed
from framework.data.streams import BareStream, Stream
from framework.errors import DataError
from framework.frames import is_frame, is_series
from framework.settings.component import Component


def adapted(data: Any, name: str) -> Any:
    """Return a Dataset or a Stream for a dataset or a DataLoader of PyTorch, a dataset of Hugging Face, or an iterable.

    Anything else is returned as it is.

    Args:
        data: What a caller of ``fit`` gives.
        name: The caller, for messages.

    Raises:
        DataError: It is a DataLoader that shuffles.

    Example:
        >>> adapted((batch for batch in []), "fit").once
        True
    """
    if isinstance(data, tuple | list) and len(data) == 2 and hasattr(data[0], "with_format"):
        return Indexed(data[0], data[1] if isinstance(data[1], str) else tuple(data[1]))
    known = isinstance(data, tuple | list | str | bytes | Mapping | np.ndarray | Stream | Component | type)
    if known or hasattr(data, "read") or hasattr(data, "dtype") or is_frame(data) or is_series(data):
        return data
    if hasattr(data, "sampler") and hasattr(data, "batch_sampler"):
        return _of_loader(data, name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return Indexed(data)
    return BareStream(data) if hasattr(data, "__iter__") else data


_BEFORE = {"fit_many": "models, ", "resume": "run, ", "split": ""}
"""The argument before the data, of functions that do not take a model first."""


def call_of(name: str, data: str) -> str:
    """Return how a function is given data, for messages.

    Args:
        name: The function, or the function and "validation", as in messages.
        data: The data.

    Example:
        >>> call_of("fit", "(x, y)"), call_of("fit_many", "(x, y)"), call_of("fit: validation", "(x, y)")
        ('fit(model, (x, y))', 'fit_many(models, (x, y))', 'validation=(x, y)')
    """
    if name.endswith("validation"):
        return f"validation={data}"
    return f"{name}({_BEFORE.get(name, 'model, ')}{data})"


def _of_loader(loader: Any, name: str) -> Stream:
    """Return the batches of a DataLoader, whose order is the same in each epoch, as a Stream."""
    samplers = [type(each).__name__ for each in (loader.sampler, loader.batch_sampler)]
    if samplers[0] == "_InfiniteConstantSampler":  # of a dataset without rows by number
        return BareStream(loader)
    if samplers != ["SequentialSampler", "BatchSampler"]:
        kind = samplers[0] if samplers[0] != "SequentialSampler" else samplers[1]
        raise DataError(
            f"{name}: argument 'data' must be a DataLoader with shuffle=False; got a {kind}, whose order resume cannot "
            f"repeat; write {call_of(name, 'loader.dataset')}: the trainer shuffles it, and cuts its batches"
        )
    rows = len(loader) * loader.batch_size if loader.drop_last else len(loader.dataset)

    def batches(_epoch: int) -> Any:  # the same in each
        return loader

    batches.__qualname__ = type(loader).__name__
    return Stream(batches, rows)
