"""The chains of the audit log on SQLite. What each method means stands at Store."""

from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Connection

from authz.storage.audit_lines import AuditLine
from authz.storage.records import integer, numbered_octets, octets, text
from authz.storage.rows import AUDIT_COLUMNS, audit_line, audit_lines
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.store import AuditConflict

_ALL_HEADS = "SELECT '' AS chain, sequence, digest FROM audit_head UNION ALL SELECT chain, sequence, digest FROM audit_chain"


class SqliteAudit:
    """The part of SqliteStore that keeps them."""

    _database: SqliteConnection

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Append lines and move the head, in one transaction."""
        if not lines:
            return
        with self._database.transaction() as connection:
            sequence, digest = _head(connection, lines[0].chain)
            if lines[0].sequence != sequence + 1 or (sequence and lines[0].previous != digest):
                raise AuditConflict(f"the newest audit record is {sequence}, not {lines[0].sequence - 1}")
            _append(connection, lines)

    async def extend_audit(
        self, link: Callable[[tuple[int, bytes] | None], Sequence[AuditLine]], *, chain: str = ""
    ) -> None:
        """Append what link makes behind the newest line; the write lock is held meanwhile."""
        with self._database.transaction() as connection:
            sequence, digest = _head(connection, chain)
            _append(connection, link((sequence, digest) if sequence else None))

    async def chains(self) -> Sequence[str]:
        """Each chain is found by one step in the index, however many lines it has."""
        rows = self._database.rows(
            "WITH RECURSIVE named (chain) AS (SELECT MIN(chain) FROM audit UNION ALL"  # noqa: S608
            " SELECT (SELECT MIN(chain) FROM audit WHERE chain > named.chain) FROM named"
            " WHERE named.chain IS NOT NULL)"
            f" SELECT chain FROM named WHERE chain IS NOT NULL UNION SELECT chain FROM ({_ALL_HEADS})"
            " ORDER BY chain"
        )
        return [text(row[0]) for row in rows]

    async def last_audit(self, chain: str = "") -> AuditLine | None:
        """The newest line."""
        row = self._database.row(
            f"SELECT {AUDIT_COLUMNS} FROM audit WHERE chain = ? ORDER BY sequence DESC LIMIT 1",  # noqa: S608
            chain,
        )
        return None if row is None else audit_line(row)

    async def audit_head(self, chain: str = "") -> tuple[int, bytes] | None:
        """Sequence and digest of the newest line as recorded beside the log."""
        row = self._database.row(f"SELECT sequence, digest FROM ({_ALL_HEADS}) WHERE chain = ?", chain)  # noqa: S608
        return None if row is None else (integer(row[0]), octets(row[1]))

    async def audit_heads(self) -> Mapping[str, tuple[int, bytes]]:
        """Those of every chain."""
        return {text(row[0]): (integer(row[1]), octets(row[2])) for row in self._database.rows(_ALL_HEADS)}

    async def audit(self, *, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]:
        """At most limit lines after that sequence."""
        rows = self._database.rows(
            f"SELECT {AUDIT_COLUMNS} FROM audit WHERE chain = ? AND sequence > ? ORDER BY sequence LIMIT ?",  # noqa: S608
            chain,
            after,
            limit,
        )
        return audit_lines(rows)

    async def audit_texts(self, *, chain: str, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Sequence and text of the same."""
        rows = self._database.rows(
            "SELECT sequence, line FROM audit WHERE chain = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            chain,
            after,
            limit,
        )
        return numbered_octets(rows)


def _append(connection: Connection, lines: Sequence[AuditLine]) -> None:
    connection.executemany(
        "INSERT INTO audit (chain, sequence, previous, digest, line) VALUES (?, ?, ?, ?, ?)",
        [(line.chain, line.sequence, line.previous, line.digest, line.line) for line in lines],
    )
    last = lines[-1]
    if last.chain:
        connection.execute(
            "INSERT INTO audit_chain VALUES (?1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET sequence = ?2, digest = ?3",
            (last.chain, last.sequence, last.digest),
        )
        return
    connection.execute(
        "INSERT INTO audit_head VALUES (1, ?1, ?2) ON CONFLICT DO UPDATE SET sequence = ?1, digest = ?2",
        (last.sequence, last.digest),
    )


def _head(connection: Connection, chain: str) -> tuple[int, bytes]:
    if chain:
        row = connection.execute(
            "SELECT sequence, digest FROM audit_chain WHERE chain = ?", (chain,)
        ).fetchone()
    else:
        row = connection.execute("SELECT sequence, digest FROM audit_head").fetchone()
    return (0, b"") if row is None else (integer(row[0]), octets(row[1]))
