"""Processes that share work: who works on what, and how several are started."""
