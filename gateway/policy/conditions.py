"""Conditions, compiled for one caller: what a rule's or scope's words mean on a resource, and how a search says them.

Three-valued in effect: a condition that cannot be said (a missing claim, a claim of another type) makes a permit
false and a deny true, so it is compiled to Never or Always by the side it stands on.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

from authz.protocol.tokens import Caller
from gateway.fhir.compartment import (
    compartment_test,
    may_be_in_compartment,
    members_naming_patients,
    narrows_exactly,
)
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.matching import Criteria, CriteriaError, compile_criteria
from gateway.fhir.told_by_search import needs_search, split_criteria
from gateway.policy.asking import Asking
from gateway.policy.asking import Unsayable as Unsayable
from gateway.policy.attachments import holds_of
from gateway.policy.claims import claim_value as claim_value
from gateway.policy.claims import claim_values as claim_values
from gateway.policy.claims import is_said as is_said
from gateway.policy.consent_condition import by_consent
from gateway.policy.decision import Resource
from gateway.policy.facts import Fact
from gateway.policy.inherited_labels import holds_by_labels
from gateway.policy.known import Known
from gateway.policy.rules import Claim, Network, Where


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


def in_networks(peer: str, networks: tuple[Network, ...], *, unknown: bool) -> bool:
    """Whether an address lies in one of the networks; IPv4 inside IPv6 is IPv4 (attack case 305).

    unknown is the answer about a peer that has no IP address.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return unknown
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks if network.version == address.version)


def compile_where(
    where: Where,
    type_: str,
    caller: Caller,
    claims: Mapping[str, Claim],
    bases: frozenset[str],
    *,
    in_doubt: bool,
    known: Known,
    facts: Mapping[str, Fact],
) -> Condition:
    """The condition of a rule on resources of this type. Raises Unsayable.

    in_doubt is what it says of a resource on which it cannot be told: False for what opens, True for what closes.
    known holds the values of facts, and what consents say.
    """
    parts: list[Condition] = []
    asking = Asking(caller, claims, known, facts, in_doubt)
    if where.binary is not None or where.cda is not None:
        return _of_attachments(where, asking, type_, bases)
    if where.compartment is not None:
        membership = where.compartment.membership
        patients = asking.patients(where.compartment.patient)
        if patients is None:
            parts.append(_supposed(known, in_doubt))
        else:
            parts.append(compartment_condition(type_, patients, membership, bases, in_doubt=in_doubt))
    if type_ in where.match:
        if where.match[type_]:
            query = asking.filled(where.match[type_])
            if query is None:
                parts.append(_supposed(known, in_doubt))
            else:
                parts.append(
                    NEVER if query == "" else _matching(type_, query, bases, known, in_doubt=in_doubt)
                )
    elif where.match:
        raise Unsayable(f"match says nothing about {type_}")
    if where.ids is not None:
        ids = where.ids
        parts.append(
            Condition(lambda resource: resource.get("id") in ids, exact=False, looks_at=frozenset({"id"}))
        )
    if where.labels is not None:
        # Never said in a search: stores differ on what _security:not means for what has no label.
        labels = where.labels
        known.judges_ask = known.judges_ask or bool(labels.inherit)
        parts.append(
            Condition(
                lambda resource: holds_by_labels(labels, resource, known, bases, in_doubt=in_doubt),
                exact=False,
            )
        )
    if where.fhirpath:
        parts.append(_by_statement(where, type_, asking))
    if where.any_of:
        parts.append(_one_of(where.any_of, asking, type_, bases))
    if where.consent is not None:
        # The last: what the others refuse asks for nobody's consents.
        judge = by_consent(where.consent, type_, asking, bases)
        parts.append(Condition(judge, exact=False))
    return both(parts)


