"""Rows of a store as records. The order of the columns is the same in every store; it stands here."""

from collections.abc import Sequence
from dataclasses import replace

from authz.storage.audit_lines import AuditLine
from authz.storage.effects import Emergency, Notification
from authz.storage.records import decode, integer, octets, text
from authz.storage.registrations import InitialAccessToken, Registration
from authz.storage.store import StoredKey

KEY_COLUMNS = "kid, algorithm, state, encrypted, public_jwk, created_at, activates_at, retires_at, removes_at"
AUDIT_COLUMNS = "sequence, previous, digest, line"
EMERGENCY_COLUMNS = (
    "id, rule, issuer, client_id, subject, patient, reason, started_at, ends_at, expires_at,"
    " reviewed_at, reviewed_by, review"
)
NOTIFICATION_COLUMNS = "id, receiver, content, due_at, expires_at, attempts"

Row = Sequence[object]


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


def audit_line(row: Row) -> AuditLine:
    """A row of AUDIT_COLUMNS."""
    return AuditLine(integer(row[0]), octets(row[1]), octets(row[2]), octets(row[3]))


def registration(row: Row) -> Registration:
    """A row of record and sequence."""
    return replace(decode(row[0], Registration), sequence=integer(row[1]))


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
