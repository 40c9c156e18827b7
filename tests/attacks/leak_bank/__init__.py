"""The leak bank: questions that leaked at other servers, each with exactly what must come of it here."""

from tests.attacks.leak_bank import searching, writing
from tests.attacks.table.rows import Row

ROWS: tuple[Row, ...] = (*searching.ROWS, *writing.ROWS)
"""Every question that is one request, by its id."""
BUNDLES: tuple[Row, ...] = writing.BUNDLES
"""Every question that is asked in a Bundle."""
