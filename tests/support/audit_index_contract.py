"""What every Store must do with the index of the audit log: a part of StoreContract."""

import asyncio
from dataclasses import replace

from authz.storage.audit_index import AccessEntry, AuditQuery, Cursor
from authz.storage.audit_signals import MOST_RECORDS, Signal
from authz.storage.effects import Notification
from authz.storage.store import Store

BASE = "https://fhir.example/fhir/r4"
START = 1_800_000_000_000
HOUR = 3_600_000


def entry(sequence: int, **changes: object) -> AccessEntry:
    """An entry of record sequence, a second after the one before it."""
    usual = AccessEntry(
        chain="",
        sequence=sequence,
        at=START + sequence * 1000,
        base=BASE,
        patient="A",
        user="anna",
        client="ehr",
        grant="grant-1",
        kind="read",
        outcome="permit",
        rule="ward/treating",
        purpose="TREAT",
        types="Observation",
    )
    return usual._replace(**changes)  # type: ignore[arg-type]


SIGNAL = Signal(
    id="signal",
    rule="vip-list",
    kind="vip",
    at=START,
    last_at=START + 5,
    base=BASE,
    patient="A",
    user="anna",
    client="ehr",
    words="anna saw Patient/A, who is on the list of rule vip-list",
    records=(("", 7), ("node-2", 8)),
    count=2,
    expires_at=START // 1000 + 86400,
)
NOW = START // 1000


