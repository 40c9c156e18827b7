"""The embedded store: SQLite in WAL mode, one file that several worker processes of a machine may share.

Statements run inline on the event loop: a claim costs about 17 µs, a thread hop ten times that. A write waits at
most five seconds for another process. synchronous=NORMAL: what was committed survives kill -9 and every crash of
the process; a power cut may lose the last transactions (never corrupt the file). Where that matters more than
speed, the option `synchronous: full` waits for the disk at each commit.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from authz.protocol.tokens import Grant
from authz.storage.schema import migrate, migrations
from authz.storage.store import (
    AuditLine,
    AuthorizationCode,
    BrowserSession,
    Interaction,
    Namespace,
    PushedRequest,
    RedeemedCode,
    Redemption,
    RefreshToken,
    StoredKey,
    StoreUnavailable,
)

R = TypeVar("R")
_EXPIRING = (
    "claim", "counter", "pushed_request", "interaction", "browser_session", "authorization_code", "refresh_token",
    "grant_record", "revocation",
)  # fmt: skip
_KEYS = {
    "claim": "namespace, key",
    "counter": "key, period",
    "revocation": "sequence",
}  # the rest have id
_MONTH = 31 * 86400


async def open_store(path: Path, options: Mapping[str, str] | None = None) -> "SqliteStore":
    """Open or create the database at path and bring its schema up to date. Raises StoreUnavailable."""
    synchronous = (options or {}).get("synchronous", "normal").lower()
    try:
        return SqliteStore(_connect(path, "FULL" if synchronous == "full" else "NORMAL"))
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"cannot open the store: {error}") from error


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    path.chmod(0o600)
    for pragma in (
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
        "busy_timeout = 5000",
        "cache_size = -16000",
    ):
        connection.execute(f"PRAGMA {pragma}")
    migrate(connection, migrations("sqlite"))
    return connection


class SqliteStore:
    """The Store on one SQLite connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # How statements run

    def _one(self, sql: str, *values: object) -> tuple[object, ...] | None:
        try:
            row: tuple[object, ...] | None = self._connection.execute(sql, values).fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error
        return row

    def _all(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error

    def _change(self, sql: str, *values: object) -> int:
        try:
            return self._connection.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back when anything is raised."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error

    def _record(self, kind: type[R], table: str, id: str, now: int) -> R | None:
        row = self._one(f"SELECT record FROM {table} WHERE id = ? AND expires_at > ?", id, now)  # noqa: S608
        return None if row is None else _decode(row[0], kind)

    # Single-use claims

    async def claim(self, namespace: Namespace, key: bytes, *, until: int, now: int) -> bool:
        """True for the first caller that names this key before `until`."""
        # An expired row with the same key is taken over in the same statement.
        return (
            self._change(
                "INSERT INTO claim (namespace, key, expires_at) VALUES (?1, ?2, ?3)"
                " ON CONFLICT (namespace, key) DO UPDATE SET expires_at = ?3 WHERE claim.expires_at <= ?4",
                str(namespace),
                key,
                until,
                now,
            )
            == 1
        )

    async def count(self, key: str, *, window_seconds: int, now: int) -> int:
        """Add one to the counter of key in the current window and return the new value."""
        period = now // window_seconds
        row = self._one(
            "INSERT INTO counter (key, period, value, expires_at) VALUES (?, ?, 1, ?)"
            " ON CONFLICT (key, period) DO UPDATE SET value = value + 1 RETURNING value",
            key,
            period,
            (period + 1) * window_seconds,
        )
        return _integer(row[0]) if row else 0

    # Pushed requests, interactions, sessions

    async def put_pushed_request(self, record: PushedRequest) -> None:
        """Store a pushed request."""
        self._change(
            "INSERT INTO pushed_request VALUES (?, ?, ?)", record.id, _encode(record), record.expires_at
        )

    async def pushed_request(self, id: str, *, now: int) -> PushedRequest | None:
        """The live pushed request."""
        return self._record(PushedRequest, "pushed_request", id, now)

    async def keep_pushed_request(self, id: str, *, until: int, now: int) -> bool:
        """Let the row of a live pushed request live until then."""
        sql = "UPDATE pushed_request SET expires_at = MAX(expires_at, ?) WHERE id = ? AND expires_at > ?"
        return self._change(sql, until, id, now) == 1

    async def put_interaction(self, record: Interaction) -> None:
        """Store an interaction, or its next state."""
        self._change(
            "INSERT INTO interaction VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET record = ?2, expires_at = ?3",
            record.id,
            _encode(record),
            record.expires_at,
        )

    async def interaction(self, id: str, *, now: int) -> Interaction | None:
        """The live interaction."""
        return self._record(Interaction, "interaction", id, now)

    async def delete_interaction(self, id: str) -> None:
        """Forget an interaction."""
        self._change("DELETE FROM interaction WHERE id = ?", id)

    async def put_session(self, record: BrowserSession) -> None:
        """Store a browser session, or its next state."""
        self._change(
            "INSERT INTO browser_session VALUES (?1, ?2, ?3)"
            " ON CONFLICT (id) DO UPDATE SET record = ?2, expires_at = ?3",
            record.id,
            _encode(record),
            record.expires_at,
        )

    async def session(self, id: str, *, now: int) -> BrowserSession | None:
        """The live browser session."""
        return self._record(BrowserSession, "browser_session", id, now)

    async def delete_session(self, id: str) -> None:
        """Forget a browser session."""
        self._change("DELETE FROM browser_session WHERE id = ?", id)

    # Grants, codes, refresh tokens

    async def complete_authorization(
        self,
        *,
        request_id: str,
        interaction_id: str,
        grant: Grant,
        code: AuthorizationCode,
        now: int,
    ) -> bool:
        """Consume the pushed request and write grant and code; False when it was consumed before."""
        with self._transaction() as connection:
            if not _consume(connection, request_id, interaction_id, now):
                return False
            _insert_grant(connection, grant, code.expires_at)
            connection.execute(
                "INSERT INTO authorization_code VALUES (?, ?, ?, NULL, ?)",
                (code.id, _encode(code), code.expires_at, code.expires_at),
            )
        return True

    async def refuse_authorization(self, *, request_id: str, interaction_id: str, now: int) -> bool:
        """Consume the pushed request after a refusal; False when it was consumed before."""
        with self._transaction() as connection:
            return _consume(connection, request_id, interaction_id, now)

    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None:
        """Mark the code as used and return it, AGAIN when it was used before."""
        # A used code is remembered for a month, longer than any access token, to know a replay for what it is.
        row = self._one(
            "UPDATE authorization_code SET used_at = ?1, expires_at = ?2"
            " WHERE id = ?3 AND used_at IS NULL AND valid_until > ?1 RETURNING record",
            now,
            now + _MONTH,
            id,
        )
        if row is not None:
            return RedeemedCode(_decode(row[0], AuthorizationCode), Redemption.FIRST)
        row = self._one("SELECT record FROM authorization_code WHERE id = ? AND used_at IS NOT NULL", id)
        return None if row is None else RedeemedCode(_decode(row[0], AuthorizationCode), Redemption.AGAIN)

    async def put_grant(self, grant: Grant, *, expires_at: int) -> None:
        """Store a grant, or let it live longer."""
        try:
            _insert_grant(self._connection, grant, expires_at)
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from error

    async def grant(self, grant_id: str, *, now: int) -> Grant | None:
        """The live grant."""
        row = self._one(
            "SELECT record FROM grant_record WHERE id = ? AND revoked_at IS NULL AND expires_at > ?",
            grant_id,
            now,
        )
        return None if row is None else _decode(row[0], Grant)

    async def put_refresh_token(self, record: RefreshToken) -> None:
        """Store a refresh token; its grant lives at least as long."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO refresh_token VALUES (?, ?, ?, ?)",
                (record.id, record.grant_id, _encode(record), record.expires_at),
            )
            connection.execute(
                "UPDATE grant_record SET expires_at = MAX(expires_at, ?) WHERE id = ?",
                (record.expires_at, record.grant_id),
            )

    async def refresh_token(self, id: str, *, now: int) -> RefreshToken | None:
        """The live refresh token of a live grant."""
        row = self._one(
            "SELECT t.record FROM refresh_token t JOIN grant_record g ON g.id = t.grant_id"
            " WHERE t.id = ?1 AND t.expires_at > ?2 AND g.expires_at > ?2 AND g.revoked_at IS NULL",
            id,
            now,
        )
        return None if row is None else _decode(row[0], RefreshToken)

    async def revoke_grant(self, grant_id: str, *, now: int, keep_until: int) -> bool:
        """End a grant with its tokens; True when it was live before."""
        with self._transaction() as connection:
            live = connection.execute(
                "UPDATE grant_record SET revoked_at = ?1 WHERE id = ?2 AND revoked_at IS NULL AND expires_at > ?1",
                (now, grant_id),
            ).rowcount
            connection.execute("DELETE FROM refresh_token WHERE grant_id = ?", (grant_id,))
            _insert_revocation(connection, grant_id, keep_until)
        return live == 1

    async def revoke_token(self, token_id: str, *, now: int, keep_until: int) -> None:
        """End one access token."""
        with self._transaction() as connection:
            _insert_revocation(connection, token_id, keep_until)

    async def revocations_since(self, sequence: int) -> tuple[int, Sequence[str]]:
        """What was revoked after sequence, and the newest sequence."""
        rows = self._all(
            "SELECT sequence, subject FROM revocation WHERE sequence > ? ORDER BY sequence", sequence
        )
        return (_integer(rows[-1][0]) if rows else sequence), [str(row[1]) for row in rows]

    # Server keys and secrets

    async def put_key(self, key: StoredKey) -> bool:
        """Store a key; False when its kid is taken."""
        values = (
            key.kid, key.algorithm, key.state, key.encrypted, msgspec.json.encode(key.public_jwk),
            key.created_at, key.activates_at, key.retires_at, key.removes_at,
        )  # fmt: skip
        return (
            self._change("INSERT OR IGNORE INTO signing_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *values) == 1
        )

    async def keys(self) -> Sequence[StoredKey]:
        """Every key, oldest first."""
        rows = self._all(
            "SELECT kid, algorithm, state, encrypted, public_jwk, created_at, activates_at, retires_at, removes_at"
            " FROM signing_key ORDER BY created_at, kid"
        )
        return [
            StoredKey(
                kid=str(row[0]),
                algorithm=str(row[1]),
                state=str(row[2]),
                encrypted=_bytes(row[3]),
                public_jwk=_decode(row[4], dict[str, object]),
                created_at=_integer(row[5]),
                activates_at=_integer(row[6]),
                retires_at=_integer(row[7]),
                removes_at=_integer(row[8]),
            )
            for row in rows
        ]

    async def move_key(self, kid: str, *, from_state: str, to_state: str, now: int) -> bool:
        """Change a key's state; False when it was not in from_state."""
        return (
            self._change(
                "UPDATE signing_key SET state = ? WHERE kid = ? AND state = ?", to_state, kid, from_state
            )
            == 1
        )

    async def delete_key(self, kid: str) -> None:
        """Forget a key."""
        self._change("DELETE FROM signing_key WHERE kid = ?", kid)

    async def secret(self, name: str, proposal: bytes) -> bytes:
        """The secret of that name; the first proposal becomes it."""
        self._change("INSERT OR IGNORE INTO secret VALUES (?, ?)", name, proposal)
        row = self._one("SELECT value FROM secret WHERE name = ?", name)
        if row is None:
            raise StoreUnavailable(f"the secret {name} cannot be read back")
        return _bytes(row[0])

    # Audit

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        """Append lines and move the head, in one transaction."""
        if not lines:
            return
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO audit VALUES (?, ?, ?, ?)",
                [(line.sequence, line.previous, line.digest, line.line) for line in lines],
            )
            connection.execute(
                "INSERT INTO audit_head VALUES (1, ?1, ?2)"
                " ON CONFLICT (one) DO UPDATE SET sequence = ?1, digest = ?2",
                (lines[-1].sequence, lines[-1].digest),
            )

    async def last_audit(self) -> AuditLine | None:
        """The newest line."""
        row = self._one("SELECT sequence, previous, digest, line FROM audit ORDER BY sequence DESC LIMIT 1")
        return None if row is None else _audit_line(row)

    async def audit_head(self) -> tuple[int, bytes] | None:
        """Sequence and digest of the newest line as recorded beside the log."""
        row = self._one("SELECT sequence, digest FROM audit_head")
        return None if row is None else (_integer(row[0]), _bytes(row[1]))

    async def audit(self, *, after: int, limit: int) -> Sequence[AuditLine]:
        """At most limit lines after that sequence."""
        rows = self._all(
            "SELECT sequence, previous, digest, line FROM audit WHERE sequence > ? ORDER BY sequence LIMIT ?",
            after,
            limit,
        )
        return [_audit_line(row) for row in rows]

    # Housekeeping

    async def remove_expired(self, *, now: int, at_most: int) -> int:
        """Delete at most at_most expired rows over all tables."""
        removed = 0
        for table in _EXPIRING:
            if removed >= at_most:
                break
            key = _KEYS.get(table, "id")
            removed += self._change(
                f"DELETE FROM {table} WHERE ({key}) IN"  # noqa: S608
                f" (SELECT {key} FROM {table} WHERE expires_at <= ? LIMIT ?)",
                now,
                at_most - removed,
            )
        return removed

    async def check(self) -> None:
        """Raise StoreUnavailable unless the database can be read and written."""
        with self._transaction() as connection:
            connection.execute("SELECT 1 FROM secret LIMIT 1").fetchone()

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _consume(connection: sqlite3.Connection, request_id: str, interaction_id: str, now: int) -> bool:
    taken = connection.execute(
        "DELETE FROM pushed_request WHERE id = ? AND expires_at > ?", (request_id, now)
    )
    if taken.rowcount != 1:
        return False
    connection.execute("DELETE FROM interaction WHERE id = ?", (interaction_id,))
    return True


