"""Rows of a store as records, and back. The order of the columns is the same in every store; it stands here."""

import asyncio
from collections.abc import AsyncIterable, Sequence
from dataclasses import replace
from heapq import merge
from typing import TypeGuard

from authz.protocol.tokens import Grant
from authz.storage.audit_lines import AuditLine
from authz.storage.audit_seals import AuditKey, Hold, Stub, TreeHead
from authz.storage.consents import ConsentVersion
from authz.storage.effects import Emergency, Notification
from authz.storage.grants import AuthorizationCode, RedeemedCode, Redemption, RefreshToken
from authz.storage.records import decode, encode, integer, octets, text
from authz.storage.registrations import InitialAccessToken, Registration, RegistrationChange
from authz.storage.server_keys import StoredKey

KEY_COLUMNS = "kid, algorithm, state, encrypted, public_jwk, created_at, activates_at, retires_at, removes_at"
AUDIT_COLUMNS = "chain, sequence, previous, digest, line"
AUDIT_KEY_COLUMNS = "number, kid, algorithm, encrypted, public_jwk, created_at"
HOLD_COLUMNS = "id, since, until, why, by_whom, created_at, ended_at"
EMERGENCY_COLUMNS = (
    "id, rule, issuer, client_id, subject, patient, reason, started_at, ends_at, expires_at,"
    " reviewed_at, reviewed_by, review"
)
CONSENT_COLUMNS = (
    "base, id, version, patient, status, resource, recorded_at, recorded_by, grant_id, provisions"
)
NOTIFICATION_COLUMNS = "id, receiver, content, due_at, expires_at, attempts"
GRANTS_AT_ONCE = 100
"""So many grants are read and put in order in a millisecond."""

Row = Sequence[object]
_LINE_TYPES = (str, int, bytes, bytes, bytes)
_new_line = tuple.__new__


def stored_key(row: Row) -> StoredKey:
    """A row of KEY_COLUMNS."""
    return StoredKey(
        kid=text(row[0]),
        algorithm=text(row[1]),
        state=text(row[2]),
        encrypted=octets(row[3]),
        public_jwk=decode(row[4], dict[str, object]),
        created_at=integer(row[5]),
        activates_at=integer(row[6]),
        retires_at=integer(row[7]),
        removes_at=integer(row[8]),
    )


def key_values(key: StoredKey) -> tuple[object, ...]:
    """A key as a row of KEY_COLUMNS."""
    return (
        key.kid, key.algorithm, key.state, key.encrypted, encode(key.public_jwk),
        key.created_at, key.activates_at, key.retires_at, key.removes_at,
    )  # fmt: skip


def audit_line(row: Row) -> AuditLine:
    """A row of AUDIT_COLUMNS."""
    return AuditLine(integer(row[1]), octets(row[2]), octets(row[3]), octets(row[4]), text(row[0]))


def audit_lines(rows: Sequence[Row]) -> Sequence[AuditLine]:
    """Such rows, their types asked at once: every line that is followed is read here. Raises StoreUnavailable."""
    if _are_lines(rows):
        return [
            _new_line(AuditLine, (sequence, previous, digest, line, chain))
            for chain, sequence, previous, digest, line in rows
        ]
    return [audit_line(row) for row in rows]


def _are_lines(rows: Sequence[Row]) -> TypeGuard[Sequence[tuple[str, int, bytes, bytes, bytes]]]:
    columns = zip(*rows, strict=True) if rows else ()
    return all({*map(type, column)} == {kind} for column, kind in zip(columns, _LINE_TYPES, strict=False))


def tree_head(row: Row) -> TreeHead:
    """A row of number, head and frontier."""
    return TreeHead(integer(row[0]), octets(row[1]), octets(row[2]))


def stub(row: Row) -> Stub:
    """A row of chain, first, last and stub."""
    return Stub(text(row[0]), integer(row[1]), integer(row[2]), octets(row[3]))


def audit_key(row: Row) -> AuditKey:
    """A row of AUDIT_KEY_COLUMNS."""
    jwk = decode(row[4], dict[str, object])
    return AuditKey(integer(row[0]), text(row[1]), text(row[2]), octets(row[3]), jwk, integer(row[5]))


def audit_key_values(key: AuditKey) -> tuple[object, ...]:
    """A key as a row of AUDIT_KEY_COLUMNS."""
    return key.number, key.kid, key.algorithm, key.encrypted, encode(key.public_jwk), key.created_at


def hold(row: Row) -> Hold:
    """A row of HOLD_COLUMNS."""
    ended_at = None if row[6] is None else integer(row[6])
    return Hold(
        text(row[0]), integer(row[1]), integer(row[2]), text(row[3]), text(row[4]), integer(row[5]), ended_at
    )


