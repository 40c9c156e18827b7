"""Which permits open a search: what it asks for must be seen, or its answer tells what is hidden."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.opened_terms import FULL_TEXT, list_of, opened_words
from gateway.fhir.outcome import Reason
from gateway.policy import by_list
from gateway.policy.conditions import Condition
from gateway.policy.decision import Deny, Permit
from gateway.policy.rules import Effect, Rule
from gateway.policy.sight import PEOPLE, Sight, Taken, is_hidden, takes_away, touched, view_of

Permits = list[tuple[Rule, Condition]]


def opened_to_nobody(asked: FhirRequest, type_: str, rules: Iterable[Rule]) -> Deny | None:
    """The refusal of a parameter that no permit about this type opens, whoever asks."""
    words = opened_words(asked.terms)
    if not words:
        return None
    opening = [
        rule.query.open
        for rule in rules
        if rule.effect is Effect.PERMIT and (rule.resources is None or type_ in rule.resources)
    ]
    return _closed_words(words, opening, ())


def refused_by_query(asked: FhirRequest, narrower: Sequence[Rule]) -> Deny:
    """The refusal of a search that the query of no permit allows; these are the permits that would hold without it."""
    rules = tuple(rule.id for rule in narrower)
    words = opened_words(asked.terms)
    closed = _closed_words(words, [rule.query.open for rule in narrower], rules)
    return closed or Deny(Reason.QUERY_CLOSED, rules, "their query does not allow all of this search")


def text_closed(asked: FhirRequest, permits: tuple[str, ...]) -> Deny | None:
    """The refusal of a search of all text where the judge leaves out some of what it finds.

    How full its pages are would tell of texts that the caller is not shown.
    """
    if not opened_words(asked.terms) & FULL_TEXT:
        return None
    said = "a search of all text would count what the judge leaves out"
    return Deny(Reason.UNSUPPORTED_PARAMETER, permits, said)


def with_opened(permit: Permit, asked: FhirRequest) -> Permit:
    """The permit of a search with what its opened parameters ask for: proof that they were taken, a read of a List."""
    words = opened_words(asked.terms)
    if not words:
        return permit
    proof = tuple(f"{term.name}={term.text}" for term in asked.terms if term.code in words)
    found = replace(permit, opened=words, added=(*permit.added, *proof))
    return by_list.waiting(found, list_of(asked.terms))


def _closed_words(
    words: frozenset[str], opening: Iterable[frozenset[str]], rules: tuple[str, ...]
) -> Deny | None:
    closed = sorted(words.difference(*opening))
    if not closed:
        return None
    said = f"{' and '.join(closed)} must be opened by the query of a permit, which says 'open: [{', '.join(closed)}]'"
    return Deny(Reason.UNSUPPORTED_PARAMETER, rules, said)


def opened(
    asked: FhirRequest, type_: str, permits: Permits, taken: Sequence[Taken], sight: Sight | None
) -> Permits | Deny:
    """The permits that open this search; a Deny where none does, or where a deny takes away what is asked for."""
    ways = touched(asked)
    if ways == ():
        return permits
    closing = tuple(name for name, _, fields in taken if takes_away(type_, fields, ways))
    people = _asked_by_identifier(asked, type_)
    of_all = bool(opened_words(asked.terms) & FULL_TEXT)
    found = [
        (rule, condition)
        for rule, condition in permits
        if not is_hidden(view_of(rule.returned, type_), ways)
        and (sight is None or not people & sight.left_out("identifier", [rule.returned]))
        and (sight is None or not of_all or sight.shows_all(rule.returned))
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
