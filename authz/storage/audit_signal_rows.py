"""Signals of unusual access as rows, the same in every kind of store."""

from collections.abc import Sequence

from authz.storage.audit_signals import MOST_RECORDS, Signal
from authz.storage.records import decode, encode, integer, text

SIGNAL_COLUMNS = (
    "id, rule, kind, at, last_at, base, patient, person, client, words, records, count, expires_at,"
    " reviewed_at, reviewed_by, review"
)


def signal_of(row: Sequence[object]) -> Signal:
    """A row of SIGNAL_COLUMNS."""
    reviewed_at, reviewed_by, review = row[13:16]
    return Signal(
        id=text(row[0]),
        rule=text(row[1]),
        kind=text(row[2]),
        at=integer(row[3]),
        last_at=integer(row[4]),
        base=text(row[5]),
        patient=text(row[6]),
        user=text(row[7]),
        client=text(row[8]),
        words=text(row[9]),
        records=decode(row[10], tuple[tuple[str, int], ...]),
        count=integer(row[11]),
        expires_at=integer(row[12]),
        reviewed_at=None if reviewed_at is None else integer(reviewed_at),
        reviewed_by=None if reviewed_by is None else text(reviewed_by),
        review=None if review is None else text(review),
    )


def signal_values(signal: Signal) -> tuple[object, ...]:
    """A signal as a row of SIGNAL_COLUMNS."""
    return (
        signal.id, signal.rule, signal.kind, signal.at, signal.last_at, signal.base, signal.patient, signal.user,
        signal.client, signal.words, encode(signal.records[:MOST_RECORDS]), signal.count, signal.expires_at,
        signal.reviewed_at, signal.reviewed_by, signal.review,
    )  # fmt: skip
