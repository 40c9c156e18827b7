"""Where records rest in PostgreSQL."""
