"""gateway.fhir.resource and links: exact JSON, and URLs changed where they locate something, nowhere else."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.links import (
    below,
    local_reference,
    may_mention,
    relative_references,
    relative_target,
    to_public,
)
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import (
    MAX_DEPTH,
    Number,
    parse_resource,
    rewrite_entry,
    rewrite_urls,
    write_resource,
)

UPSTREAM = "http://upstream:8080/fhir"
PUBLIC = "https://gw.example/fhir/r4"


@pytest.mark.parametrize(
    "number",
    ["1.50", "0.10", "1e400", "1E-7", "-0.0", "3.141592653589793238462643383279502884197", "10", "-5"],
)
def test_a_number_keeps_its_text(number: str) -> None:
    text = f'{{"resourceType":"Observation","valueQuantity":{{"value":{number}}}}}'
    assert write_resource(parse_resource(text.encode())) == text.encode()


def test_numbers_of_the_same_text_are_equal() -> None:
    assert Number("1.50") == Number("1.50") != Number("1.5")
    assert hash(Number("1.50")) == hash(Number("1.50"))
    assert str(Number("1.50").decimal()) == "1.50"
    assert Number("1.5") != 1.5


@pytest.mark.parametrize(
    "body",
    [
        b'{"resourceType":"Patient","id":"a","id":"b"}',
        b'{"resourceType":"Patient","\\u0069d":"a","id":"b"}',
        b'{"resourceType":"Patient","name":[{"family":"a","family":"b"}]}',
        b'\xef\xbb\xbf{"resourceType":"Patient"}',
        '{"resourceType":"Patient"}'.encode("utf-16"),
        b'{"resourceType":"Patient","x":NaN}',
        b'{"resourceType":"Patient","x":-Infinity}',
        b'{"resourceType":"Patient",}',
        b"{'resourceType':'Patient'}",
        b'{"resourceType":"Patient"} {}',
        b'{"resourceType":"Patient"}x',
        b'{"resourceType":"Patient" /* */}',
        b'{"resourceType":"Patient","x":"\x01"}',
        b'{"resourceType":"Patient","x":01}',
        b'{"resourceType":"Patient","x":' + b"1" * 5000 + b"}",
        b'{"resourceType":"Patient","x":"\xff"}',
        b'{"id":"a"}',
        b'{"resourceType":5}',
        b"[]",
        b"",
        b"null",
        b'{"resourceType":"Patient","x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"resourceType":"Patient","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"resourceType":"Patient","x":' + b"[" * 100_000,
    ],
)
def test_P260_a_body_with_two_readings_is_refused(body: bytes) -> None:
    with pytest.raises(FhirError) as refusal:
        parse_resource(body)
    assert refusal.value.reason is Reason.INVALID_BODY


def test_the_store_is_blamed_for_what_the_store_sent() -> None:
    with pytest.raises(FhirError) as refusal:
        parse_resource(b"<html>", reason=Reason.UPSTREAM_INVALID)
    assert refusal.value.status == 502


def test_depth_is_allowed_up_to_the_bound() -> None:
    nested = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert parse_resource(b'{"resourceType":"Patient","x":' + nested + b"}")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(_json)
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    assert json.loads(write_resource(value)) == value


def test_a_lone_surrogate_is_written_as_an_escape() -> None:
    assert write_resource({"a": "\ud800é"}) == b'{"a":"\\ud800\\u00e9"}'


def test_what_is_no_JSON_value_is_an_error() -> None:
    with pytest.raises(TypeError):
        write_resource({"a": 1.5})


OWN = [
    "http://upstream:8080/fhir/Patient/A",
    "HTTP://UPSTREAM:8080/fhir/Patient/A",
    "http://upstream.:8080/fhir/Patient/A",
]
OTHERS = [
    "http://upstream/fhir/Patient/A",
    "https://upstream:8080/fhir/Patient/A",
    "http://upstream:8080/fhirx/Patient/A",
    "http://upstream:8080/FHIR/Patient/A",
    "http://upstream:8080/other",
    "http://upstream:8080.evil/fhir/Patient/A",
    "http://upstream:8080@evil/fhir/Patient/A",
    "http://a@upstream:8080/fhir/Patient/A",
    "hhttp://upstream:8080/fhir/Patient/A",
    "http://upstream:x/fhir/Patient/A",
    "http://[upstream:8080/fhir",
    "http:/upstream:8080/fhir/Patient/A",
    "http://upstream:8080\\fhir/Patient/A",
    "http://upstream:8080/fhir/Patient/A\n",
    "ftp://upstream:8080/fhir/Patient/A",
    "urn:uuid:1",
    "Patient/A",
    "",
]


@pytest.mark.parametrize("url", OWN)
def test_S310_a_base_is_compared_as_a_parsed_URL(url: str) -> None:
    assert to_public(url, upstream=UPSTREAM, public=PUBLIC) == f"{PUBLIC}/Patient/A"
    assert below(url, {UPSTREAM}) == "Patient/A"


@pytest.mark.parametrize("url", OTHERS)
def test_another_place_stays_as_it_is(url: str) -> None:
    assert to_public(url, upstream=UPSTREAM, public=PUBLIC) is None


def test_query_and_default_port_and_the_base_itself_are_kept_right() -> None:
    assert (
        to_public(f"{UPSTREAM}?_getpages=1&x=a%2Fb", upstream=UPSTREAM, public=PUBLIC)
        == f"{PUBLIC}/?_getpages=1&x=a%2Fb"
    )
    assert to_public(UPSTREAM, upstream=UPSTREAM, public=PUBLIC + "/") == PUBLIC
    assert (
        to_public("https://store:443/Patient/A", upstream="https://store", public=PUBLIC)
        == f"{PUBLIC}/Patient/A"
    )
    assert relative_target(f"{UPSTREAM}/Observation?page=2", upstream=UPSTREAM + "/") == "Observation?page=2"
    with pytest.raises(ValueError):
        below("http://x/y", {"not a base"})


def test_a_local_reference_has_type_id_and_version() -> None:
    reference = local_reference("Patient/A/_history/2", ())
    assert reference is not None
    assert (reference.type, reference.id, reference.version) == ("Patient", "A", "2")
    for text in ("Patient/..", "Nothing/A", "Patient/A?x", "http://x/Patient/A", "#A"):
        assert local_reference(text, {UPSTREAM}) is None


RESOURCE: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "a1",
    "meta": {"profile": [f"{UPSTREAM}/StructureDefinition/p"], "source": UPSTREAM},
    "implicitRules": f"{UPSTREAM}/rules",
    "text": {"status": "generated", "div": f"<div>{UPSTREAM}/Patient/A</div>"},
    "identifier": [{"system": f"{UPSTREAM}/ids", "value": f"{UPSTREAM}/Patient/A",
                    "assigner": {"reference": f"{UPSTREAM}/Organization/o"}}],
    "code": {"coding": [{"system": f"{UPSTREAM}/CodeSystem/x", "code": "x"}], "text": UPSTREAM},
    "subject": {"reference": f"{UPSTREAM}/Patient/A", "type": f"{UPSTREAM}/x", "display": f"{UPSTREAM}/Patient/A"},
    "performer": [{"reference": "Practitioner/p"}, {"reference": "http:\\/\\/x"}, {"reference": "HTTP://Upstream:8080/fhir/Practitioner/q"}],
    "note": [{"text": f"see {UPSTREAM}/Patient/A"}],
    "extension": [
        {"url": f"{UPSTREAM}/StructureDefinition/e", "valueReference": {"reference": f"{UPSTREAM}/Patient/A"}},
        {"url": "urn:x", "valueUrl": f"{UPSTREAM}/Binary/1"},
        {"url": "urn:x", "valueUri": f"{UPSTREAM}/Binary/1"},
        {"url": "urn:x", "valueCanonical": f"{UPSTREAM}/Binary/1"},
        {"url": "urn:x", "valueAttachment": {"url": f"{UPSTREAM}/Binary/1", "title": UPSTREAM}},
    ],
    "_status": {"extension": [{"url": "urn:x", "valueReference": {"reference": f"{UPSTREAM}/Patient/A"}}]},
    "component": [{"extension": [{"url": "urn:x", "valueUrl": f"{UPSTREAM}/x"}], "valueString": UPSTREAM}],
    "contained": [{"resourceType": "DocumentReference", "content": [{"attachment": {"url": f"{UPSTREAM}/Binary/2"}}]}],
    "unknown": {"reference": f"{UPSTREAM}/Patient/A"},
}  # fmt: skip
WHERE_IT_LOCATES = [
    ("identifier", 0, "assigner", "reference"),
    ("subject", "reference"),
    ("performer", 2, "reference"),
    ("extension", 0, "valueReference", "reference"),
    ("extension", 1, "valueUrl"),
    ("extension", 4, "valueAttachment", "url"),
    ("_status", "extension", 0, "valueReference", "reference"),
    ("component", 0, "extension", 0, "valueUrl"),
    ("contained", 0, "content", 0, "attachment", "url"),
]


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _leaves(inner, (*path, name)).items()}
    if isinstance(value, list):
        return {k: v for index, inner in enumerate(value) for k, v in _leaves(inner, (*path, index)).items()}
    return {path: value}


def test_S309_S313_S316_only_elements_that_locate_something_are_rewritten() -> None:
    value = copy.deepcopy(RESOURCE)
    assert rewrite_urls(value, upstream=UPSTREAM, public=PUBLIC)
    before, after = _leaves(RESOURCE), _leaves(value)
    assert [path for path in before if before[path] != after[path]] == WHERE_IT_LOCATES
    assert all(str(after[path]).startswith(PUBLIC + "/") for path in WHERE_IT_LOCATES)
    assert not rewrite_urls(value, upstream=UPSTREAM, public=PUBLIC)


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "StructureDefinition", "url": f"{UPSTREAM}/StructureDefinition/x"},
        {"resourceType": "Questionnaire", "url": UPSTREAM, "derivedFrom": [f"{UPSTREAM}/Questionnaire/y"]},
        {"resourceType": "Patient", "photo": f"{UPSTREAM}/x", "managingOrganization": "x", "link": [5, None]},
        {"resourceType": "Nothing", "subject": {"reference": f"{UPSTREAM}/Patient/A"}},
        {"resourceType": ["Patient"]},
        {"resourceType": "Patient", "managingOrganization": {"reference": 5}},
    ],
)
def test_names_and_malformed_elements_stay(resource: dict[str, Any]) -> None:
    before = copy.deepcopy(resource)
    assert not rewrite_urls(resource, upstream=UPSTREAM, public=PUBLIC)
    assert resource == before


def test_the_addresses_of_a_bundle_are_rewritten_at_every_depth() -> None:
    entry = {
        "fullUrl": f"{UPSTREAM}/Patient/A",
        "link": [{"relation": "x", "url": f"{UPSTREAM}/y"}],
        "request": {"method": "GET", "url": f"{UPSTREAM}/Patient/A"},
        "response": {"status": "200", "location": f"{UPSTREAM}/Patient/A/_history/1", "etag": UPSTREAM},
        "resource": {
            "resourceType": "Patient",
            "generalPractitioner": [{"reference": f"{UPSTREAM}/Practitioner/p"}],
        },
    }
    bundle = {
        "resourceType": "Bundle",
        "link": [{"relation": "self", "url": f"{UPSTREAM}/Patient"}],
        "entry": [entry],
    }
    outer = {
        "resourceType": "Parameters",
        "parameter": [{"resource": bundle}, {"part": [{"valueUrl": f"{UPSTREAM}/x"}]}],
    }
    assert rewrite_urls(outer, upstream=UPSTREAM, public=PUBLIC)
    left = [path for path, value in _leaves(outer).items() if "upstream" in str(value)]
    assert left == [("parameter", 0, "resource", "entry", 0, "response", "etag")]


def test_an_entry_or_the_links_alone_are_rewritten_too() -> None:
    entry = {"fullUrl": f"{UPSTREAM}/Patient/A", "resource": {"resourceType": "Patient"}}
    assert rewrite_urls(entry, upstream=UPSTREAM, public=PUBLIC)
    assert entry["fullUrl"] == f"{PUBLIC}/Patient/A"
    links = [{"relation": "self", "url": f"{UPSTREAM}/Patient"}]
    assert rewrite_urls(links, upstream=UPSTREAM, public=PUBLIC)
    assert links[0]["url"] == f"{PUBLIC}/Patient"
    assert not rewrite_urls("text", upstream=UPSTREAM, public=PUBLIC)


def test_S314_own_absolute_references_become_relative_on_the_way_in() -> None:
    value = {
        "resourceType": "Observation",
        "subject": {"reference": f"{PUBLIC}/Patient/A"},
        "performer": [{"reference": "https://elsewhere/Practitioner/p"}, {"reference": "Practitioner/q"}],
        "extension": [{"url": "urn:x", "valueUrl": f"{PUBLIC}/Patient/A"}],
        "note": [{"text": f"{PUBLIC}/Patient/A"}],
    }
    before = copy.deepcopy(value)
    assert relative_references(value, {PUBLIC, UPSTREAM})
    before["subject"]["reference"] = "Patient/A"
    assert value == before
    assert not relative_references(value, {PUBLIC, UPSTREAM})


def _entry(raw: bytes) -> bytes:
    return rewrite_entry(raw, json.loads(raw), upstream=UPSTREAM, public=PUBLIC)


def test_an_entry_that_does_not_name_the_store_keeps_its_bytes() -> None:
    raw = b'{ "fullUrl" : "urn:uuid:1" ,"resource":{"resourceType":"Patient","x":1.50, "note":"http:\\/\\/elsewhere"}}'
    assert _entry(raw) is raw


def test_an_entry_keeps_all_bytes_but_those_of_its_fullUrl() -> None:
    raw = b'{ "resource":{"resourceType":"Patient","x":1.50 }, "fullUrl" : "http://upstream:8080/fhir/Patient/A" }'
    assert _entry(raw) == raw.replace(b"http://upstream:8080/fhir", PUBLIC.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"fullUrl":"http:\\/\\/upstream:8080\\/fhir\\/Patient\\/A","resource":{"resourceType":"Patient"}}',
        b'{"fullUrl":"\\u0068ttp://upstream:8080/fhir/Patient/A","resource":{"resourceType":"Patient"}}',
        b'{"fullUrl":"http://\\u0075pstream:8080/fhir/Patient/A","resource":{"resourceType":"Patient"}}',
        b'{"fullUrl":"HTTP://UPSTREAM:8080/fhir/Patient/A","resource":{"resourceType":"Patient"}}',
    ],
)
def test_S310_an_escaped_URL_is_found(raw: bytes) -> None:
    assert may_mention(raw, UPSTREAM)
    assert json.loads(_entry(raw))["fullUrl"] == f"{PUBLIC}/Patient/A"


def test_S309_an_entry_with_the_address_in_its_text_keeps_the_text() -> None:
    url = "http://upstream:8080/fhir/Patient/A"
    raw = json.dumps(
        {"fullUrl": url, "resource": {"resourceType": "Patient", "name": [{"text": url}]}}
    ).encode()
    value = json.loads(_entry(raw))
    assert (value["fullUrl"], value["resource"]["name"][0]["text"]) == (f"{PUBLIC}/Patient/A", url)


_places = st.sampled_from([*OWN, *OTHERS, "urn:x", PUBLIC])


@given(_places, _places, _places, st.booleans())
def test_the_short_way_gives_what_the_long_way_gives(one: str, two: str, three: str, escaped: bool) -> None:
    value = {
        "fullUrl": one,
        "resource": {
            "resourceType": "Patient",
            "managingOrganization": {"reference": two},
            "name": [{"text": three}],
        },
    }
    raw = json.dumps(value, ensure_ascii=False).encode()
    raw = raw.replace(b"/", b"\\/") if escaped else raw
    expected = copy.deepcopy(value)
    rewrite_urls(expected, upstream=UPSTREAM, public=PUBLIC)
    assert json.loads(_entry(raw)) == expected
