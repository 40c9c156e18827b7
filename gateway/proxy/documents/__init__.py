"""Binaries and the documents in them: what leads to one, its content on the way in and out."""
