"""What is left of a resource by _elements and _summary, and what they may say."""

from typing import Any

import pytest

from gateway.fhir import request, request_target
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import shape_of, shaped
from tests.support.policies import ask

TAG = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "a1",
    "meta": {"versionId": "1", "tag": [{"code": "own"}]},
    "implicitRules": "urn:rules",
    "text": {"status": "generated", "div": "<div/>"},
    "status": "final",
    "_status": {"id": "s"},
    "code": {"text": "c"},
    "subject": {"reference": "Patient/A"},
    "valueString": "x",
    "_valueString": {"id": "v"},
    "note": [{"text": "n"}],
}
ALWAYS = {"resourceType", "id", "meta", "implicitRules", "status", "_status", "code"}


def left(query: str, resource: dict[str, Any] = OBSERVATION) -> dict[str, Any]:
    shape = shape_of(ask(f"GET /{resource['resourceType']}?{query}").terms)
    assert shape is not None
    return shaped(resource, shape)


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("_elements=note", {"note"}),
        ("_elements=value", {"valueString", "_valueString"}),
        ("_elements=Observation.note,Patient.name", {"note"}),
        ("_elements=id", set()),
        ("_summary=text", {"text"}),
        ("_summary=true", {"subject", "valueString", "_valueString"}),
        ("_summary=data", {"subject", "valueString", "_valueString", "note"}),
    ],
)
def test_a_shape_leaves_what_is_asked_for_and_what_must_be_there(query: str, more: set[str]) -> None:
    before = repr(OBSERVATION)
    found = left(query)
    assert found.keys() == ALWAYS | more
    assert found["meta"] == {"versionId": "1", "tag": [{"code": "own"}, TAG]}
    assert repr(OBSERVATION) == before


def test_the_tag_is_there_once_and_of_a_resource_without_meta_too() -> None:
    once = left("_elements=note")
    assert left("_elements=note", once)["meta"]["tag"].count(TAG) == 1
    assert left("_summary=true", {"resourceType": "Patient", "id": "A"})["meta"] == {"tag": [TAG]}


@pytest.mark.parametrize("query", ["_summary=false", "", "_count=3"])
def test_without_a_shape_resources_leave_whole(query: str) -> None:
    assert shape_of(ask(f"GET /Observation?{query}").terms) is None


@pytest.mark.parametrize(
    "text", ["GET /Observation?{}", "GET /Observation/a1?{}", "GET /Observation/a1/_history/1?{}"]
)
@pytest.mark.parametrize("query", ["_elements=subject", "_summary=text", "_summary=false"])
def test_the_store_is_asked_for_whole_resources(text: str, query: str) -> None:
    assert "?" not in request_target.upstream_target(ask(text.format(query)))


def test_a_form_asks_for_whole_resources_too() -> None:
    form = request.with_form(
        ask("POST /Observation/_search"), request.FORM_TYPE, b"_elements=subject&code=x&_summary=false"[:24]
    )
    assert request_target.upstream_form(form) == b"code=x"
    assert shape_of(form.terms) is not None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("GET /Observation?_elements=nothing", Reason.INVALID_PARAMETER),
        ("GET /Observation?_elements=code.text", Reason.INVALID_PARAMETER),
        ("GET /Observation?_elements=Patient.subject", Reason.INVALID_PARAMETER),
        ("GET /Observation?_elements=", Reason.INVALID_PARAMETER),
        ("GET /Observation?_elements:exclude=subject", Reason.UNKNOWN_PARAMETER),
        ("GET /Observation/a1?_elements:exclude=subject", Reason.UNSUPPORTED_PARAMETER),
        ("GET /Observation?_summary=false&_elements=code", Reason.INVALID_PARAMETER),
        ("GET /Observation?_summary=some", Reason.INVALID_PARAMETER),
        ("GET /Observation?_summary:x=true", Reason.UNSUPPORTED_PARAMETER),
        ("GET /Observation/a1?_summary=count", Reason.INVALID_PARAMETER),
        ("GET /Observation/a1/_history?_elements=code", Reason.UNSUPPORTED_PARAMETER),
        ("GET /Observation?_total=some", Reason.INVALID_PARAMETER),
        ("GET /Observation/a1?_total=none", Reason.UNSUPPORTED_PARAMETER),
        ("PUT /Observation?_elements=code&_id=x", Reason.UNSUPPORTED_PARAMETER),
        ("DELETE /Observation?_include=Observation:subject", Reason.UNSUPPORTED_PARAMETER),
        ("DELETE /Observation?subject:Patient.name=x", Reason.UNSUPPORTED_PARAMETER),
        ("PUT /Patient?_has:Observation:subject:code=x", Reason.UNSUPPORTED_PARAMETER),
    ],
)
def test_a_shape_that_means_nothing_is_refused(text: str, reason: Reason) -> None:
    with pytest.raises(FhirError) as refusal:
        ask(text)
    assert refusal.value.reason is reason
