"""What decisions need beside a request and its token, found out between one decision and the next.

The engine and its judges are asked, what they looked for in vain is fetched, and they are asked again. Where nothing
refuses but what could not be had, the answer says so: 503, and not that something is forbidden.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from authz.protocol.tokens import Caller
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Decision, Permit
from gateway.policy.facts import FactQuestion, FactValues
from gateway.policy.known import ConsentsOf, Known, Wanted

_ROUNDS = 4
_BUDGET = 256  # searches that one request may cost beside its own
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

    async def of(self, patients: Collection[str]) -> dict[str, ConsentsOf | None]: ...


@dataclass(frozen=True, slots=True)
class Lookups:
    """Where one mount finds out. consents: None where it has no source of them; close ends their own connections."""

    facts: FactsAt
    consents: ConsentsAt | None
    close: Callable[[], Awaitable[None]]


class Knowledge(Known):
    """What is known at one request of this caller. Without lookups nothing can be found out."""

    def __init__(
        self, lookups: Lookups | None = None, caller: Caller | None = None, policy_hash: str = ""
    ) -> None:
        super().__init__()
        self._lookups = lookups
        self._caller = caller
        self._policy_hash = policy_hash
        self._budget = _BUDGET

    @property
    def finds_out(self) -> bool:
        """Whether there is somewhere to find out."""
        return self._lookups is not None

    async def decided(self, decide: Callable[[], Decision]) -> Decision:
        """The decision, by all that can be known.

        Raises FhirError: FACTS_UNAVAILABLE, FACTS_TOO_MANY where only that keeps it from being a Permit.
        """
        self.wanted()
        for _ in range(_ROUNDS):
            decision = decide()
            wanted = self.wanted()
            if not wanted:
                break
            await self._find(wanted)
        if not isinstance(decision, Permit):
            self._check(lambda: isinstance(decide(), Permit))
        return decision

    async def settle(self, judges: Sequence[Callable[[], bool]]) -> None:
        """Find out what these judges look for, so that they can be asked for good. Each says whether it lets pass.

        Raises FhirError(CONSENT_UNAVAILABLE) where one refuses only since something could not be had.
        """
        if not self.judges_ask:
            return
        self.wanted()
        for _ in range(_ROUNDS):
            for judge in judges:
                judge()
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
        return said

    def _check(self, allows: Callable[[], bool]) -> None:
        reason = self.refused_for(allows)
        if reason is not None:
            raise FhirError(reason, headers=() if reason is Reason.FACTS_TOO_MANY else _RETRY)

    async def _find(self, wanted: Wanted) -> None:
        for question in wanted.facts:
            self.facts[question.fact.name] = Reason.FACTS_UNAVAILABLE
            if self._lookups is not None and self._caller is not None and self._spend(1):
                self.facts[question.fact.name] = await self._lookups.facts.answer(
                    question, self._caller, self._policy_hash
                )
        if wanted.patients:
            self.consents |= dict.fromkeys(wanted.patients)
            consents = None if self._lookups is None else self._lookups.consents
            if consents is not None and self._spend(ceil(len(wanted.patients) / AT_ONCE)):
                self.consents |= await consents.of(sorted(wanted.patients))

    def _spend(self, searches: int) -> bool:
        self._budget -= searches
        return self._budget >= 0
