"""Emergency access against the whole process (attack cases 298, 300 to 302): who may, for whom, how long, who is told.

Every case makes the five assertions of the groups; the permitted twin is the same request with the right to it.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from authz.storage.sqlite.store import SqliteStore
from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.consents.consent import ConsentSource
from gateway.settings import ConsentSettings, Receiver
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: emergency
version: 1
owner: tests
status: enforce
text: In an emergency a clinician opens one chart.
rules:
  - rule: break-the-glass
    effect: permit
    who: {context: user, role: [physician], purpose: [BTG]}
    may: [read, search]
    resources: [Patient, Observation]
    break_glass: {one_patient: true, lasts: 60m, reason: {at_least: 10, at_most: 500}}
    where: {labels: {at_most: R, unlabelled: R}}
    query: {include: none, page_at_most: 100}
    then: {audit: full, notify: [privacy-office], header_to_client: {Warning-Text: "Emergency access is recorded"}}
    because: Vital interest of the patient.
tests:
  - test: one patient
    as: {context: user, role: physician, purpose: BTG, reason: unconscious in bay 4}
    request: GET /Patient/B
    expect: {decision: permit}
  - test: not without a reason
    as: {context: user, role: physician, purpose: BTG}
    request: GET /Patient/B
    expect: {decision: deny, code: break-glass-needs-reason}
"""
RIGHT = {"purpose_of_use": ["BTG"]}
REASON = "unconscious in bay 4"
HEADER = ("X-Break-Glass-Reason", REASON)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("emergencies")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "25-emergency.yaml", POLICY),
        notifications={"privacy-office": Receiver()},
    )
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def send(
    gateway: RunningGateway,
    path: str,
    *headers: tuple[str, str],
    sub: str = "dr1",
    method: str = "GET",
    **claims: Any,
) -> Reply:
    """A request of a physician with the purpose of emergencies, of the subject that the test has for itself."""
    token = await gateway.token("dr1", sub=sub, **(RIGHT | claims))
    return await gateway.fhir(method, path, token=token, headers=list(headers))


async def refused(gateway: RunningGateway, reply: Reply, status: int, reason: str, before: int) -> None:
    """The five assertions of a refusal."""
    assert (reply.status, reply.reason) == (status, reason)
    check_no_leak(reply)
    check_outcome(reply, gateway)
    assert gateway.upstream.requests == []
    records = (await gateway.audit())[before:]
    assert [record["event"] for record in records if record["event"] != "notification"] == ["access"]
    assert records[0]["decision"] != "permit"


async def sessions(gateway: RunningGateway, sub: str) -> list[Any]:
    found = await gateway.gateway.store.emergencies(only_open=False, now=0)
    return [each for each in found if each.subject == sub]


def count(gateway: RunningGateway, outcome: str) -> float:
    value = gateway.gateway.metrics.registry.get_sample_value(
        "securus_break_glass_total", {"outcome": outcome}
    )
    return value or 0.0


