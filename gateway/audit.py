"""The audit log: one JSON line a decision, hash-chained, durable before the answer that it describes goes out.

digest(n) = SHA-256(digest(n-1) ‖ line(n)). Records that arrive in one turn of the event loop share one commit.
The newest sequence and digest are kept a second time, so that a log cut off at its end is found as well as one
that was changed, reordered or thinned.
"""

import asyncio
import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from authz.clock import Clock
from authz.events import Event
from authz.protocol.encoding import base64url
from authz.storage.store import AuditLine, Store, StoreUnavailable

_GENESIS = sha256(b"securus audit log").digest()
_PAGE = 1000
_MAX_BATCH = 500
_MAX_WAITING = 50_000
_WORDS = {
    "TokenIssued": "token-issued",
    "ProofChecked": "proof-checked",
    "SignIn": "sign-in",
    "ConsentGiven": "consent",
    "Refused": "authorization-refused",
    "GrantRevoked": "grant-revoked",
    "KeyChanged": "key-changed",
}
_log = logging.getLogger("securus.audit")


class AuditUnavailable(Exception):
    """The record could not be written: what it describes must not happen."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the chain found. broken_at is the sequence of the first record that is wrong."""

    whole: bool
    records: int
    broken_at: int | None = None
    why: str = ""


class AuditLog:
    """Appends records to the chain in the store. Made by open(); one per store file."""

    def __init__(self, store: Store, clock: Clock, sequence: int, digest: bytes) -> None:
        self._store = store
        self._clock = clock
        self._sequence = sequence
        self._digest = digest
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._noted: set[asyncio.Future[None]] = set()
        self.appended = 0

    @classmethod
    async def open(cls, store: Store, clock: Clock) -> "AuditLog":
        """Continue the chain that the store holds."""
        last = await store.last_audit()
        return cls(store, clock, last.sequence if last else 0, last.digest if last else _GENESIS)

    async def record(self, record: Mapping[str, object]) -> None:
        """Append a record; durable when this returns. Raises AuditUnavailable."""
        await self._append(record)

    def note(self, event: Event) -> None:
        """Append what happened in the authorization server; settled() waits until it is durable.

        Proof checks are left out: each proxied request has a record of its own, and refused ones a Refused event.
        """
        kind = type(event).__name__
        if kind == "ProofChecked":
            return
        self._noted.add(self._append({"event": _WORDS[kind], **dataclasses.asdict(event)}))

    async def settled(self) -> None:
        """Wait until everything noted so far is durable. Raises AuditUnavailable."""
        noted, self._noted = self._noted, set()
        for waiting in noted:
            await waiting

    async def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            await self._writer

    def _append(self, record: Mapping[str, object]) -> "asyncio.Future[None]":
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if len(self._waiting) >= _MAX_WAITING:
            done.set_exception(AuditUnavailable("too many records wait to be written"))
            return done
        self._waiting.append((_body(record), done))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write())
        return done

    async def _write(self) -> None:
        """Write what waits, batch after batch. Lines get their place in the chain here, in one task."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            sequence, digest = self._sequence, self._digest
            at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            lines = []
            for body, _ in batch:
                sequence += 1
                line = b'{"seq":%d,"at":"%s","previous":"%s",%s' % (
                    sequence,
                    at.encode(),
                    base64url(digest).encode(),
                    body[1:],
                )
                following = sha256(digest + line).digest()
                lines.append(AuditLine(sequence, digest, following, line))
                digest = following
            try:
                await self._store.append_audit(lines)
            except StoreUnavailable as error:
                _log.error("the audit log cannot be written", extra={"cause": str(error)})
                for _, done in batch:
                    if not done.done():
                        done.set_exception(AuditUnavailable("the audit log cannot be written"))
                continue
            self._sequence, self._digest = sequence, digest
            self.appended += len(lines)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)


def _body(record: Mapping[str, object]) -> bytes:
    """The record as JSON that is never empty, so that sequence, time and link stand before its first member."""
    return json.dumps({"v": 1, **record}, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "replace"
    )


async def verify(store: Store) -> Verification:
    """Walk the whole chain and compare its end with what the store says is the newest record."""
    head = await store.audit_head()
    sequence, digest = 0, _GENESIS
    while lines := await store.audit(after=sequence, limit=_PAGE):
        for line in lines:
            expected = sequence + 1
            if line.sequence != expected:
                return Verification(False, sequence, expected, f"record {expected} is missing")
            if line.previous != digest:
                return Verification(
                    False, sequence, expected, f"record {expected} does not follow the one before"
                )
            if sha256(digest + line.line).digest() != line.digest:
                return Verification(False, sequence, expected, f"record {expected} was changed")
            said = _place(line.line)
            if said != (expected, base64url(digest)):
                return Verification(False, sequence, expected, f"record {expected} stands in another's place")
            sequence, digest = expected, line.digest
    if head is None:
        whole = sequence == 0
        return Verification(
            whole, sequence, None if whole else 1, "" if whole else "the head of the log is missing"
        )
    if head != (sequence, digest):
        lost = min(sequence, head[0]) + 1
        return Verification(False, sequence, lost, f"the log ends at {sequence}, its head says {head[0]}")
    return Verification(True, sequence)


def _place(line: bytes) -> tuple[object, object]:
    try:
        record = json.loads(line)
    except ValueError:
        return None, None
    return record.get("seq"), record.get("previous")
