"""Places of audit feeds on PostgreSQL. What each method means stands at Store."""

from collections.abc import Mapping

from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.records import integer


class PostgresqlAuditFeeds:
    """The part of PostgresqlStore that keeps them."""

    _database: PostgresqlPool

    async def audit_feed(self, feed: str) -> Mapping[str, int]:
        """The places of a feed."""
        rows = await self._database.rows("SELECT chain, position FROM audit_feed WHERE feed = $1", feed)
        return {str(chain): integer(position) for chain, position in rows}

    async def move_audit_feed(self, feed: str, chain: str, *, expected: int | None, to: int) -> bool:
        """Move a place that is the expected one."""
        if expected is None:
            sql = "INSERT INTO audit_feed (feed, chain, position) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
            return await self._database.change(sql, feed, chain, to) == 1
        sql = "UPDATE audit_feed SET position = $1 WHERE feed = $2 AND chain = $3 AND position = $4"
        return await self._database.change(sql, to, feed, chain, expected) == 1
