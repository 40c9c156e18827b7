"""What the store answers, on its way to the caller: filtered, linked, formatted, coded, signed."""
