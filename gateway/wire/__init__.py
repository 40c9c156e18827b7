"""The bytes on both sides of the passage: HTTP/1.1 read and written by protocols of our own."""
