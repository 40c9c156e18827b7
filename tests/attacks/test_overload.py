"""Who asks too often or too much at once is turned away, cheaply, and keeps nobody else from anything."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.settings import Limits, RequestRate
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway

Start = Callable[..., Any]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[RunningGateway] = []

    async def begin(**limits: Any) -> RunningGateway:
        running.append(await start_gateway(tmp_path, limits=Limits(drain=2.0, **limits)))
        return running[0]

    yield begin
    for gateway in running:
        await stop_gateway(gateway)


def few(uses: int) -> RequestRate:
    return RequestRate(uses, 3600, uses, False)


async def metrics(running: RunningGateway) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{running.operations_port}/metrics") as response,
    ):
        assert response.status == 200
        return await response.text()


def turned_away(reply: Reply) -> bool:
    wait = reply.header("retry-after")
    return (reply.status, reply.reason) == (429, "too-many-requests") and wait is not None and int(wait) > 0


async def test_an_address_is_turned_away_before_its_token_is_looked_at(start: Start) -> None:
    running = await start(rates={"address": few(2)})
    token = await running.token()
    assert (await running.fhir("GET", "/Patient/A", token=token)).status == 200
    assert (await running.fhir("GET", "/Patient/A", token="nonsense")).status == 401
    records = len(await running.audit())
    assert turned_away(await running.fhir("GET", "/Patient/A", token=token))
    assert turned_away(await running.fhir("GET", "/Patient/A", token="nonsense"))
    at_token = await running.send("POST", "/token", [("Content-Type", "application/x-www-form-urlencoded")])
    assert (at_token.status, at_token.json["error"]) == (429, "temporarily_unavailable")
    assert at_token.header("retry-after") is not None
    assert len(await running.audit()) == records  # a flood fills no log
    said = await metrics(running)  # and the operators still see
    assert 'securus_limited_total{limit="rates.address"} 3.0' in said
    assert 'securus_refusals_total{reason="too-many-requests"} 3.0' in said


async def test_a_person_that_asks_too_often_waits_and_others_do_not(start: Start) -> None:
    running = await start(rates={"user": few(2)})
    assert [(await running.fhir("GET", "/Patient/A")).status for _ in range(2)] == [200, 200]
    asked = len(running.upstream.requests)
    reply = await running.fhir("GET", "/Patient/A")
    assert turned_away(reply)
    assert len(running.upstream.requests) == asked
    assert (await running.fhir("GET", "/Patient/A", who="dr1")).status == 200
    record = (await running.audit())[-2]
    assert (record["reason"], record["caller"]["subject"]) == ("too-many-requests", "pA-r")


async def test_nobody_spends_the_uses_of_another_without_a_token_of_that_one(start: Start) -> None:
    running = await start(rates={"user": few(1), "client": few(1)})
    token = await running.token()
    forged = token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB")
    for _ in range(5):
        assert (await running.fhir("GET", "/Patient/A", token=forged)).status == 401
    assert (await running.fhir("GET", "/Patient/A", token=token)).status == 200


async def test_one_person_has_no_more_requests_under_way_than_allowed(start: Start) -> None:
    running = await start(at_once={"user": 2})
    go, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        waiting.release()
        await go.wait()
        running.upstream.answer = None
        return web.json_response(
            running.upstream.resources["Patient/A"], content_type="application/fhir+json"
        )

    running.upstream.answer = slow
    under_way = [asyncio.create_task(running.fhir("GET", "/Patient/A")) for _ in range(2)]
    for _ in under_way:
        await asyncio.wait_for(waiting.acquire(), 10)
    assert turned_away(await running.fhir("GET", "/Patient/A"))
    go.set()
    assert [(await task).status for task in under_way] == [200, 200]
    assert (await running.fhir("GET", "/Patient/A")).status == 200


async def test_a_caller_that_leaves_gives_its_place_back(start: Start) -> None:
    running = await start(at_once={"user": 1})
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.Response(status=500)

    running.upstream.answer = slow
    leaving = asyncio.create_task(running.fhir("GET", "/Patient/A"))
    await asyncio.wait_for(asked.wait(), 10)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    running.upstream.answer = None
    async with asyncio.timeout(10):
        while turned_away(reply := await running.fhir("GET", "/Patient/A")):
            await asyncio.sleep(0.02)
    assert reply.status == 200
    go.set()


async def test_when_all_places_are_taken_the_newest_is_turned_away_and_the_operators_are_heard(
    start: Start,
) -> None:
    running = await start(concurrent_requests=1)
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.json_response(
            running.upstream.resources["Patient/A"], content_type="application/fhir+json"
        )

    running.upstream.answer = slow
    first = asyncio.create_task(running.fhir("GET", "/Patient/A"))
    await asyncio.wait_for(asked.wait(), 10)
    second = await running.send("GET", MOUNT + "/Patient/A")
    assert (second.status, second.reason) == (503, "overloaded")
    at_token = await running.send("POST", "/token")
    assert (at_token.status, at_token.json["error"]) == (503, "temporarily_unavailable")
    assert "securus_inflight_requests 1.0" in await metrics(running)
    go.set()
    assert (await first).status == 200
