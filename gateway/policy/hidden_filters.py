"""What the filter of a scope asks of elements that its caller is not shown.

Whether something matches is an answer about the element that was asked of. So a scope whose filter looks at a hidden
element does not open what a permit shows without that element. Scopes are asked for by the caller: a permit's own
conditions are not, and may look at all.
"""

from collections.abc import Mapping, Sequence

from gateway.policy.conditions import Condition
from gateway.policy.layers import Named
from gateway.policy.rules import Rule
from gateway.policy.sight import Taken, is_hidden, takes_away, view_of, ways_of


def blinded(
    type_: str, scopes: Sequence[Named], permits: Sequence[tuple[Rule, Condition]], taken: Sequence[Taken]
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
