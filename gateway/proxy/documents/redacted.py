"""A clinical document on its way out, without the sections that no permit shows to this caller."""

import binascii
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from gateway.cda.parser import DocumentError
from gateway.cda.redaction import Redaction
from gateway.cda.section_condition import SectionCondition
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.proxy.trail import Trail
from gateway.wire.upstream_exchange import PIECE_BYTES


def sections_shown(permit: Permit, rules: Iterable[str]) -> tuple[SectionCondition, ...] | None:
    """What of sections is shown by the permits that hold, rules being their names; None where one shows all."""
    if permit.sections is None:
        return None
    found = []
    for name in rules:
        condition = permit.sections.get(name)
        if name in permit.sections and condition is None:
            return None
        if condition is not None:
            found.append(condition)
    return tuple(found)


async def redacted(
    pieces: AsyncIterator[bytes], shown: Sequence[SectionCondition], trail: Trail
) -> AsyncIterator[bytes]:
    """The document as its pieces come. The trail learns what was withheld. Raises FhirError(UPSTREAM_INVALID)."""
    redaction = Redaction(shown)
    try:
        async for piece in pieces:
            out = redaction.feed(piece)
            for start in range(0, len(out), PIECE_BYTES):
                yield out[start : start + PIECE_BYTES]
        out = redaction.finish()
    except DocumentError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, str(error)) from error
    trail.withheld = withheld(redaction)
    # A component at once would be held once more by whoever sends.
    for start in range(0, len(out), PIECE_BYTES):
        yield out[start : start + PIECE_BYTES]


def redact_data(
    value: dict[str, Any], content: bytes, shown: Sequence[SectionCondition], trail: Trail
) -> None:
    """Put the copy of the content in place of a Binary's data. Raises FhirError(UPSTREAM_INVALID)."""
    redaction = Redaction(shown, held_bytes=len(content) + 1)
    try:
        out = redaction.feed(content) + redaction.finish()
    except DocumentError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, str(error)) from error
    trail.withheld = withheld(redaction)
    if redaction.is_changed:
        value["data"] = binascii.b2a_base64(out, newline=False).decode("ascii")


def withheld(redaction: Redaction) -> dict[str, object] | None:
    """What the audit record says of it; None where the copy is the original."""
    if not redaction.is_changed:
        return None
    return {
        "sections": redaction.sections_cut,
        "entries": redaction.entries_cut,
        "signature": "broken" if redaction.is_signed else "none",
    }
