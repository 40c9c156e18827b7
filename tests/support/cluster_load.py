"""Readers at every node of a cluster, which keep what they sent and what was said to it."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.demo.client import Session
from tests.support.cluster import CLOSE, SCOPE, Cluster, ask, learn, races, said
from tests.support.gateway import Reply
from tests.support.nodes import securus
from tests.support.processes import GatewayProcess
from tests.support.workers_load import PATIENT, own_chart, reading, until

_PAUSE_SECONDS = 0.1
_REASONS = {(200, None), (503, "store-unavailable"), (503, "audit-unavailable")}


@dataclass(frozen=True)
class Tried:
    """One read: its bytes, with a proof that was made for it; the id under which it is on record; the answer."""

    request: bytes
    interaction: str
    node: int
    status: int
    reason: str | None
    seconds: float


class Readers:
    """Some readers at each node, until stop(). A context manager, which ends them whatever happens."""

    def __init__(self, cluster: Cluster, app: Session, token: str, *, each: int = 1) -> None:
        self._cluster = cluster
        self._app = app
        self._token = token
        self._stopping = asyncio.Event()
        self.tried: list[Tried] = []
        self._tasks = [
            asyncio.create_task(self._read(node)) for node in range(len(cluster.nodes)) for _ in range(each)
        ]

    async def __aenter__(self) -> "Readers":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, node: int) -> None:
        while not self._stopping.is_set():
            self.tried.append(await self.one(node))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def one(self, node: int) -> Tried:
        """A read at this node. Whatever is answered is an answer, and only the chart itself is 200."""
        interaction = str(uuid.uuid4())
        serving = self._cluster.nodes[node]
        headers = [("x-fapi-interaction-id", interaction), CLOSE]
        request = reading(serving, self._app, self._token, *headers)
        started = time.monotonic()
        reply = await ask(serving, request)
        assert reply is not None, f"node {node} answers nothing"
        assert reply.status != 200 or reply.json == PATIENT
        if reply.status == 200:
            learn(self._app, "gateway", [reply])
        seconds = time.monotonic() - started
        return Tried(request, interaction, node, reply.status, reply.reason, seconds)

    async def grow(self, node: int, status: int, by: int) -> None:
        """Wait until this node has given so many more answers with this status."""
        begun = len(self.tried)

        async def enough() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return sum(t.node == node and t.status == status for t in self.tried[begun:]) >= by

        try:
            await until(enough, 60)
        except TimeoutError:
            raise AssertionError(f"node {node} gave {self.statuses(node)}") from None

    async def stop(self) -> None:
        """Let each reader finish."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    def statuses(self, node: int | None = None) -> Counter[tuple[int, str | None]]:
        """How often which status was answered, with its reason; by one node or by all."""
        return Counter((t.status, t.reason) for t in self.tried if node in (None, t.node))


async def accepted_again(cluster: Cluster, tried: list[Tried]) -> list[int]:
    """Use each once more at two nodes at one moment; for each how often it was accepted now."""
    found: list[int] = [0] * len(tried)
    nodes = cluster.nodes

    async def use(_: int, number: int) -> None:
        request = tried[number].request
        pair = nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)]
        replies = await asyncio.gather(*(_served(node, request) for node in pair))
        for reply in replies:
            assert reply.status in (200, 401), reply.body
            if reply.status == 401:
                assert "jti was used before" in (reply.header("www-authenticate") or ""), reply.headers
        found[number] = sum(reply.status == 200 for reply in replies)

    await races(len(tried), 4, use)
    return found


async def _served(node: GatewayProcess, request: bytes) -> Reply:
    """The answer to a request that is sent again while it is refused for want of the store: a connection that stood still
    while a link was cut may fail one more question after others are answered."""
    async with asyncio.timeout(60):
        while True:
            reply = await ask(node, request)
            assert reply is not None
            if reply.status != 503:
                return reply
            await asyncio.sleep(_PAUSE_SECONDS)


@asynccontextmanager
async def story(cluster: Cluster, app: Session, what: str) -> AsyncIterator[Readers]:
    """Readers at every node, with a grant, while something happens. Afterwards every node serves again by itself, and
    all that was acknowledged is there, once."""
    nodes = cluster.nodes
    token = await own_chart(nodes[0], app)
    refresh_token = (await nodes[0].token_of(app, "stephen", SCOPE))["refresh_token"]
    async with Readers(cluster, app, token) as readers:
        for node in range(len(nodes)):
            await readers.grow(node, 200, 10)
        yield readers
        for node in range(len(nodes)):
            await readers.grow(node, 200, 10)
        await readers.stop()
    assert set(readers.statuses()) <= _REASONS, readers.statuses()
    passed = [tried for tried in readers.tried if tried.status == 200]
    refused = [tried for tried in readers.tried if tried.status != 200]
    assert set(await accepted_again(cluster, passed)) == {0}
    assert set(await accepted_again(cluster, refused)) <= {0, 1}  # the claim was made, or it was not
    kept = Counter(
        record["interaction_id"]
        for record in await cluster.audit()
        if record["event"] == "access" and record["status"] == 200
    )
    assert all(kept[tried.interaction] == 1 for tried in passed)
    assert (await securus(nodes[0], "audit", "verify"))["whole"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    for node in nodes:
        async with node.session("portal-dpop") as here:
            here.proof_key = app.proof_key
            await here.discover()
            assert (await here.post(here.endpoint("token_endpoint"), form)).status == 200
    longest = max((tried.seconds for tried in refused), default=0.0)
    said(what, {"passed": len(passed), "refused": len(refused), "longest": f"{longest:.1f} s"})