def _insert_grant(connection: sqlite3.Connection, grant: Grant, expires_at: int) -> None:
    connection.execute(
        "INSERT INTO grant_record VALUES (?1, ?2, ?3, ?4, NULL, ?5)"
        " ON CONFLICT (id) DO UPDATE SET record = ?4, expires_at = MAX(expires_at, ?5)",
        (grant.grant_id, grant.client_id, grant.subject, _encode(grant), expires_at),
    )


def _insert_revocation(connection: sqlite3.Connection, subject: str, keep_until: int) -> None:
    # A new row each time, so that caches which read by sequence see it.
    connection.execute("DELETE FROM revocation WHERE subject = ?", (subject,))
    connection.execute("INSERT INTO revocation (subject, expires_at) VALUES (?, ?)", (subject, keep_until))


def _encode(record: object) -> bytes:
    return msgspec.json.encode(record)


_decoders: dict[object, Callable[[bytes], object]] = {}


def _decode(content: object, kind: type[R]) -> R:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind).decode
    try:
        value: R = decoder(_bytes(content))  # type: ignore[assignment]
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"a record cannot be read: {error}") from error
    return value


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise StoreUnavailable("a column does not hold bytes")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise StoreUnavailable("a column does not hold a number")
    return value


def _audit_line(row: tuple[object, ...]) -> AuditLine:
    return AuditLine(_integer(row[0]), _bytes(row[1]), _bytes(row[2]), _bytes(row[3]))
