"""Patients and visits as people choose among them, and what people type as criteria."""

from typing import Any
from urllib.parse import parse_qsl

import pytest

from authz.login.finding import Choice
from gateway.pickers.choices import began, encounter_choice, patient_choice
from gateway.pickers.words import TooManyWords, criteria

BASE = "https://fhir.example/fhir/r4"
RECORD_NUMBER = {"type": {"coding": [{"code": "MR"}]}, "value": "12-34"}


def patient(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": "A"} | members


def encounter(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Encounter", "id": "E", "subject": {"reference": "Patient/A"}} | members


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (patient(name=[{"family": "Own", "given": ["Anna", "M."]}]), "Anna M. Own"),
        (patient(name=[{"text": "Anna  Own"}], birthDate="1980-05-01"), "Anna Own, born 1 May 1980"),
        (patient(name=[{"text": "Old"}, {"use": "official", "text": "New"}]), "New"),
        (patient(name=[{"text": "x"}], birthDate="1980-05"), "x, born May 1980"),
        (patient(name=[{"text": "x"}], birthDate="1980"), "x, born 1980"),
        (patient(name=[{"text": "x"}], birthDate="1980-13-45"), "x"),
        (patient(name=[{"text": "x"}], birthDate=1980), "x"),
        (patient(name=[{"text": "x"}], identifier=[{"value": "secret"}, RECORD_NUMBER]), "x, number 12-34"),
        (patient(), "Patient A"),  # a view hides the name: the id is all there is
        (patient(name="Own"), "Patient A"),
        (patient(name=[None, {"given": [7], "family": None}]), "Patient A"),
        (patient(name=[{"text": "a\u202eb\nc"}]), "ab c"),
        (patient(name=[{"text": "x" * 500}]), "x" * 120),
    ],
)
def test_a_patient_in_words(resource: dict[str, Any], words: str):
    found = patient_choice(resource)
    assert found is not None
    assert (found.id, found.words) == ("A", words)


@pytest.mark.parametrize(
    "resource",
    [
        None,
        [],
        {"resourceType": "OperationOutcome", "id": "A"},
        {"resourceType": "Patient"},
        {"resourceType": "Patient", "id": 7},
        {"resourceType": "Patient", "id": "A/../B"},
        {"resourceType": "Person", "id": "A"},
    ],
)
def test_what_is_no_patient_cannot_be_chosen(resource: object):
    assert patient_choice(resource) is None


@pytest.mark.parametrize(
    ("resource", "choice"),
    [
        (encounter(), Choice("E", "Visit")),
        (encounter(type=[{"text": "Check-up"}]), Choice("E", "Check-up")),
        (encounter(type=[{}, {"coding": [{"display": "Surgery"}]}]), Choice("E", "Surgery")),
        (encounter(**{"class": {"code": "EMER", "display": "emergency"}}), Choice("E", "emergency")),
        (encounter(**{"class": {"code": "EMER"}}), Choice("E", "EMER")),
        (
            encounter(period={"start": "2026-03-05T11:00:00+01:00"}),
            Choice("E", "Visit", "5 March 2026, 11:00"),
        ),
        (
            encounter(period={"start": "2026-03-05", "end": "2026-03-09"}),
            Choice("E", "Visit", "5 March 2026 to 9 March 2026"),
        ),
        (
            encounter(period={"start": "2026-03-05T11:00:00Z", "end": "2026-03-05T11:15:00Z"}),
            Choice("E", "Visit", "5 March 2026, 11:00"),
        ),
        (encounter(period={"end": "2026-03-09"}), Choice("E", "Visit")),
        (encounter(subject={"reference": f"{BASE}/Patient/A"}), Choice("E", "Visit")),
    ],
)
def test_a_visit_in_words(resource: dict[str, Any], choice: Choice):
    assert encounter_choice(resource, "A", base=BASE) == choice


@pytest.mark.parametrize(
    "resource",
    [
        encounter(subject={"reference": "Patient/B"}),
        encounter(subject={"reference": "Patient/AB"}),
        encounter(subject={"reference": "https://elsewhere.example/Patient/A"}),
        encounter(subject={"reference": "Group/A"}),
        encounter(subject={"display": "Anna"}),
        encounter(subject=None),  # a view hides whose it is
        encounter(id="E/1"),
        patient(),
        None,
    ],
)
def test_a_visit_that_is_not_surely_this_patients_cannot_be_chosen(resource: object):
    assert encounter_choice(resource, "A", base=BASE) is None


def test_visits_are_put_in_order_by_their_beginning():
    one, two = encounter(period={"start": "2026-01-01"}), encounter(period={"start": "2026-02-01T08:00:00Z"})
    assert sorted([one, two, encounter(), None], key=began, reverse=True)[:2] == [two, one]


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("anna", [("name", "anna")]),
        ("anna own", [("name", "anna"), ("name", "own")]),
        ("own 1980-05-01", [("name", "own"), ("birthdate", "1980-05-01")]),
        ("12-34", [("identifier", "12-34")]),
        ("1980-05", [("identifier", "1980-05")]),
        ("", []),
        # One word is one literal value, whatever stands in it.
        ("a,b", [("name", "a\\,b")]),
        ("urn:x|7", [("identifier", "urn:x\\|7")]),
        ("a$b\\c", [("name", "a\\$b\\\\c")]),
        ("a&_include=Patient:link", [("name", "a&_include=Patient:link")]),
        ("ø", [("name", "ø")]),
    ],
)
def test_words_become_criteria_that_all_must_match(words: str, terms: list[tuple[str, str]]):
    assert parse_qsl(criteria(words, count=21)) == [*terms, ("_count", "21")]


def test_a_search_has_six_words_at_most():
    assert criteria("a b c d e f", count=1)
    with pytest.raises(TooManyWords):
        criteria("a b c d e f g", count=1)
