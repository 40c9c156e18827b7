"""The lines of a chain: how each is made behind the one before, and what is wrong with one that was not."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

from authz.protocol.encoding import base64url
from authz.storage.audit_lines import AuditLine

_GENESIS = b"securus audit log"
_encoder = msgspec.json.Encoder(order="sorted")


class NotJson(Exception):
    """A record that cannot be a line."""


def genesis(chain: str) -> bytes:
    """What the first line of a chain follows: each chain has its own, so that none can stand for another."""
    return sha256(_GENESIS + (b"\x00" + chain.encode() if chain else b"")).digest()


def linked(texts: Iterable[tuple[bytes, bytes]], sequence: int, digest: bytes, chain: str) -> list[AuditLine]:
    """The lines of these times and members behind the line of that sequence and digest."""
    lines = []
    for at, members in texts:
        sequence += 1
        place = b'{"seq":%d,"at":"%b",%b"previous":"%b"}'
        line = place % (sequence, at, members, base64url(digest).encode("ascii"))
        following = sha256(digest + line).digest()
        lines.append(AuditLine(sequence, digest, following, line, chain))
        digest = following
    return lines


class Place(msgspec.Struct):
    """What a line says of its own place, and of a signed head where it is the record of one."""

    seq: int
    previous: str
    event: str = ""
    head: int = 0
    digest: str = ""


_read_place = msgspec.json.Decoder(Place).decode


def place_of(line: bytes) -> Place | None:
    """What it says; None when it cannot be read."""
    try:
        return _read_place(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def fault(line: AuditLine, place: Place | None, expected: int, digest: bytes) -> str | None:
    """What is wrong with a line that is to stand at expected behind digest; None when it is right."""
    if line.sequence != expected:
        return f"record {expected} is missing: record {line.sequence} comes next"
    if place is None:
        return f"record {expected} was changed: it cannot be read"
    if place.seq != expected:
        return f"record {place.seq} stands in the place of record {expected}"
    if line.previous != digest or place.previous != base64url(digest):
        return f"record {expected} does not follow the one before it: one of the two was changed"
    if sha256(digest + line.line).digest() != line.digest:
        return f"record {expected} was changed: its digest does not fit"
    return None


def members_of(record: Mapping[str, object]) -> bytes:
    """The members of the record as JSON, each with a comma behind it. Raises NotJson."""
    try:
        text = _encoder.encode(record)
    except UnicodeEncodeError:
        text = _repaired(record)
    except TypeError as error:
        raise NotJson(f"the record is not JSON: {error}") from error
    return text[1:-1] + b"," if len(text) > 2 else b""


def _repaired(record: Mapping[str, object]) -> bytes:
    """The record as JSON when some text in it is not Unicode: '?' stands for what cannot be told."""
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise NotJson(f"the record is not JSON: {error}") from error
    return text.encode("utf-8", "replace")
