"""The audit log: what a line holds, when it is durable, several writers on one chain, and every kind of forgery."""

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest

from authz.events import Event, KeyChanged, ProofChecked
from authz.protocol.encoding import base64url, strict_json
from authz.storage.audit_lines import AuditLine
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import AuditConflict, StoreUnavailable
from gateway.audit import log as audit
from gateway.audit import verification
from gateway.audit.lines import linked
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.audit.verification import Verification, verify

NOW = 1_800_000_000.0625
AT = "2027-01-15T08:00:00.062Z"
KEY_EVENT = KeyChanged("kid", "active")


class Ledger:
    """A store whose disk can fail, which counts the appends that reached it. Everything else is the real store's."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.works = True
        self.appends: list[int] = []
        self.gate: asyncio.Event | None = None
        self.audit_head = store.audit_head
        self.last_audit = store.last_audit
        self.audit = store.audit
        self.extend_audit = store.extend_audit
        self.chains = store.chains
        self.tree_heads = store.tree_heads
        self.stubs = store.stubs

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if not self.works:
            raise StoreUnavailable("disk is full")
        await self._store.append_audit(lines)
        self.appends.append(len(lines))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    store = await open_store(path)
    yield Ledger(store)
    await store.close()


@pytest.fixture
async def log(ledger: Ledger) -> AuditLog:
    return await AuditLog.open(ledger, lambda: NOW)  # type: ignore[arg-type]


async def lines(ledger: Ledger) -> list[dict[str, object]]:
    found = []
    for line in await ledger.audit(after=0, limit=10_000):
        value = strict_json(line.line)  # duplicate members are refused
        assert isinstance(value, dict)
        found.append(value)
    return found


# What a line holds


async def test_a_line_is_the_record_between_its_place_and_the_link_to_the_line_before(
    log: AuditLog, ledger: Ledger
) -> None:
    await log.record({"event": "access", "decision": "permit", "caller": {"subject": "ü", "client": "x"}})
    await log.record({"event": "access"})
    first, second = await ledger.audit(after=0, limit=10)
    start = sha256(b"securus audit log").digest()
    assert first.line.decode() == (
        '{"seq":1,"at":"'
        + AT
        + '","caller":{"client":"x","subject":"ü"},"decision":"permit","event":"access",'
        '"previous":"' + base64url(start) + '"}'
    )
    assert first.digest == sha256(start + first.line).digest()
    assert second.digest == sha256(first.digest + second.line).digest()
    assert strict_json(second.line) == {
        "seq": 2,
        "at": AT,
        "event": "access",
        "previous": base64url(first.digest),
    }


async def test_a_record_without_members_is_a_line_all_the_same(log: AuditLog, ledger: Ledger) -> None:
    await log.record({})
    assert [line.keys() for line in await lines(ledger)] == [{"seq", "at", "previous"}]


@pytest.mark.parametrize(
    "text", ['"}\n{"seq":9', "\x00\x1f\x7f", "\ud800 alone", "a\u2028b", "😀", "%s%d%b", "\\", "é" * 1000]
)
async def test_hostile_text_stays_inside_its_member(log: AuditLog, ledger: Ledger, text: str) -> None:
    await log.record({"event": "access", "peer": text})
    [line] = await ledger.audit(after=0, limit=10)
    assert b"\n" not in line.line
    assert json.loads(line.line)["peer"] == text.replace("\ud800", "?")
    assert await verify(ledger) == Verification(True, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["seq", "at", "previous"])
async def test_a_record_cannot_speak_for_the_log(log: AuditLog, ledger: Ledger, name: str) -> None:
    with pytest.raises(AuditUnavailable, match="may not have members named at, previous, seq"):
        await log.record({"event": "access", name: "x"})
    assert await lines(ledger) == []


@pytest.mark.parametrize("value", [object(), {1: "a", "b": 2}, {"\ud800": float("nan")}])
async def test_what_is_not_json_is_refused_and_harms_no_other_record(
    log: AuditLog, ledger: Ledger, value: object
) -> None:
    with pytest.raises(AuditUnavailable, match="the record is not JSON"):
        await log.record({"event": "access", "value": value})
    await log.record({"event": "access"})
    assert len(await lines(ledger)) == 1


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000, "2027-01-15T08:00:00.000Z"),
        (1_800_000_000.9996, "2027-01-15T08:00:00.999Z"),
        (951_782_399.5, "2000-02-28T23:59:59.500Z"),
    ],
)
async def test_times_are_rfc_3339_in_utc_with_milliseconds(ledger: Ledger, now: float, text: str) -> None:
    log = await AuditLog.open(ledger, lambda: now)  # type: ignore[arg-type]
    await log.record({"event": "access"})
    assert (await lines(ledger))[0]["at"] == text


async def test_every_event_but_proof_checks_clocks_and_refused_pages_becomes_a_record(
    log: AuditLog, ledger: Ledger
) -> None:
    values = {"scope": ("a", "b"), "grant_id": None}
    for kind in get_args(Event):
        log.note(kind(**{name: values.get(name, f"the {name}") for name in kind.__slots__}))
    await log.settled()
    recorded = {line["event"]: line for line in await lines(ledger)}
    assert len(recorded) == len(get_args(Event)) - 3
    assert recorded["consent"] == {
        "seq": recorded["consent"]["seq"],
        "at": AT,
        "event": "consent",
        "outcome": "the outcome",
        "subject": "the subject",
        "client_id": "the client_id",
        "patient": "the patient",
        "relationship": "the relationship",
        "scope": ["a", "b"],
        "grant_id": None,
        "previous": recorded["consent"]["previous"],
    }


# When it is durable


async def test_records_of_one_turn_share_one_commit_and_keep_their_order(
    log: AuditLog, ledger: Ledger
) -> None:
    await asyncio.gather(*(log.record({"event": "access", "n": n}) for n in range(100)))
    assert ledger.appends == [100]
    assert [line["n"] for line in await lines(ledger)] == list(range(100))


async def test_a_crowd_is_written_in_batches(log: AuditLog, ledger: Ledger) -> None:
    await asyncio.gather(*(log.record({"event": "access", "n": n}) for n in range(600)))
    assert ledger.appends == [250, 250, 100]
    assert await verify(ledger) == Verification(True, 600)  # type: ignore[arg-type]


async def test_record_returns_after_the_commit_and_not_before(log: AuditLog, ledger: Ledger) -> None:
    ledger.gate = asyncio.Event()
    writing = asyncio.create_task(log.record({"event": "access"}))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not writing.done()
    ledger.gate.set()
    await writing
    assert len(await lines(ledger)) == 1


async def test_a_record_that_cannot_be_written_is_refused_to_everybody_who_waits(
    log: AuditLog, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.works = False
    results = await asyncio.gather(*(log.record({"n": n}) for n in range(300)), return_exceptions=True)
    assert [type(result) for result in results] == [AuditUnavailable] * 300
    said = [(record.message, vars(record)["cause"]) for record in caplog.records]
    assert said == [("the audit log cannot be written", "disk is full")]  # once, whoever waits
    ledger.works = True
    await log.record({"n": "after"})
    assert [line["n"] for line in await lines(ledger)] == ["after"]
    assert await verify(ledger) == Verification(True, 1)  # type: ignore[arg-type]


async def test_notes_wait_until_the_store_answers_and_keep_their_place(log: AuditLog, ledger: Ledger) -> None:
    ledger.works = False
    log.note(KeyChanged("one", "active"))
    for _ in range(3):
        with pytest.raises(AuditUnavailable, match="disk is full"):
            await log.settled()
    log.note(KeyChanged("two", "active"))
    with pytest.raises(AuditUnavailable):
        await log.record({"event": "access"})
    ledger.works = True
    await log.settled()
    assert [line["kid"] for line in await lines(ledger)] == ["one", "two"]


async def test_the_operator_is_told_why_a_record_cannot_be_written(
    log: AuditLog, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.works = False
    with pytest.raises(AuditUnavailable):
        await log.record({"event": "access", "patient": "Patient/A"})
    (line,) = [record for record in caplog.records if record.name == "securus.audit"]
    assert (line.getMessage(), line.levelname) == ("the audit log cannot be written", "ERROR")
    assert vars(line)["cause"] == "disk is full"


async def test_settled_fails_for_each_caller_whose_note_is_not_durable(log: AuditLog, ledger: Ledger) -> None:
    """The failure that one request saw must not make the next one think that all is well."""
    ledger.works = False
    log.note(KeyChanged("one", "active"))
    log.note(KeyChanged("two", "active"))
    results = await asyncio.gather(log.settled(), log.settled(), return_exceptions=True)
    assert [type(result) for result in results] == [AuditUnavailable] * 2


async def test_settled_costs_nothing_when_nothing_was_noted(log: AuditLog, ledger: Ledger) -> None:
    ledger.works = False
    log.note(ProofChecked("accepted", "portal"))
    await log.settled()
    assert ledger.appends == []


async def test_a_caller_who_gave_up_leaves_the_others_unharmed(log: AuditLog, ledger: Ledger) -> None:
    ledger.gate = asyncio.Event()
    waiting = [asyncio.create_task(log.record({"n": n})) for n in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    ledger.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]
    assert [line["n"] for line in await lines(ledger)] == [0, 1, 2]


async def test_when_the_writer_is_cancelled_nobody_waits_for_ever(log: AuditLog, ledger: Ledger) -> None:
    ledger.gate = asyncio.Event()
    log.note(KEY_EVENT)
    waiting = asyncio.create_task(log.record({"event": "access"}))
    await asyncio.sleep(0)
    assert log._writer is not None
    log._writer.cancel()
    with pytest.raises(AuditUnavailable):
        await asyncio.wait_for(waiting, 5)
    ledger.gate.set()
    await log.close()  # the note was kept
    assert [line["event"] for line in await lines(ledger)] == ["key-changed"]


async def test_a_mistake_in_the_store_refuses_those_who_wait(
    log: AuditLog, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(lines: Sequence[AuditLine]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ledger, "append_audit", broken)
    with pytest.raises(AuditUnavailable) as refused:
        await asyncio.wait_for(log.record({"event": "access"}), 5)
    assert isinstance(refused.value.__cause__, ZeroDivisionError)


async def test_a_full_queue_refuses_records_and_tells_of_lost_events(
    log: AuditLog, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_MAX_WAITING", 3)
    ledger.works = False
    for number in range(5):
        log.note(KeyChanged(str(number), "active"))
    with pytest.raises(AuditUnavailable, match="3 records wait"):
        await log.record({"event": "access"})
    with pytest.raises(AuditUnavailable, match="2 events"):
        await log.settled()
    ledger.works = True
    with pytest.raises(AuditUnavailable):  # whose event was lost learns it, even now that the store answers
        await log.settled()
    await asyncio.sleep(0)
    await log.settled()
    found = await lines(ledger)
    assert [line.get("kid") for line in found] == ["0", "1", "2", None]
    assert found[3]["event"] == "events-lost"
    assert found[3]["count"] == 2
    await log.record({"event": "access"})


# Several writers, and beginning again


async def test_the_chain_goes_on_after_opening_again(log: AuditLog, ledger: Ledger) -> None:
    await log.record({"n": 1})
    again = await AuditLog.open(ledger, lambda: NOW)  # type: ignore[arg-type]
    await again.record({"n": 2})
    assert await verify(ledger) == Verification(True, 2)  # type: ignore[arg-type]


async def test_workers_that_share_the_file_write_one_chain(path: Path, log: AuditLog, ledger: Ledger) -> None:
    stores = [await open_store(path) for _ in range(3)]
    logs = [log, *[await AuditLog.open(store, lambda: NOW) for store in stores]]
    for _ in range(10):
        await asyncio.gather(*(one.record({"worker": number}) for number, one in enumerate(logs)))
    assert await verify(ledger) == Verification(True, 40)  # type: ignore[arg-type]
    workers = [line["worker"] for line in await lines(ledger)]
    assert {worker: workers.count(worker) for worker in range(4)} == dict.fromkeys(range(4), 10)
    for store in stores:
        await store.close()


async def test_workers_that_share_the_file_do_not_write_in_vain_each_time(
    path: Path, log: AuditLog, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []
    append = ledger.append_audit

    async def watched(lines: Sequence[AuditLine]) -> None:
        tried.append(False)
        await append(lines)
        tried[-1] = True

    monkeypatch.setattr(ledger, "append_audit", watched)
    store = await open_store(path)
    other = await AuditLog.open(store, lambda: NOW)
    for number in range(10):
        await log.record({"n": number})
        await other.record({"n": number})
    assert tried.count(False) == 1, "the second record found that another process writes as well"
    for number in range(10, 20):  # the other one is silent from now on
        await log.record({"n": number})
    assert tried.count(False) == 1
    assert tried.count(True) >= 9
    assert await verify(ledger) == Verification(True, 30)  # type: ignore[arg-type]
    await store.close()


# Verification


def _damage(path: Path, *sql: str) -> None:
    """Change the file as somebody would who has it and knows SQLite."""
    outside = sqlite3.connect(path, isolation_level=None)
    for (name,) in outside.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        outside.execute(f"DROP TRIGGER {name}")
    for statement in sql:
        outside.execute(statement)
    outside.close()


async def _filled(log: AuditLog, count: int = 10) -> None:
    for number in range(count):
        await log.record({"event": "access", "n": number})


async def test_an_empty_log_is_whole(ledger: Ledger) -> None:
    assert await verify(ledger) == Verification(True, 0)  # type: ignore[arg-type]


_SWAP = (
    "UPDATE audit SET sequence = -4 WHERE sequence = 4",
    "UPDATE audit SET sequence = 4 WHERE sequence = 5",
    "UPDATE audit SET sequence = 5 WHERE sequence = -4",
)


@pytest.mark.parametrize(
    ("sql", "records", "broken_at", "why"),
    [
        (("DELETE FROM audit WHERE sequence = 1",), 0, 1, "record 1 is missing"),
        (("DELETE FROM audit WHERE sequence = 5",), 4, 5, "record 5 is missing: record 6 comes next"),
        (("DELETE FROM audit WHERE sequence BETWEEN 4 AND 6",), 3, 4, "record 4 is missing: record 7"),
        (("DELETE FROM audit WHERE sequence = 10",), 9, 10, "record 10 is missing: the log ends at 9"),
        (("DELETE FROM audit",), 0, 1, "record 1 is missing: the log ends at 0, its head says 10"),
        (_SWAP, 3, 4, "record 5 stands in the place of record 4"),
        (
            ("UPDATE audit SET line = replace(CAST(line AS TEXT), '\"n\":4', '\"n\":5') WHERE sequence = 5",),
            4,
            5,
            "record 5 was changed: its digest does not fit",
        ),
        (("UPDATE audit SET digest = zeroblob(32) WHERE sequence = 5",), 4, 5, "record 5 was changed"),
        (("UPDATE audit SET previous = zeroblob(32) WHERE sequence = 5",), 4, 5, "record 5 does not follow"),
        (
            ("UPDATE audit SET line = x'ff' WHERE sequence = 5",),
            4,
            5,
            "record 5 was changed: it cannot be read",
        ),
        (("UPDATE audit SET line = x'7b7d' WHERE sequence = 5",), 4, 5, "record 5 was changed"),
        (
            ("UPDATE audit SET line = (SELECT line FROM audit WHERE sequence = 5) WHERE sequence = 6",),
            5,
            6,
            "record 5 stands in the place of record 6",
        ),
        (("DELETE FROM audit_head",), 0, 1, "record 1 is not known to the head"),
        (("UPDATE audit_head SET sequence = 9",), 8, 9, "record 9 is not the one that the head"),
        (("UPDATE audit_head SET sequence = 11",), 10, 11, "record 11 is missing: the log ends at 10"),
        (("UPDATE audit_head SET digest = zeroblob(32)",), 9, 10, "record 10 is not the one that the head"),
    ],
)
async def test_verify_names_the_first_broken_record(
    path: Path, log: AuditLog, ledger: Ledger, sql: tuple[str, ...], records: int, broken_at: int, why: str
) -> None:
    await _filled(log)
    assert await verify(ledger) == Verification(True, 10)  # type: ignore[arg-type]
    _damage(
        path, "UPDATE audit SET line = CAST(line AS BLOB)", *sql, "UPDATE audit SET line = CAST(line AS BLOB)"
    )
    found = await verify(ledger)  # type: ignore[arg-type]
    assert (found.whole, found.records, found.broken_at) == (False, records, broken_at)
    assert why in found.why


async def test_a_record_forged_with_its_own_digest_is_found_at_the_next_one(
    path: Path, log: AuditLog, ledger: Ledger
) -> None:
    await _filled(log)
    [fourth, fifth] = await ledger.audit(after=3, limit=2)
    line = fifth.line.replace(b'"n":4', b'"n":5')
    digest = sha256(fourth.digest + line).digest()
    _damage(path, f"UPDATE audit SET line = x'{line.hex()}', digest = x'{digest.hex()}' WHERE sequence = 5")
    found = await verify(ledger)  # type: ignore[arg-type]
    assert found.broken_at == 6
    assert "one of the two was changed" in found.why


async def test_a_line_appended_beside_the_log_is_found(path: Path, log: AuditLog, ledger: Ledger) -> None:
    await _filled(log)
    last = await ledger.last_audit()
    assert last is not None
    [forged] = linked([(b"2027", b"")], last.sequence, last.digest, "")
    _damage(
        path,
        f"INSERT INTO audit VALUES ('', 11, x'{forged.previous.hex()}', x'{forged.digest.hex()}', x'{forged.line.hex()}')",
    )
    found = await verify(ledger)  # type: ignore[arg-type]
    assert (found.whole, found.broken_at) == (False, 11)
    with pytest.raises(StoreUnavailable, match="ends at record 11, its head says 10"):
        await AuditLog.open(ledger, lambda: NOW)  # type: ignore[arg-type]


async def test_what_was_cut_off_stays_missing_when_the_log_goes_on(
    path: Path, log: AuditLog, ledger: Ledger
) -> None:
    """A restart after the theft must not heal the chain."""
    await _filled(log)
    _damage(path, "DELETE FROM audit WHERE sequence > 7")
    again = await AuditLog.open(ledger, lambda: NOW)  # type: ignore[arg-type]
    await again.record({"event": "access"})
    found = await verify(ledger)  # type: ignore[arg-type]
    assert (found.records, found.broken_at) == (7, 8)


async def test_a_log_whose_head_was_taken_is_not_continued(path: Path, log: AuditLog, ledger: Ledger) -> None:
    await _filled(log)
    _damage(path, "DELETE FROM audit_head", "DELETE FROM audit WHERE sequence > 7")
    with pytest.raises(StoreUnavailable, match="ends at record 7, its head says 0"):
        await AuditLog.open(ledger, lambda: NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", [1, 3, 10, 11])
async def test_verify_walks_in_pages_of_any_size(
    log: AuditLog, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    await _filled(log)
    monkeypatch.setattr(verification, "_PAGE_LINES", page)
    assert await verify(ledger) == Verification(True, 10)  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", ["before the walk", "during the walk", "after the walk"])
async def test_a_log_that_grows_while_it_is_verified_is_whole(
    log: AuditLog, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    await _filled(log)
    read_head, read_page = ledger.audit_head, ledger.audit
    heads = 0

    async def audit_head(chain: str = "") -> tuple[int, bytes] | None:
        nonlocal heads
        heads += 1
        head = await read_head(chain)
        if moment == "before the walk" and heads == 1:
            await log.record({"late": True})
        return head

    async def page(*, after: int, limit: int, chain: str = "") -> Sequence[AuditLine]:
        found = await read_page(after=after, limit=limit, chain=chain)
        if moment == "during the walk" and after == 4:
            await log.record({"late": True})
        if moment == "after the walk" and not found and heads == 1:
            await log.record({"late": True})
        return found

    monkeypatch.setattr(verification, "_PAGE_LINES", 4)
    monkeypatch.setattr(ledger, "audit_head", audit_head)
    monkeypatch.setattr(ledger, "audit", page)
    assert (await verify(ledger)).whole  # type: ignore[arg-type]
    assert len(await read_page(after=0, limit=100)) == 11


def test_no_event_has_a_field_that_is_the_logs_own() -> None:
    for kind in get_args(Event):
        assert audit._OURS.isdisjoint(kind.__slots__)


# An append of which nobody knows whether it was committed


class Unsure(Ledger):
    """A store that commits, or does not, and says neither."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self.script: list[str] = []  # for each append: 'committed' or 'lost' and then no answer; fine without
        self.late: list[AuditLine] = []
        self.extend_audit = self._extend  # type: ignore[method-assign, assignment]

    async def append_audit(self, lines: Sequence[AuditLine]) -> None:
        said = self.script.pop(0) if self.script else "fine"
        if said == "late":  # the server is still at it, and will commit when nobody listens any more
            self.late = list(lines)
        elif said != "lost":
            await self._store.append_audit(lines)
        if said != "fine":
            raise StoreUnavailable("no answer")

    async def _extend(self, link: object, *, chain: str = "") -> None:
        said = self.script.pop(0) if self.script else "fine"
        if said != "lost":
            await self._store.extend_audit(link, chain=chain)  # type: ignore[arg-type]
        if said != "fine":
            raise StoreUnavailable("no answer")

    async def arrive(self) -> None:
        """What was on its way is committed now, where it still follows the newest line."""
        with suppress(AuditConflict):
            await self._store.append_audit(self.late)


