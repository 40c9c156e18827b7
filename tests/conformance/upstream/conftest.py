"""A store that answers with bytes, and the gateway's client of it, on both event loops."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from gateway.proxy.upstream import UpstreamClient
from tests.support.raw_store import RawStore, client_of


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop, and must run without."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def store() -> AsyncIterator[RawStore]:
    store = RawStore()
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def client(store: RawStore) -> AsyncIterator[UpstreamClient]:
    client = client_of(store)
    await client.open()
    yield client
    await client.close()
