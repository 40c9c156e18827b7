"""Two workers with their replay claims in Valkey: single use holds, and without Valkey nothing passes."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.processes import GatewayProcess
from tests.support.valkey import ValkeyServer, valkey_server
from tests.support.workers import alone, at_once, one_to_each, start_workers
from tests.support.workers_load import own_chart, patient_store, reading, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("valkey"),
]


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with valkey_server() as server:
        yield server


@pytest_asyncio.fixture
async def running(tmp_path: Path, valkey: ValkeyServer) -> AsyncIterator[GatewayProcess]:
    def beside(document: dict[str, Any]) -> None:
        document["storage"]["valkey"] = {"url": valkey.settings().url, "timeout": "2s"}
        document["limits"] = {"rates": {"client": {"rate": "100000/h", "shared": True}}}

    gateway = await start_workers(tmp_path, change=beside)
    async with patient_store(gateway):
        yield gateway
    await gateway.stop(signal.SIGTERM)


async def test_a_proof_is_taken_once_among_workers_and_never_while_valkey_is_away(
    running: GatewayProcess, valkey: ValkeyServer
) -> None:
    async with running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        async with one_to_each(running) as pair:
            for _ in range(50):
                request = reading(running, app, token)
                replies = await at_once(pair, [request, request])
                assert sorted(reply.status for reply in replies) == [200, 401]
        close = ("Connection", "close")
        valkey.stop()
        for _ in range(4):
            reply = await alone(running, reading(running, app, token, close))
            assert (reply.status, reply.reason) == (503, "store-unavailable")
        status, said = await running.operations("/readyz")
        assert status == 503
        assert "the store does not answer" in said
        valkey.start()

        async def is_ready() -> bool:
            return (await running.operations("/readyz"))[0] == 200

        await until(is_ready)

        async def is_served() -> bool:
            return (await alone(running, reading(running, app, token, close))).status == 200

        await until(is_served)
        async with one_to_each(running) as pair:
            await at_once(pair, [reading(running, app, token) for _ in pair])
            request = reading(running, app, token)
            replies = await at_once(pair, [request, request])
            assert sorted(reply.status for reply in replies) == [200, 401]
