"""Sheets, and pages and volumes of mentions: a search finds what a walk over all entries finds, at any moment."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.storage import audit_adding, audit_finding, audit_pages, audit_sheets
from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.audit_mentions import (
    CLIENT,
    GRANT,
    PATIENT,
    USER,
    mark,
    mentions_of,
    packed,
    sequences_of,
    unpacked,
)
from authz.storage.audit_sheets import (
    SPAN,
    entries_in,
    entries_of_records,
    in_order,
    matching,
    sheets_of,
    words_of,
)
from authz.storage.schema import migrate, migrations
from authz.storage.sqlite.moments import one_moment
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import StoreUnavailable
from tests.support.audit_index_contract import START, entry
from tests.support.entries_in_sql import EntriesInSql

BLOCK = 1 << 16
NAMES = ["", "A", "B", "a", "A\x00", "\u00fc", "x" * 500, "Patient/A"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


@pytest.fixture
def rows() -> Iterator[EntriesInSql]:
    """The same entries as rows of SQL."""
    kept = EntriesInSql()
    yield kept
    kept.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets, pages and volumes so small that a few entries fill many."""
    monkeypatch.setattr(audit_pages, "PAGE_ENTRIES", 4)
    monkeypatch.setattr(audit_pages, "VOLUME_ENTRIES", 12)
    monkeypatch.setattr(audit_pages, "_PAGES_AT_ONCE", 2)
    monkeypatch.setattr(audit_pages, "_ENTRIES_AT_ONCE", 6)
    monkeypatch.setattr(audit_sheets, "SHEET_ENTRIES", 5)
    monkeypatch.setattr(audit_adding, "SHEET_ENTRIES", 5)
    monkeypatch.setattr(audit_adding, "_FEW", 3)


