"""The follower of the audit log: reads what was appended since, and puts it into the index.

It runs beside the requests, in the one process that leads; a request is recorded in the log and nowhere else. A page
of lines and the place behind it are written together, so that a follower that was killed goes on where it was.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from authz.storage.audit_index import AccessEntry
from authz.storage.audit_lines import AuditLine
from authz.storage.store import Store
from gateway.audit.index.by_form import entries_by_form
from gateway.audit.index.entries import Unreadable
from gateway.quiet import Moment, any_moment
from gateway.settings import GatewaySettings

PAGE_LINES = 128
"""To understand them and to write them is a piece each, of half a millisecond at most. They fill a page of mentions."""
_TENDED_LINES = 3 * PAGE_LINES
_PATIENT_LINES = 10_000
"""Behind so many in one round, a follower that waits for quiet moments does not wait any more."""
_REMOVED_AT_ONCE = 256  # eight sheets
_MILLISECONDS = 1000
_log = logging.getLogger("securus.audit")


def bases_of(settings: GatewaySettings) -> Mapping[str, str]:
    """By the name of a route the identifier of the FHIR base that knows its patients: of documents, another one."""
    own = {upstream.name: upstream.identifier for upstream in settings.upstreams}
    return {
        upstream.name: own.get(upstream.documents.patients if upstream.documents else "", upstream.identifier)
        for upstream in settings.upstreams
    }


def bases_to_ask(settings: GatewaySettings) -> Sequence[str]:
    """The names of the routes whose patients are their own."""
    own = {upstream.name: upstream.identifier for upstream in settings.upstreams}
    return sorted(name for name, base in bases_of(settings).items() if own[name] == base)


async def chains(store: Store) -> Sequence[str]:
    """The names of the chains of the log. The one without a name is there before its first record."""
    return sorted({"", *await store.chains()})


async def line_at(store: Store, chain: str, sequence: int) -> AuditLine | None:
    """One line of a chain."""
    found = await store.audit(chain=chain, after=sequence - 1, limit=1)
    return found[0] if found and found[0].sequence == sequence else None


class IndexFollower:
    """Keeps the index of one store up with its log. indexed is told how many records were indexed.

    Each piece of the work waits for a moment that suits it.
    """

    def __init__(
        self,
        store: Store,
        bases: Mapping[str, str],
        *,
        indexed: Callable[[float], None] = lambda count: None,
        moment: Moment = any_moment,
    ) -> None:
        self._store = store
        self._bases = bases
        self._indexed = indexed
        self._moment = moment
        self._untended = 0

    async def follow(self) -> int:
        """Index all that was appended since; how many records. Raises StoreUnavailable."""
        return sum([await self._follow(chain) for chain in await self._waiting()])

    async def behind(self) -> int:
        """How many records wait to be indexed."""
        return sum((await self._waiting()).values())

    async def _waiting(self) -> Mapping[str, int]:
        """How many records of each chain wait, of those in which some do."""
        waiting = {}
        for chain, (sequence, _) in sorted((await self._store.audit_heads()).items()):
            place = await self._store.indexed_to(chain)
            if sequence > place:
                waiting[chain] = sequence - place
        return waiting

    async def _follow(self, chain: str) -> int:
        place, read, at_once = await self._store.indexed_to(chain), 0, self._store.audit_lines_at_once
        while True:
            moment = self._moment if read < _PATIENT_LINES else any_moment
            await moment()
            lines = await self._store.audit_texts(chain=chain, after=place, limit=at_once)
            entries: list[AccessEntry] = []
            for number, (place, line) in enumerate(lines, start=1):
                try:
                    entries += entries_by_form(line, chain=chain, bases=self._bases)
                except Unreadable as error:
                    _log.error("a record cannot be indexed", extra={"cause": str(error), "count": place})
                if len(entries) >= at_once or number == len(lines):
                    await moment()
                    # A record and all whom it is about go in together: who reads on from there finds it whole.
                    await self._store.index_audit(entries, chain=chain, read_to=place)
                    entries = []
                elif number % PAGE_LINES == 0:
                    await moment()
            read += len(lines)
            if lines:
                self._indexed(len(lines))
                await self._tend(len(lines), moment)
            if len(lines) < at_once:
                return read

    async def _tend(self, lines: int, moment: Moment) -> None:
        """As often as pages become full: what is bound in a step keeps up with three pages."""
        self._untended += lines
        while self._untended >= _TENDED_LINES:
            self._untended -= _TENDED_LINES
            await moment()
            await self._store.tend_audit_index()


async def remove_old(store: Store, *, now: int, keep: int, moment: Moment = any_moment) -> int:
    """Remove entries that are older than keep seconds, in small numbers; how many went."""
    removed = 0
    while gone := await store.remove_audit_entries(
        before=(now - keep) * _MILLISECONDS, at_most=_REMOVED_AT_ONCE
    ):
        removed += gone
        await moment()
    while True:
        if not await store.tend_audit_index():
            return removed
        await moment()


async def rebuild(store: Store, bases: Mapping[str, str], *, now: int) -> int:
    """Make the index anew from the log; how many records were read. A gateway may work meanwhile."""
    await remove_old(store, now=now + 86400, keep=0)
    await store.rewind_audit_index()
    return await IndexFollower(store, bases).follow()
