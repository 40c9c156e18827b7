"""The consents of patients out of our own store: as they stand at this moment, on every node.

Nothing is kept between two requests, so a withdrawal that is written is in force for the next one, whoever asks where.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from authz.clock import Clock
from authz.storage.consents import ConsentVersion
from authz.storage.store import Store, StoreUnavailable
from gateway.consents.consent import GIVEN, ConsentReading, ConsentSource
from gateway.consents.consents import PatientConsents
from gateway.policy.known import ConsentsOf
from gateway.proxy.lookups.consents import answering

Settle = Callable[[Store, Sequence[ConsentVersion], int], Awaitable[Sequence[ConsentVersion]]]
"""Gives the versions as they stand: those that ended with something else have ended."""


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
        found = [
            (version.patient, json.loads(version.resource)) for version in versions if version.status in GIVEN
        ]
        return {
            patient: answering(
                PatientConsents(
                    (v for whose, v in found if whose == patient and self._source.takes(v, patient)),
                    self._reading,
                ),
                self._clock,
            )
            for patient in patients
        }
