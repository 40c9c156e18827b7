"""What a caller asks of elements that the caller is not shown, by a search or by the filter of a scope.

Whether something matches is an answer about the element that was asked of. So a permit whose view hides what a search
touches does not open that search; and a scope whose filter looks at a hidden element does not open what a permit
shows without that element. Scopes are asked for by the caller: a permit's own conditions are not, and may look at all.
"""

from collections.abc import Mapping, Sequence

from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import Condition
from gateway.policy.decision import Deny
from gateway.policy.layers import Named
from gateway.policy.rules import Rule
from gateway.policy.sight import Taken, is_hidden, takes_away, touched, view_of, ways_of

Permits = list[tuple[Rule, Condition]]


def opening(asked: FhirRequest, type_: str, permits: Permits, taken: Sequence[Taken]) -> Permits | Deny:
    """The permits that open this search: what it asks for must be seen, or its answer tells what is hidden."""
    ways = touched(asked)
    if ways == ():
        return permits
    closing = tuple(name for name, _, fields in taken if takes_away(type_, fields, ways))
    found = [each for each in permits if not is_hidden(view_of(each[0].returned, type_), ways)]
    if closing or not found:
        rules = closing or tuple(rule.id for rule, _ in permits)
        return Deny(Reason.UNSUPPORTED_PARAMETER, rules, "the search asks for elements that are hidden")
    return found


def blinded(
    type_: str, scopes: Sequence[Named], permits: Permits, taken: Sequence[Taken]
) -> Mapping[str, frozenset[str]]:
    """By scope, the permits that it does not open, since its filter asks for what they do not show."""
    found: dict[str, frozenset[str]] = {}
    for name, condition in scopes:
        codes = frozenset(term.code for term in condition.terms)
        if not codes:
            continue
        ways = ways_of(type_, codes)
        is_taken = any(takes_away(type_, fields, ways) for _, _, fields in taken)
        unseen = frozenset(
            rule.id for rule, _ in permits if is_taken or is_hidden(view_of(rule.returned, type_), ways)
        )
        if unseen:
            found[name] = unseen
    return found
