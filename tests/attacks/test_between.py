"""Cases between the numbers of the attack list, with the five assertions that each case of the list makes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.between import ROWS
from tests.attacks.between.worlds import POLICIES
from tests.attacks.table.gateways import Open, gateways_of
from tests.attacks.table.play import play
from tests.attacks.table.rows import Row

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks-between")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Open]:
    """Opens the gateway of a world, once."""
    async with gateways_of(POLICIES, tmp_path_factory) as opened:
        yield opened


async def test_no_name_is_used_twice() -> None:
    names = [row.id for row in ROWS]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_case(world: Open, row: Row) -> None:
    await play(await world(row.world), row)
