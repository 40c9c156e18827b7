"""Consents of another store, brought in: once and again, with their origin, and never over what was changed here."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.consent_service.importing import Imported, bring_in, origin_of
from gateway.consent_service.room import MOST_CONSENTS, MOST_PROVISIONS
from gateway.consent_service.versions import next_version
from tests.support.consent_desk import consent

BASE = "https://fhir.example/fhir/r4"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


def theirs(id_: str, version: str = "1", patient: str = "A", **more: Any) -> dict[str, Any]:
    return consent(patient, **more) | {"id": id_, "meta": {"versionId": version, "source": "urn:paper#7"}}


async def imported(
    store: SqliteStore, *found: dict[str, Any], writes: bool = True, now: int = 100
) -> Imported:
    async def is_there(patient: str) -> bool:
        return patient in ("A", "B")

    return await bring_in(
        found, name="fhir", base=BASE, store=store, is_there=is_there, now=now, writes=writes
    )


async def test_a_consent_keeps_its_id_and_says_where_it_came_from(store: SqliteStore) -> None:
    done = await imported(store, theirs("c1", "7"))
    assert done == Imported(added=["c1"])
    version = await store.consent(BASE, "c1")
    assert version is not None
    assert (version.version, version.recorded_by, version.patient, version.status) == (
        1,
        "import",
        "A",
        "active",
    )
    assert origin_of(version) == "fhir/Consent/c1/_history/7"
    value = json.loads(version.resource)
    assert value["meta"] == {
        "versionId": "1",
        "lastUpdated": "1970-01-01T00:01:40Z",
        "source": "urn:paper#7",
    }
    assert value["provision"] == consent()["provision"]


async def test_again_only_what_changed_there_becomes_a_new_version(store: SqliteStore) -> None:
    await imported(store, theirs("c1"), theirs("c2"))
    done = await imported(store, theirs("c1"), theirs("c2", "2", status="inactive"), theirs("c3"))
    assert done == Imported(added=["c3"], renewed=["c2"], unchanged=["c1"])
    assert [each.status for each in await store.consent_history(BASE, "c2")] == ["inactive", "active"]


async def test_what_was_changed_here_is_not_written_over(store: SqliteStore) -> None:
    await imported(store, theirs("c1"))
    before = await store.consent(BASE, "c1")
    assert before is not None
    revoked = json.loads(before.resource) | {"status": "inactive"}
    await store.add_consent(next_version(revoked, before, base=BASE, id="c1", now=200, by="desk"))
    assert await imported(store, theirs("c1", "2")) == Imported(changed_here=["c1"])
    newest = await store.consent(BASE, "c1")
    assert newest is not None
    assert (newest.version, newest.status) == (2, "inactive")


async def test_what_cannot_be_kept_is_told_and_left(store: SqliteStore) -> None:
    nameless = {name: inner for name, inner in theirs("c2").items() if name != "scope"}
    done = await imported(
        store,
        theirs("c1", patient="nobody"),
        nameless,
        theirs("c3") | {"Scope": 1},
        theirs("../c4"),
        {"resourceType": "Patient", "id": "A"},
        theirs("c5"),
    )
    assert done.added == ["c5"]
    assert done.refused.keys() == {"c1", "c2", "c3"}
    assert "not a patient of this base" in done.refused["c1"]
    assert "Consent.scope is missing" in done.refused["c2"]
    moved = await imported(store, theirs("c5", "2", patient="B"))
    assert moved.refused.keys() == {"c5"}


async def test_a_rehearsal_writes_nothing(store: SqliteStore) -> None:
    assert await imported(store, theirs("c1"), writes=False) == Imported(added=["c1"])
    assert await store.consents(BASE, after="", limit=9) == []


@pytest.mark.parametrize("writes", [True, False])
async def test_an_import_holds_to_the_bound_of_consents_that_everybody_holds_to(
    store: SqliteStore, writes: bool
) -> None:
    over = [theirs(f"o{number}", status="inactive") for number in range(30)]
    many = [theirs(f"c{number:03}") for number in range(MOST_CONSENTS + 2)]
    done = await imported(store, *over, *many, theirs("b", patient="B"), writes=writes)
    assert len(done.added) == 30 + MOST_CONSENTS + 1
    assert done.refused.keys() == {"c200", "c201"}
    assert f"has {MOST_CONSENTS} consents" in done.refused["c200"]


async def test_an_import_holds_to_the_bound_of_provisions(store: SqliteStore) -> None:
    inner = [{"type": "deny"}] * (MOST_PROVISIONS - 2)
    big = theirs("big", provision={"type": "permit", "provision": inner})
    done = await imported(store, big, theirs("small"), theirs("one-more"))
    assert (done.added, list(done.refused)) == (["big", "small"], ["one-more"])
