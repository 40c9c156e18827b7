"""Three nodes in network namespaces: one that loses its way to store and cache refuses, and comes back by itself.

The connections of the node are cut where a network fails, below TCP: a link that is down, and one that leads to nobody
in one direction only.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.demo.client import Session
from tests.support.cluster import CLOSE, SCOPE, Cluster, ask
from tests.support.cluster_load import story
from tests.support.cluster_races import race_for_assertions, race_for_proofs
from tests.support.namespaces import Cut, Namespace
from tests.support.partitions import nodes_in_namespaces
from tests.support.workers_load import reading

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
CUT_OFF = 2
Partitioned = tuple[Cluster, list[Namespace]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Partitioned]:
    async with nodes_in_namespaces(tmp_path_factory.mktemp("partitions")) as both:
        yield both


async def test_a_proof_used_at_two_nodes_at_once_is_taken_exactly_once_over_a_cache_by_tls(
    running: Partitioned,
) -> None:
    await race_for_proofs(running[0])


async def test_an_assertion_used_at_two_nodes_at_once_is_taken_exactly_once(running: Partitioned) -> None:
    await race_for_assertions(running[0])


async def status_of(cluster: Cluster, app: Session, token: str) -> int:
    """What the node that is cut off says to a read with this token."""
    node = cluster.nodes[CUT_OFF]
    reply = await ask(node, reading(node, app, token, CLOSE))
    assert reply is not None
    return reply.status


@pytest.mark.parametrize("how", [Cut.DOWN, Cut.DEAF, Cut.MUTE])
async def test_a_node_without_its_link_refuses_while_the_others_serve_and_comes_back_knowing_what_was_revoked(
    running: Partitioned, how: Cut
) -> None:
    cluster, places = running
    first, there = cluster.nodes[0], cluster.nodes[CUT_OFF]
    async with first.session("portal-dpop") as app, story(cluster, app, f"link {how}") as readers:
        revoked = (await first.token_of(app, "stephen", SCOPE))["access_token"]
        assert await status_of(cluster, app, revoked) == 200
        with places[CUT_OFF].cut(how):
            reply = await app.post(app.endpoint("revocation_endpoint"), {"token": revoked})
            assert reply.status == 200
            asking = [asyncio.create_task(status_of(cluster, app, revoked)) for _ in range(3)]
            await readers.grow(0, 200, 20)
            await readers.grow(1, 200, 20)
            await readers.grow(CUT_OFF, 503, 3)
            assert (await there.operations("/readyz"))[0] == 503
            await asyncio.sleep(1)  # the second within which a revocation acts
        late: Counter[int] = Counter()
        while not late[401]:
            late[await status_of(cluster, app, revoked)] += 1
        assert set(late) <= {401, 503}
        assert set(await asyncio.gather(*asking)) <= {401, 503}
        assert (await there.operations("/healthz"))[0] == 200


async def test_every_node_cut_off_at_once_refuses_all_and_afterwards_all_serve(running: Partitioned) -> None:
    cluster, places = running
    async with (
        cluster.nodes[0].session("portal-dpop") as app,
        story(cluster, app, "all links down") as readers,
    ):
        with places[0].cut(Cut.DOWN), places[1].cut(Cut.MUTE), places[2].cut(Cut.DEAF):
            for node in range(3):
                await readers.grow(node, 503, 3)
            begun = len(readers.tried)
            for node in range(3):
                await readers.grow(node, 503, 3)
            assert {tried.status for tried in readers.tried[begun:]} == {503}
