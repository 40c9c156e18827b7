"""gateway.fhir.compartment: whose a resource is."""

from typing import Any

import pytest

from gateway.fhir.compartment import (
    MEMBERSHIPS,
    compartment_term,
    compartment_test,
    in_compartment,
    may_be_in_compartment,
    narrows_exactly,
    subject_parameter,
)
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment
from tests.support.world import world

A = frozenset({"A"})
BASES = frozenset({"https://gw.example/fhir/r4", "http://upstream:8080/fhir"})


def _memberships(resource: dict[str, Any]) -> list[str]:
    return [each for each in MEMBERSHIPS if in_compartment(resource, A, membership=each, bases=BASES)]


@pytest.mark.parametrize(
    ("key", "memberships"),
    [
        ("Patient/A", ["subject", "spec", "all"]),
        ("Patient/B", []),
        ("Observation/a1", ["subject", "spec", "all"]),
        ("Observation/b1", []),
        ("Observation/ab", ["spec"]),  # about B, performed by A
        ("Coverage/fam", ["spec"]),  # beneficiary B, subscriber A
        ("Group/g", ["spec"]),  # members A and B
        ("List/mix", ["subject", "spec", "all"]),
        ("Encounter/eb", []),
        ("Task/b", []),
        ("Device/d-b", []),
        ("Practitioner/dr1", []),
    ],
)
def test_membership_in_the_fixture_world(key: str, memberships: list[str]) -> None:
    assert _memberships(world()[key]) == memberships


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/A",
        "Patient/A/_history/3",
        "https://gw.example/fhir/r4/Patient/A",
        "HTTPS://GW.example:443/fhir/r4/Patient/A",
        "http://upstream:8080/fhir/Patient/A/_history/3",
    ],
)
def test_a_literal_reference_to_the_stores_own_patient_counts(reference: str) -> None:
    assert "subject" in _memberships({"resourceType": "Observation", "subject": {"reference": reference}})


@pytest.mark.parametrize(
    "subject",
    [
        {"reference": "Patient/B"},
        {"reference": "http://elsewhere/fhir/Patient/A"},
        {"reference": "http://upstream:8081/fhir/Patient/A"},
        {"reference": "http://upstream:8080/fhir2/Patient/A"},
        {"reference": "http://user@upstream:8080/fhir/Patient/A"},
        {"reference": "http://upstream:8080/fhir/../Patient/A"},
        {"reference": "http://upstream:8080/fhir/x/../Patient/A"},
        {"reference": "patient/A"},
        {"reference": "Patient/A/"},
        {"reference": "Patient/A/_history/"},
        {"reference": "Patient/a"},
        {"reference": " Patient/A"},
        {"reference": "Patient/A\n"},
        {"reference": "/Patient/A"},
        {"reference": "../Patient/A"},
        {"reference": "Patient/B/../A"},
        {"reference": "Patient?identifier=A"},
        {"reference": "#A"},
        {"reference": "urn:uuid:A"},
        {"reference": "Group/A"},
        {"reference": ["Patient/A"]},
        {"reference": None},
        {"display": "Patient/A"},
        {"identifier": {"value": "A"}, "type": "Patient"},
        {"type": "Patient", "id": "A"},
        "Patient/A",
        [],
        None,
    ],
)
def test_nothing_else_makes_a_resource_ones_own(subject: object) -> None:
    resource = {
        "resourceType": "Observation",
        "subject": subject,
        "contained": [{"resourceType": "Patient", "id": "A"}],
    }
    assert _memberships(resource) == []


@pytest.mark.parametrize(
    "other",
    [
        {"reference": "Patient/B"},
        {"reference": "Patient/B/_history/1"},
        {"reference": "http://elsewhere/fhir/Patient/A"},
        {"reference": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"},
        {"reference": "#missing"},
        {"type": "Patient", "identifier": {"value": "x"}},
        [{"reference": "Patient/B"}],
        "text",
    ],
)
def test_all_fails_by_one_reference_that_may_be_a_strangers(other: object) -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/A"},
        "performer": [other],
        "contained": [{"resourceType": "Group", "id": "g"}],
    }
    assert _memberships(resource) == ["subject", "spec"]


