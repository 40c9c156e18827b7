"""Where records rest in one SQLite file."""