@pytest.mark.parametrize(
    ("case", "path", "headers"),
    [
        ("header", "/Patient/B", (("X-Break-Glass", "true"),)),
        ("reason", "/Patient/B", (HEADER,)),
        ("both", "/Observation?patient=B", (("X-Break-Glass", "true"), HEADER)),
    ],
)
async def test_A300_headers_without_the_purpose_in_the_token_open_nothing(
    gateway: RunningGateway, case: str, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    before, refusals = len(await gateway.audit()), count(gateway, "refused")
    reply = await send(gateway, path, *headers, sub=f"300-{case}", purpose_of_use=["TREAT"])
    await refused(gateway, reply, 403, "no-permit", before)
    assert count(gateway, "refused") == refusals + 1
    assert await sessions(gateway, f"300-{case}") == []
    twin = await send(gateway, path, HEADER, sub=f"300-{case}")
    assert twin.status == 200, twin.raw[:500]


async def test_A300_a_parameter_in_the_query_opens_nothing(gateway: RunningGateway) -> None:
    before = len(await gateway.audit())
    reply = await send(gateway, "/Observation?patient=B&_btg=1", sub="300-q", purpose_of_use=["TREAT"])
    await refused(gateway, reply, 400, "unknown-parameter", before)


async def test_A300_the_start_is_recorded_told_and_written_before_the_answer(gateway: RunningGateway) -> None:
    before, started = len(await gateway.audit()), count(gateway, "started")
    reply = await send(gateway, "/Patient/B", HEADER, sub="start")
    assert reply.status == 200
    assert reply.json["id"] == "B"
    assert reply.header("Warning-Text") == "Emergency access is recorded"
    (session,) = await sessions(gateway, "start")
    assert (session.patient, session.reason, session.ends_at - session.started_at) == ("B", REASON, 3600)
    start, access = (
        r for r in (await gateway.audit())[before:] if r.get("emergency", {}).get("id") == session.id
    )
    assert (start["event"], access["event"]) == ("break-glass-start", "access")
    for record in (start, access):
        assert record["audit"] == "full"
        assert record["emergency"] == {
            "id": session.id,
            "rule": "emergency/break-the-glass",
            "issuer": gateway.origin,
            "client": "client-dr1",
            "subject": "start",
            "patient": "B",
            "reason": REASON,
            "started_at": session.started_at,
            "ends_at": session.ends_at,
        }
    assert count(gateway, "started") == started + 1


async def test_A301_under_way_it_needs_no_reason_is_of_one_patient_and_is_not_made_longer(
    gateway: RunningGateway,
) -> None:
    assert (await send(gateway, "/Patient/B", HEADER, sub="once")).status == 200
    for path in ("/Patient/B", "/Observation?patient=B", "/Patient/B/Observation"):
        assert (await send(gateway, path, sub="once")).status == 200
        assert (await send(gateway, path, HEADER, sub="once")).status == 200
    assert len(await sessions(gateway, "once")) == 1
    before = len(await gateway.audit())
    gateway.upstream.reset()
    await refused(
        gateway, await send(gateway, "/Patient/C", sub="once"), 403, "break-glass-needs-reason", before
    )
    other = await send(gateway, "/Patient/B", sub="somebody-else")
    assert (other.status, other.reason) == (403, "break-glass-needs-reason")


async def test_A301_the_answer_holds_one_patient_whatever_the_store_answers(gateway: RunningGateway) -> None:
    """The store honours no criterion: it answers with everybody's."""
    reply = await send(gateway, "/Observation?patient=C", HEADER, sub="one")
    assert reply.status == 200
    assert {e["resource"]["subject"]["reference"] for e in reply.json.get("entry", ())} <= {"Patient/C"}
    check_no_leak(reply)
    reply = await send(gateway, "/Observation?patient=B", HEADER, sub="one")
    found = {e["resource"]["id"] for e in reply.json["entry"]}
    assert found == {"b1", "ab"}


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/Observation", 403, "break-glass-needs-one-patient"),
        ("GET", "/Patient?identifier=x", 403, "break-glass-needs-one-patient"),
        ("GET", "/Observation?patient=B,C", 403, "break-glass-needs-one-patient"),
        ("GET", "/Observation/b1", 403, "break-glass-needs-one-patient"),
        ("GET", "/Patient/B/_history", 403, "no-permit"),
        ("GET", "/Patient/B/$everything", 403, "interaction-closed"),
        ("GET", "/$export", 403, "interaction-closed"),
        ("DELETE", "/Observation/b1", 403, "no-permit"),
    ],
)
async def test_A301_searches_over_all_exports_and_writes_stay_closed(
    gateway: RunningGateway, method: str, path: str, status: int, reason: str
) -> None:
    sub = f"301-{method}{path}"
    assert (await send(gateway, "/Patient/B", HEADER, sub=sub)).status == 200  # the twin: this much is open
    gateway.upstream.reset()
    before = len(await gateway.audit())
    reply = await send(gateway, path, HEADER, sub=sub, method=method)
    await refused(gateway, reply, status, reason, before)


@pytest.mark.parametrize(
    "reason",
    [
        "too short",
        "x" * 501,
        "a line%0D%0AForged: line",
        "a%00nul in a reason",
        "bell%07 in a reason",
        "%E2%80%AEreversed text",
        "broken %FF%FE bytes",
        "",
    ],
)
async def test_A302_a_reason_that_is_none_is_refused_and_nowhere_written(
    gateway: RunningGateway, reason: str
) -> None:
    before = len(await gateway.audit())
    reply = await send(gateway, "/Patient/B", ("X-Break-Glass-Reason", reason), sub="302")
    await refused(gateway, reply, 403, "break-glass-needs-reason", before)
    assert "Forged" not in str((await gateway.audit())[before:])
    assert await sessions(gateway, "302") == []


async def test_A302_a_reason_of_a_megabyte_is_cut_off_at_the_door(gateway: RunningGateway) -> None:
    reply = await send(gateway, "/Patient/B", ("X-Break-Glass-Reason", "x" * 1_000_000), sub="302-long")
    assert reply.status in (0, 400, 431)
    assert gateway.upstream.requests == []
    assert await sessions(gateway, "302-long") == []


async def test_A302_bare_line_ends_in_the_header_are_refused_at_the_door(gateway: RunningGateway) -> None:
    reply = await send(gateway, "/Patient/B", ("X-Break-Glass-Reason", "a line\rForged: x"), sub="302-cr")
    assert reply.status in (0, 400)
    assert gateway.upstream.requests == []


async def test_A302_what_looks_like_markup_or_json_is_stored_as_the_text_it_is(
    gateway: RunningGateway,
) -> None:
    text = '","forged":true} <script>${jndi:x}</script> 100%25 ü'
    said = text.replace("ü", "%C3%BC")
    assert (await send(gateway, "/Patient/B", ("X-Break-Glass-Reason", said), sub="302-text")).status == 200
    (session,) = await sessions(gateway, "302-text")
    assert session.reason == text.replace("%25", "%")
    start = next(r for r in reversed(await gateway.audit()) if r["event"] == "break-glass-start")
    assert start["emergency"]["reason"] == session.reason
    assert "forged" not in start


