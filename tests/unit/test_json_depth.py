"""How deep JSON is nested, told from its bytes: what is said to be flat is flat."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir.plain_json import plain_object
from gateway.fhir.resource import MAX_DEPTH, is_too_deep, may_be_too_deep

# Text that looks like structure, with and without what has to be escaped.
TEXT = st.text(st.sampled_from('[]{}",:\\a'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=6),
    max_leaves=60,
)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value, "]"]
    return value


@settings(max_examples=400, deadline=None, derandomize=True)
@given(VALUES, st.integers(1, 90))
def test_what_is_told_to_be_flat_is_not_too_deep(value: object, depth: int) -> None:
    whole = [value, nested(depth), value]
    raw = msgspec.json.encode(whole)
    assert is_too_deep(whole) is (depth + 1 > MAX_DEPTH)
    assert may_be_too_deep(raw) or not is_too_deep(whole)


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ('"]"', '"["'),
        ('""', '""'),
        ('"\\"]\\""', '"\\"[\\""'),  # with escapes left aside, brackets that close each other
        ('"\\\\"', '"\\\\"'),
        ('"]",""', '"","["'),
    ],
)
def test_strings_hide_no_depth(before: str, behind: str) -> None:
    raw = (f"[{before}," * (MAX_DEPTH + 5) + "1" + f",{behind}]" * (MAX_DEPTH + 5)).encode()
    assert is_too_deep(json.loads(raw))
    assert may_be_too_deep(raw)


def test_a_long_resource_is_told_to_be_flat_without_a_walk() -> None:
    coding = {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": ""}]}
    value = {"resourceType": "Observation", "component": [{"code": coding}] * 200}
    raw = msgspec.json.encode(value)
    assert not may_be_too_deep(raw)
    assert plain_object(raw) == value
