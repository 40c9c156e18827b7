"""What a store writes beside the resources of a Bundle, where only texts and numbers belong."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("members"))
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize("more", [{}, {"indent": 1}], ids=["plain", "spaced"])
@pytest.mark.parametrize(
    ("of_bundle", "of_search"),
    [
        ({"language": {"x": SECRET}}, {}),
        ({"id": [SECRET]}, {}),
        ({"timestamp": {"x": SECRET}}, {}),
        ({"total": SECRET}, {}),
        ({"total": {"x": SECRET}}, {}),
        ({}, {"score": {"x": SECRET}}),
        ({}, {"score": [SECRET]}),
        ({}, {"extension": [{"x": SECRET}]}),
    ],
)
async def test_nothing_nested_passes_beside_the_resources(
    gateway: RunningGateway, of_bundle: dict[str, Any], of_search: dict[str, Any], more: dict[str, Any]
) -> None:
    store, own = gateway.upstream, gateway.upstream.made()["Observation/a1"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        entry = {
            "fullUrl": f"{store.base}/Observation/a1",
            "resource": own,
            "search": {"mode": "match"} | of_search,
        }
        link = [{"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, **of_bundle, "entry": [entry]}
        text = json.dumps(bundle, separators=(",", ":"), **more)
        return web.Response(text=text, content_type="application/fhir+json")

    store.answer = answer
    reply = await gateway.fhir("GET", "/Observation?code=x")
    assert reply.status == 200
    assert reply.json["entry"] == [
        {
            "fullUrl": f"{gateway.origin}/fhir/r4/Observation/a1",
            "resource": own,
            "search": {"mode": "match"},
        }
    ]
    assert SECRET.encode() not in reply.raw
