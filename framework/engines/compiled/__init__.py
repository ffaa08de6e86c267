"""The compiled engine: the same formulas as one native kernel that trains on a chunk of batches.

Needs llvmlite, which is not imported before a kernel is made.
"""

from framework.engines.compiled.choice import choose, require_available
from framework.engines.compiled.engine import CompiledEngine
from framework.engines.compiled.prediction import predictor

__all__ = ["CompiledEngine", "choose", "predictor", "require_available"]
