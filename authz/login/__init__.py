"""The person at the browser."""
