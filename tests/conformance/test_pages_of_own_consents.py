"""A patient with very many consents, or versions of one: pages with links that stay good, read with a few rows each.

The consents lie in a real store. What is counted is what a page asks of it, never a time.
"""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from authz.account.consents import PAGE_CONSENTS
from authz.account.grants import GRANTS_OF_AN_APP
from authz.storage.consents import ConsentVersion
from gateway.account.consents import KeptConsents
from tests.conformance.test_own_consents import PAGE, at
from tests.conformance.test_own_grants import allowed, page_of
from tests.support.authorization_server import FHIR, NOW, Person, Reply, World, open_world
from tests.support.own_records import IndexInMemory, own_records
from tests.support.smart import SmartApp, smart_world

WORDS = re.compile(r'<h2 id="consent-\d+" class="sentence">([^<]*)</h2>')
MANY = 130  # over, beside those in force


class Counting:
    """A store of which the rows and the calls are counted that a page asks for."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.calls: Counter[str] = Counter()
        self.rows = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        async def counted(*args: Any, **named: Any) -> Any:
            found = await method(*args, **named)
            self.calls[name] += 1
            self.rows += len(found) if isinstance(found, list) else 1
            return found

        return counted

    def reset(self) -> None:
        self.calls.clear()
        self.rows = 0


class Site:
    """A house whose patient Anna has consents in a store."""

    def __init__(self, world: World, store: Counting, kept: KeptConsents) -> None:
        self.world = world
        self.store = store
        self.kept = kept

    async def write(
        self, id: str, *, version: int = 1, status: str = "active", grant: str | None = None
    ) -> None:
        """A version of a consent that says its id."""
        resource = {
            "resourceType": "Consent", "id": id, "status": status, "patient": {"reference": "Patient/A"},
            "sourceAttachment": {"title": id}, "performer": [{"display": f"of {id}"}],
        }  # fmt: skip
        raw = json.dumps(resource).encode()
        written = ConsentVersion(FHIR, id, version, "A", status, raw, NOW + version, "import", grant)
        assert await self.store.add_consent(written)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_world(tmp_path) as opened:
        store = Counting(opened.store)
        own = own_records(store, IndexInMemory(), store, opened.clock)  # type: ignore[arg-type]
        assert isinstance(own.consents, KeptConsents)
        yield Site(await smart_world(opened, own=own), store, own.consents)


def names(page: Reply) -> list[str]:
    """Of whom each consent of a page is, in order."""
    return re.findall(r"<dd>of ([a-z0-9-]+)</dd>", page.text)


def link(page: Reply, id: str) -> str | None:
    """Where a link of a page leads."""
    found = re.search(rf'<a id="{id}" href="([^"]+)"', page.text)
    return None if found is None else unescape(found[1])


async def filled(site: Site) -> list[str]:
    """Consents of Anna in the order in which the pages have them."""
    over = [f"over-{number}" for number in range(MANY)]
    active = [f"active-{number}" for number in range(3)]
    await site.write("active-0")
    for id in over:
        await site.write(id, status="rejected")
    for id in active[1:]:
        await site.write(id)
    return [*reversed(active), *reversed(over)]


async def test_the_pages_have_every_consent_once_those_in_force_first_the_last_written_before_the_others(
    site: Site,
) -> None:
    expected = await filled(site)
    person = Person(site.world)
    page, found, places = await at(person, PAGE), list[str](), set[str]()
    assert link(page, "newest") is None
    while True:
        assert 0 < len(names(page)) <= PAGE_CONSENTS
        assert page.header("cache-control") == "no-store"
        found += names(page)
        older = link(page, "older")
        if older is None:
            break
        assert older not in places
        places.add(older)
        page = await person.visit(older)
        assert '<nav class="paging" aria-label="More consents">' in page.text
        assert link(page, "newest") == PAGE
    assert found == expected


async def test_a_page_costs_as_many_rows_of_six_hundred_as_of_sixty(site: Site) -> None:
    cost = []
    for count in (60, 600):
        for number in range(count):
            await site.write(f"c{count}-{number}", status="inactive")
        site.store.reset()
        first = await site.kept.page("A", before="", limit=PAGE_CONSENTS)
        second = await site.kept.page("A", before=first.before, limit=PAGE_CONSENTS)
        assert len(first.consents) == len(second.consents) == PAGE_CONSENTS
        cost.append((site.store.rows, dict(site.store.calls)))
    assert cost[0] == cost[1] == (2 * (PAGE_CONSENTS + 1), {"consents_newest_first": 3})


async def test_a_link_stays_good_while_consents_are_written_and_end(site: Site) -> None:
    expected = await filled(site)
    first = await site.kept.page("A", before="", limit=20)
    await site.write("new")
    await site.write("newly-over", status="inactive")
    await site.write("active-1", version=2, status="inactive")
    second = await site.kept.page("A", before=first.before, limit=20)
    assert [each.id for each in (*first.consents, *second.consents)] == expected[:40]
    third = await site.kept.page("A", before=second.before, limit=200)
    assert [each.id for each in third.consents] == expected[40:]
    assert third.before == ""


async def test_of_a_page_the_grants_are_asked_for_at_once(site: Site) -> None:
    for number in range(15):
        await site.write(f"c{number}", grant=f"g{number}")
    site.store.reset()
    page = await site.kept.page("A", before="", limit=20)
    assert {each.status for each in page.consents} == {"inactive"}  # none of these grants lives
    assert site.store.calls == {"consents_newest_first": 2, "live_grants": 1}


async def test_what_is_withdrawn_on_a_page_leads_back_to_that_page(site: Site) -> None:
    for number in range(25):
        await site.write(f"c{number}")
    person = Person(site.world)
    older = link(await at(person, PAGE), "older")
    assert older is not None
    page = await person.visit(older)
    assert names(page) == ["c4", "c3", "c2", "c1", "c0"]
    done = await person.submit(page, action="withdraw")
    assert done.status == 200
    assert "The consent is withdrawn." in done.text
    newest = await site.store.consent(FHIR, "c0")  # the last form of the page
    assert newest.status == "inactive"
    assert names(done) == ["c4", "c3", "c2", "c1", "c0"]
    assert re.findall(r"<dd>(in force|withdrawn or ended)</dd>", done.text) == ["in force"] * 4 + [
        "withdrawn or ended"
    ]


@pytest.mark.parametrize(
    "place", ["x", "active.", "active.x", "active.-1", "nowhere.1", "over.1.2", f"over.{'9' * 19}", "1"]
)
async def test_a_place_that_is_none_is_refused(site: Site, place: str) -> None:
    page = await at(Person(site.world), PAGE)
    assert page.status == 200
    with pytest.raises(ValueError, match="no such place"):
        await site.kept.page("A", before=place, limit=20)
    person = Person(site.world)
    await at(person, PAGE)
    assert (await person.visit(f"{PAGE}?before={place}")).status == 400


async def test_a_page_behind_the_last_says_so_and_leads_back(site: Site) -> None:
    await site.write("c0")
    person = Person(site.world)
    await at(person, PAGE)
    page = await person.visit(f"{PAGE}?before=over.1")
    assert page.status == 200
    assert names(page) == []
    assert link(page, "newest") == PAGE


async def test_the_versions_of_a_consent_are_paged_and_a_receipt_reads_one(site: Site) -> None:
    for version in range(1, 51):
        await site.write("c", version=version)
    person = Person(site.world)
    await at(person, PAGE)
    site.store.reset()
    page, found = await person.visit(f"{PAGE}/history?id=c"), list[str]()
    assert site.store.rows < 2 * PAGE_CONSENTS
    while True:
        shown = re.findall(r'id="receipt-(\d+)"', page.text)
        assert 0 < len(shown) <= PAGE_CONSENTS
        found += shown
        older = link(page, "older")
        if older is None:
            break
        page = await person.visit(older)
        assert link(page, "newest") == f"{PAGE}/history?id=c"
    assert found == [str(version) for version in range(50, 0, -1)]
    site.store.reset()
    assert (await person.visit(f"{PAGE}/receipt?id=c&version=7")).status == 200
    assert site.store.calls["consent_history"] == 0
    for wrong in ("version=51", "version=x", "version=", "version=0", "id=d&version=1"):
        assert (await person.visit(f"{PAGE}/receipt?id=c&{wrong}")).status in (400, 404)


async def test_a_consent_of_another_patient_has_no_page_here(site: Site) -> None:
    await site.write("c")
    assert await site.kept.history("B", "c", limit=9) == ()
    assert await site.kept.version("B", "c") is None
    assert await site.kept.version("B", "c", 1) is None
    assert (await site.kept.page("B", before="", limit=9)).consents == []


async def test_what_is_taken_along_has_every_version_though_it_is_read_in_pages(site: Site) -> None:
    for number in range(45):
        for version in (1, 2):
            await site.write(f"c{number}", version=version, status="active" if version == 1 else "inactive")
    for version in range(1, 44):
        await site.write("long", version=version)
    person = Person(site.world)
    await at(person, PAGE)
    found = json.loads((await person.visit("/account/download?format=consents")).text)["entry"]
    assert len(found) == 2 * 45 + 43
    assert len({each["fullUrl"] for each in found}) == len(found)


async def test_of_an_app_with_very_many_grants_the_newest_are_told_and_the_others_counted(site: Site) -> None:
    person, app = Person(site.world), SmartApp(site.world, "smart-secret")
    for _ in range(GRANTS_OF_AN_APP + 3):
        await allowed(site.world, person, app)
    page = await page_of(site.world, Person(site.world))
    assert page.text.count("<dt>Until</dt>") == GRANTS_OF_AN_APP
    assert "Allowed 3 more times before" in page.text
    assert page.text.count('id="revoke-') == 1
