"""Entries that are read by their form: every answer, record and refusal is that of entries which are read whole."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fhir import by_form
from gateway.fhir.by_form import KnownForms
from gateway.fhir.forms import Wording, form_of, is_clear, merged, wording_of_entry, wording_of_line
from gateway.fhir.ndjson import LineReader
from gateway.fhir.outcome import FhirError
from gateway.fhir.pieces import AlikeEntries
from gateway.fhir.resource import MAX_DEPTH, parse_json
from gateway.fhir.stream import BundleReader
from gateway.policy.decision import Judge, LookingJudge, Permit
from gateway.proxy.answers import tally as tallies
from gateway.proxy.answers.ndjson_filter import NdjsonFilter
from gateway.proxy.answers.response_filter import BundleFilter
from gateway.proxy.answers.tally import Tally
from tests.support.policies import BASES, HERE, ask, caller, engine

UPSTREAM, PUBLIC = "http://upstream:8080/fhir", "https://gw.example/fhir/r4"
OWN = (
    "rule: own, effect: permit, who: {context: patient}, may: [read, search], resources: [Observation, Patient], "
    'where: {compartment: {patient: "{token.patient}"}}'
)
FINAL = (
    "rule: final, effect: permit, who: {context: user}, may: [read, search], resources: [Observation, Patient], "
    'where: {match: {Observation: "status=final&code=4548-4", Patient: "active=true"}}'
)
NOT_O3 = "rule: not-o3, effect: deny, may: [search], resources: [Observation], where: {ids: [o3]}"


def judge_of(rules: list[str], context: str, type_: str = "Observation") -> LookingJudge:
    who = caller(context, patient="A") if context == "patient" else caller(context)
    permit = engine(*rules).decide(ask(f"GET /{type_}"), who, HERE)
    assert isinstance(permit, Permit)
    assert isinstance(permit.judge, LookingJudge)
    return permit.judge


SOME = (
    "rule: some, effect: permit, who: {context: user}, may: [search], resources: [Observation], "
    'where: {any_of: [{ids: [o1]}, {match: {Observation: "status=amended"}}]}'
)
BUT = (
    "rule: but, effect: deny, may: [search], resources: [Observation], where: {ids: [o3, o2]}, "
    'unless: {match: {Observation: "status=amended"}}'
)
ONLY = (
    "rule: only, effect: require, may: [search], resources: [Observation], where: {ids: [o1]}, "
    'unless: {match: {Observation: "status=final"}}'
)
OTHER_VIEW = (
    "rule: other-view, effect: permit, who: {context: user}, may: [search], resources: [Condition], "
    "where: {ids: [a]}, return: {hide: [Condition.note]}"
)
JUDGES = [
    judge_of([OWN], "patient"), judge_of([FINAL], "user"), judge_of([OWN, NOT_O3], "patient"), judge_of([SOME], "user"),
    judge_of([OWN, BUT], "patient"), judge_of([FINAL, ONLY], "user"), judge_of([FINAL, OTHER_VIEW], "user"),
]  # fmt: skip


def entry(id_: str = "o1", **members: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation", "id": id_, "status": "final", "meta": {"versionId": "1"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4"}], "text": "HbA1c"},
        "subject": {"reference": "Patient/A"}, "valueQuantity": {"value": 6.5, "unit": "%"}, "note": [{"text": "é"}],
    }  # fmt: skip
    return {
        "fullUrl": f"{UPSTREAM}/Observation/{id_}",
        "resource": resource | members,
        "search": {"mode": "match"},
    }


def written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


PLAIN = written(entry())
DEEP = b'{"a":' * (MAX_DEPTH + 3) + b"1" + b"}" * (MAX_DEPTH + 3)
# What stands in the plain entry, and what stands there instead.
CHANGES: list[tuple[bytes, bytes]] = [
    (b'"Patient/A"', b'"Patient/B"'), (b'"Patient/A"', b'"%b/Patient/A"' % UPSTREAM.encode()),
    (b'"Patient/A"', b'"HTTP://UPSTREAM:8080/fhir/Patient/A"'), (b'"Patient/A"', b'"Patient/A\\u0041"'),
    (b'"Patient/A"', b'"Patient\\/A"'), (b'"Patient/A"', b"7"), (b'"Patient/A"', b'["Patient/A"]'),
    (b'{"reference":"Patient/A"}', b"null"), (b'{"reference":"Patient/A"}', b'[{"reference":"Patient/A"}]'),
    (b'"subject":', b'"subject":{"reference":"Patient/A"},"subject":'), (b'"subject":', b'"sub\\u006aect":'),
    (b'"subject":', b'"contained":[{"resourceType":"Patient","id":"p"}],"subject":'),
    (b'"subject":', b'"contained":[{"resourceType":"Condition","id":"c","note":[{"text":"x"}]}],"subject":'),
    (b'"subject":', b'"performer":[{"reference":"Patient/A"}],"subject":'), (b'"unit":', b'"unit":"x","unit":'),
    (b'"code":"4548-4"', b'"code":"4548-4","code":"x"'), (b'"search":', b'"search":{},"search":'),
    (b'"search":', b'"link":[],"search":'), (b'"match"', b'"include"'), (b'"match"', b'"outcome"'), (b'"match"', b"1"),
    (b'{"mode":"match"}', b'{"mode":"match","score":0.5}'), (b'{"mode":"match"}', b'{"mode":"match","extension":[]}'),
    (b'{"mode":"match"}', b"[]"), (b"6.5", b"6.50"), (b"6.5", b"6"), (b"6.5", b"-0"), (b"6.5", b"06"), (b"6.5", b"1e3"),
    (b"6.5", b"1E400"), (b"6.5", b"NaN"), (b"6.5", b"1" * 30), (b"6.5", b"1" * 5000), (b"6.5", b"6."), (b"6.5", b"true"),
    (b"6.5", DEEP), (b"6.5", b'"6.5"'), (b"HbA1c", b"a\\nb"), (b"HbA1c", b'a\\"b'), (b"HbA1c", b'a\\"},{\\"fullUrl\\":'),
    (b"HbA1c", b"a\\\\"), (b"HbA1c", b'a\\\\\\"'), (b"HbA1c", b"a\\q"), (b"HbA1c", b"\\ud800"), (b"HbA1c", b"a\x01b"),
    (b"HbA1c", b"a\nb"), (b"HbA1c", b"\xff"), (b"HbA1c", b"\xed\xa0\x80"), (b"HbA1c", b"\x7f\xe2\x80\xa8"),
    (b"HbA1c", b"a\\"), (b"HbA1c", b'a\\","text":"'), (b"HbA1c", b"upstream"), (b"HbA1c", b"http://upstream:8080/fhir/x"),
    (b"HbA1c", b"http:\\/\\/upstream upstream"), (b"HbA1c", "http://\u212aupstream".encode()), (b"HbA1c", b""),
    (b"Observation/o1", b"Observation/o2"), (b"Observation/o1", b"Patient/o1"), (b'"id":"o1"', b'"id":"o3"'),
    (b'"Observation"', b'"Patient"'), (b'"Observation"', b'"Strange"'), (b'"Observation"', b"1"),
    (b"[{", b"[ {"), (b"}]", b"},]"), (b"}]", b"},{}]"), (b'[{"text"', b'[{"text":"y"},{"text"'), (b"}]", b"}]]"),
    (b',"valueQuantity"', b', "valueQuantity"'), (b',"valueQuantity"', b',"_valueQuantity"'), (b"final", b"amended"),
    (b'"versionId":"1"', b'"security":[{"system":"s","code":"c"}]'), (b'"versionId":"1"', b'"security":[1]'),
    (b'{"fullUrl"', b'\xef\xbb\xbf{"fullUrl"'), (b'{"fullUrl"', b'["fullUrl"'), (b'"meta":{', b'"meta":{"id":false,'),
]  # fmt: skip


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """An entry: plain, with some of the changes, or with a byte that is another."""
    raw = PLAIN.replace(b"o1", draw(st.sampled_from([b"o1", b"o2", b"o3"])))
    for old, new in draw(st.lists(st.sampled_from(CHANGES), max_size=2)) if draw(st.booleans()) else []:
        raw = raw.replace(old, new, 1)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw) - 1))
        raw = (
            raw[:at] + draw(st.sampled_from([b"", b'"', b"\\", b",", b"}", b" ", b"0", b"{"])) + raw[at + 1 :]
        )
    return raw


def bundle(raws: list[bytes]) -> bytes:
    return b'{"resourceType":"Bundle","type":"searchset","entry":[' + b",".join(raws) + b"]}"


async def pieces_of(content: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at, turn = 0, 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        yield content[at : at + size]
        at, turn = at + size, turn + 1


def filtered(content: bytes, judges: dict[str, Judge], sizes: list[int]) -> tuple[Any, ...]:
    """All that comes of an answer: bytes, error, tally."""
    tally, out, refused = Tally(), [], ""

    async def run() -> None:
        passing = BundleFilter(
            judges=judges, upstream=UPSTREAM, public=PUBLIC, kind="searchset", added=(), exact=True, self_url="x",
            seal=lambda target: None, tally=tally, bases=BASES,
        )  # fmt: skip
        async for piece in passing.run(pieces_of(content, sizes)):
            out.append(piece)

    try:
        asyncio.run(run())
    except FhirError as error:
        refused = str(error)
    about = tally.about
    return (
        b"".join(out),
        refused,
        tally.shown,
        tally.dropped,
        tally.rules,
        about.record(in_part=False),
        about.patients,
    )


def both_ways(content: bytes, judge: LookingJudge, sizes: list[int]) -> tuple[Any, ...]:
    """What comes of it by form, which is what comes of it without."""
    judges: dict[str, Judge] = {"Observation": judge}
    filtered(bundle([PLAIN] * 12), judges, [10_000])  # so that its form is known
    by_form = filtered(content, judges, sizes)
    assert by_form == filtered(content, {"Observation": lambda resource: judge(resource)}, sizes)
    return by_form


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    st.lists(entries(), max_size=10),
    st.sampled_from(JUDGES),
    st.lists(st.integers(1, 3000), min_size=1, max_size=4),
)
def test_any_bundle_is_answered_and_recorded_as_if_it_were_read_whole(
    raws: list[bytes], judge: LookingJudge, sizes: list[int]
) -> None:
    both_ways(bundle([PLAIN, *raws, PLAIN, PLAIN]), judge, sizes)


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_each_change_is_answered_and_recorded_as_if_it_were_read_whole(old: bytes, new: bytes) -> None:
    changed = PLAIN.replace(old, new, 1)
    assert changed != PLAIN
    for judge in JUDGES:
        both_ways(bundle([PLAIN, PLAIN, changed, PLAIN, PLAIN]), judge, [100_000])
        both_ways(bundle([PLAIN, changed, changed, changed, PLAIN]), judge, [997])
        both_ways(bundle([changed] * 20), judge, [100_000])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_what_has_a_form_is_strict_json_of_the_same_names(seed: int) -> None:
    """A byte here and there is another: what still matches is read strictly, and has the same names in the same places."""
    pick = random.Random(seed)
    wording = wording_of_entry(entry(), UPSTREAM, frozenset({"resourceType", "id", "subject", "meta"}))
    assert wording is not None
    form, raw = form_of(wording), bytearray(PLAIN)
    for _ in range(pick.randrange(1, 4)):
        at = pick.randrange(len(raw))
        raw[at : at + pick.randrange(3)] = pick.choice(
            [b'"', b"\\", b"\\n", b"x", b"{", b"}", b",", b"1", b"\x00", b":"]
        )
    text = raw.decode("utf-8", "replace")
    for match in (form.match_escapes(text + ",{", 0), None if "\\" in text else form.match(text + ",{", 0)):
        if is_clear(text) and "\n" not in text and match is not None and match.end() == len(text):
            assert _names(parse_json(text.encode())) == _names(entry())


def _names(value: Any) -> Any:
    if isinstance(value, dict):
        return [(name, _names(each)) for name, each in value.items()]
    return [_names(each) for each in value[:1]] if isinstance(value, list) else None


def exported(content: bytes, judge: Judge, sizes: list[int]) -> tuple[Any, ...]:
    """All that comes of a file of an export."""
    tally, out, refused = Tally(), [], ""

    async def run() -> None:
        passing = NdjsonFilter(judge, UPSTREAM, PUBLIC, tally, 20_000, None, BASES)
        async for piece in passing.run(pieces_of(content, sizes)):
            out.append(piece)

    try:
        asyncio.run(run())
    except FhirError as error:
        refused = str(error)
    return b"".join(out), refused, tally.shown, tally.dropped, tally.rules, tally.about.record(in_part=False)


def line(raw: bytes) -> bytes:
    """The resource of an entry as a line; of one that has no resource any more, what is left."""
    return raw.partition(b'"resource":')[2].partition(b',"search"')[0]


def both_ways_of_a_file(content: bytes, judge: LookingJudge, sizes: list[int]) -> None:
    exported(b"\n".join([line(PLAIN)] * 12), judge, [10_000])
    assert exported(content, judge, sizes) == exported(content, lambda resource: judge(resource), sizes)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(entries(), max_size=10), st.sampled_from(JUDGES), st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
)  # fmt: skip
def test_any_file_is_exported_and_recorded_as_if_its_lines_were_read_whole(
    raws: list[bytes], judge: LookingJudge, sizes: list[int], between: bytes
) -> None:
    both_ways_of_a_file(between.join([line(raw) for raw in [PLAIN, *raws, PLAIN, PLAIN]]), judge, sizes)


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_each_change_of_a_line_is_exported_as_if_it_were_read_whole(old: bytes, new: bytes) -> None:
    changed, plain = line(PLAIN.replace(old, new, 1)), line(PLAIN)
    for judge in JUDGES:
        both_ways_of_a_file(b"\n".join([plain, plain, changed, plain]), judge, [100_000])
        both_ways_of_a_file(b"\n".join([changed] * 20), judge, [997])


def test_lines_of_a_known_form_are_taken_by_it() -> None:
    known, names = KnownForms(), frozenset({"resourceType", "subject", "meta"})
    raws = (
        [line(PLAIN)] * 30
        + [line(PLAIN).replace(b"HbA1c", b"http://upstream:8080/fhir/x")]
        + [line(PLAIN)] * 30
    )
    for _ in range(2):
        reader = LineReader(by_form=by_form.lines(UPSTREAM, {"Observation": names}.get, known))
        found = reader.feed(b"\n".join(raws) + b"\n") + reader.finish()
    assert [len(each.entries) if isinstance(each, AlikeEntries) else 1 for each in found] == [30, 1, 30]


def test_entries_of_a_known_form_are_taken_by_it_and_others_one_by_one() -> None:
    """The comparisons above would hold of nothing if forms were never used."""
    known, names = KnownForms(), frozenset({"resourceType", "subject", "meta"})
    raws = [written(entry(f"o{n}", subject={"reference": f"Patient/{'AB'[n // 50]}"})) for n in range(100)]
    raws[30] = PLAIN.replace(b"HbA1c", b"http://upstream:8080/fhir/x")
    for _ in range(2):
        reader = BundleReader(by_form=by_form.entries(UPSTREAM, {"Observation": names}.get, known))
        pieces = reader.feed(bundle(raws)) + reader.finish()
    taken = [each for piece in pieces if isinstance(piece, AlikeEntries) for each in piece.entries]
    assert [raw for raw, _ in taken] == [*raws[:30], *raws[31:99]]  # behind the last one there is no other
    assert taken[0][1] == {
        "resource": {
            "resourceType": "Observation",
            "meta": {"versionId": "1"},
            "subject": {"reference": "Patient/A"},
        },
        "search": {"mode": "match"},
    }
    assert len({id(looked_at) for _, looked_at in taken}) == 2


def test_patients_for_whom_a_record_has_no_place_are_counted_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tallies, "MOST_PATIENTS", 1)
    raws = [written(entry(f"o{n}", subject={"reference": f"Patient/{'ABB'[n // 10]}"})) for n in range(30)]
    found = both_ways(bundle(raws), JUDGES[1], [100_000])
    assert found[5]["unlisted"] == 20


NAMES = frozenset({"subject", "meta.security"})


def worded(value: dict[str, Any]) -> Wording:
    wording = wording_of_entry(value, UPSTREAM, NAMES)
    assert wording is not None
    return wording


def ordered(names: tuple[str, ...], **members: Any) -> dict[str, Any]:
    """An entry whose last members are these, in this order."""
    value = entry(**members)
    value["resource"] |= {name: value["resource"].pop(name) for name in names}
    return value


def test_a_form_is_made_of_what_was_seen_twice_and_only_the_last_ones_are_kept() -> None:
    known, key = KnownForms(), ("{", "Observation", NAMES)
    wordings = []
    for names in permutations(("status", "code", "subject")):  # in each other order they are of another form
        value = ordered(names)
        for seen in range(3):
            assert any(form.wording == worded(value) for form in known.of(key)) is (seen > 1)
            known.learn(key, worded(value), written(value).decode() + ",{")
        wordings.append(worded(value))
    assert [form.wording for form in known.of(key)] == wordings[:2:-1]


def test_no_form_is_kept_that_does_not_match_what_it_is_made_of() -> None:
    known, key = KnownForms(), ("{", "Observation", NAMES)
    for _ in range(3):
        known.learn(key, worded(entry()), json.dumps(entry()) + ",{")
    assert known.of(key) == ()


def test_forms_of_one_type_are_made_so_often_only() -> None:
    known, key = KnownForms(), ("{", "Observation", NAMES)
    for n in range(60):
        value = entry(**{f"x{n}": n})
        for _ in range(2):
            known.learn(key, worded(value), written(value).decode() + ",{")
    (form,) = known.of(key)
    assert len(form.wording.members) == len(entry()["resource"]) - 1 + 40


_ORDER = ("meta", "status", "issued", "code", "valueQuantity", "note")
_ODD = [b'"', b"\\n", b"x", b"{", b"}", b",", b"1", b":", b'","code":{"text":"']
_VARIANTS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["final", "amended"]), "meta": st.sampled_from([{"versionId": "1"}, {"security": []}]),
        "code": st.sampled_from([{"text": "a"}, {"coding": [{"code": "c"}] * 3}, {"coding": [{"code": "c"}], "text": "t"}]),
        "valueQuantity": st.sampled_from([{"value": 1.5}, {"value": 1, "unit": "u"}]), "issued": st.just("2026"),
        "note": st.sampled_from([[{"text": "t"}], [{"text": "t"}, {"time": "2026"}], []]),
    },
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(_VARIANTS, min_size=1, max_size=5), st.integers(0, 2**32))
def test_a_form_of_several_matches_each_of_them_and_strict_json_alone(
    variants: list[dict[str, Any]], seed: int
) -> None:
    values = []
    for variant in variants:
        value = entry()
        order = {
            name: variant[name]
            for name in ("meta", "status", "issued", "code", "valueQuantity", "note")
            if name in variant
        }
        resource = {"resourceType": "Observation", "id": "o1", "subject": {"reference": "Patient/A"}} | order
        values.append(value | {"resource": resource})
    wording: Wording | None = worded(values[0])
    for value in values[1:]:
        wording = None if wording is None else merged(wording, worded(value))
    assert wording is not None or any("note" in each for each in variants)
    if wording is None:
        return
    form, pick = form_of(wording), random.Random(seed)
    for value in values:
        text = written(value).decode()
        match = form.match(text + ",{", 0)
        assert match is not None
        assert match.end() == len(text)
        looked_at = form.looked_at(match.groups()[1:])
        assert looked_at is not None
        assert looked_at["resource"]["subject"] == {"reference": "Patient/A"}
        if "security" in value["resource"].get("meta", {}):
            assert looked_at["resource"]["meta"] == {"security": []}
        raw = bytearray(text.encode())
        at = pick.randrange(len(raw))
        raw[at : at + pick.randrange(3)] = pick.choice(_ODD)
        text = raw.decode("utf-8", "replace")
        for matches in (form.match_escapes, form.match):
            found = matches(text + ",{", 0)
            if (
                found is not None
                and found.end() == len(text)
                and is_clear(text)
                and ("\\" not in text or matches is form.match_escapes)
            ):
                parse_json(text.encode())


def test_members_in_another_order_are_not_of_one_form() -> None:
    one, other = worded(ordered(("status", "code"))), worded(ordered(("code", "status")))
    assert merged(one, other) is None
    assert merged(one, worded(entry(status=1, code=[]))) is None
    assert merged(one, one) == one
    assert merged(one, worded(entry() | {"search": {}})) is None
    many: Wording | None = one
    for n in range(4):
        assert many is not None
        many = merged(many, worded(ordered(("status", "code"), note={f"x{n}": 1})))
    assert many is None  # so many values of one member are not looked for


@pytest.mark.parametrize(
    "value",
    [
        {**entry(), "fullUrl": f"{UPSTREAM}/Observation/other"}, {**entry(), "fullUrl": 1}, {**entry(), "link": []},
        dict(reversed(entry().items())), {**entry(), "resource": []}, {**entry(), "search": None},
        entry("."), entry("o/1"), entry(resourceType="Strange"), entry(resourceType=None), entry(**{"a b": 1}),
        entry(**{'a"': 1}), entry(note=[{f"x{n}": n} for n in range(1000)]),
    ],
)  # fmt: skip
def test_what_is_not_as_stores_write_it_has_no_form(value: dict[str, Any]) -> None:
    assert wording_of_entry(value, UPSTREAM, frozenset()) is None


@pytest.mark.parametrize(
    "value", [{}, {"id": "a", "resourceType": "Patient"}, {"resourceType": 1}, {"resourceType": "X"}]
)
def test_a_line_that_is_no_resource_has_no_form(value: dict[str, Any]) -> None:
    assert wording_of_line(value, frozenset()) is None


def test_long_arrays_match_in_one_pass() -> None:
    """A form takes linear time, also where it fails at the very end."""
    wording = wording_of_entry(
        entry(component=[{"code": {"coding": [{"code": "a"}]}}]), UPSTREAM, frozenset()
    )
    assert wording is not None
    match = form_of(wording).match_escapes
    component = [{"code": {"coding": [{"code": 'q"' * 20}] * 20}}] * 500
    text = written(entry(component=component)).decode()
    assert match(text + ",{", 0) is not None
    assert match(text[:-2] + "x},{", 0) is None


class Watched(dict[str, Any]):
    """A resource that remembers which of its members were looked at."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.seen: set[object] = set()

    def get(self, name: Any, default: Any = None) -> Any:
        self.seen.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.seen.add(name)
        return super().__contains__(name)


