"""Nodes whose clocks differ: what counts once counts once, and nobody forgets a used proof before the others would."""

import sys
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, three_nodes
from tests.support.cluster_load import story
from tests.support.cluster_races import race_for_assertions, race_for_codes, race_for_proofs

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]
SECONDS = (0, 8, -8)
"""How far the clock of each node is ahead; callers have that of the first. By more than 10 s from that of the database
a node is not ready (tests/unit/test_postgresql_clocks.py)."""


def with_clock(number: int) -> Sequence[str]:
    return sys.executable, "-m", "tests.support.skewed_node", str(SECONDS[number])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("clocks"), by=with_clock) as running:
        yield running


async def test_D5_a_proof_is_taken_exactly_once_by_whichever_clock(cluster: Cluster) -> None:
    await race_for_proofs(cluster)


async def test_C6_an_assertion_is_taken_exactly_once_by_whichever_clock(cluster: Cluster) -> None:
    await race_for_assertions(cluster)


async def test_P8_A3_of_a_request_uri_and_of_its_code_one_use_wins_by_whichever_clock(
    cluster: Cluster,
) -> None:
    await race_for_codes(cluster)


async def test_reads_at_nodes_with_their_own_clocks_pass_and_no_proof_is_good_again(cluster: Cluster) -> None:
    async with cluster.nodes[0].session("portal-dpop") as app, story(cluster, app, "clocks apart") as readers:
        for node in range(3):
            await readers.grow(node, 200, 20)
