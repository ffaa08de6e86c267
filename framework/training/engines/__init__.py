"""Engines make the steps of a run."""

from framework.training.engines.base import ENGINES, Engine, engine_for, engine_of, is_quiet, outputs_of

__all__ = ["ENGINES", "Engine", "engine_for", "engine_of", "is_quiet", "outputs_of"]