_REFERENCES = st.sampled_from(
    [
        {"reference": "Patient/A"},
        {"reference": "Patient/B"},
        {"reference": "#c"},
        {"type": "Patient"},
        "x",
        None,
        [1],
    ]
)
_RESOURCES = st.fixed_dictionaries(
    {"resourceType": st.sampled_from(["Observation", "Observation", "Patient", "Condition", None, 1])},
    optional={
        "id": st.sampled_from(["A", "o1", "o3", 1]), "subject": _REFERENCES, "performer": st.lists(_REFERENCES, max_size=2),
        "status": st.sampled_from(["final", "amended", 1, [], {}]), "active": st.booleans() | st.text(max_size=2),
        "code": st.sampled_from([{"coding": [{"code": "4548-4"}]}, {"coding": [1]}, 6]), "link": st.just([{"other": 1}]),
        "contained": st.lists(st.fixed_dictionaries({"resourceType": st.just("Patient"), "id": st.just("c")}), max_size=1),
        "meta": st.sampled_from([{}, {"security": [{"code": "x"}]}]), "note": st.just([{"text": "t"}]),
        "generalPractitioner": st.lists(_REFERENCES, max_size=1),
    },
)  # fmt: skip


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    _RESOURCES,
    st.sampled_from([*JUDGES, judge_of([OWN], "patient", "Patient"), judge_of([FINAL], "user", "Patient")]),
)
def test_judges_look_at_no_more_than_they_say(resource: dict[str, Any], judge: LookingJudge) -> None:
    watched = Watched(resource)
    verdict = judge(watched)
    assert watched.seen <= judge.looks_at | {"contained"}  # where another is contained, it may look at more
    if "contained" in resource:
        return
    assert judge({name: each for name, each in resource.items() if name in judge.looks_at}) == verdict


