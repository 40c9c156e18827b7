"""The index of the audit log, and signals, in SQL: one text for every kind of store, with its values beside it."""

from collections.abc import Callable, Sequence

from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_signals import MOST_RECORDS, Signal
from authz.storage.records import decode, encode, integer, text

ENTRY_COLUMNS = (
    "chain, sequence, at, base, patient, person, client, grant_id, kind, outcome, rule, purpose, types"
)
SIGNAL_COLUMNS = (
    "id, rule, kind, at, last_at, base, patient, person, client, words, records, count, expires_at,"
    " reviewed_at, reviewed_by, review"
)
_ORDER = "at DESC, chain DESC, sequence DESC, base DESC, patient DESC"
Placeholder = Callable[[int], str]  # '?3' or '$3'


def access_entry(row: Sequence[object]) -> AccessEntry:
    """A row of ENTRY_COLUMNS."""
    chain, sequence, at, *rest = row
    return AccessEntry(text(chain), integer(sequence), integer(at), *(text(value) for value in rest))


def signal_of(row: Sequence[object]) -> Signal:
    """A row of SIGNAL_COLUMNS."""
    reviewed_at, reviewed_by, review = row[13:16]
    return Signal(
        id=text(row[0]),
        rule=text(row[1]),
        kind=text(row[2]),
        at=integer(row[3]),
        last_at=integer(row[4]),
        base=text(row[5]),
        patient=text(row[6]),
        user=text(row[7]),
        client=text(row[8]),
        words=text(row[9]),
        records=decode(row[10], tuple[tuple[str, int], ...]),
        count=integer(row[11]),
        expires_at=integer(row[12]),
        reviewed_at=None if reviewed_at is None else integer(reviewed_at),
        reviewed_by=None if reviewed_by is None else text(reviewed_by),
        review=None if review is None else text(review),
    )


def signal_values(signal: Signal) -> tuple[object, ...]:
    """A signal as a row of SIGNAL_COLUMNS."""
    return (
        signal.id, signal.rule, signal.kind, signal.at, signal.last_at, signal.base, signal.patient, signal.user,
        signal.client, signal.words, encode(signal.records[:MOST_RECORDS]), signal.count, signal.expires_at,
        signal.reviewed_at, signal.reviewed_by, signal.review,
    )  # fmt: skip


def search(
    wanted: AuditQuery,
    place: Placeholder,
    *,
    table: str = "audit_entry",
    also: str = "",
    given: Sequence[object] = (),
) -> tuple[str, list[object]]:
    """The statement that finds what is wanted, and its values.

    also is a further condition on the entries, whose values are given: they are the first ones.
    """
    values: list[object] = [*given]

    def value(of: object) -> str:
        values.append(of)
        return place(len(values))

    conditions = [
        f"{column} = {value(given)}"
        for column, given in (
            ("base", wanted.base),
            ("person", wanted.user),
            ("client", wanted.client),
            ("grant_id", wanted.grant),
            ("outcome", wanted.outcome),
        )
        if given is not None
    ]
    for column, among in (("patient", wanted.patients), ("kind", wanted.kinds)):
        if among:
            conditions.append(f"{column} IN ({', '.join(value(each) for each in sorted(among))})")
    # The indexes have rows that name somebody only, and SQLite uses one where the statement says so too.
    named = (("person", wanted.user), ("client", wanted.client), ("grant_id", wanted.grant))
    conditions += [f"{column} <> ''" for column, given in named if given is not None]
    if wanted.about_patients or wanted.patients:
        conditions.append("patient <> ''")
    if also:
        conditions.append(also)
    if wanted.rule is not None:
        # rule holds ids joined by blanks; an id holds none, and LIKE has no sign that an id could hold but '_'.
        escaped = wanted.rule.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        conditions.append(f"' ' || rule || ' ' LIKE {value(f'% {escaped} %')} ESCAPE '!'")
    if wanted.since is not None:
        conditions.append(f"at >= {value(wanted.since)}")
    if wanted.until is not None:
        conditions.append(f"at < {value(wanted.until)}")
    if wanted.before is not None:
        cursor = wanted.before
        behind = (cursor.at, cursor.chain, cursor.sequence, cursor.base, cursor.patient)
        placed = ", ".join(value(each) for each in behind)
        conditions.append(f"(at, chain, sequence, base, patient) < ({placed})")
    condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql = f"SELECT {ENTRY_COLUMNS} FROM {table}{condition} ORDER BY {_ORDER} LIMIT {value(wanted.limit)}"  # noqa: S608
    return sql, values
