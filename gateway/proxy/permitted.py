"""A request that is not refused, with everything that its way on depends on."""

from dataclasses import dataclass

from gateway.fhir.interaction import FhirRequest
from gateway.policy.decision import Environment, Nothing, Permit
from gateway.proxy.writes.conditional_writes import Found


@dataclass(frozen=True, slots=True)
class Permitted:
    """What was decided about a request.

    asked  as it goes on: a conditional write names the resource that its criteria found
    found  that resource; None without criteria, and where they found none
    """

    asked: FhirRequest
    decision: Permit | Nothing
    environment: Environment
    found: Found | None = None
