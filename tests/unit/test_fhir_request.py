"""gateway.fhir.request: the grammar of the REST API; P1 and P2 as properties."""

from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from gateway.fhir.definitions import RESOURCE_TYPES, search_parameters
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request import parse, with_form
from gateway.fhir.request_target import asked_in, canonical_text, upstream_form, upstream_target


@pytest.mark.parametrize(
    ("method", "path", "interaction"),
    [
        ("GET", "", "search"),
        ("GET", "/", "search"),
        ("POST", "", "batch"),
        ("GET", "/metadata", "capabilities"),
        ("GET", "/_history", "history-system"),
        ("POST", "/_search", "search"),
        ("POST", "/$export", "operation"),
        ("GET", "/Observation", "search"),
        ("POST", "/Observation/_search", "search"),
        ("GET", "/Observation/_history", "history-type"),
        ("GET", "/Observation/$lastn", "operation"),
        ("POST", "/Observation", "create"),
        ("GET", "/Observation/a1", "read"),
        ("HEAD", "/Observation/a1", "read"),
        ("PUT", "/Observation/a1", "update"),
        ("PATCH", "/Observation/a1", "patch"),
        ("DELETE", "/Observation/a1", "delete"),
        ("GET", "/Observation/a1/_history", "history-instance"),
        ("GET", "/Observation/a1/_history/2", "vread"),
        ("GET", "/Patient/A/$everything", "operation"),
        ("GET", "/Patient/A/Observation", "search"),
    ],
)
def test_each_production_of_the_REST_API_is_its_interaction(method: str, path: str, interaction: str) -> None:
    asked = parse(method, path, "")
    assert asked.interaction == interaction
    assert upstream_target(asked) == path.strip("/")
    assert asked.head == (method == "HEAD")


def test_HEAD_becomes_the_GET_that_it_asks_about() -> None:
    assert parse("HEAD", "/Patient/A", "").method == "GET"


def test_a_conditional_write_keeps_its_criteria_and_has_no_id() -> None:
    asked = parse("PUT", "/Observation", "identifier=urn:x|1")
    assert (asked.interaction, asked.id, [term.values for term in asked.terms]) == (
        Interaction.UPDATE,
        None,
        [("urn:x|1",)],
    )


@pytest.mark.parametrize("query", ["", "_format=json", "_count=1&identifier=x", "_sort=date"])
def test_B32_a_write_on_a_type_without_plain_criteria_is_refused(query: str) -> None:
    with pytest.raises(FhirError) as refusal:
        parse("DELETE", "/Observation", query)
    assert refusal.value.status == 400


def test_a_compartment_search_names_owner_and_type() -> None:
    asked = parse("GET", "/Patient/A/Observation", "category=x")
    assert (asked.type, asked.id, asked.compartment) == ("Observation", None, ("Patient", "A"))
    assert upstream_target(asked) == "Patient/A/Observation?category=x"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/Encounter/e/Observation", Reason.INTERACTION_CLOSED),
        ("/Patient/A/Organization", Reason.UNKNOWN_ROUTE),
        ("/Observation/a/Patient", Reason.UNKNOWN_ROUTE),
        ("/Patient/A/_history/1/x", Reason.UNKNOWN_ROUTE),
        ("/Patient/A/_history/1/$meta", Reason.UNKNOWN_ROUTE),
        ("/Patient/_foo", Reason.UNKNOWN_ROUTE),
        ("/Patient/$", Reason.UNKNOWN_ROUTE),
        ("/Patient/$1x", Reason.UNKNOWN_ROUTE),
        ("/Resource/A", Reason.UNKNOWN_TYPE),
        ("/DomainResource", Reason.UNKNOWN_TYPE),
        ("/SubscriptionStatus/A", Reason.UNKNOWN_TYPE),
        ("/.well-known/smart-configuration", Reason.UNKNOWN_TYPE),
        ("/Patient/a_b", Reason.AMBIGUOUS_PATH),
        ("/Patient/A/_history/..", Reason.AMBIGUOUS_PATH),
        ("/Patient/A//", Reason.AMBIGUOUS_PATH),
        ("//", Reason.AMBIGUOUS_PATH),
        ("/Patient/%", Reason.AMBIGUOUS_PATH),
        ("/Patient/%2", Reason.AMBIGUOUS_PATH),
        ("/Patient/é", Reason.AMBIGUOUS_PATH),
        ("Patient/A", Reason.UNKNOWN_ROUTE),
    ],
)
def test_what_is_no_production_is_refused(path: str, reason: Reason) -> None:
    with pytest.raises(FhirError) as refusal:
        parse("GET", path, "")
    assert refusal.value.reason is reason


