"""Policy files become rules: each key of the language has its reader, and every mistake its place."""
