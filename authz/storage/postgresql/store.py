"""The store that several nodes share: PostgreSQL, by asyncpg. Every method is one statement or one transaction.

Whoever must be first is so by one statement: the row that two want at the same moment is locked by the first, and the
second, once it may go on, looks at the row as the first left it (READ COMMITTED). What was acknowledged is on the disk
of the server; what a standby has of it at that moment is the server's own setting (docs/storage.md).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from authz.clock import system_clock
from authz.storage.claims import Namespace, SingleUse, Then
from authz.storage.interactions import BrowserSession, Interaction, Launch, PushedRequest
from authz.storage.postgresql.audit import PostgresqlAudit
from authz.storage.postgresql.audit_feeds import PostgresqlAuditFeeds
from authz.storage.postgresql.audit_index import PostgresqlAuditIndex
from authz.storage.postgresql.audit_seals import PostgresqlAuditSeals
from authz.storage.postgresql.audit_signals import PostgresqlAuditSignals
from authz.storage.postgresql.changes import ChangeListener
from authz.storage.postgresql.claims import PostgresqlClaims
from authz.storage.postgresql.consents import PostgresqlConsents
from authz.storage.postgresql.effects import PostgresqlEffects
from authz.storage.postgresql.grants import PostgresqlGrants
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.postgresql.registrations import PostgresqlRegistrations
from authz.storage.postgresql.schema import (
    HOUSEKEEPING_LOCK,
    LOCKS,
    migrate,
    refuse_unfinished_copy,
    require_newest,
)
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.records import decode, encode, integer, octets
from authz.storage.replay import one_after_the_other
from authz.storage.rows import KEY_COLUMNS, key_values, stored_key
from authz.storage.schema import EXPIRING, migrations
from authz.storage.server_keys import StoredKey
from authz.storage.store import StoreUnavailable

R = TypeVar("R")
_MOST_SKEW_SECONDS = 10
_KEEP_PUSHED_REQUEST = (
    "UPDATE pushed_request SET expires_at = GREATEST(expires_at, $1) WHERE id = $2 AND expires_at > $3"
)
_NEXT_INTERACTION = (
    "ON CONFLICT (id) DO UPDATE SET record = excluded.record, expires_at = excluded.expires_at"
)


async def open_postgresql(settings: PostgresqlSettings, *, migrating: bool = True) -> "PostgresqlStore":
    """The store at that address, its schema brought up to date when migrating. Raises StoreUnavailable.

    Without it a schema that is not this program's is refused.
    """
    pool = await PostgresqlPool.open(settings)
    try:
        known = migrations("postgresql")
        await (migrate if migrating else require_newest)(pool, known)
        await refuse_unfinished_copy(pool)
    except BaseException:
        await pool.close()
        raise
    return PostgresqlStore(pool)


class PostgresqlStore(
    PostgresqlGrants,
    PostgresqlRegistrations,
    PostgresqlEffects,
    PostgresqlConsents,
    PostgresqlAudit,
    PostgresqlAuditSeals,
    PostgresqlAuditFeeds,
    PostgresqlAuditIndex,
    PostgresqlAuditSignals,
):
    """The Store on PostgreSQL. What each method means stands at Store."""

    def __init__(self, pool: PostgresqlPool) -> None:
        super().__init__()
        self._database = pool
        self._claims = PostgresqlClaims(pool)
        self._changes = ChangeListener(pool)

    # Single-use claims

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before `until`."""
        if until <= now:
            return False  # nobody could be told a second time: the row would be gone before it is there
        return await self._claims.claim(str(namespace), key, until=until, now=now)

    async def claim_in_order(self, uses: Sequence[SingleUse], *, now: int, then: Then | None = None) -> int:
        """Claim each, and stop at the first that was claimed before."""
        # Each goes with those of other requests: a transaction of their own would cost more than it saves.
        return await one_after_the_other(self, self, uses, now=now, then=then)

    async def release(self, namespace: Namespace, key: bytes) -> None:
        """Give a claim back."""
        await self._database.change(
            "DELETE FROM claim WHERE namespace = $1 AND key = $2", str(namespace), key
        )

    async def renew(self, namespace: Namespace, key: bytes, *, held_until: int, until: int) -> bool:
        """Let a claim end at another moment; False where it is not the one that ends at held_until."""
        sql = "UPDATE claim SET expires_at = $1 WHERE namespace = $2 AND key = $3 AND expires_at = $4"
        return await self._database.change(sql, until, str(namespace), key, held_until) == 1

    async def claimed_until(self, namespace: Namespace, key: bytes) -> int | None:
        """When the claim of a place ends."""
        sql = "SELECT expires_at FROM claim WHERE namespace = $1 AND key = $2"
        row = await self._database.row(sql, str(namespace), key)
        return None if row is None else integer(row[0])

    async def count(self, key: str, *, window_seconds: int, now: int, by: int = 1) -> int:
        """Add to the counter of key in the window that now is in and return the new value."""
        period = now // window_seconds
        row = await self._database.row(
            "INSERT INTO counter (key, window_seconds, period, value, expires_at) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (key, window_seconds, period) DO UPDATE SET value = counter.value + excluded.value"
            " RETURNING value",
            key.encode("utf-8", "surrogatepass"),
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
        await self._database.change(
            "INSERT INTO pushed_request (id, record, expires_at) VALUES ($1, $2, $3)",
            record.id,
            encode(record),
            record.expires_at,
        )

    async def pushed_request(self, id: str, *, now: int) -> PushedRequest | None:
        """The live pushed request."""
        return await self._record(PushedRequest, "pushed_request", id, now)

    async def keep_pushed_request(
        self, id: str, *, until: int, now: int, interaction: Interaction | None = None
    ) -> bool:
        """Let the row of a live pushed request live until then."""
        if interaction is None:
            return await self._database.change(_KEEP_PUSHED_REQUEST, until, id, now) == 1
        row = await self._database.row(
            f"WITH kept AS ({_KEEP_PUSHED_REQUEST} RETURNING 1)"  # noqa: S608
            f" INSERT INTO interaction (id, record, expires_at) VALUES ($4, $5, $6) {_NEXT_INTERACTION}"
            " RETURNING (SELECT COUNT(*) FROM kept)",
            until,
            id,
            now,
            interaction.id,
            encode(interaction),
            interaction.expires_at,
        )
        return row is not None and row[0] == 1

    async def put_launch(self, record: Launch) -> None:
        """Store a launch."""
        await self._database.change(
            "INSERT INTO launch (id, client_id, record, expires_at) VALUES ($1, $2, $3, $4)",
            record.id,
            record.client_id,
            encode(record),
            record.expires_at,
        )

    async def take_launch(self, id: str, *, client_id: str, now: int) -> Launch | None:
        """The launch, deleted in the same statement."""
        row = await self._database.row(
            "DELETE FROM launch WHERE id = $1 AND client_id = $2 AND expires_at > $3 RETURNING record",
            id,
            client_id,
            now,
        )
        return None if row is None else decode(row[0], Launch)

    async def put_interaction(self, record: Interaction) -> None:
        """Store an interaction, or its next state."""
        await self._database.change(
            f"INSERT INTO interaction (id, record, expires_at) VALUES ($1, $2, $3) {_NEXT_INTERACTION}",  # noqa: S608
            record.id,
            encode(record),
            record.expires_at,
        )

    async def interaction(self, id: str, *, now: int) -> Interaction | None:
        """The live interaction."""
        return await self._record(Interaction, "interaction", id, now)

    async def delete_interaction(self, id: str) -> None:
        """Forget an interaction."""
        await self._database.change("DELETE FROM interaction WHERE id = $1", id)

    async def put_session(self, record: BrowserSession) -> None:
        """Store a browser session, or its next state."""
        await self._database.change(
            "INSERT INTO browser_session (id, record, expires_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (id) DO UPDATE SET record = excluded.record, expires_at = excluded.expires_at",
            record.id,
            encode(record),
            record.expires_at,
        )

    async def session(self, id: str, *, now: int) -> BrowserSession | None:
        """The live browser session."""
        return await self._record(BrowserSession, "browser_session", id, now)

    async def visit(
        self, *, session_id: str, interaction_id: str, now: int
    ) -> tuple[BrowserSession, Interaction] | None:
        """Both records in one statement."""
        row = await self._database.row(
            "SELECT s.record, i.record FROM browser_session s, interaction i, pushed_request p"
            " WHERE s.id = $1 AND s.expires_at > $3 AND i.id = $2 AND i.expires_at > $3"
            " AND p.id = convert_from(i.record, 'UTF8')::json ->> 'request_id' AND p.expires_at > $3",
            session_id,
            interaction_id,
            now,
        )
        return None if row is None else (decode(row[0], BrowserSession), decode(row[1], Interaction))

    async def delete_session(self, id: str) -> None:
        """Forget a browser session."""
        await self._database.change("DELETE FROM browser_session WHERE id = $1", id)

    # Server keys and secrets

    async def put_key(self, key: StoredKey) -> bool:
        """Store a key; False when its kid is taken."""
        sql = (
            f"INSERT INTO signing_key ({KEY_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"  # noqa: S608
            " ON CONFLICT DO NOTHING"
        )
        return await self._database.change(sql, *key_values(key)) == 1

    async def keys(self) -> Sequence[StoredKey]:
        """Every key, oldest first."""
        sql = f"SELECT {KEY_COLUMNS} FROM signing_key ORDER BY created_at, kid"  # noqa: S608
        return [stored_key(row) for row in await self._database.rows(sql)]

    async def move_key(self, kid: str, *, from_state: str, to_state: str, now: int) -> bool:
        """Change a key's state; False when it was not in from_state."""
        if to_state == "active":
            sql = (
                "UPDATE signing_key SET state = $1, activates_at = $4, retires_at = $4 + retires_at - activates_at,"
                " removes_at = $4 + removes_at - activates_at WHERE kid = $2 AND state = $3"
            )
            return await self._database.change(sql, to_state, kid, from_state, now) == 1
        if to_state == "retired":
            sql = (
                "UPDATE signing_key SET state = $1, retires_at = $4, removes_at = $4 + removes_at - retires_at"
                " WHERE kid = $2 AND state = $3"
            )
            return await self._database.change(sql, to_state, kid, from_state, now) == 1
        sql = "UPDATE signing_key SET state = $1 WHERE kid = $2 AND state = $3"
        return await self._database.change(sql, to_state, kid, from_state) == 1

    async def reseal_key(self, kid: str, *, expected: bytes, encrypted: bytes) -> bool:
        """Replace the encrypted part of a key; False when it was not the expected one."""
        sql = "UPDATE signing_key SET encrypted = $1 WHERE kid = $2 AND encrypted = $3"
        return await self._database.change(sql, encrypted, kid, expected) == 1

    async def delete_key(self, kid: str) -> None:
        """Forget a key."""
        await self._database.change("DELETE FROM signing_key WHERE kid = $1", kid)

    async def secret(self, name: str, proposal: bytes) -> bytes:
        """The secret of that name; the first proposal becomes it."""
        await self._database.change(
            "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING", name, proposal
        )
        row = await self._database.row("SELECT value FROM secret WHERE name = $1", name)
        if row is None:
            raise StoreUnavailable(f"the secret {name} cannot be read back")
        return octets(row[0])

    # Housekeeping

    async def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most at_most expired rows, in one transaction of one node at a time; 0 when another is at it.

        A row that somebody holds is left for the next time. Where the clock of this machine is ahead of the server's,
        that is taken off: a claim that goes early could be made again at a node whose clock is right.
        """
        # Before the transaction begins, so that it is not ahead by a rounding.
        removed, here = 0, system_clock()
        async with self._database.transaction() as transaction:
            lock = await transaction.row("SELECT pg_try_advisory_xact_lock($1, $2)", LOCKS, HOUSEKEEPING_LOCK)
            if lock != (True,):
                return 0
            for table, _, condition in EXPIRING:
                if removed < at_most:
                    removed += await transaction.change(
                        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {table}"  # noqa: S608
                        " WHERE expires_at <= $1 - GREATEST(0, $3 - CEIL(EXTRACT(epoch FROM now()))::bigint)"
                        f"{condition} LIMIT $2 FOR UPDATE SKIP LOCKED))",
                        now,
                        at_most - removed,
                        here,
                    )
        return removed

    async def check(self) -> None:
        """Raise StoreUnavailable unless the database can be read and written, and its clock is like ours."""
        before = system_clock()
        row = await self._database.row(
            "UPDATE pulse SET beats = beats + 1 RETURNING EXTRACT(epoch FROM clock_timestamp())::bigint"
        )
        if row is None:
            raise StoreUnavailable("the store has lost its pulse row")
        there = integer(row[0])
        if there < before - _MOST_SKEW_SECONDS or there > system_clock() + _MOST_SKEW_SECONDS:
            raise StoreUnavailable(
                f"the clock of this machine differs from the database's by {abs(there - before)} s,"
                f" at most {_MOST_SKEW_SECONDS} s is accepted: set it by NTP"
            )

    async def wait_for_change(self, *, at_most_seconds: float) -> None:
        """Return when a node has said that revocations, clients or keys changed, at the latest after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_seconds):
                await self._changes.wait()

    async def close(self) -> None:
        """Close every connection."""
        await self._changes.close()
        await self._database.close()

    async def _record(self, kind: type[R], table: str, id: str, now: int) -> R | None:
        sql = f"SELECT record FROM {table} WHERE id = $1 AND expires_at > $2"  # noqa: S608
        row = await self._database.row(sql, id, now)
        return None if row is None else decode(row[0], kind)
