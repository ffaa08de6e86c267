"""Kernels of dense models: predictions of a model, and trainings of many models at once.

Needs llvmlite, which is not imported before a kernel is made.
"""
