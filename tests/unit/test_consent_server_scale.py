"""A patient with very many consents, and a consent with very many versions: read page by page, and told whole.

What is counted are the rows of each statement, never a time.
"""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from authz.storage.consents import ConsentVersion
from authz.storage.sqlite.store import open_store
from gateway.consent_service import server
from gateway.consent_service.server import ConsentServer

BASE, NOW = "https://fhir.example/fhir/r4", 1_800_000_000
MANY = 450


class Paged:
    """A store that notes how many rows a statement gave, and does something else after one of them."""

    def __init__(self, store: Any) -> None:
        self.plain = store
        self.most = 0
        self.after: dict[str, Callable[[], Any]] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def counted(*args: Any, **named: Any) -> Any:
            found = await getattr(self.plain, name)(*args, **named)
            self.most = max(self.most, len(found) if isinstance(found, list) else 0)
            if (then := self.after.pop(name, None)) is not None:
                await then()
            return found

        return counted

    async def write(
        self, id: str, *, version: int = 1, status: str = "active", patient: str = "A", day: int = 1
    ) -> None:
        """A version of a consent."""
        value = {
            "resourceType": "Consent", "id": id, "status": status, "patient": {"reference": f"Patient/{patient}"},
            "dateTime": f"2026-01-{day:02}", "meta": {"lastUpdated": "2027-01-15T08:00:00Z"},
        }  # fmt: skip
        raw = json.dumps(value).encode()
        written = ConsentVersion(BASE, id, version, patient, status, raw, NOW + version, "desk")
        assert await self.plain.add_consent(written)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Paged]:
    opened = await open_store(tmp_path / "securus.db")
    yield Paged(opened)
    await opened.close()


@pytest.fixture
def consents(store: Paged) -> ConsentServer:
    async def is_there(patient: str) -> bool:
        return True

    async def end(*_: str) -> None:
        return None

    return ConsentServer(
        base=BASE, url=BASE, bases=frozenset({BASE}), store=store, clock=lambda: NOW, is_there=is_there, end_grant=end,
    )  # type: ignore[arg-type]  # fmt: skip


async def pages(consents: ConsentServer, target: str) -> list[dict[str, Any]]:
    """The resources of all pages."""
    found: list[dict[str, Any]] = []
    while True:
        said = json.loads((await consents.answer("GET", target, {}, None, None)).body)
        found += [entry["resource"] for entry in said.get("entry", [])]
        more = next((link["url"] for link in said["link"] if link["relation"] == "next"), None)
        if more is None:
            return found
        target = more.removeprefix(f"{BASE}/")


@pytest.mark.parametrize("sort", ["", "&_sort=-date", "&_sort=status,date"])
async def test_a_search_of_a_patient_with_very_many_consents_is_had_in_pages_and_finds_each_once(
    store: Paged, consents: ConsentServer, sort: str
) -> None:
    for number in range(MANY):
        status = ("active", "inactive", "rejected", "draft")[number % 4]
        await store.write(f"c{number:03}", status=status, day=1 + number % 28)
    await store.write("other", patient="B")
    found = await pages(consents, f"Consent?patient=A&_count=200{sort}")
    ids = [each["id"] for each in found]
    assert sorted(ids) == [f"c{number:03}" for number in range(MANY)]
    if not sort:
        assert ids == sorted(ids)
    elif sort == "&_sort=-date":
        assert [each["dateTime"] for each in found] == sorted((e["dateTime"] for e in found), reverse=True)
    assert store.most == server._PAGE_ROWS
    both = await pages(consents, "Consent?patient=A,B&status=active&_count=200")
    assert {each["id"] for each in both} == {f"c{n:03}" for n in range(0, MANY, 4)} | {"other"}


@pytest.mark.parametrize(("before", "then"), [("draft", "active"), ("active", "inactive")])
async def test_a_consent_that_changes_while_the_pages_are_read_is_found_once_as_it_is_then(
    store: Paged, consents: ConsentServer, before: str, then: str
) -> None:
    """It goes from the part that is still to be read into the one that was read, or the other way."""
    await store.write("moving", status=before)
    for number in range(server._PAGE_ROWS + 20):
        await store.write(f"c{number:03}", status="inactive" if number % 2 else "active")

    async def change() -> None:
        await store.write("moving", version=2, status=then)
        await store.write("new", status=then)
        await store.write("of-another", patient="B")

    store.after["consents_newest_first"] = change
    found = await pages(consents, f"Consent?patient=A&status={then}&_count=200")
    ids = [each["id"] for each in found]
    assert ids.count("moving") == ids.count("new") == 1
    assert "of-another" not in ids


async def test_all_consents_of_a_base_are_had_in_pages(store: Paged, consents: ConsentServer) -> None:
    for number in range(MANY):
        await store.write(f"c{number:03}", patient=f"P{number % 7}")
    assert len(await pages(consents, "Consent?status=active&_count=200")) == MANY
    assert store.most == server._PAGE_ROWS


@pytest.mark.parametrize("count", ["", "_count=7"])
async def test_the_history_of_a_consent_with_very_many_versions_is_had_in_pages(
    store: Paged, consents: ConsentServer, count: str
) -> None:
    for version in range(1, 254):
        await store.write("c", version=version)
    found = await pages(consents, f"Consent/c/_history?{count}")
    assert len(found) == 253
    assert store.most == server._HISTORY_PAGE
    # NOW is 2027-01-15T08:00:00Z; version n was written n seconds after it.
    since = "&".join(filter(None, ("_since=2027-01-15T08:04:05Z", count)))
    assert len(await pages(consents, f"Consent/c/_history?{since}")) == 253 - 244
    assert await pages(consents, "Consent/c/_history?_since=2030") == []
    assert (await consents.answer("GET", "Consent/none/_history", {}, None, None)).status == 404
