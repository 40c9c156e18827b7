"""The assertions that every attack makes beside its own: no marker, no word of the store, one audit record."""

import base64
from typing import Any

from tests.support.gateway import Reply, RunningGateway
from tests.support.world import SECRET

JSON = ("Content-Type", "application/fhir+json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")


async def attack(gateway: RunningGateway, method: str, path: str, **more: Any) -> Reply:
    """One request, with the five assertions but the caller's own; sent is what the store may have seen, if given."""
    before = len(await gateway.audit())
    sent = more.pop("sent", None)
    gateway.upstream.requests.clear()
    reply = await gateway.fhir(method, path, **more)
    assert SECRET.encode() not in reply.raw
    assert base64.b64encode(SECRET.encode())[:-4] not in reply.raw
    for word in (str(gateway.upstream.port).encode(), b"upstream-product", b"Traceback"):
        assert word not in reply.raw
    if reply.status >= 400:
        assert reply.json["resourceType"] == "OperationOutcome"
    records = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    assert len(records) == 1, records
    assert records[0]["status"] == reply.status
    if sent is not None:
        assert [str(request) for request in gateway.upstream.requests] == sent
    return reply


def shown(reply: Reply) -> set[str]:
    """The resources of a Bundle, by 'Type/id'."""
    assert reply.status == 200, reply.raw[:500]
    return {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in reply.json.get("entry", [])}
