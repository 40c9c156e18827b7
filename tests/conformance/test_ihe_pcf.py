"""IHE Privacy Consent on FHIR: its published consents, re-created by their names, with the answers that they stand for.

What each says is the profile's own words (PCF 1:53.2); the resources are written here anew. Break-glass is a purpose of
use (BTG), of a group of users who may.
"""

from typing import Any

import pytest

from gateway.consents.consent import SCOPES, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import answer
from gateway.consents.resource_facts import facts_of
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER

NOW = 1_700_000_000  # 2023-11-14
SCOPE = (SCOPES, "patient-privacy")
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
TPO = [{"system": REASON, "code": code} for code in ("TREAT", "HPAYMT", "HOPERAT")]
DOCTOR = frozenset({"Practitioner/ex-practitioner"})
ANOTHER = frozenset({"Practitioner/another", "Organization/elsewhere"})
PRIVILEGED = frozenset({"Practitioner/another", "Group/ex-privilegedUsers"})


def labels(*codes: str) -> list[dict[str, str]]:
    return [{"system": CONFIDENTIALITY if code in ORDER else ACT_CODE, "code": code} for code in codes]


def actor(reference: str) -> dict[str, Any]:
    role = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]
    }
    return {"role": role, "reference": {"reference": reference}}


def data(meaning: str, *references: str) -> list[dict[str, Any]]:
    return [{"meaning": meaning, "reference": {"reference": each}} for each in references]


def consent(
    type_: str = "permit", *exceptions: dict[str, Any], purpose: Any = TPO, **base: Any
) -> dict[str, Any]:
    """A consent of the patient with the base policy, as all of PCF's examples are."""
    provision = {"type": type_, **({"purpose": purpose} if purpose else {}), **base}
    return {
        "resourceType": "Consent",
        "id": "ex",
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/ex-patient"},
        "dateTime": "2022-06-13",
        "performer": [{"reference": "Patient/ex-patient"}],
        "organization": [{"reference": "Organization/ex-organization"}],
        "sourceReference": {"reference": "DocumentReference/ex-documentreference"},
        "policy": [{"uri": "http://example.org/policies/basePrivacyConsentPolicy.txt"}],
        "provision": provision | ({"provision": list(exceptions)} if exceptions else {}),
    }


EXAMPLES: dict[str, dict[str, Any]] = {
    "basic-treat": consent(),
    "basic-treat-infant": consent() | {"performer": [{"reference": "RelatedPerson/ex-mother"}]},
    "basic-ink": consent() | {"sourceReference": {"reference": "DocumentReference/ex-consent-ink"}},
    "expired-treat": consent(period={"end": "2022-12-31"}),
    "basic-reject": consent("deny"),
    "basic-research": consent(purpose=[{"system": REASON, "code": "HRESCH"}]),
    "intermediate-timeframe": consent(dataPeriod={"start": "2022-01", "end": "2022-12"}),
    "intermediate-not-timeframe": consent(
        "permit", {"type": "deny", "dataPeriod": {"start": "2022-01", "end": "2022-12"}}
    ),
    "intermediate-data": consent(data=data("instance", "Observation/ex-weight", "Observation/ex-bloodSugar")),
    "intermediate-not-data": consent(
        "permit", {"type": "deny", "data": data("instance", "Observation/ex-alcoholUse")}
    ),
    "intermediate-encounter": consent(data=data("related", "Encounter/ex-encounter")),
    "intermediate-not-encounter": consent(
        "permit", {"type": "deny", "data": data("related", "Encounter/ex-encounter")}
    ),
    "intermediate-authoredby": consent(data=data("authoredby", "Practitioner/ex-practitioner")),
    "intermediate-not-authoredby": consent(
        "permit", {"type": "deny", "data": data("authoredby", "Practitioner/ex-practitioner")}
    ),
    "intermediate-purpose": consent(
        purpose=[{"system": "http://example.org/policies/purposeOfUse", "code": "FooBar"}],
        actor=[actor("Organization/ex-org-researcher")],
    ),
    "dissent-intermediate-break-glass": consent(
        "deny",
        {
            "type": "permit",
            "purpose": [{"system": REASON, "code": "BTG"}],
            "actor": [actor("Group/ex-privilegedUsers")],
        },
    ),
    "advanced-normal": consent(securityLabel=labels("N")),
    "advanced-normal-restricted": consent(securityLabel=labels("N", "R")),
    "advanced-normal-not-restricted": consent(
        "permit", {"type": "deny", "securityLabel": labels("R")}, securityLabel=labels("N")
    ),
    "advanced-normal-focused-restricted": consent(
        "permit",
        {"type": "permit", "securityLabel": labels("R"), "actor": [actor("Practitioner/ex-practitioner")]},
        securityLabel=labels("N"),
    ),
    "advanced-normal-focused-psy": consent(
        "permit",
        {"type": "permit", "securityLabel": labels("PSY"), "actor": [actor("Practitioner/ex-practitioner")]},
        securityLabel=labels("N"),
    ),
    "advanced-normal-focused-psy-or-sdv": consent(
        "permit",
        {
            "type": "permit",
            "securityLabel": labels("PSY", "SDV"),
            "actor": [actor("Practitioner/ex-practitioner")],
        },
        securityLabel=labels("N"),
    ),
    "advanced-normal-break-glass-restricted": consent(
        "permit",
        {
            "type": "permit",
            "securityLabel": labels("R"),
            "purpose": [{"system": REASON, "code": "BTG"}],
            "actor": [actor("Group/ex-privilegedUsers")],
        },
        securityLabel=labels("N"),
    ),
}