@pytest.fixture
async def unsure(path: Path) -> AsyncIterator[Unsure]:
    store = await open_store(path)
    yield Unsure(store)
    await store.close()


async def kids(store: SqliteStore | Unsure) -> list[object]:
    found = [json.loads(line.line) for line in await store.audit(after=0, limit=1000)]
    return [each.get("kid", each["event"]) for each in found]


@pytest.mark.parametrize("outcomes", [["committed"], ["lost"], ["committed", "lost"], ["lost", "committed"]])
async def test_a_note_in_doubt_is_written_once(unsure: Unsure, outcomes: list[str]) -> None:
    log = await AuditLog.open(unsure, lambda: NOW)  # type: ignore[arg-type]
    unsure.script = list(outcomes)
    log.note(KeyChanged("one", "active"))
    for _ in outcomes:
        try:
            await log.settled()
        except AuditUnavailable:
            log.note(KeyChanged(f"more {len(unsure.script)}", "active"))
    await log.settled()
    found = await kids(unsure)
    assert len(found) == len(set(found)), found
    assert found[0] == "one"
    assert (await verify(unsure)).whole  # type: ignore[arg-type]


@pytest.mark.parametrize("arrives", ["before the next", "after the next", "never"])
async def test_an_append_that_arrives_late_is_found_or_comes_to_nothing(unsure: Unsure, arrives: str) -> None:
    log = await AuditLog.open(unsure, lambda: NOW)  # type: ignore[arg-type]
    unsure.script = ["late"]
    log.note(KeyChanged("one", "active"))
    with pytest.raises(AuditUnavailable):
        await log.settled()
    if arrives == "before the next":
        await unsure.arrive()
    log.note(KeyChanged("two", "active"))
    await log.settled()
    if arrives == "after the next":
        await unsure.arrive()
    assert await kids(unsure) == ["one", "two"]
    assert (await verify(unsure)).whole  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_the_store_says_no_note_is_lost_and_none_is_there_twice(
    unsure: Unsure, path: Path, seed: int
) -> None:
    """Another process writes to the same chain meanwhile."""
    chance = random.Random(seed)
    other_store = await open_store(path)
    other = await AuditLog.open(other_store, lambda: NOW)
    log = await AuditLog.open(unsure, lambda: NOW)  # type: ignore[arg-type]
    for number in range(40):
        unsure.script = [chance.choice(["fine", "fine", "committed", "lost", "late"])]
        log.note(KeyChanged(f"{number}", "active"))
        try:
            await log.settled()
        except AuditUnavailable:
            if chance.random() < 0.5:
                await unsure.arrive()
        if chance.random() < 0.3:
            await other.record({"event": f"other {number}"})
        if chance.random() < 0.3:
            await unsure.arrive()
    unsure.script = []
    await log.settled()
    found = [each for each in await kids(unsure) if not str(each).startswith("other")]
    assert found == [str(number) for number in range(40)]
    assert (await verify(unsure)).whole  # type: ignore[arg-type]
    await other_store.close()


async def test_records_that_a_failover_lost_are_named_by_the_next(
    ledger: Ledger, log: AuditLog, path: Path
) -> None:
    await _filled(log)
    lines_before = await ledger.audit(after=0, limit=99)
    digest = lines_before[6].digest.hex()
    _damage(
        path,
        "DELETE FROM audit WHERE sequence > 7",
        f"UPDATE audit_head SET sequence = 7, digest = x'{digest}'",
    )
    await log.record({"event": "access"})
    said = [json.loads(line.line) for line in await ledger.audit(after=7, limit=99)]
    assert [(each["event"], each.get("first"), each.get("last")) for each in said] == [
        ("records-lost", 8, 10),
        ("access", None, None),
    ]
    assert (await verify(ledger)).whole  # type: ignore[arg-type]
