"""A store that is stopped, frozen, restarted or cut off from one node: nothing passes wrongly, nothing is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import pytest_asyncio

from gateway.demo.client import Session
from tests.support.cluster import CLOSE, SCOPE, Cluster, ask, three_nodes
from tests.support.cluster_load import story
from tests.support.tcp_proxy import Way
from tests.support.workers_load import reading

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
CUT_OFF = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("trouble")) as running:
        yield running


@contextmanager
def stopped(cluster: Cluster) -> Iterator[None]:
    """As by a crash of all its processes, and started again."""
    cluster.server.stop()
    try:
        yield
    finally:
        cluster.server.start()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_with_the_store_away_every_node_refuses_and_afterwards_serves(
    cluster: Cluster, how: str
) -> None:
    async with (
        cluster.nodes[0].session("portal-dpop") as app,
        story(cluster, app, how) as readers,
    ):
        with stopped(cluster) if how == "stopped" else cluster.server.frozen():
            for node in range(3):
                await readers.grow(node, 503, 3)
            begun = len(readers.tried)
            for node in range(3):
                await readers.grow(node, 503, 3)
            assert {tried.status for tried in readers.tried[begun:]} == {503}
            for serving in cluster.nodes:
                assert (await serving.operations("/readyz"))[0] == 503
                assert (await serving.operations("/healthz"))[0] == 200


async def test_connections_that_the_server_ends_under_load_cost_no_more_than_the_requests_on_them(
    cluster: Cluster,
) -> None:
    async with (
        cluster.nodes[0].session("portal-dpop") as app,
        story(cluster, app, "connections ended") as readers,
    ):
        for _ in range(5):
            await cluster.server.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'securus'",
                cluster.database,
            )
            await readers.grow(0, 200, 5)


@pytest.mark.parametrize("way", [Way.STALL, Way.DEAF, Way.DROP, Way.RESET])
async def test_a_node_that_is_cut_off_refuses_while_the_others_serve_and_comes_back_knowing_what_was_revoked(
    cluster: Cluster, way: Way
) -> None:
    first = cluster.nodes[0]
    async with first.session("portal-dpop") as app, story(cluster, app, f"cut off by {way}") as readers:
        revoked = (await first.token_of(app, "stephen", SCOPE))["access_token"]
        there = cluster.nodes[CUT_OFF]
        assert await status_of(cluster, app, revoked) == 200
        cluster.proxies[CUT_OFF].turn(way)
        try:
            reply = await app.post(app.endpoint("revocation_endpoint"), {"token": revoked})
            assert reply.status == 200
            asking = [asyncio.create_task(status_of(cluster, app, revoked)) for _ in range(3)]
            await readers.grow(0, 200, 20)
            await readers.grow(1, 200, 20)
            await readers.grow(CUT_OFF, 503, 3)
            await asyncio.sleep(1)  # the second within which a revocation acts
        finally:
            cluster.proxies[CUT_OFF].turn(Way.PASS)
        late: Counter[int] = Counter()
        while not late[401]:
            late[await status_of(cluster, app, revoked)] += 1
        assert set(late) <= {401, 503}
        assert set(await asyncio.gather(*asking)) <= {401, 503}
        assert (await there.operations("/healthz"))[0] == 200


async def status_of(cluster: Cluster, app: Session, token: str) -> int:
    """What the node that is cut off says to a read with this token."""
    node = cluster.nodes[CUT_OFF]
    reply = await ask(node, reading(node, app, token, CLOSE))
    assert reply is not None
    return reply.status
