"""What a rule asks of the request itself: its `query`, `conditional`, `write`, `changes` and `break_glass`, one by one."""

from collections.abc import Mapping, Sequence

from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy import infrastructure
from gateway.policy.break_glass import has_opened
from gateway.policy.decision import Resource
from gateway.policy.obligations import Emergency
from gateway.policy.query import EVERYTHING_SIMPLE, allows
from gateway.policy.rules import Effect, Rule
from gateway.policy.write_rules import WRITING


def asked_of_it(
    rule: Rule,
    asked: FhirRequest,
    resource: Resource | None,
    claims: Mapping[str, Sequence[str]],
    emergency: Emergency | None,
    bases: frozenset[str],
) -> list[tuple[str, bool | None]]:
    """The names of these conditions and whether they hold; None where it takes a resource, or two versions of it.

    resource is what is stored, or what is to be stored.
    """
    found: list[tuple[str, bool | None]] = []
    if rule.effect is Effect.PERMIT and not infrastructure.opens(rule, asked.type or "", asked.interaction):
        found.append(("named", False))
    if asked.interaction is Interaction.OPERATION and not rule.operation.speaks_of(
        asked.type, asked.operation
    ):
        found.append(("operation", False))
    if rule.effect is Effect.PERMIT and asked.interaction is Interaction.SEARCH:
        is_allowed = allows(rule.query, asked)
        if rule.query != EVERYTHING_SIMPLE or not is_allowed:
            found.append(("query", is_allowed))
    is_conditional = asked.id is None and asked.interaction is not Interaction.CREATE
    if rule.conditional is not None and is_conditional and asked.interaction in WRITING:
        found.append(("conditional", rule.conditional.takes(asked.terms)))
    if not rule.write.is_empty and asked.interaction in WRITING:
        found.append(("write", _of_the_write(rule, asked, resource, claims)))
    if rule.break_glass is not None:
        found.append(("break_glass", has_opened(rule, asked, resource, emergency, bases)))
    return found


def _of_the_write(
    rule: Rule, asked: FhirRequest, resource: Resource | None, claims: Mapping[str, Sequence[str]]
) -> bool | None:
    """What it says of the versions before and after; of an update or a patch only one of them is given."""
    if resource is None or asked.interaction not in (Interaction.CREATE, Interaction.DELETE):
        return None
    is_new = asked.interaction is Interaction.CREATE
    before, after = (None, resource) if is_new else (resource, None)
    closes = rule.effect is Effect.DENY
    try:
        if closes:
            return rule.write.touches(asked.type or "", before, after)
        return rule.write.allows(asked.type or "", before, after, claims)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError):
        return closes
