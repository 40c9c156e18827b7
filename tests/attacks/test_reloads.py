"""Reloads and background work while the gateway serves: what is wrong or slow never takes the place of what is right."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway import app
from gateway.background import Background
from gateway.policy import language
from tests.support.gateway import ROOT, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("attacks")]
LATER = """
policy: later
version: 1
owner: tests
status: enforce
text: A policy that came while the gateway was running.
rules:
  - rule: nobody-lists-flags
    effect: deny
    may: [search]
    resources: [Flag]
    because: the newer files say so
tests:
  - test: flags are closed
    as: {context: user, role: [physician], client: ehr}
    request: GET /Flag?patient=A
    expect: {decision: deny, rule: nobody-lists-flags, status: 403, upstream: none}
"""


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    policies = tmp_path / "policies"
    policies.mkdir()
    for file in (ROOT / "policies").glob("*.yaml"):
        (policies / file.name).write_text(file.read_text())
    running = await start_gateway(tmp_path, policies=policies)
    yield running
    await stop_gateway(running)


def in_force(gateway: RunningGateway) -> str:
    engine = gateway.gateway.engines.engine
    assert engine is not None
    return engine.policy_hash


async def test_a_key_that_does_not_fit_its_certificate_keeps_the_listener_serving(
    gateway: RunningGateway,
) -> None:
    (gateway.folder / "server.pem").write_bytes((gateway.folder / "own.pem").read_bytes())
    await gateway.gateway.reload()
    assert (await gateway.fhir("GET", "/Patient/A")).status == 200


async def test_of_two_reloads_the_one_that_read_newer_files_wins(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has read the old files and takes its time over them, the second has read the new ones."""
    older = in_force(gateway)
    began, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    load = app.load_policies
    calls: list[int] = []

    def slow_at_first(files: dict[str, str]) -> language.PolicySet:
        calls.append(len(files))
        if len(calls) == 1:
            loop.call_soon_threadsafe(began.set)
            assert go_on.wait(10)
        return load(files)

    monkeypatch.setattr(app, "load_policies", slow_at_first)
    first = asyncio.create_task(gateway.gateway.reload())
    await asyncio.wait_for(began.wait(), 5)
    (gateway.folder / "policies" / "50-later.yaml").write_text(LATER)
    second = asyncio.create_task(gateway.gateway.reload())
    await asyncio.wait({second}, timeout=0.5)  # if it does not wait for the first, it is done by then
    go_on.set()
    await asyncio.wait_for(asyncio.gather(first, second), 10)
    assert calls == [calls[0], calls[0] + 1]
    assert in_force(gateway) != older
    token = await gateway.token("dr1")
    assert (await gateway.fhir("GET", "/Flag?patient=A", token=token)).reason == "policy-denied"


async def test_policies_that_are_wrong_keep_the_old_ones_in_force(gateway: RunningGateway) -> None:
    older = in_force(gateway)
    (gateway.folder / "policies" / "50-later.yaml").write_text(LATER.replace("status: 403", "status: 404"))
    await gateway.gateway.reload()
    assert in_force(gateway) == older


async def test_background_work_goes_on_after_an_error_that_nobody_expected(gateway: RunningGateway) -> None:
    done = asyncio.Event()
    turns: list[int] = []

    async def work() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise RuntimeError("nobody expected this")
        done.set()

    background = Background(gateway.gateway.audit)
    background.repeat(work, 0.001)
    try:
        await asyncio.wait_for(done.wait(), 5)
    finally:
        await background.stop()
