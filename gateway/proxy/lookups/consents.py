"""The consents of patients, asked of their source and kept for a short while.

Consents of many patients are asked in one search: a page of results has many patients. Those that were withdrawn come
too: who withdrew has said something.
"""

from collections.abc import Callable, Collection

from authz.clock import Clock
from gateway.consents.consent import GIVEN, ConsentQuestion, ConsentReading, ConsentSource
from gateway.consents.consents import ConsentsAt, PatientConsents
from gateway.consents.given import Given, read_consent
from gateway.fhir.search import encode_terms, make_term
from gateway.policy.known import ConsentsOf
from gateway.proxy.lookups.kept import Kept
from gateway.proxy.lookups.knowledge import AT_ONCE
from gateway.proxy.lookups.preflight import Preflight, TooMany, Unavailable
from gateway.proxy.lookups.turns import Turns

_MAX_CONSENTS = 2000  # of the patients of one search
# What is done before others have their turn:
_READ_AT_ONCE = 50  # consents and their provisions read
_TAKEN_AT_ONCE = 1000  # times that a consent was held to what the source says of a patient


class Consents:
    """Consents from one source. keep is how long they are good, in seconds; count is told how they were had."""

    def __init__(
        self,
        preflight: Preflight,
        source: ConsentSource,
        clock: Clock,
        *,
        reading: ConsentReading,
        keep: float,
        count: Callable[[str], None],
    ) -> None:
        self._preflight = preflight
        self._source = source
        self._clock = clock
        self._reading = reading
        self._kept: Kept[PatientConsents] = Kept(self._asked, clock, at_once=AT_ONCE, keep=keep, count=count)

    async def of(
        self, patients: Collection[str], questions: Collection[ConsentQuestion] = ()
    ) -> dict[str, ConsentsOf]:
        """What the consents of these patients say, without those that could not be had. Raises nothing."""
        found, turns = await self._kept.of(patients), Turns()
        for consents in found.values():
            for question in questions:
                await turns.take(consents.preparing(question, self._clock()))
        return {patient: ConsentsAt(consents, self._clock) for patient, consents in found.items()}

    async def _asked(self, patients: list[str]) -> dict[str, PatientConsents] | None:
        of = make_term("patient", [f"Patient/{patient}" for patient in patients])
        terms = (of, make_term("status", sorted(GIVEN)), make_term("_count", ["200"]))
        try:
            found = await self._preflight.search(f"Consent?{encode_terms(terms)}", at_most=_MAX_CONSENTS)
        except (Unavailable, TooMany):
            return None
        of_all: dict[str, list[Given]] = {patient: [] for patient in patients}
        turns = Turns()
        for value in found:
            for patient, own in of_all.items():
                if self._source.takes(value, patient):
                    given = read_consent(value, self._reading)
                    own.append(given)
                    await turns.spend((1 + len(given.provisions)) / _READ_AT_ONCE)
                    await turns.compile(given)
            await turns.spend(len(patients) / _TAKEN_AT_ONCE)
        return {patient: PatientConsents(own, self._reading) for patient, own in of_all.items()}
