"""Extras: packages that are imported when something needs them, never before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from framework.base.errors import UsageError

EXTRAS = {
    "compiled": ("llvmlite",),
    "jax": ("jax",),
    "data": ("narwhals", "pyarrow"),
    "onnx": ("onnx",),
    "plot": ("matplotlib",),
    "sklearn": ("scikit-learn",),
    "mpi": ("mpi4py", "mpich"),
    "watch": ("rich",),
    "boosting": ("lightgbm",),
    "tensorboard": ("tensorboardX", "crc32c"),
    "optuna": ("optuna",),
    "mlflow": ("mlflow-skinny", "sqlalchemy", "alembic"),
}
"""The packages of each extra, as in pyproject.toml."""


def load_module(module: str, name: str) -> Any:
    """Return a module of another package.

    Args:
        module: The module.
        name: What needs it, for the message.

    Raises:
        UsageError: The package is not installed; says how to install it, with the others of its extra.

    Example:
        >>> load_module("framework_without_a_name", "Parquet")
        Traceback (most recent call last):
        framework.base.errors.UsageError: Parquet needs framework_without_a_name: pip install framework_without_a_name
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0]
        raise UsageError(f"needs {package}: {installing(package)}", name=name) from None


def installing(package: str) -> str:
    """Return how to install a package. The name of this one belongs to another package on PyPI, so no index is named.

    Example:
        >>> installing("pyarrow")
        "pip install narwhals pyarrow, or in a clone pip install -e '.[data]'"
    """
    for extra, packages in EXTRAS.items():
        if any(member == package or member.startswith(f"{package}-") for member in packages):
            return f"pip install {' '.join(packages)}, or in a clone pip install -e '.[{extra}]'"
    return f"pip install {package}"
