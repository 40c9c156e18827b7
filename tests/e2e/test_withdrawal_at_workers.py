"""Two workers over one store: a consent that is withdrawn is withdrawn for the next request of each, token or not."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from authz.clock import system_clock
from authz.storage.sqlite.store import open_store
from gateway.consent_service.versions import next_version, with_status
from gateway.demo import world
from tests.support.consent_desk import consent
from tests.support.processes import GatewayProcess
from tests.support.workers import at_once, one_to_each, start_workers
from tests.support.workers_load import own_chart, patient_store, reading

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("workers"),
]
ROUNDS = 20
POLICY = """
policy: by-consent
version: 1
owner: tests
status: enforce
text: The own chart is shown as long as the patient agrees to it.
rules:
  - rule: own-chart-by-consent
    effect: permit
    who: {context: patient}
    may: [read]
    resources: [Patient]
    where:
      compartment: {patient: "{token.patient}"}
      consent: {scope: research, decision: permit, for: "urn:study:dm2"}
    because: the patient decides
"""


def keep_here(document: dict[str, Any]) -> None:
    document["upstreams"]["fhir"]["consents"] = {"kept": "here"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    policies = {"10-patient-own-record.yaml": POLICY}
    gateway = await start_workers(tmp_path_factory.mktemp("workers"), change=keep_here, policies=policies)
    async with patient_store(gateway):
        yield gateway
    await gateway.stop()


async def test_a_withdrawal_acts_at_once_at_every_worker_on_a_token_that_lives(
    running: GatewayProcess,
) -> None:
    base = str(running.facts["fhir_base"])
    store = await open_store(Path(running.facts["config"]).parent / "securus.db")
    try:
        version = next_version(
            consent(world.PATIENT), None, base=base, id="c0", now=system_clock(), by="desk"
        )
        assert await store.add_consent(version)
        async with running.session("portal-dpop") as app:
            token = await own_chart(running, app)
            async with one_to_each(running) as pair:

                async def statuses() -> list[int]:
                    asked = [reading(running, app, token) for _ in pair]
                    return [reply.status for reply in await at_once(pair, asked)]

                for number in range(1, ROUNDS + 1):
                    assert await statuses() == [200, 200]
                    ended = with_status(json.loads(version.resource), "inactive", "changed my mind")
                    assert await store.add_consent(
                        next_version(ended, version, base=base, id=version.id, now=system_clock(), by="desk")
                    )
                    assert await statuses() == [404, 404]
                    version = next_version(
                        consent(world.PATIENT),
                        None,
                        base=base,
                        id=f"c{number}",
                        now=system_clock(),
                        by="desk",
                    )
                    assert await store.add_consent(version)
    finally:
        await store.close()
