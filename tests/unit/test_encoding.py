"""base64url, JSON and forms have one reading or none."""

import base64
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz.protocol import encoding
from authz.protocol.encoding import (
    base64url,
    base64url_decode,
    compact_json,
    parse_form,
    parse_query,
    strict_json,
)
from authz.protocol.errors import ErrorCode, OAuthError


@given(st.binary(max_size=100))
def test_base64url_is_read_back_and_agrees_with_the_standard_library(content: bytes) -> None:
    text = base64url(content)
    assert text == base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    assert base64url_decode(text) == content


@given(st.text(alphabet="ABCwxyz0189-_+/=. \n", max_size=12))
@example("QQ==")
def test_only_what_base64url_writes_is_read(text: str) -> None:
    try:
        content = base64url_decode(text)
    except ValueError:
        return
    assert base64url(content) == text


@pytest.mark.parametrize("text", ["QQ==", "QQ=", "QR", "Q", "QQ Q", "Q+Q/", "QQ\n", "é", "\ud800", "QUJ="])
def test_another_text_of_the_same_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        base64url_decode(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_JSON_is_read_as_everybody_reads_it(value: Any, ascii_only: bool) -> None:
    content = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert strict_json(content, max_depth=100) == value


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":{"a":1,"a":1}}]',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"\\uDC00":1}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b"1" * 5000,
        b"",
        b" ",
        b"{} {}",
        b"{'a':1}",
        b'{"a":1,}',
        b'"\n"',
        b"01",
        b"+1",
        b"// x\n1",
    ],
)
def test_JSON_with_a_second_reading_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        strict_json(content)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert strict_json(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert strict_json(b'"\\\\ud800"') == "\\ud800"


def test_JSON_is_bounded_in_bytes() -> None:
    assert strict_json(b"[1]", max_bytes=3) == [1]
    with pytest.raises(ValueError, match="4 bytes, at most 3"):
        strict_json(b"[12]", max_bytes=3)


def test_JSON_is_bounded_in_depth_and_brackets_in_strings_do_not_count() -> None:
    strict_json(b"[" * 32 + b"]" * 32)
    with pytest.raises(ValueError, match="deeper than 32"):
        strict_json(b"[" * 33 + b"]" * 33)
    with pytest.raises(ValueError, match="deeper than 32"):
        strict_json(b'{"a":' * 12_000)
    strict_json(json.dumps(["[{" * 40, '"[', "\\", {"]": "}"}] * 20).encode())
    strict_json(b"[" + b"[]," * 100 + b"[]]", max_depth=2)


@pytest.mark.parametrize("unit", [b'"a', b'\\"', b'"\\', b'"\\"'])
def test_unfinished_strings_cost_no_more_than_their_length(unit: bytes) -> None:
    """A scan that began anew at each quote would take minutes for this."""
    with pytest.raises(ValueError):
        strict_json(b"[" * 40 + b'"' + unit * 30_000, max_bytes=200_000)


_KEYS = st.text(max_size=5) | st.integers() | st.booleans() | st.none()
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_JSON_is_written_as_the_standard_library_writes_it(value: object) -> None:
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        expected = encoder.encode(value).encode("utf-8")
    except ValueError as error:  # no number, no Unicode
        with pytest.raises(type(error)):
            compact_json(value)
        return
    written = compact_json(value)
    # Numbers with an exponent have several texts.
    assert written == expected or repr(json.loads(written)) == repr(json.loads(expected))


def test_what_is_no_JSON_value_is_not_written() -> None:
    for value in (float("nan"), {"a": [float("-inf")]}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            compact_json(value)
    with pytest.raises(TypeError):
        compact_json({"a": object()})
    assert (
        compact_json({"a": None, 1: 2**70, "ü": "\x7f\u2028"})
        == '{"a":null,"1":%d,"ü":"\x7f\u2028"}'.encode() % 2**70
    )


@given(st.text(alphabet="aZ09-_.~%4Ff;+ &=é\x00", max_size=12))
def test_a_form_is_matched_as_character_by_character(text: str) -> None:
    plain = re.fullmatch(r"(?:[!-$&-:<-~]|%[0-9A-Fa-f]{2})*", text)
    assert (encoding._FORM_TEXT.fullmatch(text) is None) == (plain is None)


@given(st.binary(max_size=60))
def test_hostile_JSON_raises_nothing_but_ValueError(content: bytes) -> None:
    try:
        strict_json(content)
    except ValueError:
        return


TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20)


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=6))
def test_a_query_is_read_back(pairs: list[tuple[str, str]]) -> None:
    assert parse_query(urlencode(pairs)) == pairs


