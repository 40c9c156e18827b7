"""HL7's own examples of Consent (FHIR R4, 6.2.9), re-created by their names, with the answers that they stand for.

They say OPTIN or OPTOUT, and a first provision without a type: in R4 an exception to the policy rule. Where nobody can
tell whether that opens or withholds, nothing opens: `grantor` reads as `Out` does, and `signature` names its reader
beside what is permitted. `notTime` has but a period, as `basic` does, and is as good as that.
"""

from typing import Any

import pytest

from gateway.consents.consent import SCOPES, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import answer
from gateway.consents.resource_facts import facts_of
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY

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


ORGANIZATION = "Organization/2.16.840.1.113883.19.6"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
EMERGENCY = [{"system": REASON, "code": "ETREAT"}]


def shared(reference: str, *codes: str) -> list[dict[str, Any]]:
    """Permits of one label each, for one team."""
    return [
        {
            "type": "permit",
            "actor": actor("PRCP", reference),
            "action": actions("access"),
            "securityLabel": [{"system": CONFIDENTIALITY if code == "N" else ACT_CODE, "code": code}],
        }
        for code in codes
    ]


MEDICATION = [{"system": "http://hl7.org/fhir/resource-types", "code": "MedicationRequest"}]
SESSION = {"start": "2016-06-23T17:02:33+10:00", "end": "2016-06-23T17:32:33+10:00"}
EXAMPLES = {
    "notAuthor": consent("OPTIN", {"actor": actor("CST", "Organization/f001")}),
    "notThem": consent(
        "OPTIN", {"actor": actor("PRCP", "Practitioner/f204"), "action": actions("access", "correct")}
    ),
    "Out": consent("OPTOUT", {"actor": actor("CST", "Organization/f001")}),
    "notOrg": consent(
        "OPTIN", {"actor": actor("PRCP", "Organization/ghc"), "action": actions("access", "correct")}
    ),
    "notThis": consent("OPTIN", {"data": [{"meaning": "related", "reference": {"reference": "Task/f201"}}]}),
    "Emergency": consent(
        "OPTIN",
        {
            "provision": [
                {"type": "permit", "actor": actor("CST", ORGANIZATION), "purpose": EMERGENCY},
                {"type": "deny", "actor": actor("CST", ORGANIZATION)},
            ]
        },
    ),
    "grantor": consent(
        "OPTOUT",
        {
            "actor": [*actor("CST", "Organization/f001"), *actor("PRCP", "Patient/example")],
            "action": actions("access"),
        },
    ),
    "pkb": consent(
        "OPTIN",
        {
            "provision": [
                *shared("Organization/ich-nmt", "N", "PSY"),
                *shared("Organization/ich-non", "N"),
            ]
        },
    ),
    "signature": consent(
        "OPTIN",
        {
            "period": {"start": "2015-10-10", "end": "2016-10-10"},
            "actor": actor("PRCP", "Practitioner/13"),
            "provision": [{"type": "permit", "actor": actor("AUT", "Practitioner/xcda-author")}],
        },
    ),
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
        ("notOrg", "Organization/ghc", "Observation", LATER, D),
        ("notThis", "Practitioner/f201", "Task", LATER, D),  # it is the order itself
        ("Emergency", ORGANIZATION, "Observation", LATER, D),
        ("Emergency", "Practitioner/f201", "Observation", LATER, D),  # who may be one of theirs
        ("grantor", "Patient/example", "Observation", LATER, D),
        ("pkb", "Organization/ich-nmt", "Observation", LATER, P),
        ("pkb", "Organization/elsewhere", "Observation", LATER, NOTHING),
        ("signature", "Practitioner/13", "Composition", THEN, NOTHING),
        ("smartonfhir", "Practitioner/f201", "MedicationRequest", THEN, P),
        ("smartonfhir", "Practitioner/f201", "Observation", THEN, NOTHING),
        ("smartonfhir", "Practitioner/f201", "MedicationRequest", LATER, NOTHING),
    ],
)
def test_an_example_of_hl7_says_what_it_stands_for(
    name: str, who: str, type_: str, now: int, said: Said
) -> None:
    resource: dict[str, Any] = {"resourceType": type_, "id": "o", "subject": {"reference": "Patient/f001"}}
    resource["meta"] = {"security": [{"system": CONFIDENTIALITY, "code": "N"}]}
    facts = facts_of(resource, frozenset())
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({who}), frozenset({"TREAT"}), type_, facts
    )
    assert answer([EXAMPLES[name]], question, now, ConsentReading()).said is said


def test_who_keeps_a_record_is_not_who_may_have_it() -> None:
    """`Emergency` permits by its custodian (CST): whom that opens to cannot be told, so it opens nothing."""
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({ORGANIZATION}), frozenset({"ETREAT"}), "Observation"
    )
    assert answer([EXAMPLES["Emergency"]], question, LATER, ConsentReading()).said is D


def test_who_opts_in_until_a_day_permits_until_then() -> None:
    until = consent("OPTIN", {"period": {"start": "1964-01-01", "end": "2016-12-31"}})
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({"Practitioner/f201"}), frozenset({"TREAT"}), "Observation"
    )
    assert answer([until], question, THEN, ConsentReading()).said is P
    assert answer([until], question, LATER, ConsentReading()).said is NOTHING
