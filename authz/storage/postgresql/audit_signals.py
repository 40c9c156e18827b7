"""Signals of unusual access on PostgreSQL. What each method means stands at SignalStore."""

from collections.abc import Mapping, Sequence

from authz.storage.audit_signal_rows import SIGNAL_COLUMNS, signal_of, signal_values
from authz.storage.audit_signals import Signal
from authz.storage.effects import Notification
from authz.storage.postgresql.audit_index import move_place, place
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.records import LARGEST
from authz.storage.rows import NOTIFICATION_COLUMNS, notification_values


class PostgresqlAuditSignals:
    """The part of PostgresqlStore that keeps signals."""

    _database: PostgresqlPool

    async def put_signals(
        self,
        signals: Sequence[Signal],
        notifications: Mapping[str, Sequence[Notification]],
        *,
        chain: str,
        read_from: int,
        read_to: int,
    ) -> None:
        """Add signals and move the place, in one transaction."""
        async with self._database.transaction() as transaction:
            if not await move_place(transaction, "signals", chain, read_to, read_from):
                return  # somebody else has looked at these records
            for signal in signals:
                is_new = await transaction.change(
                    f"INSERT INTO audit_signal ({SIGNAL_COLUMNS}) VALUES"  # noqa: S608
                    " ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING",
                    *signal_values(signal),
                )
                if is_new != 1:
                    await transaction.change(
                        "UPDATE audit_signal SET count = count + $2, last_at = GREATEST(last_at, $3)"
                        " WHERE id = $1 AND reviewed_at IS NULL",
                        signal.id,
                        signal.count,
                        signal.last_at,
                    )
                    continue
                for each in notifications.get(signal.id, ()):
                    await transaction.change(
                        f"INSERT INTO notification ({NOTIFICATION_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)",  # noqa: S608
                        *notification_values(each),
                    )

    async def signalled_to(self, chain: str) -> int:
        """How far a chain was looked at."""
        return await place(self._database, "signals", chain)

    async def signals(
        self, *, only_open: bool, limit: int, now: int, until: int | None = None
    ) -> Sequence[Signal]:
        """Signals, the newest first."""
        condition = " AND reviewed_at IS NULL" if only_open else ""
        rows = await self._database.rows(
            f"SELECT {SIGNAL_COLUMNS} FROM audit_signal WHERE expires_at > $1{condition}"  # noqa: S608
            " AND at <= $2 ORDER BY at DESC, id LIMIT $3",
            now,
            LARGEST if until is None else until,
            limit,
        )
        return [signal_of(row) for row in rows]

    async def signal(self, id: str, *, now: int) -> Signal | None:
        """The signal of that id."""
        sql = f"SELECT {SIGNAL_COLUMNS} FROM audit_signal WHERE id = $1 AND expires_at > $2"  # noqa: S608
        row = await self._database.row(sql, id, now)
        return None if row is None else signal_of(row)

    async def review_signal(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down a review; False when there is no such row, or when it was reviewed."""
        sql = (
            "UPDATE audit_signal SET reviewed_at = $2, reviewed_by = $3, review = $4"
            " WHERE id = $1 AND reviewed_at IS NULL AND expires_at > $2"
        )
        return await self._database.change(sql, id, now, by, review) == 1

    async def unnoted_signals(self, *, at_most: int) -> Sequence[Signal]:
        """Signals without a record in the audit log."""
        sql = f"SELECT {SIGNAL_COLUMNS} FROM audit_signal WHERE noted = 0 ORDER BY at LIMIT $1"  # noqa: S608
        return [signal_of(row) for row in await self._database.rows(sql, at_most)]

    async def note_signal(self, id: str) -> None:
        """Mark a signal as recorded."""
        await self._database.change("UPDATE audit_signal SET noted = 1 WHERE id = $1", id)
