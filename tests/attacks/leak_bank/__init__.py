"""The leak bank: questions that leaked at other servers, each with exactly what must come of it here."""

from tests.attacks.leak_bank import searching
from tests.attacks.table.rows import Row

ROWS: tuple[Row, ...] = (*searching.ROWS,)
"""Every question, by its id."""