def _within(asking: Asking, where: Where, type_: str, bases: frozenset[str]) -> Condition:
    """The condition of a where that stands within another. Raises Unsayable."""
    return compile_where(
        where,
        type_,
        asking.caller,
        asking.claims,
        bases,
        in_doubt=asking.in_doubt,
        known=asking.known,
        facts=asking.facts,
    )


def _of_attachments(where: Where, asking: Asking, type_: str, bases: frozenset[str]) -> Condition:
    """The condition of a rule that speaks of Binaries: what else it asks is asked of the resources that lead to one."""
    rest = replace(where, binary=None, cda=None)
    if type_ != "Binary":
        return _within(asking, rest, type_, bases)
    binary, cda, ids = where.binary, where.cda, where.ids
    if binary is None:
        condition = _within(asking, rest, type_, bases)
        is_such = Condition(
            lambda resource: holds_of(resource, None, cda, lambda via: True, bases), exact=False
        )
        return both([condition, is_such])
    rest, leading = replace(rest, ids=None), dict[str, Condition | None]()

    def compiled(via: str) -> Condition | None:
        if via not in leading:
            try:
                leading[via] = _within(asking, rest, via, bases)
            except Unsayable:
                leading[via] = None
        return leading[via]

    for each in sorted(binary.through):  # now, so that it is known by then what they will look for
        compiled(each)

    def leads(via: Resource) -> bool:
        condition = compiled(str(via.get("resourceType")))
        return condition is not None and holds(condition, via, on_error=asking.in_doubt)

    return Condition(
        lambda resource: (
            (ids is None or resource.get("id") in ids) and holds_of(resource, binary, cda, leads, bases)
        ),
        exact=False,
    )


def _supposed(known: Known, in_doubt: bool) -> Condition:
    """What stands for a condition that cannot be told, while it is supposed to speak for the caller."""
    return Condition(lambda resource: known.supposes and not in_doubt, exact=False)


def _by_statement(where: Where, type_: str, asking: Asking) -> Condition:
    statement, in_doubt = where.fhirpath.get(type_), asking.in_doubt
    if statement is None:
        raise Unsayable(f"fhirpath says nothing about {type_}")
    known = {name: claim_value(asking.caller.claims, claim) for name, claim in asking.claims.items()}
    return Condition(lambda resource: statement.holds(resource, known, in_doubt=in_doubt), exact=False)


def _one_of(ways: tuple[Where, ...], asking: Asking, type_: str, bases: frozenset[str]) -> Condition:
    """The condition that holds when one of these does. What cannot be said opens no way, and closes every one."""
    found, in_doubt = [], asking.in_doubt
    for way in ways:
        try:
            found.append(_within(asking, way, type_, bases))
        except Unsayable:
            if in_doubt:
                raise
    if not found:
        raise Unsayable("none of the conditions in any_of can be said")
    patients: frozenset[str] | None = frozenset()
    for each in found:
        patients = None if patients is None or each.patients is None else patients | each.patients
    return Condition(
        lambda resource: any(holds(each, resource, on_error=in_doubt) for each in found),
        patients,
        exact=False,
        looks_at=looked_at(found),
    )


def both(parts: list[Condition]) -> Condition:
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


def _matching(type_: str, query: str, bases: frozenset[str], known: Known, *, in_doubt: bool) -> Condition:
    """Matches criteria of a rule, of which a permit may leave some to a search. Raises Unsayable."""
    if in_doubt or not needs_search(query):
        return _by_criteria(type_, query, bases, known)
    try:
        found = split_criteria(type_, query, bases=bases)
    except CriteriaError as error:
        raise Unsayable(str(error)) from error
    if not found.told:
        return _by_criteria(type_, query, bases, known)
    judged = found.judged
    holds = (lambda resource: True) if judged is None else judged.matches
    terms = () if judged is None else judged.terms
    return Condition(lambda resource: False, None, terms, False, ToldBySearch(found.told, holds, True))


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


def _by_criteria(type_: str, query: str, bases: frozenset[str], known: Known) -> Condition:
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
