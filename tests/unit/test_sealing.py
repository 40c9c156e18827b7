"""What a running gateway does with its heads: the file and the receivers that get them, also when one is away."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.keys import KeyRing
from authz.storage.opening import open_storage
from authz.storage.store import Store
from gateway.audit.chains import chain_of
from gateway.audit.head_file import read_heads_file
from gateway.audit.log import AuditLog
from gateway.audit.verification import verify
from gateway.audit_settings import AuditSettings, FeedKind, FeedSettings
from gateway.config.document import load
from gateway.sealing import Sealing
from gateway.settings import GatewaySettings
from gateway.signing_keys import open_key_ring
from gateway.telemetry import Metrics
from tests.support.sealed_log import BEGAN
from tests.unit.test_config import CONFIGURATION, Write, write

__all__ = ["write"]  # fixture
TEXT = (
    "notifications: {office: log}\n"
    "audit: {heads: {records: 1, file: elsewhere/heads.jws, notify: [office]}}\n" + CONFIGURATION
)


@pytest.fixture
def settings(write: Write) -> GatewaySettings:
    return load(write(TEXT), os.environ)


@pytest.fixture
async def store(settings: GatewaySettings) -> AsyncIterator[Store]:
    opened = await open_storage(settings.storage)
    yield opened
    await opened.close()


@pytest.fixture
async def keys(settings: GatewaySettings, store: Store) -> AsyncIterator[KeyRing]:
    ring = await open_key_ring(settings, store, clock=lambda: int(BEGAN), emit=lambda event: None)
    yield ring
    await ring.close()


async def test_a_head_goes_to_file_and_receivers_and_one_that_the_file_missed_follows(
    settings: GatewaySettings, store: Store, keys: KeyRing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    log = await AuditLog.open(store, lambda: BEGAN)
    sealing = Sealing(
        settings=settings, store=store, log=log, keys=keys, metrics=metrics,
        clock=lambda: int(BEGAN), precise_clock=lambda: BEGAN,
    )  # fmt: skip
    await log.record({"event": "access"})
    await sealing._checkpoints.round()
    assert "a head of the audit log was not written" in caplog.text
    counted = metrics.registry.get_sample_value
    assert counted("securus_audit_heads_undelivered_total") == 1
    assert await store.waiting_notifications() == 1
    (tmp_path / "elsewhere").mkdir()
    await log.record({"event": "access"})
    await sealing.finish()
    found = read_heads_file(tmp_path / "elsewhere" / "heads.jws")
    assert sorted(found) == [1, 2]
    due = await store.claim_notifications(now=int(BEGAN), until=int(BEGAN) + 9, at_most=9)
    told = {said["number"]: said["head"].encode() for said in map(json.loads, (each.content for each in due))}
    assert told == found
    assert (await verify(store, sealing._keys.public, elsewhere=found)).whole
    await sealing._checkpoints.round()
    assert counted("securus_audit_covered_timestamp_seconds") == BEGAN
    assert counted("securus_audit_broken") == 0
    await log.close()


async def test_nothing_is_retired_that_the_index_or_a_configured_feed_has_not_read(
    settings: GatewaySettings, store: Store, keys: KeyRing
) -> None:
    log = await AuditLog.open(store, lambda: BEGAN)
    await log.record({"event": "access"})
    feed = FeedSettings(name="atna", kind=FeedKind.FILE)
    sealing = Sealing(
        settings=replace(settings, audit=AuditSettings(feeds=(feed,))), store=store, log=log, keys=keys,
        metrics=Metrics(), clock=lambda: int(BEGAN), precise_clock=lambda: BEGAN,
    )  # fmt: skip
    assert await sealing._read_to("") == 0
    await store.index_audit([], chain="", read_to=1)
    assert await sealing._read_to("") == 0
    assert await store.move_audit_feed("atna", "", expected=None, to=1)
    assert await sealing._read_to("") == 1
    await log.close()


def test_the_chain_is_shared_with_SQLite_and_of_each_node_and_worker_with_PostgreSQL(write: Write) -> None:
    shared = load(write(CONFIGURATION), {})
    assert (chain_of(shared), chain_of(shared, 3)) == ("", "")
    address = "postgresql://u@127.0.0.1/d?sslmode=disable"
    text = CONFIGURATION + "storage: {postgresql: {dsn: {env: DSN}}}\n"
    own = load(write(text), {"DSN": address})
    assert chain_of(own)
    assert chain_of(own, 2) == f"{chain_of(own)}/2"
    named = load(write("audit: {node: ward-a}\n" + text), {"DSN": address})
    assert (chain_of(named), chain_of(named, 1)) == ("ward-a", "ward-a/1")
