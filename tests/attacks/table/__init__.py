"""The attack table: every row of every section."""

from tests.attacks.table import (
    section_a,
    section_b,
    section_c,
    section_d,
    section_e,
    section_f,
    section_g,
    section_h,
)
from tests.attacks.table.rows import Row

_SECTIONS = (section_a, section_b, section_c, section_d, section_e, section_f, section_g, section_h)
ROWS: tuple[Row, ...] = tuple(row for section in _SECTIONS for row in section.ROWS)
