"""The chains of the audit log on PostgreSQL: appending to one locks its own row. What each method means stands at Store."""

from collections.abc import Callable, Mapping, Sequence

from authz.storage.audit_lines import AuditLine
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.records import integer, numbered_octets, octets, text
from authz.storage.rows import AUDIT_COLUMNS, audit_line, audit_lines
from authz.storage.store import AuditConflict, StoreUnavailable

_INSERT = (
    f" INSERT INTO audit ({AUDIT_COLUMNS}) SELECT $9, lines.* FROM"  # noqa: S608
    " unnest($5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[]) AS lines WHERE EXISTS (SELECT 1 FROM head)"
)
_APPEND_UNNAMED = (
    "WITH head AS (UPDATE audit_head SET sequence = $1, digest = $2"  # noqa: S608
    " WHERE sequence = $3 AND (sequence = 0 OR digest = $4) AND $9 = '' RETURNING 1)" + _INSERT
)
_APPEND_NAMED = (
    "WITH head AS (UPDATE audit_chain SET sequence = $1, digest = $2"  # noqa: S608
    " WHERE chain = $9 AND sequence = $3 AND (sequence = 0 OR digest = $4) RETURNING 1)" + _INSERT
)
_ALL_HEADS = (
    "SELECT ''::text COLLATE \"C\" AS chain, sequence, digest FROM audit_head WHERE sequence > 0"
    " UNION ALL SELECT chain, sequence, digest FROM audit_chain WHERE sequence > 0"
)


class PostgresqlAudit:
    """The part of PostgresqlStore that keeps them."""

    _database: PostgresqlPool

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Move the head and append lines, in one statement: who moves the head first has its place."""
        if not lines:
            return
        if lines[0].chain and lines[0].sequence == 1:
            await self._make_head(lines[0].chain)
        if await self._database.change(_append(lines[0].chain), *_appended(lines)) != len(lines):
            raise AuditConflict(f"the newest audit record is not {lines[0].sequence - 1} any more")

    async def extend_audit(
        self, link: Callable[[tuple[int, bytes] | None], Sequence[AuditLine]], *, chain: str = ""
    ) -> None:
        """Append what link makes behind the newest line; whoever else appends waits for its row."""
        if chain:
            await self._make_head(chain)
        async with self._database.transaction() as transaction:
            if chain:
                sql = "SELECT sequence, digest FROM audit_chain WHERE chain = $1 FOR UPDATE"
                head = await transaction.row(sql, chain)
            else:
                head = await transaction.row("SELECT sequence, digest FROM audit_head FOR UPDATE")
            if head is None:
                raise StoreUnavailable("the store has lost the head of its audit log")
            lines = link((integer(head[0]), octets(head[1])) if head[0] else None)
            if await transaction.change(_append(chain), *_appended(lines)) != len(lines):
                raise StoreUnavailable("the audit records do not follow the newest one")

    async def chains(self) -> Sequence[str]:
        """Each chain is found by one step in the index, however many lines it has."""
        rows = await self._database.rows(
            "WITH RECURSIVE named (chain) AS ((SELECT chain FROM audit ORDER BY chain LIMIT 1) UNION ALL"  # noqa: S608
            " SELECT (SELECT chain FROM audit WHERE chain > named.chain ORDER BY chain LIMIT 1) FROM named"
            " WHERE named.chain IS NOT NULL)"
            f" SELECT chain FROM named WHERE chain IS NOT NULL UNION SELECT chain FROM ({_ALL_HEADS}) AS heads"
            " ORDER BY chain"
        )
        return [text(row[0]) for row in rows]

    async def last_audit(self, chain: str = "") -> AuditLine | None:
        """The newest line."""
        sql = f"SELECT {AUDIT_COLUMNS} FROM audit WHERE chain = $1 ORDER BY sequence DESC LIMIT 1"  # noqa: S608
        row = await self._database.row(sql, chain)
        return None if row is None else audit_line(row)

    async def audit_head(self, chain: str = "") -> tuple[int, bytes] | None:
        """Sequence and digest of the newest line as recorded beside the log."""
        sql = f"SELECT sequence, digest FROM ({_ALL_HEADS}) AS heads WHERE chain = $1"  # noqa: S608
        row = await self._database.row(sql, chain)
        return None if row is None else (integer(row[0]), octets(row[1]))

    async def audit_heads(self) -> Mapping[str, tuple[int, bytes]]:
        """Those of every chain."""
        rows = await self._database.rows(_ALL_HEADS)
        return {text(row[0]): (integer(row[1]), octets(row[2])) for row in rows}

    async def audit(self, *, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]:
        """At most limit lines after that sequence."""
        sql = (
            f"SELECT {AUDIT_COLUMNS} FROM audit WHERE chain = $1 AND sequence > $2"  # noqa: S608
            " ORDER BY sequence LIMIT $3"
        )
        return audit_lines(await self._database.rows(sql, chain, after, limit))

    async def audit_texts(self, *, chain: str, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Sequence and text of the same."""
        sql = "SELECT sequence, line FROM audit WHERE chain = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"
        rows = await self._database.rows(sql, chain, after, limit)
        return numbered_octets(rows)

    async def _make_head(self, chain: str) -> None:
        """A row to be locked, before the first line of a chain."""
        await self._database.change(
            "INSERT INTO audit_chain (chain, sequence, digest) VALUES ($1, 0, '') ON CONFLICT DO NOTHING",
            chain,
        )


def _append(chain: str) -> str:
    return _APPEND_NAMED if chain else _APPEND_UNNAMED


def _appended(lines: Sequence[AuditLine]) -> tuple[object, ...]:
    """The values of both statements."""
    first, last = lines[0], lines[-1]
    return (
        last.sequence,
        last.digest,
        first.sequence - 1,
        first.previous,
        [line.sequence for line in lines],
        [line.previous for line in lines],
        [line.digest for line in lines],
        [line.line for line in lines],
        last.chain,
    )
