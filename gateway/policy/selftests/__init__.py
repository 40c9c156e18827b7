"""The tests inside policy files: played against the engine at every load."""
