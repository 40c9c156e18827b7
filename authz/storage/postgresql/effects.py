"""Rates, emergency access and the outbox of notifications on PostgreSQL. What each method means stands at Store."""

from collections.abc import Sequence

from authz.storage.effects import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Emergency,
    Notification,
    RateLimit,
)
from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.postgresql.schema import EMERGENCY_LOCKS
from authz.storage.records import LARGEST, integer
from authz.storage.rows import (
    EMERGENCY_COLUMNS,
    NOTIFICATION_COLUMNS,
    emergency,
    notification,
    notification_values,
)


class PostgresqlEffects:
    """The part of PostgresqlStore that keeps what permits oblige to."""

    _database: PostgresqlPool

    # Rates

    async def spend(self, limits: Sequence[RateLimit], *, now: int) -> int:
        """Spend one use of every limit: 0; or nothing, and the seconds until the one that is used up opens again."""
        if not limits or await self._spent(limits, now):
            return 0
        row = await self._database.row(
            "SELECT MAX(expires_at) FROM rate JOIN unnest($1::bytea[], $2::bigint[]) AS wanted (key, at_most)"
            " USING (key) WHERE used >= at_most AND expires_at > $3",
            [limit.key for limit in limits],
            [limit.at_most for limit in limits],
            now,
        )
        # Nothing any more: it has opened meanwhile, and the next attempt finds out.
        return 1 if row is None or row[0] is None else integer(row[0]) - now

    async def _spent(self, limits: Sequence[RateLimit], now: int) -> bool:
        if len(limits) == 1:
            return await _use(self._database, limits[0], now)
        async with self._database.transaction() as transaction:
            # In the order of their keys: two that want the same rows never wait for each other.
            for limit in sorted(limits, key=lambda limit: limit.key):
                if not await _use(transaction, limit, now):
                    transaction.undo()
                    break
        return not transaction.is_undone

    # Emergency access

    async def begin_emergency(
        self, record: Emergency, notifications: Sequence[Notification], *, now: int
    ) -> bool:
        """Begin emergency access with its notifications; False when the same is under way."""
        whose = (record.rule, record.issuer, record.client_id, record.subject, record.patient)
        async with self._database.transaction() as transaction:
            # What is not there yet cannot be locked by its row. The next statement sees what the first one wrote.
            await transaction.rows(
                "SELECT pg_advisory_xact_lock($1, hashtext($2))", EMERGENCY_LOCKS, "\x1f".join(whose)
            )
            begun = await transaction.change(
                "INSERT INTO emergency (rule, issuer, client_id, subject, patient, id, reason, started_at, ends_at,"
                " expires_at) SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6, $7, $8, $9, $10"
                " WHERE NOT EXISTS (SELECT 1 FROM emergency"
                " WHERE rule = $1 AND issuer = $2 AND client_id = $3 AND subject = $4 AND patient = $5 AND ends_at > $11)",
                *whose,
                record.id,
                record.reason,
                record.started_at,
                record.ends_at,
                record.expires_at,
                now,
            )
            if begun == 1:
                await _put(transaction, notifications)
        return begun == 1

    async def emergencies_of(
        self, *, issuer: str, client_id: str, subject: str, now: int
    ) -> Sequence[Emergency]:
        """The emergency access of a principal that is under way, the oldest first."""
        rows = await self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE issuer = $1 AND client_id = $2 AND subject = $3"  # noqa: S608
            " AND ends_at > $4 ORDER BY started_at, id",
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
        rows = await self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE expires_at > $1{condition}"  # noqa: S608
            " AND started_at <= $2 ORDER BY started_at DESC, id LIMIT $3",
            now,
            LARGEST if until is None else until,
            limit,
        )
        return [emergency(row) for row in rows]

    async def ended_emergencies(self, *, now: int, at_most: int) -> Sequence[Emergency]:
        """Emergency access that is over, and whose end is not noted."""
        rows = await self._database.rows(
            f"SELECT {EMERGENCY_COLUMNS} FROM emergency WHERE end_noted = 0 AND ends_at <= $1"  # noqa: S608
            " ORDER BY ends_at LIMIT $2",
            now,
            at_most,
        )
        return [emergency(row) for row in rows]

    async def end_emergency(self, id: str, *, now: int) -> bool:
        """Let emergency access be over now; False when it was."""
        sql = "UPDATE emergency SET ends_at = $2 WHERE id = $1 AND ends_at > $2"
        return await self._database.change(sql, id, now) == 1

    async def note_emergency_end(self, id: str) -> bool:
        """Mark the end as noted; False when it was."""
        sql = "UPDATE emergency SET end_noted = 1 WHERE id = $1 AND end_noted = 0"
        return await self._database.change(sql, id) == 1

    async def review_emergency(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down a review; False when there is no such row, or when it was reviewed."""
        sql = (
            "UPDATE emergency SET reviewed_at = $2, reviewed_by = $3, review = $4"
            " WHERE id = $1 AND reviewed_at IS NULL AND expires_at > $2"
        )
        return await self._database.change(sql, id, now, by, review) == 1

    # The outbox

    async def put_notifications(self, records: Sequence[Notification]) -> None:
        """Put messages into the outbox, in one transaction."""
        async with self._database.transaction() as transaction:
            await _put(transaction, records)

    async def claim_notifications(self, *, now: int, until: int, at_most: int) -> Sequence[Notification]:
        """Messages that are due, for this caller alone until then."""
        rows = await self._database.rows(
            "UPDATE notification SET due_at = $2, attempts = attempts + 1 WHERE id = ANY (ARRAY (SELECT id"  # noqa: S608
            " FROM notification WHERE (due_at <= $1 OR due_at > $2 + LEAST($5, $4::bigint << LEAST(attempts, 10)::int))"
            " AND expires_at > $1 ORDER BY due_at LIMIT $3"
            f" FOR UPDATE SKIP LOCKED)) RETURNING {NOTIFICATION_COLUMNS}",
            now,
            until,
            at_most,
            FIRST_PAUSE_SECONDS,
            LONGEST_PAUSE_SECONDS,
        )
        return [notification(row) for row in rows]

    async def postpone_notification(self, id: str, *, due_at: int) -> None:
        """Try again then."""
        await self._database.change("UPDATE notification SET due_at = $1 WHERE id = $2", due_at, id)

    async def delete_notification(self, id: str) -> bool:
        """Forget a message; False when there was none."""
        return await self._database.change("DELETE FROM notification WHERE id = $1", id) == 1

    async def expire_notifications(self, *, now: int, at_most: int) -> Sequence[Notification]:
        """Take so many messages out of the outbox that are too old, each for one caller."""
        rows = await self._database.rows(
            "DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE expires_at <= $1"  # noqa: S608
            f" LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING {NOTIFICATION_COLUMNS}",
            now,
            at_most,
        )
        return [notification(row) for row in rows]

    async def waiting_notifications(self) -> int:
        """How many messages are in the outbox."""
        row = await self._database.row("SELECT COUNT(*) FROM notification")
        return 0 if row is None else integer(row[0])


async def _use(database: Transaction | PostgresqlPool, limit: RateLimit, now: int) -> bool:
    """Whether a use was left, and is spent; whoever comes at the same moment waits for the row."""
    used = await database.change(
        "INSERT INTO rate (key, used, expires_at) VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE SET"
        " used = CASE WHEN rate.expires_at <= $3 THEN 1 ELSE rate.used + 1 END,"
        " expires_at = CASE WHEN rate.expires_at <= $3 THEN excluded.expires_at ELSE rate.expires_at END"
        " WHERE rate.expires_at <= $3 OR rate.used < $4",
        limit.key,
        now + limit.seconds,
        now,
        limit.at_most,
    )
    return used == 1


async def _put(transaction: Transaction, records: Sequence[Notification]) -> None:
    for record in records:
        await transaction.change(
            f"INSERT INTO notification ({NOTIFICATION_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)",  # noqa: S608
            *notification_values(record),
        )
