"""The process: what may pass, and in which shape."""
