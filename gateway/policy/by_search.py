"""Permits whose condition only a search of the store can tell: when they open, and by which criteria.

What a body cannot tell opens nothing by itself. Such a permit opens a read or a search that is asked for as such, when
it is the only one: then the request goes to the store as a search with its criteria. Of several permits those open
that can be told of a body; criteria are one more AND each, and would not say OR.
"""

from collections.abc import Iterable, Sequence

from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import Condition
from gateway.policy.decision import Deny, Environment
from gateway.policy.rules import Rule

Permits = list[tuple[Rule, Condition]]
_ASKED = frozenset({Interaction.READ, Interaction.SEARCH})


def can_be_asked(asked: FhirRequest, environment: Environment) -> bool:
    """Whether this request may go to the store as a search with further criteria."""
    return environment.by_search and asked.interaction in _ASKED and asked.type != "Binary"


def chosen(permits: Permits) -> tuple[Permits, tuple[SearchTerm, ...]]:
    """The permits that open, and the criteria that the store must be asked with; no permit where several need that."""
    told = [(rule, condition) for rule, condition in permits if condition.by_search is None]
    if told or len(permits) != 1:
        return told, ()
    [(rule, condition)] = permits
    if condition.by_search is None:
        return permits, ()
    return [(rule, condition.by_search.rest)], condition.by_search.terms


def undecided(rules: Iterable[Rule]) -> Deny:
    """The refusal of what these rules would open, if it could be told."""
    names = tuple(rule.id for rule in rules)
    said = "what they ask only a search of the store can tell, which is not made for this request"
    return Deny(Reason.NOT_DECIDABLE, names, said)


def proof(terms: Sequence[SearchTerm]) -> tuple[str, ...]:
    """The terms as the store's self link must name them."""
    return tuple(f"{term.name}={term.text}" for term in terms)
