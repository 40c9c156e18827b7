"""Pages of which everything is hidden: they are not filled up, so a search costs what its callers ask for.

Each request is one request to the store, and the caller goes on by links that say nothing (cases 101, 225).
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.attacks.table.stores import pages
from tests.support.five import attack, shown
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.world import world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

_OWN, _STRANGERS = world()["Observation/a1"], world()["Observation/b1"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("hidden-pages"))
    yield running
    await stop_gateway(running)


def _next(gateway: RunningGateway, reply: Reply) -> list[str]:
    links = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
    return [url.removeprefix(gateway.origin + MOUNT) for url in links]


async def test_225_pages_that_are_all_hidden_cost_one_request_each_and_end(gateway: RunningGateway) -> None:
    pages([_STRANGERS], [_STRANGERS], [_STRANGERS], [_OWN])(gateway.upstream)
    path, seen = "/Observation?_count=1", []
    for _ in range(4):
        reply = await attack(gateway, "GET", path)
        assert reply.status == 200
        assert len(gateway.upstream.requests) == 1
        assert "total" not in reply.json
        assert b"Observation/b1" not in reply.raw
        seen.append(shown(reply))
        following = _next(gateway, reply)
        if following:
            (path,) = following
    assert following == []
    assert [len(page) for page in seen] == [0, 0, 0, 1]


async def test_225_links_without_end_are_followed_by_the_caller_alone(gateway: RunningGateway) -> None:
    pages(*([[_STRANGERS]] * 1000))(gateway.upstream)
    reply = await attack(gateway, "GET", "/Observation?_count=1")
    assert reply.status == 200
    assert len(gateway.upstream.requests) == 1
    assert len(_next(gateway, reply)) == 1
