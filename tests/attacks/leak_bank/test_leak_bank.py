"""The leak bank played against the hostile store, with the five assertions that every attack makes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.leak_bank import ROWS
from tests.attacks.leak_bank.world import DEFINITIONS, POLICY, TOKENS, bank_world
from tests.attacks.table.play import play
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
