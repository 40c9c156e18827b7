"""Operations by POST: what Parameters say is what a query would say, or it is refused."""

import json
from typing import Any

import pytest

from gateway.fhir import parameters
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request import canonical_text
from tests.support.policies import ask


def body(*given: dict[str, Any]) -> bytes:
    return json.dumps({"resourceType": "Parameters", "parameter": list(given)}).encode()


def refusal(asked: FhirRequest, raw: bytes) -> Reason:
    with pytest.raises(FhirError) as caught:
        parameters.as_read(asked, raw)
    return caught.value.reason


@pytest.mark.parametrize(
    ("line", "given", "read"),
    [
        ("/Patient/A/$everything", [], "/Patient/A/$everything"),
        ("/Patient/A/$everything", [{"name": "_type", "valueCode": "Patient"}, {
            "name": "_type", "valueCode": "Observation"}],
         "/Patient/A/$everything?_type=Patient,Observation"),
        ("/Patient/A/$everything?_count=9", [{"name": "start", "valueDate": "2026-01-01"}, {
            "name": "_since", "valueInstant": "2026-01-01T00:00:00Z"}],
         "/Patient/A/$everything?_count=9&start=2026-01-01&_since=2026-01-01T00:00:00Z"),
        ("/Patient/A/$everything", [{"name": "_count", "valueInteger": 5}], "/Patient/A/$everything?_count=5"),
        ("/Observation/$lastn", [{"name": "patient", "valueString": "A"}, {"name": "max", "valuePositiveInt": 3}, {
            "name": "category", "valueString": "urn:x|laboratory,vital-signs"}],
         "/Observation/$lastn?patient=A&max=3&category=urn:x|laboratory,vital-signs"),
        ("/DocumentReference/$docref", [{"name": "patient", "valueId": "A"}, {"name": "type", "valueCodeableConcept": {
            "coding": [{"system": "http://loinc.org", "code": "34133-9", "display": "Summary"}]}}],
         "/DocumentReference/$docref?patient=A&type=http://loinc.org|34133-9"),
        ("/Group/g/$export", [{"name": "_type", "valueString": "Patient"}, {
            "name": "_typeFilter", "valueString": "Observation?category=laboratory"}],
         "/Group/g/$export?_typeFilter=Observation%3Fcategory%3Dlaboratory&_type=Patient"),
    ],
)  # fmt: skip
def test_parameters_are_read_as_the_query_that_says_the_same(line: str, given: list[Any], read: str) -> None:
    posted = ask(f"POST {line}")
    assert parameters.reads_by_post(posted)
    assert canonical_text(parameters.as_read(posted, body(*given))) == canonical_text(ask(f"GET {read}"))


def test_a_post_without_a_body_has_no_parameter() -> None:
    assert parameters.as_read(ask("POST /Patient/A/$everything"), b"") == ask("GET /Patient/A/$everything")


@pytest.mark.parametrize(
    "line",
    [
        "/Patient/$everything",
        "/$everything",
        "/Patient/A/$merge",
        "/Observation/$validate",
        "/Patient/A/$export",
    ],
)
def test_what_may_not_be_asked_by_get_is_not_read_as_one(line: str) -> None:
    assert not parameters.reads_by_post(ask(f"POST {line}"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "_type", "valueCode": "Patient"}, Reason.AMBIGUOUS_QUERY),
        ({"name": "_elements", "valueString": "id"}, Reason.UNSUPPORTED_PARAMETER),
        ({"name": "patient", "valueReference": {"reference": "Patient/B"}}, Reason.INVALID_BODY),
        ({"name": "_since", "valueInstant": "2026-01-01T00:00:00Z", "extension": []}, Reason.INVALID_BODY),
        ({"name": "_since", "part": []}, Reason.INVALID_BODY),
        ({"name": "type", "valueCodeableConcept": {"coding": [{"code": "a,b"}]}}, Reason.INVALID_BODY),
        (
            {"name": "type", "valueCodeableConcept": {"coding": [{"code": "a"}, {"code": "b"}]}},
            Reason.INVALID_BODY,
        ),
        ({"name": "type", "valueCodeableConcept": {"text": "x"}}, Reason.INVALID_BODY),
    ],
)
def test_a_parameter_with_another_reading_is_refused(given: dict[str, Any], reason: Reason) -> None:
    assert refusal(ask("POST /Patient/A/$everything?_type=Observation"), body(given)) is reason


def test_a_criterion_in_query_and_body_is_refused_whatever_its_modifier() -> None:
    asked = ask("POST /Observation/$lastn?code=x")
    assert refusal(asked, body({"name": "code:not", "valueString": "y"})) is Reason.AMBIGUOUS_QUERY


def test_a_validation_by_parameters_is_that_of_the_resource_in_them() -> None:
    note = {"resourceType": "Observation", "status": "final"}
    asked = ask("POST /Observation/a1/$validate")
    told, raw = parameters.validated(
        asked, body({"name": "resource", "resource": note}, {"name": "mode", "valueCode": "update"})
    )
    assert json.loads(raw) == note
    assert canonical_text(told) == "POST /Observation/a1/$validate?mode=update"
    assert parameters.validated(asked, raw) == (asked, raw)


@pytest.mark.parametrize(
    "given",
    [
        [{"name": "resource", "resource": {"resourceType": "Patient"}}] * 2,
        [{"name": "resource", "valueString": "x"}],
        [{"name": "resource", "resource": []}],
        [{"name": "resource", "resource": {"resourceType": "Patient"}, "part": []}],
    ],
)
def test_a_validation_without_one_resource_is_refused(given: list[dict[str, Any]]) -> None:
    with pytest.raises(FhirError) as caught:
        parameters.validated(ask("POST /Patient/$validate"), body(*given))
    assert caught.value.reason is Reason.INVALID_BODY
