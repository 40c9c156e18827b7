"""The audit log: one JSON line a decision, hash-chained, durable before the answer that it describes goes out.

    line(n)   = {"seq":n,"at":"…Z", members of the record in the order of their names, "previous":digest(n-1)}
    digest(n) = SHA-256(digest(n-1) ‖ line(n))

Records that arrive in one turn of the event loop share one commit. The newest sequence and digest are kept a second
time, in the same transaction, so that a log cut off at its end is found as well as one that was changed, reordered
or thinned. Several processes may append to one chain: who finds that it has moved on links its lines anew.
"""

import asyncio
import dataclasses
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice

import msgspec

from authz.events import (
    ClientChanged,
    ClockCompared,
    ConsentChanged,
    ConsentGiven,
    ContextLaunched,
    Event,
    GrantRevoked,
    KeyChanged,
    KeySetFetched,
    OwnRecordShown,
    ProofChecked,
    Refused,
    SignIn,
    TokenIssued,
)
from authz.protocol.encoding import base64url
from authz.storage.audit_lines import AuditLine
from authz.storage.store import AuditConflict, Store, StoreUnavailable

_GENESIS = sha256(b"securus audit log").digest()
_PAGE_LINES = 1000
_BATCH_LINES = 250
_MAX_WAITING = 50_000
_OURS = frozenset({"seq", "at", "previous"})
_WORDS: Mapping[type[Event], str] = {
    TokenIssued: "token-issued",
    SignIn: "sign-in",
    ConsentGiven: "consent",
    ConsentChanged: "consent-changed",
    OwnRecordShown: "own-record",
    ContextLaunched: "launch",
    Refused: "authorization-refused",
    GrantRevoked: "grant-revoked",
    KeyChanged: "key-changed",
    KeySetFetched: "key-set-fetched",
    ClientChanged: "client-changed",
}
_encoder = msgspec.json.Encoder(order="sorted")
_log = logging.getLogger("securus.audit")


