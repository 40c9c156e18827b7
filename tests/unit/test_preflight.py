"""Searches of the gateway's own: when the store is left alone, and when it is not."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.proxy.lookups.preflight import Preflight, Unavailable
from gateway.proxy.upstream import UpstreamClient

FOUND = b'{"resourceType":"Bundle","type":"searchset"}'


class Store:
    """A client that answers with the status that is set."""

    def __init__(self) -> None:
        self.status, self.asked = 200, 0
        self.upstream = SimpleNamespace(
            bases=frozenset(),
            base="http://store/fhir",
            authorization=None,
            ask_gzip=False,
            max_resource=1000,
            profile=SimpleNamespace(strict_handling=True),
        )

    async def send(self, method: str, target: str, headers: Any) -> Any:
        self.asked += 1

        async def read(limit: int) -> bytes:
            return FOUND

        return SimpleNamespace(status=self.status, headers={}, read=read, close=lambda: None)


async def fails(preflight: Preflight) -> None:
    with pytest.raises(Unavailable):
        await preflight.search("Group?member=x", at_most=1)


@pytest.mark.parametrize("status", [400, 404, 412, 422])
async def test_a_search_that_the_store_refuses_keeps_no_other_from_being_asked(status: int) -> None:
    store = Store()
    preflight = Preflight(cast(UpstreamClient, store), lambda: 1000, seconds=1)
    store.status = status
    for _ in range(20):
        await fails(preflight)
    assert store.asked == 20
    store.status = 200
    assert await preflight.search("Group?member=y", at_most=1) == []


@pytest.mark.parametrize("status", [500, 503, 429, 401])
async def test_a_store_that_fails_is_left_alone_for_a_while(status: int) -> None:
    store, now = Store(), [1000]
    preflight = Preflight(cast(UpstreamClient, store), lambda: now[0], seconds=1)
    store.status = status
    for _ in range(20):
        await fails(preflight)
    assert store.asked == 5
    store.status, now[0] = 200, 1005
    assert await preflight.search("Group?member=y", at_most=1) == []
