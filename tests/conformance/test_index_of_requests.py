"""The index of a running gateway: what real requests become in it, and that no request writes to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.storage.audit_index import AccessEntry, AuditQuery
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway

_SECONDS = 10


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(tmp_path)
    yield gateway
    await stop_gateway(gateway)


async def found(running: RunningGateway, at_least: int = 1, **wanted: object) -> list[AccessEntry]:
    """What the index has, once the process that leads has indexed so many."""
    query = AuditQuery(base=running.origin + MOUNT, **wanted)  # type: ignore[arg-type]
    async with asyncio.timeout(_SECONDS):
        while len(entries := await running.gateway.store.find_audit(query)) < at_least:
            await asyncio.sleep(0.05)
    return list(entries)


async def test_a_read_a_search_and_a_refusal_are_found_by_the_patient_whom_they_were_about(
    running: RunningGateway,
) -> None:
    assert (await running.fhir("GET", "/Patient/A")).status == 200
    assert (await running.fhir("GET", "/Observation?patient=A")).status == 200
    await running.fhir("GET", "/Patient/B")
    newest, oldest = (await found(running, 2, patients=["A"]))[:2]
    assert (oldest.kind, oldest.outcome, oldest.types) == ("read", "permit", "Patient")
    assert (newest.kind, newest.outcome, newest.types) == ("search", "permit", "Observation")
    assert (oldest.user, oldest.client, oldest.grant) == ("pA-r", "client-pA-r", "grant-pA-r")
    assert oldest.rule
    of_b = await found(running, patients=["B"])
    assert [each.outcome for each in of_b if each.user == "pA-r"] != ["permit"]
    assert await running.gateway.store.last_use(["grant-pA-r"]) == {"grant-pA-r": of_b[0].at}


async def test_an_answer_waits_for_its_record_and_not_for_the_index(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: object, **more: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(running.gateway.store, "index_audit", never)
    assert (await running.fhir("GET", "/Patient/A")).status == 200
    assert [each for each in await running.audit() if each["event"] == "access"]
