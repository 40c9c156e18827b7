"""What a caller asks for: `_format` and Accept, with qualities, in the words of FHIR R4 3.1.0.1.9."""

import pytest

from gateway.fhir.formats import Format, is_r4_in_utf8, is_xml_body, of_accept, of_parameter

JSON, XML = Format.JSON, Format.XML


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/fhir+json", JSON),
        ("application/json", JSON),
        ("application/fhir+xml", XML),
        ("application/xml", XML),
        ("text/xml;q=0.1", XML),
        ("Application/FHIR+XML; charset=UTF-8", XML),
        ("application/fhir+xml; fhirVersion=4.0", XML),
        ("application/fhir+xml; fhirVersion=3.0", None),
        ("application/fhir+xml; charset=utf-16", None),
        ("application/fhir+xml, application/fhir+json", XML),
        ("application/fhir+json, application/fhir+xml", JSON),
        ("application/fhir+json;q=0.5, application/fhir+xml;q=0.6", XML),
        ("application/fhir+json;q=0.6, application/fhir+xml;q=0.5", JSON),
        ("application/fhir+xml, */*", XML),
        ("*/*, application/fhir+xml", XML),
        ("*/*, application/fhir+xml;q=0.9", JSON),
        ("application/fhir+json;q=0, */*", XML),
        ("application/fhir+xml;q=0, */*;q=0.1", JSON),
        ("application/json;q=0, */*;q=0.1", JSON),
        ("*/*;q=0", None),
        ("*/*, application/*;q=0", None),
        ("application/*;q=0.2, */*;q=0.1", JSON),
        ("application/fhir+xml;q=0", None),
        ("application/fhir+xml;q=2", None),
        ("application/fhir+xml;q=x", None),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", XML),
        ("text/turtle", None),
        ("application/fhir+xmlx", None),
        ("text/html", None),
        ("application/fhir+ndjson", None),
    ],
)
def test_accept_is_weighed(accept: str, format: Format | None) -> None:
    assert of_accept(accept) is format


@pytest.mark.parametrize(
    ("value", "format"),
    [
        ("json", JSON),
        ("application/fhir+json", JSON),
        ("application/fhir json", JSON),
        ("text/json", JSON),
        ("application/json+fhir", JSON),
        ("application/json fhir", JSON),
        ("application/xml+fhir", XML),
        ("xml", XML),
        ("text/xml", XML),
        ("application/fhir xml", XML),
        ("application/xml; charset=utf-8", XML),
        ("html/json", None),
        ("application/x-turtle", None),
        ("", None),
        ("xml,json", None),
    ],
)
def test_the_parameter_has_the_words_of_the_specification(value: str, format: Format | None) -> None:
    assert of_parameter(value) is format


def test_a_body_is_xml_by_its_type_and_in_utf8() -> None:
    for said in (
        "application/fhir+xml",
        "application/xml; charset=utf-8",
        "text/xml",
        "application/xml+fhir",
    ):
        assert is_xml_body(said)
    for said in (
        "application/fhir+xml; charset=utf-7",
        "application/xml-patch+xml",
        "application/fhir+json",
        "",
        "xml",
    ):
        assert not is_xml_body(said)


def test_of_a_binary_other_xml_is_content_of_its_own() -> None:
    assert is_xml_body("application/fhir+xml", native=True)
    assert not is_xml_body("text/xml", native=True)
    assert not is_xml_body("application/xml", native=True)


def test_parameters_ask_for_r4_in_utf8() -> None:
    assert is_r4_in_utf8(' charset="utf-8"; fhirVersion=4.0')
    assert not is_r4_in_utf8("fhirVersion=5.0")
