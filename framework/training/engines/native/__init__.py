"""The native engine: a step as one function, from its graph."""
