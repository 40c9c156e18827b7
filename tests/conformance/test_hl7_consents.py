"""HL7's own examples of Consent (FHIR R4, 6.2.9), re-created by their names, with the answers that they stand for.

They say OPTIN or OPTOUT, and a first provision without a type: in R4 an exception to the policy rule.
"""

from typing import Any

import pytest

from gateway.consents.consent import SCOPES, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import answer
from gateway.consents.resource_facts import facts_of
from gateway.fhir.labels import ACT_CODE

THEN = 1_466_665_800  # 2016-06-23T17:10:00+10:00
LATER = 1_700_000_000
P, D, NOTHING = Said.PERMIT, Said.DENY, Said.NONE


def consent(rule: str, provision: dict[str, Any]) -> dict[str, Any]:
    """One of them."""
    return {
        "resourceType": "Consent",
        "id": "x",
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/f001"},
        "dateTime": "2015-11-18",
        "organization": [{"reference": "Organization/f001"}],
        "policyRule": {"coding": [{"system": ACT_CODE, "code": rule}]},
        "provision": provision,
    }


def actor(role: str, reference: str) -> list[dict[str, Any]]:
    system = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    return [{"role": {"coding": [{"system": system, "code": role}]}, "reference": {"reference": reference}}]


def actions(*codes: str) -> list[dict[str, Any]]:
    system = "http://terminology.hl7.org/CodeSystem/consentaction"
    return [{"coding": [{"system": system, "code": code}]} for code in codes]


MEDICATION = [{"system": "http://hl7.org/fhir/resource-types", "code": "MedicationRequest"}]
SESSION = {"start": "2016-06-23T17:02:33+10:00", "end": "2016-06-23T17:32:33+10:00"}
EXAMPLES = {
    "notAuthor": consent("OPTIN", {"actor": actor("CST", "Organization/f001")}),
    "notThem": consent(
        "OPTIN", {"actor": actor("PRCP", "Practitioner/f204"), "action": actions("access", "correct")}
    ),
    "Out": consent("OPTOUT", {"actor": actor("CST", "Organization/f001")}),
    "smartonfhir": consent(
        "OPTIN",
        {
            "period": SESSION,
            "provision": [{"type": "permit", "action": actions("access"), "class": MEDICATION}],
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "who", "type_", "now", "said"),
    [
        ("notThem", "Practitioner/f204", "Observation", LATER, D),  # the former spouse, a nurse there
        ("notThem", "Practitioner/f201", "Observation", LATER, NOTHING),
        ("notAuthor", "Practitioner/f201", "Observation", LATER, D),  # what is kept there is for no provider
        ("Out", "Practitioner/f201", "Observation", LATER, D),
        ("Out", "Organization/f001", "Observation", LATER, D),
        ("smartonfhir", "Practitioner/f201", "MedicationRequest", THEN, P),
        ("smartonfhir", "Practitioner/f201", "Observation", THEN, NOTHING),
        ("smartonfhir", "Practitioner/f201", "MedicationRequest", LATER, NOTHING),
    ],
)
def test_an_example_of_hl7_says_what_it_stands_for(
    name: str, who: str, type_: str, now: int, said: Said
) -> None:
    resource = {"resourceType": type_, "id": "o", "subject": {"reference": "Patient/f001"}}
    facts = facts_of(resource, frozenset())
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({who}), frozenset({"TREAT"}), type_, facts
    )
    assert answer([EXAMPLES[name]], question, now, ConsentReading()).said is said


def test_who_opts_in_until_a_day_permits_until_then() -> None:
    until = consent("OPTIN", {"period": {"start": "1964-01-01", "end": "2016-12-31"}})
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({"Practitioner/f201"}), frozenset({"TREAT"}), "Observation"
    )
    assert answer([until], question, THEN, ConsentReading()).said is P
    assert answer([until], question, LATER, ConsentReading()).said is NOTHING