class AuditUnavailable(Exception):
    """The record could not be written: what it describes must not happen."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk over the chain found. records are whole; broken_at is the sequence of the first that is not."""

    whole: bool
    records: int
    broken_at: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A line to be written, somebody who waits for it and all before it, or both."""

    at: bytes
    members: bytes | None
    done: asyncio.Future[None] | None


class AuditLog:
    """Appends records to the chain in the store. Made by open()."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        sequence: int,
        digest: bytes,
        written: Callable[[float], None] | None = None,
    ) -> None:
        self._store = store
        self._written = written
        self._clock = clock
        self._sequence = sequence
        self._digest = digest
        self._waiting: deque[_Waiting] = deque()
        self._notes = 0  # of those waiting, how many are notes
        self._lost = 0  # notes that found the queue full
        self._writer: asyncio.Task[None] | None = None
        self._second, self._second_text = -1, ""

    @classmethod
    async def open(
        cls,
        store: Store,
        clock: Callable[[], float],
        *,
        written: Callable[[float], None] | None = None,
    ) -> "AuditLog":
        """Continue the chain that the store holds; clock gives seconds, with fractions where it has them.

        written is told how many records became durable.

        A log that was cut off is continued behind its recorded head, so that verify() finds the gap for ever. Raises
        StoreUnavailable when there are lines beyond the head: no program of ours wrote them.
        """
        last = await store.last_audit()  # before the head, which others may move meanwhile
        head = await store.audit_head()
        if last is not None and (head is None or last.sequence > head[0]):
            raise StoreUnavailable(
                f"the audit log ends at record {last.sequence}, its head says {head[0] if head else 0}: the log was"
                " changed from outside; keep the file and look at it with 'securus audit verify'"
            )
        sequence, digest = head or (0, _GENESIS)
        return cls(store, clock, sequence, digest, written)

    async def record(self, record: Mapping[str, object]) -> None:
        """Append a record; durable when this returns. Raises AuditUnavailable.

        Its members are JSON values; seq, at and previous are the log's own.
        """
        if not _OURS.isdisjoint(record):
            raise AuditUnavailable(f"a record may not have members named {', '.join(sorted(_OURS))}")
        if len(self._waiting) >= _MAX_WAITING:
            raise AuditUnavailable(f"{_MAX_WAITING} records wait to be written")
        await self._queue(_members(record))

    def note(self, event: Event) -> None:
        """Append what happened in the authorization server; settled() waits until it is durable.

        A note stays in the queue until it is written. Proof checks and clocks are left out: each proxied request has
        a record of its own, and each refused request to the authorization server a Refused event.
        """
        if isinstance(event, ProofChecked | ClockCompared):
            return
        if isinstance(event, KeySetFetched) and event.outcome == "fetched" and not event.changed:
            return
        if self._notes >= _MAX_WAITING:
            self._lost += 1
            return
        said = {"event": _WORDS[type(event)], **_fields(event)}
        self._notes += 1
        self._waiting.append(_Waiting(self._now(), _members(said), None))
        self._write_soon()

    async def settled(self) -> None:
        """Wait until everything noted so far is durable. Raises AuditUnavailable when it is not."""
        if self._lost:
            self._write_soon()
            raise AuditUnavailable(f"{self._lost} events found {_MAX_WAITING} others waiting and are lost")
        if self._notes:
            await self._queue(None)

    async def close(self) -> None:
        """Write what is waiting. Raises AuditUnavailable."""
        if self._writer is not None:
            await asyncio.wait({self._writer})
        await self.settled()

    async def _queue(self, members: bytes | None) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(self._now(), members, done))
        self._write_soon()
        await done

    def _write_soon(self) -> None:
        if self._writer is None or self._writer.done():
            # It starts in the next turn of the loop: what else this turn has to record comes along.
            self._writer = asyncio.get_running_loop().create_task(self._write())
            self._writer.add_done_callback(self._ended)

    def _ended(self, writer: asyncio.Task[None]) -> None:
        """Nobody waits for a writer that was cancelled or failed."""
        error = asyncio.CancelledError() if writer.cancelled() else writer.exception()
        if error is not None:
            self._refuse(error)

    async def _write(self) -> None:
        """Write what waits, batch after batch, in order. Lines get their place in the chain here, in one task."""
        while self._waiting:
            batch = list(islice(self._waiting, _BATCH_LINES))
            lost, texts = self._lost, [(w.at, w.members) for w in batch if w.members is not None]
            if lost:
                texts.append((self._now(), _members({"event": "events-lost", "count": lost})))
            try:
                await self._append(texts)
            except StoreUnavailable as error:
                self._refuse(error)
                return
            self._lost -= lost
            for waiting in batch:
                self._waiting.popleft()
                if waiting.done is None:
                    self._notes -= 1
                elif not waiting.done.done():
                    waiting.done.set_result(None)

    async def _append(self, texts: list[tuple[bytes, bytes]]) -> None:
        if not texts:
            return
        lines = _link(texts, self._sequence, self._digest)

        def again(head: tuple[int, bytes] | None) -> Sequence[AuditLine]:
            lines[:] = _link(texts, *(head or (0, _GENESIS)))
            return lines

        try:
            await self._store.append_audit(lines)
        except AuditConflict:
            await self._store.extend_audit(again)
        self._sequence, self._digest = lines[-1].sequence, lines[-1].digest
        if self._written is not None:
            self._written(len(lines))

    def _refuse(self, error: BaseException) -> None:
        """Tell everybody who waits, and the operator; notes stay for the next attempt, in order."""
        _log.error(
            "the audit log cannot be written",
            extra={"cause": str(error) or type(error).__name__, "count": len(self._waiting)},
        )
        kept = [waiting for waiting in self._waiting if waiting.done is None]
        refused = [waiting.done for waiting in self._waiting if waiting.done is not None]
        self._waiting = deque(kept)
        for done in refused:
            if not done.done():
                unavailable = AuditUnavailable(f"the audit log cannot be written: {error}")
                unavailable.__cause__ = error
                done.set_exception(unavailable)

    def _now(self) -> bytes:
        """RFC 3339, UTC, milliseconds."""
        second, millisecond = divmod(int(self._clock() * 1000), 1000)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{millisecond:03}Z".encode("ascii")


