"""Consents kept by the gateway: the FHIR R4 REST API for Consent, behind the same passage as everything else."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import generate_latest

from authz.storage.store import Store, StoreUnavailable
from gateway import app
from gateway.app import Gateway
from gateway.consent_service.versions import next_version
from gateway.demo.world import free_port
from gateway.proxy.kept_consents import LOOKED_AT
from gateway.settings import GatewaySettings, Operations
from tests.support.consent_desk import at_desk, consent, start_desk
from tests.support.gateway import Reply, RunningGateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_desk(tmp_path_factory.mktemp("desk"))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def recorded(gateway: RunningGateway, value: dict[str, Any] | None = None) -> dict[str, Any]:
    reply = await at_desk(gateway, "POST", "/Consent", consent() if value is None else value)
    assert reply.status == 201, reply.raw
    made: dict[str, Any] = reply.json
    return made


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.raw
    return [entry["resource"]["id"] for entry in reply.json.get("entry", [])]


async def test_3_1_0_8_a_consent_is_created_and_read_and_the_store_hears_nothing(
    gateway: RunningGateway,
) -> None:
    reply = await at_desk(gateway, "POST", "/Consent", consent())
    assert reply.status == 201, reply.raw
    made = reply.json
    assert made["meta"]["versionId"] == "1"
    assert reply.header("ETag") == 'W/"1"'
    base = f"{gateway.origin}/fhir/r4"
    assert reply.header("Location") == f"{base}/Consent/{made['id']}/_history/1"
    read = await at_desk(gateway, "GET", f"/Consent/{made['id']}")
    assert (read.status, read.json) == (200, made)
    assert read.header("Last-Modified")
    assert [str(each) for each in gateway.upstream.requests] == ["GET /fhir/Patient/A"]
    record = (await gateway.audit())[-1]
    assert (record["status"], record["decision"]) == (200, "permit")


async def test_a_store_of_the_same_name_counts_for_nothing(gateway: RunningGateway) -> None:
    gateway.upstream.resources["Consent/theirs"] = {**consent(), "id": "theirs"}
    assert (await at_desk(gateway, "GET", "/Consent/theirs")).status == 404
    assert "theirs" not in ids(await at_desk(gateway, "GET", "/Consent?patient=A"))
    gateway.upstream.resources["Patient/N"] = {"resourceType": "Patient", "id": "N"}
    gateway.upstream.resources["Consent/theirs"] = {**consent("N"), "id": "theirs"}
    assert (await at_desk(gateway, "GET", "/Patient/N", role="researcher")).status == 403
    brought = await at_desk(gateway, "GET", "/Patient?_revinclude=*")
    assert "theirs" not in str(brought.json)


async def test_what_may_be_seen_is_decided_by_the_same_policies(gateway: RunningGateway) -> None:
    of_a, of_b = await recorded(gateway), await recorded(gateway, consent("B"))
    own = await at_desk(gateway, "GET", "/Consent", who="pA-r")
    assert of_a["id"] in ids(own)
    assert of_b["id"] not in ids(own)
    assert (await at_desk(gateway, "GET", f"/Consent/{of_b['id']}", who="pA-r")).status in (403, 404)
    assert (await at_desk(gateway, "GET", f"/Consent/{of_a['id']}", role="nobody")).status == 403
    assert (await at_desk(gateway, "POST", "/Consent", consent(), who="pA-rw")).status == 403


@asynccontextmanager
async def another_node(gateway: RunningGateway) -> AsyncIterator[int]:
    """The port of another node with the same store, on a connection of its own."""
    settings = gateway.gateway.settings
    port, mtls_port = free_port(), free_port()
    public, mtls = settings.listeners
    second = await Gateway.open(
        replace(
            settings,
            listeners=(replace(public, port=port), replace(mtls, port=mtls_port)),
            operations=Operations("127.0.0.1", free_port()),
        )
    )
    try:
        yield port
    finally:
        await second.close()


async def test_a_withdrawal_acts_on_the_next_request_of_a_live_token_at_every_node(
    gateway: RunningGateway,
) -> None:
    async with another_node(gateway) as port:
        made = await recorded(gateway, consent("C"))
        token = {"sub": "the-same", "jti": "one-token-all-the-time"}

        async def seen(port: int | None) -> int:
            reply = await at_desk(gateway, "GET", "/Patient/C", role="researcher", port=port, **token)
            return reply.status

        assert [await seen(None), await seen(port)] == [200, 200]
        ended = made | {"status": "inactive"}
        put = await at_desk(gateway, "PUT", f"/Consent/{made['id']}", ended, headers={"If-Match": 'W/"1"'})
        assert put.status == 200, put.raw
        assert [await seen(port), await seen(None)] == [403, 403]
        assert (await at_desk(gateway, "GET", f"/Consent/{made['id']}", port=port)).json[
            "status"
        ] == "inactive"


async def test_3_1_0_4_an_update_is_of_the_version_that_was_read_and_the_old_one_stays(
    gateway: RunningGateway,
) -> None:
    made = await recorded(gateway)
    place = f"/Consent/{made['id']}"
    amended = made | {"dateTime": "2026-06-01"}
    stale = await at_desk(gateway, "PUT", place, amended, headers={"If-Match": 'W/"7"'})
    assert (stale.status, stale.reason) == (412, "version-conflict")
    put = await at_desk(gateway, "PUT", place, amended, headers={"If-Match": 'W/"1"'})
    assert (put.status, put.json["meta"]["versionId"]) == (200, "2"), put.raw
    first = await at_desk(gateway, "GET", f"{place}/_history/1")
    assert (first.status, first.json) == (200, made)
    history = await at_desk(gateway, "GET", f"{place}/_history")
    assert [each["resource"]["meta"]["versionId"] for each in history.json["entry"]] == ["2", "1"]
    assert [each["request"]["method"] for each in history.json["entry"]] == ["PUT", "POST"]
    version = await gateway.gateway.store.consent(f"{gateway.origin}/fhir/r4", made["id"])
    assert version is not None
    assert (version.version, version.recorded_by, version.patient) == (2, "dr1", "A")


async def test_of_updates_at_once_one_is_written(gateway: RunningGateway) -> None:
    made = await recorded(gateway)
    replies = await asyncio.gather(
        *(
            at_desk(gateway, "PUT", f"/Consent/{made['id']}", made | {"dateTime": f"2026-06-0{day}"})
            for day in range(1, 9)
        )
    )
    assert {reply.status for reply in replies} <= {200, 412}
    history = await gateway.gateway.store.consent_history(f"{gateway.origin}/fhir/r4", made["id"])
    assert len(history) == 1 + sum(reply.status == 200 for reply in replies)


async def test_3_1_0_4_1_an_id_of_the_callers_own_is_taken_once(gateway: RunningGateway) -> None:
    value = consent() | {"id": "chosen-1"}
    assert (await at_desk(gateway, "PUT", "/Consent/chosen-1", value)).status == 201
    assert (await at_desk(gateway, "GET", "/Consent/chosen-1")).json["meta"]["versionId"] == "1"


async def test_3_1_0_6_a_patch_is_applied_to_the_version_that_is_kept(gateway: RunningGateway) -> None:
    made = await recorded(gateway)
    patch = b'[{"op":"replace","path":"/status","value":"inactive"}]'
    reply = await at_desk(
        gateway,
        "PATCH",
        f"/Consent/{made['id']}",
        patch,
        headers={"Content-Type": "application/json-patch+json"},
    )
    assert (reply.status, reply.json["status"]) == (200, "inactive"), reply.raw


async def test_3_1_0_8_1_a_conditional_create_finds_what_is_kept_here(gateway: RunningGateway) -> None:
    value = consent() | {"identifier": [{"system": "urn:paper", "value": "17"}]}
    criteria = {"If-None-Exist": "identifier=urn:paper|17"}
    first = await at_desk(gateway, "POST", "/Consent", value, headers=criteria)
    again = await at_desk(gateway, "POST", "/Consent", value, headers=criteria)
    assert (first.status, again.status) == (201, 200), first.raw
    assert again.json["id"] == first.json["id"]


@pytest.mark.parametrize("nodes", [1, 2])
async def test_3_1_0_8_1_of_conditional_creates_at_once_one_makes_it_and_the_others_find_it(
    gateway: RunningGateway, nodes: int
) -> None:
    value = consent() | {"identifier": [{"system": "urn:paper", "value": f"at-once-{nodes}"}]}
    criteria = {"If-None-Exist": f"identifier=urn:paper|at-once-{nodes}"}
    async with another_node(gateway) as other:
        ports = [None, other if nodes == 2 else None] * 3
        replies = await asyncio.gather(
            *(at_desk(gateway, "POST", "/Consent", value, headers=criteria, port=port) for port in ports)
        )
    assert sorted(reply.status for reply in replies) == [200] * 5 + [201], [each.raw for each in replies]
    assert len({reply.json["id"] for reply in replies}) == 1
    found = await at_desk(gateway, "GET", f"/Consent?{criteria['If-None-Exist']}")
    assert len(ids(found)) == 1
    assert found.header(LOOKED_AT) is None  # how many consents are written is nobody's business


async def test_nobody_says_by_a_header_of_their_own_what_was_looked_at(gateway: RunningGateway) -> None:
    value = consent() | {"identifier": [{"system": "urn:paper", "value": "own-number"}]}
    criteria = {"If-None-Exist": "identifier=urn:paper|own-number", LOOKED_AT: "999999999"}
    replies = await asyncio.gather(
        *(at_desk(gateway, "POST", "/Consent", value, headers=criteria) for _ in range(4))
    )
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 201]
    plain = await at_desk(gateway, "POST", "/Consent", consent(), headers={LOOKED_AT: "x"})
    assert plain.status == 201


async def test_3_1_0_8_1_what_differs_is_made_though_all_is_written_at_once(gateway: RunningGateway) -> None:
    def one(number: int) -> Awaitable[Reply]:
        value = consent() | {"identifier": [{"system": "urn:paper", "value": f"own-{number}"}]}
        criteria = {"If-None-Exist": f"identifier=urn:paper|own-{number}"}
        return at_desk(gateway, "POST", "/Consent", value, headers=criteria)

    replies = await asyncio.gather(*(one(number) for number in range(6)))
    assert [reply.status for reply in replies] == [201] * 6, [each.raw for each in replies]


async def test_3_1_0_4_3_of_conditional_updates_at_once_that_find_nothing_one_makes_it(
    gateway: RunningGateway,
) -> None:
    value = consent() | {"identifier": [{"system": "urn:paper", "value": "updates"}]}
    replies = await asyncio.gather(
        *(at_desk(gateway, "PUT", "/Consent?identifier=urn:paper|updates", value) for _ in range(6))
    )
    assert sorted({reply.status for reply in replies}) in ([200, 201, 412], [201, 412], [200, 201])
    assert [reply.status for reply in replies].count(201) == 1
    assert len(ids(await at_desk(gateway, "GET", "/Consent?identifier=urn:paper|updates"))) == 1


@pytest.mark.parametrize(
    "query",
    [
        "patient=Patient/S",
        "patient=S&status=active",
        "patient=S&scope=http://terminology.hl7.org/CodeSystem/consentscope|research",
        "patient=S&category=59284-0",
        "patient=S&actor=Organization/s",
        "patient=S&date=2026-04",
        "patient=S&period=ge2026-07-01",
        "patient=S&identifier=urn:s|1",
        "patient=S&purpose=HRESCH",
        "patient=S&_lastUpdated=gt2020-01-01",
        "_id=search-1",
        "identifier=urn:s|1",
    ],
)
async def test_3_1_1_a_search_finds_by_what_r4_defines(gateway: RunningGateway, query: str) -> None:
    value = consent("S", id="search-1", dateTime="2026-04-05", identifier=[{"system": "urn:s", "value": "1"}])
    value["provision"] = {
        "type": "permit",
        "period": {"start": "2026-06-01", "end": "2026-09-01"},
        "actor": [{"role": {"text": "recipient"}, "reference": {"reference": "Organization/s"}}],
        "purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}],
    }
    gateway.upstream.resources["Patient/S"] = {"resourceType": "Patient", "id": "S"}
    if (await at_desk(gateway, "GET", "/Consent/search-1")).status == 404:
        assert (await at_desk(gateway, "PUT", "/Consent/search-1", value)).status == 201
        other = consent("S", id="search-2", status="rejected", scope={"text": "x"}, category=[{"text": "x"}])
        other |= {"dateTime": "2020", "provision": {"type": "deny", "period": {"end": "2021"}}}
        assert (await at_desk(gateway, "PUT", "/Consent/search-2", other)).status == 201
    found = ids(await at_desk(gateway, "GET", f"/Consent?{query}"))
    assert found == (["search-1"] if query not in _BOTH else ["search-1", "search-2"])
    form = await at_desk(
        gateway,
        "POST",
        "/Consent/_search",
        query.encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert ids(form) == found


_BOTH = ("patient=Patient/S", "patient=S&_lastUpdated=gt2020-01-01")


async def test_3_1_1_5_pages_follow_each_other_and_hold_each_consent_once(gateway: RunningGateway) -> None:
    gateway.upstream.resources["Patient/P"] = {"resourceType": "Patient", "id": "P"}
    made = [(await recorded(gateway, consent("P")))["id"] for _ in range(5)]
    found, place = [], "/Consent?patient=P&_count=2&_sort=-_id"
    for _ in range(3):
        reply = await at_desk(gateway, "GET", place)
        found += ids(reply)
        links = {each["relation"]: each["url"] for each in reply.json["link"]}
        place = links.get("next", "").removeprefix(f"{gateway.origin}/fhir/r4")
    assert place == ""
    assert found == sorted(made, reverse=True)
    compartment = await at_desk(gateway, "GET", "/Patient/P/Consent?_count=1")
    assert len(ids(compartment)) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("DELETE", "/Consent/gone", None, 405, "method-not-allowed"),
        ("DELETE", "/Consent?patient=A", None, 405, "method-not-allowed"),
        ("GET", "/Consent?_include=Consent:patient", None, 403, "consent-kept-here"),
        ("GET", "/Consent?patient.name=x", None, 403, "consent-kept-here"),
        ("GET", "/Patient?_revinclude=Consent:patient", None, 403, "consent-kept-here"),
        ("GET", "/Patient?_has:Consent:patient:status=active", None, 403, "consent-kept-here"),
        ("GET", "/Consent/_history", None, 403, "consent-kept-here"),
        ("GET", "/Consent?_sort=category", None, 403, "unsupported-parameter"),
    ],
)  # fmt: skip
async def test_what_would_need_both_keepers_is_refused_and_says_why(
    gateway: RunningGateway, method: str, path: str, body: Any, status: int, reason: str
) -> None:
    reply = await at_desk(gateway, method, path, body)
    assert (reply.status, reply.reason) == (status, reason), reply.raw
    assert gateway.upstream.requests == []


async def test_a_transaction_writes_no_consent_and_a_batch_does(gateway: RunningGateway) -> None:
    entry = {"resource": consent(), "request": {"method": "POST", "url": "Consent"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    reply = await at_desk(gateway, "POST", "", bundle)
    assert (reply.status, reply.reason) == (403, "consent-kept-here"), reply.raw
    assert gateway.upstream.requests == []
    batch = await at_desk(gateway, "POST", "", bundle | {"type": "batch"})
    assert batch.json["entry"][0]["response"]["status"].startswith("201"), batch.raw


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scope": None}, "Consent.scope is missing"),
        ({"category": []}, "Consent.category is missing"),
        ({"status": "agreed"}, "must be one of"),
        ({"policy": None}, "ppc-1"),
        ({"patient": None}, "Consent.patient is missing"),
        ({"patient": {"reference": "Patient/nobody"}}, "not a patient of this base"),
        ({"patient": {"reference": "https://elsewhere.example/Patient/A"}}, "patient of this base"),
        ({"patient": {"identifier": {"value": "1"}}}, "patient of this base"),
        ({"provision": {"type": "maybe"}}, "must be one of deny, permit"),
        ({"provision": {"actor": [{"role": {"text": "x"}}]}}, "actor.reference is missing"),
        ({"provision": {"data": [{"meaning": "instance"}]}}, "data.reference is missing"),
        ({"provision": {"provision": [{"period": {"start": "soon"}}]}}, "must be a dateTime"),
        ({"verification": [{"verified": "yes"}]}, "must be true or false"),
    ],
)  # fmt: skip
async def test_6_2_a_consent_that_is_none_is_not_kept(
    gateway: RunningGateway, change: dict[str, Any], said: str
) -> None:
    value = {name: inner for name, inner in (consent() | change).items() if inner is not None}
    reply = await at_desk(gateway, "POST", "/Consent", value)
    assert (reply.status, reply.reason) == (422, "consent-invalid"), reply.raw
    assert said in reply.json["issue"][0]["diagnostics"]


async def test_6_2_what_is_not_written_as_a_consent_is_no_resource(gateway: RunningGateway) -> None:
    reply = await at_desk(gateway, "POST", "/Consent", consent() | {"category": {"text": "x"}})
    assert (reply.status, reply.reason) == (422, "invalid-body"), reply.raw
    assert "Consent.category must be an array" in reply.json["issue"][0]["diagnostics"]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ("draft", "active", 200), ("proposed", "active", 200), ("active", "active", 200),
        ("active", "inactive", 200), ("active", "entered-in-error", 200), ("inactive", "entered-in-error", 200),
        ("active", "draft", 409), ("inactive", "active", 409), ("rejected", "active", 409),
        ("entered-in-error", "active", 409), ("inactive", "inactive", 409),
    ],
)  # fmt: skip
async def test_a_consent_goes_on_from_its_status_only_as_its_life_allows(
    gateway: RunningGateway, before: str, after: str, status: int
) -> None:
    made = await recorded(gateway, consent(status=before))
    reply = await at_desk(gateway, "PUT", f"/Consent/{made['id']}", made | {"status": after})
    assert reply.status == status, reply.raw
    if status == 409:
        assert reply.reason == "consent-status"


async def test_a_consent_stays_with_its_patient(gateway: RunningGateway) -> None:
    made = await recorded(gateway)
    moved = made | {"patient": {"reference": "Patient/B"}}
    reply = await at_desk(gateway, "PUT", f"/Consent/{made['id']}", moved)
    assert (reply.status, reply.reason) == (409, "consent-status")


async def test_3_1_0_10_the_statement_tells_how_consents_are_kept(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    reply = await gateway.send("GET", "/fhir/r4/metadata")
    assert reply.status == 200, reply.raw
    (ours,) = [each for each in reply.json["rest"][0]["resource"] if each["type"] == "Consent"]
    told = {each["code"] for each in ours["interaction"]}
    assert {"read", "search-type", "create", "update"} <= told
    assert "delete" not in told
    assert "patient" in {each["name"] for each in ours["searchParam"]}


async def test_3_1_1_5_answers_have_the_shape_and_the_total_that_were_asked_for(
    gateway: RunningGateway,
) -> None:
    gateway.upstream.resources["Patient/T"] = {"resourceType": "Patient", "id": "T"}
    for _ in range(3):
        await recorded(gateway, consent("T"))
    short = await at_desk(gateway, "GET", "/Consent?patient=T&_elements=status&_total=accurate&_count=1")
    assert short.json["total"] == 3
    (entry,) = short.json["entry"]
    assert "provision" not in entry["resource"]
    counted = await at_desk(gateway, "GET", "/Consent?patient=T&_summary=count")
    assert (counted.json["total"], counted.json.get("entry", [])) == (3, [])


async def test_numbers_stay_as_they_were_written_and_a_search_names_so_many_at_most(
    gateway: RunningGateway,
) -> None:
    body = json.dumps(consent(extension=[{"url": "urn:weight", "valueDecimal": 0}])).replace(
        ": 0}", ": 1.10}"
    )
    made = await at_desk(gateway, "POST", "/Consent", body.encode())
    assert made.status == 201, made.raw
    assert b'"valueDecimal":1.10' in (await at_desk(gateway, "GET", f"/Consent/{made.json['id']}")).body
    form = "_id=" + ",".join(f"x{number}" for number in range(501))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    many = await at_desk(gateway, "POST", "/Consent/_search", form.encode(), headers=headers)
    assert (many.status, many.reason) == (403, "consent-kept-here"), many.raw
    fewer = await at_desk(gateway, "POST", "/Consent/_search", form[:-5].encode(), headers=headers)
    assert fewer.status == 200, fewer.raw


async def test_a_consent_is_read_and_written_as_xml_too(gateway: RunningGateway) -> None:
    made = await recorded(gateway)
    xml = {"Accept": "application/fhir+xml"}
    read = await at_desk(gateway, "GET", f"/Consent/{made['id']}", headers=xml)
    assert read.status == 200
    assert b"<Consent xmlns" in read.body
    ended = read.body.replace(b'<status value="active"/>', b'<status value="inactive"/>')
    sent = {"Content-Type": "application/fhir+xml", "Accept": "application/fhir+json", "If-Match": 'W/"1"'}
    put = await at_desk(gateway, "PUT", f"/Consent/{made['id']}", ended, headers=sent)
    assert (put.status, put.json["status"]) == (200, "inactive"), put.raw
    head = await at_desk(gateway, "HEAD", f"/Consent/{made['id']}")
    assert (head.status, head.body, head.header("ETag")) == (200, b"", 'W/"2"')


async def test_a_store_that_does_not_answer_opens_nothing_and_says_so(tmp_path: Path) -> None:
    gateway = await start_desk(tmp_path)
    try:
        await recorded(gateway)
        assert (await at_desk(gateway, "GET", "/Patient/A", role="researcher")).status == 200
        store: Any = gateway.gateway.store

        async def away(base: str, patients: object, **named: object) -> object:
            raise StoreUnavailable("away")

        store.consents_of = away
        refused = await at_desk(gateway, "GET", "/Patient/A", role="researcher")
        assert (refused.status, refused.reason) == (503, "consent-unavailable")
        searched = await at_desk(gateway, "GET", "/Consent?patient=A")
        assert (searched.status, searched.reason) == (503, "store-unavailable")
    finally:
        await stop_gateway(gateway)


async def test_what_is_written_is_on_record_before_it_is_written(gateway: RunningGateway) -> None:
    before = len(await gateway.audit())
    made = await recorded(gateway)
    begun, done = (await gateway.audit())[before:]
    assert (begun["event"], done["event"], done["status"]) == ("write-begins", "access", 201)
    assert "Consent" in str(begun["upstream"])
    metrics = generate_latest(gateway.gateway.metrics.registry).decode()
    assert 'securus_consents_written_total{route="fhir",status="active"}' in metrics
    assert made["id"] not in metrics


async def test_versions_are_counted_whoever_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: dict[str, Store] = {}

    def kept_by(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(settings: GatewaySettings, store: Store, *more: Any) -> Any:
            stores[name] = store
            return make(settings, store, *more)

        return made

    monkeypatch.setattr(app, "given_consents", kept_by("the consent page", app.given_consents))
    monkeypatch.setattr(app, "open_own_records", kept_by("the pages of an account", app.open_own_records))
    gateway = await start_desk(tmp_path)
    try:
        said = {"route": "fhir", "status": "active"}

        def counts() -> float:
            return (
                gateway.gateway.metrics.registry.get_sample_value("securus_consents_written_total", said) or 0
            )

        await recorded(gateway)
        assert counts() == 1
        base = f"{gateway.origin}/fhir/r4"
        for number, store in enumerate(stores.values(), 2):
            made = next_version(consent(), None, base=base, id=f"c{number}", now=1, by="somebody")
            assert await store.add_consent(made)
            assert not await store.add_consent(made)  # what was not written is not counted
            assert counts() == number
        assert counts() == 3
        # A grant ends, and whoever reads its consent next writes that down.
        given = next_version(consent(), None, base=base, id="given", now=1, by="somebody", grant_id="ended")
        assert await gateway.gateway.store.add_consent(given)
        assert (await at_desk(gateway, "GET", "/Consent/given")).json["status"] == "inactive"
        said["status"] = "inactive"
        assert counts() == 1
    finally:
        await stop_gateway(gateway)