def some(random: random.Random, sequence: int, chain: str) -> AccessEntry:
    """An entry that shares patients, users, clients, grants and times with others."""
    return entry(
        sequence,
        chain=chain,
        at=START + random.choice((sequence % 500 // 8, sequence % 500 // 8, random.randrange(60), 2 * SPAN)),
        base=random.choice(("", "https://a.example", "https://b.example")),
        patient=random.choice(NAMES),
        user=random.choice(NAMES),
        client=random.choice(NAMES),
        grant=random.choice(NAMES),
        kind=random.choice(("read", "search")),
        outcome=random.choice(("permit", "deny")),
        rule=random.choice(("", "w/a", "w/a w/b", "w/b", "W/A")),
    )


def asked(random: random.Random, entries: list[AccessEntry]) -> AuditQuery:
    """A question to them, with every part now and then."""

    def now_and_then(value: str) -> str | None:
        return value if random.random() < 0.4 else None

    last = random.choice(entries)
    return AuditQuery(
        base=now_and_then("https://a.example"),
        patients=random.choice(((), (), (last.patient,), ("A", "B"), ("nobody",))),
        user=now_and_then(last.user),
        client=now_and_then(last.client),
        grant=now_and_then(last.grant),
        outcome=now_and_then("permit"),
        rule=random.choice((None, None, None, "w/a", "w/b", "w", "")),
        kinds=random.choice(((), (), ("read",), ("read", "search"))),
        since=random.choice((None, last.at, START + 10)),
        until=random.choice((None, last.at, START + 40)),
        about_patients=random.random() < 0.2,
        before=random.choice((None, Cursor.behind(last))),
        limit=random.choice((1, 2, 5, 1000)),
    )


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_found_is_what_a_walk_over_all_entries_finds(
    store: SqliteStore, rows: EntriesInSql, small: None, seed: int
) -> None:
    chance = random.Random(seed)
    ends = {"": BLOCK - 30, "node-2": 0}  # one passes the end of its block
    there: list[AccessEntry] = []
    for _ in range(60):
        chain = chance.choice(("", "", "node-2"))
        page = []
        for _ in range(chance.choice((0, 1, 1, 3, 6))):
            ends[chain] += 1
            patients = chance.sample(NAMES, chance.choice((1, 1, 3)))
            page += [some(chance, ends[chain], chain)._replace(patient=each) for each in patients]
        again = chance.sample(there, min(len(there), chance.choice((0, 0, 2))))
        await store.index_audit(page, chain=chain, read_to=ends[chain])
        for each in again:  # by a second follower that is behind
            await store.index_audit([each], chain=each.chain, read_to=each.sequence)
        rows.add([*page, *again])
        there += page
        for _ in range(chance.choice((0, 1, 3, 9))):
            await store.tend_audit_index()
        if chance.random() < 0.1:
            await store.remove_audit_entries(before=START + ends["node-2"] // 16, at_most=5)
            rows.keep(await everything(store))
        if not there:
            continue
        for _ in range(5):
            wanted = asked(chance, there)
            assert await store.find_audit(wanted) == rows.find(wanted), wanted
            assert await store._read(audit_finding.by_time(wanted)) == rows.find(wanted), wanted
        user, since = chance.choice(there).user, START + chance.randrange(60)
        counted = await store.patients_per_window(user, since=since, until=since + 70, window=7)
        assert counted == walked(rows, user, since, since + 70, 7)
    volumes = store._database.rows("SELECT COUNT(*) FROM audit_volume WHERE state = 2")
    assert volumes[0][0] > 3


async def everything(store: SqliteStore) -> list[AccessEntry]:
    """Every entry, chain by chain in its order."""
    found: list[AccessEntry] = []
    for chain in ("", "node-2"):
        after = 0
        while page := await store.audit_entries(chain=chain, after=after, limit=7):
            found += page
            after = page[-1].sequence
    return found


def walked(rows: EntriesInSql, user: str, since: int, until: int, window: int) -> dict[int, int]:
    """Patients of a user, window by window, reckoned from all entries."""
    seen = {
        ((until - 1 - each.at) // window, each.base, each.patient)
        for each in rows.find(AuditQuery(since=since, until=until, outcome="permit", limit=10**6))
        if each.user == user != "" and each.patient
    }
    counted: dict[int, int] = {}
    for number, _, _ in seen:
        counted[number] = counted.get(number, 0) + 1
    return counted


async def test_who_is_named_often_is_found_by_time_and_in_the_same_order(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.index_audit([entry(n) for n in range(1, 1200)], chain="", read_to=1200)
    whole = await store.find_audit(AuditQuery(client="ehr", limit=50))
    assert [each.sequence for each in whole] == list(range(1199, 1149, -1))
    monkeypatch.setattr(audit_finding, "_OFTEN", 10**6)
    assert await store.find_audit(AuditQuery(client="ehr", limit=50)) == whole


async def test_accesses_that_were_counted_are_counted_anew_when_there_are_others(store: SqliteStore) -> None:
    async def counted() -> dict[int, int]:
        span = 10_000
        return dict(await store.patients_per_window("anna", since=START, until=START + span, window=span))

    for patients, count in (("A", 1), ("AB", 2), ("C", 3)):
        await store.index_audit([entry(1, patient=each) for each in patients], chain="", read_to=1)
        assert await counted() == await counted() == {0: count}
    await store.remove_audit_entries(before=START + 5_000, at_most=10)
    assert await counted() == {}
    await store.index_audit([entry(1)], chain="", read_to=1)
    assert await counted() == {0: 1}


async def test_a_volume_that_was_begun_is_finished_by_whoever_comes_next_and_counts_when_it_is_whole(
    store: SqliteStore, small: None, tmp_path: Path
) -> None:
    for n in range(1, 30):
        await store.index_audit([entry(n, patient=f"p{n}")], chain="", read_to=n)
    assert await store.tend_audit_index()
    assert await store.tend_audit_index()
    found = await store.find_audit(AuditQuery(patients=["p3"]))
    await store.close()  # as after a kill: what was committed is there
    other = await open_store(tmp_path / "securus.db")
    again = await open_store(tmp_path / "securus.db")
    while await other.tend_audit_index() or await again.tend_audit_index():
        assert await other.find_audit(AuditQuery(patients=["p3"])) == found != []
    assert other._database.rows("SELECT COUNT(*) FROM audit_volume WHERE state < 2") == [(0,)]
    pages = other._database.rows("SELECT COUNT(*), SUM(entries) FROM audit_page WHERE volume IS NULL")
    volumes = other._database.rows("SELECT COUNT(*) FROM audit_volume")
    assert integer_sum(pages) + integer_sum(volumes) * 12 == 29
    await other.close()
    await again.close()
    await store.close()


def integer_sum(rows: list[tuple[object, ...]]) -> int:
    """The last number of one row."""
    assert isinstance(rows[0][-1], int)
    return rows[0][-1]


async def test_an_entry_and_its_mentions_are_added_together_or_not_at_all(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(audit_pages, "add_page", dies)
    with pytest.raises(RuntimeError, match="killed"):
        await store.index_audit([entry(1)], chain="", read_to=1)
    monkeypatch.undo()
    assert await store.find_audit(AuditQuery()) == []
    assert await store.indexed_to("") == 0


async def test_mentions_go_with_the_entries_that_they_are_of(store: SqliteStore, small: None) -> None:
    for n in range(1, 60):
        await store.index_audit([entry(n)], chain="", read_to=n)
        await store.tend_audit_index()
    while await store.tend_audit_index():
        pass
    while await store.remove_audit_entries(before=START + 58_000, at_most=7):
        while await store.tend_audit_index():
            pass
    assert [each.sequence for each in await store.find_audit(AuditQuery(user="anna"))] == [59, 58]
    while await store.remove_audit_entries(before=START + 60_000, at_most=7):
        while await store.tend_audit_index():
            pass
    for table in ("audit_sheet", "audit_page", "audit_volume", "audit_volume_part"):
        assert store._database.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
    assert await store.indexed_to("") == 59


async def test_a_store_from_before_has_the_log_read_anew_and_signals_go_on(tmp_path: Path) -> None:
    path = tmp_path / "securus.db"
    known = migrations("sqlite")
    before = next(each.number for each in known if "audit_sheets" in each.name) - 1
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, known[:before])
    kept = ["", 7, START, "b", "A", "anna", "ehr", "g", "read", "permit", "r", "", "Observation"]
    add = f"INSERT INTO audit_entry VALUES ({', '.join('?' * 13)})"
    old.execute(add, kept)
    old.execute("INSERT INTO audit_page_place VALUES ('', 7)")
    old.execute("INSERT INTO audit_place VALUES ('signals', '', 5)")
    store = await open_store(path)
    assert await store.indexed_to("") == 0
    assert await store.signalled_to("") == 5
    assert await store.find_audit(AuditQuery()) == []
    await store.index_audit([entry(7)], chain="", read_to=7)
    assert [each.sequence for each in await store.find_audit(AuditQuery(user="anna"))] == [7]
    # A process of the program from before, whose follower goes on, adds nothing.
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        old.execute(add, kept)
    old.close()
    await store.close()


async def test_a_record_is_whole_in_one_sheet_and_sheets_of_a_chain_do_not_overlap(
    store: SqliteStore, small: None
) -> None:
    chance = random.Random(1)
    for _ in range(60):
        first = chance.randrange(1, 200)
        some = [
            entry(sequence, patient=each)
            for sequence in range(first, first + chance.randrange(1, 12))
            for each in chance.sample("ABCDEFGH", chance.choice((1, 1, 7)))
        ]
        chance.shuffle(some)
        await store.index_audit(some, chain="", read_to=1)
        sheets = store._database.rows(
            "SELECT first, last, count, earliest, latest, entries FROM audit_sheet ORDER BY first"
        )
        last = 0
        for sheet in sheets:
            within = entries_in(sheet[-1])
            times = [each.at for each in within]
            sequences = [each.sequence for each in within]
            assert sheet[:5] == (sequences[0], sequences[-1], len(within), min(times), max(times))
            assert last < sequences[0]
            assert list(in_order(within)) == within
            last = sequences[-1]


async def test_what_comes_one_by_one_is_gathered_and_what_is_more_than_a_minute_later_is_not(
    store: SqliteStore,
) -> None:
    for n in range(1, 100):
        await store.index_audit([entry(n, at=START + n)], chain="", read_to=n)
    assert store._database.rows("SELECT count FROM audit_sheet ORDER BY first") == [(32,), (32,), (32,), (3,)]
    await store.index_audit([entry(100, at=START + SPAN + 98)], chain="", read_to=100)
    assert store._database.rows("SELECT count FROM audit_sheet ORDER BY first") == [
        (32,),
        (32,),
        (32,),
        (3,),
        (1,),
    ]


async def test_a_sheet_that_was_changed_is_no_answer(store: SqliteStore) -> None:
    await store.index_audit([entry(1)], chain="", read_to=1)
    for changed in (b"", b"\x92\x91\x01\x90", b"\xff"):
        store._database.change("UPDATE audit_sheet SET entries = ?", changed)
        for wanted in (AuditQuery(), AuditQuery(user="anna")):
            with pytest.raises(StoreUnavailable, match="cannot be read"):
                await store.find_audit(wanted)


# Sheets and numbers

FEW = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, BLOCK - 1)), max_size=40)
TEXTS = st.sampled_from([*NAMES, "w/a", "w/a w/b", "ehr", "read", "\U0010ffff"])
ENTRIES = st.lists(
    st.builds(
        AccessEntry, st.just(""), st.integers(1, 99), st.integers(0, 4 * SPAN), TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS,
        TEXTS, TEXTS, TEXTS, TEXTS,
    ),
    min_size=1,
    max_size=200,
)  # fmt: skip


@given(ENTRIES, st.sets(st.integers(1, 99)))
def test_entries_come_out_of_their_sheets_as_they_went_in(entries: list[AccessEntry], some: set[int]) -> None:
    ordered = in_order(entries)
    sheets = sheets_of("", ordered)
    assert [each for sheet in sheets for each in entries_in(sheet[-1])] == list(ordered)
    picked = [each for sheet in sheets for each in entries_of_records(sheet[-1], some)]
    assert picked == [each for each in ordered if each.sequence in some]
    for _, first, last, _, earliest, latest, _ in sheets:
        assert latest - earliest <= SPAN or first == last


@given(ENTRIES, st.data())
def test_a_sheet_without_a_word_of_a_query_has_no_entry_that_is_wanted(
    entries: list[AccessEntry], data: st.DataObject
) -> None:
    maybe = st.one_of(st.none(), TEXTS)
    wanted = AuditQuery(
        base=data.draw(maybe), user=data.draw(maybe), client=data.draw(maybe), grant=data.draw(maybe),
        rule=data.draw(maybe), outcome=data.draw(maybe), patients=data.draw(st.lists(TEXTS, max_size=2)),
        kinds=data.draw(st.lists(TEXTS, max_size=2)),
    )  # fmt: skip
    for sheet in sheets_of("", in_order(entries)):
        if any(filter(matching(wanted), entries_in(sheet[-1]))):
            assert all(word in sheet[-1] for word in words_of(wanted))


@given(FEW, st.sampled_from(NAMES[1:]), st.integers(0, 1 << 30))
def test_the_records_that_name_somebody_are_found_and_nobody_elses(
    named: list[tuple[str, int]], who: str, block: int
) -> None:
    first = block * BLOCK
    mentions = packed(mentions_of([entry(first + place, patient=name) for name, place in named]))
    expected = {first + place for name, place in named if name == who}
    assert sequences_of(mentions, [mark(PATIENT, who)], block) == expected


@given(st.lists(st.integers(0, (1 << 48) - 1), max_size=60), st.data())
def test_a_mark_is_found_at_its_place_in_the_bytes_alone(mentions: list[int], data: st.DataObject) -> None:
    few = [mention & 0x010100010101 for mention in mentions]  # alike, so that they meet across mentions
    sought = data.draw(st.sampled_from([*few, 0, 1 << 16])) >> 16 << 16
    expected = {mention & 0xFFFF for mention in few if mention >> 16 << 16 == sought}
    assert sequences_of(packed(few), [sought], 0) == expected
    assert list(unpacked(packed(few))) == few


def test_a_patient_a_user_a_client_and_a_grant_of_one_name_are_four() -> None:
    assert len({mark(kind, "A") for kind in (PATIENT, USER, CLIENT, GRANT)}) == 4


async def test_between_two_turns_few_sheets_are_read_whatever_is_looked_for(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name with another word that nobody has, by that word alone, by time: each entry read is counted."""
    for start in range(1, 12_001, 128):
        some = [
            entry(n, user=f"u{n % 3}", client=f"c{n % 40}", patient=f"p{n % 500}")
            for n in range(start, start + 128)
        ]
        await store.index_audit(some, chain="", read_to=some[-1].sequence)
    while await store.tend_audit_index():
        pass
    read = longest = 0

    def counting(decode: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            nonlocal read, longest
            read += 1
            longest = max(longest, read)
            return decode(*args)

        return counted

    async def others() -> None:
        nonlocal read
        while True:
            read = 0
            await asyncio.sleep(0)

    for name in ("entries_in", "entries_of_records"):
        monkeypatch.setattr(audit_finding, name, counting(getattr(audit_finding, name)))
    task = asyncio.create_task(others())
    for wanted in (
        AuditQuery(user="u1", outcome="deny"),
        AuditQuery(client="c7", outcome="deny"),
        AuditQuery(outcome="permit", rule="none"),
        AuditQuery(limit=1000),
        AuditQuery(user="u1", limit=1000),
    ):
        await store.find_audit(wanted)
        await asyncio.sleep(0)
    await store.audit_entries(chain="", after=0, limit=2000)
    await asyncio.sleep(0)
    await store.patients_per_window("u1", since=START, until=START + 12_000_000, window=1_000_000)
    task.cancel()
    assert 10 < longest <= 64


async def test_what_cannot_be_opened_for_a_moment_is_said(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot open the store"), one_moment(tmp_path):
        pass
    with one_moment(store._database.path) as moment:
        with pytest.raises(StoreUnavailable, match="readonly"):
            moment.rows("DELETE FROM audit_place")
        assert moment.rows("SELECT COUNT(*) FROM audit_sheet") == [(0,)]


async def test_what_is_indexed_asks_for_folding_by_the_pages_that_it_writes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sheet of long entries is one row of many pages: counted by rows, the log grew to where all is folded in inline."""
    asked: list[int] = []

    def folded(fold: object, path: Path) -> Future[bool]:
        asked.append(1)
        done: Future[bool] = Future()
        done.set_result(False)
        return done

    monkeypatch.setattr("authz.storage.sqlite.connection._FOLD_IN_AFTER_CHANGES", 500)
    monkeypatch.setattr(store._database._thread, "submit", folded)
    long = "x" * 500
    for start in range(1, 32 * 200, 128):
        some = [entry(n, user=f"u{n}", rule=long, purpose=long) for n in range(start, start + 128)]
        await store.index_audit(some, chain="", read_to=some[-1].sequence)
    pages = 200 * 32 * 1000 // 4096
    assert pages // 500 <= len(asked) <= 2 * pages // 500 + 2
    asked.clear()
    for number in range(10_000, 10_250):  # short ones, one by one, count by their rows
        await store.index_audit([entry(number)], chain="short", read_to=number)
    assert len(asked) <= 3
