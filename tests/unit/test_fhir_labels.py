"""Security labels: the order of confidentiality, sensitivities and their kinds, and what is unclear counts as closed."""

from typing import Any

import pytest

from gateway.fhir.labels import (
    ABOVE_ALL,
    ACT_CODE,
    CONFIDENTIALITY,
    ORDER,
    Label,
    LabelCondition,
    confidentiality,
    labels_of,
    read_label,
)

NORMAL = ORDER.index("N")


def labelled(*codings: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "meta": {"security": list(codings)}, **more}


def secrecy(code: str, system: str = CONFIDENTIALITY) -> dict[str, str]:
    return {"system": system, "code": code}


def sensitive(code: str) -> dict[str, str]:
    return {"system": ACT_CODE, "code": code}


@pytest.mark.parametrize(
    ("code", "passes"), [("U", True), ("L", True), ("M", True), ("N", True), ("R", False), ("V", False)]
)
def test_at_most_is_an_order(code: str, passes: bool) -> None:
    assert LabelCondition(at_most=NORMAL).holds(labelled(secrecy(code))) is passes


def test_the_highest_of_several_labels_counts() -> None:
    assert not LabelCondition(at_most=NORMAL).holds(labelled(secrecy("N"), secrecy("V")))


@pytest.mark.parametrize("code", ["X", "", "n", "RESTRICTED"])
def test_a_code_that_the_order_does_not_know_is_above_all(code: str) -> None:
    assert not LabelCondition(at_most=ORDER.index("V")).holds(labelled(secrecy(code)))


@pytest.mark.parametrize(
    "system", ["http://hl7.org/fhir/v3/Confidentiality", "urn:oid:2.16.840.1.113883.5.25", ""]
)
def test_older_names_of_the_code_system_and_none_are_the_same(system: str) -> None:
    assert not LabelCondition(at_most=NORMAL).holds(labelled(secrecy("R", system)))


def test_without_a_label_the_policy_says_what_to_take_it_for() -> None:
    plain = {"resourceType": "Condition"}
    assert LabelCondition(at_most=NORMAL, unlabelled=NORMAL).holds(plain)
    assert not LabelCondition(at_most=NORMAL).holds(plain)
    assert not LabelCondition(at_most=NORMAL, unlabelled=ABOVE_ALL).holds(labelled(sensitive("PSY")))


def test_any_of_and_without() -> None:
    special = frozenset({read_label("v3-ActCode|PSY"), read_label("v3-ActCode|HIV")})
    assert LabelCondition(any_of=special).holds(labelled(secrecy("R"), sensitive("HIV")))
    assert not LabelCondition(any_of=special).holds(labelled(secrecy("R")))
    assert not LabelCondition(without=special).holds(labelled(sensitive("PSY")))
    assert LabelCondition(without=special).holds(labelled(sensitive("SDV")))


def test_a_kind_of_a_sensitivity_is_that_sensitivity() -> None:
    condition = LabelCondition(any_of=frozenset({Label(ACT_CODE, "SUD")}))
    assert condition.holds(labelled(sensitive("OPIOIDUD")))
    assert not condition.holds(labelled(sensitive("BH")))


def test_a_code_of_another_system_is_another_label() -> None:
    condition = LabelCondition(any_of=frozenset({Label(ACT_CODE, "PSY")}))
    assert not condition.holds(labelled({"system": "http://example.org", "code": "PSY"}))
    assert condition.holds(labelled({"code": "PSY"}))


def test_labels_of_contained_resources_and_of_elements_count() -> None:
    inner = labelled(secrecy("V"), id="c")
    assert not LabelCondition(at_most=NORMAL).holds(labelled(secrecy("N"), contained=[inner]))
    inline = {
        "url": "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label",
        "valueCoding": sensitive("HIV"),
    }
    assert Label(ACT_CODE, "HIV") in labels_of(labelled(note=[{"text": "x", "extension": [inline]}]))


@pytest.mark.parametrize(
    "meta", ["x", [1], {"security": ["x"]}, {"security": [{"code": 3}]}, {"security": "R"}]
)
def test_labels_that_cannot_be_read_are_an_error_not_an_absence(meta: Any) -> None:
    with pytest.raises(ValueError, match=r"meta|label"):
        labels_of({"resourceType": "Condition", "meta": meta})


@pytest.mark.parametrize("text", ["PSY", "|PSY", "v3-ActCode|", "v3-Actcode|PSY"])
def test_a_label_of_a_policy_names_system_and_code(text: str) -> None:
    with pytest.raises(ValueError, match=r"label|code system"):
        read_label(text)


def test_confidentiality_of_nothing_is_what_is_said_of_it() -> None:
    assert confidentiality([], 3) == 3
