"""Large resources that are read alone: what judge and record look at is what it is in the whole."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir.by_form import KnownForms
from gateway.fhir.outcome import FhirError
from gateway.fhir.plain_json import plain_object
from gateway.fhir.resource import parse_resource
from gateway.policy.decision import LookingJudge, Permit
from gateway.proxy.answers.large_resources import LargeResources
from gateway.proxy.answers.tally import About, members_noted
from tests.support.policies import BASES, HERE, ask, caller, engine

STORE = "http://upstream:8080/fhir"
OWN = (
    "rule: own, effect: permit, who: {context: patient}, may: [read], resources: [Observation], "
    'where: {compartment: {patient: "{token.patient}"}}'
)


def judge() -> LookingJudge:
    permit = engine(OWN).decide(ask("GET /Observation/o1"), caller("patient", patient="A"), HERE)
    assert isinstance(permit, Permit)
    assert isinstance(permit.judge, LookingJudge)
    return permit.judge


JUDGE = judge()


def written(components: int, **members: Any) -> bytes:
    code = {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]}
    component = [{"code": code, "valueQuantity": {"value": 6.5}}] * components
    subject = {"reference": "Patient/A"}
    value = {"resourceType": "Observation", "id": "o1", "subject": subject, "component": component, **members}
    return json.dumps(value, separators=(",", ":")).encode()


PLAIN = written(100)


FORMS = KnownForms()


def reader() -> LargeResources:
    """One that has read nothing yet, and knows the forms that were read here."""
    return LargeResources(STORE, FORMS)


for _ in range(2):
    assert reader().plain(PLAIN, JUDGE) == plain_object(PLAIN)
CHANGES = [
    (b"Patient/A", b"Patient/B"), (b'"Patient/A"', b"1"), (b'"id":"o1"', b'"id":"o2"'), (b'"id":"o1"', b'"id":1'),
    (b'"id":', b'"id":"x","id":'), (b'"subject":', b'"subject":{},"subject":'), (b"6.5", b"6.50"), (b"6.5", b"1e999"),
    (b"6.5}},", b'6.5,"value":7}},'), (b"4548-4", b"a\\nb"), (b"4548-4", b"\\ud800"), (b"4548-4", b"a\\\\"),
    (b"4548-4", b"\xff"),
    (b"4548-4", b"a\nb"), (b"4548-4", b"http://upstream:8080/fhir/x"), (b"]}", b"]} "), (b"]}", b"]}\n"), (b"[{", b"[ {"),
    (b'"component":', b'"contained":[{"resourceType":"Patient","id":"B"}],"component":'), (b"{", b"[{"),
    (b"4548-4", b'a\\"b'),
    (b'"component":[', b'"component":[1,'), (b'"component":', b'"status":"final","component":'), (b"{", b"\xef\xbb\xbf{"),
    (b"Observation", b"Patient"), (b"Observation", b"Strange"), (b'"resourceType":"Observation",', b""),
]  # fmt: skip


def like_the_whole(raw: bytes) -> None:
    found, whole = reader().plain(raw, JUDGE), plain_object(raw)
    if found is None or found == whole:
        assert found == whole
        return
    exact = parse_resource(raw)  # raises where the strict decoder refuses
    names = members_noted("Observation")
    assert names is not None
    assert found == {name: each for name, each in exact.items() if name in names | JUDGE.looks_at}
    assert JUDGE(found) == JUDGE(exact)
    part, all_ = About(), About()
    part.note(found, BASES)
    all_.note(exact, BASES)
    assert part.record() == all_.record()


@pytest.mark.parametrize(("old", "new"), CHANGES)
@pytest.mark.parametrize("count", [1, -1])
def test_what_is_looked_at_is_what_it_is_in_the_whole(old: bytes, new: bytes, count: int) -> None:
    changed = PLAIN.replace(old, new, count)
    assert changed != PLAIN
    like_the_whole(changed)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(0, len(PLAIN) - 1),
    st.sampled_from([b"", b'"', b"\\", b",", b"}", b"]", b" ", b"0", b"{", b"\x00", b"\n"]),
)
def test_a_byte_that_is_another_makes_no_other_reading(at: int, byte: bytes) -> None:
    like_the_whole(PLAIN[:at] + byte + PLAIN[at + 1 :])


def test_a_known_form_gives_what_is_looked_at_alone() -> None:
    """However many components there are, and what else is read between."""
    part = {"resourceType": "Observation", "id": "o1", "subject": {"reference": "Patient/A"}}
    for components in (100, 500, 1000):
        reader().plain(written(200, note=[{"text": str(components)}]), JUDGE)
        assert reader().plain(written(components), JUDGE) == part


def test_what_is_small_or_looked_at_whole_is_read_whole() -> None:
    assert reader().plain(written(3), JUDGE) == plain_object(written(3))
    assert (
        reader().plain(PLAIN, None)
        == reader().plain(PLAIN, lambda resource: JUDGE(resource))
        == plain_object(PLAIN)
    )


def test_arrays_of_many_unlike_items_have_no_form() -> None:
    fresh = LargeResources(STORE, KnownForms())
    for odd in (1, 50, 99):
        components = [{"code": {"text": "x" * 200}} if n != odd else {"text": "x"} for n in range(100)]
        raw = written(0, component=components)
        for _ in range(4):
            assert fresh.plain(raw, JUDGE) == plain_object(raw)


def test_what_is_a_line_and_more_is_read_whole() -> None:
    assert reader().plain(PLAIN + b"\n" + PLAIN, JUDGE) is None
    assert reader().plain(PLAIN + b"\n", JUDGE) is None


def test_what_is_refused_is_refused_with_a_form_as_without() -> None:
    twice = PLAIN.replace(b'"code":"4548-4"', b'"code":"4548-4","code":"x"', 1)
    assert reader().plain(twice, JUDGE) is None
    with pytest.raises(FhirError):
        parse_resource(twice)
