"""A node whose clock is not that of the database: what it removes, and whether it is ready."""

import time

import pytest

from authz.storage.claims import Namespace
from authz.storage.postgresql import store as module
from authz.storage.postgresql.store import PostgresqlStore
from authz.storage.store import StoreUnavailable
from tests.support.postgresql_database import database, shared, store

__all__ = ["database", "shared", "store"]
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("postgresql")]


def here() -> int:
    return int(time.time())


def ahead_by(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the clock of this machine, as the store sees it."""
    monkeypatch.setattr(module, "system_clock", lambda: here() + seconds)


@pytest.mark.parametrize("seconds", [8, 3600])
async def test_a_node_whose_clock_is_ahead_removes_nothing_that_others_still_need(
    store: PostgresqlStore, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = here()
    assert await store.claim(Namespace.DPOP_PROOF, b"proof", until=now + 6, now=now)
    assert await store.claim(Namespace.DPOP_PROOF, b"old", until=now - 60, now=now - 90)
    ahead_by(seconds, monkeypatch)
    assert await store.remove_expired(now=now + seconds, at_most=10) == 1
    assert not await store.claim(Namespace.DPOP_PROOF, b"proof", until=now + 6, now=now)


async def test_a_node_whose_clock_is_behind_removes_what_is_over_by_its_own(
    store: PostgresqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = here()
    assert await store.claim(Namespace.DPOP_PROOF, b"proof", until=now - 30, now=now - 90)
    ahead_by(-60, monkeypatch)
    assert await store.remove_expired(now=now - 60, at_most=10) == 0
    assert await store.remove_expired(now=now, at_most=10) == 1


@pytest.mark.parametrize("seconds", [0, 8, -8])
async def test_a_clock_that_differs_by_seconds_is_accepted(
    store: PostgresqlStore, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_by(seconds, monkeypatch)
    await store.check()


@pytest.mark.parametrize("seconds", [14, 3600, -14, -3600])
async def test_a_clock_that_differs_by_more_is_told_and_the_node_is_not_ready(
    store: PostgresqlStore, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead_by(seconds, monkeypatch)
    with pytest.raises(
        StoreUnavailable, match=r"differs from the database.s by \d+ s, at most 10 s is accepted"
    ):
        await store.check()
