"""Faults at a gateway under load: whatever was answered is on record once, and it goes on by itself."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.demo import world
from tests.support.moving_clock import move
from tests.support.processes import GatewayProcess, serve, start_process
from tests.support.recorded_load import Moved, RecordedLoad, Written, judge, records_of, writable_store
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.workers import start_workers, workers_of
from tests.support.workers_load import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("faults"),
]
HEADS = {"records": 50, "every": "1s"}
HOUR = 3600
MOST_BEHIND = 200


@asynccontextmanager
async def loaded(running: GatewayProcess, database: Path) -> AsyncIterator[tuple[RecordedLoad, Written]]:
    """Load on a gateway that serves, before and after what happens to it; then the log is judged."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(writable_store(running))
        app = await stack.enter_async_context(running.session("portal-dpop"))
        lab = await stack.enter_async_context(running.session("lab-backend"))
        load = RecordedLoad(running, app, lab)
        try:
            await load.begin()
            await load.serves()
            yield load, store
            await load.serves()
        finally:
            await load.stop()
        await judge(load, store, database)


class OnADisk:
    """Two workers whose store is on a disk of its own."""

    def __init__(self, running: GatewayProcess, disk: SmallDisk) -> None:
        self.running = running
        self.disk = disk
        self.database = disk.folder / "securus.db"

    async def pids(self) -> list[int]:
        """The workers that run now."""
        return [each["pid"] for each in await workers_of(self.running) if each["pid"] is not None]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def on_a_disk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OnADisk]:
    folder = tmp_path_factory.mktemp("faults")
    with small_disk(folder / "disk") as disk:

        def there(document: dict[str, Any]) -> None:
            document["storage"]["path"] = str(disk.folder / "securus.db")
            document["audit"] = {"heads": HEADS}

        world_ = OnADisk(await start_workers(folder, change=there), disk)
        yield world_
        await world_.running.stop()


async def test_a_full_disk_refuses_reads_and_writes_until_there_is_room_again(on_a_disk: OnADisk) -> None:
    async with loaded(on_a_disk.running, on_a_disk.database) as (load, store):
        for _ in range(2):
            with on_a_disk.disk.full(await on_a_disk.pids()):
                await load.refuses(503)
                begun, received = len(load.said), len(store.received)
                await load.refuses(503, 10)
                assert {each.status for each in load.said[begun:]} == {503}
                assert len(store.received) == received
            await load.serves()
    reasons = {each.reason for each in load.said if each.status == 503}
    assert reasons <= {"audit-unavailable", "store-unavailable"}


async def test_a_worker_that_is_killed_takes_no_answer_and_no_record_with_it(on_a_disk: OnADisk) -> None:
    async with loaded(on_a_disk.running, on_a_disk.database) as (load, _):
        for number in range(4):
            victim = (await workers_of(on_a_disk.running))[number % 2]["pid"]
            os.kill(victim, signal.SIGKILL)

            async def is_back(gone: int = victim, place: int = number % 2) -> bool:
                worker = (await workers_of(on_a_disk.running))[place]
                return worker["pid"] not in (None, gone) and worker["status"] == "ready"

            await load.serves()
            await until(is_back, 60)


async def test_a_gateway_that_is_killed_whole_goes_on_where_its_last_answer_was(on_a_disk: OnADisk) -> None:
    running = on_a_disk.running
    async with loaded(running, on_a_disk.database) as (load, _):
        for _ in range(2):
            for pid in [running.process.pid, *await on_a_disk.pids()]:
                os.kill(pid, signal.SIGKILL)
            assert await running.process.wait() == -signal.SIGKILL
            await load.grow("GET", lambda status: status == 0, 1)
            running.process = (await serve(running.facts, running.folder, running.ports)).process
            await load.serves()


