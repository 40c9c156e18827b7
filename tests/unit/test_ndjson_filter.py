"""A file of an export: lines judged, seen as the judge says, forwarded byte for byte where nothing changes."""

import json
from collections.abc import AsyncIterator

import pytest

from gateway.policy.decision import Resource, Verdict
from gateway.proxy.answers.ndjson_filter import NdjsonFilter
from gateway.proxy.answers.tally import Tally

UPSTREAM, PUBLIC = "http://store:8080/fhir", "https://gw.example/fhir/r4"
PLAIN = b'{ "resourceType":"Observation","id":"plain", "valueQuantity":{"value":1.50}}'
LINKED = json.dumps(
    {"resourceType": "Observation", "id": "l", "subject": {"reference": f"{UPSTREAM}/Patient/A"}}
).encode()
HIDDEN = b'{"resourceType":"Observation","id":"hidden"}'
PARTLY = b'{"resourceType":"Observation","id":"partly","issued":"2024","valueQuantity":{"value":6.30}}'


def judge(resource: Resource) -> Verdict:
    if resource["id"] == "hidden":
        return Verdict(False, ())
    if resource["id"] == "partly":
        return Verdict(True, ("p/r",), seen={k: v for k, v in resource.items() if k != "issued"})
    return Verdict(True, ("p/r",))


async def filtered(content: bytes, size: int) -> tuple[bytes, Tally]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), size):
            yield content[start : start + size]

    tally = Tally()
    out = [chunk async for chunk in NdjsonFilter(judge, UPSTREAM, PUBLIC, tally).run(chunks())]
    assert all(out)
    return b"".join(out), tally


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
async def test_each_line_leaves_as_it_may_be_seen(size: int) -> None:
    out, tally = await filtered(b"\n".join([PLAIN, HIDDEN, LINKED, PARTLY]), size)
    plain, linked, partly = out.splitlines()
    assert plain == PLAIN
    assert json.loads(linked)["subject"]["reference"] == f"{PUBLIC}/Patient/A"
    assert partly == b'{"resourceType":"Observation","id":"partly","valueQuantity":{"value":6.30}}'
    assert (tally.shown, tally.dropped, tally.rules) == (3, 1, {"p/r"})