@settings(max_examples=300, deadline=None, derandomize=True)
@given(_RESOURCES)
def test_the_record_looks_at_no_more_than_it_says(resource: dict[str, Any]) -> None:
    type_ = resource["resourceType"]
    names = (
        tallies.members_noted(type_)
        if isinstance(type_, str)
        else frozenset({"resourceType", "meta.security"})
    )
    assert names is not None
    whole, part, watched = tallies.About(), tallies.About(), Watched(resource)
    whole.note(watched, BASES)
    meta = resource.get("meta", {})
    looked_at = names | {"meta"} if "security" in meta and "meta.security" in names else names
    part.note({name: each for name, each in resource.items() if name in looked_at}, BASES)
    assert watched.seen <= names | {"meta"}
    assert (whole.record(), whole.labels) == (part.record(), part.labels)


@pytest.mark.parametrize(
    "rule",
    [
        'where: {labels: {at_most: R, unlabelled: N}}', 'where: {fhirpath: {Observation: "status = \'final\'"}}',
        'where: {any_of: [{ids: [a]}, {fhirpath: {Observation: "status = \'final\'"}}]}',
        "where: {ids: [a]}, return: {hide: [Observation.note]}",
    ],
)  # fmt: skip
def test_judges_that_may_look_at_anything_say_nothing(rule: str) -> None:
    rules = [
        f"rule: r, effect: permit, who: {{context: user}}, may: [search], resources: [Observation], {rule}"
    ]
    permit = engine(*rules).decide(ask("GET /Observation"), caller("user"), HERE)
    assert isinstance(permit, Permit)
    assert not isinstance(permit.judge, LookingJudge)


def test_what_is_hidden_of_other_types_makes_no_judge_look_at_more() -> None:
    assert judge_of([FINAL, OTHER_VIEW], "user").looks_at == JUDGES[1].looks_at


def test_a_judge_around_a_judge_says_nothing() -> None:
    assert not isinstance(partial(JUDGES[0]), LookingJudge)
