"""Work on a store written once for every kind of it: steps that ask for the rows of one statement after the other.

Who has the store runs them, at once or waiting for a server. Statements are written with $1, $2 …; EACH($1) is a table
`each` with the numbers of a list as its column `value`, and AMONG($1) says that a column holds one of them.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

R = TypeVar("R")
Row = tuple[object, ...]


class Statement(NamedTuple):
    """What a step asks for. Values that are lists of numbers are for EACH and AMONG."""

    sql: str
    values: Sequence[object] = ()


class Many(NamedTuple):
    """The same statement with one row of values after the other; it gives no rows."""

    sql: str
    rows: Sequence[Sequence[object]]


Steps = Generator[Statement | Many, Sequence[Row], R]
"""Steps that end with what they are for."""
