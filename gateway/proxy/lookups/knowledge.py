"""What decisions need beside a request and its token, found out between one decision and the next.

The engine and its judges are asked, what they looked for in vain is fetched, and they are asked again. Where nothing
refuses but what could not be had, the answer says so: 503, and not that something is forbidden.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol, TypeVar

from authz.protocol.tokens import Caller
from gateway.consents.consent import ConsentAnswer, ConsentQuestion, bases_record
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Deny, Nothing
from gateway.policy.facts import FactQuestion, FactValues
from gateway.policy.inherited_labels import Labelled
from gateway.policy.known import ConsentsOf, Known, Wanted
from gateway.proxy.lookups.turns import Turns

ROUNDS = 9  # of what one answer leads to: encounters, what these are part of, consents, what many of them say
_ROUNDS_LEFT = range(ROUNDS)[::-1]
_BUDGET = 256  # searches, where the configuration says nothing
Decided = TypeVar("Decided")
_RETRY = (("Retry-After", "5"),)


AT_ONCE = 50
"""Patients whose consents are asked for in one search."""


class FactsAt(Protocol):
    """Facts at one store."""

    async def answer(
        self, question: FactQuestion, caller: Caller, policy_hash: str
    ) -> FactValues | Reason: ...


class ConsentsAt(Protocol):
    """Consents from one source."""

    async def of(
        self, patients: Collection[str], questions: Collection[ConsentQuestion] = ()
    ) -> Mapping[str, ConsentsOf]:
        """What the consents of patients say; questions, each without a resource, are those that will be asked."""
        ...


class LabelsAt(Protocol):
    """Labels of the resources of one store."""

    async def of(self, places: Collection[str]) -> Mapping[str, Labelled]: ...


@dataclass(frozen=True, slots=True)
class Lookups:
    """Where one mount finds out. consents: None where it has no source of them; close ends their own connections.

    at_most is how many searches one request may cost beside its own; spent is called when one wants more.
    """

    facts: FactsAt
    consents: ConsentsAt | None
    labels: LabelsAt
    close: Callable[[], Awaitable[None]]
    at_most: int = _BUDGET
    spent: Callable[[], None] = lambda: None


_REFUSING = (Deny, Nothing)


class Knowledge(Known):
    """What is known at one request of this caller. Without lookups nothing can be found out."""

    def __init__(
        self, lookups: Lookups | None = None, caller: Caller | None = None, policy_hash: str = ""
    ) -> None:
        super().__init__()
        self._lookups = lookups
        self._caller = caller
        self._policy_hash = policy_hash
        self._budget = [_BUDGET if lookups is None else lookups.at_most]

    def for_entry(self) -> "Knowledge":
        """What is known for an entry of a Bundle: all that is known here, and the same budget. Its record is its own."""
        entry = Knowledge(self._lookups, self._caller, self._policy_hash)
        entry.facts, entry.consents, entry.labels = dict(self.facts), dict(self.consents), dict(self.labels)
        entry._budget = self._budget
        return entry

    def at_the_cost_of(self, other: "Knowledge") -> "Knowledge":
        """The same, with the budget of another."""
        self._budget = other._budget
        return self

    async def found(self) -> bool:
        """Whether something was looked for in vain; it is asked for now. Raises nothing."""
        wanted = self.wanted()
        if wanted:
            await self._find(wanted)
        return bool(wanted)

    async def said(self, patient: str, question: ConsentQuestion) -> ConsentAnswer | None:
        """What the consents of a patient say; None where they could not be had. Raises nothing."""
        for left in _ROUNDS_LEFT:
            answer = self._asked(left, lambda: self.consent(patient, question))
            if answer is not None or not await self.found():
                break
        return answer

    async def decided(self, decide: Callable[[], Decided]) -> Decided:
        """The decision, by all that can be known.

        Raises FhirError: FACTS_UNAVAILABLE, FACTS_TOO_MANY where only that makes it a refusal.
        """
        self.wanted()
        for left in _ROUNDS_LEFT:
            decision = self._asked(left, decide)
            wanted = self.wanted()
            if not wanted:
                break
            await self._find(wanted)
        if isinstance(decision, _REFUSING):
            self._check(lambda: not isinstance(decide(), _REFUSING))
        return decision

    async def settle(self, judges: Sequence[Callable[[], bool]]) -> None:
        """Find out what these judges look for, so that they can be asked for good. Each says whether it lets pass.

        Raises FhirError: CONSENT_UNAVAILABLE, LABELS_UNAVAILABLE where one refuses only since these could not be had.
        """
        if not self.judges_ask:
            return
        self.wanted()
        for left in _ROUNDS_LEFT:
            self._asked(left, lambda: [judge() for judge in judges])
            wanted = self.wanted()
            if not wanted:
                break
            await self._find(wanted)
        for judge in judges:
            self._check(judge)

    def record(self) -> dict[str, object]:
        """What the audit record says of it: facts with their age in seconds, and consents that answered."""
        said: dict[str, object] = {}
        if self.consulted:
            said["facts"] = [{"name": name, "age": age} for name, age in sorted(self.consulted.items())]
        if self.deciding:
            said["consents"] = sorted(self.deciding)
            said["provisions"] = bases_record(self.deciding_by)
        return said

    def _check(self, allows: Callable[[], bool]) -> None:
        reason = self.refused_for(allows)
        if reason is not None:
            raise FhirError(reason, headers=() if reason is Reason.FACTS_TOO_MANY else _RETRY)

    def _asked(self, left: int, ask: Callable[[], Decided]) -> Decided:
        """What is told in a round with so many behind it: nobody comes again after the last, which finds all at once."""
        self.takes_turns = left > 0
        try:
            return ask()
        finally:
            self.takes_turns = False

    async def _find(self, wanted: Wanted) -> None:
        """Fetch it. What could not be had is noted as such, once that is known: entries of a batch share this."""
        lookups, caller = self._lookups, self._caller
        turns = Turns()
        for steps in wanted.finding:
            await turns.take(steps)
        for question in wanted.facts:
            answer: FactValues | Reason = Reason.FACTS_UNAVAILABLE
            if lookups is not None and caller is not None and self._spend(1):
                answer = await lookups.facts.answer(question, caller, self._policy_hash)
            self.facts[question.fact.name] = answer
        if wanted.patients:
            consents: Mapping[str, ConsentsOf] = {}
            searches = ceil(len(wanted.patients) / AT_ONCE)
            if lookups is not None and lookups.consents is not None and self._spend(searches):
                consents = await lookups.consents.of(sorted(wanted.patients), wanted.questions)
            self.consents |= {patient: consents.get(patient) for patient in wanted.patients}
        if wanted.places:
            labels: Mapping[str, Labelled] = {}
            if lookups is not None and self._spend(ceil(len(wanted.places) / AT_ONCE)):
                labels = await lookups.labels.of(sorted(wanted.places))
            self.labels |= {place: labels.get(place) for place in wanted.places}

    def _spend(self, searches: int) -> bool:
        self._budget[0] -= searches
        if self._budget[0] >= 0:
            return True
        if self._lookups is not None:
            self._lookups.spent()
        return False
