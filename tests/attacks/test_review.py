"""Defects that a review of the whole found: each test failed once, and says what holds since."""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("attacks")]


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(folder, **options)
    try:
        yield gateway
    finally:
        await stop_gateway(gateway)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds; five seconds are for ever."""
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.01)


def entry(number: int, text: str) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"text": text},
        "subject": {"reference": "Patient/A"},
    }
    return {"resource": resource, "search": {"mode": "match"}}


def long_bundle(
    gateway: RunningGateway, entries: int = 40
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """A search result of 100 kB an entry, as many as are asked for, all patient A's."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        link = json.dumps([{"relation": "self", "url": f"{gateway.upstream.base}/x?{request.query_string}"}])
        begin = f'{{"resourceType":"Bundle","type":"searchset","link":{link},"entry":['
        await response.write(begin.encode())
        for number in range(entries):
            mark = "," if number else ""
            await response.write(f"{mark}{json.dumps(entry(number, 'x' * 100_000))}".encode())
        await response.write(b"]}")
        await response.write_eof()
        return response

    return answer


async def opened(gateway: RunningGateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    return await asyncio.open_connection("localhost", gateway.port, ssl=context, limit=2**16)


async def request_bytes(gateway: RunningGateway, method: str, path: str) -> bytes:
    token = await gateway.token()
    target = MOUNT + path
    proof = gateway.proof(method, gateway.origin + target.partition("?")[0], token)
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n\r\n"
    ).encode()


def connections(gateway: RunningGateway) -> int:
    """Connections to the store that are in use."""
    session = gateway.gateway._mounts[0].client._session
    assert session is not None
    assert session.connector is not None
    return len(session.connector._acquired)


@pytest.mark.parametrize("count", [40, 150])
async def test_a_search_by_many_ids_has_pages_that_open(tmp_path: Path, count: int) -> None:
    async with running(tmp_path) as gateway:
        numbers = random.Random(7)
        ids = ",".join(str(UUID(int=numbers.getrandbits(128), version=4)) for _ in range(count))

        async def pages(request: web.BaseRequest) -> web.StreamResponse:
            base = f"{gateway.upstream.base}/Observation?{request.query_string}"
            link = [{"relation": "self", "url": base}, {"relation": "next", "url": f"{base}&_page=2"}]
            bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [entry(1, "x")]}
            return web.json_response(bundle, content_type="application/fhir+json")

        gateway.upstream.answer = pages
        reply = await gateway.fhir("GET", f"/Observation?_id={ids}")
        assert reply.status == 200
        (url,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
        reply = await gateway.fhir("GET", url.removeprefix(gateway.origin + MOUNT))
        assert reply.status == 200, reply.reason


async def test_a_key_that_does_not_fit_its_certificate_keeps_the_listener_serving(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        (tmp_path / "server.pem").write_bytes((tmp_path / "own.pem").read_bytes())
        await gateway.gateway.reload()
        assert (await gateway.fhir("GET", "/Patient/A")).status == 200
