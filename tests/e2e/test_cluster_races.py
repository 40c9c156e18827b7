"""Three nodes over one PostgreSQL: whatever counts once counts once, at whichever two nodes it is used at one moment.

A quick run races a few hundred times; SECURUS_RACES=10000 as often as one likes.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster, three_nodes
from tests.support.cluster_races import race_for_assertions, race_for_codes, race_for_proofs

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("cluster"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with three_nodes(tmp_path_factory.mktemp("races")) as running:
        yield running


async def test_D5_a_proof_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_proofs(cluster)


async def test_C6_an_assertion_used_at_two_nodes_at_once_is_taken_exactly_once(cluster: Cluster) -> None:
    await race_for_assertions(cluster)


async def test_P8_A3_of_one_request_uri_and_of_its_code_at_two_nodes_at_once_one_use_wins(
    cluster: Cluster,
) -> None:
    await race_for_codes(cluster)
