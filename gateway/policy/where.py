"""What the `where` of a rule means for one caller, compiled to one condition.

Three-valued in effect: a condition that cannot be said (a missing claim, a claim of another type) makes a permit
false and a deny true, so it is compiled to Never or Always by the side it stands on.
"""

from collections.abc import Mapping
from dataclasses import replace

from authz.protocol.tokens import Caller
from gateway.fhir.matching import CriteriaError
from gateway.fhir.told_by_search import needs_search, split_criteria
from gateway.policy.asking import Asking, Unsayable
from gateway.policy.attachments import holds_of
from gateway.policy.claims import claim_value
from gateway.policy.conditions import (
    NEVER,
    Condition,
    ToldBySearch,
    all_of,
    compartment_condition,
    found_by_criteria,
    holds,
    looked_at,
)
from gateway.policy.consent_condition import by_consent
from gateway.policy.decision import Resource
from gateway.policy.facts import Fact
from gateway.policy.inherited_labels import holds_by_labels
from gateway.policy.known import Known
from gateway.policy.rules import Claim, Where


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
    return all_of(parts)


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
        return all_of([condition, is_such])
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


def _matching(type_: str, query: str, bases: frozenset[str], known: Known, *, in_doubt: bool) -> Condition:
    """Matches criteria of a rule, of which a permit may leave some to a search. Raises Unsayable."""
    if in_doubt or not needs_search(query):
        return found_by_criteria(type_, query, bases, known)
    try:
        found = split_criteria(type_, query, bases=bases)
    except CriteriaError as error:
        raise Unsayable(str(error)) from error
    if not found.told:
        return found_by_criteria(type_, query, bases, known)
    judged = found.judged
    holds = (lambda resource: True) if judged is None else judged.matches
    terms = () if judged is None else judged.terms
    return Condition(lambda resource: False, None, terms, False, ToldBySearch(found.told, holds, True))
