"""Engines make the steps of a run."""

from framework.engines.base import Engine
from framework.engines.registry import engine_of

__all__ = ["Engine", "engine_of"]
