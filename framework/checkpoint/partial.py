"""Loading a part of a checkpoint by name, into a model of another task: for fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from framework.arrays import Array
from framework.errors import CheckpointError
from framework.models import Model

_GROUPS = ("parameters.", "buffers.")


@dataclass(frozen=True)
class Loaded:
    """The result of ``load_model(path, into=model)``: names of parameters and buffers; it prints as a table.

    Attributes:
        loaded: Names whose numbers come from the file.
        kept: Other names of the model, whose numbers stay.
        unused: Other names in the file.

    Example:
        >>> print(Loaded(loaded=("0.weights", "0.bias"), kept=("1.weights",), unused=()))
        loaded: 0.weights, 0.bias
        kept:   1.weights
        unused: nothing
    """

    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        groups = (("loaded", self.loaded), ("kept", self.kept), ("unused", self.unused))
        return "\n".join(f"{f'{name}:':<8}{', '.join(names) or 'nothing'}" for name, names in groups)


def fill(model: Model, arrays: dict[str, Array], names: str | tuple[str, ...]) -> Loaded:
    """Copy the arrays whose names fit into a model's parameters and buffers of the same names.

    Raises:
        CheckpointError: A shape differs, a number is too large for the model's dtype, or no name fits; nothing is
            changed.
    """
    patterns = (names,) if isinstance(names, str) else tuple(names)
    targets: dict[str, Array] = {**model.parameters.views, **model.buffers}
    sources = {name.split(".", 1)[1]: array for name, array in arrays.items() if name.startswith(_GROUPS)}
    chosen = [n for n in targets if n in sources and any(fnmatchcase(n, pattern) for pattern in patterns)]
    if not chosen:
        raise CheckpointError(
            f"no parameter of both the file and the model has a name like {' or '.join(map(repr, patterns))}\n"
            f"the file has: {', '.join(sorted(sources))}\nthe model has: {', '.join(targets)}"
        )
    if differing := [n for n in chosen if sources[n].shape != targets[n].shape]:
        lines = [f"{n}: {targets[n].shape} in the model, {sources[n].shape} in the file" for n in differing]
        raise CheckpointError("\n".join(["shapes differ; choose names without these:", *lines]))
    with np.errstate(over="ignore"):
        values = {n: sources[n].astype(targets[n].dtype) for n in chosen}
    if large := [n for n in chosen if not np.isfinite(values[n]).all()]:
        raise CheckpointError(f"{large[0]} holds numbers that are not finite in {targets[large[0]].dtype}")
    for name, value in values.items():
        targets[name][...] = value
    return Loaded(
        tuple(chosen),
        tuple(n for n in targets if n not in values),
        tuple(sorted(n for n in sources if n not in values)),
    )
