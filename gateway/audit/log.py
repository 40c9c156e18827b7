"""The audit log: one JSON line a decision, hash-chained, durable before the answer that it describes goes out.

    line(n)   = {"seq":n,"at":"…Z", members of the record in the order of their names, "previous":digest(n-1)}
    digest(n) = SHA-256(digest(n-1) ‖ line(n))

Records that arrive in one turn of the event loop share one commit. Each node has a chain of its own. The newest
sequence and digest are kept a second time, in the same transaction, so that a log cut off at its end is found as well
as one that was changed, reordered or thinned. Several processes may append to one chain: who finds that it has moved
on links its lines anew. An append of which nobody knows whether it was committed is looked for before anything else
is written: no record is written twice.
"""

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from authz.events import (
    ClientChanged,
    ClockCompared,
    ConfigurationInForce,
    ConsentChanged,
    ConsentGiven,
    ContextLaunched,
    Event,
    GrantRevoked,
    KeyChanged,
    KeySetFetched,
    OwnRecordShown,
    PageRefused,
    ProofChecked,
    Refused,
    SignedOut,
    SignIn,
    TokenIssued,
)
from authz.storage.audit_lines import AuditLine
from authz.storage.store import AuditConflict, Store, StoreUnavailable
from gateway.audit.lines import NotJson, genesis, linked, members_of

_BATCH_LINES = 250
_MAX_WAITING = 50_000
_MAX_IN_DOUBT = 16
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
    SignedOut: "sign-out",
    ConfigurationInForce: "configuration-in-force",
}
_LEFT_OUT = frozenset({ProofChecked, ClockCompared, PageRefused})
_NAMES = {kind: tuple(field.name for field in dataclasses.fields(kind)) for kind in _WORDS}
_log = logging.getLogger("securus.audit")


class AuditUnavailable(Exception):
    """The record could not be written: what it describes must not happen."""


