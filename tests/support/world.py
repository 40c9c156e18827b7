"""The fixture world of the attack cases: patients A (own), B (stranger), C, and what belongs to them.

Every resource of B holds SECRET in narrative, display, identifier and extension: one byte of it in an answer to
A is a leak. Made anew for each test, so that no test can spoil it for another.
"""

from typing import Any

SECRET = "SECRET-B"
Resource = dict[str, Any]

_LOINC = "http://loinc.org"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_LABELS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"


def _marked(resource: Resource) -> Resource:
    """The same resource with the marker in every kind of place where text can hide."""
    return resource | {
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{SECRET}</div>'},
        "identifier": [{"system": "urn:mrn", "value": SECRET}],
        "extension": [{"url": "urn:example:note", "valueString": SECRET}],
    }


def _observation(id: str, patient: str, category: str, **more: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": id,
        "meta": {"versionId": "1", "lastUpdated": "2026-01-02T03:04:05Z"},
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": category}]}],
        "code": {"coding": [{"system": _LOINC, "code": "4548-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueQuantity": {"value": 6.30, "unit": "%"},
    } | more


def world() -> dict[str, Resource]:
    """Every resource by 'Type/id'."""
    own = {"display": "Own Person"}
    foreign = {"reference": "Patient/B", "display": SECRET}
    resources: list[Resource] = [
        {"resourceType": "Patient", "id": "A", "meta": {"versionId": "1"}, "name": [{"family": "Own"}]},
        _marked(
            {"resourceType": "Patient", "id": "B", "meta": {"versionId": "1"}, "name": [{"family": SECRET}]}
        ),
        _marked(
            {"resourceType": "Patient", "id": "C", "meta": {"versionId": "1"}, "name": [{"family": SECRET}]}
        ),
        _observation("a1", "A", "laboratory", subject={"reference": "Patient/A"} | own),
        _observation("a-vitals", "A", "vital-signs"),
        _observation(
            "a-mh",
            "A",
            "survey",
            meta={
                "versionId": "1",
                "security": [{"system": _CONFIDENTIALITY, "code": "R"}, {"system": _LABELS, "code": "PSY"}],
            },
        ),
        _marked(_observation("b1", "B", "laboratory", subject=foreign)),
        _marked(
            _observation("ab", "B", "laboratory", subject=foreign, performer=[{"reference": "Patient/A"}])
        ),
        _marked({"resourceType": "Encounter", "id": "eb", "status": "finished", "subject": foreign}),
        _marked(
            {"resourceType": "Task", "id": "b", "status": "requested", "intent": "order", "for": foreign}
        ),
        _marked({"resourceType": "Device", "id": "d-b", "patient": foreign}),
        _marked(
            {
                "resourceType": "Coverage",
                "id": "fam",
                "status": "active",
                "beneficiary": foreign,
                "subscriber": {"reference": "Patient/A"},
            }
        ),
        _marked(
            {
                "resourceType": "List",
                "id": "mix",
                "status": "current",
                "mode": "working",
                "subject": {"reference": "Patient/A"},
                "entry": [
                    {"item": {"reference": "Observation/a1"}},
                    {"item": {"reference": "Observation/b1", "display": SECRET}},
                ],
            }
        ),
        _marked(
            {
                "resourceType": "Group",
                "id": "g",
                "type": "person",
                "actual": True,
                "member": [{"entity": {"reference": "Patient/A"}}, {"entity": foreign}],
            }
        ),
        {"resourceType": "Practitioner", "id": "dr1", "name": [{"family": "One"}]},
        {"resourceType": "Practitioner", "id": "dr2", "name": [{"family": "Two"}]},
        {"resourceType": "Organization", "id": "h1", "name": "Hospital One"},
    ]
    return {f"{resource['resourceType']}/{resource['id']}": resource for resource in resources}
