"""The signature base: one line a component, whatever stands in the fields."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.http_signatures import (
    Component,
    Message,
    MessageSignatureError,
    read_wish,
    response_components,
    response_parameters,
    signature_base,
    with_wish,
)
from authz.protocol.structured_fields import write_item

NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=10)
VALUES = st.text(max_size=30)
SENDABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
FIELDS = st.lists(st.tuples(NAMES, SENDABLE), min_size=1, max_size=6)


@given(fields=FIELDS, trailers=FIELDS, method=st.sampled_from(["GET", "POST"]))
def test_the_base_has_one_line_a_component_in_their_order(
    fields: list[tuple[str, str]], trailers: list[tuple[str, str]], method: str
) -> None:
    request = Message(fields=fields, method=method, target_uri="https://fhir.example/Patient?a=b")
    response = Message(fields=fields, trailers=trailers, status=200)
    covered = [Component("@status"), Component("@method", of_request=True)]
    covered += [Component(name) for name in dict.fromkeys(name for name, _ in fields)]
    covered += [Component(name, of_request=True) for name in dict.fromkeys(name for name, _ in fields)]
    covered += [Component(name, of_trailer=True) for name in dict.fromkeys(name for name, _ in trailers)]
    lines = signature_base(covered, {"created": 1}, response, request).decode("ascii").split("\n")
    assert len(lines) == len(covered) + 1
    for component, line in zip(covered, lines, strict=False):
        assert line.startswith(write_item(component.item()) + ": ")
    assert lines[-1].startswith('"@signature-params": (')


@given(st.lists(VALUES, min_size=1, max_size=3))
def test_no_value_of_a_field_begins_a_line(values: list[str]) -> None:
    message = Message(fields=[("x-field", value) for value in values], status=200)
    try:
        base = signature_base([Component("x-field")], {}, message, None)
    except MessageSignatureError:
        return
    lines = base.decode("ascii").split("\n")
    assert len(lines) == 2
    assert "\r" not in lines[0]


@pytest.mark.parametrize(
    "value",
    [
        'x\n"@status": 200',
        'x\r\n"@status": 200',
        'x\r"@status": 200',
        "x\x0b\x0c\x1c\x85\u2028y",
        "Grüße",
        "x\x00",
        "\x7f",
    ],
)
def test_a_value_with_a_line_break_or_beyond_ascii_is_not_signed(value: str) -> None:
    message = Message(fields=[("x-field", value)], status=200)
    with pytest.raises(MessageSignatureError):
        signature_base([Component("x-field")], {}, message, None)


def test_the_parts_of_two_values_cannot_change_places() -> None:
    """What RFC 9421 7.5.6 warns of: a name that would look like another component's line."""
    for name in ('a": x\n"b', 'a";req', "a b", "Ä", "A", "", "@", "a\n"):
        with pytest.raises(MessageSignatureError):
            signature_base([Component(name)], {}, Message(fields=[(name, "x")], status=200), None)


def test_without_its_request_a_bound_answer_has_no_base() -> None:
    with pytest.raises(MessageSignatureError):
        signature_base([Component("@method", of_request=True)], {}, Message(status=200), None)


def test_a_status_has_three_digits_and_a_request_has_none() -> None:
    assert signature_base([Component("@status")], {}, Message(status=200), None).startswith(
        b'"@status": 200\n'
    )
    with pytest.raises(MessageSignatureError):
        signature_base([Component("@status")], {}, Message(method="GET", target_uri="https://x/"), None)


def test_a_ps256_key_has_no_name_in_the_registry_and_so_no_alg() -> None:
    assert response_parameters(created=7, keyid="k.1", algorithm="PS256") == {
        "created": 7,
        "keyid": "k.1",
        "tag": "fapi-2-response",
    }
    assert response_parameters(created=7, keyid="k.1", algorithm="Ed25519")["alg"] == "ed25519"
    assert read_wish('a=();alg="rsa-pss-sha512"', keyid="k.1", algorithm="PS256") is None
    assert read_wish('a=();keyid="k.1"', keyid="k.1", algorithm="PS256") is not None


def test_an_answer_without_content_is_covered_without_digest() -> None:
    request = Message(method="GET", target_uri="https://fhir.example/Patient/a")
    response = Message(fields=[("ETag", 'W/"1"')], status=304)
    covered = response_components(response, request, digest_in_trailer=False, digest_of_request=False)
    assert [component.name for component in covered] == ["@status", "etag", "@method", "@target-uri"]


def test_a_digest_that_was_asked_for_is_not_fulfilled_by_an_answer_without_one() -> None:
    request = Message(method="GET", target_uri="https://fhir.example/Patient/a")
    response = Message(status=204)
    covered = response_components(response, request, digest_in_trailer=False, digest_of_request=False)
    wish = read_wish('a=("content-digest")', keyid="k", algorithm="ES256")
    assert wish is not None
    assert with_wish(covered, wish, response, request) is None
