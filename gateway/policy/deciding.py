"""What the decisions on operations need of the engine: those on reads, searches and writes, type by type."""

from typing import Protocol

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, SearchTerm
from gateway.policy.decision import Decision, Environment, Judge
from gateway.policy.rules import OperationAccess


class Deciding(Protocol):
    """What is needed of the engine."""

    def decide(self, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision: ...
    def opening(self, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision: ...
    def accesses(self, rules: tuple[str, ...]) -> tuple[OperationAccess, ...]: ...
    def exporting(
        self,
        asked: FhirRequest,
        type_: str,
        rules: tuple[str, ...],
        caller: Caller,
        environment: Environment,
        criteria: tuple[SearchTerm, ...],
    ) -> tuple[Judge, ...] | None: ...
