"""Who saw a patient's record, for the patient's own pages: from the index of the audit log."""

from collections.abc import Collection, Mapping

from authz.account.own_records import Accesses
from authz.storage.audit_index import AuditIndexStore, AuditQuery, Cursor

_MAX_PLACE = 512


class IndexedAccesses:
    """authz.account.own_records.OwnAccesses over the index, for one FHIR base."""

    def __init__(self, store: AuditIndexStore, base: str) -> None:
        self._store = store
        self._base = base

    @property
    def base(self) -> str:
        """The identifier of the base."""
        return self._base

    async def of(
        self, patient: str, *, since: int | None, until: int | None, before: str, limit: int
    ) -> Accesses:
        """A page of entries about the patient. Raises ValueError for a place that is none, StoreUnavailable."""
        wanted = AuditQuery(
            base=self._base,
            patients=(patient,),
            since=since,
            until=until,
            before=_place(before, self._base, patient),
            limit=limit + 1,
        )
        found = await self._store.find_audit(wanted)
        entries = found[:limit]
        if len(found) <= limit:
            return Accesses(entries)
        last = entries[-1]
        return Accesses(entries, f"{last.at}.{last.sequence}.{last.chain}")

    async def last_use(self, grants: Collection[str]) -> Mapping[str, int]:
        """The milliseconds of the newest access by each grant."""
        return await self._store.last_use(grants)


def _place(text: str, base: str, patient: str) -> Cursor | None:
    """The place that a page's address names: another patient's is none, for all else stands here. Raises ValueError."""
    if not text:
        return None
    at, _, rest = text[:_MAX_PLACE].partition(".")
    sequence, dot, chain = rest.partition(".")
    if not (dot and at.isdecimal() and sequence.isdecimal() and max(len(at), len(sequence)) < 19):
        raise ValueError("no such place")
    return Cursor(int(at), chain, int(sequence), base, patient)
