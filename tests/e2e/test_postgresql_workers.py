"""Two workers over PostgreSQL: what holds for workers over one SQLite file holds here."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.test_workers import (
    test_a_code_used_at_two_workers_at_once_is_redeemed_once,
    test_a_proof_used_at_two_workers_at_once_is_taken_once,
    test_a_revoked_token_is_refused_by_every_worker,
    test_an_assertion_used_at_two_workers_at_once_is_taken_once,
)
from tests.support.postgresql import PrivateServer
from tests.support.processes import GatewayProcess
from tests.support.workers import start_workers
from tests.support.workers_load import patient_store

__all__ = [
    "test_a_code_used_at_two_workers_at_once_is_redeemed_once",
    "test_a_proof_used_at_two_workers_at_once_is_taken_once",
    "test_a_revoked_token_is_refused_by_every_worker",
    "test_an_assertion_used_at_two_workers_at_once_is_taken_once",
]
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.process,
    pytest.mark.xdist_group("postgresql-nodes"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(
    postgresql: PrivateServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("workers")
    (folder / "postgresql.dsn").write_text(postgresql.dsn(await postgresql.new_database()))

    def change(document: dict[str, Any]) -> None:
        document["storage"] = {"postgresql": {"dsn": {"file": "postgresql.dsn"}}}

    gateway = await start_workers(folder, change=change)
    async with patient_store(gateway):
        yield gateway
    await gateway.stop()
