"""Plain JSON objects: read in C only where nothing is lost by it, else left to the strict decoder."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.outcome import FhirError
from gateway.fhir.pieces import Entry
from gateway.fhir.plain_json import exact_object, plain_object
from gateway.fhir.resource import MAX_DEPTH, Number, parse_json, write_resource
from gateway.fhir.stream import BundleReader
from tests.unit.test_fhir_stream import entry_by_entry

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)


def strictly(raw: bytes) -> Any:
    """What the strict decoder reads, None where it refuses; decimals by their value."""
    try:
        return _by_value(parse_json(raw))
    except FhirError:
        return None


def _by_value(value: Any) -> Any:
    if isinstance(value, Number):
        return float(value.text)
    if isinstance(value, dict):
        return {name: _by_value(each) for name, each in value.items()}
    return [_by_value(each) for each in value] if isinstance(value, list) else value


@given(OBJECTS, st.booleans(), st.booleans())
def test_what_is_plain_is_read_as_the_strict_decoder_reads_it(
    value: dict[str, Any], spaces: bool, escapes: bool
) -> None:
    try:
        raw = json.dumps(value, separators=None if spaces else (",", ":"), ensure_ascii=escapes).encode()
    except UnicodeEncodeError:
        return
    found = plain_object(raw)
    assert found is None or found == strictly(raw)
    if found is not None:
        assert write_resource(exact_object(raw)) == raw


@given(st.binary(max_size=40) | OBJECTS.map(lambda value: json.dumps(value).encode()[:-1]))
def test_bytes_that_the_strict_decoder_refuses_are_never_plain(raw: bytes) -> None:
    if plain_object(raw) is not None:
        assert strictly(raw) is not None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}', b'{"a":1,"b":{"c":1,"c":2}}', b'{"a":1.50}', b'{"a":1E5}', b'{"a":-0}', b'{"a":1e400}',
        b'{"a": 1}', b'{"a":"\\/"}', b'{"a":"\\u0041"}', b'{"a":"\\ud800"}', b'{"a":NaN}', b"[1]", b"", b'{"a":1}x',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}', b'{"a":12345678901234567890123456789}', b"{" * 2000,
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_or_written_in_two_is_not_plain(raw: bytes) -> None:
    found = plain_object(raw)
    assert found is None or (found == strictly(raw) and write_resource(exact_object(raw)) == raw)
    if b"1234567" not in raw:
        assert found is None


def bundle(entries: list[bytes]) -> bytes:
    return b'{"resourceType":"Bundle","entry":[' + b",".join(entries) + b"]}"


def read(raw: bytes, size: int) -> list[tuple[bytes, Any]] | str:
    reader, pieces = BundleReader(), []
    try:
        for start in range(0, len(raw), size):
            pieces += reader.feed(raw[start : start + size])
        pieces += reader.finish()
    except FhirError as error:
        return str(error)
    entries = [piece for piece in entry_by_entry(pieces) if isinstance(piece, Entry)]
    return [(piece.raw, _by_value(piece.value)) for piece in entries]


MARK = b'},{"fullUrl":'
ENTRIES = st.sampled_from(
    [
        b'{"fullUrl":"x","resource":{"a":[1,2.5]}}', b'{"fullUrl":"y","resource":{"value":1.50}}',
        b'{"fullUrl":"z","nested":[{"b":1},{"fullUrl":"inside"}]}', b'{"fullUrl":"},{\\"fullUrl\\":"}',
        b'{ "fullUrl":"spaced"}', b'{"resource":{},"fullUrl":"last"}', b'{"fullUrl":"\xc3\xa9"}',
        b'{"fullUrl":"a","fullUrl":"b"}', b"{}", b'{"fullUrl":"x"} ',
    ]
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=8), st.integers(1, 30))
def test_P6_entries_are_the_same_wherever_chunks_cut_and_whatever_their_form(
    entries: list[bytes], size: int
) -> None:
    raw = bundle(entries)
    whole = read(raw, len(raw))
    assert whole == read(raw, size)
    if isinstance(whole, list):
        assert [each for each, _ in whole] == [each.strip() for each in entries]
        assert [value for _, value in whole] == [strictly(each) for each in entries]
    else:
        assert b'"fullUrl":"a","fullUrl":"b"' in raw


def test_a_mark_inside_entries_does_not_end_them() -> None:
    inner = b'{"fullUrl":"n","contained":[{"id":"1"' + MARK + b'"2"' + MARK + b'"3"}]}'
    entries = [b'{"fullUrl":"first"}', inner, inner, inner, inner, b'{"fullUrl":"last"}']
    found = read(bundle(entries), 10_000)
    assert isinstance(found, list)
    assert [raw for raw, _ in found] == entries


@given(st.integers(1, 60), st.sampled_from([16 * 1024, 16 * 1024 + 7, 40_000]), st.integers(0, 3000))
def test_P6_long_pieces_give_what_the_whole_gives(count: int, size: int, length: int) -> None:
    entries = [b'{"fullUrl":"%d","text":"%b"}' % (n, b"x" * (length * (n % 3))) for n in range(count)]
    raw = bundle(entries)
    found = read(raw, size)
    assert isinstance(found, list)
    assert [each for each, _ in found] == entries
    assert isinstance(read(raw[:-1], size), str)  # an end before the end
    assert isinstance(read(raw + b"x", size), str)
