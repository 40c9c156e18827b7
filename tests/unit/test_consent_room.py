"""Whether a patient has room for a consent: by the count of the store as by reading them all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.storage.consents import ConsentVersion
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.consent_service import room
from gateway.consent_service.grants import standing
from gateway.consent_service.room import MOST_CONSENTS, add_within, check_room, room_for
from gateway.consent_service.rules import STATUSES, provisions_of
from gateway.consent_service.versions import version_as_told
from gateway.fhir.outcome import FhirError

BASE, NOW = "https://fhir.example/fhir/r4", 1_800_000_000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["{", "}", "\u007b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["provision", "type", "{", "extension"]), inner, max_size=3)
    ),
    max_leaves=20,
)


def consent(provisions: int, status: str = "active") -> dict[str, Any]:
    """A consent with so many provisions."""
    inner = [{"type": "deny"}] * (provisions - 1)
    return {
        "resourceType": "Consent",
        "status": status,
        "patient": {"reference": "Patient/A"},
        **({"provision": {"type": "permit", "provision": inner}} if provisions else {}),
    }


def version(value: Mapping[str, Any], id: str, base: str = BASE, grant: str | None = None) -> ConsentVersion:
    return version_as_told(value, None, base=base, id=id, now=NOW, by="desk", grant_id=grant)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


@given(VALUES)
def test_provisions_are_never_more_than_the_braces(value: object) -> None:
    made = version({"status": "active", "patient": {"reference": "Patient/A"}, "provision": value}, "c")
    assert made.provisions == provisions_of(json.loads(made.resource))
    assert replace(made, provisions=None).most_provisions >= provisions_of(json.loads(made.resource))


async def test_by_the_count_there_is_room_when_there_is_by_reading_all(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_CONSENTS", 3)
    monkeypatch.setattr(room, "MOST_PROVISIONS", 6)
    chance, said, reads = Random(7), [], 0
    for number in range(150):
        base = f"{BASE}/{number}"
        for each in range(chance.randrange(7)):
            value = consent(chance.randrange(5), chance.choice(STATUSES))
            made = version(value, f"c{each}", base, grant="it-ended" if chance.random() < 0.2 else None)
            if chance.random() < 0.3:
                made = replace(made, provisions=None)  # as it was written before they were counted
            assert await store.add_consent(made)
        value, id = consent(chance.randrange(5), chance.choice(STATUSES)), f"c{chance.randrange(7)}"

        async def beside(base: str = base) -> Mapping[str, Mapping[str, Any]]:
            nonlocal reads
            reads += 1
            return await standing(store, base, "A", now=NOW)

        by_count = await refused(room_for(store, value, base=base, id=id, beside=beside))
        plainly = await refused(by_reading(store, value, base, id))
        assert by_count == plainly
        said.append(by_count)
    assert len(set(said)) == 3
    assert 20 < said.count("") < 140
    assert 0 < reads < 100


async def by_reading(store: SqliteStore, value: Mapping[str, Any], base: str, id: str) -> None:
    check_room(value, id, await standing(store, base, "A", now=NOW))


async def refused(asked: Awaitable[object]) -> str:
    try:
        await asked
    except FhirError as error:
        return str(error.diagnostics)
    return ""


async def test_where_the_count_leaves_room_nothing_is_read(store: SqliteStore) -> None:
    async def beside() -> Mapping[str, Mapping[str, Any]]:
        raise AssertionError("read")

    for number in range(MOST_CONSENTS - 1):
        assert await store.add_consent(version(consent(5), f"c{number}"))
    held = await room_for(store, consent(5), base=BASE, id="new", beside=beside)
    assert await add_within(store, version(consent(5), "new"), held)
    with pytest.raises(AssertionError, match="read"):
        await room_for(store, consent(0), base=BASE, id="newer", beside=beside)
    await room_for(store, consent(0, "inactive"), base=BASE, id="newer", beside=beside)
    await room_for(store, consent(5), base=BASE, id="c7", beside=beside)  # its own place


async def test_of_many_who_were_told_that_there_is_room_as_many_write_as_there_is(store: SqliteStore) -> None:
    async def beside() -> Mapping[str, Mapping[str, Any]]:
        return await standing(store, BASE, "A", now=NOW)

    for number in range(MOST_CONSENTS - 3):
        assert await store.add_consent(version(consent(1), f"c{number}"))
    rooms = [await room_for(store, consent(1), base=BASE, id=f"n{n}", beside=beside) for n in range(8)]
    said = await asyncio.gather(
        *(refused(add_within(store, version(consent(1), f"n{n}"), held)) for n, held in enumerate(rooms))
    )
    assert said.count("") == 3
    assert all("since others were written at this moment" in each for each in said if each)
    assert len(await beside()) == MOST_CONSENTS


async def test_provisions_that_are_only_guessed_are_read_and_hold_nobody_up(store: SqliteStore) -> None:
    async def beside() -> Mapping[str, Mapping[str, Any]]:
        return await standing(store, BASE, "A", now=NOW)

    for number in range(150):  # twice as many braces as provisions
        old = replace(version(consent(4), f"c{number}"), provisions=None)
        assert await store.add_consent(old)
    held = await room_for(store, consent(4), base=BASE, id="new", beside=beside)
    assert await add_within(store, version(consent(4), "new"), held)
