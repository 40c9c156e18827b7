"""Cases between the numbers of the attack list: siblings of its traps, each with its permitted twin."""

from tests.attacks.between import documents, operations, queries, reads, requests, writes
from tests.attacks.table.rows import Row

_GROUPS = (requests, queries, reads, writes, operations, documents)
ROWS: tuple[Row, ...] = tuple(row for group in _GROUPS for row in group.ROWS)
