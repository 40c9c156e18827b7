"""kill -9 and a full disk while records are written, heads are signed and old records go: the log stays whole and proven."""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from authz.storage.sqlite.store import open_store
from gateway.audit.verification import verify
from tests.support.sealed_log import sealed_log

pytestmark = pytest.mark.process
ROUNDS = 6
ROOT = Path(__file__).parents[2]


async def begin(path: Path, first: int, *more: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "tests.support.doomed_log", str(path), str(first), *more)
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def judge(path: Path, recorded: set[int], refused: set[int]) -> tuple[int, int]:
    """The log is whole; what was acknowledged is in it once, or retired with all before it. Heads, and what is retired."""
    store = await open_store(path)
    try:
        world = await sealed_log(store)
        found = await verify(store, await world.public())
        assert found.whole, found
        lines = [json.loads(line.line) for line in await store.audit(after=0, limit=100_000)]
        there = Counter(each["n"] for each in lines if each["event"] == "access")
        assert set(there.values()) <= {1}
        assert not refused & there.keys()
        missing = recorded - there.keys()
        if missing:
            assert found.retired >= len(missing)
            assert max(missing) < min(there, default=1 << 40)
        return found.heads, found.retired
    finally:
        await store.close()


async def test_whenever_it_is_killed_every_record_is_there_once_and_every_head_fits(tmp_path: Path) -> None:
    path, recorded, first = tmp_path / "audit.db", set[int](), 1
    chance = random.Random()
    heads = retired = 0
    for _ in range(ROUNDS):
        process = await begin(path, first)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 150)):
            line = await asyncio.wait_for(process.stdout.readline(), 60)
            if not line:
                assert process.stderr is not None
                raise AssertionError((await process.stderr.read()).decode())
            recorded.add(int(line.split()[1]))
        process.kill()
        out, errors = await process.communicate()
        recorded |= {int(line.split()[1]) for line in out.splitlines()}
        assert await process.wait() == -9, errors.decode()
        heads, retired = await judge(path, recorded, set())
        first = max(recorded) + 2  # one more may have been written and not told
    assert heads > 10
    assert retired > 0 or max(recorded) < 100


async def test_a_disk_that_is_full_refuses_and_leaves_a_whole_log_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    recorded: set[int] = set()
    refused: set[int] = set()
    first = 1
    for more in (("900000",), ("1200000",)):
        process = await begin(path, first, *more)
        out, errors = await asyncio.wait_for(process.communicate(), 120)
        said = [line.split() for line in out.decode().splitlines()]
        recorded |= {int(number) for verb, number in said if verb == "recorded"}
        refused |= {int(number) for verb, number in said if verb == "refused"}
        assert recorded, errors.decode()
        await judge(path, recorded, refused)
        first = max(recorded | refused) + 2
    process = await begin(path, first)
    assert process.stdout is not None
    assert (await asyncio.wait_for(process.stdout.readline(), 60)).startswith(b"recorded")
    process.kill()
    await process.communicate()


async def test_a_database_that_may_not_grow_refuses_each_record_and_goes_on_when_it_may(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path / "audit.db")
    world = await sealed_log(store)
    await world.record(5)
    connection = store._database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    results: list[object] = []
    for number in range(40):
        results += await asyncio.gather(
            world.logs[""].record({"event": "access", "n": 100 + number, "x": "y" * 900}),
            return_exceptions=True,
        )
    connection.execute("PRAGMA max_page_count = 1000000")
    await world.record(5)
    await world.seal()
    lines = [json.loads(line.line) for line in await store.audit(after=0, limit=999)]
    there = {each["n"] for each in lines if each.get("n", 0) >= 100}
    assert there == {100 + number for number, result in enumerate(results) if result is None}
    assert 0 < len(there) < 40
    assert (await verify(store, await world.public())).whole
    await store.close()
