"""What the process that leads does for the officer: the index follows, and is kept no longer than the log."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.storage.audit_index import AuditQuery
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.log import AuditLog
from gateway.audit_settings import AuditLogSettings
from gateway.officer.oversight import Oversight
from gateway.officer_settings import OfficerSettings
from gateway.telemetry import Metrics
from tests.support.audit_index_contract import START, entry
from tests.support.officer import open_desk

DAY = 86_400
NOW = START // 1000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "own.db")
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("keep_days", "retention", "stay"),
    [
        (400, None, [4, 3]),
        (400, 300 * DAY, [4]),
        (200, None, [4]),
        (200, 300 * DAY, [4]),
        (600, None, [4, 3, 2]),
    ],
)
async def test_the_index_is_kept_as_long_as_it_is_told_and_never_longer_than_the_log(
    tmp_path: Path, store: SqliteStore, keep_days: int, retention: int | None, stay: list[int]
) -> None:
    ages = {1: 700, 2: 500, 3: 350, 4: 10}
    entries = [entry(number, at=START - days * DAY * 1000) for number, days in ages.items()]
    await store.index_audit(entries, chain="", read_to=4)
    async with open_desk(tmp_path) as desk:
        settings = replace(
            desk.settings,
            officer=OfficerSettings(keep_days=keep_days),
            audit_log=AuditLogSettings(retention_seconds=retention),
        )
    log = await AuditLog.open(store, lambda: float(NOW))
    metrics = Metrics()
    oversight = Oversight(
        settings=settings, store=store, audit=log, metrics=metrics, clock=lambda: NOW, stores={}
    )
    await oversight.forget()
    assert [each.sequence for each in await store.find_audit(AuditQuery())] == stay


async def test_what_waits_for_the_index_is_told_to_the_metrics(tmp_path: Path, store: SqliteStore) -> None:
    async with open_desk(tmp_path) as desk:
        settings = desk.settings
    log = await AuditLog.open(store, lambda: float(NOW))
    metrics = Metrics()
    oversight = Oversight(
        settings=settings, store=store, audit=log, metrics=metrics, clock=lambda: NOW, stores={}
    )
    await log.record({"event": "access", "route": "fhir"})
    await oversight.follow()
    text = metrics.text().decode()
    assert "securus_audit_indexed_total 1.0" in text
    assert "securus_audit_index_behind_records 0.0" in text


async def test_where_nothing_was_written_a_round_asks_for_the_heads_and_the_places_and_for_no_more(
    tmp_path: Path, store: SqliteStore
) -> None:
    async with open_desk(tmp_path) as desk:
        settings = desk.settings
    log = await AuditLog.open(store, lambda: float(NOW))
    oversight = Oversight(
        settings=settings, store=store, audit=log, metrics=Metrics(), clock=lambda: NOW, stores={}
    )
    await log.record({"event": "access", "route": "fhir"})
    await oversight.follow()
    sent: list[str] = []
    store._database._connection.set_trace_callback(sent.append)
    await oversight.follow()
    store._database._connection.set_trace_callback(None)
    assert len(sent) == 2, sent
    assert all(each.startswith("SELECT") for each in sent)
    await log.record({"event": "access", "route": "fhir"})
    await oversight.follow()
    assert await store.indexed_to("") == 2
