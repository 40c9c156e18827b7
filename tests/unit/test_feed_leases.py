"""The place of the process that delivers a feed: one has it, renews it at work, and leaves it when it is gone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import Namespace, StoreUnavailable
from gateway.audit.feeds.lease import LEASE_SECONDS, while_held

NOW = 1_800_000_000
AT_ONCE = 0.0001  # a renewal in almost each turn


class House:
    """A store, a clock that is moved, and works at one feed."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.now = store, NOW
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go_on = asyncio.Event()

    async def work(self, who: str) -> None:
        self.begun.append(who)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended.append(f"{who} was stopped")
            raise
        self.ended.append(who)

    async def hold(self, who: str, *, renewed_after_seconds: float = AT_ONCE) -> None:
        await while_held(
            self.store, "repository", lambda: self.now, lambda: self.work(who),
            renewed_after_seconds=renewed_after_seconds,
        )  # fmt: skip

    async def until(self) -> int | None:
        row = self.store._database.row("SELECT expires_at FROM claim WHERE namespace = ?", "audit-feed")
        return None if row is None else int(str(row[0]))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await open_store(tmp_path / "securus.db")
    yield House(store)
    await store.close()


async def begun(house: House, who: str) -> "asyncio.Task[None]":
    task = asyncio.create_task(house.hold(who))
    async with asyncio.timeout(10):
        while who not in house.begun:
            await asyncio.sleep(0)
    return task


async def test_one_has_the_place_and_gives_it_back_when_its_work_is_done(house: House) -> None:
    first = await begun(house, "first")
    await house.hold("second")
    assert house.begun == ["first"]
    house.go_on.set()
    await first
    await house.hold("second")
    assert house.ended == ["first", "second"]


async def test_who_works_for_long_keeps_the_place(house: House) -> None:
    first = await begun(house, "first")
    for _ in range(5):
        house.now += LEASE_SECONDS - 1
        async with asyncio.timeout(10):
            while await house.until() != house.now + LEASE_SECONDS:
                await asyncio.sleep(0)
        await house.hold("second")
    house.go_on.set()
    await first
    assert house.ended == ["first"]


async def test_where_a_process_was_killed_another_goes_on_after_half_a_minute(house: House) -> None:
    key = b"repository"
    assert await house.store.claim(Namespace.AUDIT_FEED, key, until=NOW + LEASE_SECONDS, now=NOW)
    house.go_on.set()
    house.now += LEASE_SECONDS - 1
    await house.hold("second")
    assert house.begun == []
    house.now += 1
    await house.hold("second")
    assert house.ended == ["second"]


async def test_who_stood_still_stops_when_another_has_the_place_and_does_not_take_it_away(
    house: House,
) -> None:
    first = await begun(house, "first")
    house.now += LEASE_SECONDS
    sql = "UPDATE claim SET expires_at = ? WHERE namespace = 'audit-feed'"
    house.store._database.change(sql, house.now + LEASE_SECONDS + 7)  # another claimed it meanwhile
    await first
    assert house.ended == ["first was stopped"]
    assert await house.until() == house.now + LEASE_SECONDS + 7


async def test_who_cannot_renew_it_stops_before_another_may_have_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def away(namespace: Namespace, key: bytes, *, held_until: int, until: int) -> bool:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("away")

    first = await begun(house, "first")
    monkeypatch.setattr(house.store, "renew", away)
    async with asyncio.timeout(10):
        while asked < 5:  # it works on: the place is its own for a while
            await asyncio.sleep(0)
    assert house.ended == []
    house.now += LEASE_SECONDS - 2
    await first
    assert house.ended == ["first was stopped"]


async def test_what_the_work_raises_is_raised_and_the_place_is_given_back(house: House) -> None:
    async def failing() -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await while_held(house.store, "repository", lambda: house.now, failing)
    house.go_on.set()
    await house.hold("second")
    assert house.ended == ["second"]


async def test_who_is_ended_gives_the_place_back(house: House) -> None:
    first = await begun(house, "first")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    house.go_on.set()
    await house.hold("second")
    assert house.ended == ["first was stopped", "second"]