@pytest.mark.parametrize(
    "inner",
    [
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "Patient", "id": "A"},
        {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/B"}},
        {"resourceType": "RelatedPerson", "id": "r", "patient": {"reference": "Patient/B"}},
        {"resourceType": "Device", "id": "d", "patient": {"reference": "Patient/B"}},
        {"resourceType": "Task", "id": "t", "for": {"reference": "http://elsewhere/fhir/Patient/A"}},
        {"resourceType": "Device", "id": "d", "patient": {"type": "Patient", "identifier": {"value": "B"}}},
        {"resourceType": "Encounter", "id": "e", "contained": [{"resourceType": "Patient", "id": "p"}]},
        {
            "resourceType": "Bundle",
            "id": "b",
            "entry": [{"resource": {"resourceType": "Patient", "id": "p"}}],
        },
        {"resourceType": "patient", "id": "p"},
        {"id": "p"},
    ],
)
def test_a_contained_stranger_makes_a_resource_nobodys_own(inner: object) -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/A"}}
    assert _memberships(resource | {"contained": [inner]}) == ["spec"]
    assert _memberships(resource | {"contained": inner}) == ["spec"]


@pytest.mark.parametrize(
    "inner",
    [
        {"resourceType": "Practitioner", "id": "dr"},
        {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/A"}},
        {"resourceType": "Observation", "id": "o"},
        {"resourceType": "Device", "id": "d", "patient": {"reference": "Patient/A"}},
        {"resourceType": "Device", "id": "d", "owner": {"reference": "Organization/B"}},
        {"resourceType": "Organization", "id": "o", "partOf": {"reference": "urn:uuid:x"}},
    ],
)
def test_what_else_is_contained_is_as_its_container(inner: object) -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/A"}, "contained": [inner]}
    assert _memberships(resource) == ["subject", "spec", "all"]


@pytest.mark.parametrize(
    "other",
    [
        {"reference": "Patient/A"},
        {"reference": "Practitioner/x"},
        {"reference": "http://elsewhere/fhir/Practitioner/x"},
        {"reference": "#dr"},
        {"display": "somebody"},
    ],
)
def test_all_lets_pass_what_is_certainly_no_other_patient(other: object) -> None:
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "Patient/A"},
        "performer": [other],
        "contained": [{"resourceType": "Practitioner", "id": "dr"}],
    }
    assert _memberships(resource) == ["subject", "spec", "all"]


def test_a_fragment_within_what_is_contained_is_of_the_container() -> None:
    inner = {"resourceType": "Observation", "id": "o", "performer": [{"reference": "#dr"}]}
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/A"}}
    doctor = {"resourceType": "Practitioner", "id": "dr"}
    assert _memberships(resource | {"contained": [inner, doctor]}) == ["subject", "spec", "all"]
    assert _memberships(resource | {"contained": [inner]}) == ["spec"]


@pytest.mark.parametrize(
    ("items", "memberships"),
    [
        ([], ["subject", "spec", "all"]),
        (["Observation/b", "Patient/A", "urn:uuid:x"], ["subject", "spec", "all"]),
        (["Patient/A", "Patient/B"], ["spec"]),
        (["http://elsewhere/fhir/Patient/A"], ["spec"]),
    ],
)
def test_a_list_of_another_patient_is_nobodys_own(items: list[str], memberships: list[str]) -> None:
    entry = [{"item": {"reference": each}} for each in items]
    listed = {"resourceType": "List", "id": "l", "subject": {"reference": "Patient/A"}, "entry": entry}
    assert _memberships(listed) == memberships
    test = compartment_test("List", frozenset({"A"}), membership="subject", bases=BASES)
    assert test(listed) is ("subject" in memberships)
    assert not narrows_exactly("List", "subject")


def test_a_subject_of_several_people_is_nobodys_own() -> None:
    both = [{"reference": "Patient/A"}, {"reference": "Patient/B"}]
    assert _memberships({"resourceType": "Account", "subject": both}) == ["spec"]
    assert _memberships({"resourceType": "Observation", "subject": both}) == ["spec"]
    mixed = [{"reference": "Patient/A"}, {"reference": "Organization/o"}]
    assert _memberships({"resourceType": "Account", "subject": mixed}) == ["subject", "spec", "all"]


def test_a_linked_patient_is_another_patient() -> None:
    patient = {
        "resourceType": "Patient",
        "id": "B",
        "link": [{"other": {"reference": "Patient/A"}, "type": "seealso"}],
    }
    assert _memberships(patient) == []


