"""Numbered, forward-only changes of the schema, one folder a dialect."""
