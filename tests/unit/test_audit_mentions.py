"""Pages and volumes of mentions: a search by them finds what a walk over all entries finds, at any moment."""

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.schema import migrate, migrations
from authz.storage.sqlite import audit_pages
from authz.storage.sqlite.mentions import (
    CLIENT,
    GRANT,
    PARTS,
    PATIENT,
    USER,
    mark,
    mentions_of,
    packed,
    part_of,
    parts_of,
    sequences_of,
    unpacked,
)
from authz.storage.sqlite.store import SqliteStore, open_store
from tests.support.audit_index_contract import START, entry

BLOCK = 1 << 16
NAMES = ["", "A", "B", "a", "A\x00", "\u00fc", "x" * 500, "Patient/A"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and volumes so small that a few entries fill many."""
    monkeypatch.setattr(audit_pages, "PAGE_ENTRIES", 4)
    monkeypatch.setattr(audit_pages, "VOLUME_PAGES", 3)


def some(random: random.Random, sequence: int, chain: str) -> AccessEntry:
    """An entry that shares patients, users, clients, grants and times with others."""
    return entry(
        sequence,
        chain=chain,
        at=START + random.choice((sequence % 500 // 8, sequence % 500 // 8, random.randrange(60))),
        base=random.choice(("", "https://a.example", "https://b.example")),
        patient=random.choice(NAMES),
        user=random.choice(NAMES),
        client=random.choice(NAMES),
        grant=random.choice(NAMES),
        outcome=random.choice(("permit", "deny")),
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
        since=random.choice((None, last.at, START + 10)),
        until=random.choice((None, last.at, START + 40)),
        about_patients=random.random() < 0.2,
        before=random.choice((None, Cursor.behind(last))),
        limit=random.choice((1, 2, 5, 1000)),
    )


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_found_by_mentions_is_what_a_walk_over_all_entries_finds(
    store: SqliteStore, small: None, seed: int
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
        there += page
        for _ in range(chance.choice((0, 1, 3, 9))):
            await store.tend_audit_index()
        if chance.random() < 0.1:
            await store.remove_audit_entries(before=START + ends["node-2"] // 16, at_most=5)
        if not there:
            continue
        for _ in range(5):
            wanted = asked(chance, there)
            assert await store.find_audit(wanted) == store._search(wanted), wanted
        user, since = chance.choice(there).user, START + chance.randrange(60)
        counted = await store.patients_per_window(user, since=since, until=since + 70, window=7)
        assert counted == walked(store, user, since, since + 70, 7)
    volumes = store._database.rows("SELECT COUNT(*) FROM audit_volume WHERE is_whole = 1")
    assert volumes[0][0] > 3


def walked(store: SqliteStore, user: str, since: int, until: int, window: int) -> dict[int, int]:
    """Patients of a user, window by window, reckoned from all entries."""
    seen = {
        ((until - 1 - each.at) // window, each.base, each.patient)
        for each in store._search(AuditQuery(since=since, until=until, outcome="permit", limit=10**6))
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
    monkeypatch.setattr("authz.storage.sqlite.audit_index._OFTEN", 10**6)
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
    assert other._database.rows("SELECT COUNT(*) FROM audit_volume WHERE is_whole = 0") == [(0,)]
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

    monkeypatch.setattr(audit_pages, "write_pages", dies)
    with pytest.raises(RuntimeError, match="killed"):
        await store.index_audit([entry(1)], chain="", read_to=1)
    monkeypatch.undo()
    assert store._search(AuditQuery()) == []
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
    for table in ("audit_entry", "audit_page", "audit_volume", "audit_volume_part"):
        assert store._database.rows(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
    assert await store.indexed_to("") == 59


async def test_a_store_from_before_keeps_its_entries_and_has_the_log_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "securus.db"
    known = migrations("sqlite")
    before = next(each.number for each in known if "audit_mentions" in each.name) - 1
    old = sqlite3.connect(path, isolation_level=None)
    migrate(old, known[:before])
    kept = ["", 7, START, "b", "A", "anna", "ehr", "g", "read", "permit", "r", "", "Observation"]
    old.execute(f"INSERT INTO audit_entry VALUES ({', '.join('?' * 13)})", kept)
    old.execute("INSERT INTO audit_place VALUES ('index', '', 7), ('signals', '', 5)")
    store = await open_store(path)
    assert await store.indexed_to("") == 0
    assert await store.signalled_to("") == 5
    assert [each.sequence for each in await store.find_audit(AuditQuery())] == [7]
    same = entry(7)._replace(at=START, base="other", patient="A", user="anna")
    await store.index_audit([same, same._replace(base="b")], chain="", read_to=7)
    found = await store.find_audit(AuditQuery(base="b", patients=["A"]))
    assert [(each.sequence, each.rule) for each in found] == [(7, "r")]  # as it was
    # A process of the program from before, whose follower goes on, adds nothing.
    with pytest.raises(sqlite3.IntegrityError, match="older than its store"):
        old.execute("INSERT INTO audit_place VALUES ('index', '', 8) ON CONFLICT DO NOTHING")
    old.close()
    await store.close()


# Numbers

FEW = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, BLOCK - 1)), max_size=40)


@given(st.lists(FEW, max_size=6))
def test_the_parts_of_a_volume_have_every_mention_of_its_pages_once(
    pages: list[list[tuple[str, int]]],
) -> None:
    numbers = [
        unpacked(packed(mentions_of([entry(place, patient=name) for name, place in page]))) for page in pages
    ]
    parts = [*parts_of(numbers, 0, 100), *parts_of(numbers, 100, PARTS)]
    assert [number for _, kept in parts for number in unpacked(kept)] == sorted(
        number for page in numbers for number in page
    )
    for part, kept in parts:
        assert {part_of(number) for number in unpacked(kept)} == {part}


@given(FEW, st.sampled_from(NAMES[1:]), st.integers(0, 1 << 30))
def test_the_records_that_name_somebody_are_found_and_nobody_elses(
    named: list[tuple[str, int]], who: str, block: int
) -> None:
    first = block * BLOCK
    mentions = unpacked(packed(mentions_of([entry(first + place, patient=name) for name, place in named])))
    expected = {first + place for name, place in named if name == who}
    assert sequences_of(mentions, [mark(PATIENT, who)], block) == expected


def test_a_patient_a_user_a_client_and_a_grant_of_one_name_are_four() -> None:
    assert len({mark(kind, "A") for kind in (PATIENT, USER, CLIENT, GRANT)}) == 4
