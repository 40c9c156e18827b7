"""The index of the audit log as a row an entry in SQL: what a search must find, and the slow way to it."""

import sqlite3
from collections.abc import Iterable, Sequence

from authz.storage.audit_index import AccessEntry, AuditQuery

_COLUMNS = "chain, sequence, at, base, patient, person, client, grant_id, kind, outcome, rule, purpose, types"
_ORDER = "at DESC, chain DESC, sequence DESC, base DESC, patient DESC"


class EntriesInSql:
    """Entries in a table in memory, each once, as whoever came first had it."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("PRAGMA case_sensitive_like = ON")  # rules are compared byte for byte
        self._connection.execute(
            f"CREATE TABLE audit_entry ({_COLUMNS}, UNIQUE (chain, sequence, base, patient))"
        )

    def add(self, entries: Iterable[AccessEntry]) -> None:
        """Add those that are not there."""
        self._connection.executemany(
            f"INSERT INTO audit_entry VALUES ({', '.join('?' * 13)}) ON CONFLICT DO NOTHING", entries
        )

    def keep(self, entries: Iterable[AccessEntry]) -> None:
        """Forget all others."""
        self._connection.execute("DELETE FROM audit_entry")
        self.add(entries)

    def find(self, wanted: AuditQuery) -> list[AccessEntry]:
        """What is wanted, the newest first."""
        return [AccessEntry(*row) for row in self._connection.execute(*_search(wanted))]

    def close(self) -> None:
        """Close."""
        self._connection.close()


def _search(wanted: AuditQuery) -> tuple[str, Sequence[object]]:
    values: list[object] = []

    def value(of: object) -> str:
        values.append(of)
        return f"?{len(values)}"

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
    # Nobody is nobody's name.
    named = (("person", wanted.user), ("client", wanted.client), ("grant_id", wanted.grant))
    conditions += [f"{column} <> ''" for column, given in named if given is not None]
    if wanted.about_patients or wanted.patients:
        conditions.append("patient <> ''")
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
    sql = f"SELECT {_COLUMNS} FROM audit_entry{condition} ORDER BY {_ORDER} LIMIT {value(wanted.limit)}"
    return sql, values
