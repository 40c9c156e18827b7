"""The index of the audit log on PostgreSQL. What each method means stands at AuditIndexStore."""

from collections.abc import Collection, Mapping, Sequence

from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_queries import ENTRY_COLUMNS, access_entry, search
from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.records import integer, text

_INSERT = (
    f"INSERT INTO audit_entry ({ENTRY_COLUMNS}) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[],"  # noqa: S608
    " $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],"
    " $12::text[], $13::text[]) ON CONFLICT DO NOTHING"
)


class PostgresqlAuditIndex:
    """The part of PostgresqlStore that keeps the index."""

    _database: PostgresqlPool

    async def index_audit(self, entries: Sequence[AccessEntry], *, chain: str, read_to: int) -> None:
        """Add entries and move the place, in one transaction."""
        async with self._database.transaction() as transaction:
            if entries:
                columns = zip(*entries, strict=True)
                await transaction.change(_INSERT, *(list(column) for column in columns))
            await move_place(transaction, "index", chain, read_to)

    async def indexed_to(self, chain: str) -> int:
        """The place of the follower in a chain."""
        return await place(self._database, "index", chain)

    async def find_audit(self, wanted: AuditQuery) -> Sequence[AccessEntry]:
        """What is wanted, the newest first."""
        sql, values = search(wanted, lambda number: f"${number}")
        return [access_entry(row) for row in await self._database.rows(sql, *values)]

    async def audit_entries(self, *, chain: str, after: int, limit: int) -> Sequence[AccessEntry]:
        """The entries of the next records of a chain."""
        rows = await self._database.rows(
            f"SELECT {ENTRY_COLUMNS} FROM audit_entry WHERE chain = $1 AND sequence > $2 AND sequence <="  # noqa: S608
            " (SELECT MAX(sequence) FROM (SELECT DISTINCT sequence FROM audit_entry WHERE chain = $1"
            " AND sequence > $2 ORDER BY sequence LIMIT $3) AS next) ORDER BY sequence, base, patient",
            chain,
            after,
            limit,
        )
        return [access_entry(row) for row in rows]

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """When each grant was used last."""
        # One look at the index for each grant, however often it was used.
        rows = await self._database.rows(
            "SELECT wanted.grant_id, newest.at FROM unnest($1::text[]) AS wanted (grant_id), LATERAL (SELECT at"
            " FROM audit_entry AS entry WHERE entry.grant_id = wanted.grant_id AND entry.grant_id <> ''"
            " ORDER BY at DESC LIMIT 1) AS newest",
            sorted(grants),
        )
        return {text(grant): integer(at) for grant, at in rows}

    async def patients_per_window(
        self, user: str, *, since: int, until: int, window: int
    ) -> Mapping[int, int]:
        """Patients of a user's permitted accesses, window by window."""
        rows = await self._database.rows(
            "SELECT number, COUNT(*) FROM (SELECT DISTINCT ($3::bigint - 1 - at) / $4::bigint AS number, base, patient"
            " FROM audit_entry WHERE person = $1 AND person <> '' AND at >= $2 AND at < $3 AND patient <> ''"
            " AND outcome = 'permit') AS seen GROUP BY number",
            user,
            since,
            until,
            window,
        )
        return {integer(number): integer(count) for number, count in rows}

    async def remove_audit_entries(self, *, before: int, at_most: int) -> int:
        """Remove some of what is old."""
        return await self._database.change(
            "DELETE FROM audit_entry WHERE ctid = ANY (ARRAY (SELECT ctid FROM audit_entry WHERE at < $1 LIMIT $2))",
            before,
            at_most,
        )

    async def tend_audit_index(self) -> bool:
        """Nothing is left to do: its indexes are kept by the server."""
        return False

    async def rewind_audit_index(self) -> None:
        """Begin every chain anew."""
        await self._database.change("DELETE FROM audit_place WHERE follower = 'index'")


async def place(database: PostgresqlPool, follower: str, chain: str) -> int:
    """How far a follower has read a chain."""
    row = await database.row(
        "SELECT sequence FROM audit_place WHERE follower = $1 AND chain = $2", follower, chain
    )
    return 0 if row is None else integer(row[0])


async def move_place(
    transaction: Transaction, follower: str, chain: str, read_to: int, read_from: int | None = None
) -> bool:
    """Move a follower's place, never back; False when it is there or beyond, or not at read_from."""
    moved = await transaction.change(
        "INSERT INTO audit_place VALUES ($1, $2, $3) ON CONFLICT (follower, chain)"
        " DO UPDATE SET sequence = excluded.sequence WHERE audit_place.sequence < excluded.sequence"
        " AND audit_place.sequence = COALESCE($4, audit_place.sequence)",
        follower,
        chain,
        read_to,
        read_from,
    )
    return moved == 1
