"""What every Store must do with consents: versions follow each other, and nothing that was written goes away."""

import asyncio
from dataclasses import replace

import pytest

from authz.storage.consents import ConsentVersion
from authz.storage.store import Store, StoreUnavailable

NOW = 1_800_000_000
BASE = "https://fhir.example/fhir/r4"
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

    async def test_of_many_writers_of_the_next_version_one_wins(self, store: Store) -> None:
        await store.add_consent(CONSENT)
        written = await asyncio.gather(
            *(store.add_consent(replace(CONSENT, version=2, recorded_by=f"p{n}")) for n in range(20))
        )
        assert written.count(True) == 1
        winner = f"p{written.index(True)}"
        assert [each.recorded_by for each in await store.consent_history(BASE, "c1")] == [winner, "anna"]

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