def test_405_names_the_methods_of_the_path() -> None:
    with pytest.raises(FhirError) as refusal:
        parse("GET", "/Patient/_search", "identifier=x")
    assert refusal.value.headers == (("Allow", "OPTIONS, POST"),)
    with pytest.raises(FhirError) as refusal:
        parse("POST", "/Patient/A", "")
    assert refusal.value.headers == (("Allow", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),)


def test_a_miscased_type_is_unknown_and_the_right_one_is_named() -> None:
    with pytest.raises(FhirError, match="Did you mean 'Observation'") as refusal:
        parse("GET", "/observation", "")
    assert refusal.value.status == 404


@pytest.mark.parametrize("query", ["_since=2024-01-01T00:00:00Z&_count=500", "_at=2024"])
def test_a_history_takes_its_own_parameters(query: str) -> None:
    assert parse("GET", "/Patient/A/_history", query).terms[0].code in ("_since", "_at")
    for wrong in ("_since=yesterday", "category=x", "_count=0", "_list=x"):
        with pytest.raises(FhirError):
            parse("GET", "/Patient/A/_history", wrong)


def test_capabilities_take_a_mode_and_nothing_of_a_search() -> None:
    assert parse("GET", "/metadata", "mode=full&_format=json").interaction is Interaction.CAPABILITIES
    with pytest.raises(FhirError):
        parse("GET", "/metadata", "category=x")


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "content_type",
    [FORM, FORM.upper(), FORM + "; charset=UTF-8", FORM + ';charset="utf-8"', FORM + " ; charset = utf-8 "],
)
def test_terms_of_the_form_follow_those_of_the_query(content_type: str) -> None:
    asked = parse("POST", "/Observation/_search", "category=x")
    both = with_form(asked, content_type, b"subject=Patient%2FA&category=y")
    assert [(t.code, t.text) for t in both.terms] == [
        ("category", "x"),
        ("subject", "Patient/A"),
        ("category", "y"),
    ]
    assert upstream_target(both) == "Observation/_search"
    assert upstream_form(both) == b"category=x&subject=Patient%2FA&category=y"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/fhir+json",
        "multipart/form-data; boundary=x",
        FORM + "; charset=utf-16",
        FORM + "; charset=utf-8; charset=utf-16",
        FORM + ", application/json",
        "",
        None,
    ],
)
def test_D80_a_form_of_another_media_type_is_refused(content_type: str | None) -> None:
    asked = parse("POST", "/Observation/_search", "")
    with pytest.raises(FhirError) as refusal:
        with_form(asked, content_type, b"patient=A")
    assert refusal.value.status == 415


@pytest.mark.parametrize(
    "body", [b"patient=A;subject=B", b"_count=2", b"\xff", "patient=é".encode(), b"_has:x=1"]
)
def test_a_form_is_read_as_strictly_as_a_query(body: bytes) -> None:
    asked = parse("POST", "/Observation/_search", "_count=1")
    with pytest.raises(FhirError):
        with_form(asked, FORM, body)


def test_only_a_posted_search_has_a_form() -> None:
    with pytest.raises(ValueError):
        with_form(parse("GET", "/Observation", ""), FORM, b"")
    with pytest.raises(ValueError):
        upstream_form(parse("GET", "/Observation", ""))


def test_a_posted_search_without_a_body_needs_no_content_type() -> None:
    asked = parse("POST", "/Observation/_search", "")
    assert with_form(asked, None, b"") == asked


# P1 and P2

_ids = st.text("ABCxyz019.-", min_size=1, max_size=64).filter(lambda text: text not in (".", ".."))
_types = st.sampled_from(sorted(RESOURCE_TYPES))
_free = sorted(
    code
    for code, parameter in search_parameters("Observation").items()
    if parameter.type in ("string", "reference", "uri") and not code.startswith("_")
)
_value = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\x01\x7f", exclude_categories=["Cc", "Cs"]), min_size=1
).map(lambda text: text.replace("\\", "\\\\").replace(",", "\\,"))


def _escape_some(text: str, choices: list[bool]) -> str:
    marks = [f"%{ord(c):02x}" if choices and choices[i % len(choices)] else c for i, c in enumerate(text)]
    return "".join(marks)


