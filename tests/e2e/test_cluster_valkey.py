"""Three nodes over PostgreSQL with their replay claims in Valkey, which keeps what it acknowledged."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, three_nodes
from tests.support.cluster_load import Readers, story
from tests.support.cluster_races import race_for_assertions, race_for_proofs
from tests.support.tcp_proxy import Way
from tests.support.valkey import ValkeyServer, valkey_server

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
CUT_OFF = 2


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server set up as the guide says (docs/operations.md): what was acknowledged is on the disk."""
    folder = tmp_path_factory.mktemp("valkey")
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder))
    with valkey_server(*durable) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("with-valkey"), valkey=valkey) as running:
        yield running


async def test_D5_a_proof_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_proofs(cluster)


async def test_C6_an_assertion_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_assertions(cluster)


async def all_refuse(readers: Readers) -> None:
    """Return once every node refuses, and nobody else is let through any more."""
    for node in range(3):
        await readers.grow(node, 503, 5)
    begun = len(readers.tried)
    for node in range(3):
        await readers.grow(node, 503, 5)
    assert {tried.status for tried in readers.tried[begun:]} == {503}


async def test_with_valkey_stopped_or_paused_every_node_refuses_and_afterwards_no_proof_is_good_again(
    cluster: Cluster, valkey: ValkeyServer
) -> None:
    async with cluster.nodes[0].session("portal-dpop") as app, story(cluster, app, "valkey away") as readers:
        valkey.stop()
        await all_refuse(readers)
        for node in cluster.nodes:
            assert (await node.operations("/readyz"))[0] == 503
        valkey.start()
        for node in range(3):
            await readers.grow(node, 200, 10)
        valkey.pause()
        await all_refuse(readers)
        valkey.go_on()


@pytest.mark.parametrize("way", [Way.STALL, Way.DEAF, Way.DROP, Way.RESET])
async def test_a_node_that_is_cut_off_from_valkey_refuses_while_the_others_serve(
    cluster: Cluster, way: Way
) -> None:
    async with (
        cluster.nodes[0].session("portal-dpop") as app,
        story(cluster, app, f"cut off from valkey by {way}") as readers,
    ):
        cluster.caches[CUT_OFF].turn(way)
        try:
            await readers.grow(CUT_OFF, 503, 5)
            begun = len(readers.tried)
            await readers.grow(0, 200, 10)
            await readers.grow(1, 200, 10)
            served = {tried.node for tried in readers.tried[begun:] if tried.status == 200}
            assert served == {0, 1}
        finally:
            cluster.caches[CUT_OFF].turn(Way.PASS)
