"""Every kind of record, made by playing the request through the gateway, as AuditEvents that hold R4 and IHE BALP."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from authz.events import (
    ClientChanged,
    ConsentChanged,
    ConsentGiven,
    ContextLaunched,
    Event,
    GrantRevoked,
    KeyChanged,
    KeySetFetched,
    OwnRecordShown,
    Refused,
    SignedOut,
    SignIn,
    TokenIssued,
)
from gateway.audit.events.codes import RECORD
from gateway.audit.events.mapping import audit_events
from gateway.audit.events.record import Recorder
from gateway.consents.consent import ConsentSource
from gateway.emergencies import note_ends
from gateway.settings import ConsentSettings
from tests.support.balp import BALP, DCM, PROFILES, faults
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("balp")]
Json = dict[str, Any]
MARK = "MARKED-TEXT-OF-A-BODY"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
POLICY = """
policy: audited
version: 1
owner: tests
status: enforce
text: Enough to play every interaction once.
rules:
  - rule: own-record
    effect: permit
    who: {context: patient}
    may: [read, vread, history-instance, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    because: one's own record
  - rule: staff
    effect: permit
    who: {context: user, role: physician, purpose: TREAT}
    may: [read, search, create, update, patch, delete]
    resources: [Patient, Observation, Practitioner]
    shared: true
    because: treatment
  - rule: agreed
    effect: permit
    who: {context: user, role: physician, purpose: HRESCH}
    may: [read, search]
    resources: [Patient, Observation]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2"}}
    because: the study
  - rule: break-the-glass
    effect: permit
    who: {context: user, role: [physician], purpose: [BTG]}
    may: [read, search]
    resources: [Patient]
    break_glass: {one_patient: true, lasts: 60m, reason: {at_least: 10, at_most: 500}}
    where: {labels: {at_most: R, unlabelled: R}}
    query: {include: none, page_at_most: 100}
    then: {audit: full}
    because: vital interest
  - rule: batches
    effect: permit
    who: {context: user, role: physician, purpose: TREAT}
    may: [batch, transaction]
    resources: any
    shared: true
    because: apps send their reads together
"""
STAFF: Json = {"purpose_of_use": ["TREAT"], "organization": "ward-7"}
CONSENTS = ConsentSettings(ConsentSource(frozenset({"Organization/h1"})), keep=0, timeout=2.0)


class Played:
    """A gateway, and the AuditEvents of what a test did with it."""

    def __init__(self, running: RunningGateway) -> None:
        self.running = running
        self.recorder = Recorder(
            running.origin,
            "Hospital One",
            {"fhir": running.origin + MOUNT},
            disclosed_to=frozenset({"client-lab", "exchange"}),
            organizations=frozenset({"elsewhere"}),
        )
        self.seen = 0

    async def ask(
        self, method: str, path: str, body: Any = None, *, who: str = "dr1", headers: Any = (), **claims: Any
    ) -> Reply:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = [*headers]
        if raw and not any(name == "Content-Type" for name, _ in sent):
            sent.append(("Content-Type", "application/fhir+json"))
        token = await self.running.token(who, **({**STAFF, **claims} if who == "dr1" else claims))
        return await self.running.fhir(method, path, token=token, headers=sent, body=raw)

    async def note(self, event: Event) -> None:
        self.running.gateway.audit.note(event)
        await self.running.gateway.audit.settled()

    async def events(self) -> list[Json]:
        """What was recorded since the last time, each held to R4 and to the profiles that it names."""
        lines = await self.running.gateway.store.audit(after=self.seen, limit=10_000)
        self.seen = lines[-1].sequence if lines else self.seen
        found = [event for line in lines for event in audit_events(line.line, self.recorder)]
        for event in found:
            assert faults(event) == [], json.dumps(event, indent=1)
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Played]:
    folder = tmp_path_factory.mktemp("balp")
    gateway = await start_gateway(
        folder, policies=policies_with(folder, "90-audited.yaml", POLICY), consents=CONSENTS
    )
    yield Played(gateway)
    await stop_gateway(gateway)


@pytest_asyncio.fixture(loop_scope="module")
async def played(running: Played) -> Played:
    running.running.upstream.reset()
    await running.events()
    return running


def profiles(event: Json) -> set[str]:
    """The profiles that an event names, without what all have in common."""
    names = (each.removeprefix(f"{BALP}StructureDefinition/") for each in event["meta"].get("profile", []))
    return {each.removeprefix("IHE.BasicAudit.") for each in names}


def named(events: list[Json], name: str) -> list[Json]:
    return [each for each in events if name in profiles(each)]


def patients(events: list[Json]) -> list[str]:
    return [
        entity["what"]["reference"].rpartition("/Patient/")[2]
        for event in events
        for entity in event["entity"]
        if entity["type"]["code"] == "1"
    ]


def details(event: Json) -> dict[str, str]:
    return {
        each["type"]: each["valueString"] for entity in event["entity"] for each in entity.get("detail", [])
    }


def agent(event: Json, code: str) -> Json:
    found = [
        each for each in event["agent"] for of in each.get("type", {}).get("coding", []) if of["code"] == code
    ]
    assert len(found) == 1, found
    return found[0]


def observation(id_: str, patient: str, **more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "final",
        "code": {"text": MARK},
        "subject": {"reference": f"Patient/{patient}"},
        **more,
    }


# Requests


async def test_a_read_is_PatientRead_with_token_person_and_links(played: Played) -> None:
    trace = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")
    reply = await played.ask("GET", "/Observation/a-mh", headers=[trace])
    assert reply.status == 200, reply.raw
    [event] = await played.events()
    assert profiles(event) == {
        "PatientRead",
        "OAUTHaccessTokenUse.Minimal",
        "OAUTHaccessTokenUse.Comprehensive",
    }
    assert patients([event]) == ["A"]
    assert (event["action"], event["outcome"]) == ("R", "0")
    assert agent(event, "110152")["who"]["identifier"]["value"] == "client-dr1"
    assert agent(event, "110152")["network"] == {"address": "127.0.0.1", "type": "2"}
    assert agent(event, "110153")["network"]["address"] == played.running.origin + MOUNT
    person = agent(event, "IRCP")
    assert person["who"]["identifier"] == {"system": played.running.origin, "value": "dr1"}
    assert person["policy"][0].startswith("urn:ietf:params:oauth:jti:")
    assert person["role"] == [{"text": "physician"}]
    assert person["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert agent(event, "PROV")["who"]["identifier"]["value"] == "ward-7"
    data = next(each for each in event["entity"] if each["type"]["code"] == "2")
    assert data["what"]["reference"] == f"{played.running.origin}{MOUNT}/Observation/a-mh"
    assert [each["code"] for each in data["securityLabel"]] == ["R", "PSY"]
    said = details(event)
    assert said["rule"] == "audited/staff"
    assert said["trace"] == TRACE
    assert said["grant"] == "grant-dr1"
    assert said["policies"] == played.running.gateway.engines.engine.policy_hash  # type: ignore[union-attr]


async def test_what_is_about_no_patient_is_a_Read_without_one(played: Played) -> None:
    assert (await played.ask("GET", "/Practitioner/dr2")).status == 200
    [event] = await played.events()
    assert "Read" in profiles(event)
    assert patients([event]) == []


async def test_a_search_is_one_PatientQuery_for_each_patient_whom_the_answer_showed(played: Played) -> None:
    reply = await played.ask("GET", "/Observation?status=final&code=http://loinc.org%7C4548-4")
    shown = {each["resource"]["subject"]["reference"][8:] for each in reply.json["entry"]}
    assert shown == {"A", "B"}
    events = await played.events()
    assert [sorted(profiles(each))[-1] for each in events] == ["PatientQuery", "PatientQuery"]
    assert sorted(patients(events)) == ["A", "B"]
    for event in events:
        query = next(each for each in event["entity"] if "query" in each)
        asked = base64.b64decode(query["query"]).decode()
        assert asked == (
            f"GET {played.running.origin}{MOUNT}/Observation?status=final&code=http://loinc.org%7C4548-4"
        )


async def test_a_search_that_finds_nothing_is_about_the_patient_who_was_asked_for(played: Played) -> None:
    played.running.upstream.resources.clear()
    reply = await played.ask("GET", "/Observation?patient=nobody-like-that")
    assert reply.json["entry"] == []
    [event] = await played.events()
    assert patients([event]) == ["nobody-like-that"]
    assert "PatientQuery" in profiles(event)


async def test_a_posted_search_is_a_query_with_its_form(played: Played) -> None:
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    reply = await played.ask("POST", "/Observation/_search", b"patient=A&status=final", headers=form)
    assert reply.status == 200, reply.raw
    events = await played.events()
    query = next(each for each in events[0]["entity"] if "query" in each)["query"]
    assert base64.b64decode(query).decode().endswith("/Observation/_search\r\n\r\npatient=A&status=final")


async def test_a_search_of_a_patients_app_is_about_that_patient(played: Played) -> None:
    assert (await played.ask("GET", "/Observation?status=final", who="pA-r")).status == 200
    events = await played.events()
    assert patients(events) == ["A"]
    assert "PatientQuery" in profiles(events[0])


@pytest.mark.parametrize(
    ("method", "path", "body", "profile", "action"),
    [
        ("POST", "/Observation", observation("", "A"), "PatientCreate", "C"),
        ("PUT", "/Observation/a1", observation("a1", "A"), "PatientUpdate", "U"),
        ("DELETE", "/Observation/a-vitals", None, "PatientDelete", "D"),
        ("PUT", "/Practitioner/dr2", {"resourceType": "Practitioner", "id": "dr2"}, "Update", "U"),
    ],
)
async def test_a_write_is_an_event_of_its_kind_and_its_beginning_is_none_of_them(
    played: Played, method: str, path: str, body: Any, profile: str, action: str
) -> None:
    sent = body and {name: value for name, value in body.items() if value != ""}
    version = [("If-Match", 'W/"1"')] if method != "POST" and "Observation" in path else []
    reply = await played.ask(method, path, sent, headers=version)
    assert reply.status in (200, 201, 204), reply.raw
    begun, event = await played.events()
    assert profiles(begun) == set()
    assert begun["subtype"][0]["code"] == "write-begins"
    assert profile in profiles(event)
    assert event["action"] == action
    assert patients([event]) == (["A"] if "Patient" in profile else [])
    if method == "POST":
        data = next(each for each in event["entity"] if each["type"]["code"] == "2")
        assert data["what"]["reference"].endswith("/Observation/made")


async def test_a_resource_that_moves_to_another_patient_is_an_event_of_both(played: Played) -> None:
    reply = await played.ask(
        "PUT", "/Observation/a1", observation("a1", "B"), headers=[("If-Match", 'W/"1"')]
    )
    assert reply.status == 200, reply.raw
    _, *events = await played.events()
    assert sorted(patients(events)) == ["A", "B"]


async def test_entries_of_a_batch_are_events_of_their_own_and_the_Bundle_one_of_none(played: Played) -> None:
    entries = [
        {"request": {"method": "GET", "url": "Patient/A"}},
        {"request": {"method": "GET", "url": "Observation?patient=B"}},
        {"request": {"method": "GET", "url": "Encounter/eb"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    assert (await played.ask("POST", "", bundle)).status == 200
    events = await played.events()
    by_entry = {details(each).get("entry", "bundle"): each for each in events}
    assert "PatientRead" in profiles(by_entry["0"])
    assert "PatientQuery" in profiles(by_entry["1"])
    assert by_entry["2"]["outcome"] == "4"
    assert by_entry["bundle"]["subtype"][0]["code"] == "batch"
    assert len({details(each)["interaction"] for each in events}) == 1


async def test_histories_and_capabilities_have_no_profile_of_an_interaction(played: Played) -> None:
    assert (await played.ask("GET", "/Observation/a1/_history", who="pA-r")).status == 200
    assert (await played.running.fhir("GET", "/metadata")).status == 200
    history, capabilities = await played.events()
    assert history["subtype"][0]["code"] == "history-instance"
    assert profiles(history) == {"OAUTHaccessTokenUse.Minimal", "OAUTHaccessTokenUse.Comprehensive"}
    assert capabilities["subtype"][0]["code"] == "capabilities"


async def test_software_that_acts_for_itself_is_who_asks(played: Played) -> None:
    await played.ask("GET", "/Observation/a1", who="lab", sub="client-lab")
    event = (await played.events())[0]
    [asking] = [each for each in event["agent"] if each["requestor"]]
    assert asking["who"]["identifier"]["value"] == "client-lab"
    assert asking["policy"][0].startswith("urn:ietf:params:oauth:jti:")


# Refusals


async def test_a_refusal_is_outcome_4_with_reason_and_rule_and_no_profile_of_success(played: Played) -> None:
    assert (await played.ask("GET", "/Observation/b1", who="pA-r")).status in (403, 404)
    assert (await played.ask("GET", "/Encounter/eb")).status in (403, 404)
    for event in await played.events():
        assert event["outcome"] == "4"
        assert profiles(event) <= {"OAUTHaccessTokenUse.Minimal", "OAUTHaccessTokenUse.Comprehensive"}
        assert details(event)["reason"] in event["outcomeDesc"]
        assert event["outcomeDesc"]


async def test_a_request_without_a_token_is_told_with_what_is_known(played: Played) -> None:
    await played.running.send("GET", f"{MOUNT}/Patient/A?access_token=very-secret-text", [])
    [event] = await played.events()
    assert event["outcome"] == "4"
    assert "very-secret" not in json.dumps(event)
    assert "very-secret" not in str(
        [base64.b64decode(each["query"]) for each in event["entity"] if "query" in each]
    )


async def test_a_store_that_fails_is_outcome_8(played: Played) -> None:
    async def failing(request: Any) -> Any:
        raise ConnectionResetError

    played.running.upstream.answer = failing
    reply = await played.ask("GET", "/Observation/a1")
    assert reply.status >= 500
    [event] = await played.events()
    assert event["outcome"] == "8"


# Consents, disclosures, emergencies


def consent(id_: str, patient: str) -> Json:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    actor = {"role": {"text": "study"}, "reference": {"identifier": {"value": "urn:study:dm2"}}}
    return {
        "resourceType": "Consent",
        "id": id_,
        "status": "active",
        "scope": {"coding": [scope]},
        "patient": {"reference": f"Patient/{patient}"},
        "organization": [{"reference": "Organization/h1"}],
        "verification": [{"verified": True}],
        "provision": {"type": "permit", "actor": [actor]},
    }


@pytest.mark.parametrize(("path", "outcome"), [("/Patient/A", "0"), ("/Patient/B", "8")])
async def test_a_decision_by_consent_is_AuthZconsent_beside_the_access(
    played: Played, path: str, outcome: str
) -> None:
    played.running.upstream.resources["Consent/c1"] = consent("c1", "A")
    denied = consent("c2", "B")
    denied["provision"]["type"] = "deny"
    denied["meta"] = {"versionId": "2"}
    played.running.upstream.resources["Consent/c2"] = denied
    await played.ask("GET", path, purpose_of_use=["HRESCH"])
    events = await played.events()
    [decision] = named(events, "AuthZconsent")
    assert decision["outcome"] == outcome
    assert patients([decision]) == [path[-1]]
    assert ("outcomeDesc" in decision) == (outcome == "8")
    asked = next(each for each in decision["entity"] if each["type"]["code"] == "Consent")
    assert asked["what"]["reference"].endswith("/Consent/c1" if outcome == "0" else "/Consent/c2/_history/2")
    details = {each["type"]: each["valueString"] for each in asked["detail"]}
    assert details["provision"] == (
        "c1 provision permit provision" if outcome == "0" else "c2 provision deny provision"
    )
    assert len(events) == 2


async def test_what_goes_to_somebody_outside_is_a_disclosure_at_the_source(played: Played) -> None:
    assert (await played.ask("GET", "/Observation?status=final", organization="elsewhere")).status == 200
    events = await played.events()
    disclosed = named(events, "PrivacyDisclosure.Source")
    assert sorted(patients(disclosed)) == ["A", "B"]
    assert disclosed[0]["purposeOfEvent"][0]["coding"][0]["code"] == "TREAT"
    assert (await played.ask("GET", "/Observation?status=final")).status == 200
    assert named(await played.events(), "PrivacyDisclosure.Source") == []


async def test_what_comes_from_outside_is_a_disclosure_at_the_recipient(played: Played) -> None:
    body = {name: value for name, value in observation("x", "A").items() if name != "id"}
    assert (await played.ask("POST", "/Observation", body, client_id="exchange")).status == 201
    [imported] = named(await played.events(), "PrivacyDisclosure.Recipient")
    assert patients([imported]) == ["A"]


async def test_what_was_refused_or_not_found_was_not_disclosed(played: Played) -> None:
    await played.ask("GET", "/Encounter/eb", organization="elsewhere")
    await played.ask("GET", "/Observation/nothing", organization="elsewhere")
    assert [each for each in await played.events() if "PrivacyDisclosure" in str(profiles(each))] == []


async def test_an_emergency_starts_and_stops_and_its_reason_stays_in_the_log(played: Played) -> None:
    reason = "unconscious in bay 4"
    reply = await played.ask(
        "GET", "/Patient/C", purpose_of_use=["BTG"], headers=[("X-Break-Glass-Reason", reason)]
    )
    assert reply.status == 200, reply.raw
    store, audit = played.running.gateway.store, played.running.gateway.audit
    await note_ends(store, audit, now=played.running.gateway.clock() + 3601)
    start, access, stop = await played.events()
    assert [each["subtype"][0]["code"] for each in (start, stop)] == ["110127", "110138"]
    assert patients([start, access, stop]) == ["C", "C", "C"]
    assert details(start)["emergency"] == details(access)["emergency"]
    assert reason not in json.dumps([start, access, stop])


# The authorization server


NOTED: list[tuple[Event, str, str, str | None]] = [
    (SignIn("accepted", "sub-1", "portal", "192.0.2.1"), "110114", "0", "110122"),
    (SignIn("refused", None, None, "192.0.2.1"), "110114", "4", "110122"),
    (SignedOut("sub-1", "portal", "192.0.2.1"), "110114", "0", "110123"),
    (ConsentGiven("allowed", "sub-1", "portal", ("openid", "patient/*.rs"), "g1"), "110113", "0", "110137"),
    (ConsentGiven("denied", "sub-1", "portal", (), None), "110113", "4", "110137"),
    (ConsentChanged("withdrawn", "sub-1", "https://x/fhir", "A", "c1", 2, "PRN"), "110113", "0", "110137"),
    (OwnRecordShown("accesses", "sub-1", "https://x/fhir", "A"), "110100", "0", None),
    (ContextLaunched("ehr", "portal", "sub-1"), "110100", "0", None),
    (Refused("/token", "invalid_grant", "portal", "code is used", "192.0.2.1"), "110113", "4", None),
    (GrantRevoked("g1", "portal", "person"), "110113", "0", "110137"),
    (GrantRevoked("g1", "portal", "administrator", "ops", "lost device"), "110113", "0", "110137"),
    (KeyChanged("kid-1", "active"), "110113", "0", "110129"),
    (KeySetFetched("https://app.example/jwks", "timeout", False, "2.5 s"), "110113", "4", "110129"),
    (ClientChanged("portal", "suspended", "ops", "incident"), "110113", "0", "110137"),
    (ClientChanged(None, "token-made", "ops", "partner"), "110113", "0", "110137"),
]


@pytest.mark.parametrize(
    ("noted", "type_", "outcome", "subtype"), NOTED, ids=lambda value: type(value).__name__
)
async def test_what_happens_in_the_authorization_server_is_an_event(
    played: Played, noted: Event, type_: str, outcome: str, subtype: str | None
) -> None:
    await played.note(noted)
    [event] = await played.events()
    assert (event["type"]["system"], event["type"]["code"]) == (DCM, type_)
    assert event["outcome"] == outcome
    assert ("outcomeDesc" in event) == (outcome == "4")
    if subtype is not None:
        assert event["subtype"][0]["code"] == subtype
    assert event["subtype"][-1]["system"] == "urn:securus:audit-event"


async def test_a_consent_that_is_withdrawn_is_told_with_its_patient_and_version(played: Played) -> None:
    await played.note(ConsentChanged("withdrawn", "sub-1", "https://x/fhir", "A", "c1", 2, "PRN"))
    [event] = await played.events()
    assert patients([event]) == ["A"]
    consent = next(each for each in event["entity"] if each["type"]["code"] == "Consent")
    assert consent["what"]["reference"] == "https://x/fhir/Consent/c1/_history/2"
    assert (details(event)["outcome"], details(event)["relationship"]) == ("withdrawn", "PRN")


async def test_a_token_is_told_as_IUA_does_without_anything_secret(played: Played) -> None:
    await played.note(
        TokenIssued("authorization_code", "portal", "sub-1", "g1", "jti-1", "dpop", "192.0.2.1")
    )
    await played.note(TokenIssued("client_credentials", "lab", "lab", None, "jti-2", "mtls", "192.0.2.1"))
    person, software = await played.events()
    assert profiles(person) == profiles(software) == {"IHE.IUA.71"}
    assert agent(person, "IRCP")["who"]["identifier"]["value"] == "sub-1"
    request = base64.b64decode(person["entity"][0]["query"]).decode()
    assert request.endswith("/token\r\n\r\ngrant_type=authorization_code&client_id=portal")
    assert details(person)["token"] == "jti-1"
    assert len(software["agent"]) == 2


async def test_configuration_and_policies_are_on_record_at_the_start_and_at_each_reload(
    played: Played, running: Played
) -> None:
    [first] = await running.running.gateway.store.audit(after=0, limit=1)
    start = json.loads(first.line)
    assert (start["event"], start["mode"], start["old_policies"]) == (
        "configuration-in-force",
        "start",
        "none",
    )
    policies = running.running.folder / "policies" / "90-audited.yaml"
    text = policies.read_text()
    try:
        policies.write_text(text + "# another text\n")
        await running.running.gateway.reload()
        policies.write_text("policy: [")
        await running.running.gateway.reload()
    finally:
        policies.write_text(text)
        await running.running.gateway.reload()
    await running.running.gateway.audit.settled()
    changed, refused, back = await played.events()
    assert details(changed)["old_policies"] == start["new_policies"]
    assert details(changed)["new_policies"] != start["new_policies"]
    assert (refused["outcome"], refused["outcomeDesc"]) == ("4", "refused")
    assert details(back)["new_policies"] == start["new_policies"]
    assert changed["subtype"][0]["code"] == "110131"


# What holds of all


async def test_events_never_hold_what_stands_in_bodies(played: Played) -> None:
    marked = observation("a1", "A", note=[{"text": MARK}])
    assert (await played.ask("PUT", "/Observation/a1", marked, headers=[("If-Match", 'W/"1"')])).status == 200
    await played.ask("GET", "/Observation/a1")
    await played.ask("GET", "/Observation?status=final")
    await played.ask("GET", "/Patient/B")
    lines = await played.running.gateway.store.audit(after=0, limit=10_000)
    text = json.dumps([event for line in lines for event in audit_events(line.line, played.recorder)])
    for secret in (MARK, "SECRET-B", "Own Person", '4548-4"', "unconscious"):
        assert secret not in text
    assert len(lines) > 10


async def test_every_event_has_an_id_of_its_own_which_the_same_line_always_gives(played: Played) -> None:
    lines = await played.running.gateway.store.audit(after=0, limit=10_000)
    events = [event for line in lines for event in audit_events(line.line, played.recorder)]
    ids = [event["id"] for event in events]
    assert len(ids) == len(set(ids)) > len(lines)
    assert ids == [event["id"] for line in lines for event in audit_events(line.line, played.recorder)]
    assert all({"system": RECORD, "code": each["id"]} in each["meta"]["tag"] for each in events)
    others = [e["id"] for line in lines for e in audit_events(line.line, played.recorder, chain="node-2")]
    assert set(ids).isdisjoint(others)


async def test_every_profile_of_the_table_was_shown(played: Played) -> None:
    lines = await played.running.gateway.store.audit(after=0, limit=10_000)
    events = [event for line in lines for event in audit_events(line.line, played.recorder)]
    shown = {name for event in events for name in profiles(event)}
    wanted = {name.removeprefix("IHE.BasicAudit.") for name in PROFILES}
    assert wanted - shown <= {"Query", "Create", "Delete"}
