"""Cases between the numbers of the attack list, with the five assertions that each case of the list makes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.fhir.search import OPENABLE
from gateway.settings import UpstreamProfile
from tests.attacks.between import ROWS
from tests.attacks.between.worlds import POLICIES
from tests.attacks.table.play import play
from tests.attacks.table.rows import Row
from tests.attacks.table.worlds import CALLERS, DEFINITIONS, wide_world
from tests.support.gateway import PRINCIPALS, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks-between")]
ABLE = UpstreamProfile(opened_parameters=OPENABLE)
Open = Callable[[str], Awaitable[RunningGateway]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Open]:
    """Opens the gateway of a world, once."""
    opened: dict[str, RunningGateway] = {}

    async def open_(name: str) -> RunningGateway:
        if name not in opened:
            folder: Path = tmp_path_factory.mktemp(name)
            policies = folder / "policies"
            policies.mkdir()
            (policies / "00-definitions.yaml").write_text(DEFINITIONS)
            (policies / f"{name}.yaml").write_text(POLICIES[name])
            opened[name] = await start_gateway(folder, policies=policies, profile=ABLE)
            opened[name].upstream.made = wide_world
        return opened[name]

    PRINCIPALS.update(CALLERS)
    yield open_
    for running in opened.values():
        await stop_gateway(running)


async def test_no_name_is_used_twice() -> None:
    names = [row.id for row in ROWS]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
async def test_case(world: Open, row: Row) -> None:
    await play(await world(row.world), row)
