"""The short way from a record to its entry gives what the plain way gives, whatever a line holds."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz.storage.audit_index import AccessEntry
from gateway.audit.index import by_form
from gateway.audit.index.by_form import entries_by_form
from gateway.audit.index.entries import Unreadable, entries_of

BASES = {"fhir": "https://fhir.example/fhir", "": "https://none.example"}
CALLER = {"subject": "anna", "client": "ehr", "grant": "g1", "patient": "P", "claims": {"purpose": "x|TREAT"}}
USUAL: dict[str, Any] = {
    "seq": 7,
    "at": "2026-11-28T12:00:00.250Z",
    "caller": CALLER,
    "decision": "permit",
    "event": "access",
    "interaction": "read",
    "patients": ["A"],
    "request": {"canonical": "GET /Patient/A", "id": "A", "type": "Patient"},
    "route": "fhir",
    "rules": ["ward/treating"],
    "status": 200,
}
STRANGE = st.sampled_from(
    [None, "", 0, 7, 400, 400.0, 400.5, -1, True, False, [], {}, "A", "\0", "x" * 501, "Patient/A", [None], ["A"],
     ["A", "B"], ["Patient/A"], ["\0"], ["x" * 501], [""], ["$x"], [["A"]], {"A": "B"}, "permit", "deny",
     "access", "delivered", "write-begins", "a|b c",
     ["a|b", "c d"], "fhir", "other", 1 << 70, "2026-11-28T12:00:00Z", "\u00fc", "\U0001f600"]
)  # fmt: skip
CANONICALS = st.sampled_from(
    ["GET /Patient/A", "GET Patient/A", "GET /Patient/B", "GET /Patient/", "GET /Patient", "GET /Patient/A?",
     "POST /Patient/A", "GET /Observation/A", "GET /Observation?patient=B", "GET /Observation?subject=Patient/B",
     "GET /Patient/A\n", "",
     "GET  /Patient/A", "GET /Patient/A/Observation", "GET /Patient/_search", "GET /Patient/$x", "GET /x Patient/B"]
)  # fmt: skip
CALLERS = st.sampled_from(
    [CALLER, {}, None, [], "anna", {**CALLER, "subject": None}, {**CALLER, "subject": "", "client": 7, "grant": None},
     {**CALLER, "purpose_of_use": ["a|b"], "patient": "Patient/Q"}, {**CALLER, "patient": None, "claims": []}]
)  # fmt: skip
NAMES = [*USUAL, "base", "by", "client", "client_id", "emergency", "grant_id", "outcome", "patient", "purpose", "query",
         "rule", "subject", "types", "who", "upstream"]  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A record as most are, but for a few members."""
    record = dict(USUAL)
    record["caller"] = draw(CALLERS)
    record["request"] = {**USUAL["request"], "canonical": draw(CANONICALS)}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        record[name] = draw(STRANGE)
    if draw(st.booleans()):
        record.pop(draw(st.sampled_from(sorted(record))))
    return record


def told(entries: Any, line: bytes) -> Sequence[AccessEntry] | str:
    """What it gives, or that it cannot."""
    try:
        return list(entries(line, chain="node", bases=BASES))
    except Unreadable:
        return "unreadable"


@given(records(), st.booleans())
@example({**USUAL, "status": 400.0}, True)
@example({**USUAL, "route": ""}, True)
@example({**USUAL, "patients": []}, True)
@example({**USUAL, "rules": [""], "purpose": [""]}, True)
def test_the_entry_of_a_record_is_that_of_the_plain_way(record: dict[str, Any], as_written: bool) -> None:
    line = json.dumps(record, ensure_ascii=as_written).encode()
    assert told(entries_by_form, line) == told(entries_of, line)


@given(records(), st.data())
def test_bytes_that_were_changed_make_no_difference_between_the_two(
    record: dict[str, Any], data: st.DataObject
) -> None:
    line = json.dumps(record).encode()
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 20)))
    piece = data.draw(
        st.sampled_from(
            [b"", b'"', b"\\", b"\xff", b"{", b'","base":"b', b'"patients":["B"],', b"\\u0000", b" "]
        )
    )
    changed = line[:start] + piece + line[end:]
    assert told(entries_by_form, changed) == told(entries_of, changed)


@pytest.mark.parametrize(
    ("twice", "of"),
    [("patients", ["B"]), ("base", "b"), ("request", {"canonical": "GET /x"}), ("emergency", {})],
)
def test_of_a_member_that_stands_twice_both_take_the_same(twice: str, of: object) -> None:
    line = json.dumps(USUAL).encode()
    member = f'"{twice}":{json.dumps(of)}'.encode()
    for changed in (b"{" + member + b"," + line[1:], line[:-1] + b"," + member + b"}"):
        assert told(entries_by_form, changed) == told(entries_of, changed)


def test_a_usual_record_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Sequence[AccessEntry]:
        raise AssertionError("the plain way")

    monkeypatch.setattr(by_form, "entries_of", refused)
    for changes in ({}, {"patients": []} | {"request": {"canonical": "GET /Observation/o"}}, {"base": "b"}):
        (entry,) = entries_by_form(json.dumps({**USUAL, **changes}).encode(), chain="", bases=BASES)
        assert entry.user == "anna"
