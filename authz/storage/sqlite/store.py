"""The embedded store: SQLite in WAL mode, one file that several worker processes of a machine may share.

What was acknowledged survives kill -9 and every crash of the process: a commit hands its pages to the kernel before
it returns. synchronous=NORMAL does not wait for the disk, so a power cut or a crash of the kernel may lose the last
transactions, in order and never in the middle of one; where that is too much, the option `synchronous: full` waits
for the disk at each commit, which costs milliseconds instead of microseconds.
"""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from authz.storage.claims import Namespace, SingleUse, Then
from authz.storage.grants import GrantUntil, Redeeming
from authz.storage.interactions import BrowserSession, Interaction, Launch, PushedRequest
from authz.storage.records import decode, encode, integer, octets
from authz.storage.rows import KEY_COLUMNS, key_values, stored_key
from authz.storage.schema import EXPIRING
from authz.storage.server_keys import StoredKey
from authz.storage.sqlite.audit import SqliteAudit
from authz.storage.sqlite.audit_feeds import SqliteAuditFeeds
from authz.storage.sqlite.audit_index import SqliteAuditIndex
from authz.storage.sqlite.audit_seals import SqliteAuditSeals
from authz.storage.sqlite.audit_signals import SqliteAuditSignals
from authz.storage.sqlite.claims import SqliteClaims, Write
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.consents import SqliteConsents
from authz.storage.sqlite.effects import SqliteEffects
from authz.storage.sqlite.grants import SqliteGrants, insert_grant, redeem
from authz.storage.sqlite.registrations import SqliteRegistrations
from authz.storage.store import StoreUnavailable

R = TypeVar("R")
_REMOVED_IN_ONE_TRANSACTION = 100
_KEEP_PUSHED_REQUEST = (
    "UPDATE pushed_request SET expires_at = MAX(expires_at, ?) WHERE id = ? AND expires_at > ?"
)
_PUT_INTERACTION = (
    "INSERT INTO interaction VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET record = ?2, expires_at = ?3"
)
_VISIT = (
    "SELECT s.record, i.record FROM browser_session s, interaction i, pushed_request p"
    " WHERE s.id = ?1 AND s.expires_at > ?3 AND i.id = ?2 AND i.expires_at > ?3"
    " AND p.id = json_extract(CAST(i.record AS TEXT), '$.request_id') AND p.expires_at > ?3"
)
_PUT_PUSHED_REQUEST = "INSERT INTO pushed_request VALUES (?, ?, ?)"


async def open_store(path: Path, options: Mapping[str, str] | None = None) -> "SqliteStore":
    """Open or create the database at path and bring its schema up to date.

    The option synchronous is 'normal' (default) or 'full'. Raises StoreUnavailable.
    """
    return SqliteStore(SqliteConnection.open(path, options or {}))


