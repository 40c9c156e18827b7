"""Several processes over one store around rotations: one successor, and each accepts what any other signs, always."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from authz.storage.server_keys import StoredKey
from authz.storage.sqlite.store import open_store
from tests.support.key_node import ACTIVE, ANNOUNCED, KEPT, START
from tests.support.token import LABEL, MISSING, MODULE, PIN, make_token

pytestmark = [
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.process,
    pytest.mark.xdist_group("key-rotation"),
]
NODES = 4
ROOT = Path(__file__).parents[2]


class Node:
    """A process of tests.support.key_node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *arguments: str, environment: dict[str, str] | None = None) -> "Node":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.key_node", *arguments, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=1 << 20, env=os.environ | (environment or {}),
        )  # fmt: skip
        return cls(process)

    async def hear(self) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        if not line:
            assert self._process.stderr is not None
            raise AssertionError((await self._process.stderr.read()).decode())
        return json.loads(line)

    async def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return await self.hear()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def start(stack: AsyncExitStack, count: int, *arguments: str, **more: Any) -> list[Node]:
    """Nodes that start in the same moment."""
    nodes = await asyncio.gather(*(Node.start(*arguments, **more) for _ in range(count)))
    for node in nodes:
        stack.push_async_callback(node.stop)
    await asyncio.gather(*(node.hear() for node in nodes))
    return list(nodes)


async def stored(path: Path) -> list[StoredKey]:
    store = await open_store(path)
    try:
        return list(await store.keys())
    finally:
        await store.close()


async def round_of(nodes: list[Node], ticking: list[Node], now: int) -> list[Any]:
    """Some nodes tick at the same time and sign; all nodes, those that slept too, accept what they signed."""
    answers = await asyncio.gather(*(node.ask(now=now) for node in ticking))
    signed = [one for answer in answers for one in answer["tokens"]]
    for heard in await asyncio.gather(*(node.ask(verify=signed) for node in nodes)):
        assert heard["refused"] == []
    return list(answers)


@pytest.mark.parametrize("algorithms", ["ES256", "ES256,EdDSA"])
async def test_M4_no_token_is_signed_by_a_key_that_another_process_does_not_publish(
    tmp_path: Path, algorithms: str
) -> None:
    """Each node ticks at least once in an announced period, when it likes."""
    path = tmp_path / "keys.db"
    seed = random.randrange(1_000_000)
    drawn = random.Random(seed)
    count = len(algorithms.split(","))
    async with AsyncExitStack() as stack:
        nodes = await start(stack, NODES, str(path), algorithms)
        assert [key.state for key in await stored(path)] == ["active"] * count, seed
        last = dict.fromkeys(nodes, START)
        now = START + ACTIVE - ANNOUNCED - 500
        events: Counter[tuple[str, str]] = Counter()
        answers: dict[Node, Any] = {}
        for node, answer in zip(nodes, await round_of(nodes, nodes, now), strict=True):
            last[node], answers[node] = now, answer
        while now < START + ACTIVE + 500:
            now += drawn.randrange(1, ANNOUNCED // 6)
            late = [node for node in nodes if now - last[node] > ANNOUNCED // 2]
            ticking = list({*late, *drawn.sample(nodes, drawn.randrange(1, NODES + 1))})
            for node, answer in zip(ticking, await round_of(nodes, ticking, now), strict=True):
                last[node], answers[node] = now, answer
        for node, answer in zip(nodes, await round_of(nodes, nodes, now), strict=True):
            answers[node] = answer
        for answer in answers.values():
            events.update((kid, state) for kid, state in answer["events"])
        keys = await stored(path)
        assert Counter(key.state for key in keys) == {"retired": count, "active": count}, seed
        assert max(events.values()) == 1, (seed, events)  # each step was made and told once
        assert len({tuple(answer["kids"]) for answer in answers.values()}) == 1, seed


async def test_processes_that_rotate_by_hand_in_the_same_moment_make_one_successor(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    async with AsyncExitStack() as stack:
        nodes = await start(stack, NODES, str(path), "ES256")
        answers = await asyncio.gather(*(node.ask(rotate="now") for node in nodes))
        assert len({answer["kid"] for answer in answers}) == 1
        assert [key.state for key in await stored(path)] == ["active", "announced"]
        await round_of(nodes, nodes, START + 5)  # within ten seconds every node has ticked
        for node in nodes:
            await round_of(nodes, [node], START + 10)
        await round_of(nodes, nodes, START + 11)
        assert [key.state for key in await stored(path)] == ["retired", "active"]


async def test_a_new_process_joins_in_the_middle_of_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    async with AsyncExitStack() as stack:
        nodes = await start(stack, 2, str(path), "ES256")
        await round_of(nodes, nodes, START + ACTIVE - ANNOUNCED)
        nodes += await start(stack, 1, str(path), "ES256")
        await round_of(nodes, nodes[:1], START + ACTIVE)
        await round_of(nodes, nodes[2:], START + ACTIVE)
        await round_of(nodes, nodes, START + ACTIVE + KEPT)
        assert [key.state for key in await stored(path)] == ["active"]


@pytest.mark.skipif(MISSING, reason="needs softhsm2")
async def test_processes_on_one_PKCS11_token_make_one_successor_and_leave_no_stray_key(
    tmp_path: Path,
) -> None:
    token, path = make_token(tmp_path / "token"), tmp_path / "keys.db"
    arguments = (str(path), "ES256", str(MODULE), LABEL, PIN)
    async with AsyncExitStack() as stack:
        nodes = await start(stack, 3, *arguments, environment=token.environment)
        await round_of(nodes, nodes, START + ACTIVE - ANNOUNCED)
        for node in nodes:
            await round_of(nodes, [node], START + ACTIVE)
        await round_of(nodes, nodes, START + ACTIVE + 1)
        assert [key.state for key in await stored(path)] == ["retired", "active"]
    objects = [
        file for file in (tmp_path / "token" / "tokens").rglob("*.object") if file.name != "token.object"
    ]
    assert len(objects) == 4  # two pairs: what a slower process had made is destroyed
