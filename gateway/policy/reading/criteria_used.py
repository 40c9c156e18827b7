"""Which search parameters the policies in force may add to a search, by type: what a store must be able to search by."""

import re
from collections import defaultdict
from collections.abc import Mapping

from gateway.fhir.compartment import compartment_term
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment
from gateway.fhir.interaction import Interaction
from gateway.policy.rules import PolicySet

_SOMEBODY = frozenset({"somebody"})


def criteria_used(policies: PolicySet) -> Mapping[str, frozenset[str]]:
    """The codes by type. A rule that speaks of any type counts for every type of the Patient compartment."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for rule in policies.rules:
        if Interaction.SEARCH not in rule.may:
            continue
        if rule.where.compartment is not None:
            for type_ in rule.resources or RESOURCE_TYPES:
                if type_ != "Patient" and not patient_compartment(type_):
                    continue
                term = compartment_term(type_, _SOMEBODY, "subject") or compartment_term(
                    type_, _SOMEBODY, "spec"
                )
                if term is not None:
                    found[type_].add(term.code)
        for type_, criteria in rule.where.match.items():
            found[type_].update(_codes(criteria))
    for fact in policies.facts.values():
        found[fact.type].update(_codes(fact.query))
    return {type_: frozenset(codes) for type_, codes in found.items()}


def _codes(criteria: str) -> list[str]:
    parts = [part for part in criteria.split("&") if part and not part.startswith("_has:")]
    return [re.split(r"[:.=]", part, maxsplit=1)[0] for part in parts]
