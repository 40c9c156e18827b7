"""The reader of `_filter`: one form for all spellings, and a refusal for what has two readings or reads other resources."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir import request, request_target
from gateway.fhir.filter_expression import (
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_LENGTH,
    comparisons,
    demands,
    read,
    written,
)
from gateway.fhir.opened_terms import read_term
from gateway.fhir.outcome import FhirError, Reason


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("code eq x", "code eq x"),
        ("  ( (code  eq x) ) ", "code eq x"),
        ('code eq "x"', "code eq x"),
        ('code eq "a b"', 'code eq "a b"'),
        ("code eq http://loinc.org|1234-5", "code eq http://loinc.org|1234-5"),
        ("status eq and", 'status eq "and"'),
        ("value-string sw b", 'value-string sw "b"'),
        ('value-string co "a (b) or c"', 'value-string co "a (b) or c"'),
        ('date ge "2020-01"', "date ge 2020-01"),
        ("date po 2020", "date po 2020"),
        ("subject re Patient/A", "subject re Patient/A"),
        ("code pr true", "code pr true"),
        ("not(code pr false)", "not (code pr false)"),
        ("(code eq a and status eq b) and date lt 2020", "code eq a and status eq b and date lt 2020"),
        ("code eq a and (status eq b or status eq c)", "code eq a and (status eq b or status eq c)"),
        ("not (code eq a or code eq b)", "not (code eq a or code eq b)"),
        ("_id eq x and _lastUpdated ge 2020-01-01", "_id eq x and _lastUpdated ge 2020-01-01"),
        ("value-quantity gt 5.4|http://unitsofmeasure.org|mg", "value-quantity gt 5.4|http://unitsofmeasure.org|mg"),
    ],
)  # fmt: skip
def test_every_spelling_has_one_form(text: str, form: str) -> None:
    assert written(read(text, "Observation")) == form
    assert read(form, "Observation") == read(text, "Observation")


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", Reason.INVALID_PARAMETER, "where a parameter is expected"),
        ("code", Reason.INVALID_PARAMETER, "an operator such as eq is expected"),
        ("code eq", Reason.INVALID_PARAMETER, "has no value after 'code eq'"),
        ('value-string eq ""', Reason.INVALID_PARAMETER, "has no value"),
        ("code eq x y", Reason.INVALID_PARAMETER, "goes on after its end with 'y'"),
        ("code eq x)", Reason.INVALID_PARAMETER, "goes on after its end with ')'"),
        ("(code eq x", Reason.INVALID_PARAMETER, "lacks a closing parenthesis"),
        ("code eq x and", Reason.INVALID_PARAMETER, "where a parameter is expected"),
        ("code eq a,b", Reason.INVALID_PARAMETER, "no comma and no backslash"),
        ("code eq a\\b", Reason.INVALID_PARAMETER, "no comma and no backslash"),
        ('code eq "a', Reason.INVALID_PARAMETER, "cannot be read"),
        ("code eq x\n", Reason.INVALID_PARAMETER, "not printable"),
        ("code co x", Reason.INVALID_PARAMETER, "a token parameter takes eq, ne, pr"),
        ("code EQ x", Reason.INVALID_PARAMETER, "by 'EQ'"),
        ("code pr yes", Reason.INVALID_PARAMETER, "true or false is expected"),
        ("date ge soon", Reason.INVALID_PARAMETER, "a date is expected"),
        ("date ge ge2020", Reason.INVALID_PARAMETER, "a date is expected"),
        ("date ge 2020-13", Reason.INVALID_PARAMETER, "'date' must be a date"),
        ("value-quantity gt many", Reason.INVALID_PARAMETER, "a quantity is expected"),
        ("subject eq A", Reason.INVALID_PARAMETER, "Type/id of a type it refers to is expected"),
        ("subject eq Encounter/x", Reason.INVALID_PARAMETER, "Type/id of a type it refers to is expected"),
        ("subject eq Patient/..", Reason.INVALID_PARAMETER, "Type/id of a type it refers to is expected"),
        ("subject eq http://x/Patient/A", Reason.INVALID_PARAMETER, "Type/id of a type it refers to is expected"),
        ("code:not eq x", Reason.INVALID_PARAMETER, "where a parameter is expected"),
        ("code eq a or code eq b and code eq c", Reason.AMBIGUOUS_QUERY, "mixes and with or"),
        ("categroy eq x", Reason.UNKNOWN_PARAMETER, "Did you mean 'category'?"),
        ("_count eq 5", Reason.UNKNOWN_PARAMETER, "no search parameter '_count'"),
        ("subject.name co x", Reason.UNSUPPORTED_PARAMETER, "is a chain"),
        ("related[type eq x].target pr true", Reason.UNSUPPORTED_PARAMETER, "in brackets"),
        ("code in http://x", Reason.UNSUPPORTED_PARAMETER, "the operator 'in'"),
        ("code-value-quantity eq x", Reason.UNSUPPORTED_PARAMETER, "a composite parameter"),
        ("_security eq R", Reason.UNSUPPORTED_PARAMETER, "'_security' is closed"),
        ("_text eq x", Reason.UNSUPPORTED_PARAMETER, "'_text' is closed"),
        ("_filter eq x", Reason.UNSUPPORTED_PARAMETER, "'_filter' is closed"),
        ("(" * (MAX_DEPTH + 1) + "code eq x" + ")" * (MAX_DEPTH + 1), Reason.INVALID_PARAMETER, "nested more than"),
        (" or ".join(["code eq x"] * (MAX_COMPARISONS + 1)), Reason.INVALID_PARAMETER, "more than 30 comparisons"),
        (f"code eq {'x' * MAX_LENGTH}", Reason.INVALID_PARAMETER, "at most 2000 are read"),
        (f"value-string eq {'x' * (MAX_LENGTH - 16)}", Reason.INVALID_PARAMETER, "where it is written in full"),
    ],
)  # fmt: skip
def test_what_is_not_one_plain_question_about_one_resource_is_refused(
    text: str, reason: Reason, said: str
) -> None:
    with pytest.raises(FhirError) as refused:
        read(text, "Observation")
    assert refused.value.reason is reason
    assert said in refused.value.diagnostics


def test_the_bounds_themselves_are_inside() -> None:
    read("(" * MAX_DEPTH + "code eq x" + ")" * MAX_DEPTH, "Observation")
    assert len(list(comparisons(read(" or ".join(["code eq x"] * MAX_COMPARISONS), "Observation")))) == 30
    read(f"code eq {'x' * (MAX_LENGTH - 8)}", "Observation")


def test_only_what_everything_found_must_meet_is_demanded() -> None:
    def demanded(text: str) -> list[str]:
        return [f"{term.code}={term.text}" for term in demands(read(text, "Observation"))]

    assert demanded("subject eq Patient/B") == ["subject=Patient/B"]
    assert demanded("subject re Patient/B and code eq x") == ["subject=Patient/B", "code=x"]
    assert demanded("(subject eq Patient/B) and (code eq x or code eq y)") == ["subject=Patient/B"]
    assert demanded("subject eq Patient/B or code eq x") == []
    assert demanded("not (subject eq Patient/B)") == []
    assert demanded("not (not (subject eq Patient/B))") == []
    assert demanded("subject ne Patient/B") == []
    assert demanded("subject pr true") == []


_LEAVES = st.sampled_from(
    ["code eq x", 'value-string co "a b"', "date ge 2020", "not(status eq final)", "subject eq Patient/A"]
)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda word, each: f" {word} ".join(f"({part})" for part in each),
        st.sampled_from(["and", "or"]),
        st.lists(parts, min_size=1, max_size=3),
    )


def is_too_deep(text: str) -> bool:
    """Whether more parentheses are open at once than are read."""
    depth, most = 0, 0
    for mark in text:
        depth += (mark == "(") - (mark == ")")
        most = max(most, depth)
    return most > MAX_DEPTH


@settings(max_examples=200, deadline=None)
@given(st.recursive(_LEAVES, _joined, max_leaves=12))
def test_P1_the_form_is_its_own_form(text: str) -> None:
    if is_too_deep(text):
        with pytest.raises(FhirError, match="nested"):
            read(text, "Observation")
        return
    expression = read(text, "Observation")
    assert read(written(expression), "Observation") == expression
    asked = request.parse("GET", "/Observation", f"_filter={request.search.quote(text, safe='')}")
    again = request_target.asked_in(request_target.canonical_text(asked))
    assert again == asked


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("_list", "$current-problems", Reason.UNSUPPORTED_PARAMETER),
        ("_list", "a,b", Reason.INVALID_PARAMETER),
        ("_list", "..", Reason.INVALID_PARAMETER),
        ("_list", "List/a", Reason.INVALID_PARAMETER),
        ("_list", "", Reason.INVALID_PARAMETER),
        ("_text", "", Reason.INVALID_PARAMETER),
        ("_text", "  ", Reason.INVALID_PARAMETER),
        ("_content", "a\x00", Reason.INVALID_PARAMETER),
        ("_content", "x" * 201, Reason.INVALID_PARAMETER),
        ("_text", "a\\b", Reason.INVALID_PARAMETER),
    ],
)
def test_a_value_that_means_nothing_here_is_refused(name: str, value: str, reason: Reason) -> None:
    with pytest.raises(FhirError) as refused:
        read_term(name, value, "Observation")
    assert refused.value.reason is reason


def test_values_that_mean_one_thing_are_read() -> None:
    assert read_term("_list", "mix", "Observation").values == ("mix",)
    assert read_term("_text", "lung cancer", "Observation").text == "lung cancer"
    assert read_term("subject:Patient.name", "x", "Observation").chain == "name"
