"""A consent condition, compiled for one caller: it holds where the patient's consents say what is asked.

It is judged on each resource by itself, with all that consents may ask of it.
"""

from collections.abc import Callable
from dataclasses import replace

from gateway.consents.consent import ConsentCondition, ConsentQuestion
from gateway.consents.elements import local_name
from gateway.consents.resource_facts import ResourceFacts, facts_of
from gateway.fhir.compartment import patients_of
from gateway.fhir.labels import labels_of
from gateway.policy.asking import Asking, Unsayable
from gateway.policy.claims import claim_value, claim_values
from gateway.policy.decision import Resource
from gateway.policy.inherited_labels import inherited_labels
from gateway.policy.known import Known


def by_consent(
    condition: ConsentCondition, type_: str, asking: Asking, bases: frozenset[str]
) -> Callable[[Resource], bool]:
    """Whether the consents of whom a resource is about say what the condition asks. Raises Unsayable."""
    actors, is_partial = _actors(condition, asking, bases)
    claim = asking.claims.get("purpose")
    purposes = None if claim is None else claim_values(asking.caller.claims, claim)
    question = ConsentQuestion(condition.scope, actors, purposes or frozenset(), type_, is_partial=is_partial)
    known, in_doubt = asking.known, asking.in_doubt
    known.judges_ask = True
    return lambda resource: holds_by_consent(condition, question, resource, known, bases, in_doubt=in_doubt)


def holds_by_consent(
    condition: ConsentCondition,
    question: ConsentQuestion,
    resource: Resource,
    known: Known,
    bases: frozenset[str],
    *,
    in_doubt: bool,
) -> bool:
    """Whether the consents of every patient whom the resource is about say so; to close, one patient's are enough.

    in_doubt is the answer where it cannot be told: whom it is about, or what they said.
    """
    patients = patients_of(resource, bases)
    if not patients:
        return in_doubt
    question = replace(question, resource=_facts(condition, resource, known, bases))
    found = []
    for patient in sorted(patients):  # all of them are looked for at once
        answer = known.consent(patient, question)
        if answer is None:
            found.append(in_doubt is not known.supposes)
        else:
            found.append(answer.said is condition.decision)
    return any(found) if in_doubt else all(found)


def _facts(
    condition: ConsentCondition, resource: Resource, known: Known, bases: frozenset[str]
) -> ResourceFacts:
    """What consents ask of the resource; its labels are none that can be told where those it inherits are not."""
    if not condition.inherit:
        return facts_of(resource, bases)
    more = inherited_labels(resource, condition.inherit, known, bases)
    try:
        own = labels_of(resource)
    except ValueError:
        return ResourceFacts(resource, bases, None)
    if more is None:
        # What could not be had is taken to speak for the caller while that is supposed.
        return ResourceFacts(resource, bases, own if known.supposes else None)
    return ResourceFacts(resource, bases, own | more)


def _actors(
    condition: ConsentCondition, asking: Asking, bases: frozenset[str]
) -> tuple[frozenset[str] | None, bool]:
    """The names of the caller, and whether one more of them cannot be told. Raises Unsayable where none can."""
    if not condition.actors:
        return None, False
    found: set[str] = set()
    is_partial = False
    for each in condition.actors:
        value: object = asking.caller.client_id if each.is_client else each.text
        if each.claim is not None:
            claim = asking.claims.get(each.claim)
            value = None if claim is None else claim_value(asking.caller.claims, claim)
        if isinstance(value, str) and value:
            found.add(local_name(value, bases))
        else:
            is_partial = True
    if not found:
        names = ", ".join(each.claim for each in condition.actors if each.claim is not None)
        raise Unsayable(f"the token has no {names} that a consent can be for")
    return frozenset(found), is_partial
