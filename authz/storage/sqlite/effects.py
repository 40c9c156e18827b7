"""Rates, emergency access and the outbox of notifications on SQLite. What each method means stands at Store."""

from collections.abc import Sequence
from sqlite3 import Connection

from authz.storage.effects import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Emergency,
    Notification,
    RateLimit,
)
from authz.storage.records import LARGEST, integer
from authz.storage.rows import (
    EMERGENCY_COLUMNS,
    NOTIFICATION_COLUMNS,
    emergency,
    notification,
    notification_values,
)
from authz.storage.sqlite.connection import SqliteConnection


class SqliteEffects:
    """The part of SqliteStore that keeps what permits oblige to."""

    _database: SqliteConnection

    # Rates

    async def spend(self, limits: Sequence[RateLimit], *, now: int) -> int:
        """Spend one use of every limit: 0; or nothing, and the seconds until the one that is used up opens again."""
        with self._database.transaction() as connection:
            waits = [wait for limit in limits if (wait := _wait(connection, limit, now)) > 0]
            if waits:
                return max(waits)
            for limit in limits:
                connection.execute(
                    "INSERT INTO rate VALUES (?1, 1, ?2) ON CONFLICT (key) DO UPDATE SET"
                    " used = CASE WHEN expires_at <= ?3 THEN 1 ELSE used + 1 END,"
                    " expires_at = CASE WHEN expires_at <= ?3 THEN ?2 ELSE expires_at END",
                    (limit.key, now + limit.seconds, now),
                )
        return 0

    # Emergency access

    async def begin_emergency(
        self, record: Emergency, notifications: Sequence[Notification], *, now: int
    ) -> bool:
        """Begin emergency access with its notifications; False when the same is under way."""
        with self._database.transaction() as connection:
            begun = connection.execute(
                "INSERT INTO emergency (id, rule, issuer, client_id, subject, patient, reason, started_at, ends_at,"
                " expires_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE NOT EXISTS (SELECT 1 FROM emergency"
                " WHERE rule = ?2 AND issuer = ?3 AND client_id = ?4 AND subject = ?5 AND patient = ?6 AND ends_at > ?11)",
                (
                    record.id, record.rule, record.issuer, record.client_id, record.subject, record.patient,
                    record.reason, record.started_at, record.ends_at, record.expires_at, now,
                ),
            ).rowcount  # fmt: skip
            if begun == 1:
                _put(connection, notifications)
        return begun == 1

    async def emergencies_of(
        self, *, issuer: str, client_id: str, subject: str, now: int
    ) -> Sequence[Emergency]:
        """The emergency access of a principal that is under way, the oldest first."""
        rows = self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE issuer = ? AND client_id = ? AND subject = ?"  # noqa: S608
            " AND ends_at > ? ORDER BY started_at, id",
            issuer,
            client_id,
            subject,
            now,
        )
        return [emergency(row) for row in rows]

    async def emergencies(
        self, *, only_open: bool, now: int, limit: int | None = None, until: int | None = None
    ) -> Sequence[Emergency]:
        """Emergency access, the newest first; only_open leaves out what was reviewed."""
        condition = " AND reviewed_at IS NULL" if only_open else ""
        rows = self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE expires_at > ?1{condition}"  # noqa: S608
            " AND started_at <= ?2 ORDER BY started_at DESC, id LIMIT ?3",
            now,
            LARGEST if until is None else until,
            -1 if limit is None else limit,
        )
        return [emergency(row) for row in rows]

    async def ended_emergencies(self, *, now: int, at_most: int) -> Sequence[Emergency]:
        """Emergency access that is over, and whose end is not noted."""
        rows = self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE end_noted = 0 AND ends_at <= ? ORDER BY ends_at LIMIT ?",  # noqa: S608
            now,
            at_most,
        )
        return [emergency(row) for row in rows]

    async def end_emergency(self, id: str, *, now: int) -> bool:
        """Let emergency access be over now; False when it was."""
        sql = "UPDATE emergency SET ends_at = ?2 WHERE id = ?1 AND ends_at > ?2"
        return self._database.change(sql, id, now) == 1

    async def note_emergency_end(self, id: str) -> bool:
        """Mark the end as noted; False when it was."""
        sql = "UPDATE emergency SET end_noted = 1 WHERE id = ? AND end_noted = 0"
        return self._database.change(sql, id) == 1

    async def review_emergency(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down a review; False when there is no such row, or when it was reviewed."""
        sql = (
            "UPDATE emergency SET reviewed_at = ?2, reviewed_by = ?3, review = ?4"
            " WHERE id = ?1 AND reviewed_at IS NULL AND expires_at > ?2"
        )
        return self._database.change(sql, id, now, by, review) == 1

    # The outbox

    async def put_notifications(self, records: Sequence[Notification]) -> None:
        """Put messages into the outbox, in one transaction."""
        with self._database.transaction() as connection:
            _put(connection, records)

    async def claim_notifications(self, *, now: int, until: int, at_most: int) -> Sequence[Notification]:
        """Messages that are due, for this caller alone until then."""
        rows = self._database.rows(
            "UPDATE notification SET due_at = ?2, attempts = attempts + 1 WHERE id IN (SELECT id FROM ("  # noqa: S608
            "SELECT id, due_at FROM notification WHERE due_at <= ?1 AND expires_at > ?1 UNION ALL"
            " SELECT id, due_at FROM notification WHERE due_at > ?2"
            " AND due_at > ?2 + MIN(?5, ?4 << MIN(attempts, 10)) AND expires_at > ?1"
            f" ORDER BY due_at LIMIT ?3)) RETURNING {NOTIFICATION_COLUMNS}",
            now,
            until,
            at_most,
            FIRST_PAUSE_SECONDS,
            LONGEST_PAUSE_SECONDS,
        )
        return [notification(row) for row in rows]

    async def postpone_notification(self, id: str, *, due_at: int) -> None:
        """Try again then."""
        self._database.change("UPDATE notification SET due_at = ? WHERE id = ?", due_at, id)

    async def delete_notification(self, id: str) -> bool:
        """Forget a message; False when there was none."""
        return self._database.change("DELETE FROM notification WHERE id = ?", id) == 1

    async def expire_notifications(self, *, now: int, at_most: int) -> Sequence[Notification]:
        """Take so many messages out of the outbox that are too old, each for one caller."""
        rows = self._database.rows(
            "DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE expires_at <= ?1"  # noqa: S608
            f" LIMIT ?2) RETURNING {NOTIFICATION_COLUMNS}",
            now,
            at_most,
        )
        return [notification(row) for row in rows]

    async def waiting_notifications(self) -> int:
        """How many messages are in the outbox."""
        row = self._database.row("SELECT COUNT(*) FROM notification")
        return 0 if row is None else integer(row[0])


def _wait(connection: Connection, limit: RateLimit, now: int) -> int:
    row = connection.execute(
        "SELECT expires_at FROM rate WHERE key = ? AND used >= ? AND expires_at > ?",
        (limit.key, limit.at_most, now),
    ).fetchone()
    return 0 if row is None else integer(row[0]) - now


def _put(connection: Connection, records: Sequence[Notification]) -> None:
    connection.executemany(
        f"INSERT INTO notification ({NOTIFICATION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
        [notification_values(record) for record in records],
    )