@st.composite
def _paths(draw: st.DrawFn) -> tuple[str, str]:
    """A path as meant, and as some client may write it."""
    type, id = draw(_types), draw(_ids)
    meant = draw(
        st.sampled_from(
            [
                f"{type}",
                f"{type}/{id}",
                f"{type}/{id}/_history",
                f"{type}/{id}/_history/{id}",
                f"Patient/{id}/Observation",
            ]
        )
    )
    written = "/".join(
        _escape_some(part, draw(st.lists(st.booleans(), max_size=5))) for part in meant.split("/")
    )
    return meant, "/" + written + draw(st.sampled_from(["", "/"]))


@given(_paths())
def test_P2_a_path_is_one_path_however_it_is_escaped(path: tuple[str, str]) -> None:
    meant, written = path
    target = upstream_target(parse("GET", written, ""))
    assert target == meant
    seen = URL(f"http://store/fhir/{target}", encoded=True)
    assert seen.path == f"/fhir/{unquote(written).strip('/')}" == urlsplit(str(seen)).path


@given(
    st.lists(st.tuples(st.sampled_from(_free), _value, st.sampled_from([quote, quote_plus, str])), max_size=6)
)
@example([("subject", "Patient/A&subject=Patient/B", quote)])
@example([("subject", "a+b c%41", quote_plus)])
def test_P2_the_store_reads_the_same_parameters(pairs: list[tuple[str, str, object]]) -> None:
    sent = []
    for name, value, escape in pairs:
        plain = escape is str and value.isascii() and not set(value) & set('%&+;[]# "')
        sent.append(
            f"{name}={value}"
            if plain
            else f"{name}={(quote_plus if escape is quote_plus else quote)(value, safe='')}"
        )
    asked = parse("GET", "/Observation", "&".join(sent))
    meant = [(name, value) for name, value, _ in pairs]
    url = f"http://store/fhir/{upstream_target(asked)}"
    assert [(term.name, term.text) for term in asked.terms] == meant
    assert parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=bool(pairs)) == meant
    assert list(URL(url, encoded=True).query.items()) == meant
    assert parse("GET", "/" + upstream_target(asked).partition("?")[0], urlsplit(url).query) == asked


_wild = st.text(st.sampled_from("/.%2eEfF;\\*$_?&=+-AZaz09:|,[]#~@! é\0\r\n\t"), max_size=40)
_near = st.lists(
    st.sampled_from(
        [
            "/",
            "Patient",
            "Observation",
            "A",
            "..",
            ".",
            "%2e",
            "%2f",
            "%252e",
            "_history",
            "_search",
            "$everything",
            ";",
            "*",
            "%00",
            "//",
        ]
    ),
    max_size=8,
).map("".join)
_queries = st.lists(
    st.sampled_from(
        [
            "subject",
            "patient",
            ":",
            "Patient",
            "not",
            "missing",
            "=",
            "&",
            "A",
            "true",
            "%3D",
            "%26",
            "+",
            "_count",
            "_id",
            "_has",
            "\\",
            ",",
            "%5C",
            "1",
            ".",
            "_format=json",
        ]
    ),
    max_size=10,
).map("".join)


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"]),
    st.one_of(_wild, _near, _near.map(lambda text: "/" + text)),
    st.one_of(_wild, _queries),
)
def test_P1_the_canonical_form_is_its_own_canonical_form(method: str, path: str, query: str) -> None:
    try:
        asked = parse(method, path, query)
    except FhirError:
        return
    target = upstream_target(asked)
    again = _again(asked, target)
    assert again == asked
    assert upstream_target(again) == target
    assert ".." not in target.partition("?")[0].split("/")
    assert target.isascii()
    if asked.sealed is None:
        assert asked_in(canonical_text(asked)) == asked


def test_a_search_by_post_is_told_with_its_form() -> None:
    asked = with_form(
        parse("POST", "/Observation/_search", "_count=5"), FORM, b"subject=Patient%2FA&code=a%2Cb"
    )
    assert canonical_text(asked) == "POST /Observation/_search?_count=5&subject=Patient%2FA&code=a%2Cb"
    assert asked_in(canonical_text(asked)) == asked


def _again(asked: FhirRequest, target: str) -> FhirRequest:
    path, _, query = target.partition("?")
    method = "HEAD" if asked.head else asked.method
    if asked.posted:
        return with_form(parse(method, "/" + path, ""), FORM, upstream_form(asked))
    return parse(method, "/" + path, query)
