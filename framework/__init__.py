"""An object-oriented training framework on NumPy: write the formula once; the framework does the rest.

Example:
    >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer
    >>> x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 1]
    >>> neuron = Neuron(2, Sigmoid())
    >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=200)
    >>> run = trainer.fit(neuron, (x, y))
    >>> [float(p) > 0.5 for p in trainer.predict(neuron, x)]
    [False, True, True, True]
"""

import re as _re
from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path
from typing import Any as _Any


def _modules() -> dict[str, str]:
    """Return the module of each public name, as the stub beside this file says."""
    stub = _Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = _re.findall(r"^from (\S+) import (?:\(([^)]+)\)|(.+))$", stub, _re.MULTILINE)
    pairs = [(name, module) for module, *lists in imports for name in _re.findall(r"(\w+) as", "".join(lists))]
    return dict(sorted(pairs))


_MODULES = _modules()
__all__ = list(_MODULES)


def __getattr__(name: str) -> _Any:
    """Import a public name, or a module of the package, at its first use."""
    if name in _MODULES:
        value = globals()[name] = getattr(_import_module(_MODULES[name]), name)
        return value
    if name == "__version__":
        return _import_module("importlib.metadata").version("framework")
    if name[0] != "_" and _find_spec(f"{__name__}.{name}"):
        return _import_module(f"{__name__}.{name}")
    from framework.settings.messages import answering  # noqa: PLC0415 (too slow for `import framework`)

    return answering(__name__, __all__)(name, depth=2)


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
