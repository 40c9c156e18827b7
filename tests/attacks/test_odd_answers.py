"""Answers of a store that are odd but not broken: what can be sent of them is, and nothing of them is believed."""

import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.long_bundle import entry

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("odd"))
    yield running
    await stop_gateway(running)


def bundle(gateway: RunningGateway, link: Any) -> None:
    """Let the store answer searches with one entry and this link."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        found = link(f"{gateway.upstream.base}/Observation?{request.query_string}")
        value = {"resourceType": "Bundle", "type": "searchset", "link": found, "entry": [entry(1, "x")]}
        return web.json_response(value, content_type="application/fhir+json")

    gateway.upstream.answer = answer


@pytest.mark.parametrize("count", [40, 150])
async def test_a_search_by_many_ids_has_pages_that_open(gateway: RunningGateway, count: int) -> None:
    numbers = random.Random(7)
    ids = ",".join(str(UUID(int=numbers.getrandbits(128), version=4)) for _ in range(count))
    bundle(
        gateway,
        lambda base: [{"relation": "self", "url": base}, {"relation": "next", "url": f"{base}&_page=2"}],
    )
    reply = await gateway.fhir("GET", f"/Observation?_id={ids}")
    assert reply.status == 200
    (url,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
    reply = await gateway.fhir("GET", url.removeprefix(gateway.origin + MOUNT))
    assert reply.status == 200, reply.reason


@pytest.mark.parametrize("odd", ["next", 7, None, True, ["self"]])
async def test_a_link_that_is_no_object_is_502(gateway: RunningGateway, odd: Any) -> None:
    bundle(gateway, lambda base: [{"relation": "self", "url": base}, odd])
    reply = await gateway.fhir("GET", "/Observation?code=x")
    assert (reply.status, reply.reason) == (502, "upstream-invalid")


@pytest.mark.parametrize(
    "value",
    ['W/"\xfc"', 'W/"1\x80"', 'W/"\u00e9\u00e9"', "\xa0"],
    ids=["latin", "c1", "accents", "no-break-space"],
)
async def test_a_header_of_bytes_that_cannot_be_sent_is_left_out(gateway: RunningGateway, value: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        place = f"{gateway.upstream.base}/Patient/A/_history/1{value}"
        headers = {"ETag": value, "Last-Modified": value, "Content-Location": place}
        patient = {"resourceType": "Patient", "id": "A"}
        return web.json_response(patient, content_type="application/fhir+json", headers=headers)

    gateway.upstream.answer = answer
    reply = await gateway.fhir("GET", "/Patient/A")
    assert (reply.status, reply.json["id"]) == (200, "A")
    for name in ("ETag", "Last-Modified", "Content-Location"):
        assert reply.header(name) is None
    assert reply.raw.partition(b"\r\n\r\n")[0].isascii()
