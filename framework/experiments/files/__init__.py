"""The file of an experiment: its text, and the components and the schema of its settings."""
