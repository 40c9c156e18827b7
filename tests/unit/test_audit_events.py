"""AuditEvents of lines that nobody would write, and as one patient may read them."""

import base64
import json
import random
from typing import Any

import pytest

from gateway.audit.events.mapping import audit_events
from gateway.audit.events.narrowed import told_to_patient
from gateway.audit.events.record import Recorder
from tests.support.balp import faults, r4_faults

Json = dict[str, Any]
RECORDER = Recorder("https://issuer.example", "Hospital", {"fhir": "https://issuer.example/fhir"})
ACCESS: Json = {
    "seq": 7,
    "at": "2027-01-15T08:00:00.062Z",
    "event": "access",
    "interaction": "search",
    "interaction_id": "i-1",
    "decision": "permit",
    "status": 200,
    "peer": "192.0.2.1",
    "route": "fhir",
    "method": "GET",
    "request": {"type": "Observation", "canonical": "GET /Observation?patient=A%2CB"},
    "received": "GET https://issuer.example/fhir/Observation?patient=A,B&code=x",
    "caller": {
        "issuer": "https://issuer.example",
        "subject": "dr1",
        "client": "app",
        "token": "t1",
        "grant": "g1",
        "organization": "ward",
    },
    "patients": ["A", "B"],
    "consents": ["c1/_history/2"],
    "rules": ["p/r"],
    "policies": "sha256:x",
}


def events(**changes: Any) -> list[Json]:
    record = {name: value for name, value in {**ACCESS, **changes}.items() if value is not ...}
    return audit_events(json.dumps(record).encode(), RECORDER)


def patients(found: list[Json]) -> list[str]:
    return [
        entity["what"]["reference"].rpartition("/")[2]
        for event in found
        for entity in event["entity"]
        if entity["type"]["code"] == "1"
    ]


@pytest.mark.parametrize(
    ("canonical", "about"),
    [
        ("GET /Observation?patient=A", ["A"]),
        ("GET /Observation?patient=A%2CB", ["A", "B"]),
        ("GET /Observation?subject=Patient%2FA", ["A"]),
        ("GET /Observation?subject=A", []),  # a group's perhaps
        ("GET /Observation?subject=Group%2FA", []),
        ("GET /Patient/A/Observation?code=x", ["A"]),
        ("GET /Observation?patient%3APatient=A", ["A"]),
        ("GET /Observation?code=A", []),
        ("GET /Observation?patient=../../x", []),
    ],
)
def test_without_an_answer_the_patients_are_those_whom_the_request_names(
    canonical: str, about: list[str]
) -> None:
    asked = {"type": "Observation", "canonical": canonical}
    assert patients(events(request=asked, patients=..., consents=...)) == about


def test_nobody_shown_is_about_nobody_and_not_about_the_patient_of_the_token() -> None:
    caller = {**ACCESS["caller"], "patient": "A"}
    asked = {"type": "Practitioner", "canonical": "GET /Practitioner?name=x"}
    assert patients(events(request=asked, caller=caller, patients=[], consents=...)) == []
    assert patients(events(request=asked, caller=caller, patients=..., consents=...)) == ["A"]


def test_the_version_of_a_consent_stands_in_its_reference_and_beside_it() -> None:
    decision = next(event for event in events() if event["type"]["code"] == "110113")
    consent = next(entity for entity in decision["entity"] if entity["type"]["code"] == "Consent")
    assert consent["what"]["reference"] == "https://issuer.example/fhir/Consent/c1/_history/2"
    assert {"type": "version", "valueString": "2"} in consent["detail"]
    assert {"type": "policies", "valueString": "sha256:x"} in consent["detail"]


def test_an_end_that_broke_off_is_outcome_4_and_one_that_named_nobody_new_is_not_counted() -> None:
    broken = events(event="delivered", ended="broken-off", consents=...)
    assert [event["outcome"] for event in broken] == ["4", "4"]
    [end] = events(event="delivered", ended="complete", patients=..., consents=..., request=...)
    assert end["type"]["code"] == "110100"


_ODD: list[Any] = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    " ",
    "x\x00\x01",
    "é" * 50,
    [],
    [None, 3, "a"],
    {},
    {"a": 1},
    "http://",
]


@pytest.mark.parametrize("seed", range(300))
def test_whatever_stands_in_a_line_its_events_are_R4_and_hold_the_profiles_that_they_name(seed: int) -> None:
    chance = random.Random(seed)
    record = json.loads(json.dumps(ACCESS))
    record["event"] = chance.choice(
        ["access", "delivered", "write-begins", "token-issued", "sign-in", "consent", "x"]
    )
    for _ in range(chance.randrange(1, 6)):
        part = record if chance.random() < 0.6 else record.get(chance.choice(["caller", "request"]), record)
        if isinstance(part, dict):
            names = [
                *part,
                "client_id",
                "emergency",
                "labels",
                "trace",
                "outcome",
                "base",
                "operation",
                "entries",
            ]
            part[chance.choice([name for name in names if name not in ("seq", "at", "event")])] = (
                chance.choice(_ODD)
            )
    for event in audit_events(json.dumps(record).encode(), RECORDER):
        assert faults(event) == [], json.dumps(event, indent=1)


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        audit_events(line, RECORDER)


# As one patient may read them


def test_a_patient_reads_the_own_events_and_nothing_of_whom_else_was_asked_for() -> None:
    found = [told for event in events() if (told := told_to_patient(event, "A")) is not None]
    assert len(found) == 2  # the access, and the decision by consent
    assert patients(found) == ["A", "A"]
    for event in found:
        assert faults(event) == []
        assert "Patient/B" not in json.dumps(event)
    query = next(entity["query"] for entity in found[0]["entity"] if "query" in entity)
    assert base64.b64decode(query).decode() == "GET https://issuer.example/fhir/Observation?patient&code"
    assert told_to_patient(events()[0], "C") is None


@pytest.mark.parametrize(
    ("received", "told"),
    [
        ("GET https://h/fhir/Patient/B/Observation?code=x", "GET https://h/fhir/Patient/Observation?code"),
        (
            "POST https://h/fhir/Observation/_search\r\n\r\npatient=B",
            "POST https://h/fhir/Observation/_search?patient",
        ),
        ("GET https://h/fhir/Observation", "GET https://h/fhir/Observation"),
    ],
)
def test_of_a_request_the_places_and_names_stay_and_no_value(received: str, told: str) -> None:
    event = told_to_patient(events(received=received)[0], "A")
    assert event is not None
    query = next(entity["query"] for entity in event["entity"] if "query" in entity)
    assert base64.b64decode(query).decode() == told


def test_a_refusal_is_told_without_its_text_and_what_is_about_nobody_not_at_all() -> None:
    refused = events(status=403, decision="deny", reason="policy-denied", explanation="not B", patients=...)
    own = told_to_patient(refused[0], "A")
    assert own is not None
    assert own["outcome"] == "4"
    assert "outcomeDesc" not in own
    assert r4_faults(own) == []
    assert told_to_patient(events(patients=[], consents=...)[0], "A") is None
