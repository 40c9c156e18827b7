"""Grants, codes, refresh tokens and revocations on SQLite. What each method means stands at Store."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from sqlite3 import Connection

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, NoRoomLeft, Room
from authz.storage.grants import (
    AuthorizationCode,
    GrantUntil,
    RedeemedCode,
    Redeeming,
    Redemption,
    RefreshToken,
)
from authz.storage.records import decode, encode, integer, text
from authz.storage.rows import (
    GRANTS_AT_ONCE,
    Row,
    grant_values,
    newest_first,
    redeemed_code,
    refresh_token,
    revoked,
)
from authz.storage.sqlite.claims import SqliteClaims
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.consents import have_room, insert_consent
from authz.storage.store import StoreUnavailable


class SqliteGrants:
    """The part of SqliteStore that keeps what was granted."""

    _database: SqliteConnection
    _claims: SqliteClaims

    async def complete_authorization(
        self,
        *,
        request_id: str,
        interaction_id: str,
        grant: Grant,
        code: AuthorizationCode,
        now: int,
        consents: Sequence[tuple[ConsentVersion, Room | None]] = (),
    ) -> bool:
        """Consume the pushed request and write grant, code and consents; False when it was consumed before.

        What others write in this turn goes into the same commit, of which half the pages are the same.
        """
        outcome: bool | NoRoomLeft = False

        def write(connection: Connection) -> None:
            nonlocal outcome
            # Before anything is written, so that nothing of it has to be taken back out of a commit of many.
            if not have_room(connection, consents):
                waits = connection.execute(_LIVE_REQUEST, (request_id, now)).fetchone() is not None
                outcome = NoRoomLeft() if waits else False
                return
            outcome = _consume(connection, request_id, interaction_id, now)
            if not outcome:
                return
            connection.execute(_PUT_GRANT, grant_values(grant, code.expires_at))
            connection.execute(
                "INSERT INTO authorization_code VALUES (?, ?, ?, 0, ?)",
                (code.id, code.grant_id, encode(code), code.expires_at),
            )
            for consent, _ in consents:
                if not insert_consent(connection, consent, None, None):
                    raise StoreUnavailable(f"the consent {consent.id} is not new")

        await self._claims.claim_in_order((), write, now=now)
        if isinstance(outcome, NoRoomLeft):
            raise outcome
        return outcome

    async def refuse_authorization(self, *, request_id: str, interaction_id: str, now: int) -> bool:
        """Consume the pushed request after a refusal; False when it was consumed before."""
        with self._database.transaction() as connection:
            return _consume(connection, request_id, interaction_id, now)

    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None:
        """Mark the code as used and return it, AGAIN when it was used before."""
        row = self._database.row(_REDEEM, id, now)
        return None if row is None else redeemed_code(row)

    async def put_grant(
        self, grant: Grant, *, expires_at: int, refresh_token: RefreshToken | None = None
    ) -> None:
        """Store a grant, or let it live longer. A revoked one stays revoked."""
        if refresh_token is None:
            self._database.change(_PUT_GRANT, *grant_values(grant, expires_at))
            return
        with self._database.transaction() as connection:
            insert_grant(connection, GrantUntil(grant, expires_at, refresh_token))

    async def grant(self, grant_id: str, *, now: int) -> Grant | None:
        """The live grant."""
        row = self._database.row(_LIVE_GRANT, grant_id, now)
        return None if row is None else decode(row[0], Grant)

    async def live_grants(self, grant_ids: Collection[str], *, now: int) -> frozenset[str]:
        """Those of these ids whose grants are live."""
        rows = self._database.rows(
            "SELECT id FROM grant_record WHERE id IN (SELECT value FROM json_each(?)) AND revoked_at IS NULL"
            " AND expires_at > ?",
            json.dumps(list(grant_ids)),
            now,
        )
        return frozenset(text(row[0]) for row in rows)

    async def grants(self, *, subject: str | None, client_id: str | None, now: int) -> Sequence[Grant]:
        """The live grants of a person, a client, or both."""
        wanted = {"subject": subject, "client_id": client_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        conditions = "".join(f" AND {column} = ?" for column in given)
        sql = (
            f"SELECT record, id FROM grant_record WHERE revoked_at IS NULL AND expires_at > ?{conditions}"  # noqa: S608
            " AND id > ? ORDER BY id LIMIT ?"
        )

        async def pages() -> AsyncIterator[Sequence[Row]]:
            after: str | None = ""
            while after is not None:
                rows = self._database.rows(sql, now, *given.values(), after, GRANTS_AT_ONCE)
                yield rows
                after = text(rows[-1][1]) if len(rows) == GRANTS_AT_ONCE else None

        return await newest_first(pages())

    async def put_refresh_token(self, record: RefreshToken) -> None:
        """Store a refresh token; its grant lives at least as long."""
        with self._database.transaction() as connection:
            _insert_refresh_token(connection, record)

    async def replace_refresh_token(self, id: str, *, by: RefreshToken, now: int, grace_seconds: int) -> bool:
        """Store the successor; False, and nothing stored, when the grace of the token has passed."""
        with self._database.transaction() as connection:
            replaced = connection.execute(
                "UPDATE refresh_token SET replaced_at = COALESCE(replaced_at, ?2) WHERE id = ?1 AND expires_at > ?2"
                " AND (replaced_at IS NULL OR replaced_at + ?3 > ?2)",
                (id, now, grace_seconds),
            ).rowcount
            if replaced != 1:
                return False
            _insert_refresh_token(connection, by)
        return True

    async def refresh_token(self, id: str, *, now: int) -> RefreshToken | None:
        """The live refresh token of a live grant."""
        row = self._database.row(
            "SELECT t.record, t.replaced_at FROM refresh_token t JOIN grant_record g ON g.id = t.grant_id"
            " WHERE t.id = ?1 AND t.expires_at > ?2 AND g.expires_at > ?2 AND g.revoked_at IS NULL",
            id,
            now,
        )
        return None if row is None else refresh_token(row)

    async def revoke_grant(self, grant_id: str, *, now: int, keep_until: int) -> bool:
        """End a grant with its tokens; True when it was live before."""
        with self._database.transaction() as connection:
            live = connection.execute(
                "UPDATE grant_record SET revoked_at = ?1 WHERE id = ?2 AND revoked_at IS NULL AND expires_at > ?1",
                (now, grant_id),
            ).rowcount
            connection.execute("DELETE FROM refresh_token WHERE grant_id = ?", (grant_id,))
            _insert_revocation(connection, grant_id, keep_until)
        return live == 1

    async def end_grants(self, client_id: str, *, now: int, keep_until: int) -> Sequence[str]:
        """End every live grant of a client; the ids of those that were live."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "UPDATE grant_record SET revoked_at = ?1 WHERE client_id = ?2 AND revoked_at IS NULL AND expires_at > ?1"
                " RETURNING id",
                (now, client_id),
            ).fetchall()
            ended = [text(row[0]) for row in rows]
            for grant_id in ended:
                connection.execute("DELETE FROM refresh_token WHERE grant_id = ?", (grant_id,))
                _insert_revocation(connection, grant_id, keep_until)
        return ended

    async def revoke_token(self, token_id: str, *, now: int, keep_until: int) -> None:
        """End one access token."""
        with self._database.transaction() as connection:
            _insert_revocation(connection, token_id, keep_until)

    async def revocations_since(self, sequence: int) -> tuple[int, Sequence[str]]:
        """What was revoked after sequence, and the newest sequence."""
        rows = self._database.rows(
            "SELECT sequence, subject FROM revocation WHERE sequence > ? ORDER BY sequence", sequence
        )
        return revoked(rows, sequence)