@dataclass(slots=True)
class _Waiting:
    """A line to be written, somebody who waits for it and all before it, or both. at is of the line."""

    at: bytes
    members: bytes | None
    done: asyncio.Future[None] | None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An append that was tried: its lines, and how many notes and lost ones were among them."""

    lines: Sequence[AuditLine]
    notes: int
    lost: int


class AuditLog:
    """Appends records to a chain in the store. Made by open()."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        sequence: int,
        digest: bytes,
        written: Callable[[float], None] | None = None,
        chain: str = "",
    ) -> None:
        self._store = store
        self.chain = chain
        self._in_doubt: list[_Attempt] = []  # nobody knows whether they were committed; all behind one line
        self._written = written
        self._clock = clock
        self._sequence = sequence
        self._digest = digest
        self._waiting: deque[_Waiting] = deque()
        self._notes = 0  # of those waiting, how many are notes
        self._lost = 0  # notes that found the queue full
        self._writer: asyncio.Task[None] | None = None
        self._second, self._second_text = -1, ""
        self._is_shared = False  # another process wrote between our last two appends, and will have again

    @classmethod
    async def open(
        cls,
        store: Store,
        clock: Callable[[], float],
        *,
        chain: str = "",
        written: Callable[[float], None] | None = None,
    ) -> "AuditLog":
        """Continue the chain that the store holds; clock gives seconds, with fractions where it has them.

        A chain that is new begins with a record that says so.

        written is told how many records became durable.

        A log that was cut off is continued behind its recorded head, so that verify() finds the gap for ever. Raises
        StoreUnavailable when there are lines beyond the head: no program of ours wrote them.
        """
        last = await store.last_audit(chain)  # before the head, which others may move meanwhile
        head = await store.audit_head(chain)
        if last is not None and (head is None or last.sequence > head[0]):
            raise StoreUnavailable(
                f"the audit log ends at record {last.sequence}, its head says {head[0] if head else 0}: the log was"
                " changed from outside; keep the file and look at it with 'securus audit verify'"
            )
        sequence, digest = head or (0, genesis(chain))
        return cls(store, clock, sequence, digest, written, chain)

    async def record(self, record: Mapping[str, object]) -> None:
        """Append a record; durable when this returns. Raises AuditUnavailable.

        Its members are JSON values; seq, at and previous are the log's own.
        """
        if not _OURS.isdisjoint(record):
            raise AuditUnavailable(f"a record may not have members named {', '.join(sorted(_OURS))}")
        await self.record_written(_members(record))

    async def record_written(self, members: bytes) -> None:
        """Append a record whose members stand as lines.members_of() writes them. Raises AuditUnavailable."""
        if len(self._waiting) >= _MAX_WAITING:
            raise AuditUnavailable(f"{_MAX_WAITING} records wait to be written")
        await self._queue(members)

    def note(self, event: Event) -> None:
        """Append what happened in the authorization server; settled() waits until it is durable.

        A note stays in the queue until it is written. Proof checks and clocks are left out: each proxied request has
        a record of its own, and each refused request to the authorization server a Refused event. So are refused pages:
        anybody can have them, and no access was decided.
        """
        if type(event) in _LEFT_OUT:
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
        self._waiting.append(_Waiting(b"" if members is None else self._now(), members, done))
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
            try:
                await self._write_batch()
            except StoreUnavailable as error:
                self._refuse(error)
                return

    async def _write_batch(self) -> None:
        if self._in_doubt:
            await self._settle_doubt()
        batch = list(islice(self._waiting, _BATCH_LINES))
        lost, texts = self._lost, [(w.at, w.members) for w in batch if w.members is not None]
        if lost:
            texts.append((self._now(), _members({"event": "events-lost", "count": lost})))
        if texts:
            notes = sum(waiting.done is None for waiting in batch)
            if not await self._append(texts, notes, lost):
                return
        self._lost -= lost
        for waiting in batch:
            self._waiting.popleft()
            if waiting.done is None:
                self._notes -= 1
            elif not waiting.done.done():
                waiting.done.set_result(None)

    async def _append(self, texts: list[tuple[bytes, bytes]], notes: int, lost: int) -> bool:
        """Append to the chain. False, and nothing appended, when it came out that an append in doubt had been made."""
        if self._is_shared and not self._in_doubt:
            lines: Sequence[AuditLine] = await self._extend(texts, notes, lost)
        else:
            lines = self._linked(texts, self._sequence, self._digest)
            self._doubt(_Attempt(lines, notes, lost))
            try:
                await self._store.append_audit(lines)
            except AuditConflict:
                self._in_doubt.pop()
                if self._in_doubt and await self._settle_doubt():
                    return False
                lines = await self._extend(texts, notes, lost)
        self._in_doubt.clear()
        self._wrote(lines)
        return True

    async def _extend(self, texts: list[tuple[bytes, bytes]], notes: int, lost: int) -> list[AuditLine]:
        """Append behind the newest line, whatever it is."""
        lines: list[AuditLine] = []

        def again(head: tuple[int, bytes] | None) -> Sequence[AuditLine]:
            if self._in_doubt and (head or (0,))[0] > self._in_doubt[0].lines[0].sequence - 1:
                raise StoreUnavailable("an append that was in doubt has been decided")  # looked for next time
            self._is_shared = head is not None and head != (self._sequence, self._digest)
            lines[:] = self._linked(texts, *(head or (0, genesis(self.chain))))
            self._doubt(_Attempt(lines, notes, lost))
            return lines

        await self._store.extend_audit(again, chain=self.chain)
        return lines

    def _linked(self, texts: list[tuple[bytes, bytes]], sequence: int, digest: bytes) -> list[AuditLine]:
        """The lines, behind what must be said first: that the chain begins, or that records of ours are gone."""
        first: list[tuple[bytes, bytes]] = []
        if sequence == 0 and self.chain:
            first.append((texts[0][0], _members({"event": "chain-begun", "chain": self.chain})))
        if sequence < self._sequence:
            _log.error("records of the audit log are gone", extra={"count": self._sequence - sequence})
            gone = {"event": "records-lost", "first": sequence + 1, "last": self._sequence}
            first.append((texts[0][0], _members(gone)))
        return linked([*first, *texts], sequence, digest, self.chain)

    def _doubt(self, attempt: _Attempt) -> None:
        self._in_doubt.append(attempt)
        del self._in_doubt[:-_MAX_IN_DOUBT]

    async def _settle_doubt(self) -> bool:
        """Look for the lines of appends in doubt. True when one was made: its notes leave the queue."""
        for attempt in reversed(self._in_doubt):
            last = attempt.lines[-1]
            found = await self._store.audit(chain=self.chain, after=last.sequence - 1, limit=1)
            if found and (found[0].sequence, found[0].digest) == (last.sequence, last.digest):
                self._in_doubt.clear()
                for _ in range(attempt.notes):
                    self._waiting.popleft()
                self._notes -= attempt.notes
                self._lost -= attempt.lost
                self._wrote(attempt.lines)
                return True
        head = await self._store.audit_head(self.chain)
        if (head or (0,))[0] >= min(attempt.lines[0].sequence for attempt in self._in_doubt):
            self._in_doubt.clear()  # others were first: they can follow nothing any more
        return False

    def _wrote(self, lines: Sequence[AuditLine]) -> None:
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


def _members(record: Mapping[str, object]) -> bytes:
    """Its members as they stand in a line. Raises AuditUnavailable."""
    try:
        return members_of(record)
    except NotJson as error:
        raise AuditUnavailable(str(error)) from error


def _fields(event: Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in _NAMES[type(event)]}
