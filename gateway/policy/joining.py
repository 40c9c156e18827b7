"""Whether a search may join: every right that its chains, `_has` and includes touch is asked for before it is sent.

A chain answers yes or no about each resource that it goes through, and no judge sees those on the way back. So a hop
passes only where a read would show every resource that it can reach:

- the type is open: search and read of it are permitted without a condition, and nothing may close a part of it; or
- the search is narrowed to some patients, the hop goes to just those patients (or from them to what is about them,
  for `_has`), and all of that is open to the caller.

An include is another matter: what it brings is judged, entry by entry, as a read of it would be.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from gateway.fhir import joins
from gateway.fhir.compartment import narrows_exactly, subject_parameter
from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.joins import Hop, Include, Reading
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import ALWAYS, Condition
from gateway.policy.decision import Deny, Included, Judge, Resource, Verdict
from gateway.policy.layers import Layers, judge
from gateway.policy.obligations import NO_OBLIGATIONS, Obligations

_RESOLVES = re.compile(r"\.where\(resolve\(\) is Patient\)")

Right = Callable[[str, Interaction, tuple[SearchTerm, ...]], Layers | Deny]
"""What speaks about an interaction of this caller on a type, or why there is nothing."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """The search itself: its type, its layers, and whether it is narrowed to patients."""

    type: str
    layers: Layers
    to_patients: bool


def joined(asked: FhirRequest, base: Narrowing, right: Right) -> FhirRequest | Deny:
    """The search with every chain said in the one reading that the caller may ask, or the refusal."""
    terms: list[SearchTerm] = []
    for term in asked.terms:
        if not joins.is_join(term):
            terms.append(term)
            continue
        found = joins.readings(term.name, term.text, base.type)
        allowed = [reading for reading in found if _is_open_to(reading, base, right)]
        if len(allowed) > 1:
            said = f"'{term.name}' may mean {' or '.join(sorted(reading.name for reading in allowed))}"
            return Deny(Reason.AMBIGUOUS_QUERY, (), said)
        if not allowed:
            said = f"'{term.name}' goes through resources that a read would not show"
            return Deny(Reason.JOIN_CLOSED, (), said)
        terms.append(joins.as_read(term, allowed[0]))
    return replace(asked, terms=tuple(terms))


def included(asked: FhirRequest, right: Right) -> Included | Deny | None:
    """The includes of the search with the judge of each type that they may bring, or the refusal."""
    asked_for = joins.includes(asked.terms)
    if not asked_for:
        return None
    judges: dict[str, Judge] = {}
    owed = NO_OBLIGATIONS
    for each in asked_for:
        found = {type_: made for type_ in sorted(each.types) if (made := _judge(type_, each, right))}
        if not found:
            return Deny(Reason.JOIN_CLOSED, (), f"nothing that '{each.name}' brings is permitted")
        for type_, (brought, obligations) in found.items():
            known = judges.get(type_)
            judges[type_] = brought if known is None else _both(known, brought)
            owed = owed.and_those_of(obligations)
    return Included(asked_for, judges, owed)


def _is_open_to(reading: Reading, base: Narrowing, right: Right) -> bool:
    narrowed: Narrowing | None = base
    for number, hop in enumerate(reading.hops):
        last = number + 1 == len(reading.hops)
        by = [reading.criterion] if last else _by(reading.hops[number + 1])
        if hop.reverse:
            by.append(_named(hop.code))
        searched = right(hop.type, Interaction.SEARCH, tuple(by))
        read = right(hop.type, Interaction.READ, ())
        if isinstance(searched, Deny) or isinstance(read, Deny):
            return False
        within = narrowed is not None and _stays_within(hop, narrowed, searched, read)
        if not within and not (_is_open(searched) and _is_open(read)):
            return False
        narrowed = None  # what a first hop reaches is not narrowed for the next
    return True


def _by(following: Hop) -> list[SearchTerm]:
    """The parameter that a resource on the way is searched by to take the next hop; against a reference by none."""
    return [] if following.reverse else [_named(following.code)]


def _named(code: str) -> SearchTerm:
    return SearchTerm(code, code, None, None, (), "")


def _is_open(layers: Layers) -> bool:
    """Whether every resource of the type is shown, whole."""
    return _nothing_closes(layers) and all(
        any(condition is ALWAYS for _, condition in layer) for layer in (layers.scopes, layers.permits)
    )


def _stays_within(hop: Hop, base: Narrowing, searched: Layers, read: Layers) -> bool:
    """Whether the hop goes between the patients of the search and what is about them, and all of it is shown."""
    patients = _patients(base.layers) if base.to_patients else None
    if not patients:
        return False
    about = hop.source  # the type that names its patient by the reference
    if base.type not in (hop.source, hop.target) or hop.target != "Patient" or about == "Patient":
        return False
    if not names_its_patient(about, hop.code):
        return False
    return _shows_all_of(searched, patients) and _shows_all_of(read, patients)


def _patients(layers: Layers) -> frozenset[str] | None:
    """The patients about whom the judge of the search shows something at all: the store alone is not believed."""
    found: frozenset[str] = frozenset()
    for _, condition in layers.permits:
        if condition.patients is None or not condition.exact:
            return None
        found |= condition.patients
    return found


def _shows_all_of(layers: Layers, patients: frozenset[str]) -> bool:
    return (
        _nothing_closes(layers)
        and any(_covers(condition, patients) for _, condition in layers.scopes)
        and any(condition.exact and _covers(condition, patients) for _, condition in layers.permits)
    )


def _covers(condition: Condition, patients: frozenset[str]) -> bool:
    if condition is ALWAYS:
        return True
    return condition.patients is not None and patients <= condition.patients and not condition.terms


def _nothing_closes(layers: Layers) -> bool:
    return not layers.denies and not layers.requires and layers.held is None


@cache
def names_its_patient(type_: str, code: str) -> bool:
    """Whether this parameter of the type is the one reference to the patient whom a resource is about."""
    subject = subject_parameter(type_)
    if subject is None or not narrows_exactly(type_, "subject"):
        return False
    one, other = search_parameter(type_, subject), search_parameter(type_, code)
    return one is not None and other is not None and _element(one.expression) == _element(other.expression)


def _element(expression: str) -> str:
    return _RESOLVES.sub("", expression)


def _judge(type_: str, include: Include, right: Right) -> tuple[Judge, Obligations] | None:
    """The judge of what an include brings of a type, and what that obliges to.

    It is a read of it, and for what is searched for a search as well.
    """
    read = right(type_, Interaction.READ, ())
    if isinstance(read, Deny):
        return None
    made = judge(read, type_, None)
    if not include.reverse:
        return made, read.obligations
    searched = right(type_, Interaction.SEARCH, (_named(include.code),))
    if isinstance(searched, Deny):
        return None
    return _both(made, judge(searched, type_, None)), read.obligations.and_those_of(searched.obligations)


def _both(one: Judge, other: Judge) -> Judge:
    def verdict(resource: Resource) -> Verdict:
        first, second = one(resource), other(resource)
        if not first.shown or not second.shown:
            return first if not first.shown else second
        if first.seen is not None and second.seen is not None and first.seen != second.seen:
            # Of two views neither says all that is hidden.
            return Verdict(False, first.rules, Reason.POLICY_DENIED)
        rules = tuple(dict.fromkeys((*first.rules, *second.rules)))
        return replace(first, rules=rules, seen=second.seen if first.seen is None else first.seen)

    return verdict
