"""Places of audit feeds on SQLite. What each method means stands at Store."""

from collections.abc import Mapping

from authz.storage.records import integer
from authz.storage.sqlite.connection import SqliteConnection


class SqliteAuditFeeds:
    """The part of SqliteStore that keeps them."""

    _database: SqliteConnection

    async def audit_feed(self, feed: str) -> Mapping[str, int]:
        """The places of a feed."""
        rows = self._database.rows("SELECT chain, position FROM audit_feed WHERE feed = ?", feed)
        return {str(chain): integer(position) for chain, position in rows}

    async def move_audit_feed(self, feed: str, chain: str, *, expected: int | None, to: int) -> bool:
        """Move a place that is the expected one."""
        if expected is None:
            sql = "INSERT INTO audit_feed (feed, chain, position) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            return self._database.change(sql, feed, chain, to) == 1
        sql = "UPDATE audit_feed SET position = ? WHERE feed = ? AND chain = ? AND position = ?"
        return self._database.change(sql, to, feed, chain, expected) == 1
