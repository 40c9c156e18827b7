"""What the elements of a provision ask of a resource: labels, dates, authors, data, codes, class, and of an actor."""

from typing import Any

import pytest

from gateway.consents.consent import SCOPES, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import answer
from gateway.consents.resource_facts import ResourceFacts, facts_of
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER

NOW = 1_800_000_000
BASE = "https://fhir.hospital.example/fhir"
LOINC = "http://loinc.org"
TYPES = "http://hl7.org/fhir/resource-types"


def label(*codes: str) -> list[dict[str, str]]:
    return [{"system": CONFIDENTIALITY if code in ORDER else ACT_CODE, "code": code} for code in codes]


def resource(*labels: str, type_: str = "Observation", **more: Any) -> dict[str, Any]:
    found = {"resourceType": type_, "id": "o", "subject": {"reference": "Patient/A"}}
    return found | ({"meta": {"security": label(*labels)}} if labels else {}) | more


def concept(code: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def data(meaning: str, reference: str) -> dict[str, Any]:
    return {"meaning": meaning, "reference": {"reference": reference}}


def said(
    kind: str, of: dict[str, Any] | None, *, actors: frozenset[str] | None = None, **elements: Any
) -> str:
    """What one consent of this base says about a resource; with reading as it is configured for unlabelled: N."""
    facts = None if of is None else facts_of(of, frozenset({BASE}))
    type_ = None if of is None else of["resourceType"]
    question = ConsentQuestion((SCOPES, "patient-privacy"), actors, frozenset({"TREAT"}), type_, facts)
    consent = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "provision": {"type": kind, **elements},
    }
    return str(answer([consent], question, NOW, ConsentReading(frozenset({BASE}), frozenset(), 3)).said)


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    # element, resource, what a permit says, what a denial says
    ("normal is met by normal", {"securityLabel": label("N")}, resource("N"), "permit", "deny"),
    (
        "a permit of normal is none of restricted, a denial is",
        {"securityLabel": label("N")},
        resource("R"),
        "none",
        "deny",
    ),
    (
        "a permit of restricted is one of normal, a denial is not",
        {"securityLabel": label("R")},
        resource("N"),
        "permit",
        "none",
    ),
    ("very restricted is above", {"securityLabel": label("R")}, resource("V"), "none", "deny"),
    ("of several the highest permits", {"securityLabel": label("N", "R")}, resource("R"), "permit", "deny"),
    ("what has no label is taken as configured", {"securityLabel": label("N")}, resource(), "permit", "deny"),
    (
        "a sensitivity without a level is above all",
        {"securityLabel": label("R")},
        resource("PSY"),
        "none",
        "deny",
    ),
    ("a sensitivity", {"securityLabel": label("PSY")}, resource("R", "PSY"), "permit", "deny"),
    ("a kind of a sensitivity", {"securityLabel": label("ETH")}, resource("ETHUD"), "permit", "deny"),
    ("another sensitivity", {"securityLabel": label("PSY")}, resource("R", "HIV"), "none", "none"),
    (
        "two of which one is permitted",
        {"securityLabel": label("PSY")},
        resource("PSY", "HIV"),
        "none",
        "deny",
    ),
    ("two that both are", {"securityLabel": label("PSY", "HIV")}, resource("PSY", "HIV"), "permit", "deny"),
    (
        "labels that cannot be read",
        {"securityLabel": label("V")},
        resource(meta={"security": ["R"]}),
        "none",
        "deny",
    ),
    (
        "a level that nobody knows",
        {"securityLabel": [{"system": CONFIDENTIALITY, "code": "X"}]},
        resource("U"),
        "none",
        "deny",
    ),
    (
        "a date within",
        {"dataPeriod": {"start": "2022-01", "end": "2022-12"}},
        resource(effectiveDateTime="2022-12-31"),
        "permit",
        "deny",
    ),
    (
        "a date before",
        {"dataPeriod": {"start": "2022-01", "end": "2022-12"}},
        resource(issued="2021-12-31T23:59:59Z"),
        "none",
        "none",
    ),
    (
        "a date after",
        {"dataPeriod": {"start": "2022-01", "end": "2022-12"}},
        resource(issued="2023-01-01T00:00:00Z"),
        "none",
        "none",
    ),
    (
        "a period that goes on",
        {"dataPeriod": {"end": "2022"}},
        resource(effectivePeriod={"start": "2022-12-31"}),
        "none",
        "deny",
    ),
    (
        "one date within and one not",
        {"dataPeriod": {"end": "2022"}},
        resource(effectiveDateTime="2022", issued="2023-01-01T00:00:00Z"),
        "none",
        "deny",
    ),
    ("no date", {"dataPeriod": {"end": "2022"}}, resource(), "none", "deny"),
    (
        "a date that is none",
        {"dataPeriod": {"end": "2022"}},
        resource(effectiveDateTime="spring"),
        "none",
        "deny",
    ),
    (
        "a period that is none",
        {"dataPeriod": {"end": "soon"}},
        resource(effectiveDateTime="2020"),
        "none",
        "deny",
    ),
    (
        "the patient is of no period",
        {"dataPeriod": {"end": "2022"}},
        resource(type_="Patient"),
        "none",
        "none",
    ),
    ("the resource itself", {"data": [data("instance", "Observation/o")]}, resource(), "permit", "deny"),
    (
        "by its URL and version",
        {"data": [data("instance", f"{BASE}/Observation/o/_history/2")]},
        resource(),
        "permit",
        "deny",
    ),
    ("another one", {"data": [data("instance", "Observation/other")]}, resource(), "none", "none"),
    (
        "one of another store",
        {"data": [data("instance", "https://elsewhere.example/Observation/o")]},
        resource(),
        "none",
        "deny",
    ),
    ("no meaning", {"data": [{"reference": {"reference": "Observation/o"}}]}, resource(), "none", "deny"),
    (
        "within the visit",
        {"data": [data("related", "Encounter/e")]},
        resource(encounter={"reference": "Encounter/e"}),
        "permit",
        "deny",
    ),
    (
        "the visit itself",
        {"data": [data("related", "Encounter/o")]},
        resource(type_="Encounter"),
        "permit",
        "deny",
    ),
    (
        "within another visit",
        {"data": [data("related", "Encounter/e")]},
        resource(encounter={"reference": "Encounter/f"}),
        "none",
        "none",
    ),
    ("within no visit", {"data": [data("related", "Encounter/e")]}, resource(), "none", "none"),
    (
        "within a visit told in words",
        {"data": [data("related", "Encounter/e")]},
        resource(encounter={"display": "in spring"}),
        "none",
        "deny",
    ),
    (
        "within a visit by identifier",
        {"data": [data("related", "Encounter/e")]},
        resource(partOf=[{"identifier": {"value": "7"}}]),
        "none",
        "deny",
    ),
    (
        "a visit that may be of the episode",
        {"data": [data("related", "EpisodeOfCare/x")]},
        resource(encounter={"reference": "Encounter/f"}),
        "none",
        "deny",
    ),
    (
        "an episode of its own",
        {"data": [data("related", "EpisodeOfCare/x")]},
        resource(type_="Encounter", episodeOfCare=[{"reference": "EpisodeOfCare/x"}]),
        "permit",
        "deny",
    ),
    (
        "what a report refers to is not told",
        {"data": [data("related", "DiagnosticReport/r")]},
        resource(),
        "none",
        "deny",
    ),
    (
        "what refers to it",
        {"data": [data("dependents", "Observation/p")]},
        resource(derivedFrom=[{"reference": "Observation/p"}]),
        "permit",
        "deny",
    ),
    ("what does not", {"data": [data("dependents", "Observation/p")]}, resource(), "none", "none"),
    (
        "by its author",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(performer=[{"reference": "Practitioner/p"}]),
        "permit",
        "deny",
    ),
    (
        "by another author",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(performer=[{"reference": "Practitioner/q"}]),
        "none",
        "none",
    ),
    ("by nobody who is named", {"data": [data("authoredby", "Practitioner/p")]}, resource(), "none", "deny"),
    (
        "by somebody in words",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(performer=[{"display": "Dr P"}]),
        "none",
        "deny",
    ),
    (
        "by a role that may be his",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(performer=[{"reference": "PractitionerRole/r"}]),
        "none",
        "deny",
    ),
    (
        "by a member of the house",
        {"data": [data("authoredby", "Organization/h")]},
        resource(performer=[{"reference": "Practitioner/q"}]),
        "none",
        "deny",
    ),
    (
        "who is asked to do it is no author",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(type_="ServiceRequest", performer=[{"reference": "Practitioner/p"}]),
        "none",
        "deny",
    ),
    (
        "an actor within",
        {"data": [data("authoredby", "Practitioner/p")]},
        resource(type_="Procedure", performer=[{"actor": {"reference": "Practitioner/p"}}]),
        "permit",
        "deny",
    ),
    ("its code", {"code": [concept("1-1")]}, resource(code=concept("1-1")), "permit", "deny"),
    ("another code", {"code": [concept("1-1")]}, resource(code=concept("2-2")), "none", "none"),
    (
        "a code of another system",
        {"code": [concept("1-1")]},
        resource(code=concept("1-1", "urn:other")),
        "none",
        "none",
    ),
    (
        "a code of no system",
        {"code": [concept("1-1")]},
        resource(code={"coding": [{"code": "1-1"}]}),
        "none",
        "deny",
    ),
    (
        "a code within a part",
        {"code": [concept("1-1")]},
        resource(code=concept("2-2"), component=[{"code": concept("1-1")}]),
        "none",
        "deny",
    ),
    ("a code in words", {"code": [concept("1-1")]}, resource(code={"text": "sugar"}), "none", "deny"),
    ("the class", {"class": [{"system": TYPES, "code": "Observation"}]}, resource(), "permit", "deny"),
    ("another class", {"class": [{"system": TYPES, "code": "Condition"}]}, resource(), "none", "none"),
    (
        "a kind of document",
        {"class": [{"system": LOINC, "code": "1-1"}]},
        resource(type_="Composition", type=concept("1-1")),
        "permit",
        "deny",
    ),
    (
        "another kind of document",
        {"class": [{"system": LOINC, "code": "1-1"}]},
        resource(type_="Composition", type=concept("2-2")),
        "none",
        "none",
    ),
    (
        "a kind of document that is none",
        {"class": [{"system": LOINC, "code": "1-1"}]},
        resource(code=concept("1-1")),
        "none",
        "none",
    ),
    ("an element that nobody knows", {"dataSubject": "x"}, resource(), "none", "deny"),
    ("an element that is empty", {"code": []}, resource(code=concept("1-1")), "none", "deny"),
]


