"""Members that R4 does not know, at any depth (FHIR R4 2.6.2)."""

from typing import Any

import pytest

from gateway.fhir.known_elements import check_elements, unknown_element
from gateway.fhir.outcome import FhirError

WHOLE: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "x",
    "meta": {"security": [{"system": "urn:x", "code": "N"}]},
    "text": {"status": "generated", "div": "<div/>"},
    "status": "final",
    "_status": {"id": "s", "extension": [{"url": "urn:x", "valueCode": "masked"}]},
    "valueQuantity": {"value": 1, "_value": {"extension": [{"url": "urn:x", "valueBoolean": True}]}},
    "component": [{"code": {"text": "c"}, "valueString": "v"}],
    "contained": [{"resourceType": "Patient", "id": "p", "contact": [{"name": {"family": "F"}}]}],
}


def test_what_R4_knows_passes_at_every_depth() -> None:
    check_elements(WHOLE)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"Subject": {}}, ("Observation", "Subject")),
        ({"subject ": {}}, ("Observation", "subject ")),
        ({"subject\u200b": {}}, ("Observation", "subject\u200b")),
        ({"__proto__": {}}, ("Observation", "__proto__")),
        ({"constructor": {}}, ("Observation", "constructor")),
        ({"__status": {}}, ("Observation", "__status")),
        ({"value": 1}, ("Observation", "value")),
        ({"birthDate": "2000-01-01"}, ("Observation", "birthDate")),
        ({"subject": {"Reference": "Patient/B"}}, ("Reference", "Reference")),
        ({"subject": {"resourceType": "Patient"}}, ("Reference", "resourceType")),
        ({"component": [{"code": {}}, {"Code": {}}]}, ("Observation.component", "Code")),
        ({"contained": [{"resourceType": "Patient", "status": "x"}]}, ("Patient", "status")),
        ({"_status": {"value": "x"}}, ("Element", "value")),
    ],
)
def test_what_R4_does_not_know_is_found(more: dict[str, Any], place: tuple[str, str]) -> None:
    assert unknown_element(WHOLE | more) == (*place, "")
    with pytest.raises(FhirError) as caught:
        check_elements(WHOLE | more)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"subject": [{"reference": "Patient/A"}]}, "Observation.subject must be one value, and no array"),
        ({"subject": "Patient/A"}, "Observation.subject must be an object"),
        ({"status": {"value": "final"}}, "Observation.status must be a text, a number, true or false"),
        ({"status": ["final"]}, "Observation.status must be one value, and no array"),
        ({"performer": {"reference": "Patient/A"}}, "Observation.performer must be an array"),
        ({"performer": [[{"reference": "Patient/A"}]]}, "Observation.performer must be an object"),
        ({"_status": [{"id": "s"}]}, "Observation._status must be one value, and no array"),
        ({"_status": "s"}, "Observation._status must be an object"),
        ({"meta": 5}, "Observation.meta must be an object"),
        ({"meta": {"security": {"code": "N"}}}, "Meta.security must be an array"),
        ({"contained": {"resourceType": "Patient"}}, "Observation.contained must be an array"),
        (
            {"contained": [{"resourceType": "patient"}]},
            "Observation.contained.resourceType must be a type of R4",
        ),
        ({"contained": [{"id": "p"}]}, "Observation.contained.resourceType must be a type of R4"),
        (
            {"component": [{"code": [{"text": "c"}]}]},
            "Observation.component.code must be one value, and no array",
        ),
    ],
)
def test_what_has_another_form_than_R4_has_is_found(more: dict[str, Any], said: str) -> None:
    with pytest.raises(FhirError) as caught:
        check_elements(WHOLE | more)
    assert (caught.value.status, caught.value.diagnostics) == (422, said)


def test_null_says_nothing_and_has_no_form() -> None:
    check_elements(WHOLE | {"subject": None, "performer": None, "category": [None], "_status": None})