@given(st.text(alphabet="ab=&%41+;c3/?é", max_size=20))
def test_what_is_accepted_is_read_as_the_standard_library_reads_it(text: str) -> None:
    try:
        pairs = parse_query(text)
    except ValueError:
        return
    assert pairs == parse_qsl(text, keep_blank_values=True, errors="strict")


def test_a_query_is_decoded_once() -> None:
    assert parse_query("a=%2541&b=%2B+&a=x=y") == [("a", "%41"), ("b", "+ "), ("a", "x=y")]
    assert parse_query("name") == [("name", "")]
    assert parse_query("") == []
    assert parse_query("a=%0D%0A%09") == [("a", "\r\n\t")]


@pytest.mark.parametrize(
    "text",
    [
        "a=%", "a=%4", "a=%4g", "a=%%41", "a=%u0041", "a=%ff", "a=%c0%80", "a=%ed%a0%80", "%00=a", "a=%1f", "a=%7F",
        "a=\x00", "a=\n", "a= ", "a=é", "=a", "&a=b", "a=b&", "a=b&&c=d", "&", "a=1;b=2", "&".join(["a=b"] * 201),
    ],
)  # fmt: skip
def test_a_query_with_a_second_reading_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_query(text)


def test_a_form_has_every_parameter_once() -> None:
    assert parse_form(b"grant_type=authorization_code&code=a%2Bb+c") == {
        "grant_type": "authorization_code",
        "code": "a+b c",
    }
    assert parse_form(b"") == {}


def test_a_parameter_without_a_value_counts_as_not_sent() -> None:
    assert parse_form(b"state=&scope&a=b") == {"a": "b"}


@pytest.mark.parametrize(
    "content", [b"a=1&a=1", b"a=1&a=", b"a=&a", b"a=1&%61=2", b"a=\xe9", b"a=%e9", b"a=%", b"=1", b"a=1&"]
)
def test_a_form_with_a_second_reading_is_invalid_request(content: bytes) -> None:
    with pytest.raises(OAuthError) as caught:
        parse_form(content)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_a_repeated_parameter_is_named() -> None:
    with pytest.raises(OAuthError, match="parameter code is sent more than once"):
        parse_form(b"code=a&code=b")


@given(st.binary(max_size=60))
@example(b'"\\%22=1&"\\%22=2')
def test_hostile_forms_raise_nothing_but_OAuthError(content: bytes) -> None:
    try:
        parse_form(content)
    except OAuthError:
        return


_TEXTS = st.recursive(
    st.sampled_from(
        [
            '"a"', '"\\ud800"', '"\\u0000"', '"\\/"', '"\u2028"', "-0", "0", "1.0", "1e5", "1E400", "1e-7", "0.00001",
            "1e16", "100000.0", "123456789012345678901", "18446744073709551616", "-9223372036854775809",
            "5e-324", "true", "null", "NaN",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]")
        | st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), inner), max_size=3).map(
            lambda each: "{" + ",".join(f'"{name}":{value}' for name, value in each) + "}"
        )
    ),
    max_leaves=8,
)  # fmt: skip


def _value(content: bytes) -> str:
    try:
        return repr(strict_json(content))
    except ValueError:
        return "refused"


@given(_TEXTS)
def test_a_text_without_white_space_is_read_as_the_same_text_with_it(text: str) -> None:
    """The first is read by a decoder in C where it can be, the second never."""
    assert _value(text.encode()) == _value(f" {text}".encode())
