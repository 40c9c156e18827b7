"""Signed tree heads, stubs, keys and holds of the audit log on PostgreSQL. What each method means stands at Store."""

from collections.abc import Sequence

from authz.storage.audit_seals import AuditKey, Hold, Stub, TreeHead
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.records import integer
from authz.storage.rows import (
    AUDIT_KEY_COLUMNS,
    HOLD_COLUMNS,
    audit_key,
    audit_key_values,
    hold,
    hold_values,
    stub,
    tree_head,
)


class PostgresqlAuditSeals:
    """The part of PostgresqlStore that keeps them."""

    _database: PostgresqlPool

    async def add_tree_head(self, head: TreeHead) -> bool:
        """Add a head behind the newest."""
        sql = (
            "INSERT INTO audit_tree_head (number, head, frontier) SELECT $1::bigint, $2::bytea, $3::bytea"
            " WHERE $1 = 1 + (SELECT COALESCE(MAX(number), 0) FROM audit_tree_head) ON CONFLICT DO NOTHING"
        )
        return await self._database.change(sql, head.number, head.head, head.frontier) == 1

    async def tree_heads(self, *, after: int, limit: int) -> Sequence[TreeHead]:
        """Heads after that number."""
        sql = "SELECT number, head, frontier FROM audit_tree_head WHERE number > $1 ORDER BY number LIMIT $2"
        return [tree_head(row) for row in await self._database.rows(sql, after, limit)]

    async def newest_tree_head(self) -> TreeHead | None:
        """The newest head."""
        row = await self._database.row(
            "SELECT number, head, frontier FROM audit_tree_head ORDER BY number DESC LIMIT 1"
        )
        return None if row is None else tree_head(row)

    async def add_stub(self, stub: Stub) -> bool:
        """Add a stub that meets no other."""
        sql = (
            "INSERT INTO audit_stub (chain, first, last, stub) SELECT $1::text, $2::bigint, $3::bigint, $4::bytea"
            " WHERE NOT EXISTS (SELECT 1 FROM audit_stub WHERE chain = $1 AND first <= $3 AND last >= $2)"
            " ON CONFLICT DO NOTHING"
        )
        return await self._database.change(sql, stub.chain, stub.first, stub.last, stub.stub) == 1

    async def stubs(self, chain: str) -> Sequence[Stub]:
        """The stubs of a chain."""
        sql = "SELECT chain, first, last, stub FROM audit_stub WHERE chain = $1 ORDER BY first"
        return [stub(row) for row in await self._database.rows(sql, chain)]

    async def remove_stubbed(self, stub: Stub, *, limit: int) -> int:
        """Remove lines that the stub stands for, by the function that alone may."""
        row = await self._database.row(
            "SELECT remove_stubbed_audit($1, $2, $3)", stub.chain, stub.first, limit
        )
        return 0 if row is None else integer(row[0])

    async def add_audit_key(self, key: AuditKey) -> bool:
        """Add a key; False when its number is taken."""
        sql = f"INSERT INTO audit_key ({AUDIT_KEY_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"  # noqa: S608
        return await self._database.change(sql, *audit_key_values(key)) == 1

    async def audit_keys(self) -> Sequence[AuditKey]:
        """Every key, oldest first."""
        sql = f"SELECT {AUDIT_KEY_COLUMNS} FROM audit_key ORDER BY number"  # noqa: S608
        return [audit_key(row) for row in await self._database.rows(sql)]

    async def reseal_audit_key(self, number: int, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key; False when it was not the expected one."""
        sql = "UPDATE audit_key SET encrypted = $1 WHERE number = $2 AND encrypted = $3"
        return await self._database.change(sql, encrypted, number, expected) == 1

    async def put_hold(self, hold: Hold) -> None:
        """Store a hold."""
        sql = f"INSERT INTO audit_hold ({HOLD_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
        await self._database.change(sql, *hold_values(hold))

    async def end_hold(self, id: str, *, now: int) -> bool:
        """End a hold that lasts."""
        sql = "UPDATE audit_hold SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL"
        return await self._database.change(sql, now, id) == 1

    async def holds(self) -> Sequence[Hold]:
        """Every hold, oldest first."""
        sql = f"SELECT {HOLD_COLUMNS} FROM audit_hold ORDER BY created_at, id"  # noqa: S608
        return [hold(row) for row in await self._database.rows(sql)]
