"""A feed whose destination is away: writes are refused past the limit, with the reason, and reads and sign-ins go on."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.audit_settings import AuditSettings, FeedKind, FeedSettings
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: writers
version: 1
owner: tests
status: enforce
text: Staff read and write.
rules:
  - rule: staff
    effect: permit
    who: {context: user, role: physician}
    may: [read, search, create, update, delete, batch, transaction]
    resources: any
    shared: true
    because: treatment
"""
LIMIT = 5


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("backlog")
    (folder / "feed").write_text("a file where the folder of the feed should be")
    feed = FeedSettings(
        "archive", FeedKind.FILE, path=folder / "feed" / "events.ndjson", refuse_after_records=LIMIT
    )
    running = await start_gateway(
        folder, policies=policies_with(folder, "90-writers.yaml", POLICY), audit=AuditSettings(feeds=(feed,))
    )
    yield running
    await stop_gateway(running)


async def send(gateway: RunningGateway, method: str, path: str, body: Any = None) -> Reply:
    raw = b"" if body is None else json.dumps(body).encode()
    headers = [("Content-Type", "application/fhir+json")] if raw else []
    if method in ("PUT", "DELETE"):
        headers.append(("If-Match", 'W/"1"'))
    return await gateway.fhir(method, path, who="dr1", headers=headers, body=raw)


def observation(**more: Any) -> dict[str, Any]:
    about = {"subject": {"reference": "Patient/A"}, "status": "final", "code": {"text": "x"}}
    return {"resourceType": "Observation", **about, **more}


def metric(gateway: RunningGateway, name: str, **labels: str) -> float:
    return gateway.gateway.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(gateway: RunningGateway, *, is_full: bool) -> None:
    async with asyncio.timeout(20):
        while gateway.gateway._feeds.may_write() is is_full:
            await asyncio.sleep(0.05)


async def test_past_the_limit_writes_are_refused_in_every_form_and_reads_go_on(
    gateway: RunningGateway,
) -> None:
    assert (await send(gateway, "POST", "/Observation", observation())).status == 201
    for _ in range(LIMIT):
        await send(gateway, "GET", "/Patient/A")
    await until(gateway, is_full=True)
    gateway.upstream.requests.clear()
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "POST", "url": "Observation"}, "resource": observation()}],
    }
    for method, path, body in (
        ("POST", "/Observation", observation()),
        ("PUT", "/Observation/a1", observation(id="a1")),
        ("DELETE", "/Observation/a1", None),
        ("POST", "", bundle),
    ):
        reply = await send(gateway, method, path, body)
        assert (reply.status, reply.reason) == (503, "audit-backlog"), reply.raw
        assert reply.header("Retry-After") == "30"
    batch = await send(gateway, "POST", "", {**bundle, "type": "batch"})
    assert batch.json["entry"][0]["response"]["status"].startswith("503")
    assert gateway.upstream.requests == []
    assert (await send(gateway, "GET", "/Patient/A")).status == 200
    assert (await send(gateway, "GET", "/Patient?name=Own")).status == 200
    assert metric(gateway, "securus_refusals_total", reason="audit-backlog") >= 4
    assert metric(gateway, "securus_audit_feed_lag_records", feed="archive") > LIMIT
    async with asyncio.timeout(20):
        while not metric(gateway, "securus_audit_feed_records_total", feed="archive", outcome="failed"):
            await asyncio.sleep(0.05)
    assert (await gateway.audit())[-1]["event"] == "access"  # all of it is on record here


async def test_when_the_destination_is_back_everything_is_delivered_and_writes_go_on(
    gateway: RunningGateway,
) -> None:
    await until(gateway, is_full=True)
    (gateway.folder / "feed").unlink()
    await until(gateway, is_full=False)
    assert (await send(gateway, "POST", "/Observation", observation())).status == 201
    wanted = {record["seq"] for record in await gateway.audit()}
    file = gateway.folder / "feed" / "events.ndjson"
    async with asyncio.timeout(20):
        while not wanted - {1} <= numbers(file):  # the feed began after the first record
            await asyncio.sleep(0.05)
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({event["id"] for event in events}) == len(events)


def numbers(file: Path) -> set[int]:
    """The records whose events are in the file."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {
        int(detail["valueString"].rpartition("#")[2])
        for line in lines
        for entity in json.loads(line)["entity"]
        for detail in entity.get("detail", [])
        if detail["type"] == "record"
    }