class SqliteStore(
    SqliteGrants,
    SqliteRegistrations,
    SqliteEffects,
    SqliteConsents,
    SqliteAudit,
    SqliteAuditSeals,
    SqliteAuditFeeds,
    SqliteAuditIndex,
    SqliteAuditSignals,
):
    """The Store on one SQLite connection. What each method means stands at Store."""

    def __init__(self, connection: SqliteConnection) -> None:
        super().__init__()
        self._database = connection
        self._claims = SqliteClaims(connection)

    # Single-use claims

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before `until`."""
        if until <= now:
            return False  # nobody could be told a second time: the row would be gone before it is there
        return await self._claims.claim(namespace, key, until=until, now=now)

    async def claim_in_order(self, uses: Sequence[SingleUse], *, now: int, then: Then | None = None) -> int:
        """Claim each, and stop at the first that was claimed before."""
        return await self._claims.claim_in_order(
            uses, None if then is None else _write_of(then, now), now=now
        )

    async def release(self, namespace: Namespace, key: bytes) -> None:
        """Give a claim back."""
        self._database.change("DELETE FROM claim WHERE namespace = ? AND key = ?", str(namespace), key)

    async def renew(self, namespace: Namespace, key: bytes, *, held_until: int, until: int) -> bool:
        """Let a claim end at another moment; False where it is not the one that ends at held_until."""
        sql = "UPDATE claim SET expires_at = ? WHERE namespace = ? AND key = ? AND expires_at = ?"
        return self._database.change(sql, until, str(namespace), key, held_until) == 1

    async def claimed_until(self, namespace: Namespace, key: bytes) -> int | None:
        """When the claim of a place ends."""
        sql = "SELECT expires_at FROM claim WHERE namespace = ? AND key = ?"
        row = self._database.row(sql, str(namespace), key)
        return None if row is None else integer(row[0])

    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int:
        """Add to the counter of key in the window that now is in and return the new value."""
        period = now // window_seconds
        row = self._database.row(
            "INSERT INTO counter (key, window_seconds, period, value, expires_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (key, window_seconds, period) DO UPDATE SET value = value + excluded.value RETURNING value",
            key,
            window_seconds,
            period,
            by,
            (period + 1) * window_seconds,
        )
        if row is None:
            raise StoreUnavailable("a counter cannot be read back")
        return integer(row[0])

    # Pushed requests, interactions, sessions

    async def put_pushed_request(self, record: PushedRequest) -> None:
        """Store a pushed request."""
        self._database.change(_PUT_PUSHED_REQUEST, record.id, encode(record), record.expires_at)

    async def pushed_request(self, id: str, *, now: int) -> PushedRequest | None:
        """The live pushed request."""
        return self._record(PushedRequest, "pushed_request", id, now)

    async def keep_pushed_request(
        self, id: str, *, until: int, now: int, interaction: Interaction | None = None
    ) -> bool:
        """Let the row of a live pushed request live until then."""
        if interaction is None:
            return self._database.change(_KEEP_PUSHED_REQUEST, until, id, now) == 1
        kept = 0

        def write(connection: sqlite3.Connection) -> None:
            nonlocal kept
            kept = connection.execute(_KEEP_PUSHED_REQUEST, (until, id, now)).rowcount
            connection.execute(_PUT_INTERACTION, _interaction_values(interaction))

        await self._claims.claim_in_order((), write, now=now)
        return kept == 1

    async def put_launch(self, record: Launch) -> None:
        """Store a launch."""
        self._database.change(
            "INSERT INTO launch VALUES (?, ?, ?, ?)",
            record.id,
            record.client_id,
            encode(record),
            record.expires_at,
        )

    async def take_launch(self, id: str, *, client_id: str, now: int) -> Launch | None:
        """The launch, deleted in the same statement."""
        row = self._database.row(
            "DELETE FROM launch WHERE id = ? AND client_id = ? AND expires_at > ? RETURNING record",
            id,
            client_id,
            now,
        )
        return None if row is None else decode(row[0], Launch)

    async def put_interaction(self, record: Interaction) -> None:
        """Store an interaction, or its next state."""
        self._database.change(_PUT_INTERACTION, *_interaction_values(record))

    async def interaction(self, id: str, *, now: int) -> Interaction | None:
        """The live interaction."""
        return self._record(Interaction, "interaction", id, now)

    async def delete_interaction(self, id: str) -> None:
        """Forget an interaction."""
        self._database.change("DELETE FROM interaction WHERE id = ?", id)

    async def put_session(self, record: BrowserSession) -> None:
        """Store a browser session, or its next state."""
        self._database.change(
            "INSERT INTO browser_session VALUES (?1, ?2, ?3)"
            " ON CONFLICT (id) DO UPDATE SET record = ?2, expires_at = ?3",
            record.id,
            encode(record),
            record.expires_at,
        )

    async def session(self, id: str, *, now: int) -> BrowserSession | None:
        """The live browser session."""
        return self._record(BrowserSession, "browser_session", id, now)

    async def visit(
        self, *, session_id: str, interaction_id: str, now: int
    ) -> tuple[BrowserSession, Interaction] | None:
        """Both records in one statement: it costs half of three."""
        row = self._database.row(_VISIT, session_id, interaction_id, now)
        return None if row is None else (decode(row[0], BrowserSession), decode(row[1], Interaction))

    async def delete_session(self, id: str) -> None:
        """Forget a browser session."""
        self._database.change("DELETE FROM browser_session WHERE id = ?", id)

    # Server keys and secrets

    async def put_key(self, key: StoredKey) -> bool:
        """Store a key; False when its kid is taken."""
        sql = "INSERT INTO signing_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self._database.change(sql, *key_values(key)) == 1

    async def keys(self) -> Sequence[StoredKey]:
        """Every key, oldest first."""
        rows = self._database.rows(f"SELECT {KEY_COLUMNS} FROM signing_key ORDER BY created_at, kid")  # noqa: S608
        return [stored_key(row) for row in rows]

    async def move_key(self, kid: str, *, from_state: str, to_state: str, now: int) -> bool:
        """Change a key's state; False when it was not in from_state."""
        if to_state == "active":
            sql = (
                "UPDATE signing_key SET state = ?1, activates_at = ?4, retires_at = ?4 + retires_at - activates_at,"
                " removes_at = ?4 + removes_at - activates_at WHERE kid = ?2 AND state = ?3"
            )
            return self._database.change(sql, to_state, kid, from_state, now) == 1
        if to_state == "retired":
            sql = (
                "UPDATE signing_key SET state = ?1, retires_at = ?4, removes_at = ?4 + removes_at - retires_at"
                " WHERE kid = ?2 AND state = ?3"
            )
            return self._database.change(sql, to_state, kid, from_state, now) == 1
        sql = "UPDATE signing_key SET state = ? WHERE kid = ? AND state = ?"
        return self._database.change(sql, to_state, kid, from_state) == 1

    async def reseal_key(self, kid: str, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key; False when it was not the expected one."""
        sql = "UPDATE signing_key SET encrypted = ? WHERE kid = ? AND encrypted = ?"
        return self._database.change(sql, encrypted, kid, expected) == 1

    async def delete_key(self, kid: str) -> None:
        """Forget a key."""
        self._database.change("DELETE FROM signing_key WHERE kid = ?", kid)

    async def secret(self, name: str, proposal: bytes) -> bytes:
        """The secret of that name; the first proposal becomes it."""
        self._database.change("INSERT INTO secret VALUES (?, ?) ON CONFLICT DO NOTHING", name, proposal)
        row = self._database.row("SELECT value FROM secret WHERE name = ?", name)
        if row is None:
            raise StoreUnavailable(f"the secret {name} cannot be read back")
        return octets(row[0])

    # Housekeeping

    async def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most at_most expired rows, in transactions of a millisecond with turns of the loop between."""
        removed = 0
        for table, key, condition in EXPIRING:
            sql = (
                f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608
                f" (SELECT {key} FROM {table} WHERE expires_at <= ?{condition} LIMIT ?)"
            )
            while batch := min(_REMOVED_IN_ONE_TRANSACTION, at_most - removed):
                done = self._database.change(sql, now, batch)
                removed += done
                if done < batch:
                    break
                await asyncio.sleep(0)
        while batch := min(_REMOVED_IN_ONE_TRANSACTION, at_most - removed):
            done = self._claims.remove_expired(now=now, at_most=batch)
            removed += done
            if done < batch:
                break
            await asyncio.sleep(0)
        return removed

    async def check(self) -> None:
        """Raise StoreUnavailable unless the database can be read and written."""
        if self._database.change("UPDATE pulse SET beats = beats + 1") != 1:
            raise StoreUnavailable("the store has lost its pulse row")

    async def wait_for_change(self, *, at_most_seconds: float) -> None:
        """Wait: SQLite tells nothing to other processes."""
        await asyncio.sleep(at_most_seconds)

    async def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _record(self, kind: type[R], table: str, id: str, now: int) -> R | None:
        row = self._database.row(f"SELECT record FROM {table} WHERE id = ? AND expires_at > ?", id, now)  # noqa: S608
        return None if row is None else decode(row[0], kind)


def _write_of(then: Then, now: int) -> Write:
    def write(connection: sqlite3.Connection) -> None:
        match then:
            case PushedRequest():
                connection.execute(_PUT_PUSHED_REQUEST, (then.id, encode(then), then.expires_at))
            case GrantUntil():
                insert_grant(connection, then)
            case Redeeming():
                redeem(connection, then, now)

    return write


def _interaction_values(record: Interaction) -> tuple[object, ...]:
    return record.id, encode(record), record.expires_at
