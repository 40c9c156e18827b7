"""Views: what is hidden is nowhere in what goes out; unions of permits, and denies that always win."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir.definitions import members
from gateway.fhir.resource import Number
from gateway.policy.copies import Copies
from gateway.policy.view import WHOLE, Paths, Precision, UnknownElement, View, paths_of, see

SECRET = "Kolossale Verschwiegenheit"


def observation(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "meta": {"versionId": "3", "security": [{"code": "PSY"}]},
        "text": {"status": "generated", "div": f"<div>{SECRET}</div>"},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2", "display": "Height"}]},
        "subject": {"reference": "Patient/A", "display": "Anna Alder"},
        "effectiveDateTime": "2024-05-31T10:11:12Z",
        "_effectiveDateTime": {"extension": [{"url": "u", "valueString": "at ten"}]},
        "valueQuantity": {"value": Number("181.50"), "unit": "cm"},
        "note": [{"text": SECRET, "authorString": "Dr. Who"}],
        **more,
    }


def hidden(*elements: str) -> View:
    return View(hide=paths_of("Observation", elements))


def only(*elements: str) -> View:
    return View(only=paths_of("Observation", elements))


def said(value: Any) -> str:
    return json.dumps(value, default=lambda number: number.text)


def test_a_whole_view_gives_the_very_object() -> None:
    resource = observation()
    assert see(resource, [WHOLE]) is resource
    assert see(resource, [hidden("Observation.bodySite")]) is resource


def test_hide_takes_the_element_and_its_narrative() -> None:
    seen = see(observation(), [hidden("Observation.note")])
    assert "note" not in seen
    assert "text" not in seen
    assert SECRET not in said(seen)
    assert seen["valueQuantity"] == {"value": Number("181.50"), "unit": "cm"}


LABEL = {
    "url": "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label",
    "valueCoding": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "HIV"},
}
OTHER = {"url": "urn:x", "valueCode": "kept"}


@pytest.mark.parametrize(
    "labelled",
    [
        {"extension": [LABEL]},
        {"_status": {"extension": [LABEL]}},
        {"note": [{"text": "x", "extension": [LABEL, OTHER]}]},
        {"component": [{"code": {"text": "x", "extension": [LABEL]}}]},
        {"modifierExtension": [OTHER, LABEL]},
        {"extension": [{"url": "urn:y", "extension": [LABEL]}]},
        {"meta": {"extension": [LABEL]}},
    ],
)
def test_who_sees_no_labels_sees_none_of_an_element_either(labelled: dict[str, Any]) -> None:
    resource = observation(**labelled)
    denied = paths_of("Observation", ["Observation.meta.security"])
    for seen in (
        see(resource, [WHOLE], denied=denied),
        see(resource, [hidden("Observation.meta.security")]),
        see(
            resource,
            [hidden("Observation.meta"), only("Observation.status", "Observation.note", "Observation.code")],
        ),
    ):
        assert "HIV" not in said(seen)
        assert "SUBSETTED" in said(seen)
    assert "HIV" in said(see(resource, [hidden("Observation.bodySite")]))
    assert "kept" not in said(labelled) or "kept" in said(see(resource, [WHOLE], denied=denied))


@given(
    st.lists(st.text("abc", min_size=5, max_size=9), min_size=17, max_size=60, unique=True),
    st.text("abc", max_size=30),
)
@settings(max_examples=300, deadline=None)
def test_among_many_hidden_texts_a_copy_is_found_as_among_few(hidden_texts: list[str], text: str) -> None:
    copies = Copies()
    copies.take(hidden_texts)
    assert copies.repeats({"text": text}) is any(each in text for each in hidden_texts)


def div(text: str) -> dict[str, str]:
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'}


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"<p>{SECRET.upper()}</p>",
        "Kolos<b>sale</b> Verschwiegenheit",
        "Kolossale<br/>Verschwiegenheit",
        "Kolossale &#86;erschwiegenheit",
        "Kolossale\n      Verschwiegenheit",
    ],
)
def test_a_narrative_within_that_repeats_what_is_hidden_is_withheld(text: str) -> None:
    told = {"resourceType": "Observation", "id": "c", "text": div(text)}
    silent = {"resourceType": "Observation", "id": "d", "text": div("Nothing of it")}
    seen = see(observation(contained=[told, silent]), [hidden("Observation.note")])
    assert seen["contained"][0]["text"]["status"] == "empty"
    assert "erschwiegenheit" not in said(seen).casefold()
    assert seen["contained"][1] == silent


def test_a_section_that_repeats_what_is_hidden_is_withheld() -> None:
    composition = {
        "resourceType": "Composition",
        "id": "k",
        "title": SECRET,
        "section": [{"text": div(f"About: {SECRET}"), "section": [{"text": div("else")}]}],
    }
    seen = see(composition, [View(hide=paths_of("Composition", ["Composition.title"]))])
    assert SECRET not in said(seen)
    assert seen["section"][0]["section"] == [{"text": div("else")}]


@pytest.mark.parametrize(
    "copy",
    [
        {"payload": [{"contentString": f"re: {SECRET}"}]},
        {"dosageInstruction": [{"patientInstruction": SECRET}]},
        {"prediction": [{"rationale": SECRET}]},
        {"summary": SECRET},
        {"action": [{"textEquivalent": SECRET}]},
    ],
)
def test_free_text_of_whatever_name_does_not_repeat_what_is_hidden(copy: dict[str, Any]) -> None:
    seen = see(observation(**copy), [hidden("Observation.note")])
    assert SECRET not in said(seen)


def test_what_was_changed_is_tagged_as_a_subset_once() -> None:
    seen = see(observation(), [hidden("Observation.note")])
    assert [tag["code"] for tag in seen["meta"]["tag"]] == ["SUBSETTED"]
    assert seen["meta"]["versionId"] == "3"
    again = see(seen | {"note": [{"text": "x"}]}, [hidden("Observation.note")])
    assert [tag["code"] for tag in again["meta"]["tag"]] == ["SUBSETTED"]


def test_a_choice_is_hidden_under_each_of_its_names() -> None:
    view = hidden("Observation.value")
    names = [key for key in members("Observation") if key.startswith("value")]
    assert len(names) == 11  # FHIR R4: Observation.value[x]
    for name in names:
        assert name not in see(observation(**{name: "x"}), [view])


def test_the_sibling_of_a_hidden_primitive_goes_with_it() -> None:
    seen = see(observation(), [hidden("Observation.effective")])
    assert "effectiveDateTime" not in seen
    assert "_effectiveDateTime" not in seen


@pytest.mark.parametrize(
    "copy",
    [
        {"extension": [{"url": "u", "valueString": SECRET}]},
        {"extension": [{"url": "u", "extension": [{"url": "v", "valueMarkdown": f"see: {SECRET.upper()}"}]}]},
        {"interpretation": [{"text": SECRET}]},
        {"performer": [{"reference": "Practitioner/1", "display": f"{SECRET}, Dr."}]},
        {"component": [{"code": {"coding": [{"display": SECRET}]}}]},
        {
            "bodySite": {
                "coding": [{"code": "x", "_display": {"extension": [{"url": "u", "valueString": SECRET}]}}]
            }
        },
    ],
    ids=["extension", "nested extension", "text", "display", "deep display", "extension of a primitive"],
)
def test_copies_of_what_is_hidden_go_too(copy: dict[str, Any]) -> None:
    seen = see(observation(**copy), [hidden("Observation.note")])
    assert SECRET.casefold() not in said(seen).casefold()
    assert seen["status"] == "final"


def test_a_hidden_number_is_not_left_in_an_extension() -> None:
    resource = observation(
        extension=[{"url": "u", "valueDecimal": Number("181.50")}, {"url": "v", "valueCode": "kept"}]
    )
    seen = see(resource, [hidden("Observation.value")])
    assert seen["extension"] == [{"url": "v", "valueCode": "kept"}]


def test_only_shows_what_is_named_and_the_type() -> None:
    seen = dict(see(observation(), [only("Observation.status", "Observation.code.coding.code")]))
    meta = seen.pop("meta")
    assert seen == {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"code": "8302-2"}]},
    }
    assert set(meta) == {"tag"}


def test_only_of_something_below_a_primitive_shows_nothing_of_it() -> None:
    seen = see(observation(code="a text where an object belongs"), [only("Observation.code.coding")])
    assert "code" not in seen


def test_two_permits_show_the_union() -> None:
    seen = see(observation(), [only("Observation.status"), only("Observation.note")])
    assert (seen["status"], seen["note"][0]["text"]) == ("final", SECRET)
    assert "valueQuantity" not in seen
    assert (
        see(observation(), [hidden("Observation.note"), only("Observation.note")])["note"][0]["text"]
        == SECRET
    )


def test_a_denied_field_wins_over_every_permit() -> None:
    denied = paths_of("Observation", ["Observation.meta.security"])
    seen = see(observation(), [WHOLE, only("Observation.meta")], denied=denied)
    assert "security" not in seen["meta"]
    assert seen["meta"]["versionId"] == "3"
    assert "PSY" not in said(seen)


def test_without_a_permit_nothing_but_the_type_is_seen() -> None:
    assert set(see(observation(), [])) == {"resourceType", "meta"}


@pytest.mark.parametrize(
    ("precision", "left"),
    [(Precision.YEAR, "2024"), (Precision.MONTH, "2024-05"), (Precision.DAY, "2024-05-31")],
)
def test_a_date_is_rounded_with_its_sibling_gone(precision: Precision, left: str) -> None:
    view = View(rounded=paths_of("Observation", ["Observation.effective"], precision))
    seen = see(observation(), [view])
    assert seen["effectiveDateTime"] == left
    assert "_effectiveDateTime" not in seen
    assert "10:11:12" not in said(seen)


def test_both_ends_of_a_period_are_rounded() -> None:
    view = View(rounded=paths_of("Observation", ["Observation.effective"], Precision.MONTH))
    period = {
        "start": "2024-05-31",
        "end": "2024-06-01T00:00:00Z",
        "extension": [{"url": "u", "valueDate": "2024-05-31"}],
    }
    seen = see({"resourceType": "Observation", "effectivePeriod": period}, [view])
    assert seen["effectivePeriod"] == {"start": "2024-05", "end": "2024-06"}


def test_of_two_roundings_the_finer_is_seen_and_none_beats_both() -> None:
    year = View(rounded=paths_of("Observation", ["Observation.effective"], Precision.YEAR))
    day = View(rounded=paths_of("Observation", ["Observation.effective"], Precision.DAY))
    assert see(observation(), [year, day])["effectiveDateTime"] == "2024-05-31"
    assert see(observation(), [year, WHOLE])["effectiveDateTime"] == "2024-05-31T10:11:12Z"


def test_references_to_nameless_types_display_nothing() -> None:
    seen = see(observation(), [WHOLE], nameless=frozenset({"Patient"}))
    assert seen["subject"] == {"reference": "Patient/A"}
    assert "Anna" not in said(seen)
    assert see(observation(), [WHOLE], nameless=frozenset({"Group"}))["subject"]["display"] == "Anna Alder"


def test_a_reference_that_does_not_say_its_type_counts_as_nameless() -> None:
    resource = observation(performer=[{"identifier": {"value": "1"}, "display": "Anna Alder"}])
    seen = see(resource, [WHOLE], nameless=frozenset({"Patient"}))
    assert "display" not in seen["performer"][0]


def test_a_contained_resource_that_is_not_shown_leaves_no_copy() -> None:
    resource = observation(
        contained=[{"resourceType": "Patient", "id": "p", "name": [{"family": "Geheimnistuer"}]}],
        performer=[{"reference": "#p", "display": "Herr Geheimnistuer"}],
    )
    seen = see(resource, [WHOLE], contained=lambda inner: None)
    assert "Geheimnistuer" not in said(seen)
    assert see(resource, [WHOLE], contained=lambda inner: inner) is resource


@pytest.mark.parametrize(
    "element", ["Patient.birthdate", "Observation", "Nothing.at", "Observation.value.colour"]
)
def test_an_element_that_R4_does_not_have_is_no_path(element: str) -> None:
    with pytest.raises(UnknownElement):
        paths_of("Observation", [element])


TEXT = st.text("abcdefghijklmnop", min_size=6, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    kept=st.dictionaries(st.sampled_from(["status", "issued", "bodySite"]), TEXT, max_size=3),
    taken=st.lists(TEXT, min_size=1, max_size=3),
    places=st.lists(st.sampled_from(["text", "extension", "display", "method"]), max_size=4),
)
def test_what_was_hidden_is_in_no_byte_of_what_is_seen(
    kept: dict[str, str], taken: list[str], places: list[str]
) -> None:
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        **kept,
        "note": [{"text": text} for text in taken],
    }
    copies = {
        "text": {"text": {"div": f"<p>{taken[0]}</p>"}},
        "extension": {"extension": [{"url": "u", "valueString": f"({taken[0]})"}]},
        "display": {"subject": {"reference": "Patient/A", "display": taken[0]}},
        "method": {"method": {"text": f"by {taken[0]}"}},
    }
    for place in places:
        resource |= copies[place]
    seen = see(resource, [View(hide=paths_of("Observation", ["Observation.note"]))])
    shown = {key: value for key, value in seen.items() if key not in kept}
    assert not any(text in said(shown) for text in taken)
    assert {key: seen[key] for key in kept} == kept


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["status", "code", "note", "subject", "value", "effective", "meta"]), max_size=4
    ),
    st.lists(
        st.sampled_from(["status", "code", "note", "subject", "value", "effective", "meta"]), max_size=4
    ),
)
def test_P5_one_more_permit_never_hides_anything(first: list[str], second: list[str]) -> None:
    one = View(only=paths_of("Observation", [f"Observation.{name}" for name in first]))
    two = View(only=paths_of("Observation", [f"Observation.{name}" for name in second]))
    assert set(see(observation(), [one])) <= set(see(observation(), [one, two]))


def test_an_empty_tree_says_nothing() -> None:
    assert Paths().at("anything") is None
