"""Engines make the steps of a run."""

from framework.engines.base import Engine

__all__ = ["Engine"]
