"""The compiled engine: the same formulas as one native kernel that trains on a chunk of batches.

Needs llvmlite, which is not imported before a kernel is made.
"""
