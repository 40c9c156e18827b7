"""The consents beside an access evaluation: `context.consent` asks for them, and the answer tells them and decides by them.

"consent": {"patient": "A", "scope": "patient-privacy", "actor": ["Practitioner/dr1", "app"], "purpose": ["TREAT"]}
"""

from collections.abc import Mapping

from gateway.consents.consent import SCOPES, ConsentAnswer, ConsentQuestion, Said
from gateway.consents.decision_parameters import DECISIONS, written_obligations
from gateway.consents.elements import local_name
from gateway.consents.resource_facts import facts_of
from gateway.fhir.compartment import patients_of
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Resource
from gateway.policy.known import Known

_KEYS = ("patient", "scope", "actor", "purpose")


def asked_of_consents(
    value: Mapping[str, object], type_: str, id_: object, stored: Resource | None, bases: frozenset[str]
) -> tuple[str, ConsentQuestion]:
    """The patient and what is asked of the consents. Raises ValueError saying what would be right."""
    if unknown := sorted(set(value) - set(_KEYS)):
        raise ValueError(f"context.consent has no '{unknown[0]}': it has {', '.join(_KEYS)}")
    named = value.get("patient", id_ if type_ == "Patient" else None)
    own = None if stored is None else patients_of(stored, bases)
    if named is None and own is not None and len(own) == 1:
        (named,) = own
    patient = named.removeprefix("Patient/") if isinstance(named, str) else ""
    if not is_id(patient):
        raise ValueError("context.consent.patient must be the id of the patient")
    if own is not None and patient not in own:
        raise ValueError("context.consent.patient is not whom the resource is about")
    scope = value.get("scope", "patient-privacy")
    if not isinstance(scope, str) or not scope:
        raise ValueError("context.consent.scope must be a code such as patient-privacy, or system|code")
    system, _, code = scope.rpartition("|")
    actors = {local_name(each, bases) for each in _texts(value, "actor")}
    facts = None if stored is None else facts_of(stored, bases)
    return patient, ConsentQuestion(
        (system or SCOPES, code), frozenset(actors) or None, frozenset(_texts(value, "purpose")), type_, facts
    )


def told(known: Known, patient: str, question: ConsentQuestion) -> tuple[bool, dict[str, object]]:
    """Whether the consents permit it for good, and what is told of them."""
    found = known.consent(patient, question)
    if found is None:
        return False, {"decision": "unknown", "reason": str(Reason.CONSENT_UNAVAILABLE)}
    return found.said is Said.PERMIT and not found.depends, _written(found)


def _written(answer: ConsentAnswer) -> dict[str, object]:
    return {
        "decision": DECISIONS[answer.said],
        "reason": str(answer.why),
        "depends_on_resource": answer.depends,
        "provisions": [basis.as_record() for basis in answer.bases],
        "obligations": written_obligations(answer.obligations),
    }


def _texts(value: Mapping[str, object], name: str) -> list[str]:
    found = value.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f"context.consent.{name} must be a list of texts")
    return found
