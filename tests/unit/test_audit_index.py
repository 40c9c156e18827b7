"""The index of the audit log: what each record becomes, and a follower that loses nothing and doubles nothing."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.events import ConsentGiven, SignIn, TokenIssued
from authz.storage.audit_index import AccessEntry, AuditQuery
from authz.storage.audit_lines import AuditLine
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway.audit.index import follower as following
from gateway.audit.index.entries import Unreadable, entries_of, milliseconds
from gateway.audit.index.follower import (
    PAGE_LINES,
    IndexFollower,
    bases_of,
    bases_to_ask,
    rebuild,
    remove_old,
)
from gateway.audit.log import AuditLog
from gateway.document_settings import DocumentSettings
from gateway.fhir.ids import is_id
from gateway.settings import GatewaySettings, Upstream

BASE = "https://fhir.example/fhir/r4"
BASES = {"fhir": BASE}
CALLER = {
    "issuer": "https://fhir.example",
    "subject": "anna",
    "client": "ehr",
    "grant": "g1",
    "patient": None,
}
ACCESS: dict[str, Any] = {
    "event": "access",
    "route": "fhir",
    "interaction": "read",
    "interaction_id": "i1",
    "decision": "permit",
    "status": 200,
    "caller": CALLER,
    "rules": ["ward/treating", "ward/notes"],
    "request": {"type": "Observation", "id": "o1", "canonical": "GET /Observation/o1"},
    "purpose": ["TREAT"],
}


def line(**changes: Any) -> bytes:
    """A line of the log: that of ACCESS with changes, None for a member that is not there."""
    record = {"seq": 7, "at": "2026-11-28T12:00:00.250Z", **ACCESS, **changes}
    return json.dumps({name: value for name, value in record.items() if value is not None}).encode()


def patients(**changes: Any) -> list[str]:
    return [entry.patient for entry in entries_of(line(**changes), chain="", bases=BASES)]


def asked(canonical: str, type: str = "Observation") -> dict[str, Any]:
    return {"type": type, "id": None, "canonical": canonical}


def test_an_access_becomes_an_entry_with_all_that_is_asked_for() -> None:
    (entry,) = entries_of(line(patients=["A"]), chain="node-1", bases=BASES)
    assert entry == AccessEntry(
        chain="node-1",
        sequence=7,
        at=1795867200250,
        base=BASE,
        patient="A",
        user="anna",
        client="ehr",
        grant="g1",
        kind="read",
        outcome="permit",
        rule="ward/treating ward/notes",
        purpose="TREAT",
        types="Observation",
    )


@pytest.mark.parametrize(
    ("canonical", "type", "found"),
    [
        ("GET /Patient/A", "Patient", ["A"]),
        ("GET /Patient/A/_history/3", "Patient", ["A"]),
        ("GET /Patient/A/Observation", "Observation", ["A"]),
        ("POST /Patient/A/$everything", "Patient", ["A"]),
        ("POST /Patient/_search?_id=A%2CB", "Patient", ["A", "B"]),
        ("GET /Patient/$match", "Patient", [""]),
        ("GET /Observation?patient=A", "Observation", ["A"]),
        ("GET /Observation?patient=Patient%2FA&code=x", "Observation", ["A"]),
        ("GET /Observation?subject%3APatient=A", "Observation", ["A"]),
        (
            "GET /Observation?subject=https%3A%2F%2Ffhir.example%2Ffhir%2Fr4%2FPatient%2FA",
            "Observation",
            ["A"],
        ),
        ("GET /Observation?subject=Group%2FA", "Observation", [""]),
        ("GET /Observation?subject=A", "Observation", [""]),  # whose type nobody said
        ("GET /Observation?patient.identifier=A", "Observation", [""]),
        ("GET /Observation?patient%3Aidentifier=A", "Observation", [""]),
        ("GET /Observation?code=patient", "Observation", [""]),
        ("GET /Patient?name=A", "Patient", [""]),
    ],
)
def test_whom_a_request_names(canonical: str, type: str, found: list[str]) -> None:
    assert patients(request=asked(canonical, type)) == found


def test_everybody_whom_an_answer_showed_has_an_entry_beside_whom_the_request_named() -> None:
    request = asked("GET /Observation?patient=A")
    assert patients(request=request, patients=["C", "B", "A"]) == ["A", "B", "C"]
    assert patients(request=request, patients=[]) == ["A"]  # nothing was there: it was asked for all the same


def test_what_a_caller_writes_before_a_patient_hides_no_access_to_it() -> None:
    padded = asked(f"GET /Observation?code={'x' * 600}&patient=Patient/{'a' * 40}")
    assert patients(request=padded, decision="deny", status=403) == ["a" * 40]
    long = asked(f"GET /Observation?code={'x' * 470}&patient=Patient/{'a' * 40}")
    assert patients(request=long) == ["a" * 40]  # and nobody whose id begins so
    others = ",".join(f"-{number}" for number in range(1500))
    found = patients(request=asked(f"POST /Observation/_search?patient={others}"), patients=["Z"])
    assert len(found) == 1000
    assert "Z" in found
    fields = "&".join(["_tag=a"] * 2000)
    assert patients(request=asked(f"GET /Observation?{fields}"), patients=["Z"]) == ["Z"]
    assert patients(request=asked("GET /Observation?patient=Patient/<b>,Patient/A%00"), patients=["Z"]) == [
        "Z"
    ]


def test_the_patient_of_the_token_counts_only_where_nothing_else_says_whom() -> None:
    caller = {**CALLER, "patient": "A"}
    assert patients(caller=caller) == ["A"]
    assert patients(caller=caller, patients=["B"]) == ["B"]


def test_a_denied_and_an_unfinished_access_are_told_apart_from_a_permitted_one() -> None:
    outcomes = [
        entries_of(line(**each), chain="", bases=BASES)[0].outcome
        for each in ({}, {"decision": "deny"}, {"decision": "refused"}, {"event": "write-begins"})
    ]
    assert outcomes == ["permit", "deny", "refused", "begun"]


def test_emergency_access_is_about_its_patient_at_the_only_base() -> None:
    emergency = {"rule": "emergency/chart", "client": "ehr", "subject": "anna", "patient": "A", "id": "x"}
    record = {"seq": 1, "at": "2026-11-28T12:00:00Z", "event": "break-glass-start", "emergency": emergency}
    (entry,) = entries_of(json.dumps(record).encode(), chain="", bases=BASES)
    assert (entry.base, entry.patient, entry.user, entry.rule) == (BASE, "A", "anna", "emergency/chart")
    (entry,) = entries_of(
        json.dumps(record).encode(), chain="", bases={**BASES, "other": "https://o.example"}
    )
    assert (entry.base, entry.patient) == ("", "A")  # which of two is not guessed


def test_the_second_record_of_a_long_answer_counts_where_it_names_more_patients() -> None:
    ended = {"event": "delivered", "decision": None, "patients": ["B"]}
    (entry,) = entries_of(line(**ended), chain="", bases=BASES)
    assert (entry.patient, entry.kind, entry.outcome, entry.user) == ("B", "read", "permit", "anna")
    assert entries_of(line(**{**ended, "patients": []}), chain="", bases=BASES) == ()


def test_what_was_permitted_and_showed_nothing_is_told_apart() -> None:
    request = asked("GET /Observation?patient=A")

    def outcomes(**changes: Any) -> dict[str, str]:
        found = entries_of(line(request=request, **changes), chain="", bases=BASES)
        return {entry.patient: entry.outcome for entry in found}

    assert outcomes(patients=["B"]) == {"A": "nothing", "B": "permit"}
    assert outcomes(patients=["B"], decision="deny") == {"A": "deny", "B": "deny"}
    assert outcomes(status=404) == {"A": "nothing"}
    assert outcomes() == {"A": "permit"}  # a record that does not list whom it showed


@pytest.mark.parametrize(
    ("changes", "purpose"),
    [
        ({"purpose": ["TREAT", "http://terminology.hl7.org/CodeSystem/v3-ActReason|HRESCH"]}, "TREAT HRESCH"),
        ({"purpose": None, "caller": {**CALLER, "purpose_of_use": "HPAYMT"}}, "HPAYMT"),
        ({"purpose": None, "caller": {**CALLER, "claims": {"purpose": ["x|ETREAT"]}}}, "ETREAT"),
        ({"purpose": None}, ""),
    ],
)
def test_the_purpose_is_that_of_the_record_or_of_the_callers_claims(
    changes: dict[str, Any], purpose: str
) -> None:
    (entry,) = entries_of(line(**changes), chain="", bases=BASES)
    assert entry.purpose == purpose


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"seq":1}', b'{"seq":1,"at":"yesterday"}', b'{"seq":1,"at":"2026-11-28"}']
)
def test_what_is_no_record_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(Unreadable):
        entries_of(content, chain="", bases=BASES)


def test_members_of_a_wrong_type_are_no_members() -> None:
    strange = {"caller": [], "request": "GET", "rules": 5, "patients": "A", "route": 7, "interaction": None}
    (entry,) = entries_of(line(**strange, purpose={"a": 1}), chain="", bases=BASES)
    assert (entry.patient, entry.user, entry.base, entry.rule, entry.kind) == ("", "", "", "", "access")


def test_a_zero_byte_never_reaches_a_column_of_text() -> None:
    (entry,) = entries_of(line(caller={**CALLER, "subject": "an\0na"}), chain="", bases=BASES)
    assert entry.user == "an\ufffdna"


def test_times_are_milliseconds_and_have_a_zone() -> None:
    assert milliseconds("1970-01-01T00:00:01.005Z") == 1005
    with pytest.raises(ValueError, match="zone"):
        milliseconds("1970-01-01T00:00:01")


PIECES = st.sampled_from(
    [
        " ",
        "/",
        "//",
        "?",
        "Patient",
        "Patients",
        "A",
        "_search",
        "$match",
        "GET",
        "&",
        "_id=B,C",
        "patient=D",
        "\n",
        "%2F",
        "",
    ]
)


@given(st.lists(PIECES, max_size=9).map("".join))
def test_a_path_is_understood_as_its_segments_however_it_is_written(canonical: str) -> None:
    path, _, query = canonical.partition(" ")[2].partition("?")
    segments = [segment for segment in path.split("/") if segment]
    expected = set()
    if segments[:1] == ["Patient"] and len(segments) > 1 and segments[1][0] not in "_$":
        expected.add(segments[1])
    for name, value in parse_qsl(query):
        if (name == "_id" and segments[:1] == ["Patient"]) or name == "patient":
            expected.update(value.split(","))
    expected = {each for each in expected if is_id(each)}
    assert set(patients(request=asked(canonical))) == (expected or {""})


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from((3, 6, 0)))
def test_a_time_is_read_the_same_as_the_log_writes_it_and_otherwise(moment: datetime, digits: int) -> None:
    spelled = moment.isoformat(timespec={3: "milliseconds", 6: "microseconds", 0: "seconds"}[digits])
    expected = round(datetime.fromisoformat(spelled).timestamp() * 1000)
    assert milliseconds(spelled) == milliseconds(spelled.replace("+00:00", "Z")) == expected


@pytest.mark.parametrize(
    "at",
    [
        "2026-11-28T12:00:00.\u0661\u0662\u0663Z",
        "2026-11-28T25:00:00.000Z",
        "2026-11-28T12:00:00.1 3Z",
        "x" * 24,
    ],
)
def test_what_only_looks_like_a_time_is_none(at: str) -> None:
    with pytest.raises(ValueError):
        milliseconds(at)


def test_records_of_one_caller_have_what_each_says_itself() -> None:
    caller = {**CALLER, "purpose_of_use": "HPAYMT", "patient": "P"}
    one, other = line(caller=caller, purpose=None), line(caller=caller, purpose=["x|TREAT"], patients=["B"])
    for content, patient, purpose in ((one, "P", "HPAYMT"), (other, "B", "TREAT"), (one, "P", "HPAYMT")):
        (entry,) = entries_of(content, chain="", bases=BASES)
        assert (entry.patient, entry.purpose, entry.user) == (patient, purpose, "anna")


# The follower


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


@pytest.fixture
async def log(store: SqliteStore) -> AuditLog:
    return await AuditLog.open(store, lambda: 1_795_867_200.0)


async def sequences(store: SqliteStore, **wanted: Any) -> list[int]:
    return [each.sequence for each in await store.find_audit(AuditQuery(limit=1000, **wanted))]


async def test_what_was_appended_is_found_by_patient_once_the_follower_ran(
    store: SqliteStore, log: AuditLog
) -> None:
    follower = IndexFollower(store, BASES)
    await log.record({**ACCESS, "patients": ["A", "B"]})
    log.note(SignIn("accepted", "anna", "ehr", "10.0.0.1"))
    log.note(TokenIssued("authorization_code", "ehr", "anna", "g1", "t1", "dpop"))
    log.note(ConsentGiven("allowed", "anna", "ehr", ("openid",), "g1"))
    await log.settled()
    assert await follower.behind() == 4
    assert await follower.follow() == 4
    assert await follower.behind() == 0
    assert await sequences(store, base=BASE, patients=["B"]) == [1]
    assert await sequences(store, user="anna") == [4, 3, 2, 1, 1]
    assert await sequences(store, kinds=["sign-in"], outcome="accepted") == [2]
    assert await store.last_use(["g1"]) == {"g1": 1_795_867_200_000}
    assert await follower.follow() == 0


async def test_a_follower_that_is_far_behind_waits_for_no_moment(
    store: SqliteStore, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a load without a quiet moment would leave more and more records out of the index."""
    monkeypatch.setattr(following, "_PATIENT_LINES", 2 * PAGE_LINES)
    for number in range(PAGE_LINES * 4):
        await log.record({**ACCESS, "patients": [str(number)]})
    places: list[int] = []

    async def moment() -> None:
        places.append(await store.indexed_to(""))

    assert await IndexFollower(store, BASES, moment=moment).follow() == PAGE_LINES * 4
    assert places
    assert set(places) == {0, PAGE_LINES}


