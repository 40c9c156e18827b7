"""The attack table: every row of every section."""

from tests.attacks.table import section_a, section_b, section_c, section_d, section_e
from tests.attacks.table.rows import Row

ROWS: tuple[Row, ...] = tuple(
    row for part in (section_a, section_b, section_c, section_d, section_e) for row in part.ROWS
)
