"""Engines make the steps of a run."""

from framework.engines.base import AUTO, ENGINES, Engine, engine_of, outputs_of, supported

__all__ = ["AUTO", "ENGINES", "Engine", "engine_of", "outputs_of", "supported"]
