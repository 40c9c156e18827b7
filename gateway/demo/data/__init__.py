"""Synthetic patients for the demonstration; see README.md here for origin and licence."""
