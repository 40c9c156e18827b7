"""What patients agreed to."""
