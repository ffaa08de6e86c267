"""Settings: components that validate, print, compare and travel as JSON, and the messages about them."""
