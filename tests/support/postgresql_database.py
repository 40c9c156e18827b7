"""A database with the schema of the program, which tests share and leave without a row; import what a file uses."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from authz.storage.claims import Namespace
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from tests.support.postgresql import PrivateServer
from tests.support.store_contract import NOW


@pytest.fixture(scope="module")
def shared(postgresql: PrivateServer) -> Iterator[str]:
    """The database of these tests, with its schema."""
    name = asyncio.run(postgresql.migrated_database())
    yield name
    asyncio.run(postgresql.drop(name))


@pytest.fixture
async def database(postgresql: PrivateServer, shared: str) -> AsyncIterator[str]:
    """It, without a row."""
    yield shared
    await postgresql.clean(shared)


@pytest.fixture
async def store(postgresql: PrivateServer, database: str) -> AsyncIterator[PostgresqlStore]:
    """A store in it."""
    opened = await open_postgresql(postgresql.settings(database))
    yield opened
    await opened.close()


async def claim(store: PostgresqlStore, key: bytes) -> bool:
    """Claim this key for a minute."""
    return await store.claim(Namespace.DPOP_PROOF, key, until=NOW + 60, now=NOW)
