"""Grants, codes, refresh tokens and revocations on PostgreSQL. What each method means stands at Store."""

from collections.abc import AsyncIterator, Collection, Sequence

from authz.protocol.tokens import Grant
from authz.storage.consents import ConsentVersion, Room
from authz.storage.grants import AuthorizationCode, RedeemedCode, RefreshToken
from authz.storage.postgresql.consents import insert_consents
from authz.storage.postgresql.pool import PostgresqlPool, Transaction
from authz.storage.records import decode, encode, text
from authz.storage.rows import Row, grant_values, newest_first, redeemed_code, refresh_token, revoked
from authz.storage.store import StoreUnavailable


class PostgresqlGrants:
    """The part of PostgresqlStore that keeps what was granted.

    Locks are taken in one order everywhere, grants before their tokens before patients before numbers, so that no two
    wait for each other.
    """

    _database: PostgresqlPool

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
        """Consume the pushed request and write grant, code and consents; False when it was consumed before."""
        values = (
            *grant_values(grant, code.expires_at),
            *(code.id, code.grant_id, encode(code), code.expires_at),
            *(request_id, now, interaction_id),
        )
        if not consents:
            return await self._database.change(_COMPLETE, *values) == 1
        async with self._database.transaction() as transaction:
            if await transaction.change(_COMPLETE, *values) != 1:
                return False
            if not await insert_consents(transaction, consents):
                raise StoreUnavailable("a consent is not new")
        return True

    async def refuse_authorization(self, *, request_id: str, interaction_id: str, now: int) -> bool:
        """Consume the pushed request after a refusal; False when it was consumed before."""
        return await self._database.change(_REFUSE, request_id, now, interaction_id) == 1

    async def redeem_code(self, id: str, *, now: int) -> RedeemedCode | None:
        """Mark the code as used and return it, AGAIN when it was used before."""
        # One statement counts the use: whoever makes it 1 was first, on whichever node. No time limit but the
        # grant's life holds for a code that was used.
        row = await self._database.row(
            "UPDATE authorization_code SET uses = uses + 1 WHERE id = $1 AND CASE uses WHEN 0 THEN expires_at > $2"
            " ELSE EXISTS (SELECT 1 FROM grant_record g WHERE g.id = grant_id AND g.expires_at > $2) END"
            " RETURNING record, uses",
            id,
            now,
        )
        return None if row is None else redeemed_code(row)

    async def put_grant(
        self, grant: Grant, *, expires_at: int, refresh_token: RefreshToken | None = None
    ) -> None:
        """Store a grant, or let it live longer. A revoked one stays revoked."""
        if refresh_token is None:
            await self._database.change(_PUT_GRANT, *grant_values(grant, expires_at))
            return
        until = max(expires_at, refresh_token.expires_at)
        values = (*grant_values(grant, until), *_token_values(refresh_token))
        if await self._database.change(_PUT_GRANT_AND_TOKEN, *values) != 1:
            raise StoreUnavailable("a refresh token cannot be stored")

    async def grant(self, grant_id: str, *, now: int) -> Grant | None:
        """The live grant."""
        row = await self._database.row(
            "SELECT record FROM grant_record WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2",
            grant_id,
            now,
        )
        return None if row is None else decode(row[0], Grant)

    async def live_grants(self, grant_ids: Collection[str], *, now: int) -> frozenset[str]:
        """Those of these ids whose grants are live."""
        rows = await self._database.rows(
            "SELECT id FROM grant_record WHERE id = ANY ($1) AND revoked_at IS NULL AND expires_at > $2",
            list(grant_ids),
            now,
        )
        return frozenset(text(row[0]) for row in rows)

    async def grants(self, *, subject: str | None, client_id: str | None, now: int) -> Sequence[Grant]:
        """The live grants of a person, a client, or both."""
        wanted = {"subject": subject, "client_id": client_id}
        given = {column: value for column, value in wanted.items() if value is not None}
        conditions = "".join(f" AND {column} = ${number}" for number, column in enumerate(given, start=2))
        sql = f"SELECT record FROM grant_record WHERE revoked_at IS NULL AND expires_at > $1{conditions}"  # noqa: S608

        async def at_once() -> AsyncIterator[Sequence[Row]]:
            yield await self._database.rows(sql, now, *given.values())

        return await newest_first(at_once())

    async def put_refresh_token(self, record: RefreshToken) -> None:
        """Store a refresh token; its grant lives at least as long."""
        if await self._database.change(_PUT_TOKEN, *_token_values(record)) != 1:
            raise StoreUnavailable("a refresh token cannot be stored")

    async def replace_refresh_token(self, id: str, *, by: RefreshToken, now: int, grace_seconds: int) -> bool:
        """Store the successor; False, and nothing stored, when the grace of the token has passed."""
        return await self._database.change(_REPLACE_TOKEN, *_token_values(by), id, now, grace_seconds) == 1

    async def refresh_token(self, id: str, *, now: int) -> RefreshToken | None:
        """The live refresh token of a live grant."""
        row = await self._database.row(
            "SELECT t.record, t.replaced_at FROM refresh_token t JOIN grant_record g ON g.id = t.grant_id"
            " WHERE t.id = $1 AND t.expires_at > $2 AND g.expires_at > $2 AND g.revoked_at IS NULL",
            id,
            now,
        )
        return None if row is None else refresh_token(row)

    async def revoke_grant(self, grant_id: str, *, now: int, keep_until: int) -> bool:
        """End a grant with its tokens; True when it was live before."""
        async with self._database.transaction() as transaction:
            live = await transaction.change(
                "UPDATE grant_record SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL AND expires_at > $1",
                now,
                grant_id,
            )
            await transaction.change("DELETE FROM refresh_token WHERE grant_id = $1", grant_id)
            await _insert_revocations(transaction, [grant_id], keep_until)
        return live == 1

    async def end_grants(self, client_id: str, *, now: int, keep_until: int) -> Sequence[str]:
        """End every live grant of a client; the ids of those that were live."""
        async with self._database.transaction() as transaction:
            rows = await transaction.rows(
                "WITH live AS (SELECT id FROM grant_record WHERE client_id = $2 AND revoked_at IS NULL"
                " AND expires_at > $1 ORDER BY id FOR UPDATE)"
                " UPDATE grant_record g SET revoked_at = $1 FROM live WHERE g.id = live.id RETURNING g.id",
                now,
                client_id,
            )
            ended = [text(row[0]) for row in rows]
            if ended:
                await transaction.change("DELETE FROM refresh_token WHERE grant_id = ANY ($1)", ended)
                await _insert_revocations(transaction, ended, keep_until)
        return ended

    async def revoke_token(self, token_id: str, *, now: int, keep_until: int) -> None:
        """End one access token."""
        async with self._database.transaction() as transaction:
            await _insert_revocations(transaction, [token_id], keep_until)

    async def revocations_since(self, sequence: int) -> tuple[int, Sequence[str]]:
        """What was revoked after sequence, and the newest sequence."""
        rows = await self._database.rows(
            "SELECT sequence, subject FROM revocation WHERE sequence > $1 ORDER BY sequence", sequence
        )
        return revoked(rows, sequence)


