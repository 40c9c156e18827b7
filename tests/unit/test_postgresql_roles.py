"""The two roles of docs/storage.md: the gateway's can do all that the contract asks, and nothing to what is written."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from authz.storage.postgresql.roles import grants
from authz.storage.postgresql.settings import PostgresqlSettings
from authz.storage.postgresql.store import PostgresqlStore, open_postgresql
from authz.storage.store import StoreUnavailable
from tests.support.postgresql import PrivateServer, private_server
from tests.support.store_contract import CHANGE, NOW, REGISTRATION, StoreContract, audit_lines

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]
GUIDE = Path(__file__).parents[2] / "docs" / "storage.md"
ROLES, DEFAULTS, TAKEN_BACK = (
    block.strip().split("\n") for block in re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.S)
)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    with private_server() as running:
        for statement in ROLES[:2]:
            asyncio.run(running.run(statement.rstrip(";")))
        yield running


async def _made(server: PrivateServer) -> str:
    """A database of the owner without a schema; its name."""
    name = f"securus_{next(_numbers)}"
    for statement in ROLES[2:]:
        await server.run(re.sub(r"DATABASE securus\b", f"DATABASE {name}", statement.rstrip(";")))
    for statement in DEFAULTS:
        await server.run(statement.rstrip(";"), name, user="securus_owner")
    return name


async def _guarded(server: PrivateServer) -> str:
    """A database made as the guide says; its name."""
    name = await _made(server)
    await (await open_postgresql(PostgresqlSettings(server.dsn(name, user="securus_owner")))).close()
    for statement in TAKEN_BACK:
        await server.run(statement.rstrip(";"), name, user="securus_owner")
    for statement in grants("securus_gateway"):  # what is printed gives no more and takes no more
        await server.run(statement, name, user="securus_owner")
    return name


def test_what_the_guide_takes_back_is_what_is_printed() -> None:
    assert [line.rstrip(";") for line in TAKEN_BACK] == [
        each for each in grants("securus_gateway") if each.startswith("REVOKE") and "FUNCTION" not in each
    ]


@pytest.fixture(scope="module")
def shared(server: PrivateServer) -> str:
    return asyncio.run(_guarded(server))


@pytest.fixture
async def database(server: PrivateServer, shared: str) -> AsyncIterator[str]:
    yield shared
    await server.clean(shared)


@pytest.fixture
async def store(server: PrivateServer, database: str) -> AsyncIterator[PostgresqlStore]:
    opened = await open_postgresql(PostgresqlSettings(server.dsn(database, user="securus_gateway")))
    yield opened
    await opened.close()


class TestAsTheGateway(StoreContract):
    """The gateway's role suffices for every method."""


async def test_the_gateway_can_change_no_record_no_history_and_no_schema(
    server: PrivateServer, database: str, store: PostgresqlStore
) -> None:
    await store.append_audit(audit_lines(1, 2))
    await store.put_registration(REGISTRATION, CHANGE, spending=None, now=NOW)
    for statement in (
        "UPDATE audit SET line = ''",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TRIGGER audit_is_append_only ON audit",
        "DROP TABLE audit",
        "DELETE FROM audit_head",
        "DELETE FROM audit_chain",
        "UPDATE audit_tree_head SET head = ''",
        "DELETE FROM audit_tree_head",
        "UPDATE audit_stub SET last = 99",
        "DELETE FROM audit_stub",
        "DELETE FROM audit_key",
        "DELETE FROM audit_hold",
        "UPDATE registration_change SET record = ''",
        "DELETE FROM registration_change",
        "UPDATE consent_version SET resource = ''",
        "DELETE FROM consent_version",
        "UPDATE consent_newest SET version = 1",
        "DELETE FROM consent_newest",
        "UPDATE secret SET value = ''",
        "INSERT INTO migration VALUES (99, 'x', 'x')",
        "DELETE FROM numbering",
        "CREATE TABLE mine (a INTEGER)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await server.run(statement, database, user="securus_gateway")
    assert len(await store.audit(after=0, limit=10)) == 2


async def test_a_schema_that_the_gateway_may_not_make_is_said_with_what_to_do(
    server: PrivateServer,
) -> None:
    empty = await _made(server)
    with pytest.raises(StoreUnavailable, match=r"permission denied .*: run 'securus db migrate' with a role"):
        await open_postgresql(PostgresqlSettings(server.dsn(empty, user="securus_gateway")))
