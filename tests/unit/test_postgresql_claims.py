"""Claims that go together: what becomes of all of them when their statement fails."""

import asyncio
from typing import Any, cast

import pytest

from authz.storage.postgresql.claims import PostgresqlClaims
from authz.storage.postgresql.pool import PostgresqlPool
from authz.storage.store import StoreUnavailable


class Failing:
    """A database that takes single claims when it is told to, and fails over several."""

    def __init__(self, error: BaseException) -> None:
        self.go = asyncio.Event()
        self._error = error

    async def change(self, *_: object) -> int:
        await self.go.wait()
        return 1

    async def rows(self, *_: object) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("of the driver")])
async def test_whoever_waits_for_a_statement_that_fails_is_told_so(error: Exception) -> None:
    database = Failing(error)
    claims = PostgresqlClaims(cast(PostgresqlPool, database))
    asked = [asyncio.ensure_future(claims.claim("n", bytes([number]), until=2, now=1)) for number in range(5)]
    await asyncio.sleep(0)
    database.go.set()
    async with asyncio.timeout(10):
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert found[:2] == [True, True]
    assert [type(each) for each in found[2:]] == [StoreUnavailable] * 3
    assert await claims.claim("n", b"next", until=2, now=1)
