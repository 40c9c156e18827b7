"""Client registrations, their history and initial access tokens on SQLite. What each method means stands at Store."""

from collections.abc import Sequence
from sqlite3 import Connection

from authz.storage.records import encode
from authz.storage.registrations import InitialAccessToken, Registration, RegistrationChange
from authz.storage.rows import initial_access_token, registration, registration_change
from authz.storage.sqlite.connection import Row, SqliteConnection
from authz.storage.store import StoreUnavailable


class SqliteRegistrations:
    """The part of SqliteStore that keeps who the clients are."""

    _database: SqliteConnection

    async def put_registration(
        self, record: Registration, change: RegistrationChange, *, spending: str | None, now: int
    ) -> bool:
        """Write a new registration; False when the initial access token has no use left or the client_id is taken."""
        with self._database.transaction() as connection:
            taken = connection.execute("SELECT 1 FROM registration WHERE client_id = ?", (record.client_id,))
            if taken.fetchone() is not None:
                return False
            if spending is not None and not _spend(connection, spending, now):
                return False
            sequence = _append(connection, change)
            connection.execute("INSERT INTO registration VALUES (?, ?, ?, ?, ?)", _row(record, sequence))
        return True

    async def change_registration(
        self, record: Registration, change: RegistrationChange, *, from_version: int
    ) -> bool:
        """Write the next version; False when the stored one is not from_version any more."""
        with self._database.transaction() as connection:
            # The update comes first: a change that lost leaves no row of history.
            client_id, version, _, content, expires_at = _row(record, 0)
            changed = connection.execute(
                "UPDATE registration SET version = ?3, record = ?4, expires_at = ?5 WHERE client_id = ?1 AND version = ?2"
                " AND (expires_at IS NULL OR expires_at > ?6)",
                (client_id, from_version, version, content, expires_at, change.at),
            ).rowcount
            if changed != 1:
                return False
            sequence = _append(connection, change)
            connection.execute(
                "UPDATE registration SET sequence = ? WHERE client_id = ?", (sequence, client_id)
            )
        return True

    async def registration(self, client_id: str, *, now: int) -> Registration | None:
        """The registration, whatever its status."""
        row = self._database.row(
            "SELECT record, sequence FROM registration WHERE client_id = ? AND (expires_at IS NULL OR expires_at > ?)",
            client_id,
            now,
        )
        return None if row is None else registration(row)

    async def registrations_since(
        self, sequence: int, *, at_most: int | None = None
    ) -> tuple[int, Sequence[Registration]]:
        """Registrations that changed after sequence, and the sequence of the last one."""
        rows = self._database.rows(
            "SELECT record, sequence FROM registration WHERE sequence > ? ORDER BY sequence LIMIT ?",
            sequence,
            -1 if at_most is None else at_most,
        )
        found = [registration(row) for row in rows]
        return (found[-1].sequence if found else sequence), found

    async def registration_history(self, client_id: str) -> Sequence[RegistrationChange]:
        """What happened to a client, the oldest first."""
        rows = self._database.rows(
            "SELECT record, sequence FROM registration_change WHERE client_id = ? ORDER BY sequence",
            client_id,
        )
        return [registration_change(row) for row in rows]

    async def put_initial_access_token(self, record: InitialAccessToken) -> None:
        """Store an initial access token."""
        self._database.change(
            "INSERT INTO initial_access_token VALUES (?, ?, ?, ?)",
            record.id,
            record.uses_left,
            encode(record),
            record.expires_at,
        )

    async def initial_access_token(self, id: str, *, now: int) -> InitialAccessToken | None:
        """The live initial access token."""
        row = self._database.row(
            "SELECT record, uses_left FROM initial_access_token WHERE id = ? AND uses_left > 0 AND expires_at > ?",
            id,
            now,
        )
        return None if row is None else initial_access_token(row)

    async def initial_access_tokens(self, *, now: int) -> Sequence[InitialAccessToken]:
        """Every live initial access token, the oldest first."""
        rows = self._database.rows(
            "SELECT record, uses_left FROM initial_access_token WHERE uses_left > 0 AND expires_at > ?", now
        )
        return sorted(
            (initial_access_token(row) for row in rows), key=lambda record: (record.created_at, record.id)
        )

    async def delete_initial_access_token(self, id: str) -> bool:
        """Forget an initial access token; False when there was none."""
        return self._database.change("DELETE FROM initial_access_token WHERE id = ?", id) == 1


def _spend(connection: Connection, id: str, now: int) -> bool:
    spent = connection.execute(
        "UPDATE initial_access_token SET uses_left = uses_left - 1 WHERE id = ? AND uses_left > 0 AND expires_at > ?",
        (id, now),
    )
    return spent.rowcount == 1


def _append(connection: Connection, change: RegistrationChange) -> int:
    """The row of history, and with it the number of this change."""
    row = connection.execute(
        "INSERT INTO registration_change (client_id, record) VALUES (?, ?)",
        (change.client_id, encode(change)),
    )
    if row.lastrowid is None:
        raise StoreUnavailable("a change of a client has no number")
    return row.lastrowid


def _row(record: Registration, sequence: int) -> Row:
    return record.client_id, record.version, sequence, encode(record), record.expires_at
