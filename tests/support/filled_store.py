"""A SQLite store with a row in every table, a PostgreSQL database to copy it to, and one line to work at a store."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from authz.storage.claims import Namespace
from authz.storage.effects import RateLimit
from authz.storage.interactions import Launch
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from authz.storage.store import Store
from tests.support.audit_index_contract import SIGNAL, entry
from tests.support.consents_contract import CONSENT
from tests.support.postgresql import PrivateServer
from tests.support.store_contract import (
    AUDIT_KEY,
    CHANGE,
    EMERGENCY,
    HOLD,
    INITIAL,
    INTERACTION,
    KEY,
    NOTIFICATION,
    NOW,
    PUSHED,
    REFRESH,
    REGISTRATION,
    SESSION,
    STUB,
    TREE_HEAD,
    audit_lines,
    complete,
)

T = TypeVar("T")
LINES = audit_lines(1, 12_000)  # more than two pages
NODE_LINES = audit_lines(1, 20, chain="node-a")


async def fill(store: Store) -> None:
    """A row in every table; used, revoked and counted as in a working day."""
    await store.append_audit(LINES[:11_000])
    await store.add_consent(replace(CONSENT, grant_id="grant"))
    await store.add_consent(replace(CONSENT, version=2, status="inactive"))
    await store.index_audit([entry(7)], chain="", read_to=11_000)
    for first in range(1, 70 * 128, 128):  # enough for a volume of mentions
        more = [entry(n, chain="node-b", user="ben") for n in range(first, first + 128)]
        await store.index_audit(more, chain="node-b", read_to=first + 127)
    while await store.tend_audit_index():
        pass
    await store.put_signals([SIGNAL], {}, chain="", read_from=0, read_to=11_000)
    await store.append_audit(NODE_LINES)
    assert await store.add_tree_head(TREE_HEAD)
    assert await store.add_stub(STUB)
    assert await store.add_audit_key(AUDIT_KEY)
    await store.put_hold(HOLD)
    assert await store.move_audit_feed("repository", "node-a", expected=None, to=12)
    await store.put_pushed_request(PUSHED)
    await store.put_interaction(INTERACTION)
    assert await complete(store)
    await store.redeem_code("code", now=NOW)
    await store.put_refresh_token(REFRESH)
    await store.replace_refresh_token("refresh", by=replace(REFRESH, id="next"), now=NOW, grace_seconds=30)
    await store.put_pushed_request(replace(PUSHED, id="second"))
    await store.put_interaction(INTERACTION)
    await store.put_session(SESSION)
    await store.put_key(KEY)
    await store.secret("nonce", b"\x00\xff")
    await store.put_initial_access_token(INITIAL)
    await store.put_registration(REGISTRATION, CHANGE, spending="initial", now=NOW)
    await store.begin_emergency(EMERGENCY, [NOTIFICATION], now=NOW)
    await store.revoke_token("token", now=NOW, keep_until=NOW + 300)
    await store.claim(Namespace.DPOP_PROOF, b"\x00proof", until=NOW + 60, now=NOW)
    await store.count("anna\x00ü", window_seconds=60, now=NOW)
    await store.spend([RateLimit(b"rate", 3, 60)], now=NOW)
    await store.put_launch(Launch("launch", "portal", "https://fhir.example", "person", {}, NOW + 60))


def at(storage: StoreSettings, work: Callable[[Store], Awaitable[T]]) -> T:
    """What work gives on the opened store."""

    async def run() -> T:
        store = await open_storage(storage)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A SQLite store that is filled."""
    path = tmp_path / "securus.db"
    at(StoreSettings(path=str(path)), fill)
    return path


@pytest.fixture
def target(postgresql: PrivateServer, tmp_path: Path) -> Iterator[StoreSettings]:
    """An empty database of PostgreSQL; its address is in the file dsn."""
    database = asyncio.run(postgresql.new_database())
    (tmp_path / "dsn").write_text(postgresql.dsn(database) + "\n")
    yield StoreSettings("postgresql", "", postgresql=postgresql.settings(database))
    asyncio.run(postgresql.drop(database))