class AuditIndexContract:
    """The tests of the index."""

    async def test_entries_and_the_place_of_their_chain_are_written_together(self, store: Store) -> None:
        assert await store.indexed_to("") == 0
        await store.index_audit([entry(1), entry(3)], chain="", read_to=4)
        assert await store.indexed_to("") == 4
        assert await store.indexed_to("other") == 0
        await store.index_audit([], chain="", read_to=9)
        assert await store.indexed_to("") == 9
        assert [each.sequence for each in await store.find_audit(AuditQuery())] == [3, 1]

    async def test_two_followers_that_read_the_same_lines_index_them_once_and_no_place_goes_back(
        self, store: Store
    ) -> None:
        await store.index_audit([entry(1), entry(2)], chain="", read_to=2)
        await store.index_audit([entry(1)], chain="", read_to=1)
        assert await store.indexed_to("") == 2
        assert len(await store.find_audit(AuditQuery())) == 2

    async def test_each_part_of_a_query_narrows_and_together_they_narrow_more(self, store: Store) -> None:
        entries = [
            entry(1),
            entry(2, patient="B"),
            entry(3, user="ben"),
            entry(4, client="portal"),
            entry(5, grant="grant-2"),
            entry(6, rule="ward/treating emergency/chart"),
            entry(7, kind="search"),
            entry(8, base="https://other.example/fhir"),
            entry(9, patient="", base="", kind="sign-in"),
            entry(10, outcome="deny", rule=""),
        ]
        await store.index_audit(entries, chain="", read_to=10)

        async def found(**wanted: object) -> list[int]:
            query = AuditQuery(**wanted)  # type: ignore[arg-type]
            return [each.sequence for each in await store.find_audit(query)]

        assert await found(base=BASE, patients=["A"]) == [10, 7, 6, 5, 4, 3, 1]
        assert await found(base=BASE, patients=["A", "B"], limit=2) == [10, 7]
        assert await found(base=BASE, patients=["a"]) == []  # ids are compared byte for byte
        assert await found(user="ben") == [3]
        assert await found(client="portal") == [4]
        assert await found(grant="grant-2") == [5]
        assert await found(rule="emergency/chart") == [6]
        assert await found(rule="ward/treatin_") == []  # no sign of a pattern
        assert await found(rule="%") == []
        assert await found(kinds=["search", "sign-in"]) == [9, 7]
        assert await found(outcome="deny") == [10]
        assert await found(since=START + 4000, until=START + 6000) == [5, 4]
        assert 9 not in await found(about_patients=True)
        assert await found(user="anna", client="portal", kinds=["read"]) == [4]
        assert await found(user="") == []  # nobody is nobody's name

    async def test_pages_follow_each_other_without_a_gap_also_within_one_record_and_across_chains(
        self, store: Store
    ) -> None:
        same = [entry(5, patient=each) for each in "ABC"]
        await store.index_audit([entry(4), *same, entry(6)], chain="", read_to=6)
        await store.index_audit([entry(5, chain="node-2")], chain="node-2", read_to=5)
        whole = await store.find_audit(AuditQuery())
        assert [(each.chain, each.sequence, each.patient) for each in whole] == [
            ("", 6, "A"), ("node-2", 5, "A"), ("", 5, "C"), ("", 5, "B"), ("", 5, "A"), ("", 4, "A"),
        ]  # fmt: skip
        paged: list[AccessEntry] = []
        before = None
        while page := await store.find_audit(AuditQuery(before=before, limit=1)):
            paged += page
            before = Cursor.behind(page[-1])
        assert paged == list(whole)

    async def test_the_entries_of_a_chain_come_in_its_order_each_record_whole(self, store: Store) -> None:
        await store.index_audit(
            [entry(2), *(entry(5, patient=each) for each in "ABC"), entry(9)], chain="", read_to=9
        )
        await store.index_audit([entry(3, chain="node-2")], chain="node-2", read_to=3)
        first = await store.audit_entries(chain="", after=0, limit=2)
        assert [(each.sequence, each.patient) for each in first] == [(2, "A"), (5, "A"), (5, "B"), (5, "C")]
        assert [each.sequence for each in await store.audit_entries(chain="", after=5, limit=2)] == [9]
        assert list(await store.audit_entries(chain="", after=9, limit=2)) == []

    async def test_the_last_use_of_grants_is_that_of_each_and_unused_ones_are_left_out(
        self, store: Store
    ) -> None:
        await store.index_audit(
            [entry(1), entry(2), entry(3, grant="g2"), entry(4, grant="")], chain="", read_to=4
        )
        assert await store.last_use(["grant-1", "g2", "g3", ""]) == {
            "grant-1": START + 2000,
            "g2": START + 3000,
        }
        assert await store.last_use([]) == {}

    async def test_patients_are_counted_once_a_window_and_refusals_not_at_all(self, store: Store) -> None:
        until = START + 3 * HOUR
        entries = [
            entry(1, at=until - 1, patient="A"),
            entry(2, at=until - 2, patient="A"),
            entry(3, at=until - 3, patient="B"),
            entry(4, at=until - 4, patient="B", base="https://other.example/fhir"),
            entry(5, at=until - 5, patient="C", outcome="deny"),
            entry(6, at=until - HOUR, patient="D"),
            entry(7, at=until - HOUR - 1, patient="E"),
            entry(8, at=until - 6, user="ben", patient="F"),
            entry(9, at=until, patient="G"),
        ]
        await store.index_audit(entries, chain="", read_to=9)
        counted = await store.patients_per_window("anna", since=START, until=until, window=HOUR)
        assert counted == {0: 4, 1: 1}

    async def test_old_entries_go_in_small_numbers_and_young_ones_stay(self, store: Store) -> None:
        await store.index_audit([entry(number) for number in range(1, 8)], chain="", read_to=7)
        before = START + 6000
        removed = []
        while gone := await store.remove_audit_entries(before=before, at_most=2):
            removed.append(gone)
        assert removed == [2, 2, 1]
        assert [each.sequence for each in await store.find_audit(AuditQuery())] == [7, 6]

    async def test_a_follower_that_was_put_back_reads_its_chains_anew(self, store: Store) -> None:
        await store.index_audit([entry(1)], chain="", read_to=5)
        await store.rewind_audit_index()
        assert await store.indexed_to("") == 0
        await store.index_audit([entry(1), entry(2)], chain="", read_to=2)
        assert [each.sequence for each in await store.find_audit(AuditQuery())] == [2, 1]

    # Signals

    async def test_signals_their_messages_and_the_place_of_who_looks_are_written_together_and_once(
        self, store: Store
    ) -> None:
        message = Notification("m1", "office", b"{}", due_at=NOW, expires_at=NOW + 60)
        await store.put_signals([SIGNAL], {"signal": [message]}, chain="", read_from=0, read_to=7)
        await store.put_signals(
            [SIGNAL], {"signal": [message]}, chain="", read_from=0, read_to=7
        )  # again, by another
        assert await store.signalled_to("") == 7
        assert await store.indexed_to("") == 0  # a place of its own
        assert list(await store.signals(only_open=True, limit=10, now=NOW)) == [SIGNAL]
        assert await store.signal("signal", now=NOW) == SIGNAL
        assert await store.signal("other", now=NOW) is None
        assert await store.waiting_notifications() == 1
        # Somebody else looked further from the same beginning: what was counted is not counted again.
        await store.put_signals([SIGNAL, replace(SIGNAL, id="more")], {}, chain="", read_from=0, read_to=9)
        assert list(await store.signals(only_open=True, limit=10, now=NOW)) == [SIGNAL]
        assert await store.signalled_to("") == 7

    async def test_a_signal_that_is_open_counts_on_and_tells_nobody_again(self, store: Store) -> None:
        message = Notification("m1", "office", b"{}", due_at=NOW, expires_at=NOW + 60)
        await store.put_signals([SIGNAL], {"signal": [message]}, chain="", read_from=0, read_to=7)
        later = replace(SIGNAL, count=3, last_at=START + 99, words="other words")
        again = Notification("m2", "office", b"{}", due_at=NOW, expires_at=NOW + 60)
        await store.put_signals([later], {"signal": [again]}, chain="", read_from=7, read_to=8)
        assert await store.signal("signal", now=NOW) == replace(SIGNAL, count=5, last_at=START + 99)
        assert await store.waiting_notifications() == 1

    async def test_a_signal_is_reviewed_once_and_is_closed_from_then_on(self, store: Store) -> None:
        await store.put_signals([SIGNAL], {}, chain="", read_from=0, read_to=7)
        assert await store.review_signal("signal", by="olga", review="asked: was on duty", now=NOW)
        assert not await store.review_signal("signal", by="otto", review="no", now=NOW)
        assert not await store.review_signal("other", by="otto", review="no", now=NOW)
        await store.put_signals([replace(SIGNAL, count=3)], {}, chain="", read_from=7, read_to=8)
        closed = replace(SIGNAL, reviewed_at=NOW, reviewed_by="olga", review="asked: was on duty")
        assert list(await store.signals(only_open=False, limit=10, now=NOW)) == [closed]
        assert list(await store.signals(only_open=True, limit=10, now=NOW)) == []

    async def test_signals_come_newest_first_name_some_records_and_go_when_they_expire(
        self, store: Store
    ) -> None:
        many = tuple(("", number) for number in range(100))
        old = replace(SIGNAL, id="old", at=START - 1, records=many, expires_at=NOW + 10)
        await store.put_signals([old, SIGNAL], {}, chain="", read_from=0, read_to=7)
        found = await store.signals(only_open=True, limit=10, now=NOW)
        assert [each.id for each in found] == ["signal", "old"]
        assert found[1].records == many[:MOST_RECORDS]
        assert [each.id for each in await store.signals(only_open=True, limit=10, now=NOW + 10)] == ["signal"]
        assert await store.remove_expired(now=NOW + 10, at_most=10) == 1

    async def test_signals_are_listed_from_a_moment_on(self, store: Store) -> None:
        found = [replace(SIGNAL, id=id, at=START + at) for id, at in (("c", 2), ("a", 2), ("b", 3), ("d", 1))]
        await store.put_signals(found, {}, chain="", read_from=0, read_to=7)

        async def listed(until: int | None, limit: int = 9) -> list[str]:
            return [e.id for e in await store.signals(only_open=True, limit=limit, now=NOW, until=until)]

        assert await listed(None) == ["b", "a", "c", "d"]
        assert await listed(START + 2) == ["a", "c", "d"]
        assert await listed(START + 2, 1) == ["a"]
        assert await listed(START) == []

    async def test_a_signal_is_noted_in_the_log_once(self, store: Store) -> None:
        await store.put_signals([SIGNAL], {}, chain="", read_from=0, read_to=7)
        assert list(await store.unnoted_signals(at_most=10)) == [SIGNAL]
        await store.note_signal("signal")
        assert list(await store.unnoted_signals(at_most=10)) == []

    async def test_a_walk_finds_each_entry_once_while_others_add_to_sheets_that_it_passes(
        self, store: Store
    ) -> None:
        """What comes one by one goes into the newest sheet of its chain, which so moves to where the walk was already.

        Others have their turn while it walks: what it finds is what there was at one moment.
        """
        late = [entry(n, chain="late", at=START + n, patient="late") for n in (1, 2, 3)]
        await store.index_audit(late, chain="late", read_to=3)
        many = [entry(n, at=START + 100_000 + n, patient=f"p{n % 50}") for n in range(1, 8001)]
        for start in range(0, len(many), 400):
            await store.index_audit(many[start : start + 400], chain="", read_to=start + 400)
        turns = 0

        async def others() -> None:
            nonlocal turns
            number = 4
            while True:
                turns += 1
                if number < 20:
                    newer = entry(number, chain="late", at=START + number, patient="newer")
                    await store.index_audit([newer], chain="late", read_to=number)
                    number += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        found = await store.find_audit(AuditQuery(until=START + 1_000_000, outcome="permit", limit=10_000))
        by_chain = await store.find_audit(AuditQuery(base=BASE, patients=["late"], limit=100))
        task.cancel()
        assert turns  # with a store on a server one may be all: it adds its entry over the wire
        kept = [each for each in found if each.patient != "newer"]
        assert kept == [*reversed(many), *reversed(late)]
        assert by_chain == [*reversed(late)]
