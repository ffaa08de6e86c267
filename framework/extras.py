"""Extras: packages that are imported when something needs them, never before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from framework.errors import UsageError


def required(module: str, name: str, packages: str = "") -> Any:
    """Return a module of another package.

    Args:
        module: The module.
        name: What needs it, for the message.
        packages: What to install, where it is not the package of the module's name alone.

    Raises:
        UsageError: The package is not installed; says how to install it.

    Example:
        >>> required("framework_without_a_name", "Parquet")
        Traceback (most recent call last):
        framework.errors.UsageError: Parquet needs framework_without_a_name: pip install framework_without_a_name
    """
    try:
        return import_module(module)
    except ModuleNotFoundError:
        package = module.partition(".")[0]
        raise UsageError(f"{name} needs {package}: pip install {packages or package}") from None
