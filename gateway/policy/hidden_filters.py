"""What the filter of a scope asks of elements that its caller is not shown.

Whether something matches is an answer about the element that was asked of. So a scope whose filter looks at a hidden
element does not open what a permit shows without that element. Scopes are asked for by the caller: a permit's own
conditions are not, and may look at all.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.policy.conditions import Condition
from gateway.policy.layers import Named
from gateway.policy.rules import Rule
from gateway.policy.sight import Taken, is_hidden, takes_away, view_of, ways_of


def shown_to_readers(type_: str, scopes: tuple[Named, ...], reading: Iterable[Rule]) -> tuple[Named, ...]:
    """The scopes of a write less those whose filter asks for what one of these rules about reads hides or takes.

    Whether the write passes would tell of the stored version what a read of it does not show.
    """
    rules = tuple(reading)
    return tuple(
        (name, condition)
        for name, condition in scopes
        if not condition.terms or not any(_hides(rule, type_, condition) for rule in rules)
    )


def _hides(rule: Rule, type_: str, condition: Condition) -> bool:
    ways = ways_of(type_, frozenset(term.code for term in condition.terms))
    if rule.fields is not None:
        return takes_away(type_, rule.fields, ways)
    return rule.returned is not None and is_hidden(view_of(rule.returned, type_), ways)


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
