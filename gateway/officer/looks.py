"""A look at the audit log: what was asked is recorded before what was found is shown.

Who reads the log reads about patients. So each look has a record of its own, of the event 'audit-read', and stands in
the index of the patient whom it was about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authz.storage.audit_index import AccessEntry, Cursor
from authz.storage.store import Store
from gateway.audit.heads import BadSeal, read_head
from gateway.audit.index.entries import READ, Unreadable, patients_of, record_of
from gateway.audit.index.follower import line_at
from gateway.audit.log import AuditLog
from gateway.officer.asking import Question


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first; more is where the next page begins, None at the end."""

    entries: Sequence[AccessEntry]
    more: Cursor | None


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record whole, as it was written. digest is that of its line in the chain, in hex.

    head is the number of the newest signed head of the log, where that covers the record; 0 where none does yet.
    """

    chain: str
    sequence: int
    line: str
    members: Mapping[str, Any]
    previous: str
    digest: str
    head: int


class Looks:
    """Looks of people at one audit log. by is who looks: a subject, or 'operator …' of a command."""

    def __init__(self, store: Store, audit: AuditLog) -> None:
        self._store = store
        self._audit = audit

    async def search(self, question: Question, *, by: str) -> Page:
        """What the index has. Raises AuditUnavailable: without its record nothing is shown."""
        found = await self._store.find_audit(question.query)
        await self.recorded("search", question.recorded(), by=by, shown=len(found))
        is_full = len(found) == question.query.limit
        return Page(found, Cursor.behind(found[-1]) if found and is_full else None)

    async def record(self, chain: str, sequence: int, *, by: str) -> FoundRecord | None:
        """The record at a place; None where there is none. Raises Unreadable, AuditUnavailable."""
        line = await line_at(self._store, chain, sequence)
        if line is None:
            return None
        query: dict[str, object] = {"chain": chain, "sequence": sequence}
        try:
            members = record_of(line.line)
            query["patients"] = list(patients_of(line.line))
        except Unreadable:
            members = {}
        if isinstance(members.get("route"), str):
            query["route"] = members["route"]
        await self.recorded("record", query, by=by, shown=1)
        text = line.line.decode("utf-8", "replace")
        head = await self._covering(chain, sequence)
        return FoundRecord(chain, sequence, text, members, line.previous.hex(), line.digest.hex(), head)

    async def _covering(self, chain: str, sequence: int) -> int:
        """The number of the newest signed head, where it covers the record. What it proves is for 'securus audit'."""
        newest = await self._store.newest_tree_head()
        if newest is None:
            return 0
        try:
            state = read_head(newest.head, None).chains.get(chain)
        except BadSeal:
            return 0
        return newest.number if state is not None and sequence <= state.size else 0

    async def recorded(self, what: str, query: Mapping[str, object], *, by: str, shown: int) -> None:
        """Record a look. Raises AuditUnavailable."""
        said: dict[str, object] = {
            "event": READ,
            "by": by,
            "what": what,
            "query": dict(query),
            "shown": shown,
        }
        route = query.get("route")
        if isinstance(route, str):
            said["route"] = route
        await self._audit.record(said)

    async def review_signal(self, id: str, *, by: str, review: str, now: int) -> bool:
        """Write down what was found, in the store and the log; False where it is reviewed or nothing is there."""
        signal = await self._store.signal(id, now=now)
        if signal is None or not await self._store.review_signal(id, by=by, review=review, now=now):
            return False
        said: dict[str, object] = {"event": "signal-review", "signal": id, "by": by, "review": review}
        if signal.patient:
            said |= {"patient": signal.patient, "base": signal.base}
        await self._audit.record({**said, "rule": signal.rule})
        return True
