"""Scopes with a filter, where elements are hidden: what the caller does not see, no scope of the caller's asks for.

Whoever asks for a token chooses the filter of its scopes. Whether a record is shown under `?code=x` tells whether its
code is x, as a search by code would; so such a scope opens only what is seen with the element.
"""

from collections.abc import Iterable, Sequence
from functools import cache

from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.policy.conditions import Condition, both, holds
from gateway.policy.layers import Named
from gateway.policy.rules import Returned, Rule
from gateway.policy.sight import is_hidden, takes_away, touched, view_of

Permits = list[tuple[Rule, Condition]]


def needed(scopes: tuple[Named, ...]) -> tuple[Named, ...]:
    """The scopes that make a difference: of one that is not filtered, those that are filtered are a part."""
    plain = tuple((name, condition) for name, condition in scopes if not condition.terms)
    return plain or scopes


def not_taken(scopes: tuple[Named, ...], type_: str, denied: Iterable[tuple[str, ...]]) -> tuple[Named, ...]:
    """The scopes less those that are filtered by an element which one of these denies of fields takes away."""
    fields = tuple(denied)
    return tuple(
        (name, condition)
        for name, condition in scopes
        if not condition.terms
        or not any(takes_away(type_, each, _looked_at(type_, condition.terms)) for each in fields)
    )


def seen_by_any(scopes: tuple[Named, ...], type_: str, views: Sequence[Returned | None]) -> tuple[Named, ...]:
    """The scopes less those that are filtered by what each of these views hides."""
    return tuple(each for each in scopes if not all(_hides(view, type_, each) for view in views))


def seen_by_all(scopes: tuple[Named, ...], type_: str, views: Sequence[Returned | None]) -> tuple[Named, ...]:
    """The scopes less those that are filtered by what one of these views hides."""
    return tuple(each for each in scopes if not any(_hides(view, type_, each) for view in views))


def seeing(permits: Permits, type_: str, scopes: tuple[Named, ...]) -> Permits:
    """The permits, each for what is opened by a scope that it shows the filter of; none for which there is no such."""
    found = []
    for rule, condition in permits:
        shown = [each for each in scopes if not _hides(rule.returned, type_, each)]
        if len(shown) == len(scopes):
            found.append((rule, condition))
        elif shown:
            found.append((rule, both([condition, _one_of(shown)])))
    return found


def _one_of(scopes: list[Named]) -> Condition:
    return Condition(
        lambda resource: any(holds(condition, resource, on_error=False) for _, condition in scopes),
        exact=False,
    )


def _hides(returned: Returned | None, type_: str, scope: Named) -> bool:
    terms = scope[1].terms
    return bool(terms) and is_hidden(view_of(returned, type_), _looked_at(type_, terms))


@cache
def _looked_at(type_: str, terms: tuple[SearchTerm, ...]) -> tuple[tuple[str, ...], ...] | None:
    return touched(FhirRequest("GET", Interaction.SEARCH, type_, terms=terms))
