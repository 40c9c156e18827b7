"""Claims of what is used once within minutes, as SQLite keeps them: in the order in which they came."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.protocol.tokens import Grant
from authz.storage.claims import Namespace, SingleUse
from authz.storage.grants import GrantUntil, RedeemedCode, Redeeming, Redemption
from authz.storage.replay import UsedKeys
from authz.storage.schema import migrate, migrations
from authz.storage.settings import StoreSettings
from authz.storage.sqlite.connection import SqliteConnection
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.status import status
from authz.storage.store import StoreUnavailable
from tests.support.store_contract import CODE, GRANT, NOW, PUSHED, complete

PROOF = Namespace.DPOP_PROOF


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path)
    yield opened
    await opened.close()


@pytest.fixture
async def other(path: Path, store: SqliteStore) -> AsyncIterator[SqliteStore]:
    opened = await open_store(path)
    yield opened
    await opened.close()


def _rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_what_an_older_program_claimed_counts_until_it_expires(path: Path) -> None:
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, migrations("sqlite")[:5])
    for namespace in (PROOF, Namespace.CLIENT_ASSERTION, Namespace.EXPORT_SLOT):
        old.execute("INSERT INTO claim VALUES (?, x'6b', ?)", (str(namespace), NOW + 60))
    store = await open_store(path)
    for namespace in (PROOF, Namespace.CLIENT_ASSERTION, Namespace.EXPORT_SLOT):
        assert not await store.claim(namespace, b"k", until=NOW + 300, now=NOW + 59)
        assert await store.claim(namespace, b"k", until=NOW + 300, now=NOW + 60)
    assert await store.claim(Namespace.REQUEST_OBJECT, b"k", until=NOW + 300, now=NOW)
    # Who still runs the older program accepts nothing that was claimed meanwhile, and nothing else.
    for namespace in ("dpop-proof", "client-assertion", "request-object"):
        with pytest.raises(sqlite3.IntegrityError, match="older than its store"):
            old.execute("INSERT INTO claim VALUES (?, x'6c', ?)", (namespace, NOW + 60))
    old.close()
    await store.close()


async def test_what_one_process_claimed_another_refuses(store: SqliteStore, other: SqliteStore) -> None:
    assert await store.claim(PROOF, b"a", until=NOW + 60, now=NOW)
    assert not await other.claim(PROOF, b"a", until=NOW + 60, now=NOW)
    assert await other.claim(PROOF, b"b", until=NOW + 60, now=NOW)
    assert await other.claim(PROOF, b"c", until=NOW + 60, now=NOW)
    made = [store.claim(PROOF, key, until=NOW + 60, now=NOW) for key in (b"a", b"b", b"c", b"d", b"d")]
    assert await asyncio.gather(*made) == [False, False, False, True, False]
    assert not await other.claim(PROOF, b"d", until=NOW + 60, now=NOW)


async def test_processes_that_take_turns_do_not_claim_in_vain_each_time(
    store: SqliteStore, other: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[int] = []
    change = SqliteConnection.change

    def watched(database: SqliteConnection, sql: str, *values: object) -> int:
        claimed.append(change(database, sql, *values))
        return claimed[-1]

    monkeypatch.setattr(SqliteConnection, "change", watched)
    for number in range(10):
        assert await store.claim(PROOF, b"s%d" % number, until=NOW + 60, now=NOW)
        assert await other.claim(PROOF, b"o%d" % number, until=NOW + 60, now=NOW)
    vain = claimed.count(0)
    assert vain <= 3, "each finds once that the other one is there, and once what stood there at its start"
    for number in range(10, 20):  # the other one is silent from now on
        assert await store.claim(PROOF, b"s%d" % number, until=NOW + 60, now=NOW)
    assert claimed.count(0) == vain
    assert claimed.count(1) >= 8
    assert not await other.claim(PROOF, b"s19", until=NOW + 60, now=NOW)


async def test_a_process_that_starts_later_knows_what_was_claimed(path: Path, store: SqliteStore) -> None:
    keys = [os.urandom(16) for _ in range(250)]
    assert all(await asyncio.gather(*(store.claim(PROOF, k, until=NOW + 60, now=NOW) for k in keys)))
    later = await open_store(path)
    assert not any(await asyncio.gather(*(later.claim(PROOF, k, until=NOW + 60, now=NOW) for k in keys)))
    await later.close()


async def test_a_number_is_given_once_though_every_row_was_removed(
    path: Path, store: SqliteStore, other: SqliteStore
) -> None:
    """A process that slept through it must see that others have claimed since."""
    assert await store.claim(PROOF, b"first", until=NOW + 60, now=NOW)
    for number in range(5):
        assert await other.claim(PROOF, b"%d" % number, until=NOW + 60, now=NOW)
    assert await other.remove_expired(now=NOW + 60, at_most=100) == 6
    assert await other.remove_expired(now=NOW + 60, at_most=100) == 0
    assert _rows(path, "SELECT sequence, namespace FROM replay_claim") == [(7, "")]
    assert await other.claim(PROOF, b"new", until=NOW + 120, now=NOW + 60)
    assert not await store.claim(PROOF, b"new", until=NOW + 120, now=NOW + 60)
    assert await store.claim(PROOF, b"first", until=NOW + 120, now=NOW + 60)
    assert not await other.claim(PROOF, b"first", until=NOW + 120, now=NOW + 60)


async def test_what_has_expired_goes_in_batches_and_what_is_alive_stays(
    path: Path, store: SqliteStore, other: SqliteStore
) -> None:
    for number in range(10):
        await store.claim(PROOF, b"%d" % number, until=NOW + 60 + 60 * (number >= 7), now=NOW)
    removed = [await store.remove_expired(now=NOW + 60, at_most=3) for _ in range(4)]
    assert removed == [3, 3, 1, 0]  # the first row of a new store holds nothing and is not counted
    assert len(_rows(path, "SELECT 1 FROM replay_claim")) == 3
    for number in (7, 8, 9):
        assert not await other.claim(PROOF, b"%d" % number, until=NOW + 200, now=NOW + 119)


async def test_a_claim_that_cannot_be_committed_is_not_remembered(path: Path, store: SqliteStore) -> None:
    outside = sqlite3.connect(path, isolation_level=None)
    outside.execute("CREATE TRIGGER no BEFORE INSERT ON replay_claim BEGIN SELECT RAISE(ABORT, 'no'); END")
    for keys in ((b"a",), (b"a", b"b")):
        uses = [SingleUse(PROOF, key, NOW + 60) for key in keys]
        with pytest.raises(StoreUnavailable):
            await store.claim_in_order(uses, now=NOW, then=PUSHED)
        assert await store.pushed_request("request", now=NOW) is None
        made = [store.claim(PROOF, key, until=NOW + 60, now=NOW) for key in keys]
        found = await asyncio.gather(*made, return_exceptions=True)
        assert all(isinstance(each, StoreUnavailable) for each in found)
    outside.execute("DROP TRIGGER no")
    outside.close()
    assert await store.claim(PROOF, b"a", until=NOW + 60, now=NOW)
    assert not await store.claim(PROOF, b"a", until=NOW + 60, now=NOW)


async def test_a_row_that_cannot_be_written_costs_the_others_nothing(store: SqliteStore) -> None:
    await store.put_pushed_request(PUSHED)
    uses = {name: [SingleUse(PROOF, name, NOW + 60)] for name in (b"a", b"b", b"c")}
    found = await asyncio.gather(
        store.claim_in_order(uses[b"a"], now=NOW, then=replace(PUSHED, id="other")),
        store.claim_in_order(uses[b"b"], now=NOW, then=PUSHED),  # is there already
        store.claim_in_order(uses[b"c"], now=NOW),
        store.claim(PROOF, b"d", until=NOW + 60, now=NOW),
        return_exceptions=True,
    )
    assert [found[0], *found[2:]] == [1, 1, True]
    assert isinstance(found[1], StoreUnavailable)
    assert await store.pushed_request("other", now=NOW) is not None
    # Of that one nothing was claimed either.
    again = [store.claim(PROOF, key, until=NOW + 60, now=NOW) for key in (b"a", b"b", b"c", b"d")]
    assert await asyncio.gather(*again) == [False, True, False, False]


async def test_a_code_that_is_redeemed_beside_a_row_that_cannot_be_written_is_used_once(
    store: SqliteStore,
) -> None:
    """All of the commit is taken back and done again alone; then the code is judged once more, for its first use."""
    await store.put_pushed_request(PUSHED)
    assert await complete(store)
    await store.put_pushed_request(PUSHED)
    told: list[Redemption | None] = []

    def judge(redeemed: RedeemedCode | None, grant: Grant | None) -> GrantUntil | None:
        told.append(None if redeemed is None else redeemed.redemption)
        return None if grant is None else GrantUntil(replace(grant, used_at=NOW), NOW + 300)

    found = await asyncio.gather(
        store.claim_in_order([SingleUse(PROOF, b"a", NOW + 60)], now=NOW, then=Redeeming(CODE.id, judge)),
        store.claim_in_order([SingleUse(PROOF, b"b", NOW + 60)], now=NOW, then=PUSHED),  # is there already
        return_exceptions=True,
    )
    assert found[0] == 1
    assert isinstance(found[1], StoreUnavailable)
    assert told == [Redemption.FIRST, Redemption.FIRST]
    assert await store.grant(GRANT.grant_id, now=NOW) == replace(GRANT, used_at=NOW)
    again = await store.redeem_code(CODE.id, now=NOW)
    assert again is not None
    assert again.redemption is Redemption.AGAIN


async def test_claims_in_order_meet_what_another_process_claimed(
    store: SqliteStore, other: SqliteStore
) -> None:
    assert await other.claim(PROOF, b"b", until=NOW + 60, now=NOW)
    uses = [SingleUse(PROOF, key, NOW + 60) for key in (b"a", b"b", b"c")]
    assert await store.claim_in_order(uses, now=NOW, then=PUSHED) == 1
    assert await store.pushed_request("request", now=NOW) is None
    assert not await other.claim(PROOF, b"a", until=NOW + 60, now=NOW)
    assert await other.claim_in_order(uses[2:], now=NOW, then=PUSHED) == 1
    assert await store.pushed_request("request", now=NOW) == PUSHED
    assert await store.claim_in_order(uses[2:], now=NOW) == 0


async def test_a_log_that_was_cut_off_is_no_end(path: Path, store: SqliteStore) -> None:
    assert await store.claim(PROOF, b"a", until=NOW + 60, now=NOW)
    outside = sqlite3.connect(path, isolation_level=None)
    outside.execute("DELETE FROM replay_claim WHERE sequence > 1")
    outside.close()
    assert not await store.claim(PROOF, b"a", until=NOW + 60, now=NOW)  # what is known stays known
    assert await store.claim(PROOF, b"b", until=NOW + 60, now=NOW)


async def test_claims_share_pages_though_their_keys_are_random(path: Path, store: SqliteStore) -> None:
    before = _rows(path, "PRAGMA page_count")[0][0]
    for _ in range(1_000):
        assert await store.claim(PROOF, os.urandom(16), until=NOW + 60, now=NOW)
    after = _rows(path, "PRAGMA page_count")[0][0]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after - before < 15


async def test_a_key_that_was_claimed_anew_is_shown_and_copied_once(path: Path, store: SqliteStore) -> None:
    for begin in (NOW, NOW + 60):
        assert await store.claim(PROOF, b"k", until=begin + 60, now=begin)
    assert await store.claim(Namespace.EXPORT_SLOT, b"k", until=NOW + 60, now=NOW)
    assert sorted(_rows(path, "SELECT * FROM every_claim")) == [
        ("dpop-proof", b"k", NOW + 120),
        ("export-slot", b"k", NOW + 60),
    ]
    assert (await status(StoreSettings(path=str(path)))).rows["claim"] == 2


def test_keys_are_forgotten_when_their_time_is_over() -> None:
    used = UsedKeys()
    for second in range(0, 600, 10):
        used.remember([(used.mark("n", b"%d" % second), second + 60)], second)
    kept = sum(len(each.marks) for each in used._generations)
    assert kept <= 13  # of 60 s, and of the half minute in which they were made
    assert used.is_used(used.mark("n", b"590"), 649)
    assert not used.is_used(used.mark("n", b"590"), 650)
    assert not used.is_used(used.mark("m", b"590"), 649)


def test_a_short_claim_does_not_end_a_long_one() -> None:
    used = UsedKeys()
    long, short = used.mark("n", b"long"), used.mark("n", b"short")
    used.remember([(long, 900)], 0)
    for second in range(30, 300, 30):
        used.remember([(short, second + 1)], second)
    assert used.is_used(long, 299)
    assert not used.is_used(short, 299)
