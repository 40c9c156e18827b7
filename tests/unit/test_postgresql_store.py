"""The store of several nodes: the contract, and what is PostgreSQL's own: schema, time limits, a server that is away."""

from collections.abc import AsyncIterator

import pytest

from authz.storage.postgresql import PostgresqlStore, open_postgresql
from tests.support.postgresql import PrivateServer
from tests.support.store_contract import StoreContract

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


@pytest.fixture
async def database(postgresql: PrivateServer) -> str:
    return await postgresql.new_database()


@pytest.fixture
async def store(postgresql: PrivateServer, database: str) -> AsyncIterator[PostgresqlStore]:
    opened = await open_postgresql(postgresql.settings(database))
    yield opened
    await opened.close()


class TestPostgresqlStore(StoreContract):
    """PostgresqlStore fulfils the contract of every store."""
