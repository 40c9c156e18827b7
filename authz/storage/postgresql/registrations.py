"""Client registrations, their history and initial access tokens on PostgreSQL. What each method means stands at Store."""

from collections.abc import Sequence

from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.records import encode, integer
from authz.storage.registrations import InitialAccessToken, Registration, RegistrationChange
from authz.storage.rows import initial_access_token, registration, registration_change
from authz.storage.store import StoreUnavailable


class PostgresqlRegistrations:
    """The part of PostgresqlStore that keeps who the clients are."""

    _database: PostgresqlPool

    async def put_registration(
        self, record: Registration, change: RegistrationChange, *, spending: str | None, now: int
    ) -> bool:
        """Write a new registration; False when the initial access token has no use left or the client_id is taken."""
        async with self._database.transaction() as transaction:
            sequence = await _append(transaction, change)
            put = await transaction.change(
                "INSERT INTO registration (client_id, version, sequence, record, expires_at)"
                " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (client_id) DO NOTHING",
                record.client_id,
                record.version,
                sequence,
                encode(record),
                record.expires_at,
            )
            done = put == 1 and (spending is None or await _spend(transaction, spending, now))
            if not done:
                transaction.undo()
        return done

    async def change_registration(
        self, record: Registration, change: RegistrationChange, *, from_version: int
    ) -> bool:
        """Write the next version; False when the stored one is not from_version any more."""
        async with self._database.transaction() as transaction:
            # The number comes first, as everywhere; a change that lost takes its row of history back.
            sequence = await _append(transaction, change)
            changed = await transaction.change(
                "UPDATE registration SET version = $3, record = $4, expires_at = $5, sequence = $7"
                " WHERE client_id = $1 AND version = $2 AND (expires_at IS NULL OR expires_at > $6)",
                record.client_id,
                from_version,
                record.version,
                encode(record),
                record.expires_at,
                change.at,
                sequence,
            )
            if changed != 1:
                transaction.undo()
        return changed == 1

    async def registration(self, client_id: str, *, now: int) -> Registration | None:
        """The registration, whatever its status."""
        row = await self._database.row(
            "SELECT record, sequence FROM registration WHERE client_id = $1"
            " AND (expires_at IS NULL OR expires_at > $2)",
            client_id,
            now,
        )
        return None if row is None else registration(row)

    async def registrations_since(
        self, sequence: int, *, at_most: int | None = None
    ) -> tuple[int, Sequence[Registration]]:
        """Registrations that changed after sequence, and the sequence of the last one."""
        rows = await self._database.rows(
            "SELECT record, sequence FROM registration WHERE sequence > $1 ORDER BY sequence LIMIT $2",
            sequence,
            at_most,
        )
        found = [registration(row) for row in rows]
        return (found[-1].sequence if found else sequence), found

    async def registration_history(self, client_id: str) -> Sequence[RegistrationChange]:
        """What happened to a client, the oldest first."""
        rows = await self._database.rows(
            "SELECT record, sequence FROM registration_change WHERE client_id = $1 ORDER BY sequence",
            client_id,
        )
        return [registration_change(row) for row in rows]

    async def put_initial_access_token(self, record: InitialAccessToken) -> None:
        """Store an initial access token."""
        await self._database.change(
            "INSERT INTO initial_access_token (id, uses_left, record, expires_at) VALUES ($1, $2, $3, $4)",
            record.id,
            record.uses_left,
            encode(record),
            record.expires_at,
        )

    async def initial_access_token(self, id: str, *, now: int) -> InitialAccessToken | None:
        """The live initial access token."""
        row = await self._database.row(
            "SELECT record, uses_left FROM initial_access_token"
            " WHERE id = $1 AND uses_left > 0 AND expires_at > $2",
            id,
            now,
        )
        return None if row is None else initial_access_token(row)

    async def initial_access_tokens(self, *, now: int) -> Sequence[InitialAccessToken]:
        """Every live initial access token, the oldest first."""
        rows = await self._database.rows(
            "SELECT record, uses_left FROM initial_access_token WHERE uses_left > 0 AND expires_at > $1", now
        )
        return sorted(
            (initial_access_token(row) for row in rows), key=lambda record: (record.created_at, record.id)
        )

    async def delete_initial_access_token(self, id: str) -> bool:
        """Forget an initial access token; False when there was none."""
        return await self._database.change("DELETE FROM initial_access_token WHERE id = $1", id) == 1


async def _spend(transaction: Transaction, id: str, now: int) -> bool:
    spent = await transaction.change(
        "UPDATE initial_access_token SET uses_left = uses_left - 1"
        " WHERE id = $1 AND uses_left > 0 AND expires_at > $2",
        id,
        now,
    )
    return spent == 1


async def _append(transaction: Transaction, change: RegistrationChange) -> int:
    """The row of history, and with it the number of this change.

    The row of the number is locked until the transaction ends: numbers become visible in their order.
    """
    row = await transaction.row(
        "WITH numbered AS (UPDATE numbering SET value = value + 1 WHERE name = 'registration' RETURNING value)"
        " INSERT INTO registration_change (sequence, client_id, record) SELECT value, $1, $2 FROM numbered"
        " RETURNING sequence",
        change.client_id,
        encode(change),
    )
    if row is None:
        raise StoreUnavailable("a change of a client has no number")
    return integer(row[0])
