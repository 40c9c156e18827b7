"""A Binary is read without its content, from whatever pieces."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.binary import MAX_MEMBERS_BYTES, BinaryMembers
from gateway.fhir.outcome import FhirError

BINARY: dict[str, Any] = {
    "resourceType": "Binary",
    "id": "a",
    "meta": {"versionId": "1", "security": [{"code": "R", "display": 'a "data": \\'}]},
    "contentType": "application/pdf",
    "securityContext": {"reference": "Patient/A", "extension": [{"url": "data", "valueString": "data"}]},
}


def read(text: bytes, size: int) -> dict[str, Any]:
    members = BinaryMembers()
    for at in range(0, len(text), size):
        members.feed(text[at : at + size])
    return members.members()


@given(
    st.permutations([*BINARY, "data"]),
    st.integers(1, 50),
    st.sampled_from(["", "QUJD", "QU\\/D", '\\"data\\":']),
    st.booleans(),
)
def test_P6_the_members_are_the_same_wherever_the_content_stands(
    order: list[str], size: int, content: str, is_spaced: bool
) -> None:
    values = {name: json.dumps(BINARY.get(name)) for name in order} | {"data": f'"{content}"'}
    space = " \n" if is_spaced else ""
    text = "{" + ",".join(f'{space}"{name}"{space}:{space}{values[name]}' for name in order) + "}"
    assert read(text.encode(), size) == BINARY | {"data": ""}


def test_content_of_any_length_is_dropped() -> None:
    members = BinaryMembers()
    members.feed(b'{"resourceType":"Binary","data":"')
    for _ in range(200):
        members.feed(b"QUJD" * 20_000)
    members.feed(b'","securityContext":{"reference":"Patient/B"}}')
    assert members.members()["securityContext"] == {"reference": "Patient/B"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"resourceType":"Patient"}',
        b'{"resourceType":"Binary"',
        b'{"resourceType":"Binary","data":"QUJD',
        b'{"resourceType":"Binary","data":"QUJD"}}',
        b'{"resourceType":"Binary","data":"QUJD","data":"QUJD"}',
        b'{"resourceType":"Binary","securityContext":{},"securityContext":{"reference":"Patient/A"}}',
    ],
)
def test_what_has_no_one_reading_is_refused(text: bytes) -> None:
    with pytest.raises(FhirError, match="upstream-invalid"):
        read(text, 7)


def test_more_beside_the_content_than_is_read_is_refused() -> None:
    with pytest.raises(FhirError, match="more beside its content"):
        read(b'{"resourceType":"Binary","language":"' + b"x" * MAX_MEMBERS_BYTES + b'"}', 4096)