def hold_values(record: Hold) -> tuple[object, ...]:
    """A hold as a row of HOLD_COLUMNS."""
    return record.id, record.since, record.until, record.why, record.by, record.created_at, record.ended_at


def grant_values(grant: Grant, expires_at: int) -> tuple[object, ...]:
    """A grant as a row of id, client, subject, record and expiry."""
    return grant.grant_id, grant.client_id, grant.subject, encode(grant), expires_at


async def newest_first(portions: AsyncIterable[Sequence[Row]]) -> Sequence[Grant]:
    """The grants of rows of record, read and put in order in turns with others: a client may have very many."""
    sorted_ones: list[list[Grant]] = []
    async for rows in portions:
        for start in range(0, len(rows), GRANTS_AT_ONCE):
            if sorted_ones:
                await asyncio.sleep(0)
            some = [decode(row[0], Grant) for row in rows[start : start + GRANTS_AT_ONCE]]
            sorted_ones.append(sorted(some, key=_newest))
    if len(sorted_ones) < 2:
        return sorted_ones[0] if sorted_ones else []
    found: list[Grant] = []
    for grant in merge(*sorted_ones, key=_newest):
        found.append(grant)
        if len(found) % (2 * GRANTS_AT_ONCE) == 0:
            await asyncio.sleep(0)
    return found


def _newest(grant: Grant) -> tuple[int, str]:
    return -grant.created_at, grant.grant_id


def redeemed_code(row: Row) -> RedeemedCode:
    """A row of record and uses, this one counted."""
    redemption = Redemption.FIRST if row[1] == 1 else Redemption.AGAIN
    return RedeemedCode(decode(row[0], AuthorizationCode), redemption)


def refresh_token(row: Row) -> RefreshToken:
    """A row of record and the time of its first replacement."""
    record = decode(row[0], RefreshToken)
    return record if row[1] is None else replace(record, replaced_at=integer(row[1]))


def revoked(rows: Sequence[Row], after: int) -> tuple[int, Sequence[str]]:
    """Rows of sequence and subject: the newest sequence, which is `after` without any, and the subjects."""
    return (integer(rows[-1][0]) if rows else after), [text(row[1]) for row in rows]


def registration(row: Row) -> Registration:
    """A row of record and sequence."""
    return replace(decode(row[0], Registration), sequence=integer(row[1]))


def registration_change(row: Row) -> RegistrationChange:
    """A row of record and sequence."""
    return replace(decode(row[0], RegistrationChange), sequence=integer(row[1]))


def initial_access_token(row: Row) -> InitialAccessToken:
    """A row of record and uses left."""
    return replace(decode(row[0], InitialAccessToken), uses_left=integer(row[1]))


def emergency(row: Row) -> Emergency:
    """A row of EMERGENCY_COLUMNS."""
    id, rule, issuer, client_id, subject, patient, reason = map(text, row[:7])
    return Emergency(
        id,
        rule,
        issuer,
        client_id,
        subject,
        patient,
        reason,
        started_at=integer(row[7]),
        ends_at=integer(row[8]),
        expires_at=integer(row[9]),
        reviewed_at=None if row[10] is None else integer(row[10]),
        reviewed_by=None if row[11] is None else text(row[11]),
        review=None if row[12] is None else text(row[12]),
    )


def notification(row: Row) -> Notification:
    """A row of NOTIFICATION_COLUMNS."""
    return Notification(
        text(row[0]), text(row[1]), octets(row[2]), integer(row[3]), integer(row[4]), integer(row[5])
    )


def notification_values(record: Notification) -> tuple[object, ...]:
    """A message as a row of NOTIFICATION_COLUMNS."""
    return record.id, record.receiver, record.content, record.due_at, record.expires_at, record.attempts


def consent_version(row: Row) -> ConsentVersion:
    """A row of CONSENT_COLUMNS."""
    return ConsentVersion(
        text(row[0]),
        text(row[1]),
        integer(row[2]),
        text(row[3]),
        text(row[4]),
        octets(row[5]),
        integer(row[6]),
        text(row[7]),
        None if row[8] is None else text(row[8]),
        None if row[9] is None else integer(row[9]),
    )


def consent_values(version: ConsentVersion) -> tuple[object, ...]:
    """A version of a consent as a row of CONSENT_COLUMNS."""
    return (
        version.base, version.id, version.version, version.patient, version.status, version.resource,
        version.recorded_at, version.recorded_by, version.grant_id, version.provisions,
    )  # fmt: skip