_LIVING_ON = (
    "ON CONFLICT (id) DO UPDATE SET record = excluded.record,"
    " expires_at = GREATEST(grant_record.expires_at, excluded.expires_at)"
)
_PUT_GRANT = (
    "INSERT INTO grant_record (id, client_id, subject, record, expires_at) VALUES ($1, $2, $3, $4, $5) "  # noqa: S608
    + _LIVING_ON
)
# Each of these is one way to the server, and its own transaction: parts that follow from what another part has changed
# read it from that part, for they see the tables as they were when the statement began.
_PUT_GRANT_AND_TOKEN = (
    f"WITH granted AS ({_PUT_GRANT})"  # noqa: S608
    " INSERT INTO refresh_token (id, grant_id, record, expires_at) VALUES ($6, $7, $8, $9)"
)
"""The grant lives as long as its token, by the values."""
_LET_LIVE = "UPDATE grant_record SET expires_at = GREATEST(grant_record.expires_at, $4)"
_PUT_TOKEN = (
    f"WITH living AS ({_LET_LIVE} WHERE id = $2)"  # noqa: S608
    " INSERT INTO refresh_token (id, grant_id, record, expires_at) VALUES ($1, $2, $3, $4)"
)
_REPLACE_TOKEN = (
    "WITH held AS (SELECT id FROM grant_record WHERE id = $2 FOR NO KEY UPDATE),"  # noqa: S608
    " replaced AS (UPDATE refresh_token SET replaced_at = COALESCE(replaced_at, $6::bigint) FROM held"
    " WHERE refresh_token.id = $5 AND expires_at > $6 AND (replaced_at IS NULL OR replaced_at + $7::bigint > $6)"
    " RETURNING 1),"
    f" living AS ({_LET_LIVE} FROM replaced WHERE grant_record.id = $2)"
    " INSERT INTO refresh_token (id, grant_id, record, expires_at)"
    " SELECT $1, $2, $3::bytea, $4::bigint FROM replaced"
)
"""Who ends the grant holds it first, and then its tokens: so does whoever replaces one."""
_REFUSE = (
    "WITH taken AS (DELETE FROM pushed_request WHERE id = $1 AND expires_at > $2 RETURNING 1),"
    " over AS (DELETE FROM interaction USING taken WHERE interaction.id = $3) SELECT 1 FROM taken"
)
_COMPLETE = (
    "WITH taken AS (DELETE FROM pushed_request WHERE id = $10 AND expires_at > $11 RETURNING 1),"  # noqa: S608
    " over AS (DELETE FROM interaction USING taken WHERE interaction.id = $12),"
    " granted AS (INSERT INTO grant_record (id, client_id, subject, record, expires_at)"
    f" SELECT $1, $2, $3, $4::bytea, $5::bigint FROM taken {_LIVING_ON})"
    " INSERT INTO authorization_code (id, grant_id, record, uses, expires_at)"
    " SELECT $6, $7, $8::bytea, 0, $9::bigint FROM taken"
)


async def _insert_revocations(transaction: Transaction, subjects: Sequence[str], keep_until: int) -> None:
    """A new sequence each time, so that caches that read by sequence see it; never kept shorter.

    The row of the number is locked until the transaction ends: numbers become visible in their order.
    """
    await transaction.change(
        "WITH numbered AS (UPDATE numbering SET value = value + 1 WHERE name = 'revocation' RETURNING value)"
        " INSERT INTO revocation (subject, sequence, expires_at)"
        " SELECT subject, value, $2 FROM numbered, unnest($1::text[]) AS subject"
        " ON CONFLICT (subject) DO UPDATE SET sequence = excluded.sequence,"
        " expires_at = GREATEST(revocation.expires_at, excluded.expires_at)",
        list(subjects),
        keep_until,
    )


def _token_values(record: RefreshToken) -> tuple[object, ...]:
    return record.id, record.grant_id, encode(record), record.expires_at
