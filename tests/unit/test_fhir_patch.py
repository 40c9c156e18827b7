"""Patches: RFC 6902 and FHIRPath Patch, whole or not at all, never of type and id."""

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir.fhirpath_patch import fhirpath_patch
from gateway.fhir.json_patch import json_patch, same
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import Number

BASE: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "a1",
    "status": "preliminary",
    "subject": {"reference": "Patient/A"},
    "identifier": [{"system": "urn:s", "value": "1"}, {"system": "urn:t", "value": "2"}],
    "a/b": {"m~n": 1},
}


def refusal(patch: Any, base: dict[str, Any] = BASE) -> Reason:
    with pytest.raises(FhirError) as caught:
        json_patch(base, patch)
    return caught.value.reason


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        ({"op": "replace", "path": "/status", "value": "final"}, {"status": "final"}),
        ({"op": "add", "path": "/issued", "value": "2024"}, {"issued": "2024"}),
        ({"op": "add", "path": "/identifier/-", "value": 3}, {"identifier": [*BASE["identifier"], 3]}),
        ({"op": "add", "path": "/identifier/0", "value": 3}, {"identifier": [3, *BASE["identifier"]]}),
        ({"op": "remove", "path": "/identifier/0"}, {"identifier": BASE["identifier"][1:]}),
        ({"op": "copy", "from": "/status", "path": "/issued"}, {"issued": "preliminary"}),
        ({"op": "replace", "path": "/a~1b/m~0n", "value": 2}, {"a/b": {"m~n": 2}}),
        ({"op": "test", "path": "/identifier/1/value", "value": "2"}, {}),
        (
            {"op": "move", "from": "/identifier/1", "path": "/identifier/0"},
            {"identifier": BASE["identifier"][::-1]},
        ),
    ],
    ids=lambda value: value.get("op") if isinstance(value, dict) and "op" in value else "",
)
def test_RFC6902_each_operation_does_what_it_says(operation: dict[str, Any], changed: dict[str, Any]) -> None:
    before = copy.deepcopy(BASE)
    assert json_patch(BASE, [operation]) == BASE | changed
    assert before == BASE


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/nothing", "value": 1},
        {"op": "remove", "path": "/nothing"},
        {"op": "remove", "path": "/identifier/2"},
        {"op": "remove", "path": "/identifier/-"},
        {"op": "add", "path": "/identifier/3", "value": 1},
        {"op": "add", "path": "/identifier/01", "value": 1},
        {"op": "add", "path": "/nothing/below", "value": 1},
        {"op": "add", "path": "/status/below", "value": 1},
        {"op": "test", "path": "/status", "value": "final"},
        {"op": "move", "from": "/subject", "path": "/subject/reference"},
        {"op": "copy", "from": "/nothing", "path": "/status"},
        {"op": "replace", "path": "", "value": 3},
        {"op": "remove", "path": ""},
    ],
)
def test_RFC6902_what_does_not_fit_fails_whole(operation: dict[str, Any]) -> None:
    first = {"op": "replace", "path": "/identifier/0/value", "value": "9"}
    before = copy.deepcopy(BASE)
    assert refusal([first, operation]) is Reason.PATCH_FAILED
    assert before == BASE


@pytest.mark.parametrize(
    "patch",
    [
        {},
        [],
        ["x"],
        [{"op": "destroy", "path": "/status"}],
        [{"op": ["add"], "path": "/status", "value": 1}],
        [{"op": "add", "path": "status", "value": 1}],
        [{"op": "add", "path": "/st~2atus", "value": 1}],
        [{"op": "add", "path": "/status"}],
        [{"op": "add", "path": 3, "value": 1}],
        [{"op": "replace", "path": "/id", "value": "b1"}],
        [{"op": "remove", "path": "/id"}],
        [{"op": "replace", "path": "/resourceType", "value": "Patient"}],
        [{"op": "replace", "path": "", "value": {"resourceType": "Patient", "id": "B"}}],
        [{"op": "move", "from": "/status", "path": "/id"}],
    ],
    ids=range(14),
)
def test_what_is_no_patch_or_changes_type_or_id_is_an_invalid_body(patch: Any) -> None:
    assert refusal(patch) is Reason.INVALID_BODY


def test_I166_more_operations_than_allowed_are_too_large() -> None:
    assert refusal([{"op": "test", "path": "/status", "value": "final"}] * 201) is Reason.TOO_LARGE


def test_RFC6902_4_6_equal_numbers_are_equal_and_true_is_no_number() -> None:
    assert same(Number("1.50"), Number("1.5"))
    assert same(1, Number("1.0"))
    assert not same(True, 1)
    assert not same(0, False)
    assert not same({"a": 1}, {"a": True})
    assert same([1, {"a": None}], [1, {"a": None}])


def test_I166_copies_that_double_are_bounded() -> None:
    doubling = [{"op": "copy", "from": "/code", "path": f"/code/x{number}"} for number in range(60)]
    with pytest.raises(FhirError) as refusal:
        json_patch({"resourceType": "Basic", "id": "x", "code": {"a": [1, 2]}}, doubling)
    assert refusal.value.reason is Reason.TOO_LARGE


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text("ab/~", min_size=1, max_size=2), PLAIN, max_size=3),
    st.lists(
        st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
            optional={
                "path": st.text("/ab~01-", max_size=6),
                "from": st.text("/ab~01-", max_size=6),
                "value": PLAIN,
            },
        ),
        max_size=4,
    ),
)
def test_any_patch_gives_the_same_resource_changed_or_a_refusal(
    more: dict[str, Any], patch: list[Any]
) -> None:
    base = {**more, "resourceType": "Basic", "id": "x"}
    before = copy.deepcopy(base)
    with suppress(FhirError):
        after = json_patch(base, patch)
        assert (after["resourceType"], after["id"]) == ("Basic", "x")
    assert base == before