@pytest.mark.parametrize(
    ("elements", "of", "permit", "deny"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_an_element_is_about_a_resource(
    elements: dict[str, Any], of: dict[str, Any], permit: str, deny: str
) -> None:
    assert said("permit", of, **elements) == permit
    assert said("deny", of, **elements) == deny


@pytest.mark.parametrize(
    ("reference", "actors", "permit", "deny"),
    [
        ({"reference": "Practitioner/p"}, {"Practitioner/p"}, "permit", "deny"),
        ({"reference": f"{BASE}/Practitioner/p"}, {"Practitioner/p"}, "permit", "deny"),
        ({"reference": "Practitioner/q"}, {"Practitioner/p"}, "none", "none"),
        ({"reference": "Organization/h"}, {"Practitioner/p", "Organization/h"}, "permit", "deny"),
        ({"reference": "Organization/h"}, {"Practitioner/p", "Organization/i"}, "none", "none"),
        ({"reference": "Organization/h"}, {"Practitioner/p"}, "none", "deny"),
        ({"reference": "CareTeam/t"}, {"Practitioner/p"}, "none", "deny"),
        ({"reference": "PractitionerRole/r"}, {"PractitionerRole/r"}, "permit", "deny"),
        ({"reference": "Device/d"}, {"Device/d"}, "permit", "deny"),
        ({"reference": "RelatedPerson/m"}, {"RelatedPerson/m"}, "permit", "deny"),
        ({"identifier": {"system": "urn:c", "value": "app"}}, {"app"}, "permit", "deny"),
        ({"identifier": {"system": "urn:c", "value": "app"}}, {"urn:c|app"}, "permit", "deny"),
        ({"identifier": {"system": "urn:c", "value": "app"}}, {"other"}, "none", "none"),
        ({"reference": "Practitioner/q"}, None, "none", "deny"),
    ],
)
def test_an_actor_is_one_of_the_names_of_the_caller(
    reference: dict[str, Any], actors: set[str] | None, permit: str, deny: str
) -> None:
    asked = None if actors is None else frozenset(actors)
    element = [{"reference": reference}]
    assert said("permit", resource(), actors=asked, actor=element) == permit
    assert said("deny", resource(), actors=asked, actor=element) == deny


def test_a_caller_of_whom_a_name_cannot_be_told_may_be_whom_a_denial_names() -> None:
    question = ConsentQuestion(
        (SCOPES, "patient-privacy"), frozenset({"Practitioner/p"}), frozenset(), "Observation", None, True
    )
    consent = {
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
        "provision": {"type": "deny", "actor": [{"reference": {"reference": "Practitioner/q"}}]},
    }
    assert answer([consent], question, NOW).said is Said.DENY
    assert (
        answer([consent | {"provision": consent["provision"] | {"type": "permit"}}], question, NOW).said
        is Said.NONE
    )  # type: ignore[operator]


def test_labels_that_could_not_be_had_are_doubt() -> None:
    facts = ResourceFacts(resource("N"), frozenset(), None)
    question = ConsentQuestion((SCOPES, "patient-privacy"), None, frozenset(), "Observation", facts)
    for kind, expected in (("permit", Said.NONE), ("deny", Said.DENY)):
        consent = {
            "status": "active",
            "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
            "provision": {"type": kind, "securityLabel": label("V")},
        }
        assert answer([consent], question, NOW).said is expected
