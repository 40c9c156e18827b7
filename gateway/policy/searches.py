"""Decisions on searches: narrowed by criteria of ours to what the caller may see, and closed where a total would tell more.

What a search can say of the layers is added to it, where it can only narrow; the judge decides on each entry all the same.
"""

from collections.abc import Mapping
from dataclasses import replace

from gateway.fhir.compartment import compartment_term
from gateway.fhir.definitions import patient_compartment
from gateway.fhir.interaction import FhirRequest, SearchTerm
from gateway.fhir.opened_terms import demanded_by
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Decision, Deny, Nothing, Permit
from gateway.policy.joining import Narrowing, Right, included, joined
from gateway.policy.layers import Layers, asks_only_for_strangers, ids, is_exact, judge, limit, show_nothing
from gateway.policy.query import counts, needed_by, with_page, without_total
from gateway.policy.rules import Rule
from gateway.policy.search_opening import text_closed, with_opened


def decide_search(
    asked: FhirRequest, type_: str, layers: Layers, right: Right, rules: Mapping[str, Rule]
) -> Decision:
    """The decision on a search that layers speak about; right is asked for what its joins and includes touch.

    rules are those in force by their ids.
    """
    permits = ids(layers.permits)
    limits = limit(layers)
    if asked.compartment is not None:
        owner_type, owner = asked.compartment
        if owner_type != "Patient" or (type_ != "Patient" and not patient_compartment(type_)):
            return Deny(Reason.INTERACTION_CLOSED, permits, f"the {owner_type} compartment is closed here")
        if limits is not None and owner not in limits:
            return Deny(Reason.NOT_FOUND, permits, "the compartment is not one that the caller may see", True)
        limits = frozenset({owner})
        asked = replace(asked, compartment=None)
    joining = joined(asked, Narrowing(type_, layers, limits is not None), right)
    if isinstance(joining, Deny):
        return joining
    beside = included(asked, right)
    if isinstance(beside, Deny):
        return beside
    asked = with_page(joining, layers.page)
    if limits is not None:
        if not limits:
            return Nothing(permits, "the caller may see nobody's records")
        demanding = asked.with_terms(tuple(demanded_by(asked.terms, type_)))
        if asks_only_for_strangers(demanding, type_, limits):
            return Nothing(permits, "only patients that the caller may not see were asked for")
    added = criteria_added(type_, layers, limits)
    if added is None:
        return Deny(
            Reason.INTERACTION_CLOSED, permits, f"{type_} cannot be narrowed to its patients in a search"
        )
    says_all = limits is None or added != ()
    exact = says_all and is_exact(layers)
    if not (says_all and is_exact(replace(layers, total=True))) and (closed := text_closed(asked, permits)):
        return closed
    counting = counts(asked)
    if counting == "only" and not exact:
        return Deny(Reason.COUNT_CLOSED, permits, "the store would count what the judge leaves out")
    permit = Permit(
        request=without_total(asked, is_told=exact).with_terms(added),
        judge=judge(layers, type_, None) if counting != "only" else show_nothing,
        added=tuple(f"{term.name}={term.text}" for term in added),
        conceal=layers.conceal,
        rules=permits,
        exact=exact and counting != "no",
        leaves_to_judge=not exact,
        audit=layers.audit,
        obligations=layers.obligations
        if beside is None
        else layers.obligations.and_those_of(beside.obligations),
        included=beside,
        needed=needed_by([rules[name].query for name in permits if name in rules], asked),
    )
    return with_opened(permit, asked)


def criteria_added(
    type_: str, layers: Layers, limits: frozenset[str] | None
) -> tuple[SearchTerm, ...] | None:
    """Our own criteria, each one more AND: they can only narrow. None when they cannot be said."""
    added: list[SearchTerm] = []
    if limits is not None:
        # A type that names nobody as its subject is narrowed by the one parameter of its compartment.
        term = compartment_term(type_, limits, "subject") or compartment_term(type_, limits, "spec")
        if term is None:
            return None
        added.append(term)
    for layer in (layers.permits, layers.scopes):
        # A filter is pushed down when it is the only way in; of several the judge alone decides.
        if len(layer) == 1:
            added.extend(layer[0][1].terms)
    for _, condition in layers.requires:
        added.extend(condition.terms)
    return tuple(dict.fromkeys(added))
