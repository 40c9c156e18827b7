"""The consents of patients out of our own store: as they stand at this moment, on every node.

Which versions stand is asked anew at each request, so a withdrawal that is written is in force for the next one, whoever
asks where. What one version says is kept, compiled: a version never changes. Those that are over are looked at only
where silence is a yes: that they were recorded is all they say.
"""

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from operator import is_
from typing import NamedTuple

from authz.clock import Clock
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store, StoreUnavailable
from gateway.consents.consent import GIVEN, ConsentQuestion, ConsentReading, ConsentSource
from gateway.consents.consents import ConsentsAt, PatientConsents
from gateway.consents.given import Given, Scope, read_consent
from gateway.policy.known import ConsentsOf
from gateway.proxy.lookups.turns import Turns

Settle = Callable[[Store, Sequence[ConsentVersion], int], Awaitable[Sequence[ConsentVersion]]]
"""Gives the versions as they stand: those that ended with something else have ended."""
_MOST_READ = 20_000  # versions whose reading is kept
_MOST_COMPILED = 16  # patients with very many provisions of whom it is kept what they say together
_OVER = tuple(sorted(GIVEN - {"active"}))
_PATIENTS = 10  # whose consents are had in one statement
_PAGE = 100  # consents of one patient that are over, in one statement
# What is done before others have their turn:
_ROWS = 300  # versions had from the store
_READ_AT_ONCE = 8 * 1024  # bytes of consents read
_KEPT_AT_ONCE = 500  # versions whose reading is kept already


class _Together(NamedTuple):
    """The consents of one patient, and of what they were made."""

    given: tuple[Given, ...]
    recorded: frozenset[Scope]
    consents: PatientConsents


class StoredConsents:
    """Consents of one base. count is told how they were had."""

    def __init__(
        self,
        store: Store,
        base: str,
        source: ConsentSource,
        clock: Clock,
        *,
        reading: ConsentReading,
        settle: Settle,
        count: Callable[[str], None],
    ) -> None:
        self._store = store
        self._base = base
        self._source = source
        self._clock = clock
        self._reading = reading
        self._settle = settle
        self._count = count
        self._read: OrderedDict[tuple[str, int], Given | None] = OrderedDict()  # by id and version
        self._over: OrderedDict[tuple[str, int], frozenset[Scope]] = OrderedDict()  # likewise
        self._compiled: OrderedDict[str, _Together] = OrderedDict()
        self._each: dict[frozenset[Scope], frozenset[Scope]] = {}  # one of those that are equal

    async def of(
        self, patients: Collection[str], questions: Collection[ConsentQuestion] = ()
    ) -> Mapping[str, ConsentsOf]:
        """What the consents of these patients say; nothing where the store does not answer. Raises nothing."""
        turns, found = Turns(), dict[str, PatientConsents]()
        asked = sorted(patients)
        try:
            for start in range(0, len(asked), _PATIENTS):
                found |= await self._of(asked[start : start + _PATIENTS], questions, turns)
        except StoreUnavailable:
            self._count("unavailable")
            return {}
        self._count("asked")
        return {patient: ConsentsAt(consents, self._clock) for patient, consents in found.items()}

    async def _of(
        self, patients: Sequence[str], questions: Collection[ConsentQuestion], turns: Turns
    ) -> dict[str, PatientConsents]:
        # Those in force first: what ends in between is among those that are over as well, or counts once more.
        standing = await self._store.consents_of(self._base, patients, statuses=("active",))
        await turns.spend((1 + len(standing)) / _ROWS)
        given: dict[str, list[Given]] = {patient: [] for patient in patients}
        for version in await self._settle(self._store, standing, self._clock()):
            said = await self._said(version, turns) if version.status in GIVEN else None
            if said is not None:
                given[version.patient].append(said)
        recorded = await self._recorded(patients, turns) if self._reading.opt_out else {}
        found = {
            patient: self._together(patient, tuple(own), frozenset(recorded.get(patient, ())))
            for patient, own in given.items()
        }
        for consents in found.values():
            for question in questions:
                await turns.take(consents.preparing(question, self._clock()))
        return found

    def _together(
        self, patient: str, given: tuple[Given, ...], recorded: frozenset[Scope]
    ) -> PatientConsents:
        """What they say together; of very many what was found out last time, where they are the same."""
        kept = self._compiled.pop(patient, None)
        if kept is None or kept.recorded != recorded or not _are_same(kept.given, given):
            kept = _Together(given, recorded, PatientConsents(given, self._reading, recorded=recorded))
        if kept.consents.is_long:
            self._compiled[patient] = kept
            if len(self._compiled) > _MOST_COMPILED:
                self._compiled.popitem(last=False)
        return kept.consents

    async def _recorded(self, patients: Sequence[str], turns: Turns) -> dict[str, set[Scope]]:
        """The scopes of which patients once recorded something that is no denial and is over: all that it still says.

        Raises StoreUnavailable.
        """
        some = await self._store.consents_of(self._base, patients, statuses=_OVER, at_most=_ROWS)
        await turns.spend((1 + len(some)) / _ROWS)
        found: dict[str, set[Scope]] = {patient: set() for patient in patients}
        if len(some) < _ROWS:
            for version in some:
                await self._note(version, found[version.patient], turns)
            return found
        for patient, scopes in found.items():
            for status in _OVER:
                await self._page_through(patient, status, scopes, turns)
        return found

    async def _page_through(self, patient: str, status: str, scopes: set[Scope], turns: Turns) -> None:
        """Note the scopes of all that have this status, or until none is left that matters."""
        after: str | None = ""
        while after is not None and not self._reading.opt_out <= scopes:
            page = await self._store.consents_in(self._base, patient, status, after=after, limit=_PAGE)
            await turns.spend((1 + len(page)) / _ROWS)
            for version in page:
                await self._note(version, scopes, turns)
            after = page[-1].id if len(page) == _PAGE else None

    async def _note(self, version: ConsentVersion, scopes: set[Scope], turns: Turns) -> None:
        """Note of which of the scopes a consent that is over records something. Nothing else of it is kept."""
        key = (version.id, version.version)
        recorded = self._over.get(key)
        if recorded is None:
            found = await self._reading_of(version, turns)
            said = frozenset() if found is None else found.recorded & self._reading.opt_out
            recorded = self._over[key] = self._each.setdefault(said, said)
            if len(self._over) > _MOST_READ:
                self._over.popitem(last=False)
        else:
            self._over.move_to_end(key)
            await turns.spend(1 / _KEPT_AT_ONCE)
        scopes |= recorded

    async def _said(self, version: ConsentVersion, turns: Turns) -> Given | None:
        """What a version says; None where the source does not take it."""
        key = (version.id, version.version)
        if key in self._read:
            given = self._read[key]
            self._read.move_to_end(key)
            await turns.spend(1 / _KEPT_AT_ONCE)
            return given
        given = await self._reading_of(version, turns)
        if given is not None:
            await turns.compile(given)
        self._read[key] = given
        if len(self._read) > _MOST_READ:
            self._read.popitem(last=False)
        return given

    async def _reading_of(self, version: ConsentVersion, turns: Turns) -> Given | None:
        value = json.loads(version.resource)
        given = read_consent(value, self._reading) if self._source.takes(value, version.patient) else None
        await turns.spend(len(version.resource) / _READ_AT_ONCE)
        return given


def _are_same(some: Sequence[Given], others: Sequence[Given]) -> bool:
    """Whether they are the same readings of the same versions, in the same order."""
    return len(some) == len(others) and all(map(is_, some, others))
