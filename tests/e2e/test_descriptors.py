"""A gateway process with few descriptors, and one that has none left: it serves, does not spin, and goes on by itself."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.descriptors import BESIDE
from tests.support.descriptors import Crowd, cpu_seconds, limited, open_descriptors, starved
from tests.support.processes import GatewayProcess, start_process
from tests.support.workers_load import own_chart, patient_store, patient_url, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("descriptors"),
]
DESCRIPTORS = 400
AT_STORE = 50
MOST = DESCRIPTORS - BESIDE - AT_STORE


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    def few(document: dict[str, Any]) -> None:
        for upstream in document["upstreams"].values():
            upstream["connections"] = AT_STORE // len(document["upstreams"])

    gateway = await start_process(tmp_path, change=few, by=limited(DESCRIPTORS))
    yield gateway
    await gateway.stop(signal.SIGKILL)


@pytest.fixture
def crowds(running: GatewayProcess) -> Iterator[dict[str, Crowd]]:
    found = {number: Crowd(running.ports.public, f"127.0.0.{number}") for number in ("2", "3", "4")}
    yield found
    for crowd in found.values():
        crowd.close()


async def metrics(running: GatewayProcess) -> dict[str, float]:
    """The metrics of connections."""
    status, text = await running.operations("/metrics")
    assert status == 200
    found = re.findall(r'^securus_connections(\w*)(?:{why="(\w+)"})? (\S+)$', text, re.M)
    return {why or name: float(number) for name, why, number in found if not name.endswith("created")}


def told(running: GatewayProcess, message: str) -> list[dict[str, Any]]:
    return [line for line in running.log if line["message"] == message]


async def test_crowds_that_ask_for_nothing_keep_nobody_out(
    running: GatewayProcess, crowds: dict[str, Crowd]
) -> None:
    assert [(line["count"]) for line in told(running, "connections at most")] == [MOST]
    async with patient_store(running), running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        crowds["2"].come(MOST)  # nothing, not even a handshake
        crowds["3"].come(MOST, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # half of a handshake

        async def is_full() -> bool:
            return (await metrics(running))["room"] > 0

        crowds["4"].come(MOST // 4)
        await until(is_full)
        before = cpu_seconds(running.process.pid)
        async with asyncio.timeout(60):
            for _ in range(20):
                async with running.session("portal-dpop") as other:  # connects anew
                    other.proof_key, other.nonces = app.proof_key, app.nonces
                    assert (await other.get(patient_url(running), token)).status == 200
        assert cpu_seconds(running.process.pid) - before < 10
        assert (await running.operations("/healthz"))[0] == 200
        counted = await metrics(running)
        assert counted["address"] == 2 * (MOST - MOST // 2)
        assert counted["_at_most"] == MOST
        assert counted["descriptors"] == 0
        assert len(open_descriptors(running.process.pid)) < DESCRIPTORS - AT_STORE
        for crowd in crowds.values():
            crowd.close()

        async def is_empty() -> bool:
            return (await metrics(running))[""] < 10

        await until(is_empty)

        async def is_told() -> bool:
            return bool(told(running, "connections were refused"))

        await until(is_told)
    refused = told(running, "connections were refused")
    assert 1 <= len(refused) <= 4
    assert {line["peer"] for line in refused} <= {"127.0.0.2", "127.0.0.3"}
    assert not [
        line for line in running.log if line["level"] == "error" and line["logger"] != "securus.upstream"
    ]


async def test_without_descriptors_callers_are_refused_operators_served_and_nothing_spins(
    running: GatewayProcess, crowds: dict[str, Crowd]
) -> None:
    pid = running.process.pid
    async with patient_store(running) as store, running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        store.seconds = 600.0
        working = asyncio.create_task(app.get(patient_url(running), token))
        asked = store.asked

        async def is_asked() -> bool:
            return store.asked > asked

        await until(is_asked)
        async with starved(pid):
            crowds["2"].come(20)

            async def are_refused() -> bool:
                return crowds["2"].ended() == 20

            await until(are_refused)
            for _ in range(3):
                assert (await running.operations("/healthz"))[0] == 200
            assert (await metrics(running))["descriptors"] >= 20
            before = cpu_seconds(pid)
            crowds["3"].come(5)
            await asyncio.sleep(2)
            assert cpu_seconds(pid) - before < 1
        assert running.process.returncode is None
        working.cancel()
        await asyncio.wait({working})
        store.seconds = 0.0
        async with running.session("portal-dpop") as other:
            other.proof_key, other.nonces = app.proof_key, app.nonces

            async def is_served() -> bool:
                try:
                    return (await other.get(patient_url(running), token)).status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_served)
    assert 1 <= len(told(running, "connections could not be accepted")) <= 3
    assert not [line for line in running.log if "exception" in line]


async def test_without_descriptors_a_store_is_away_and_what_is_answered_is_on_record(
    running: GatewayProcess,
) -> None:
    pid = running.process.pid
    async with running.session("portal-dpop") as app:
        async with patient_store(running):
            token = await own_chart(running, app)
            async with starved(pid):  # the connections that are there go on
                assert [(await app.get(patient_url(running), token)).status for _ in range(5)] == [200] * 5
            records = len(running.audit())
            there = len(open_descriptors(pid))

        async def is_gone() -> bool:
            return len(open_descriptors(pid)) < there

        await until(is_gone)
        async with patient_store(running):
            async with starved(pid):  # the store ended its connection, and a new one cannot be opened
                replies = [await app.get(patient_url(running), token) for _ in range(5)]
                assert {reply.status for reply in replies} == {502}
                codings = [reply.json["issue"][0]["details"]["coding"][0]["code"] for reply in replies]
                assert set(codings) == {"upstream-unavailable"}
                assert len(running.audit()) == records + 5
            assert (await app.get(patient_url(running), token)).status == 200
            assert json.loads((await running.operations("/readyz"))[1])["status"] == "ready"
    assert (await running.stop()) == 0


async def test_without_descriptors_a_reload_keeps_what_is_in_force_and_says_so(
    running: GatewayProcess,
) -> None:
    async with patient_store(running), running.session("portal-dpop") as app:
        token = await own_chart(running, app)
        before = json.loads((await running.operations("/readyz"))[1])["policies"]
        async with starved(running.process.pid):
            running.send_signal(signal.SIGHUP)

            async def is_told() -> bool:
                return bool(told(running, "policies not reloaded, the old ones stay in force"))

            await until(is_told)
            assert len(told(running, "certificate not reloaded")) == 2
            assert (await app.get(patient_url(running), token)).status == 200
        assert json.loads((await running.operations("/readyz"))[1])["policies"] == before
        running.send_signal(signal.SIGHUP)

        async def is_reloaded() -> bool:
            return bool(told(running, "policies reloaded"))

        await until(is_reloaded)
        assert (await running.operations("/readyz"))[0] == 200
        async with running.session("portal-dpop") as other:  # a handshake with the certificate
            other.proof_key, other.nonces = app.proof_key, app.nonces
            assert (await other.get(patient_url(running), token)).status == 200
    assert not [line for line in running.log if "exception" in line]


WRITES = """
import resource, sys
from pathlib import Path
from authz.storage.sqlite.connection import SqliteConnection
store = SqliteConnection.open(Path(sys.argv[1]), {})
store.change("CREATE TABLE kept (number INTEGER PRIMARY KEY, text TEXT)")
import os
there = {int(n) for n in os.listdir("/proc/self/fd")}
before = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = next(n for n in range(1000) if n not in there)
def write(numbers):
    for number in numbers:
        with store.transaction() as connection:
            connection.executemany(
                "INSERT INTO kept VALUES (?, ?)", [(100 * number + n, "x" * 500) for n in range(100)]
            )
write(range(100))
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
try:
    os.open("/dev/null", os.O_RDONLY)
    raise SystemExit("this process has descriptors")
except OSError:
    pass
write(range(100, 400))  # the log is to be folded in, for which a descriptor is missing
resource.setrlimit(resource.RLIMIT_NOFILE, before)
write(range(400, 700))
assert store.row("SELECT count(*) FROM kept") == (70_000,)
assert store.row("PRAGMA integrity_check") == ("ok",)
store.close()
"""


async def test_without_descriptors_SQLite_commits_and_folds_its_log_in_later(tmp_path: Path) -> None:
    database = tmp_path / "store.db"
    writing = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITES, str(database), stderr=subprocess.PIPE
    )
    assert await writing.communicate() == (None, b"")
    assert writing.returncode == 0
    log = Path(f"{database}-wal")
    assert not log.exists() or log.stat().st_size <= 64 * 2**20