async def test_a_follower_goes_on_where_another_was_killed_and_indexes_nothing_twice(
    store: SqliteStore, log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(PAGE_LINES * 2 + 50):
        await log.record({**ACCESS, "patients": [str(number)]})
    whole, written = store.index_audit, 0

    async def dies(entries: Any, *, chain: str, read_to: int) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise StoreUnavailable("killed")
        await whole(entries, chain=chain, read_to=read_to)

    monkeypatch.setattr(store, "index_audit", dies)
    with pytest.raises(StoreUnavailable):
        await IndexFollower(store, BASES).follow()
    assert await store.indexed_to("") == PAGE_LINES
    monkeypatch.undo()
    assert await IndexFollower(store, BASES).follow() == PAGE_LINES + 50
    assert sorted(await sequences(store)) == list(range(1, PAGE_LINES * 2 + 51))


async def test_a_line_that_cannot_be_read_is_passed_by_and_told_to_the_operator(
    store: SqliteStore, log: AuditLog, caplog: pytest.LogCaptureFixture
) -> None:
    await log.record(ACCESS)
    head = await store.audit_head()
    assert head is not None
    await store.append_audit([AuditLine(2, head[1], b"d" * 32, b"\xff no JSON")])
    assert await IndexFollower(store, BASES).follow() == 2
    assert await sequences(store) == [1]
    assert "cannot be indexed" in caplog.text


async def test_the_index_is_made_anew_from_the_log_alone(store: SqliteStore, log: AuditLog) -> None:
    for patient in "ABC":
        await log.record({**ACCESS, "patients": [patient]})
    await IndexFollower(store, BASES).follow()
    before = await store.find_audit(AuditQuery())
    forged = AccessEntry("", 99, 1, BASE, "A", "eve", "ehr", "", "read", "permit", "", "", "")
    await store.index_audit([forged], chain="", read_to=3)
    assert await rebuild(store, BASES, now=1_795_867_200) == 3
    assert await store.find_audit(AuditQuery()) == before


async def test_old_entries_go_and_the_log_stays(store: SqliteStore, log: AuditLog) -> None:
    await log.record(ACCESS)
    await IndexFollower(store, BASES).follow()
    assert await remove_old(store, now=1_795_867_200 + 86400, keep=86400) == 0
    assert await remove_old(store, now=1_795_867_201 + 86400, keep=86400) == 1
    assert await sequences(store) == []
    assert len(await store.audit(after=0, limit=10)) == 1
    assert await IndexFollower(store, BASES).follow() == 0  # and does not come back


async def test_each_chain_is_followed_with_a_place_of_its_own_and_found_in_one_order(
    store: SqliteStore,
) -> None:
    now = [1_795_867_200.0]
    logs = [await AuditLog.open(store, lambda: now[0], chain=name) for name in ("node-1", "node-2")]
    for number in range(4):
        now[0] += 1
        await logs[number % 2].record({**ACCESS, "patients": ["A"]})
    assert await IndexFollower(store, BASES).follow() == 6  # with the record that begins each chain
    found = await store.find_audit(AuditQuery(base=BASE, patients=["A"]))
    assert [(each.chain, each.sequence) for each in found] == [
        ("node-2", 3), ("node-1", 3), ("node-2", 2), ("node-1", 2),
    ]  # fmt: skip
    assert (await store.indexed_to("node-1"), await store.indexed_to("node-2")) == (3, 3)
    await logs[0].record(ACCESS)
    assert await IndexFollower(store, BASES).behind() == 1


def test_accesses_to_documents_are_about_the_patients_of_the_base_that_knows_them() -> None:
    store = Upstream("fhir", "fhir-r4", "/fhir", "http://s", "https://h/fhir", frozenset())
    documents = replace(store, name="cda", identifier="https://h/cda", documents=DocumentSettings("fhir"))
    own = replace(store, name="mhd", identifier="https://h/mhd", documents=DocumentSettings(""))
    settings = cast(GatewaySettings, SimpleNamespace(upstreams=(store, documents, own)))
    assert bases_of(settings) == {"fhir": "https://h/fhir", "cda": "https://h/fhir", "mhd": "https://h/mhd"}
    assert bases_to_ask(settings) == ["fhir", "mhd"]
