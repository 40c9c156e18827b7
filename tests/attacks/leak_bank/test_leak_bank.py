"""The leak bank played against the hostile store, with the five assertions that every attack makes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.leak_bank import BUNDLES, ROWS
from tests.attacks.leak_bank.world import DEFINITIONS, POLICY, TOKENS, bank_world
from tests.attacks.table.play import check_no_marker, check_no_store, check_sent, check_twin, play, send
from tests.attacks.table.rows import Row
from tests.support.gateway import PRINCIPALS, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("leak-bank")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("leak-bank")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    (policies / "10-leak-bank.yaml").write_text(POLICY)
    running = await start_gateway(folder, policies=policies)
    running.upstream.made = bank_world
    PRINCIPALS.update(TOKENS)
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
async def test_question(gateway: RunningGateway, row: Row) -> None:
    await play(gateway, row)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in BUNDLES])
async def test_question_in_a_bundle(gateway: RunningGateway, row: Row) -> None:
    gateway.upstream.reset()
    reply = await send(gateway, row.ask)
    assert reply.status in row.status, (reply.raw[:900], [str(r) for r in gateway.upstream.requests])
    check_no_marker(reply)
    check_no_store(reply)
    check_sent(gateway, row, reply)
    if row.reason is not None:
        assert reply.reason == row.reason
    for text in row.holds:
        assert text in reply.body.decode(), reply.body[:900]
    for text in row.hides:
        assert text not in reply.body.decode(), reply.body[:900]
    await check_twin(gateway, row)