class Repository:
    """An audit repository that can be away. kept are the numbers of the records that it has."""

    def __init__(self) -> None:
        self.port = world.free_port()
        self.kept: set[int] = set()
        self._runner: web.ServerRunner | None = None

    async def begin(self) -> None:
        """Be there."""
        self._runner = web.ServerRunner(web.Server(self._take, access_log=None), shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def end(self) -> None:
        """Be away."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        value = await request.json()
        entries = value.get("entry")
        self.kept |= {
            number(each)
            for each in ([value] if entries is None else [entry["resource"] for entry in entries])
        }
        if entries is None:
            return web.Response(status=201)
        done = [{"response": {"status": "201"}} for _ in entries]
        return web.json_response({"resourceType": "Bundle", "type": "batch-response", "entry": done})


def number(event: dict[str, Any]) -> int:
    """The record that an AuditEvent is made of."""
    details = (detail for entity in event["entity"] for detail in entity.get("detail", []))
    place = next(str(detail["valueString"]) for detail in details if detail["type"] == "record")
    return int(place.rpartition("#")[2])


@dataclass(frozen=True)
class Fed:
    """A gateway whose clock can be moved, and which delivers its log to a repository."""

    running: GatewayProcess
    repository: Repository
    clock: Path

    @property
    def database(self) -> Path:
        return self.running.folder / "securus.db"

    async def caught_up(self) -> None:
        """Wait until every access on record is at the repository."""
        accesses = {record["seq"] for record in records_of(self.database) if record["event"] == "access"}

        async def has_all() -> bool:
            return accesses <= self.repository.kept

        await until(has_all, 60)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def fed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fed]:
    folder, repository = tmp_path_factory.mktemp("fed"), Repository()
    clock = folder / "clock"
    move(clock, 0)

    def feeds(document: dict[str, Any]) -> None:
        feed = {
            "kind": "fhir",
            "url": f"http://127.0.0.1:{repository.port}/fhir",
            "begin": "oldest",
            "refuse_writes_after": {"records": MOST_BEHIND},
        }
        document["audit"] = {"heads": HEADS, "feeds": {"repository": feed}}

    await repository.begin()
    by = (sys.executable, "-m", "tests.support.moving_clock", str(clock))
    running = await start_process(folder, change=feeds, by=by)
    yield Fed(running, repository, clock)
    await running.stop()
    await repository.end()


async def test_a_clock_that_jumps_an_hour_forward_and_back_costs_no_record_and_no_delivery(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = Moved(monkeypatch)
    async with loaded(fed.running, fed.database) as (load, _):
        for seconds in (HOUR, -HOUR, 0):
            move(fed.clock, seconds)
            await load.refuses(401)  # proofs of another time
            callers.seconds = seconds
            await load.sign_in()
            await load.serves()
    await fed.caught_up()


async def test_a_receiver_that_is_away_stops_writes_and_not_reads_and_gets_every_record_when_it_is_back(
    fed: Fed,
) -> None:
    async with loaded(fed.running, fed.database) as (load, store):
        for _ in range(2):
            await fed.repository.end()
            await load.grow("POST", lambda status: status == 503, 5)
            begun, received = len(load.said), len(store.received)
            await load.grow("POST", lambda status: status == 503, 10)
            await load.grow("GET", lambda status: status == 200, 10)
            refused = {(each.status, each.reason) for each in load.said[begun:] if each.verb == "POST"}
            assert refused == {(503, "audit-backlog")}
            assert len(store.received) == received
            await fed.repository.begin()
            await load.serves()
    await fed.caught_up()


async def test_a_receiver_that_is_away_while_the_clock_jumps_back_is_asked_again_in_time(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = Moved(monkeypatch)
    async with loaded(fed.running, fed.database) as (load, _):
        await fed.repository.end()
        await load.grow("POST", lambda status: status == 503, 5)
        move(fed.clock, -HOUR)
        callers.seconds = -HOUR
        await fed.repository.begin()
        await load.sign_in()
        await load.serves()
    await fed.caught_up()
    move(fed.clock, 0)
