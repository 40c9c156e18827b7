"""The attack table: every row of every section."""

from importlib import import_module

from tests.attacks.table.rows import Row

_SECTIONS = [import_module(f"{__name__}.section_{letter}") for letter in (*"abcdefghiklopqsv", "d_opened")]
ROWS: tuple[Row, ...] = tuple(row for section in _SECTIONS for row in section.ROWS)
