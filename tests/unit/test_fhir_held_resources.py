"""Resources within a resource (FHIR R4 2.36, 2.4.6): nothing that stands somewhere is passed over."""

from typing import Any

import pytest

from gateway.fhir.held_resources import contained_resources, exchanged, held_resources, holds_others
from gateway.proxy.answers.tally import About

PATIENT: dict[str, Any] = {"resourceType": "Patient", "id": "p"}
NAMELESS: dict[str, Any] = {"id": "p"}


@pytest.mark.parametrize(
    ("holder", "held"),
    [
        ({"resourceType": "Bundle"}, []),
        ({"resourceType": "Bundle", "entry": []}, []),
        ({"resourceType": "Bundle", "entry": [{"resource": PATIENT}, {"fullUrl": "x"}]}, [PATIENT]),
        ({"resourceType": "Bundle", "entry": {"resource": PATIENT}}, [PATIENT]),
        ({"resourceType": "Bundle", "entry": [[{"resource": PATIENT}]]}, [PATIENT]),
        ({"resourceType": "Bundle", "entry": [{"resource": [PATIENT]}]}, [PATIENT]),
        ({"resourceType": "Bundle", "entry": [{"resource": NAMELESS}]}, [NAMELESS]),
        ({"resourceType": "Bundle", "entry": [{"response": {"outcome": NAMELESS}}]}, [NAMELESS]),
        ({"resourceType": "Bundle", "entry": ["text", None, 5]}, []),
        ({"resourceType": "Bundle", "other": {"x": PATIENT}}, [PATIENT]),
        ({"resourceType": "Parameters", "parameter": [{"part": [{"resource": PATIENT}]}]}, [PATIENT]),
    ],
)
def test_what_a_holder_holds(holder: dict[str, Any], held: list[Any]) -> None:
    assert held_resources(holder) == held


def test_what_stands_within_what_is_held_is_not_listed_beside_it() -> None:
    inner = {"resourceType": "Observation", "contained": [PATIENT]}
    assert held_resources({"resourceType": "Bundle", "entry": [{"resource": inner}]}) == [inner]


@pytest.mark.parametrize(
    ("contained", "found"),
    [([PATIENT], [PATIENT]), (PATIENT, [PATIENT]), ([[PATIENT], None, "x"], [PATIENT, "x"]), (None, [])],
)
def test_what_is_contained_in_whatever_form(contained: Any, found: list[Any]) -> None:
    assert contained_resources({"resourceType": "Observation", "contained": contained}) == found


@pytest.mark.parametrize(
    ("resource", "holds"),
    [
        ({"resourceType": "Procedure", "outcome": {"text": "x"}}, False),
        ({"resourceType": "ImplementationGuide", "definition": {"resource": [{"name": "x"}]}}, False),
        ({"resourceType": "Encounter", "contained": [PATIENT]}, True),
        ({"resourceType": "Encounter", "contained": [NAMELESS]}, True),
        ({"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}, True),
        ({"resourceType": "Parameters", "parameter": [{"name": "x", "resource": PATIENT}]}, True),
    ],
)
def test_whether_a_resource_holds_others(resource: dict[str, Any], holds: bool) -> None:
    assert holds_others(resource) is holds


def test_the_record_names_everybody_whom_a_bundle_is_about() -> None:
    about = About()
    result = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/A"}}
    inner = {"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}
    about.note({"resourceType": "Bundle", "entry": [{"resource": result}, {"resource": inner}]}, frozenset())
    assert about.record()["patients"] == ["A", "p"]


def test_what_is_held_is_exchanged_wherever_it_stands() -> None:
    holder = {
        "resourceType": "Bundle",
        "entry": [{"resource": PATIENT}, [{"response": {"outcome": NAMELESS}}], {"fullUrl": "x"}],
        "other": {"y": [[PATIENT]]},
    }
    found = exchanged(holder, lambda inner: {"seen": inner["id"]})
    assert (
        held_resources(found) == [{"seen": "p"}] * 2
    )  # one of the three has no type any more, where a type tells it
    assert found["other"] == {"y": [[{"seen": "p"}]]}
    assert exchanged(holder, lambda inner: inner) == holder


def test_what_is_not_kept_beside_what_is_held_goes_with_what_it_leaves_empty() -> None:
    holder = {
        "resourceType": "Parameters",
        "parameter": [{"name": "a", "valueIdentifier": {"value": "x"}}, {"empty": {}}, {"resource": PATIENT}],
    }
    found = exchanged(holder, lambda inner: inner, lambda name, value: value != "x")
    assert found["parameter"] == [{"name": "a"}, {"empty": {}}, {"resource": PATIENT}]
