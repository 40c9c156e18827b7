"""Two callers create by the same criteria at the same moment, at a store that makes whatever it is sent, as HAPI does.

The store answers a plain create with a new resource each time, whatever it holds; it finds what was made as soon as it has
answered. It is never asked to write conditionally. What it may answer beside 201 is played too: that a resource is there
already (409, 412: a unique index), 200, and somebody else's resource.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from aiohttp import web

from authz.storage.claims import Namespace
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.writes import conditional_turns
from gateway.proxy.writes.conditional_turns import ConditionalTurns
from gateway.settings import Upstream
from tests.attacks.test_conditional_writes import POLICY, observation
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
ONE = [{"system": "urn:mrn", "value": "one"}]
SCOPE = "patient/*.cruds"


class RacingStore:
    """A store that holds what it was sent, and makes nothing before it is let go on."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.base = gateway.upstream.base
        self.held: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.go_on = asyncio.Event()
        self.makes: web.Response | None = None  # what a create is answered with instead
        gateway.upstream.answer = self.answer

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert "If-None-Exist" not in request.headers
        self.seen.append(request.method)
        if request.method == "POST":
            body = json.loads(await request.read())
            await self.go_on.wait()
            if self.makes is not None:
                return self.makes
            return self.made(self.store(body), 201)
        of_path = [each for each in self.held if request.path.endswith(f"/{each['id']}")]
        if of_path and request.method == "PUT":
            of_path[0]["meta"] = {"versionId": "2"}
        if of_path:
            return self.made(of_path[0], 200)
        subject = parse_qs(request.query_string).get("subject", [""])[0].rpartition("/")[2]
        entries = [
            {"resource": each} for each in self.held if each["subject"]["reference"].endswith(f"/{subject}")
        ]
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
        return web.json_response(bundle, content_type="application/fhir+json")

    def store(self, body: dict[str, Any]) -> dict[str, Any]:
        """The resource with an id and a version."""
        stored = body | {"id": f"new-{len(self.held)}", "meta": {"versionId": "1"}}
        self.held.append(stored)
        return stored

    def made(self, stored: dict[str, Any], status: int) -> web.Response:
        """The answer to a create that is about this resource."""
        headers = {"Location": f"{self.base}/Observation/{stored['id']}/_history/1", "ETag": 'W/"1"'}
        return web.Response(
            status=status,
            body=json.dumps(stored).encode(),
            headers=headers,
            content_type="application/fhir+json",
        )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("racing")
    running = await start_gateway(folder, policies=policies_with(folder, "90-finding.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest_asyncio.fixture(loop_scope="module")
async def store(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> RacingStore:
    gateway.upstream.reset()
    monkeypatch.setattr(conditional_turns, "_LOOKS_EVERY_SECONDS", 0.001)
    monkeypatch.setattr(conditional_turns, "_MOST_LOOKS", 100_000)
    return RacingStore(gateway)


async def create(
    gateway: RunningGateway,
    patient: str = "A",
    criteria: str = "identifier=urn:mrn|one",
    method: str = "POST",
) -> Reply:
    token = await gateway.token("pA-rw", scope=SCOPE, patient=patient, fhirUser=f"Patient/{patient}")
    headers = [("Content-Type", "application/fhir+json")]
    path = "/Observation"
    if method == "POST":
        headers.append(("If-None-Exist", criteria))
    else:
        path += f"?{criteria}"
    body = json.dumps(observation(patient, identifier=ONE)).encode()
    return await gateway.fhir(method, path, token=token, headers=headers, body=body)


async def until(store: RacingStore, method: str, count: int) -> None:
    async with asyncio.timeout(20):
        while store.seen.count(method) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_of_many_who_create_by_the_same_criteria_at_once_one_makes_it_and_the_others_find_it(
    gateway: RunningGateway, store: RacingStore, method: str
) -> None:
    store.go_on.set()
    replies = await asyncio.gather(
        *(create(gateway, method="POST") for _ in range(4)), create(gateway, method=method)
    )
    assert len(store.held) == 1
    assert {reply.json["id"] for reply in replies} == {"new-0"}
    assert {reply.status for reply in replies} == {200, 201}
    assert [reply.status for reply in replies].count(201) == 1


async def test_whoever_comes_second_looks_only_when_the_first_was_answered(
    gateway: RunningGateway, store: RacingStore
) -> None:
    first = asyncio.create_task(create(gateway))
    await until(store, "POST", 1)
    second = asyncio.create_task(create(gateway))
    for _ in range(200):
        await asyncio.sleep(0)
    assert store.seen == ["GET", "POST"]
    store.go_on.set()
    made, found = await first, await second
    assert (made.status, found.status) == (201, 200)
    assert found.json["id"] == made.json["id"] == "new-0"
    assert found.header("Location") == f"{gateway.origin}{MOUNT}/Observation/new-0"
    assert store.seen == ["GET", "POST", "GET"]


async def test_a_stranger_who_looks_for_the_same_waits_for_nobody_and_finds_nothing(
    gateway: RunningGateway, store: RacingStore
) -> None:
    """Each may find what is about their own patient: from waiting it could be told what the other one is doing."""
    first = asyncio.create_task(create(gateway, "A"))
    await until(store, "POST", 1)
    second = asyncio.create_task(create(gateway, "B"))
    await until(store, "POST", 2)
    store.go_on.set()
    assert [(await each).status for each in (first, second)] == [201, 201]
    assert [each["subject"]["reference"] for each in store.held] == ["Patient/A", "Patient/B"]


async def test_other_criteria_for_the_same_resource_are_not_kept_apart(
    gateway: RunningGateway, store: RacingStore
) -> None:
    """What the gateway does not promise: two words for one thing are two searches. The store must (docs/writes.md)."""
    first = asyncio.create_task(create(gateway))
    await until(store, "POST", 1)
    second = asyncio.create_task(create(gateway, criteria="identifier=urn:mrn|one&identifier=urn:mrn|one"))
    await until(store, "POST", 2)
    store.go_on.set()
    assert [(await each).status for each in (first, second)] == [201, 201]
    assert len(store.held) == 2


@pytest.mark.parametrize("status", [409, 412])
async def test_where_the_store_says_that_it_is_there_whoever_may_find_it_is_shown_it(
    gateway: RunningGateway, store: RacingStore, status: int
) -> None:
    """A unique index: somebody wrote it past the gateway, between our search and our create."""
    store.makes = web.json_response(
        {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "SECRET"}]}, status=status
    )
    task = asyncio.create_task(create(gateway))
    await until(store, "POST", 1)
    store.store(observation("A", identifier=ONE))
    store.go_on.set()
    reply = await task
    assert (reply.status, reply.json["id"]) == (200, "new-0")
    assert store.seen == ["GET", "POST", "GET"]


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("whose", ["B", None])
async def test_where_it_is_a_strangers_nothing_is_told_of_it(
    gateway: RunningGateway, store: RacingStore, status: int, whose: str | None
) -> None:
    said = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "SECRET Patient/B"}]}
    store.makes = web.json_response(said, status=status)
    if whose is not None:
        store.store(observation(whose, identifier=ONE))
    store.go_on.set()
    reply = await create(gateway)
    assert (reply.status, reply.reason) == (412, "version-conflict")
    assert b"SECRET" not in reply.raw
    assert b"new-0" not in reply.raw
    assert reply.header("Location") is None
    assert store.seen == ["GET", "POST", "GET"]


