"""A search result that is longer than the gateway holds: it is streamed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.gateway import RunningGateway


def entry(number: int, text: str) -> dict[str, Any]:
    """An entry that patient A may see."""
    resource = {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"text": text},
        "subject": {"reference": "Patient/A"},
    }
    return {"resource": resource, "search": {"mode": "match"}}


def long_bundle(
    gateway: RunningGateway, entries: int = 40, *, breaks_off: bool = False
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Answers with 100 kB an entry, as many as are asked for, all patient A's; whole, or ended after the last entry."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        link = json.dumps([{"relation": "self", "url": f"{gateway.upstream.base}/x?{request.query_string}"}])
        begin = f'{{"resourceType":"Bundle","type":"searchset","link":{link},"entry":['
        await response.write(begin.encode())
        for number in range(entries):
            mark = "," if number else ""
            await response.write(f"{mark}{json.dumps(entry(number, 'x' * 100_000))}".encode())
        if breaks_off:
            await asyncio.sleep(0.2)  # what is under way arrives before the end does
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(b"]}")
        await response.write_eof()
        return response

    return answer
