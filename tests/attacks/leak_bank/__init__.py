"""The leak bank: questions that leaked at other servers, each with exactly what must come of it here."""

from tests.attacks.leak_bank import reading, searching, writing
from tests.attacks.table.rows import Row

ROWS: tuple[Row, ...] = (*reading.ROWS, *searching.ROWS, *writing.ROWS)
"""Every question that is one request, by its id."""
BUNDLES: tuple[Row, ...] = writing.BUNDLES
"""Every question that is asked in a Bundle."""
