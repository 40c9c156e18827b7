"""Reads of one type by one caller, compiled: what the engine decides about each of them, the id aside."""

from dataclasses import dataclass, replace

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy import by_search
from gateway.policy.acquaintances import place_of
from gateway.policy.decision import Deny, Environment, Judge, LookingJudge
from gateway.policy.exports import Exports
from gateway.policy.layers import Layers, ids, judge, limit

_ANY_ID = "1"


@dataclass(frozen=True, slots=True)
class Reads:
    """What decide() answers to reads of a type by one caller, while the token and the policies are in force.

    judge     decides on a resource of the type; that it has the id that was asked for is not looked at
    patients  of reads of patients: the ids that may be asked for; None for any
    rules     names of the rules that may permit it, for audit
    """

    judge: Judge
    patients: frozenset[str] | None
    rules: tuple[str, ...]

    def opens(self, id_: str) -> bool:
        """Whether the store may be asked for this one."""
        return self.patients is None or id_ in self.patients


class CompiledReads(Exports):
    """The part of Engine that compiles reads."""

    def reads_of(self, type_: str, caller: Caller, environment: Environment) -> Reads | None:
        """The reads of a type by this caller; None where a read may be refused, oblige, or hang on more than its id."""
        asked = FhirRequest("GET", Interaction.READ, type_, _ANY_ID)
        place = place_of(asked, type_, environment)
        if place is None or self.has_emergencies:
            return None
        self._speaking(asked, type_, caller, environment)
        layers = self._acquainted(caller).layers.get(place)
        if not isinstance(layers, Layers) or not layers.obligations.is_empty:
            return None
        apart = by_search.parted(layers, Interaction.READ)
        if isinstance(apart, Deny) or apart[1]:
            return None
        layers = apart[0]
        patients = limit(layers) if type_ == "Patient" else None
        judging = judge(layers, type_, None)
        if isinstance(judging, LookingJudge):  # whoever asks looks at the id as well
            judging = replace(judging, looks_at=judging.looks_at | {"id"})
        return Reads(judging, patients, ids(layers.permits))
