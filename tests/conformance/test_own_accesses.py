"""The page of accesses: who saw the record, when, for what purpose and under which rule, and of nobody else's record."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pytest

from authz.account.accesses import PAGE_ENTRIES
from authz.events import OwnRecordShown
from tests.conformance.test_own_grants import DOCTOR, allowed, page_of
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    PASSWORD,
    Person,
    Reply,
    World,
    http_request,
    open_world,
)
from tests.support.own_records import IndexInMemory, access, with_index
from tests.support.smart import SmartApp, smart_world

PAGE = "/account/accesses"
BERT = replace(ANNA, username="bert", subject="be47", name="Bert Other", patient="B")
DAY = 86_400


@dataclass
class Site:
    """A world with an index of accesses."""

    world: World
    index: IndexInMemory


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    index = IndexInMemory()
    async with open_world(tmp_path) as opened:
        accounts = {a.username: a for a in (ANNA, BERT, DOCTOR)}
        yield Site(await smart_world(opened, accounts=accounts, own=with_index(index)), index)


async def accesses(site: Site, person: Person | None = None, query: str = "") -> Reply:
    """The page, signed in to."""
    person = person or Person(site.world)
    page = await person.visit(f"{PAGE}{query}")
    if 'id="login"' in page.text:
        page = await person.submit(page, username=person.account.username, password=PASSWORD)
    return page


async def test_a_patient_sees_who_looked_when_at_what_for_what_and_by_which_rule(site: Site) -> None:
    site.index.entries.append(access(1))
    page = await accesses(site)
    assert page.status == 200
    assert page.header("cache-control") == "no-store"
    text = unescape(page.text)
    for words in (
        "15 January 2027, 08:01 UTC",
        "<strong>Looked: results and measurements</strong>: allowed",
        "<dt>Person</dt><dd>Doctor House</dd>",
        "<dt>App</dt><dd>Patient portal</dd>",
        "<dt>Purpose</dt><dd>treatment</dd>",
        "<dt>Rule</dt><dd>care-team/read</dd>",
    ):
        assert words in text, words


async def test_the_page_speaks_german_to_whoever_reads_german(site: Site) -> None:
    site.index.entries.append(access(1, purpose="TREAT HPAYMT"))
    person = Person(site.world)
    await accesses(site, person)
    person.cookie = f"{person.cookie}; __Host-securus-language=de"
    page = await site.world.get(PAGE, headers=person._headers())
    text = unescape(page.text)
    assert '<html lang="de">' in text
    assert "15. Januar 2027, 08:01 Uhr UTC" in text
    assert "<dt>Zweck</dt><dd>Behandlung und Bezahlung</dd>" in text


async def test_nobody_sees_who_saw_another_record(site: Site) -> None:
    site.index.entries += [access(1, rule="of-anna"), access(2, patient="B", rule="of-bert")]
    site.index.entries.append(access(3, base="https://elsewhere.example/fhir", rule="of-elsewhere"))
    page = await accesses(site)
    assert "of-anna" in page.text
    assert "of-bert" not in page.text
    assert "of-elsewhere" not in page.text
    assert (await accesses(site, Person(site.world), "?for=B")).status == 403
    doctor = await accesses(site, Person(site.world, DOCTOR))
    assert doctor.status == 403
    assert "of-anna" not in doctor.text


async def test_a_refused_attempt_is_told_as_one(site: Site) -> None:
    site.index.entries.append(access(1, outcome="deny", user="unknown-1", client="gone", purpose=""))
    text = unescape((await accesses(site)).text)
    assert "<strong>Looked: results and measurements</strong>: refused" in text
    assert "<dd>unknown-1</dd>" in text
    assert "<dt>App</dt><dd>gone</dd>" in text
    assert "<dt>Purpose</dt><dd>not said</dd>" in text


async def test_a_permitted_access_that_showed_nothing_is_not_told_as_refused(site: Site) -> None:
    site.index.entries.append(access(1, outcome="nothing"))
    page = await accesses(site)
    assert "<strong>Looked: results and measurements</strong>: nothing was shown or changed" in unescape(
        page.text
    )
    assert 'class="refused"' not in page.text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("break-glass-start", "Emergency access"),
        ("break-glass-stop", "Emergency access ended"),
        ("break-glass-review", "Emergency access was reviewed"),
        ("audit-read", "The privacy office looked at the records of accesses"),
        ("consent-recorded", "The office wrote down a consent"),
        ("consent-withdrawn", "The office wrote down a withdrawal"),
    ],
)
async def test_an_event_of_the_log_is_told_in_words(site: Site, kind: str, words: str) -> None:
    """By the very word of the log: 'emergency' is none, and was told as 'something else'."""
    site.index.entries.append(access(1, kind=kind, outcome="ok", types=""))
    assert f"<strong>{words}</strong>: done" in unescape((await accesses(site)).text)


async def test_an_app_that_acts_for_itself_is_no_person(site: Site) -> None:
    site.index.entries.append(access(1, user="portal"))
    page = await accesses(site)
    assert "<dt>Person</dt>" not in page.text
    assert "<dt>App</dt><dd>Patient portal</dd>" in page.text


async def test_older_accesses_follow_page_by_page_each_once(site: Site) -> None:
    site.index.entries += [access(n, rule=f"rule-{n}-") for n in range(1, PAGE_ENTRIES * 2 + 4)]
    person, seen = Person(site.world), []
    page = await accesses(site, person)
    for _ in range(9):
        seen += [int(part.partition("-")[0]) for part in page.text.split("<dd>rule-")[1:]]
        _, found, rest = page.text.partition('id="older" href="')
        if not found:
            break
        page = await person.visit(unescape(rest.partition('"')[0]))
        assert 'id="newest"' in page.text
    assert seen == list(range(PAGE_ENTRIES * 2 + 3, 0, -1))


@pytest.mark.parametrize(
    ("query", "rules"),
    [
        ("?from=2027-01-16", {"second", "third"}),
        ("?to=2027-01-16", {"first", "second"}),
        ("?from=2027-01-16&to=2027-01-16", {"second"}),
        ("?from=&to=", {"first", "second", "third"}),
    ],
)
async def test_days_filter_and_both_are_included(site: Site, query: str, rules: set[str]) -> None:
    day = DAY * 1000
    noon = access(0).at
    for number, rule in enumerate(("first", "second", "third")):
        site.index.entries.append(access(number, at=noon + number * day, rule=rule))
    page = await accesses(site, query=query)
    assert {rule for rule in ("first", "second", "third") if f"<dd>{rule}</dd>" in page.text} == rules


@pytest.mark.parametrize(
    "query", ["?from=yesterday", "?from=2027-02-30", "?to=9999-12-31x", "?from=2027-02-02&to=2027-02-01"]
)
async def test_days_that_are_none_are_told_and_show_nothing(site: Site, query: str) -> None:
    site.index.entries.append(access(1))
    page = await accesses(site, query=query)
    assert page.status == 400
    assert 'id="problem"' in page.text
    assert 'id="accesses"' not in page.text


@pytest.mark.parametrize("place", ["x", "1.2", "-1.2.c", "1.-2.c", "1" * 30 + ".2.", "%c3%a9.1."])
async def test_a_place_that_was_made_up_is_an_error(site: Site, place: str) -> None:
    assert (await accesses(site, query=f"?before={place}")).status == 400


async def test_a_place_of_another_patients_page_shows_only_what_is_ones_own(site: Site) -> None:
    site.index.entries += [access(1, rule="of-anna"), access(2, patient="B", rule="of-bert")]
    page = await accesses(site, query=f"?before={access(9).at}.9.")
    assert "of-anna" in page.text
    assert "of-bert" not in page.text


async def test_who_looked_at_this_page_is_recorded_and_the_patients_own_looks_are_not_in_the_way(
    site: Site,
) -> None:
    site.index.entries += [
        access(1, kind="own-record", user=ANNA.subject, client="", outcome="ok", types=""),
        access(2, kind="own-record", user=BERT.subject, client="", outcome="ok", types=""),
    ]
    text = (await accesses(site)).text
    assert text.count('<p class="moment">') == 1
    assert "<dd>Bert Other</dd>" in text
    shown = [event for event in site.world.events if isinstance(event, OwnRecordShown)]
    assert shown == [OwnRecordShown("accesses", ANNA.subject, FHIR, "A")]


async def test_the_page_of_apps_says_when_each_last_looked(site: Site) -> None:
    tokens = await allowed(site.world, Person(site.world), SmartApp(site.world, "smart-secret"))
    grants = await site.world.store.grants(subject=ANNA.subject, client_id=None, now=site.world.clock.now)
    page = await page_of(site.world, Person(site.world))
    assert "<dt>Last looked at the record</dt><dd>Not yet</dd>" in page.text
    site.index.entries += [access(n, grant=grants[0].grant_id) for n in (5, 3)]
    page = await page_of(site.world, Person(site.world))
    assert "<dt>Last looked at the record</dt><dd>15 January 2027, 08:05 UTC</dd>" in page.text
    assert tokens


async def test_names_are_shown_as_text(site: Site) -> None:
    site.index.entries.append(access(1, user="<b>x</b>", rule="<i>", kind="<u>"))
    text = (await accesses(site)).text
    assert "<b>x" not in text
    assert "<i>" not in text
    assert "<u>" not in text


async def test_programs_that_look_at_links_begin_nothing(site: Site) -> None:
    for path in (PAGE, "/account", "/account/language"):
        looked = await site.world.send(http_request("HEAD", path))
        assert looked.status == 405
        assert not looked.headers("set-cookie")


async def test_the_sign_in_leads_to_the_page_that_was_asked_for_and_nowhere_else(site: Site) -> None:
    person = Person(site.world)
    form = await person.visit(f"{PAGE}?from=2027-01-16")
    page = await person.submit(form, username="anna", password=PASSWORD)
    assert 'value="2027-01-16"' in page.text
    for to in (
        "//evil.example",
        "https://evil.example/account",
        "/account\\evil",
        "/consent?interaction=x",
        "/account/../x",
    ):
        person = Person(site.world)
        form = await person.visit(PAGE)
        page = await person.submit(form, username="anna", password=PASSWORD, to=to)
        assert "<h1>Apps with access</h1>" in page.text


@pytest.mark.parametrize(
    "back", ["//evil.example", "https://evil.example", "/fhir/r4", "/account%0d%0aset-cookie:%20a=b", ""]
)
async def test_the_switch_of_languages_leads_to_our_pages_alone(site: Site, back: str) -> None:
    assert (await site.world.get("/account/language", query=f"to=de&back={back}")).status == 400


async def test_the_switch_of_languages_comes_back_in_the_other_language(site: Site) -> None:
    person = Person(site.world)
    await accesses(site, person)
    switched = await site.world.get(
        "/account/language", query="to=de&back=%2Faccount%2Faccesses%3Ffrom%3D2027-01-16"
    )
    assert (switched.status, switched.header("location")) == (303, f"{PAGE}?from=2027-01-16")
    assert (switched.header("set-cookie") or "").startswith("__Host-securus-language=de;")
    assert (await site.world.get("/account/language", query="to=xx&back=/account")).status == 400
