"""Ways into the officer's pages by who may not see them, and by what others wrote into what they show."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.storage.effects import Emergency
from gateway.officer_settings import OfficerSettings
from tests.support.audit_index_contract import SIGNAL
from tests.support.authorization_server import ISSUER
from tests.support.officer import NOW, Desk, entry, open_desk

PAGES = (
    "/officer",
    "/officer/search",
    "/officer/disclosures",
    "/officer/signals",
    "/officer/break-glass",
    "/officer/record",
)
FORMS = ("/officer/search", "/officer/disclosures", "/officer/signals", "/officer/break-glass")
HOSTILE = "<script>alert(1)</script>\"'><img src=x>"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, entry(1), entry(2, patient="B")) as opened:
        yield opened


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("username", ["anna", "nora"])
async def test_a_patient_and_a_nurse_see_none_of_the_pages_and_the_attempt_is_recorded(
    desk: Desk, path: str, username: str
) -> None:
    person = desk.person()
    await person.sign_in(username)
    page = await person.get(path)
    assert page.status == 403
    assert "Observation" not in page.text
    assert [(each["by"], each["what"]) for each in await desk.records("audit-refused")][-1][1] == path
    assert await desk.records("audit-read") == []


@pytest.mark.parametrize("path", FORMS)
async def test_a_nurse_cannot_send_a_form_of_the_officer(desk: Desk, path: str) -> None:
    await desk.store.put_signals([replace(SIGNAL, expires_at=NOW + 60)], {}, chain="", read_from=0, read_to=7)
    person = desk.person()
    await person.sign_in("nora")
    await person.take_token()
    assert (await person.post(path, patient="A", id="signal", note="x")).status == 403
    signal = await desk.store.signal("signal", now=NOW)
    assert signal is not None
    assert signal.reviewed_by is None


@pytest.mark.parametrize("path", PAGES)
async def test_without_a_sign_in_there_is_the_form_to_sign_in_and_nothing_else(desk: Desk, path: str) -> None:
    page = await desk.person().get(path)
    assert 'id="login"' in page.text
    assert "Observation" not in page.text
    assert await desk.records("audit-read") == []


async def test_without_configured_roles_nobody_is_an_officer(tmp_path: Path) -> None:
    async with open_desk(tmp_path, entry(1), officer=OfficerSettings()) as desk:
        person = desk.person()
        await person.sign_in("olga")
        assert (await person.get("/officer")).status == 403


async def test_a_sign_in_of_an_hour_ago_is_not_good_any_more(desk: Desk) -> None:
    officer = await desk.officer()
    desk.now[0] += 1800
    assert (await officer.post("/officer/search", patient="A")).status == 200
    desk.now[0] += 1
    assert 'id="login"' in (await officer.get("/officer/search")).text
    page = await officer.post("/officer/search", patient="A")
    assert page.status == 403
    assert "<table>" not in page.text


@pytest.mark.parametrize("path", [*FORMS, "/officer/sign-in"])
@pytest.mark.parametrize("way", ["no token", "another's token", "another origin", "no cookie"])
async def test_a_forged_form_does_nothing(desk: Desk, path: str, way: str) -> None:
    await desk.store.put_signals([replace(SIGNAL, expires_at=NOW + 60)], {}, chain="", read_from=0, read_to=7)
    officer, other = await desk.officer(), await desk.officer()
    await officer.get("/officer/search")
    await other.get("/officer/search")
    headers = [("Origin", "https://evil.example" if way == "another origin" else ISSUER)]
    fields = {"patient": "A", "id": "signal", "note": "x", "username": "olga", "password": "y"}
    if way == "no token":
        fields["form_token"] = ""
    if way == "another's token":
        officer.token = other.token
    if way == "no cookie":
        officer.cookie = ""
    page = await officer.post(path, headers, **fields)
    assert page.status == 403
    assert "<table>" not in page.text
    signal = await desk.store.signal("signal", now=NOW)
    assert signal is not None
    assert signal.reviewed_by is None


async def test_what_others_wrote_is_text_on_every_page(tmp_path: Path) -> None:
    hostile = entry(
        1, user=HOSTILE, client=HOSTILE, kind="read", rule=HOSTILE, purpose=HOSTILE, types=HOSTILE
    )
    async with open_desk(tmp_path, hostile) as desk:
        signal = replace(
            SIGNAL, user=HOSTILE, client=HOSTILE, words=HOSTILE, rule=HOSTILE, expires_at=NOW + 60
        )
        await desk.store.put_signals(
            [replace(signal, records=((HOSTILE, 1),))], {}, chain="", read_from=0, read_to=7
        )
        glass = Emergency("e", HOSTILE, "i", HOSTILE, HOSTILE, HOSTILE, HOSTILE, NOW, NOW + 9, NOW + 99)
        await desk.store.begin_emergency(glass, [], now=NOW)
        await desk.audit.record({"event": HOSTILE, "x": HOSTILE})
        officer = await desk.officer()
        seen = [
            await officer.post("/officer/search", patient="A"),
            await officer.post("/officer/search", user=HOSTILE, rule=HOSTILE),
            await officer.post("/officer/disclosures", patient="A"),
            await officer.post("/officer/disclosures", patient=HOSTILE),
            await officer.get("/officer/signals"),
            await officer.get("/officer/break-glass"),
            await officer.get("/officer/record", "chain=&sequence=1"),
        ]
        for page in seen:
            assert "&lt;script" in page.text
            assert "<script" not in page.text
            assert "<img" not in page.text


async def test_every_page_and_file_has_a_policy_without_scripts_and_is_kept_by_nobody(desk: Desk) -> None:
    officer = await desk.officer()
    seen = [await officer.get(path) for path in PAGES]
    seen.append(await officer.post("/officer/disclosures", patient="A", as_="csv"))
    seen.append(await officer.get("/officer/nothing"))
    for page in seen:
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert "script-src" not in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "style=" not in page.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/officer/sign-in", 405),
        ("DELETE", "/officer/search", 405),
        ("HEAD", "/officer/signals", 405),  # programs that look at a link first leave no look behind
        ("GET", "/officer/../officer", 404),
        ("GET", "/officer/search/", 404),
        ("GET", "/officer/style.css", 200),
    ],
)
async def test_other_ways_lead_nowhere(desk: Desk, method: str, path: str, status: int) -> None:
    assert (await (await desk.officer()).get(path, method=method)).status == status
    assert await desk.records("audit-read") == []


async def test_a_field_that_comes_twice_is_not_guessed_at(desk: Desk) -> None:
    officer = await desk.officer()
    assert (await officer.get("/officer/record", "chain=&sequence=1&sequence=2")).status == 400