BY_CONSENT = """\
  - rule: with-consent
    effect: permit
    who: {context: user, role: [physician]}
    may: [read, search]
    resources: [Patient, Observation]
    where: {consent: {scope: research, decision: permit, for: "urn:study:dm2", if_unavailable: deny}}
    because: Who agreed is seen.
"""


async def test_A298_without_an_answer_on_consent_nothing_is_seen_but_in_an_emergency(tmp_path: Path) -> None:
    rules, tests = POLICY.partition("  - test: not without")[0].split("tests:\n")
    policies = policies_with(tmp_path, "25-emergency.yaml", f"{rules}{BY_CONSENT}tests:\n{tests}")
    consents = ConsentSettings(ConsentSource(frozenset({"Organization/h1"})), keep=0, timeout=2.0)
    gateway = await start_gateway(
        tmp_path, policies=policies, consents=consents, notifications={"privacy-office": Receiver()}
    )
    try:

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path.endswith("/Consent"):
                return web.Response(status=500)
            body = json.dumps(gateway.upstream.resources["Patient/B"]).encode()
            return web.Response(body=body, content_type="application/fhir+json")

        gateway.upstream.answer = answer
        for claims in ({"purpose_of_use": ["TREAT"]}, RIGHT):
            reply = await send(gateway, "/Patient/B", **claims)
            assert (reply.status, reply.reason) == (503, "consent-unavailable")
            check_no_leak(reply)
            check_outcome(reply, gateway)
        assert await sessions(gateway, "dr1") == []
        twin = await send(gateway, "/Patient/B", HEADER)
        assert (twin.status, twin.json["id"]) == (200, "B")
        assert len(await sessions(gateway, "dr1")) == 1
    finally:
        await stop_gateway(gateway)


async def end(gateway: RunningGateway, sub: str) -> Any:
    """Let the access of this subject be over, as its time would; the session."""
    (session,) = await sessions(gateway, sub)
    assert await gateway.gateway.store.end_emergency(session.id, now=gateway.gateway.clock())
    return session


async def test_A301_when_it_is_over_the_stop_is_recorded_and_a_new_start_is_another(
    gateway: RunningGateway,
) -> None:
    assert (await send(gateway, "/Patient/B", HEADER, sub="over")).status == 200
    first = await end(gateway, "over")
    reply = await send(gateway, "/Patient/B", sub="over")
    assert (reply.status, reply.reason) == (403, "break-glass-needs-reason")
    await gateway.gateway._note_ends()
    await gateway.gateway._note_ends()
    stops = [
        r
        for r in await gateway.audit()
        if r["event"] == "break-glass-stop" and r["emergency"]["id"] == first.id
    ]
    assert len(stops) == 1
    assert (await send(gateway, "/Patient/B", HEADER, sub="over")).status == 200
    assert len({each.id for each in await sessions(gateway, "over")}) == 2


async def test_without_a_store_that_writes_the_start_there_is_no_data(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: SqliteStore, *arguments: object, **named: object) -> bool:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(SqliteStore, "begin_emergency", fails)
    reply = await send(gateway, "/Patient/B", HEADER, sub="disk")
    assert (reply.status, reply.reason) == (503, "store-unavailable")
    check_no_leak(reply)
    assert gateway.upstream.requests == []


async def test_a_start_that_nobody_recorded_gives_no_data_then_or_later(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = AuditLog.record

    async def fails(self: AuditLog, said: Any) -> None:
        if said["event"] == "break-glass-start":
            raise AuditUnavailable("the disk is full")
        await record(self, said)

    monkeypatch.setattr(AuditLog, "record", fails)
    reply = await send(gateway, "/Patient/B", HEADER, sub="unrecorded")
    assert (reply.status, reply.reason) == (503, "audit-unavailable")
    monkeypatch.undo()
    later = await send(gateway, "/Patient/B", sub="unrecorded")
    assert (later.status, later.reason) == (403, "break-glass-needs-reason")
    assert gateway.upstream.requests == []


async def test_A301_a_page_link_goes_by_the_access_and_not_beyond_it(gateway: RunningGateway) -> None:
    store = gateway.upstream
    page = {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": [
            {"relation": "self", "url": f"{store.base}/Observation?patient=B&subject=Patient/B&_count=100"},
            {"relation": "next", "url": f"{store.base}?_getpages=abc&_getpagesoffset=1"},
        ],
        "entry": [{"resource": store.resources["Observation/b1"], "search": {"mode": "match"}}],
    }

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=json.dumps(page).encode(), content_type="application/fhir+json")

    store.answer = answer
    first = await send(gateway, "/Observation?patient=B", HEADER, sub="pages")
    assert first.status == 200, first.raw[:500]
    link = next(each["url"] for each in first.json["link"] if each["relation"] == "next")
    path = link.removeprefix(gateway.origin + MOUNT)
    assert (await send(gateway, path, sub="pages")).status == 200
    assert len(store.requests) == 2
    await end(gateway, "pages")
    gone = await send(gateway, path, sub="pages")
    assert (gone.status, gone.reason) == (403, "break-glass-needs-reason")
    assert len(store.requests) == 2
