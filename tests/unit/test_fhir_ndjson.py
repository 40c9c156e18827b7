"""gateway.fhir.ndjson: lines are the same wherever the chunks cut, and nothing with two readings passes."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.ndjson import Line, LineReader
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import write_resource

LINES = [
    b'{"resourceType":"Observation","valueQuantity":{"value":6.30}}',
    '{ "resourceType" : "Patient", "name":[{"text":"Zo\u00eb \U0001f600"}] }'.encode(),
    b'{"resourceType":"Patient","id":"A","extension":[{"url":"x","valueDecimal":1.0e-3}]}',
]
FILE = b"\n".join(LINES) + b"\n"


def read(chunks: list[bytes], *, max_line_bytes: int = 1000) -> list[Line]:
    reader = LineReader(max_line_bytes=max_line_bytes)
    found = [line for chunk in chunks for line in reader.feed(chunk)]
    return found + reader.finish()


@given(st.lists(st.integers(0, len(FILE)), max_size=12))
def test_chunk_borders_never_matter(cuts: list[int]) -> None:
    places = sorted({0, len(FILE), *cuts})
    chunks = [FILE[start:end] for start, end in pairwise(places)]
    assert [line.raw for line in read(chunks)] == LINES


def test_single_bytes_white_space_and_a_last_line_without_an_end_are_read() -> None:
    content = b"\r\n\n" + b"\r\n \r\n".join(LINES)
    assert [line.raw for line in read([bytes([byte]) for byte in content])] == LINES


def test_decimals_keep_the_text_that_they_were_written_with() -> None:
    first, _, third = read([FILE])
    assert write_resource(first.value) == LINES[0]
    assert write_resource(third.value) == LINES[2]


def test_an_empty_file_has_no_line() -> None:
    assert read([]) == read([b""]) == read([b"\n\n"]) == []


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"7", b'"x"', b"{}", b'{"resourceType":7}', b'{"resourceType":"Patient"} {"resourceType":"Patient"}',
        b'{"resourceType":"Patient","resourceType":"Group"}', b'\xef\xbb\xbf{"resourceType":"Patient"}',
        b'{"resourceType":"Patient","id":"\xff"}', b'{"resourceType":"Patient","x":NaN}',
        b'{"resourceType":"Patient","x":' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + LINES[0]])
def test_a_line_that_is_no_resource_with_one_reading_is_refused(line: bytes, end: bytes) -> None:
    with pytest.raises(FhirError) as refusal:
        read([line + end])
    assert refusal.value.reason is Reason.UPSTREAM_INVALID


def test_a_line_may_be_as_long_as_allowed_and_no_longer() -> None:
    line = json.dumps({"resourceType": "Patient", "id": "x" * 50}).encode()
    for chunks in ([line], [line, b"\n"], [bytes([byte]) for byte in line]):
        assert len(read(chunks, max_line_bytes=len(line))) == 1
        with pytest.raises(FhirError, match=f"more than {len(line) - 1} bytes"):
            read(chunks, max_line_bytes=len(line) - 1)


def test_a_line_without_an_end_is_refused_before_it_is_held_whole() -> None:
    reader = LineReader(max_line_bytes=100)
    for _ in range(10):
        assert reader.feed(b"x" * 10) == []
    with pytest.raises(FhirError):
        reader.feed(b"x")