@pytest.mark.parametrize("type", [None, 5, "patient", "Resource", ["Patient"]])
def test_an_unknown_type_is_nobodys(type: object) -> None:
    assert _memberships({"resourceType": type, "id": "A", "subject": {"reference": "Patient/A"}}) == []
    assert _memberships({"id": "A"}) == []


def test_no_patients_no_members() -> None:
    own = world()["Observation/a1"]
    assert not in_compartment(own, frozenset(), membership="spec", bases=BASES)
    assert not in_compartment(world()["Patient/A"], frozenset(), membership="spec", bases=BASES)
    assert not in_compartment({"resourceType": "Patient"}, A, membership="spec", bases=BASES)


def test_an_unknown_membership_is_an_error() -> None:
    with pytest.raises(ValueError):
        in_compartment(world()["Observation/a1"], A, membership="any", bases=BASES)


@pytest.mark.parametrize(
    ("type", "membership", "expected"),
    [
        ("Observation", "subject", "subject=Patient/A,Patient/C"),
        ("Condition", "subject", "patient=Patient/A,Patient/C"),
        ("Coverage", "subject", "beneficiary=Patient/A,Patient/C"),
        ("ResearchSubject", "subject", "individual=Patient/A,Patient/C"),
        ("Patient", "spec", "_id=A,C"),
        ("Observation", "spec", None),
        ("Observation", "all", None),
        ("Encounter", "spec", "patient=Patient/A,Patient/C"),
        ("Appointment", "spec", "actor=Patient/A,Patient/C"),
        ("Appointment", "subject", None),
        ("Group", "subject", None),
        ("Organization", "subject", None),
        ("Task", "spec", None),
    ],
)
def test_the_term_that_narrows_a_search(type: str, membership: str, expected: str | None) -> None:
    term = compartment_term(type, {"C", "A"}, membership)
    assert (None if term is None else f"{term.name}={term.text}") == expected


@pytest.mark.parametrize(
    "patients", [(), ("",), ("*",), ("A,B",), ("Patient/A",), ("A&subject=B",), ("..",), ("A" * 65,)]
)
def test_Q276_a_term_is_never_made_of_nothing_or_of_what_is_no_id(patients: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        compartment_term("Observation", patients, "subject")


@pytest.mark.parametrize("membership", ["subject", "spec", "all"])
@pytest.mark.parametrize(
    ("subject", "may_be"),
    [
        ({"identifier": {"system": "urn:mrn", "value": "A"}}, True),
        ({"identifier": {"system": "urn:mrn", "value": "A"}, "display": "x"}, True),
        ({"identifier": {"system": "urn:mrn", "value": "A"}, "type": "Patient"}, True),
        ({"identifier": {"system": "urn:mrn", "value": "A"}, "type": "Group"}, False),
        ({"identifier": {"system": "urn:mrn", "value": "A"}, "reference": "Patient/B"}, False),
        ({"reference": "Patient/B"}, False),
        ({"display": "x"}, False),
    ],
)
def test_what_closes_holds_where_the_subject_is_known_by_an_identifier_alone(
    subject: dict[str, Any], may_be: bool, membership: str
) -> None:
    resource = {"resourceType": "Observation", "subject": subject}
    asked: dict[str, Any] = {"membership": membership, "bases": frozenset[str]()}
    assert may_be_in_compartment(resource, frozenset({"A"}), **asked) is may_be
    other = {"subject": {"reference": "Patient/B"}, "performer": [subject]}
    if "type" not in subject:  # who did it is as often said by an identifier, and is no patient
        assert not may_be_in_compartment(resource | other, frozenset({"A"}), **asked)


def test_whatever_the_term_finds_alone_the_judge_accepts_where_counts_may_be_shown() -> None:
    assert narrows_exactly("Observation", "subject")
    assert narrows_exactly("Patient", "all")
    for type, membership in [
        ("Account", "subject"),
        ("Provenance", "subject"),
        ("Observation", "all"),
        ("Group", "all"),
        ("Organization", "spec"),
    ]:
        assert not narrows_exactly(type, membership), type


def test_each_subject_is_one_of_the_compartments_parameters() -> None:
    for type in RESOURCE_TYPES - {"Patient"}:
        code = subject_parameter(type)
        assert code is None or code in patient_compartment(type)
    without = {
        type for type in RESOURCE_TYPES if patient_compartment(type) and subject_parameter(type) is None
    }
    assert without == {"Appointment", "AppointmentResponse", "Group", "Schedule"}