async def verify(store: Store) -> Verification:
    """Walk the whole chain, a live one too, and name the first record that is missing, changed or out of place.

    A log without a head beside it, or longer or shorter than its head says, is broken. Raises StoreUnavailable.
    """
    head = await store.audit_head() or (0, _GENESIS)
    sequence, digest = 0, _GENESIS
    while lines := await store.audit(after=sequence, limit=_PAGE_LINES):
        for line in lines:
            why = _fault(line, sequence + 1, digest)
            if why is None and line.sequence == head[0] and line.digest != head[1]:
                why = f"record {line.sequence} is not the one that the head of the log names"
            if why is not None:
                return Verification(False, sequence, sequence + 1, why)
            sequence, digest = line.sequence, line.digest
        await asyncio.sleep(0)
    if sequence < head[0]:
        why = f"record {sequence + 1} is missing: the log ends at {sequence}, its head says {head[0]}"
        return Verification(False, sequence, sequence + 1, why)
    newest = await store.audit_head() or (0, _GENESIS)  # it has moved when records came during the walk
    if sequence > newest[0]:
        why = f"record {newest[0] + 1} is not known to the head of the log, which says {newest[0]}"
        return Verification(False, newest[0], newest[0] + 1, why)
    return Verification(True, sequence)


class _Place(msgspec.Struct):
    """What a line says of its own place."""

    seq: int
    previous: str


_read_place = msgspec.json.Decoder(_Place).decode


def _fault(line: AuditLine, expected: int, digest: bytes) -> str | None:
    """What is wrong with a line that is to stand at expected behind digest; None when it is right."""
    if line.sequence != expected:
        return f"record {expected} is missing: record {line.sequence} comes next"
    try:
        place = _read_place(line.line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"record {expected} was changed: it cannot be read"
    if place.seq != expected:
        return f"record {place.seq} stands in the place of record {expected}"
    if line.previous != digest or place.previous != base64url(digest):
        return f"record {expected} does not follow the one before it: one of the two was changed"
    if sha256(digest + line.line).digest() != line.digest:
        return f"record {expected} was changed: its digest does not fit"
    return None


def _link(texts: list[tuple[bytes, bytes]], sequence: int, digest: bytes) -> list[AuditLine]:
    """The lines of these times and members behind the line of that sequence and digest."""
    lines = []
    for at, members in texts:
        sequence += 1
        place = b'{"seq":%d,"at":"%b",%b"previous":"%b"}'
        line = place % (sequence, at, members, base64url(digest).encode("ascii"))
        following = sha256(digest + line).digest()
        lines.append(AuditLine(sequence, digest, following, line))
        digest = following
    return lines


def _members(record: Mapping[str, object]) -> bytes:
    """The members of the record as JSON, each with a comma behind it. Raises AuditUnavailable."""
    try:
        text = _encoder.encode(record)
    except UnicodeEncodeError:
        text = _repaired(record)
    except TypeError as error:
        raise AuditUnavailable(f"the record is not JSON: {error}") from error
    return text[1:-1] + b"," if len(text) > 2 else b""


def _repaired(record: Mapping[str, object]) -> bytes:
    """The record as JSON when some text in it is not Unicode: '?' stands for what cannot be told."""
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AuditUnavailable(f"the record is not JSON: {error}") from error
    return text.encode("utf-8", "replace")


def _fields(event: Event) -> dict[str, object]:
    return {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
