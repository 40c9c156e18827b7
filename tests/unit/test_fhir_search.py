"""gateway.fhir.search: what a parameter, a modifier and a value may be."""

import pytest

from gateway.fhir.definitions import search_parameters
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search import (
    CLOSED_PARAMETERS,
    encode_terms,
    make_term,
    parse_terms,
    query_pairs,
    split_values,
    unescape,
)


def _terms(query: str, type: str | None = "Observation"):
    return parse_terms(query_pairs(query), type)


def test_a_term_has_its_parts_decoded_once() -> None:
    (term,) = _terms(r"subject:Patient=A%2CB,C%5C%2CD")
    assert (term.name, term.code, term.modifier, term.chain) == (
        "subject:Patient",
        "subject",
        "Patient",
        None,
    )
    assert (term.text, term.values) == (r"A,B,C\,D", ("A", "B", "C,D"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (r"a,b", ("a", "b")),
        (r"a\,b", ("a,b",)),
        (r"a\\,b", ("a\\", "b")),
        (r"a\\\,b", ("a\\,b",)),
        (r"x\|y,\$", ("x|y", "$")),
        ("a,", ("a", "")),
        ("", ("",)),
    ],
)
def test_alternatives_split_at_commas_that_are_not_escaped(text: str, values: tuple[str, ...]) -> None:
    assert tuple(unescape(part) for part in split_values(text)) == values


@pytest.mark.parametrize("text", ["a\\", "a\\x", "\\\\\\", "a,\\b"])
def test_an_escape_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(FhirError, match="backslash"):
        split_values(text)


def test_duplicates_stay_apart_and_format_is_the_gateways() -> None:
    terms = _terms("category=a&category=b&_format=json&_pretty=true")
    assert [(term.code, term.text) for term in terms] == [("category", "a"), ("category", "b")]


@pytest.mark.parametrize("code", sorted(CLOSED_PARAMETERS))
def test_every_closed_parameter_is_refused_with_its_reason(code: str) -> None:
    with pytest.raises(FhirError) as refusal:
        _terms(f"{code}=x")
    assert refusal.value.reason is Reason.UNSUPPORTED_PARAMETER
    assert CLOSED_PARAMETERS[code] in refusal.value.diagnostics


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("categroy=x", "Did you mean 'category'"),
        ("_lastupdated=2024", "Did you mean '_lastUpdated'"),
        ("code:nott=x", "Did you mean 'not'"),
        ("subject:Patiemt=x", "Did you mean 'Patient'"),
        ("_sort=-dat", "Did you mean 'date'"),
        ("_Count=1", "Did you mean '_count'"),
    ],
)
def test_a_mistake_is_met_with_the_nearest_name(query: str, hint: str) -> None:
    with pytest.raises(FhirError, match=hint) as refusal:
        _terms(query)
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "query",
    [
        "date=ge2024-05-31T10:00:00Z",
        "date=2024",
        "date=sa2024-05",
        "value-quantity=le5.4|http://unitsofmeasure.org|mg",
        "value-quantity=5.40e-3",
        "value-quantity=5||mg",
        "code=http://loinc.org|1234-5,|x,http://loinc.org|",
        "code:not=x",
        "_id=a,b",
        "_lastUpdated=gt2024",
        "_tag=urn:x|y",
        "_profile=http://x/y",
        "subject:missing=false",
        "value-string:exact=x",
        "value-string:contains=x",
        "_sort=-date,_lastUpdated,code",
        "_count=50",
    ],
)
def test_what_R4_defines_and_can_be_judged_passes_unchanged(query: str) -> None:
    assert query_pairs(encode_terms(_terms(query))) == query_pairs(query)


@pytest.mark.parametrize(
    "query",
    [
        "date=xx2024",
        "date=2024-13",
        "date=2024-05-31+10:00",
        "date=",
        "value-quantity=mg",
        "value-quantity=5|mg",
        "code=a|b|c",
        "code=a,,b",
        "subject:missing=maybe",
        "subject:missing=true,false",
        "_sort=",
        "_sort=nonsense",
        "_sort=code-value-quantity",
        "_count=",
        "_count=1.5",
        "_count=%D9%A1",
        "_pretty=yes",
    ],
)
def test_a_value_outside_its_grammar_is_refused(query: str) -> None:
    with pytest.raises(FhirError) as refusal:
        _terms(query)
    assert refusal.value.reason is Reason.INVALID_PARAMETER


@pytest.mark.parametrize(
    "query", ["_count:x=1", "_sort:missing=true", "_format:x=json", "code:missing:not=x"]
)
def test_what_takes_no_modifier_is_refused_with_one(query: str) -> None:
    with pytest.raises(FhirError) as refusal:
        _terms(query)
    assert refusal.value.reason is Reason.UNKNOWN_PARAMETER


def test_a_system_search_knows_common_parameters_only() -> None:
    assert [term.code for term in _terms("_type=Patient,Observation&_id=a", None)] == ["_type", "_id"]
    for query in ("_type=Patient,Nothing", "_type=", "category=x", "_type=Patient&_type=Observation"):
        with pytest.raises(FhirError):
            _terms(query, None)


def test_more_than_a_hundred_parameters_are_refused() -> None:
    with pytest.raises(FhirError, match="at most 100"):
        _terms("&".join(["category=x"] * 101))


def test_own_terms_cannot_be_broken_out_of() -> None:
    term = make_term("subject", ["Patient/A,Patient/B", r"x|y\z$"])
    assert term.text == r"Patient/A\,Patient/B,x\|y\\z\$"
    assert tuple(unescape(part) for part in split_values(term.text)) == term.values
    assert _terms(encode_terms([make_term("subject", ["A&code=1"])]))[0].values == ("A&code=1",)
    with pytest.raises(ValueError):
        make_term("subject", [])


def test_every_parameter_of_every_modifier_class_is_open_or_closed_not_forgotten() -> None:
    kinds = {parameter.type for parameter in search_parameters("Location").values()}
    assert "special" in kinds  # 'near' has no modifiers, and no grammar of its own
    assert [term.code for term in _terms("near=1|2|3|km", "Location")] == ["near"]


def test_messages_hold_nothing_unprintable() -> None:
    with pytest.raises(FhirError) as refusal:
        _terms("caf%C3%A9%0A=1")
    assert refusal.value.diagnostics.isascii()
    assert refusal.value.diagnostics.isprintable()
