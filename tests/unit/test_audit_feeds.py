"""A feed: every record in order, at least once and never lost, whatever becomes of the destination or of this process."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.backlog import Backlog, Lag, is_too_far, lag_of
from gateway.audit.feeds.destination import DestinationAway, Taken
from gateway.audit.feeds.feed import REFUSED, Feed, pause_seconds
from gateway.audit.log import AuditLog
from gateway.audit_settings import FeedKind, FeedSettings
from tests.support.store_contract import audit_lines

NOW = 1_800_000_000
SETTINGS = FeedSettings("repository", FeedKind.FILE, from_beginning=True, at_once=4)
Json = dict[str, Any]


class Repository:
    """A destination that can be away, and refuses what it is told to, by the number of the record."""

    def __init__(self) -> None:
        self.taken: list[Json] = []
        self.is_away = False
        self.refuses: set[int] = set()
        self.then: BaseException | None = None  # raised once, after it took everything

    async def deliver(self, events: Sequence[Json]) -> Taken:
        if self.is_away:
            raise DestinationAway("away")
        refused = {str(event["id"]): "status 422" for event in events if number(event) in self.refuses}
        self.taken += [event for event in events if event["id"] not in refused]
        if self.then is not None:
            error, self.then = self.then, None
            raise error
        return Taken(refused)

    async def close(self) -> None:
        return


def number(event: Json) -> int:
    place = next(
        detail["valueString"] for entity in event["entity"] for detail in entity.get("detail", [])
        if detail["type"] == "record"
    )  # fmt: skip
    return int(place.rpartition("#")[2])


class House:
    """A store with a log and one feed."""

    def __init__(self, store: SqliteStore, log: AuditLog) -> None:
        self.store, self.log, self.now = store, log, NOW
        self.repository = Repository()
        self.counts: dict[str, int] = {}
        self.settings = SETTINGS
        self.feed = self.new_feed()

    def new_feed(self, settings: FeedSettings = SETTINGS) -> Feed:
        """Another one of the same name, as after a restart."""
        return Feed(
            settings,
            self.repository,
            store=self.store,
            recorder=Recorder("https://issuer.example"),
            note=self.log.record,
            count=self._count,
            clock=lambda: self.now,
        )

    def _count(self, outcome: str, records: int) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + records

    async def records(self, count: int) -> None:
        for _ in range(count):
            await self.log.record({"event": "launch", "client_id": "app"})

    def numbers(self) -> list[int]:
        return [number(event) for event in self.repository.taken]

    async def lines(self) -> list[Mapping[str, Any]]:
        return [json.loads(line.line) for line in await self.store.audit(after=0, limit=1000)]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await open_store(tmp_path / "securus.db")
    yield House(store, await AuditLog.open(store, lambda: NOW))
    await store.close()


async def test_records_come_in_order_and_each_once(house: House) -> None:
    await house.feed.begin()
    await house.records(11)
    await house.feed.deliver()
    await house.records(2)
    await house.feed.deliver()
    await house.feed.deliver()
    assert house.numbers() == list(range(1, 14))
    assert house.counts == {"delivered": 13}


async def test_a_new_feed_begins_with_what_is_recorded_next_or_with_the_oldest(house: House) -> None:
    await house.records(3)
    late = FeedSettings("late", FeedKind.FILE)
    feed = house.new_feed(late)
    await feed.begin()
    await house.records(1)
    await feed.begin()  # a restart changes nothing
    await feed.deliver()
    assert house.numbers() == [4]
    house.repository.taken.clear()
    await house.feed.begin()
    await house.feed.deliver()
    assert house.numbers() == [1, 2, 3, 4]


async def test_each_chain_has_a_place_of_its_own(house: House) -> None:
    await house.feed.begin()
    await house.records(2)
    await house.store.append_audit(audit_lines(1, 3, chain="node-b"))
    await house.feed.deliver()
    assert await house.store.audit_feed("repository") == {"": 2, "node-b": 3}
    assert len({event["id"] for event in house.repository.taken}) == 5


async def test_what_was_taken_and_not_noted_comes_again_with_the_same_ids(house: House) -> None:
    await house.feed.begin()
    await house.records(3)
    house.repository.then = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await house.feed.deliver()
    await house.new_feed().deliver()
    ids = [event["id"] for event in house.repository.taken]
    assert house.numbers() == [1, 2, 3, 1, 2, 3]
    assert ids[:3] == ids[3:]


async def test_two_processes_that_deliver_at_once_lose_nothing(house: House) -> None:
    await house.feed.begin()
    await house.records(40)
    await asyncio.gather(house.feed.deliver(), house.new_feed().deliver())
    await house.feed.deliver()
    assert set(house.numbers()) == set(range(1, 41))
    assert (await house.store.audit_feed("repository"))[""] == 40


async def test_who_stood_still_after_reading_delivers_nothing_that_another_has_delivered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines were read before, and by its own renewal it will know only later that its place is gone."""
    await house.feed.begin()
    await house.records(7)
    other = house.new_feed()
    plainly = house.store.audit

    async def slowly(**asked: Any) -> Any:
        found = await plainly(**asked)
        monkeypatch.setattr(house.store, "audit", plainly)
        await other.deliver()  # while this process stands still
        return found

    monkeypatch.setattr(house.store, "audit", slowly)
    await house.feed.deliver()
    assert house.numbers() == list(range(1, 8))
    assert house.counts == {"delivered": 7}
    await house.records(1)
    await house.feed.deliver()
    assert house.numbers() == list(range(1, 9))


