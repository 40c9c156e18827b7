"""Conditions on resources: what one says, how a search says it, and what several say together."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial

from gateway.fhir.compartment import (
    compartment_test,
    may_be_in_compartment,
    members_naming_patients,
    narrows_exactly,
)
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.matching import Criteria, CriteriaError, compile_criteria
from gateway.policy.asking import Unsayable
from gateway.policy.decision import Resource
from gateway.policy.known import Known


@dataclass(frozen=True, slots=True)
class ToldBySearch:
    """Criteria that only a search can tell, and what is left to judge on the resource once one has told them."""

    terms: tuple[SearchTerm, ...]
    holds: Callable[[Resource], bool]
    exact: bool


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on resources of one type, for one caller.

    holds    whether a resource fulfils it
    patients the patients that it limits to; None when it does not limit by patient
    terms    search criteria that say the rest of it (all of it, when exact); never the patients
    exact    patients and terms together say all that holds() asks
    proof    what a search must have told; without it the condition holds for no resource
    looks_at the members of a resource that holds() looks at, by nothing but which it answers; None for all of them,
             and where it asks for more than the resource
    """

    holds: Callable[[Resource], bool]
    patients: frozenset[str] | None = None
    terms: tuple[SearchTerm, ...] = ()
    exact: bool = True
    proof: ToldBySearch | None = None
    looks_at: frozenset[str] | None = None


ALWAYS = Condition(lambda resource: True, looks_at=frozenset())
NEVER = Condition(lambda resource: False, frozenset(), looks_at=frozenset())
"""What an empty set of values says: no patient is let through by it."""


NOT_TOLD = (TypeError, ValueError, KeyError, AttributeError, RecursionError, ArithmeticError)
"""What is raised where a condition cannot be told on a resource."""


def holds(condition: Condition, resource: Resource, *, on_error: bool) -> bool:
    """Whether the condition holds; a resource on which it cannot be evaluated counts as on_error."""
    try:
        return condition.holds(resource)
    except NOT_TOLD:
        return on_error


def all_of(parts: list[Condition]) -> Condition:
    """The condition that holds when every part does."""
    if not parts:
        return ALWAYS
    if len(parts) == 1:
        return parts[0]
    limits = [part.patients for part in parts if part.patients is not None]
    patients = frozenset.intersection(*limits) if limits else None
    holders = [part.holds for part in parts]
    return Condition(
        lambda resource: all(holds(resource) for holds in holders),
        patients,
        tuple(term for part in parts for term in part.terms),
        all(part.exact for part in parts),
        _proof(parts),
        looked_at(parts),
    )


def looked_at(parts: Iterable[Condition]) -> frozenset[str] | None:
    """The members that one of these conditions looks at; None for all."""
    found: frozenset[str] = frozenset()
    for part in parts:
        if part.looks_at is None:
            return None
        found |= part.looks_at
    return found


def _proof(parts: list[Condition]) -> ToldBySearch | None:
    proofs = [part.proof for part in parts if part.proof is not None]
    if not proofs:
        return None
    holders = [part.holds if part.proof is None else part.proof.holds for part in parts]
    return ToldBySearch(
        tuple(term for proof in proofs for term in proof.terms),
        lambda resource: all(holds(resource) for holds in holders),
        all(part.exact if part.proof is None else part.proof.exact for part in parts),
    )


def compartment_condition(
    type_: str, patients: frozenset[str], membership: str, bases: frozenset[str], *, in_doubt: bool = False
) -> Condition:
    """Belongs to one of these patients. An empty set of patients is an empty set: nothing belongs to nobody."""
    belongs: Callable[[Resource], bool] = (
        partial(may_be_in_compartment, patients=patients, membership=membership, bases=bases)
        if in_doubt
        else compartment_test(type_, patients, membership=membership, bases=bases)
    )
    return Condition(
        belongs,
        patients,
        exact=_narrows_exactly(type_, membership),
        looks_at=members_naming_patients(type_),
    )


_narrows_exactly = cache(narrows_exactly)


def criteria_condition(type_: str, query: str, bases: frozenset[str]) -> Condition:
    """Matches search criteria. Raises Unsayable when they cannot be evaluated."""
    try:
        compiled = _compiled(type_, query, bases)
    except CriteriaError as error:
        raise Unsayable(str(error)) from error
    return Condition(compiled.matches, None, compiled.terms, looks_at=compiled.looks_at)


def found_by_criteria(type_: str, query: str, bases: frozenset[str], known: Known) -> Condition:
    """As criteria_condition(); of a test that gives what a search found, what the store was sent is not asked again."""
    condition = criteria_condition(type_, query, bases)
    matches_found = _compiled(type_, query, bases).matches_found
    return replace(
        condition,
        holds=lambda resource: (
            matches_found(resource, known.found_by) if known.found_by else condition.holds(resource)
        ),
    )


_criteria: dict[tuple[str, str, frozenset[str]], Criteria] = {}


def _compiled(type_: str, query: str, bases: frozenset[str]) -> Criteria:
    found = _criteria.get((type_, query, bases))
    if found is None:
        found = compile_criteria(type_, query, bases=bases)
        if len(_criteria) > 10_000:
            _criteria.clear()
        _criteria[(type_, query, bases)] = found
    return found
