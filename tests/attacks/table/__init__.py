"""The attack table: every row of every section."""

from tests.attacks.table import section_a, section_b, section_c
from tests.attacks.table.rows import Row

ROWS: tuple[Row, ...] = (*section_a.ROWS, *section_b.ROWS, *section_c.ROWS)