@pytest.mark.parametrize("status", [409, 412])
async def test_a_create_under_no_condition_is_refused_as_the_store_refuses_it(
    gateway: RunningGateway, store: RacingStore, status: int
) -> None:
    store.makes = web.json_response({"resourceType": "OperationOutcome"}, status=status)
    store.go_on.set()
    token = await gateway.token("pA-rw", scope=SCOPE)
    body = json.dumps(observation("A", identifier=ONE)).encode()
    sent = [("Content-Type", "application/fhir+json")]
    reply = await gateway.fhir("POST", "/Observation", token=token, headers=sent, body=body)
    assert (reply.status, reply.reason) == (status, "upstream-refused")
    assert store.seen == ["POST"]


async def test_a_store_that_answers_200_has_made_nothing_and_its_own_is_shown_to_who_may_read_it(
    gateway: RunningGateway, store: RacingStore
) -> None:
    store.go_on.set()
    store.makes = store.made(store.store(observation("A", identifier=ONE)), 200)
    store.held.clear()  # its search has not seen it yet
    reply = await create(gateway)
    assert (reply.status, reply.json["id"]) == (200, "new-0")
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Observation/new-0/_history/1"


async def test_a_strangers_resource_that_came_back_with_200_is_not_shown_nor_where_it_is(
    gateway: RunningGateway, store: RacingStore
) -> None:
    store.go_on.set()
    store.makes = store.made(store.store(observation("B", identifier=ONE, note=[{"text": "SECRET"}])), 200)
    reply = await create(gateway)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.header("Location") is None
    assert reply.header("ETag") is None


