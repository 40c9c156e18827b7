"""The consents of patients out of our own store: as they stand at this moment, on every node.

Which versions stand is asked anew at each request, so a withdrawal that is written is in force for the next one, whoever
asks where. What one version says is kept: a version never changes.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from authz.clock import Clock
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store, StoreUnavailable
from gateway.consents.consent import GIVEN, ConsentReading, ConsentSource
from gateway.consents.consents import Given, PatientConsents, read_consent
from gateway.policy.known import ConsentsOf
from gateway.proxy.lookups.consents import answering

Settle = Callable[[Store, Sequence[ConsentVersion], int], Awaitable[Sequence[ConsentVersion]]]
"""Gives the versions as they stand: those that ended with something else have ended."""
_MOST_READ = 20_000  # versions whose reading is kept
_READ_AT_ONCE = 8 * 1024  # bytes of consents, before others have their turn
_KEPT_AT_ONCE = 500  # versions whose reading is kept already, likewise


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
        self._read: OrderedDict[ConsentVersion, Given | None] = OrderedDict()

    async def of(self, patients: Collection[str]) -> Mapping[str, ConsentsOf]:
        """What the consents of these patients say; nothing where the store does not answer. Raises nothing."""
        now = self._clock()
        try:
            versions = await self._store.consents_of(self._base, patients)
            versions = await self._settle(self._store, versions, now)
        except StoreUnavailable:
            self._count("unavailable")
            return {}
        self._count("asked")
        found: dict[str, list[Given]] = {patient: [] for patient in patients}
        cost = 0.0
        for version in versions:
            if version.status not in GIVEN or version.patient not in found:
                continue
            cost += 1 / _KEPT_AT_ONCE if version in self._read else len(version.resource) / _READ_AT_ONCE
            given = self._given(version)
            if given is not None:
                found[version.patient].append(given)
            if cost >= 1:
                cost = 0.0
                await asyncio.sleep(0)
        return {
            patient: answering(PatientConsents(given, self._reading), self._clock)
            for patient, given in found.items()
        }

    def _given(self, version: ConsentVersion) -> Given | None:
        """What a version says; None where the source does not take it."""
        try:
            given = self._read[version]
        except KeyError:
            value = json.loads(version.resource)
            takes = self._source.takes(value, version.patient)
            given = self._read[version] = read_consent(value, self._reading) if takes else None
            if len(self._read) > _MOST_READ:
                self._read.popitem(last=False)
        else:
            self._read.move_to_end(version)
        return given