def observation(*codes: str, id_: str = "ex-weight", day: str = "2021-05-01", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "meta": {"security": labels(*codes)},
        "subject": {"reference": "Patient/ex-patient"},
        "effectiveDateTime": day,
        "performer": [{"reference": "Practitioner/another"}],
    } | more


VISIT = {"encounter": {"reference": "Encounter/ex-encounter"}}
OTHER_VISIT = {"encounter": {"reference": "Encounter/another"}}
BY_DOCTOR = {"performer": [{"reference": "Practitioner/ex-practitioner"}]}
P, D, NOTHING = Said.PERMIT, Said.DENY, Said.NONE

ANSWERS: list[tuple[str, frozenset[str], str, dict[str, Any], Said]] = [
    ("basic-treat", DOCTOR, "TREAT", observation("N"), P),
    ("basic-treat", ANOTHER, "HPAYMT", observation("R"), P),
    ("basic-treat", DOCTOR, "HRESCH", observation("N"), NOTHING),
    ("basic-treat-infant", DOCTOR, "TREAT", observation("N"), P),
    ("basic-ink", DOCTOR, "HOPERAT", observation("N"), P),
    ("expired-treat", DOCTOR, "TREAT", observation("N"), NOTHING),
    ("basic-reject", DOCTOR, "TREAT", observation("N"), D),
    ("basic-research", ANOTHER, "HRESCH", observation("N"), P),
    ("basic-research", ANOTHER, "TREAT", observation("N"), NOTHING),
    ("intermediate-timeframe", DOCTOR, "TREAT", observation("N", day="2022-07-01"), P),
    ("intermediate-timeframe", DOCTOR, "TREAT", observation("N", day="2021-12-31"), NOTHING),
    ("intermediate-not-timeframe", DOCTOR, "TREAT", observation("N", day="2022-07-01"), D),
    ("intermediate-not-timeframe", DOCTOR, "TREAT", observation("N", day="2023-01-01"), P),
    ("intermediate-data", DOCTOR, "TREAT", observation("N"), P),
    ("intermediate-data", DOCTOR, "TREAT", observation("N", id_="ex-bloodPressure"), NOTHING),
    ("intermediate-not-data", DOCTOR, "TREAT", observation("N", id_="ex-alcoholUse"), D),
    ("intermediate-not-data", DOCTOR, "TREAT", observation("N"), P),
    ("intermediate-encounter", DOCTOR, "TREAT", observation("N", **VISIT), P),
    ("intermediate-encounter", DOCTOR, "TREAT", observation("N", **OTHER_VISIT), NOTHING),
    ("intermediate-not-encounter", DOCTOR, "TREAT", observation("N", **VISIT), D),
    ("intermediate-not-encounter", DOCTOR, "TREAT", observation("N", **OTHER_VISIT), P),
    ("intermediate-authoredby", DOCTOR, "TREAT", observation("N", **BY_DOCTOR), P),
    ("intermediate-authoredby", DOCTOR, "TREAT", observation("N"), NOTHING),
    ("intermediate-not-authoredby", DOCTOR, "TREAT", observation("N", **BY_DOCTOR), D),
    ("intermediate-not-authoredby", DOCTOR, "TREAT", observation("N"), P),
    ("intermediate-purpose", frozenset({"Organization/ex-org-researcher"}), "FooBar", observation("N"), P),
    ("intermediate-purpose", ANOTHER, "FooBar", observation("N"), NOTHING),
    (
        "intermediate-purpose",
        frozenset({"Organization/ex-org-researcher"}),
        "TREAT",
        observation("N"),
        NOTHING,
    ),
    ("dissent-intermediate-break-glass", DOCTOR, "TREAT", observation("N"), D),
    ("dissent-intermediate-break-glass", PRIVILEGED, "BTG", observation("N"), P),
    ("dissent-intermediate-break-glass", PRIVILEGED, "TREAT", observation("N"), D),
    ("dissent-intermediate-break-glass", DOCTOR, "BTG", observation("N"), NOTHING),
    ("advanced-normal", DOCTOR, "TREAT", observation("N"), P),
    ("advanced-normal", DOCTOR, "TREAT", observation("R"), NOTHING),
    ("advanced-normal-restricted", DOCTOR, "TREAT", observation("R"), P),
    ("advanced-normal-restricted", DOCTOR, "TREAT", observation("V"), NOTHING),
    ("advanced-normal-not-restricted", DOCTOR, "TREAT", observation("N"), P),
    ("advanced-normal-not-restricted", DOCTOR, "TREAT", observation("R"), D),
    ("advanced-normal-focused-restricted", DOCTOR, "TREAT", observation("R"), P),
    ("advanced-normal-focused-restricted", ANOTHER, "TREAT", observation("R"), NOTHING),
    ("advanced-normal-focused-restricted", ANOTHER, "TREAT", observation("N"), P),
    ("advanced-normal-focused-psy", DOCTOR, "TREAT", observation("R", "PSY"), P),
    ("advanced-normal-focused-psy", DOCTOR, "TREAT", observation("R", "HIV"), NOTHING),
    ("advanced-normal-focused-psy", ANOTHER, "TREAT", observation("R", "PSY"), NOTHING),
    ("advanced-normal-focused-psy-or-sdv", DOCTOR, "TREAT", observation("R", "SDV"), P),
    ("advanced-normal-focused-psy-or-sdv", DOCTOR, "TREAT", observation("R", "PSY", "HIV"), NOTHING),
    ("advanced-normal-break-glass-restricted", PRIVILEGED, "BTG", observation("R"), P),
    ("advanced-normal-break-glass-restricted", PRIVILEGED, "TREAT", observation("R"), NOTHING),
    ("advanced-normal-break-glass-restricted", DOCTOR, "TREAT", observation("N"), P),
]


@pytest.mark.parametrize(
    ("name", "who", "purpose", "resource", "said"),
    ANSWERS,
    ids=[f"{each[0]}-{number}" for number, each in enumerate(ANSWERS)],
)
def test_1_53_2_an_example_of_the_profile_says_what_it_stands_for(
    name: str, who: frozenset[str], purpose: str, resource: dict[str, Any], said: Said
) -> None:
    question = ConsentQuestion(
        SCOPE, who, frozenset({purpose}), resource["resourceType"], facts_of(resource, frozenset())
    )
    found = answer([EXAMPLES[name]], question, NOW, ConsentReading())
    assert found.said is said
    assert (found.ids == {"ex"}) is (said is not NOTHING)


def test_1_53_2_every_example_has_an_answer() -> None:
    assert {each[0] for each in ANSWERS} == set(EXAMPLES)