@pytest.mark.parametrize("change", [{"id": "other"}, {"resourceType": "Condition"}, {"id": 7}])
async def test_what_came_back_is_shown_only_where_it_is_what_the_store_says_that_it_made(
    gateway: RunningGateway, store: RacingStore, change: dict[str, Any]
) -> None:
    store.go_on.set()
    stored = store.store(observation("A", identifier=ONE))
    answer = store.made(stored, 201)
    answer.body = json.dumps(stored | change).encode()
    store.makes = answer
    store.held.clear()
    reply = await create(gateway)
    assert (reply.status, reply.body) == (201, b"")


# Turns


UPSTREAM = Upstream(
    "fhir", "fhir-r4", "/fhir", "http://store/fhir", "https://h/fhir", frozenset({"https://h/fhir"})
)
NOW = 1_800_000_000


@pytest_asyncio.fixture(loop_scope="module")
async def shared(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


def turns(shared: SqliteStore, now: int = NOW) -> ConditionalTurns:
    """Those of one node."""
    return ConditionalTurns(shared, UPSTREAM, lambda: now)


async def test_of_two_nodes_one_has_the_turn_and_the_other_has_it_next(
    shared: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional_turns, "_LOOKS_EVERY_SECONDS", 0)
    first = await turns(shared).take("Observation?identifier=one")
    waiting = asyncio.create_task(turns(shared).take("Observation?identifier=one"))
    await (await turns(shared).take("Observation?identifier=two")).end()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    await first.end()
    await (await waiting).end()


async def test_who_waits_for_long_is_told_to_ask_again(
    shared: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional_turns, "_LOOKS_EVERY_SECONDS", 0)
    await turns(shared).take("x")
    with pytest.raises(FhirError) as refused:
        await turns(shared).take("x")
    assert refused.value.reason is Reason.VERSION_CONFLICT


async def test_the_turn_of_who_was_killed_ends_when_the_store_must_have_answered_and_not_before(
    shared: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional_turns, "_LOOKS_EVERY_SECONDS", 0)
    lost = await turns(shared).take("x")
    at_most = int(2 * (UPSTREAM.connect_timeout + UPSTREAM.answer_timeout))
    with pytest.raises(FhirError):
        await turns(shared, NOW + at_most).take("x")
    next_ = await turns(shared, NOW + at_most + 30).take("x")
    await lost.end()  # it comes back, and takes nothing away
    with pytest.raises(FhirError):
        await turns(shared, NOW + at_most + 30).take("x")
    await next_.end()


async def test_a_request_that_is_broken_off_keeps_its_turn(shared: SqliteStore) -> None:
    begun = asyncio.Event()

    async def broken_off() -> None:
        turn = await turns(shared).take("x")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turn.end()

    task = asyncio.create_task(broken_off())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = shared._database.rows(
        "SELECT expires_at FROM claim WHERE namespace = ?", str(Namespace.CONDITIONAL_WRITE)
    )
    assert int(str(row[0])) > NOW


async def test_where_our_store_is_away_nothing_is_looked_for(shared: SqliteStore) -> None:
    turn = await turns(shared).take("x")
    await shared.close()
    await turn.end()
    with pytest.raises(StoreUnavailable):
        await turns(shared).take("y")