async def test_a_destination_that_is_away_is_asked_later_and_later_and_gets_everything(house: House) -> None:
    await house.feed.begin()
    await house.records(5)
    house.repository.is_away = True
    asked = []
    for _ in range(200):
        before = house.counts.get("failed", 0)
        await house.feed.deliver()
        if house.counts.get("failed", 0) > before:
            asked.append(house.now - NOW)
        house.now += 1
    assert asked == [0, 1, 3, 7, 15, 31, 63, 127]
    house.repository.is_away = False
    house.now += 300
    await house.feed.deliver()
    assert house.numbers() == [1, 2, 3, 4, 5]
    assert [pause_seconds(failures) for failures in (1, 2, 9, 10, 1000)] == [1, 2, 256, 300, 300]


async def test_a_clock_that_is_set_back_does_not_make_a_pause_longer(house: House) -> None:
    await house.feed.begin()
    await house.records(2)
    house.repository.is_away = True
    await house.feed.deliver()
    house.repository.is_away = False
    house.now -= 3600
    await house.feed.deliver()
    assert house.numbers() == [1, 2]


async def test_a_record_that_is_refused_is_on_record_and_the_others_pass(house: House) -> None:
    await house.feed.begin()
    await house.records(3)
    house.repository.refuses = {2}
    await house.feed.deliver()
    refusal = (await house.lines())[-1]
    assert (refusal["event"], refusal["feed"], refusal["sequence"]) == (REFUSED, "repository", 2)
    await house.feed.deliver()
    assert house.numbers() == [1, 3, 4]
    assert house.counts["refused"] == 1


async def test_a_caller_who_writes_the_words_of_a_refusal_is_on_record_as_any(house: House) -> None:
    await house.feed.begin()
    await house.log.record({"event": "launch", "client_id": f'"event":"{REFUSED}" {REFUSED}'})
    await house.records(1)
    house.repository.refuses = {1}
    await house.feed.deliver()
    assert [line["event"] for line in await house.lines()] == ["launch", "launch", REFUSED]


async def test_a_refused_record_of_a_refusal_makes_no_further_one(house: House) -> None:
    await house.feed.begin()
    await house.records(3)
    house.repository.refuses = {2, 4}
    await house.feed.deliver()
    await house.records(1)
    house.now += 300
    await house.feed.deliver()
    assert [line["event"] for line in await house.lines()].count(REFUSED) == 1
    assert house.numbers() == [1, 3, 5]


async def test_a_destination_that_refuses_everything_is_away_and_nothing_is_passed_by(house: House) -> None:
    await house.feed.begin()
    await house.records(3)
    house.repository.refuses = {1, 2, 3}
    for _ in range(20):
        await house.feed.deliver()
        house.now += 300
    assert (await house.store.audit_feed("repository"))[""] == 0
    assert REFUSED not in [line["event"] for line in await house.lines()]


