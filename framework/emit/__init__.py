"""Emit: a graph as NumPy source, or as text and LaTeX for readers."""