# FHIRPath Patch

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "A",
    "birthDate": "1920-01-01",
    "name": [{"use": "official", "family": "Alder"}, {"use": "nickname", "given": ["Anni", "Ann"]}],
    "contact": [{"name": {"text": "a.name"}, "gender": "unknown"}],
}


def operation(**parts: Any) -> dict[str, Any]:
    made = []
    for name, value in parts.items():
        made.append(
            {"name": name, **value} if isinstance(value, dict) else {"name": name, "valueString": value}
        )
    return {"name": "operation", "part": made}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    return fhirpath_patch(PATIENT, {"resourceType": "Parameters", "parameter": list(operations)})


def test_FHIR_3_1_0_9_3_add_delete_replace() -> None:
    assert patched(
        operation(type="replace", path="Patient.birthDate", value={"valueDate": "1930-01-01"})
    ) == (PATIENT | {"birthDate": "1930-01-01"})
    assert "birthDate" not in patched(operation(type="delete", path="Patient.birthDate"))
    assert (
        patched(operation(type="add", path="Patient", name="gender", value={"valueCode": "female"}))["gender"]
        == "female"
    )
    assert patched(operation(type="delete", path="Patient.photo")) == PATIENT


def test_add_appends_where_the_element_repeats_and_takes_anonymous_objects() -> None:
    telecom = {"part": [{"name": "system", "valueCode": "phone"}, {"name": "value", "valueString": "1"}]}
    seen = patched(operation(type="add", path="Patient", name="telecom", value=telecom))
    assert seen["telecom"] == [{"system": "phone", "value": "1"}]
    seen = patched(operation(type="add", path="Patient.name[1]", name="given", value={"valueString": "A."}))
    assert seen["name"][1]["given"] == ["Anni", "Ann", "A."]


def test_paths_choose_by_index_and_by_where() -> None:
    by_where = "Patient.name.where(use='nickname').given[0]"
    assert (
        patched(operation(type="replace", path=by_where, value={"valueString": "X"}))["name"][1]["given"][0]
        == "X"
    )
    assert patched(operation(type="delete", path="Patient.name[0]"))["name"] == PATIENT["name"][1:]
    dotted = "Patient.contact.name.where(text='a.name').text"
    assert (
        patched(operation(type="replace", path=dotted, value={"valueString": "b"}))["contact"][0]["name"][
            "text"
        ]
        == "b"
    )


def test_insert_and_move_keep_the_order_asked_for() -> None:
    new = operation(
        type="insert", path="Patient.name[1].given", index={"valueInteger": 1}, value={"valueString": "M"}
    )
    assert patched(new)["name"][1]["given"] == ["Anni", "M", "Ann"]
    moved = operation(
        type="move", path="Patient.name", source={"valueInteger": 1}, destination={"valueInteger": 0}
    )
    assert [name["use"] for name in patched(moved)["name"]] == ["nickname", "official"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (operation(type="replace", path="Patient.id", value={"valueString": "B"}), Reason.INVALID_BODY),
        (operation(type="delete", path="Patient.name"), Reason.PATCH_FAILED),
        (
            operation(type="add", path="Patient", name="birthDate", value={"valueDate": "2000"}),
            Reason.PATCH_FAILED,
        ),
        (
            operation(type="add", path="Patient", name="birthdate", value={"valueDate": "2000"}),
            Reason.INVALID_BODY,
        ),
        (operation(type="replace", path="Observation.status", value={"valueCode": "x"}), Reason.INVALID_BODY),
        (operation(type="replace", path="Patient.nothing", value={"valueCode": "x"}), Reason.INVALID_BODY),
        (
            operation(type="replace", path="Patient.name.first().use", value={"valueCode": "x"}),
            Reason.INVALID_BODY,
        ),
        (operation(type="replace", path="Patient.gender", value={"valueCode": "x"}), Reason.PATCH_FAILED),
        (
            operation(
                type="insert", path="Patient.name", index={"valueInteger": 9}, value={"valueString": "x"}
            ),
            Reason.PATCH_FAILED,
        ),
        (operation(type="replace", path="Patient.birthDate"), Reason.INVALID_BODY),
        (operation(type="destroy", path="Patient.birthDate"), Reason.INVALID_BODY),
        ({"name": "operation", "part": [{"name": "type", "valueCode": "add"}] * 2}, Reason.INVALID_BODY),
        ({"name": "other", "part": []}, Reason.INVALID_BODY),
    ],
    ids=range(13),
)
def test_what_does_not_fit_is_refused(asked: dict[str, Any], reason: Reason) -> None:
    before = copy.deepcopy(PATIENT)
    with pytest.raises(FhirError) as caught:
        patched(operation(type="delete", path="Patient.contact"), asked)
    assert caught.value.reason is reason
    assert before == PATIENT
