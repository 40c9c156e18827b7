"""Which permits open a search: what it asks for must be seen, or its answer tells what is hidden."""

from collections.abc import Sequence

from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import Condition
from gateway.policy.decision import Deny
from gateway.policy.rules import Rule
from gateway.policy.sight import PEOPLE, Sight, Taken, is_hidden, takes_away, touched, view_of

Permits = list[tuple[Rule, Condition]]


def opened(
    asked: FhirRequest, type_: str, permits: Permits, taken: Sequence[Taken], sight: Sight | None
) -> Permits | Deny:
    """The permits that open this search; a Deny where none does, or where a deny takes away what is asked for."""
    ways = touched(asked)
    if ways == ():
        return permits
    closing = tuple(name for name, _, fields in taken if takes_away(type_, fields, ways))
    people = _asked_by_identifier(asked, type_)
    found = [
        (rule, condition)
        for rule, condition in permits
        if not is_hidden(view_of(rule.returned, type_), ways)
        and (sight is None or not people & sight.left_out("identifier", [rule.returned]))
    ]
    if closing or not found:
        rules = closing or tuple(rule.id for rule, _ in permits)
        return Deny(Reason.UNSUPPORTED_PARAMETER, rules, "the search asks for elements that are hidden")
    return found


def _asked_by_identifier(asked: FhirRequest, type_: str) -> frozenset[str]:
    """The people whose identifiers, as references repeat them, the search asks for (FHIR R4 3.1.1.4.13)."""
    found: set[str] = set()
    for term in asked.terms:
        if term.modifier == "identifier":
            parameter = search_parameter(type_, term.code)
            found |= parameter.targets if parameter is not None else set(PEOPLE)
    return frozenset(found) & frozenset(PEOPLE)
