"""Large bodies, read and written while others have their turn: whatever is made of them strictly is made in a thread.

Each way in which a caller may send or ask for a resource of some hundred kilobytes; noted are the lengths of what is
read and written, and where.
"""

import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from gateway.fhir import resource
from gateway.proxy.large_bodies import INLINE_BYTES, by_length
from tests.attacks.test_writes import POLICY, observation, write
from tests.support.gateway import RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
NOTE = [{"text": f"{number} " + "n" * 200} for number in range(2000)]
XML = ("Content-Type", "application/fhir+xml")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("large")
    policy = POLICY.replace("may: [read, create,", 'may: ["operation:$validate", transaction, read, create,')
    running = await start_gateway(folder, policies=policies_with(folder, "90-writing.yaml", policy))
    yield running
    await stop_gateway(running)


class Places:
    """Of what was read and written: in which threads what is long, and how often."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def noting(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **more: Any) -> Any:
            made = make(*args, **more)
            if max(len(each) for each in (*args, made) if isinstance(each, bytes)) > INLINE_BYTES:
                self.threads.append(threading.current_thread().name)
            return made

        return noted


@pytest.fixture
def places(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Places:
    gateway.upstream.reset()
    found = Places()
    for name in ("parse_json", "write_resource"):
        monkeypatch.setattr(resource, name, found.noting(getattr(resource, name)))
    return found


def in_bundle(kind: str, *entries: tuple[str, str, Any]) -> dict[str, Any]:
    listed = [
        {"request": {"method": method, "url": url}} | ({} if body is None else {"resource": body})
        for method, url, body in entries
    ]
    return {"resourceType": "Bundle", "type": kind, "entry": listed}


LARGE = observation("a1", note=NOTE)
NEW = {name: value for name, value in LARGE.items() if name != "id"}
WAYS: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "update": ("PUT", "/Observation/a1", LARGE, {}),
    "update-with-representation": ("PUT", "/Observation/a1", LARGE, {"headers": (("Prefer", "return=representation"),)}),
    "upsert": ("PUT", "/Observation/new", LARGE | {"id": "new"}, {}),
    "create": ("POST", "/Observation", NEW, {"headers": (("Prefer", "return=representation"),)}),
    "create-with-an-id": ("POST", "/Observation", LARGE, {}),
    "batch": ("POST", "", in_bundle("batch", ("PUT", "Observation/a1", LARGE), ("POST", "Observation", NEW)), {}),
    "transaction": (
        "POST", "", in_bundle("transaction", ("PUT", "Observation/a1", LARGE), ("POST", "Observation", NEW)), {},
    ),
    "validate": ("POST", "/Observation/$validate", NEW, {}),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_sent_is_read_and_written_beside_the_loop(
    gateway: RunningGateway, places: Places, way: str
) -> None:
    method, path, body, more = WAYS[way]
    reply = await write(gateway, method, path, body, **more)
    assert reply.status in (200, 201), reply
    assert places.threads
    assert not [each for each in places.threads if not each.startswith("large-body")]


async def test_what_is_stored_and_what_is_asked_for_is_read_beside_it(
    gateway: RunningGateway, places: Places
) -> None:
    stored = LARGE | {"note": NOTE * 2, "meta": {"versionId": "1"}}  # longer than what is read in one piece
    gateway.upstream.resources["Observation/a1"] = stored
    token = await gateway.token("pA-rw")
    reply = await gateway.fhir("GET", "/Observation/a1", token=token)
    assert reply.json["note"] == NOTE * 2
    assert {each.partition("_")[0] for each in places.threads} == {"large-body"}
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    for method, path, body, more in (
        ("PATCH", "/Observation/a1", patch, {}),
        ("PUT", "/Observation/a1", observation("a1"), {}),
        ("DELETE", "/Observation/a1", None, {}),
    ):
        gateway.upstream.resources["Observation/a1"] = stored
        places.threads.clear()
        reply = await write(gateway, method, path, body, **more)
        assert reply.status in (200, 204), (method, reply)
        assert {each.partition("_")[0] for each in places.threads} == {"large-body"}, method


async def test_what_is_wrong_with_a_large_body_is_said_as_of_a_small_one(
    gateway: RunningGateway, places: Places
) -> None:
    twice = json.dumps(LARGE).encode()[:-1] + b',"status":"final"}'
    for body in (twice, json.dumps(LARGE).encode()[:-1], json.dumps(LARGE | {"unknown": 1}).encode()):
        small = body.replace(json.dumps(NOTE).encode(), b"[]")
        for method, path in (("PUT", "/Observation/a1"), ("POST", "/Observation")):
            large, other = [await write(gateway, method, path, each) for each in (body, small)]
            assert large.status == other.status
            assert large.status in (400, 422)
            said = [each.json["issue"][0]["details"] for each in (large, other)]
            assert said[0] == said[1]


async def test_what_is_short_is_made_at_once_and_what_is_raised_comes_through() -> None:
    def name() -> str:
        return threading.current_thread().name

    assert await by_length(INLINE_BYTES, name) == threading.main_thread().name
    assert (await by_length(INLINE_BYTES + 1, name)).startswith("large-body")

    def refuse() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await by_length(INLINE_BYTES + 1, refuse)
