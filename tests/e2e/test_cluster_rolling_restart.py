"""Three nodes that are restarted one after the other under load: callers that go on to the next node lose nothing.

Each request has one proof and is sent as it is to the next node when a connection is refused, or ends before a byte
of an answer came. A proof is taken once. So 200 from some node, each time, says that no node had taken the request and
then lost it; 401 would say that one had.
"""

import asyncio
import random
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.demo.client import Session
from tests.support.cluster import (
    CLOSE,
    Cluster,
    ask,
    assertion_of,
    connect,
    learn,
    said,
    three_nodes,
)
from tests.support.gateway import Reply
from tests.support.nodes import restarted, securus
from tests.support.processes import GatewayProcess
from tests.support.workers import Connection, post
from tests.support.workers_load import PATIENT, own_chart, reading, until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
READERS, BACKENDS = 3, 2
Asked = Callable[[GatewayProcess, bytes], Awaitable[Reply | None]]
BETWEEN = 40  # answers at least, with every node there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("rolling")) as running:
        yield running


class OpenConnections:
    """Connections that one caller keeps, one to each node, as long as they last."""

    def __init__(self) -> None:
        self._open: dict[int, Connection] = {}

    async def ask(self, node: GatewayProcess, request: bytes) -> Reply | None:
        """The answer of this node; None where not one byte of it came."""
        try:
            connection = self._open.pop(node.ports.public, None) or await connect(node)
            connection.write(request)
            reply = await connection.reply()
        except (asyncio.IncompleteReadError, OSError):
            return None  # were it in the midst of an answer, the proof would be refused at the next node
        if (reply.header("connection") or "").lower() == "close":
            await connection.close()
        else:
            self._open[node.ports.public] = connection
        return reply

    async def close(self) -> None:
        """Close them."""
        for connection in self._open.values():
            await connection.close()


class Callers:
    """Apps that read and apps that fetch tokens, each request at a node that they pick."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopping = asyncio.Event()
        self.went_on = 0
        self.read: list[str] = []
        self.tokens = 0

    async def _sent(self, request: bytes, asked: Asked) -> Reply:
        """The answer of the first node that takes it, beginning at any."""
        start = random.randrange(len(self._cluster.nodes))
        for step in range(start, start + 6000):
            reply = await asked(self._cluster.nodes[step % len(self._cluster.nodes)], request)
            if reply is not None:
                return reply
            self.went_on += 1
            await asyncio.sleep(0.01)
        raise AssertionError("no node takes the request")

    async def read_on(self, app: Session, token: str, asked: Asked) -> None:
        """Read the chart until told to stop."""
        while not self._stopping.is_set():
            interaction = str(uuid.uuid4())
            headers = [("x-fapi-interaction-id", interaction)]
            if asked is ask:
                headers.append(CLOSE)
            reply = await self._sent(reading(self._cluster.nodes[0], app, token, *headers), asked)
            assert (reply.status, reply.json) == (200, PATIENT), reply.raw
            learn(app, "gateway", [reply])
            self.read.append(interaction)

    async def fetch_on(self, app: Session, url: str) -> None:
        """Fetch tokens until told to stop."""
        while not self._stopping.is_set():
            form = {"grant_type": "client_credentials", "scope": "system/Observation.rs", **assertion_of(app)}
            headers = [("DPoP", app.proof("POST", url)), CLOSE]
            reply = await self._sent(post(url, headers, form), ask)
            assert reply.status == 200, reply.raw
            learn(app, "authorization server", [reply])
            self.tokens += 1

    async def grow(self, by: int) -> None:
        """Wait until so many more reads were answered."""
        aim = len(self.read) + by

        async def enough() -> bool:
            return len(self.read) >= aim

        await until(enough, 120)

    def stop(self) -> None:
        """Let each caller finish."""
        self._stopping.set()


async def test_a_rolling_restart_under_load_loses_no_request_that_a_node_has_taken(cluster: Cluster) -> None:
    first = cluster.nodes[0]
    async with first.session("portal-dpop") as app, first.session("lab-backend") as backend:
        token = await own_chart(first, app)
        await first.own_token(backend, "system/Observation.rs")
        before = Counter(record["event"] for record in await cluster.audit())
        cluster.charts.asked, cluster.charts.seconds = 0, 0.1  # so that each drain finds requests in work
        callers = Callers(cluster)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for _ in range(READERS):
                kept_open = OpenConnections()
                stack.push_async_callback(kept_open.close)
                group.create_task(callers.read_on(app, token, kept_open.ask))
                group.create_task(callers.read_on(app, token, ask))
            for _ in range(BACKENDS):
                group.create_task(callers.fetch_on(backend, backend.endpoint("token_endpoint")))
            await callers.grow(BETWEEN)
            for number, node in enumerate(cluster.nodes):
                assert await node.stop(signal.SIGTERM) == 0
                cluster.nodes[number] = await restarted(node)
                await callers.grow(BETWEEN)
            callers.stop()
        records = await cluster.audit()
        kept = Counter(record["interaction_id"] for record in records if record["event"] == "access")
        assert all(kept[interaction] == 1 for interaction in callers.read)
        assert cluster.charts.asked == len(callers.read)
        after = Counter(record["event"] for record in records)
        assert after["token-issued"] - before["token-issued"] == callers.tokens
        assert callers.went_on > 0  # or no restart was met
        assert (await securus(cluster.nodes[0], "audit", "verify"))["whole"]
        numbers = {"reads": len(callers.read), "tokens": callers.tokens, "went on": callers.went_on}
        said("rolling restart", numbers)