def insert_grant(connection: Connection, record: GrantUntil) -> None:
    """put_grant() in a write transaction."""
    connection.execute(_PUT_GRANT, grant_values(record.grant, record.expires_at))
    if record.refresh_token is not None:
        _insert_refresh_token(connection, record.refresh_token)


def redeem(connection: Connection, redeeming: Redeeming, now: int) -> None:
    """Redeem the code in a write transaction, and store what its judge makes of it."""
    rows = connection.execute(_REDEEM, (redeeming.code_id, now)).fetchall()
    redeemed = redeemed_code(rows[0]) if rows else None
    grant = None
    if redeemed is not None and redeemed.redemption is Redemption.FIRST:
        found = connection.execute(_LIVE_GRANT, (redeemed.code.grant_id, now)).fetchone()
        grant = None if found is None else decode(found[0], Grant)
    stored = redeeming.judge(redeemed, grant)
    if stored is not None:
        insert_grant(connection, stored)


# One statement counts the use: whoever makes it 1 was first, in whichever process. No time limit but the grant's life
# holds for a code that was used.
_REDEEM = (
    "UPDATE authorization_code SET uses = uses + 1 WHERE id = ?1 AND CASE uses WHEN 0 THEN expires_at > ?2"
    " ELSE EXISTS (SELECT 1 FROM grant_record g WHERE g.id = grant_id AND g.expires_at > ?2) END"
    " RETURNING record, uses"
)
_LIVE_REQUEST = "SELECT 1 FROM pushed_request WHERE id = ? AND expires_at > ?"
_LIVE_GRANT = "SELECT record FROM grant_record WHERE id = ? AND revoked_at IS NULL AND expires_at > ?"
_PUT_GRANT = (
    "INSERT INTO grant_record VALUES (?1, ?2, ?3, ?4, NULL, ?5)"
    " ON CONFLICT (id) DO UPDATE SET record = ?4, expires_at = MAX(expires_at, ?5)"
)


def _consume(connection: Connection, request_id: str, interaction_id: str, now: int) -> bool:
    taken = connection.execute(
        "DELETE FROM pushed_request WHERE id = ? AND expires_at > ?", (request_id, now)
    )
    if taken.rowcount != 1:
        return False
    connection.execute("DELETE FROM interaction WHERE id = ?", (interaction_id,))
    return True


def _insert_revocation(connection: Connection, subject: str, keep_until: int) -> None:
    """A new row with a new sequence each time, so that caches that read by sequence see it; never kept shorter."""
    kept = connection.execute(
        "DELETE FROM revocation WHERE subject = ? RETURNING expires_at", (subject,)
    ).fetchall()
    connection.execute(
        "INSERT INTO revocation (subject, expires_at) VALUES (?, ?)",
        (subject, max([keep_until, *(integer(row[0]) for row in kept)])),
    )


def _insert_refresh_token(connection: Connection, record: RefreshToken) -> None:
    connection.execute(
        "INSERT INTO refresh_token (id, grant_id, record, expires_at) VALUES (?, ?, ?, ?)",
        (record.id, record.grant_id, encode(record), record.expires_at),
    )
    connection.execute(
        "UPDATE grant_record SET expires_at = MAX(expires_at, ?) WHERE id = ?",
        (record.expires_at, record.grant_id),
    )
