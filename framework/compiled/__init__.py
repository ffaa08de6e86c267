"""The compiled engine: the same formulas as one native kernel that trains on a chunk of batches.

Needs the extra ``framework[compiled]``: Numba and SciPy. Neither is imported before a kernel is made.
"""

from framework.compiled.engine import Engine, choose, require_available

__all__ = ["Engine", "choose", "require_available"]
