"""The place of the process that delivers a feed: one has it, renews it at work, and leaves it when it is gone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from authz.storage.claims import Namespace
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from gateway.audit.feeds.lease import LEASE_SECONDS, Place

NOW = 1_800_000_000
HOUR = 3600
AT_ONCE = 0.0001  # a renewal in almost each turn


class House:
    """A store, a clock that is moved, and works at one feed."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.now, self.passed = store, NOW, 1000.0
        self.places: dict[str, Place] = {}
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

    async def hold(self, who: str) -> None:
        """One round of a process; of each name there is one."""
        if who not in self.places:
            self.places[who] = Place(
                self.store, "repository", lambda: self.now,
                renewed_after_seconds=AT_ONCE, monotonic=lambda: self.passed,
            )  # fmt: skip
        await self.places[who].while_held(lambda: self.work(who))

    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.passed += seconds

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
        house.wait(LEASE_SECONDS - 1)
        async with asyncio.timeout(10):
            while await house.until() != house.now + LEASE_SECONDS:
                await asyncio.sleep(0)
        await house.hold("second")
    house.go_on.set()
    await first
    assert house.ended == ["first"]


async def killed(house: House) -> None:
    """A process had the place, and is gone."""
    key = b"repository"
    assert await house.store.claim(Namespace.AUDIT_FEED, key, until=house.now + LEASE_SECONDS, now=0)
    house.go_on.set()


@pytest.mark.parametrize("jump", [0, -HOUR, HOUR, -LEASE_SECONDS])
async def test_where_a_process_was_killed_another_goes_on_after_half_a_minute_whatever_the_clock_says(
    house: House, jump: int
) -> None:
    await killed(house)
    house.now += jump
    await house.hold("second")
    house.wait(LEASE_SECONDS - 1)
    await house.hold("second")
    assert house.begun == []
    house.wait(1)
    await asyncio.gather(house.hold("second"), house.hold("third"))
    assert house.ended == ["second"]


async def test_of_those_who_waited_one_is_first(house: House) -> None:
    await killed(house)
    house.go_on.clear()
    await house.hold("second")
    await house.hold("third")
    house.wait(LEASE_SECONDS)
    both = [asyncio.create_task(house.hold(who)) for who in ("second", "third")]
    async with asyncio.timeout(10):
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # who was not ends its round at once
    assert len(house.begun) == 1
    house.go_on.set()
    await asyncio.gather(*both)
    assert house.ended == house.begun


async def test_a_place_that_was_given_back_is_free_when_the_clock_was_set_back_since(house: House) -> None:
    house.go_on.set()
    await house.hold("first")
    house.now -= HOUR
    await house.hold("second")
    await house.hold("first")
    assert house.ended == ["first", "second", "first"]


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
async def test_who_is_at_work_keeps_the_place_when_a_clock_is_set(house: House, jump: int) -> None:
    first = await begun(house, "first")
    house.now += jump
    for _ in range(3):
        await house.hold("second")
        before = await house.until()
        house.wait(LEASE_SECONDS - 1)
        async with asyncio.timeout(10):
            while await house.until() == before:
                await asyncio.sleep(0)
        house.wait(1)
        await house.hold("second")
    house.go_on.set()
    await first
    assert house.ended == ["first"]


@pytest.mark.parametrize("ahead", [31, HOUR, 400 * 86400])
async def test_a_node_whose_clock_is_ahead_keeps_house_and_takes_no_place_away(
    house: House, ahead: int
) -> None:
    """What its housekeeping removes is over by its clock, and so would be the mark of who is at work."""
    first = await begun(house, "first")
    for _ in range(4):
        await house.store.remove_expired(now=house.now + ahead, at_most=1000)
        await house.hold("second")
        before = await house.until()
        house.wait(8)
        async with asyncio.timeout(10):
            while await house.until() == before:
                await asyncio.sleep(0)
    assert house.begun == ["first"]
    house.go_on.set()
    await first
    assert house.ended == ["first"]
    await house.store.remove_expired(now=house.now + ahead, at_most=1000)
    await house.hold("second")
    assert house.ended == ["first", "second"]


async def test_each_renewal_is_seen_even_if_the_clock_was_set_back_by_as_much(house: House) -> None:
    first = await begun(house, "first")
    for _ in range(5):
        before = await house.until()
        await house.hold("second")
        house.passed += LEASE_SECONDS - 1  # and the clock stands still
        async with asyncio.timeout(10):
            while await house.until() == before:
                await asyncio.sleep(0)
        house.passed += 1
        await house.hold("second")
    house.go_on.set()
    await first
    assert house.ended == ["first"]


async def test_who_stood_still_stops_when_another_has_the_place_and_does_not_take_it_away(
    house: House,
) -> None:
    first = await begun(house, "first")
    house.wait(LEASE_SECONDS)
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
    house.now -= HOUR
    house.passed += LEASE_SECONDS - 2
    await first
    assert house.ended == ["first was stopped"]


async def test_what_the_work_raises_is_raised_and_the_place_is_given_back(house: House) -> None:
    async def failing() -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await Place(house.store, "repository", lambda: house.now).while_held(failing)
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
