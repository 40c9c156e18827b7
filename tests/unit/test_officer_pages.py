"""The officer's pages: what each shows, and that nothing is shown before its look is recorded."""

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from authz.events import SignIn
from authz.storage.audit_index import AuditQuery
from authz.storage.effects import Emergency
from gateway.audit.index.follower import IndexFollower
from gateway.audit.log import AuditUnavailable
from tests.support.audit_index_contract import SIGNAL
from tests.support.officer import BASE, NOW, Desk, entry, open_desk
from tests.support.sealed_log import sealed_log

EMERGENCY = Emergency(
    "e1", "emergency/glass", "https://fhir.example", "ehr", "dr1", "A", "bay 4, <unconscious>", NOW - 100, NOW + 100,
    NOW + 86400,
)  # fmt: skip


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    entries = [
        *(entry(number) for number in range(1, 4)),
        entry(4, patient="B", user="ben"),
        entry(5, purpose="HRESCH", client="research"),
    ]
    async with open_desk(tmp_path, *entries) as opened:
        yield opened


async def test_the_officer_signs_in_and_sees_what_waits_and_where_the_log_stands(desk: Desk) -> None:
    await desk.store.put_signals([replace(SIGNAL, expires_at=NOW + 60)], {}, chain="", read_from=0, read_to=7)
    person = desk.person()
    form = await person.get("/officer")
    assert (form.status, "Everything that you look at here is recorded" in form.words) == (200, True)
    wrong = await person.post("/officer/sign-in", username="olga", password="wrong")
    assert (wrong.status, "User name or password is not right." in wrong.words) == (403, True)
    page = await person.get("/officer")
    assert (await person.sign_in("olga")).headers["location"] == "/officer"
    page = await person.get("/officer")
    for words in (
        "Olga Officer",
        "1 signal ",
        "0 emergency accesses",
        "No policy is in force",
        "Newest signed head",
    ):
        assert words in page.words
    assert [event.outcome for event in desk.events if isinstance(event, SignIn)] == ["refused", "accepted"]


async def test_a_search_finds_by_patient_and_its_look_is_recorded_with_the_query(desk: Desk) -> None:
    officer = await desk.officer()
    assert (await officer.get("/officer/search")).status == 200
    page = await officer.post("/officer/search", patient="A", user="anna")
    assert page.status == 200
    assert "4 found" in page.words
    assert "2027-01-15 08:00:01 UTC" in page.words
    assert "/officer/record?chain=&amp;sequence=3" in page.text
    assert "ben" not in page.words  # nothing but what was asked for
    (look,) = await desk.records("audit-read")
    assert (look["by"], look["what"], look["shown"]) == ("olga-1", "search", 4)
    assert look["query"] == {"base": BASE, "patients": ["A"], "user": "anna"}


async def test_older_ones_are_on_the_next_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.officer.question_pages._PAGE", 3)
    officer = await desk.officer()
    page = await officer.post("/officer/search", client="ehr")
    assert "3 found, and there are more" in page.words
    place = page.text.partition('name="next" value="')[2].partition('"')[0]
    page = await officer.post("/officer/search", client="ehr", next=place.replace("&#39;", "'"))
    assert "1 found" in page.words
    assert 'name="next"' not in page.text


