"""Backends: a graph as NumPy or JAX source, as machine code, and as text and LaTeX for readers."""
