"""kill -9 at any moment loses nothing that was acknowledged, and lets nothing single-use be used twice."""

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from authz.storage.claims import Namespace
from authz.storage.grants import Redemption
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.verification import verify
from tests.support.store_contract import CODE, GRANT, NOW

ROUNDS = 6
WORKERS = 2
ROOT = Path(__file__).parents[2]

Told = dict[str, set[str]]


class Doomed:
    """A process of tests.support.doomed, and what it told."""

    def __init__(self, process: asyncio.subprocess.Process, told: Told) -> None:
        self._process = process
        self._told = told

    @classmethod
    async def start(cls, path: Path, name: str, told: Told) -> "Doomed":
        command = (sys.executable, "-m", "tests.support.doomed", str(path), name)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        return cls(process, told)

    async def listen(self, lines: int) -> None:
        """Hear so many lines; the process is already further when this returns."""
        assert self._process.stdout is not None
        for _ in range(lines):
            line = await asyncio.wait_for(self._process.stdout.readline(), 60)
            if not line:
                assert self._process.stderr is not None
                raise AssertionError((await self._process.stderr.read()).decode())
            self._hear(line)

    async def kill(self) -> None:
        """kill -9, then hear what was still in the pipe."""
        self._process.kill()
        out, errors = await self._process.communicate()
        for line in out.splitlines():
            self._hear(line)
        assert await self._process.wait() == -9, errors.decode()

    def _hear(self, line: bytes) -> None:
        verb, _, id = line.decode().strip().partition(" ")
        self._told.setdefault(verb, set()).add(id)


@pytest.mark.process
async def test_nothing_acknowledged_is_lost_and_nothing_single_use_is_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "state" / "securus.db"
    told: Told = {}
    for round in range(ROUNDS):
        doomed = [await Doomed.start(path, f"{round}-{worker}", told) for worker in range(WORKERS)]
        # The first round of all may die while the file is being made. The second worker outlives the first.
        for worker in doomed:
            await worker.listen(random.randint(0 if round % 2 else 1, 400))
        for worker in doomed:
            await worker.kill()
        await _nothing_is_lost(path, told)
    assert {
        "grant",
        "refresh",
        "claim",
        "audit",
        "completed",
        "redeemed",
        "revoked",
        "revoked-token",
    } <= told.keys()
    await _nothing_is_used_twice(path, told)


@pytest.mark.process
async def test_a_process_killed_while_it_makes_the_file_leaves_one_that_opens(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"{number}.db"
        doomed = await Doomed.start(path, "first", {})
        while not path.exists():
            await asyncio.sleep(0)
        for _ in range(random.randint(0, 2000)):
            await asyncio.sleep(0)
        await doomed.kill()
        store = await open_store(path)
        await store.check()
        assert (await verify(store)).whole
        await store.close()


async def _nothing_is_lost(path: Path, told: Told) -> None:
    store = await open_store(path)
    doubtful = told.get("trying-revoke", set())
    for id in told.get("grant", set()) - doubtful:
        assert await store.grant(id, now=NOW) is not None, id
    for id in told.get("refresh", set()) - doubtful:
        assert await store.refresh_token(id, now=NOW) is not None, id
    for id in told.get("pushed", set()) - told.get("trying-complete", set()):
        assert await store.pushed_request(id, now=NOW) is not None, id
    for id in told.get("completed", set()):
        assert await store.grant(f"code.{id}", now=NOW) is not None, id
        assert await store.pushed_request(id, now=NOW) is None, id
    _, revoked = await store.revocations_since(0)
    assert told.get("revoked", set()) <= set(revoked)
    assert {f"token.{id}" for id in told.get("revoked-token", set())} <= set(revoked)
    for id in told.get("revoked", set()):
        assert await store.grant(id, now=NOW) is None, id
        assert await store.refresh_token(id, now=NOW) is None, id
    await _the_log_is_whole(store, told)
    await store.close()


async def _the_log_is_whole(store: SqliteStore, told: Told) -> None:
    found = await verify(store)
    assert found.whole, found
    lines = await store.audit(after=0, limit=found.records + 1)
    written = Counter(json.loads(line.line)["n"] for line in lines)
    assert told.get("audit", set()) <= written.keys()
    assert set(written.values()) <= {1}


async def _nothing_is_used_twice(path: Path, told: Told) -> None:
    store = await open_store(path)
    for id in told["claim"]:
        assert not await store.claim(Namespace.DPOP_PROOF, id.encode(), until=NOW + 60, now=NOW), id
    for id in told["completed"]:
        other = f"again.{id}"
        again = await store.complete_authorization(
            request_id=id,
            interaction_id="",
            grant=replace(GRANT, grant_id=other),
            code=replace(CODE, id=other, grant_id=other),
            now=NOW,
        )
        assert not again, id
        redeemed = await store.redeem_code(id, now=NOW)
        assert redeemed is not None, id
        if id in told["redeemed"]:
            assert redeemed.redemption is Redemption.AGAIN, id
        elif id not in told["trying-redeem"]:
            assert redeemed.redemption is Redemption.FIRST, id
    await store.close()
