"""Cases 258 and 337: an answer beyond its budget is not passed on, and never ends as if it were whole."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.gateway import RunningGateway, start_gateway, stop_gateway
from tests.support.hostile_upstream import Handler

pytestmark = pytest.mark.xdist_group("attacks")
LIMIT = 600 * 1024


def newborns(gateway: RunningGateway, count: int) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        store = gateway.upstream
        link = [{"relation": "self", "url": f"{store.base}/Observation?{request.query_string}"}]
        own = store.resources["Observation/a1"] | {"note": [{"text": "x" * 1000}]}
        entries = [{"resource": own | {"id": f"n{number}"}} for number in range(count)]
        kind = "history" if request.path.endswith("_history") else "searchset"
        bundle = {"resourceType": "Bundle", "type": kind, "link": link, "entry": entries}
        return web.Response(body=json.dumps(bundle), content_type="application/fhir+json")

    return answer


async def test_U337_a_bundle_beyond_its_budget_never_ends_well(tmp_path: Path) -> None:
    running = await start_gateway(tmp_path, max_body=LIMIT)
    try:
        running.upstream.answer = newborns(running, 200)
        whole = await running.fhir("GET", "/Observation", who="dr1")
        assert len(whole.json["entry"]) == 200
        for count in (700, 3000):
            running.upstream.answer = newborns(running, count)
            before = len(await running.audit())
            reply = await running.fhir("GET", "/Observation", who="dr1")
            assert reply.status in (200, 502)
            assert reply.status == 502 or not reply.has_last_chunk
            records = (await running.audit())[before:]
            assert records[-1].get("ended") in (None, "broken-off")
            assert reply.status == 502 or records[-1]["ended"] == "broken-off"
            assert len(reply.raw) < LIMIT + 4096
    finally:
        await stop_gateway(running)