async def test_a_record_that_is_refused_alone_is_passed_by_after_five_tries(house: House) -> None:
    await house.feed.begin()
    await house.records(1)
    await house.feed.deliver()
    await house.records(1)
    house.repository.refuses = {2}
    for _ in range(4):
        await house.feed.deliver()
        house.now += 300
        assert (await house.store.audit_feed("repository"))[""] == 1
    await house.feed.deliver()
    assert house.numbers() == [1, 3]
    assert (await house.lines())[-1]["event"] == REFUSED


async def test_a_destination_that_refuses_one_after_the_other_is_not_passed_by_either(house: House) -> None:
    await house.feed.begin()
    house.repository.refuses = set(range(100))
    for _ in range(30):
        await house.records(1)
        await house.feed.deliver()
        house.now += 300
    assert (await house.store.audit_feed("repository"))[""] == 0


async def test_the_lag_is_counted_in_records_and_seconds_and_too_much_of_either_is_too_far(
    house: House,
) -> None:
    assert await lag_of(house.store, SETTINGS, now=NOW) == Lag()
    await house.feed.begin()
    await house.records(3)
    lag = await lag_of(house.store, SETTINGS, now=NOW + 60)
    assert lag == Lag(3, 60.0)
    by_count = FeedSettings("repository", FeedKind.FILE, refuse_after_records=3)
    by_age = FeedSettings("repository", FeedKind.FILE, refuse_after=60)
    assert not is_too_far(by_count, lag)
    assert is_too_far(by_count, Lag(4, 0))
    assert not is_too_far(by_age, lag)
    assert is_too_far(by_age, Lag(1, 61))
    assert not is_too_far(SETTINGS, Lag(10**9, 1e9))
    backlog = Backlog(
        house.store, [FeedSettings("repository", FeedKind.FILE, refuse_after_records=2)], lambda: NOW
    )
    await backlog.look()
    assert backlog.is_full
    await house.feed.deliver()
    await backlog.look()
    assert not backlog.is_full


# A process that is killed between the delivery and the note of it

DOOMED = """
import asyncio, os, signal, sys
from pathlib import Path
from authz.storage.sqlite.store import open_store
from gateway.audit.events.record import Recorder
from gateway.audit.feeds.feed import Feed
from gateway.audit.feeds.file_feed import FileFeed
from gateway.audit.log import AuditLog
from gateway.audit_settings import FeedKind, FeedSettings

folder = Path(sys.argv[1])
settings = FeedSettings("repository", FeedKind.FILE, path=folder / "events.ndjson", at_once=3, from_beginning=True)

class Doomed(FileFeed):
    rounds = 0
    async def deliver(self, events):
        taken = await super().deliver(events)
        self.rounds += 1
        if self.rounds == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return taken

async def main():
    store = await open_store(folder / "securus.db")
    log = await AuditLog.open(store, lambda: 1_800_000_000)
    feed = Feed(settings, Doomed(settings), store=store, recorder=Recorder("https://issuer.example"), note=log.record,
                count=lambda outcome, records: None, clock=lambda: 1_800_000_000)
    await feed.begin()
    await feed.deliver()

asyncio.run(main())
"""


@pytest.mark.process
@pytest.mark.xdist_group("audit-feeds")
async def test_killed_between_delivery_and_note_nothing_is_missing_and_what_is_double_has_one_id(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path / "securus.db")
    log = await AuditLog.open(store, lambda: NOW)
    for _ in range(10):
        await log.record({"event": "launch"})
    await store.close()
    ended = []
    for _ in range(12):
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", DOOMED, str(tmp_path)], cwd=Path(__file__).parents[2]
        )
        ended.append(done.returncode)
        if done.returncode == 0:
            break
    lines = (tmp_path / "events.ndjson").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    by_id = {event["id"]: event for event in events}
    assert ended[-1] == 0
    assert ended.count(-9) >= 2
    assert sorted(number(event) for event in by_id.values()) == list(range(1, 11))
    assert len(events) > len(by_id)
