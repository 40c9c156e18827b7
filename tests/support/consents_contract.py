"""What every Store must do with consents: versions follow each other, and nothing that was written goes away."""

import asyncio
from dataclasses import replace

import pytest

from authz.storage.consents import ConsentVersion, NoRoomLeft, Room, Standing
from authz.storage.store import Store, StoreUnavailable

NOW = 1_800_000_000
BASE = "https://fhir.example/fhir/r4"
OPEN = ["draft", "proposed", "active"]
CONSENT = ConsentVersion(
    BASE, "c1", 1, "A", "active", '{"resourceType":"Consent","ü":1}'.encode(), NOW, "anna"
)


class ConsentsContract:
    """A test class for a store has these by StoreContract."""

    async def test_a_consent_has_its_versions_one_after_the_other(self, store: Store) -> None:
        assert await store.consent(BASE, "c1") is None
        assert not await store.add_consent(replace(CONSENT, version=2))
        assert not await store.add_consent(replace(CONSENT, version=0))
        assert await store.add_consent(CONSENT)
        assert not await store.add_consent(replace(CONSENT, status="inactive"))
        assert not await store.add_consent(replace(CONSENT, version=3))
        revoked = replace(CONSENT, version=2, status="inactive", recorded_at=NOW + 1, recorded_by="desk")
        assert await store.add_consent(revoked)
        assert await store.consent(BASE, "c1") == revoked
        assert await store.consent(BASE, "c1", 1) == CONSENT
        assert await store.consent(BASE, "c1", 3) is None
        assert list(await store.consent_history(BASE, "c1")) == [revoked, CONSENT]

    async def test_what_stands_is_counted_with_its_provisions(self, store: Store) -> None:
        for version in (
            replace(CONSENT, provisions=3),
            replace(CONSENT, id="c2", provisions=4, status="draft"),
            replace(CONSENT, id="c3", provisions=5),
            replace(CONSENT, id="c3", version=2, provisions=6, status="inactive"),
            replace(CONSENT, id="c4", provisions=7, patient="B"),
            replace(CONSENT, id="c5", provisions=8, base="https://other.example"),
        ):
            assert await store.add_consent(version)
        assert await store.consents_standing(BASE, "A", OPEN, beside="") == Standing(2, 7)
        assert await store.consents_standing(BASE, "A", OPEN, beside="c2") == Standing(1, 3)
        assert await store.consents_standing(BASE, "A", ["inactive"], beside="") == Standing(1, 6)
        assert await store.consents_standing(BASE, "A", [], beside="") == Standing(0, 0)
        assert await store.consent(BASE, "c3") == replace(
            CONSENT, id="c3", version=2, provisions=6, status="inactive"
        )

    async def test_provisions_that_nobody_counted_are_as_many_as_the_braces_of_the_text(
        self, store: Store
    ) -> None:
        text = '{"a":"ü{\\u007b","provision":{"provision":[{"x":1},{"x":2}]}}'.encode()
        uncounted = replace(CONSENT, resource=text)
        assert await store.add_consent(uncounted)
        assert await store.consents_standing(BASE, "A", OPEN, beside="") == Standing(1, 5)
        assert uncounted.most_provisions == 5

    async def test_a_consent_that_does_not_fit_is_not_written(self, store: Store) -> None:
        room = Room(frozenset(OPEN), 2, 10)
        assert await store.add_consent(replace(CONSENT, provisions=4), within=room)
        with pytest.raises(NoRoomLeft):
            await store.add_consent(replace(CONSENT, id="c2", provisions=7), within=room)
        assert await store.consent(BASE, "c2") is None
        assert await store.add_consent(replace(CONSENT, id="c2", provisions=6), within=room)
        with pytest.raises(NoRoomLeft):
            await store.add_consent(replace(CONSENT, id="c3", provisions=0), within=room)
        assert await store.add_consent(
            replace(CONSENT, id="c3", status="rejected"), within=room
        )  # it is over
        assert await store.add_consent(replace(CONSENT, id="c4", patient="B", provisions=0), within=room)
        assert await store.add_consent(
            replace(CONSENT, version=2, provisions=4), within=room
        )  # its own place
        assert not await store.add_consent(replace(CONSENT, version=2, provisions=4), within=room)
        number = await store.consent_number()
        ended = replace(CONSENT, version=3, status="inactive")
        assert not await store.add_consent(ended, within=room, at_number=number - 1)
        assert await store.add_consent(ended, within=room, at_number=number)
        no_bound = Room(frozenset(OPEN), 2, None)
        assert await store.add_consent(replace(CONSENT, id="c5", provisions=99), within=no_bound)

    async def test_of_many_who_write_at_the_same_moment_no_more_than_fit_are_written(
        self, store: Store
    ) -> None:
        async def write(number: int) -> bool:
            version = replace(CONSENT, id=f"c{number}", provisions=1)
            try:
                return await store.add_consent(version, within=Room(frozenset(OPEN), 5, 100))
            except NoRoomLeft:
                return False

        written = await asyncio.gather(*(write(number) for number in range(20)))
        assert written.count(True) == 5
        assert await store.consents_standing(BASE, "A", OPEN, beside="") == Standing(5, 5)

    async def test_of_many_writers_of_the_next_version_one_wins(self, store: Store) -> None:
        await store.add_consent(CONSENT)
        written = await asyncio.gather(
            *(store.add_consent(replace(CONSENT, version=2, recorded_by=f"p{n}")) for n in range(20))
        )
        assert written.count(True) == 1
        winner = f"p{written.index(True)}"
        assert [each.recorded_by for each in await store.consent_history(BASE, "c1")] == [winner, "anna"]

    async def test_a_consent_that_is_written_at_a_number_is_written_while_nobody_writes_another(
        self, store: Store
    ) -> None:
        at_first = await store.consent_number()
        assert await store.add_consent(CONSENT, at_number=at_first)
        assert not await store.add_consent(replace(CONSENT, id="c2"), at_number=at_first)
        then = await store.consent_number()
        assert then > at_first
        assert await store.add_consent(replace(CONSENT, id="c3", base="https://other.example"))
        assert not await store.add_consent(replace(CONSENT, id="c2"), at_number=then)
        assert await store.add_consent(replace(CONSENT, id="c2"), at_number=await store.consent_number())

    async def test_of_many_writers_at_one_number_one_wins(self, store: Store) -> None:
        number = await store.consent_number()
        written = await asyncio.gather(
            *(store.add_consent(replace(CONSENT, id=f"c{n}"), at_number=number) for n in range(20))
        )
        assert written.count(True) == 1
        assert len(await store.consents(BASE, after="", limit=9)) == 1

    async def test_what_was_written_between_two_numbers_is_told_in_order(self, store: Store) -> None:
        numbers = [await store.consent_number()]
        for version in (CONSENT, replace(CONSENT, version=2), replace(CONSENT, base="https://other.example")):
            await store.add_consent(version)
            numbers.append(await store.consent_number())
        assert len(set(numbers)) == 4
        first, _, third, last = numbers

        async def versions(after: int, to: int, limit: int = 9) -> list[int]:
            found = await store.consents_written(BASE, after=after, to=to, limit=limit)
            return [each.version for each in found]

        assert await versions(first, last) == [1, 2]
        assert await versions(first, last, limit=1) == [1]
        assert await versions(numbers[1], third) == [2]
        assert await versions(third, last) == []

    async def test_ids_are_those_of_one_base_and_told_apart_by_case(self, store: Store) -> None:
        for version in (CONSENT, replace(CONSENT, base="https://other.example"), replace(CONSENT, id="C1")):
            assert await store.add_consent(version)
        assert len(await store.consent_history(BASE, "c1")) == 1

    async def test_the_consents_of_patients_are_their_newest_versions_whatever_the_status(
        self, store: Store
    ) -> None:
        revoked = replace(CONSENT, version=2, status="inactive")
        others = [
            replace(CONSENT, id="b", patient="B"),
            replace(CONSENT, id="a", patient="a"),
            replace(CONSENT, id="a0"),
        ]
        for version in (CONSENT, revoked, *others, replace(CONSENT, base="https://other.example", id="x")):
            assert await store.add_consent(version)
        assert list(await store.consents_of(BASE, ["A", "B"])) == [others[2], others[0], revoked]
        assert list(await store.consents_of(BASE, ["a"])) == [others[1]]
        assert list(await store.consents_of(BASE, [])) == []
        assert list(await store.consents_of(BASE, ["A' OR '1'='1"])) == []

    async def test_the_consents_of_patients_that_have_a_status_now_are_told_by_themselves(
        self, store: Store
    ) -> None:
        revoked = replace(CONSENT, version=2, status="inactive")
        rejected = replace(CONSENT, id="r", status="rejected")
        standing = [replace(CONSENT, id="b", patient="B"), replace(CONSENT, id="a")]
        for version in (CONSENT, revoked, rejected, *standing):
            assert await store.add_consent(version)
        assert list(await store.consents_of(BASE, ["A", "B"], statuses=["active"])) == standing[::-1]
        over = ["inactive", "rejected"]
        assert list(await store.consents_of(BASE, ["A", "B"], statuses=over)) == [revoked, rejected]
        assert len(await store.consents_of(BASE, ["A", "B"], statuses=over, at_most=1)) == 1
        assert list(await store.consents_of(BASE, ["A", "B"], statuses=[])) == []
        assert list(await store.consents_of(BASE, [], statuses=over)) == []

    async def test_the_consents_of_a_patient_that_have_a_status_are_paged_by_their_ids(
        self, store: Store
    ) -> None:
        for id in ("c3", "c1", "C2", "c2"):
            await store.add_consent(replace(CONSENT, id=id))
            await store.add_consent(replace(CONSENT, id=id, version=2, status="inactive"))
        for other in (replace(CONSENT, id="c9"), replace(CONSENT, id="c8", status="inactive", patient="B")):
            await store.add_consent(other)
        pages = [await store.consents_in(BASE, "A", "inactive", after=after, limit=3) for after in ("", "c2")]
        assert [[(each.id, each.version) for each in page] for page in pages] == [
            [("C2", 2), ("c1", 2), ("c2", 2)],
            [("c3", 2)],
        ]

    async def test_the_consents_of_a_patient_are_paged_the_last_written_first(self, store: Store) -> None:
        """Those that are active apart from all others, whatever the status of these is; others' are not among them."""
        for id in ("c1", "c2", "c3", "c4"):
            assert await store.add_consent(replace(CONSENT, id=id))
        for id, status in (("c2", "inactive"), ("c1", "active"), ("c4", "no-such-status")):
            assert await store.add_consent(replace(CONSENT, id=id, version=2, status=status))
        for other in (replace(CONSENT, id="c8", patient="B"), replace(CONSENT, base="https://other.example")):
            assert await store.add_consent(other)

        async def page(
            before: int | None, limit: int = 9, *, is_active: bool = True
        ) -> list[tuple[int, str]]:
            found = await store.consents_newest_first(
                BASE, "A", is_active=is_active, before=before, limit=limit
            )
            assert all(each.version == (1 if each.id == "c3" else 2) for _, each in found)
            return [(number, each.id) for number, each in found]

        active, over = await page(None), await page(None, is_active=False)
        assert [id for _, id in active] == ["c1", "c3"]
        assert [id for _, id in over] == ["c4", "c2"]
        assert await page(None, limit=1) == active[:1]
        assert await page(active[0][0]) == active[1:]
        assert await page(over[0][0], is_active=False) == over[1:]
        assert await page(over[1][0], is_active=False) == []
        number = await store.consent_number()
        assert all(each < number for each, _ in (*active, *over))

    async def test_the_versions_of_a_consent_are_paged_the_newest_first(self, store: Store) -> None:
        for version in (1, 2, 3, 4):
            assert await store.add_consent(replace(CONSENT, version=version))

        async def versions(before: int | None = None, at_most: int | None = None) -> list[int]:
            found = await store.consent_history(BASE, "c1", before=before, at_most=at_most)
            return [each.version for each in found]

        assert await versions() == [4, 3, 2, 1]
        assert await versions(at_most=2) == [4, 3]
        assert await versions(before=3, at_most=1) == [2]
        assert await versions(before=1) == []

    async def test_consents_are_paged_by_their_ids(self, store: Store) -> None:
        for id in ("c3", "c1", "C2", "c2"):
            await store.add_consent(replace(CONSENT, id=id))
        await store.add_consent(replace(CONSENT, id="c1", version=2))
        pages = [await store.consents(BASE, after=after, limit=3) for after in ("", "c2")]
        assert [[(each.id, each.version) for each in page] for page in pages] == [
            [("C2", 1), ("c1", 2), ("c2", 1)],
            [("c3", 1)],
        ]

    async def test_a_consent_is_found_by_the_grant_that_was_given_with_it(self, store: Store) -> None:
        given = replace(CONSENT, grant_id="grant")
        for version in (given, replace(given, version=2, status="inactive"), replace(CONSENT, id="c2")):
            await store.add_consent(version)
        found = await store.consent_of_grant("grant")
        assert found is not None
        assert (found.id, found.version) == ("c1", 2)
        assert await store.consent_of_grant("other") is None

    async def test_housekeeping_leaves_consents_alone(self, store: Store) -> None:
        await store.add_consent(CONSENT)
        await store.remove_expired(now=NOW * 2, at_most=1000)
        assert await store.consent(BASE, "c1") == CONSENT

    async def test_a_closed_store_knows_no_consents(self, store: Store) -> None:
        await store.close()
        for call in (store.consent(BASE, "c1"), store.add_consent(CONSENT), store.consents_of(BASE, ["A"])):
            with pytest.raises(StoreUnavailable):
                await call
