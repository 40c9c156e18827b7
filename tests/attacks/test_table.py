"""The attack table: every row, in its world, with the five assertions that each case makes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.table import ROWS
from tests.attacks.table.gateways import Open, gateways_of
from tests.attacks.table.play import play
from tests.attacks.table.rows import Row
from tests.attacks.table.worlds import POLICIES

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attack-table")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Open]:
    """Opens the gateway of a world, once."""
    async with gateways_of(POLICIES, tmp_path_factory) as opened:
        yield opened


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_case(world: Open, row: Row) -> None:
    await play(await world(row.world), row)
