"""The JAX engine: the same formulas as one function that JAX compiles, which trains on a chunk of batches.

Needs JAX, which is not imported before a run uses it.
"""
