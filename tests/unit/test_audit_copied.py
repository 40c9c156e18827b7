"""An audit log that moves to PostgreSQL keeps its chains, heads and stubs, also when records were retired meanwhile."""

from pathlib import Path

import pytest

from authz.storage import copying
from authz.storage.postgresql.store import open_postgresql
from authz.storage.sqlite.store import open_store
from gateway.audit.retention import Retention
from gateway.audit.verification import verify
from tests.support.postgresql import PrivateServer
from tests.support.sealed_log import sealed_log

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]
DAY = 86400


async def test_what_was_retired_between_two_passes_is_retired_in_the_copy(
    postgresql: PrivateServer, tmp_path: Path
) -> None:
    database = await postgresql.new_database()
    source, target = tmp_path / "source.db", postgresql.settings(database)
    store = await open_store(source)
    world = await sealed_log(store)
    for _ in range(3):
        await world.record(20)
        await world.record(10, "node-a")
        await world.seal()
        world.clocks.pass_(DAY)
    keeper = Retention(
        store=store,
        log=world.logs[""],
        keys=world.keys,
        period_seconds=100 * DAY,
        clock=lambda: world.clocks.wall,
        monotonic=lambda: world.clocks.steady,
    )
    await copying.copy(source, target, finish=False, progress=lambda line: None)
    world.clocks.pass_(97.5 * DAY)
    await keeper.round()
    await world.record(5)
    await world.seal()
    before = await verify(store, await world.public())
    assert (before.whole, before.retired) == (True, 20 + 11)
    public = await world.public()
    await copying.copy(source, target, finish=True, progress=lambda line: None)
    await store.close()
    copied = await open_postgresql(target)
    assert await verify(copied, public) == before
    again = await sealed_log(copied)
    await again.record(5)
    await again.record(5, "node-b")
    again.clocks.pass_(200 * DAY)
    await again.checkpoints.round()
    found = await verify(copied, await again.public())
    assert (found.whole, found.heads) == (True, before.heads + 1)
    await copied.close()
    await postgresql.drop(database)
