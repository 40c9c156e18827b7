"""The outbox: what is delivered, tried again, given up, and what a receiver gets to see."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from authz.fetched import FetchError
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.log import AuditLog
from gateway.notifications import Outbox, message, pause_seconds
from gateway.settings import Receiver
from gateway.telemetry import Metrics

NOW = 1_800_000_000
SAID = {"event": "break-glass-start", "rules": ["p/glass"], "patient": "A", "interaction_id": "i"}


@dataclass
class Office:
    """A receiver that answers as it is told."""

    down: bool = False
    got: list[tuple[str, bytes, str | None]] = field(default_factory=list)

    async def post(self, url: str, body: bytes, authorization: str | None) -> None:
        """Take a message."""
        if self.down:
            raise FetchError("status", "the status is 503, expected 2xx; redirects are not followed")
        self.got.append((url, body, authorization))


@dataclass
class World:
    """An outbox with a clock that a test moves."""

    store: SqliteStore
    office: Office
    metrics: Metrics
    outbox: Outbox
    now: int = NOW

    def count(self, receiver: str, outcome: str) -> float:
        """How many deliveries ended so."""
        labels = {"receiver": receiver, "outcome": outcome}
        return self.metrics.registry.get_sample_value("securus_notifications_total", labels) or 0.0

    @property
    def waiting(self) -> float | None:
        """What the gauge says."""
        return self.metrics.registry.get_sample_value("securus_notifications_waiting")


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await open_store(tmp_path / "securus.db")
    office, metrics = Office(), Metrics()
    outbox = Outbox(
        store=store,
        receivers={"office": Receiver("https://office.example/in", "a-secret"), "log": Receiver()},
        post=office.post,
        audit=await AuditLog.open(store, lambda: NOW),
        metrics=metrics,
        clock=lambda: made.now,
    )
    made = World(store, office, metrics, outbox)
    yield made
    await store.close()


async def test_a_message_is_posted_once_with_the_bearer_of_its_receiver(world: World) -> None:
    sent = message("office", SAID, now=NOW)
    await world.store.put_notifications([sent])
    await world.outbox.deliver()
    await world.outbox.deliver()
    ((url, body, authorization),) = world.office.got
    assert (url, authorization) == ("https://office.example/in", "Bearer a-secret")
    assert json.loads(body) == {**SAID, "id": sent.id, "at": "2027-01-15T08:00:00Z"}
    assert (world.count("office", "delivered"), world.waiting) == (1, 0)


async def test_what_fails_is_tried_again_later_each_time_until_it_is_taken(world: World) -> None:
    world.office.down = True
    await world.store.put_notifications([message("office", SAID, now=NOW)])
    for tries, pause in enumerate((5, 10, 20), start=1):
        await world.outbox.deliver()
        assert (world.count("office", "failed"), world.waiting) == (tries, 1)
        world.now += pause - 1
        await world.outbox.deliver()
        assert world.count("office", "failed") == tries  # not before its time
        world.now += 1
    world.office.down = False
    await world.outbox.deliver()
    assert len(world.office.got) == 1
    assert world.waiting == 0


def test_pauses_grow_up_to_an_hour() -> None:
    assert [pause_seconds(n) for n in (1, 2, 3, 10, 11, 1000)] == [5, 10, 20, 2560, 3600, 3600]


async def test_what_is_a_week_old_is_given_up_and_on_record(world: World) -> None:
    world.office.down = True
    old = message("office", SAID, now=NOW)
    await world.store.put_notifications([old])
    await world.outbox.deliver()
    world.now += 7 * 86400
    await world.outbox.deliver()
    assert (world.count("office", "expired"), world.waiting) == (1, 0)
    (line,) = await world.store.audit(after=0, limit=10)
    record = json.loads(line.line)
    assert (record["event"], record["notification"], record["attempts"]) == (
        "notification-expired",
        old.id,
        1,
    )
    assert (await world.outbox.deliver(), world.office.got) == (None, [])


async def test_a_message_for_nobody_waits_and_its_name_is_no_label(world: World) -> None:
    await world.store.put_notifications([message("gone", SAID, now=NOW)])
    await world.outbox.deliver()
    assert (world.count("other", "failed"), world.count("gone", "failed"), world.waiting) == (1, 0, 1)


async def test_the_log_names_the_event_and_no_person(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.store.put_notifications([message("log", {**SAID, "subject": "dr-who"}, now=NOW)])
    await world.outbox.deliver()
    (record,) = [r for r in caplog.records if r.name == "securus.notifications"]
    assert record.getMessage() == "notification for log"
    said = {name: vars(record)[name] for name in ("detail", "rule", "interaction_id")}
    assert said == {"detail": "break-glass-start", "rule": "p/glass", "interaction_id": "i"}
    assert "dr-who" not in str(vars(record))
    assert world.count("log", "delivered") == 1


async def test_one_receiver_that_is_down_keeps_no_other_waiting(world: World) -> None:
    world.office.down = True
    await world.store.put_notifications([message("office", SAID, now=NOW), message("log", SAID, now=NOW)])
    await world.outbox.deliver()
    assert (world.count("office", "failed"), world.count("log", "delivered")) == (1, 1)