async def test_a_look_is_in_the_index_of_the_patient_whom_it_was_about(desk: Desk) -> None:
    await (await desk.officer()).post("/officer/search", patient="B")
    await desk.store.rewind_audit_index()
    await IndexFollower(desk.store, {"fhir": BASE}).follow()
    found = await desk.store.find_audit(AuditQuery(base=BASE, patients=["B"], kinds=["audit-read"]))
    assert [each.user for each in found] == ["olga-1"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"patient": "A B"}, "the patient is no FHIR id"),
        ({"since": "now"}, "since is no time such as"),
        ({"next": "1|2"}, "the place of the next page cannot be read"),
        ({"user": "x" * 301}, "user is no text of at most 300 characters"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_told_beside_the_form_and_shows_nothing(
    desk: Desk, fields: dict[str, str], said: str
) -> None:
    page = await (await desk.officer()).post("/officer/search", **fields)
    assert page.status == 400
    assert said in page.words
    assert "<table>" not in page.text
    assert await desk.records("audit-read") == []


async def test_a_record_is_shown_whole_and_one_that_is_not_there_is_told(desk: Desk) -> None:
    await desk.audit.record({"event": "access", "route": "fhir", "patients": ["A"], "note": "<script>"})
    officer = await desk.officer()
    head = await desk.store.audit_head()
    assert head is not None
    page = await officer.get("/officer/record", "chain=&sequence=1")
    assert '"patients": [' in page.words
    assert head[1].hex() in page.words
    assert "<script>" not in page.text
    (look,) = await desk.records("audit-read")
    assert (look["what"], look["query"]["sequence"], look["query"]["patients"]) == ("record", 1, ["A"])
    for query in ("chain=&sequence=99", "chain=x&sequence=1x", ""):
        assert (await officer.get("/officer/record", query)).status == 404


async def test_an_accounting_is_a_page_to_print_and_a_file_in_three_forms(desk: Desk) -> None:
    officer = await desk.officer()
    page = await officer.post("/officer/disclosures", patient="A")
    assert "research" in page.words
    assert "Left out: 3" in page.words
    saved = await officer.post("/officer/disclosures", patient="A", as_="csv")
    assert saved.headers["content-disposition"] == 'attachment; filename="disclosures.csv"'
    assert [row[1] for row in csv.reader(io.StringIO(saved.text))] == ["recipient", "research"]
    assert (
        json.loads((await officer.post("/officer/disclosures", patient="A", as_="json")).text)["left_out"]
        == 3
    )
    bundle = json.loads((await officer.post("/officer/disclosures", patient="A", as_="fhir")).text)
    assert bundle["resourceType"] == "Bundle"
    assert [look["what"] for look in await desk.records("audit-read")] == ["disclosures"] * 4
    nobody = await officer.post("/officer/disclosures", patient="")
    assert (nobody.status, "say whose record" in nobody.words) == (400, True)


async def test_a_signal_is_reviewed_with_a_note_by_who_is_signed_in(desk: Desk) -> None:
    await desk.store.put_signals([replace(SIGNAL, expires_at=NOW + 60)], {}, chain="", read_from=0, read_to=7)
    officer = await desk.officer()
    page = await officer.get("/officer/signals")
    assert SIGNAL.words in page.words
    assert "/officer/record?chain=node-2&amp;sequence=8" in page.text
    assert (await officer.post("/officer/signals", id="signal", note=" ")).status == 400
    done = await officer.post("/officer/signals", id="signal", note="was on duty")
    assert "The review is written down." in done.words
    assert "There is none." in done.words
    again = await officer.post("/officer/signals", id="signal", note="again")
    assert (again.status, "somebody has reviewed it" in again.words) == (400, True)
    assert "by olga-1: was on duty" in (await officer.get("/officer/signals", "show=all")).words
    (review,) = await desk.records("signal-review")
    assert (review["by"], review["review"], review["patient"]) == ("olga-1", "was on duty", "A")


async def test_emergency_access_is_reviewed_as_the_command_does_it(desk: Desk) -> None:
    await desk.store.begin_emergency(EMERGENCY, [], now=NOW)
    officer = await desk.officer()
    page = await officer.get("/officer/break-glass")
    assert "bay 4, <unconscious>" in page.words
    assert "<unconscious>" not in page.text
    done = await officer.post("/officer/break-glass", id="e1", note="justified")
    assert "There is none." in done.words
    assert (await officer.post("/officer/break-glass", id="e1", note="again")).status == 400
    (review,) = await desk.records("break-glass-review")
    assert (review["emergency"], review["by"], review["review"]) == ("e1", "olga-1", "justified")
    looks = [look["query"] for look in await desk.records("audit-read")]
    assert looks[0] == {"open": True, "patients": ["A"]}


def link(text: str, id: str) -> str | None:
    """Where a link of a page leads."""
    found = re.search(rf'<a id="{id}" href="([^"]+)"', text)
    return None if found is None else unescape(found[1])


@pytest.mark.parametrize("what", ["signals", "break-glass"])
@pytest.mark.parametrize("show", ["", "?show=all"])
async def test_a_list_without_an_end_is_shown_page_by_page(desk: Desk, what: str, show: str) -> None:
    """The newest first, each once, also of those of one moment; what is looked at is on record page by page."""
    expected = []
    for number in range(60):
        at = number // 7  # several of one moment
        id = f"x{number:02}"
        if what == "signals":
            signal = replace(SIGNAL, id=id, at=at, user=f"person-{id}", expires_at=NOW + 60)
            await desk.store.put_signals([signal], {}, chain=id, read_from=0, read_to=7)
        else:
            started = replace(EMERGENCY, id=id, patient=id, subject=f"person-{id}", started_at=at)
            assert await desk.store.begin_emergency(started, [], now=NOW)
        expected.append((-at, f"person-{id}"))
    officer = await desk.officer()
    found: list[str] = []
    address: str | None = f"/officer/{what}{show}"
    visited = []
    while address is not None:
        visited.append(address)
        page = await officer.get(address)
        assert page.status == 200
        shown = [each for each in dict.fromkeys(re.findall(r"person-x\d\d", page.text))]
        assert 0 < len(shown) <= 25
        found += shown
        first = link(page.text, "newest")
        assert first == (None if len(visited) == 1 else f"/officer/{what}{show}")
        address = link(page.text, "older")
    assert found == [name for _, name in sorted(expected)]
    assert len(visited) == 3
    assert not any("person" in each or "x0" in each for each in visited)  # an address names nobody
    looks = await desk.records("audit-read")
    assert [look["shown"] for look in looks if look["what"] == what] == [25, 25, 10]


@pytest.mark.parametrize("before", ["x", "1", "1.", ".1", "-1.2", "1.2.3", f"{'9' * 16}.0"])
async def test_a_place_that_is_none_is_the_first_page(desk: Desk, before: str) -> None:
    assert await desk.store.begin_emergency(EMERGENCY, [], now=NOW)
    officer = await desk.officer()
    page = await officer.get(f"/officer/break-glass?before={before}")
    assert (page.status, "dr1" in page.text) == (200, True)
    assert link(page.text, "newest") is None


async def test_an_accounting_of_many_is_made_while_others_have_their_turn(desk: Desk) -> None:
    await desk.store.index_audit(
        [entry(number, purpose="HRESCH", client="research") for number in range(100, 1100)],
        chain="",
        read_to=1100,
    )
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    officer = await desk.officer()
    task = asyncio.create_task(other())
    page = await officer.post("/officer/disclosures", patient="A", **{"as": "csv"})
    task.cancel()
    assert page.status == 200
    assert page.text.count("\n") > 1000
    assert turns > 1000 / 200 + 1000 / 50


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/officer/search", {"patient": "A"}),
        ("POST", "/officer/disclosures", {"patient": "A"}),
        ("POST", "/officer/disclosures", {"patient": "A", "as_": "csv"}),
        ("GET", "/officer/signals", {}),
        ("GET", "/officer/break-glass", {}),
    ],
)
async def test_what_cannot_be_recorded_is_not_shown(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
    fields: dict[str, str],
) -> None:
    await desk.store.put_signals([replace(SIGNAL, expires_at=NOW + 60)], {}, chain="", read_from=0, read_to=7)
    await desk.store.begin_emergency(EMERGENCY, [], now=NOW)
    officer = await desk.officer()

    async def fails(record: object) -> None:
        raise AuditUnavailable("full")

    monkeypatch.setattr(desk.audit, "record", fails)
    page = await (officer.get(path) if method == "GET" else officer.post(path, **fields))
    assert page.status == 503
    for shown in ("anna", "dr1", "research", "Observation"):
        assert shown not in page.text
    (said,) = [each for each in caplog.records if each.name == "securus.officer"]
    assert (said.message, vars(said)["cause"]) == ("a page of the officer is not shown", "full")


async def test_a_record_under_a_signed_head_says_so(desk: Desk) -> None:
    log = await sealed_log(desk.store)
    await log.record(2, "node-1")
    officer = await desk.officer()
    assert "none covers it yet" in (await officer.get("/officer/record", "chain=node-1&sequence=1")).words
    await log.seal()
    page = await officer.get("/officer/record", "chain=node-1&sequence=1")
    assert "securus audit prove 1 --chain node-1" in page.words
    overview = (await officer.get("/officer")).words
    assert "Newest record of node-1" in overview
