"""authz.protocol.scopes: the SMART v1 and v2 grammar, exactly (SMART App Launch 2.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.login.language import ENGLISH
from authz.login.plain_words import plain_words
from authz.protocol.scopes import (
    OTHER_SCOPES,
    Scope,
    clinical,
    covered,
    is_known,
    parse_scope,
    split_scope,
)

ORDERED = ["".join(c for n, c in enumerate("cruds") if number >> n & 1) for number in range(1, 32)]


@pytest.mark.parametrize("context", ["patient", "user", "system"])
@pytest.mark.parametrize("letters", ORDERED)
def test_letters_in_their_order_are_a_scope(context: str, letters: str) -> None:
    text = f"{context}/Observation.{letters}"
    assert parse_scope(text) == Scope(text, context, "Observation", letters, "")


@pytest.mark.parametrize(("word", "letters"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_words_of_version_1_mean_letters_and_nothing_more(word: str, letters: str) -> None:
    for type_ in ("*", "Observation"):
        found = parse_scope(f"user/{type_}.{word}")
        assert found is not None
        assert (found.type, found.letters, found.query) == (type_, letters, "")


@pytest.mark.parametrize(
    "query", ["category=laboratory", "category=http://x.org/c|lab", "a=1&b=2", "code:in=x", "d=ge2020"]
)
def test_a_filter_stays_as_it_was_written(query: str) -> None:
    found = parse_scope(f"patient/Observation.rs?{query}")
    assert found is not None
    assert (found.letters, found.query) == ("rs", query)


@pytest.mark.parametrize(
    "text",
    [
        "", "patient", "patient/", "patient/Observation", "patient/Observation.", "patient/.rs", "/Observation.rs",
        "patient/Observation.sr", "patient/Observation.rr", "patient/Observation.rz", "patient/Observation.RS",
        "patient/Observation.rs.rs", "patient/Observation.r s", "patient/Observation.reads", "patient/Observation.**",
        "patient/**.rs", "patient/*.", "*/*.rs", "*/Observation.*", "Patient/Observation.rs", "PATIENT/*.rs",
        "patients/*.rs",
        "patient/observation.rs", "patient/Observation1.rs", "patient/Obs-ervation.rs", "patient/Observation/x.rs",
        "patient//Observation.rs", " patient/*.rs", "patient/*.rs ", "patient/*.rs\n",
        "patient/\u041ebservation.rs",
        "patient/Observation.rs?", "patient/Observation.rs?category", "patient/Observation.rs?category=",
        "patient/Observation.rs?=x", "patient/Observation.rs?a=1&", "patient/Observation.rs?a=1&&b=2",
        "patient/Observation.rs?a=1&b", "patient/Observation.rs?a= b", "patient/Observation.rs?a=\u00e9",
        "patient/Observation.read?category=laboratory", "patient/Observation.*?category=laboratory",
        "patient/Observation.write?a=b", "patient/Observation.rs#x", "patient/Observation.rs&a=b", "launch/patient",
        "openid", "patient/A", f"patient/{'A' * 65}.rs",
    ],
)  # fmt: skip
def test_Q280_anything_else_is_no_clinical_scope_and_is_never_repaired(text: str) -> None:
    assert parse_scope(text) is None
    assert clinical([text]) == ()
    assert is_known(text) is (text in OTHER_SCOPES)


@given(st.text(max_size=40))
def test_whatever_is_sent_parsing_never_fails_and_keeps_the_text(text: str) -> None:
    for candidate in (text, f"patient/Observation.rs?{text}", f"user/{text}.rs", f"system/Patient.{text}"):
        found = parse_scope(candidate)
        assert found is None or found.text == candidate


def test_clinical_scopes_stand_in_their_order_each_for_itself() -> None:
    texts = (
        "openid",
        "patient/Observation.r?category=a",
        "x",
        "patient/Observation.s?category=b",
        "patient/*.c",
    )
    assert [scope.text for scope in clinical(texts)] == [texts[1], texts[3], texts[4]]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("openid", ("openid",)),
        ("a b", ("a", "b")),
        (" a  b ", ("a", "b")),
        ("b a b", ("b", "a")),
        ("patient/*.rs?a=b|c,d", ("patient/*.rs?a=b|c,d",)),
    ],
)
def test_scopes_are_split_at_spaces_each_once(text: str, parts: tuple[str, ...]) -> None:
    assert split_scope(text) == parts


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\u00a0b", 'a"b', "a\\b", "\u00e9", "a\x00", "a\x7f"])
def test_characters_that_RFC_6749_forbids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 6749 3\.3 forbids"):
        split_scope(text)


@pytest.mark.parametrize(
    ("requested", "allowed", "answer"),
    [
        ("openid", ("openid",), True),
        ("openid", ("fhirUser",), False),
        ("patient/Observation.rs", ("patient/Observation.rs",), True),
        ("patient/Observation.r", ("patient/Observation.rs",), True),
        ("patient/Observation.rs", ("patient/Observation.r",), False),
        ("patient/Observation.rs", ("patient/Observation.r", "patient/Observation.s"), False),
        ("patient/Observation.rs", ("patient/*.rs",), True),
        ("patient/*.rs", ("patient/Observation.rs",), False),
        ("patient/Observation.rs", ("user/Observation.rs",), False),
        ("patient/Observation.rs", ("user/*.cruds", "system/*.cruds"), False),
        ("patient/Observation.read", ("patient/*.rs",), True),
        ("patient/Observation.rs", ("patient/*.read",), True),
        ("patient/Observation.cud", ("patient/*.write",), True),
        ("patient/Observation.*", ("patient/*.write", "patient/*.read"), False),
        ("patient/Observation.rs?category=a", ("patient/Observation.rs",), True),
        ("patient/Observation.rs?category=a", ("patient/*.cruds",), True),
        ("patient/Observation.rs", ("patient/Observation.rs?category=a",), False),
        ("patient/Observation.r?category=a", ("patient/Observation.rs?category=a",), True),
        ("patient/Observation.rs?category=b", ("patient/Observation.rs?category=a",), False),
        ("patient/Observation.rs?category=a&x=1", ("patient/Observation.rs?category=a",), False),
        ("patient/Observation.sr", ("patient/*.cruds",), False),
        ("launch/patient", ("launch",), False),
        ("patient/Observation.rs", (), False),
    ],
)
def test_a_request_is_covered_by_one_allowed_scope_or_not_at_all(
    requested: str, allowed: tuple[str, ...], answer: bool
) -> None:
    assert covered(requested, allowed) is answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient/*.rs", "See the whole health record of the chosen patient"),
        ("patient/Observation.cruds", "See, add to, change and delete results and measurements of the chosen patient"),
        ("user/Condition.r", "See diagnoses and health problems that you may see yourself"),
        ("system/Claim.c", "Add to bills of the organisation"),
        ("patient/Observation.rs?category=http://t.org/c|laboratory",
         "See results and measurements, only laboratory results, of the chosen patient"),
        ("patient/Basic.d", "Delete records of the kind Basic of the chosen patient"),
        ("offline_access", "Stay connected when you are not there, until you end it"),
        ("unknown", "unknown"),
    ],
)  # fmt: skip
def test_the_consent_page_says_it_in_plain_words(text: str, said: str) -> None:
    assert plain_words(text, ENGLISH) == said


@given(st.sampled_from(ORDERED), st.sampled_from(["", "?category=a", "?a=%zz", "?a=|", "?a=,"]))
def test_every_scope_has_plain_words(letters: str, query: str) -> None:
    words = plain_words(f"patient/Observation.{letters}{query}", ENGLISH)
    assert words[0].isupper()
    assert words.endswith("of the chosen patient")
