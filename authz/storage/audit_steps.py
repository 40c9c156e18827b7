"""Work on a store written once for every kind of it: steps that ask for the rows of one statement after the other.

Who has the store runs them, at once or waiting for a server. Statements are written with $1, $2 …; EACH($1) is a table
`each` with the numbers of a list as its column `value`, and AMONG [SELECT …] says that a column holds one of what is
selected.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeVar

R = TypeVar("R")
Row = tuple[object, ...]


class Statement(NamedTuple):
    """What a step asks for. Values that are lists of numbers are for EACH."""

    sql: str
    values: Sequence[object] = ()


class Many(NamedTuple):
    """The same statement with one row of values after the other; it gives no rows."""

    sql: str
    rows: Sequence[Sequence[object]]


class OneMoment(NamedTuple):
    """What is read from here on is as it stands at one moment; it gives no rows.

    Steps that read begin without: where one statement tells all, a server is not asked for a transaction around it.
    """


class Turn(NamedTuple):
    """Enough was done for a moment: others come first. It gives no rows."""


Steps = Generator[Statement | Many | OneMoment | Turn, Sequence[Row], R]
"""Steps that end with what they are for."""
