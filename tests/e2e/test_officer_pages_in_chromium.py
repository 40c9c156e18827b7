"""The privacy officer's pages in a real browser, without scripts, over a gateway that indexes its log beside them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from authz.storage.effects import Emergency
from authz.storage.sqlite.store import open_store
from gateway.audit.log import AuditLog
from tests.support.chromium import AXE, PHONE, Chromium, chromium
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]
_SECONDS = 20
ACCESS: dict[str, Any] = {
    "event": "access",
    "route": "fhir",
    "interaction": "search",
    "decision": "permit",
    "caller": {"subject": "physician-with-a-long-subject-0b9bd9a5-5fd7-4e37-a5c0", "client": "portal-dpop"},
    "rules": ["clinicians/treating-with-a-long-name", "clinicians/ward"],
    "request": {"type": "Observation"},
    "purpose": ["HRESCH"],
}


def oversee(document: dict[str, Any]) -> None:
    document["officer"] = {
        "roles": ["privacy-officer"],
        "signals": [{"name": "vip-list", "when": "vip", "patients": ["vip-1"]}],
        "disclosures": {"recipients": {"portal-dpop": {"name": "Institute", "address": "1 Science Road"}}},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    gateway = await start_process(tmp_path_factory.mktemp("officer"), change=oversee)
    await fill(gateway.folder / "securus.db")
    yield gateway
    assert await gateway.stop() == 0


async def fill(path: Path) -> None:
    """Accesses, of which the gateway finds a signal, and emergency access: as another process records them."""
    store = await open_store(path)
    log = await AuditLog.open(store, time.time)
    for number in range(60):
        await log.record({**ACCESS, "patients": ["vip-1" if number == 0 else "patient-2"]})
    await log.close()
    now = int(time.time())
    glass = Emergency(
        "e1", "emergency/glass", "i", "portal-dpop", "dr1", "patient-2", "bay 4", now, now + 60, now + 99999
    )
    await store.begin_emergency(glass, [], now=now)
    async with asyncio.timeout(_SECONDS):
        while not await store.signals(only_open=True, limit=1, now=now):
            await asyncio.sleep(0.1)
    await store.close()


@pytest.fixture(scope="module")
def scriptless(site: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser that runs no script of any page."""
    with chromium(tmp_path_factory.mktemp("profile"), site.folder / "server.pem") as browser:
        yield browser


@pytest.fixture(scope="module")
def scripting(site: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser as people have it, in which axe-core can run."""
    with chromium(tmp_path_factory.mktemp("axe"), site.folder / "server.pem", scripts=True) as browser:
        yield browser


def url(site: GatewayProcess, path: str) -> str:
    return f"{site.facts['issuer']}{path}"


def password(site: GatewayProcess, username: str) -> str:
    return str(next(u for u in site.facts["users"] if u["username"] == username)["password"])


def enter(site: GatewayProcess, browser: Chromium, username: str = "officer.lane") -> None:
    """Signed in at the officer's pages."""
    browser.forget()
    browser.open(url(site, "/officer"))
    browser.sign_in(username, password(site, username))


async def test_the_officer_searches_opens_a_record_and_pages_without_any_script(
    site: GatewayProcess, scriptless: Chromium
) -> None:
    browser = scriptless
    enter(site, browser)
    assert browser.heading() == "Privacy officer"
    assert "1 signal of unusual access" in browser.text()
    assert len(browser.element("policy-hash").text) > 20
    browser.open(url(site, "/officer/search"))
    browser.element("patient").send_keys("patient-2")
    browser.press("ask")
    assert "50 found, and there are more" in browser.text()
    assert "patient-2" not in browser.driver.current_url  # nothing of it in the history of the browser
    browser.press("more")
    assert "9 found" in browser.text()
    browser.driver.find_element("css selector", "td a").click()
    browser.wait_for(lambda: browser.has("whole"))
    assert '"patients": [' in browser.element("whole").text
    assert len(browser.element("digest").text) == 64


async def test_the_officer_reviews_a_signal_and_emergency_access(
    site: GatewayProcess, scriptless: Chromium
) -> None:
    browser = scriptless
    enter(site, browser)
    for path, said in (("/officer/signals", "vip-1 is on the list"), ("/officer/break-glass", "bay 4")):
        browser.open(url(site, path))
        assert said in browser.text()
        browser.element("note-1").send_keys("asked, and found in order")
        browser.press("review-1")
        assert browser.element("done").text == "The review is written down."
        browser.open(url(site, f"{path}?show=all"))
        assert "asked, and found in order" in browser.text()


async def test_an_accounting_is_shown_to_print_without_the_form(
    site: GatewayProcess, scriptless: Chromium
) -> None:
    browser = scriptless
    enter(site, browser)
    browser.open(url(site, "/officer/disclosures"))
    browser.element("patient").send_keys("vip-1")
    browser.press("ask")
    assert "Institute" in browser.text()
    assert "1 Science Road" in browser.text()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = browser.text()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert "1 Science Road" in printed
    assert "Save as CSV" not in printed
    assert "held back" not in printed


async def test_a_patient_is_told_that_the_pages_are_not_theirs(
    site: GatewayProcess, scriptless: Chromium
) -> None:
    enter(site, scriptless, "stephen")
    assert scriptless.heading() == "Not for this account"
    scriptless.open(url(site, "/officer/search"))
    assert scriptless.heading() == "Not for this account"
    refused = [each for each in site.audit() if each["event"] == "audit-refused"]
    assert [each["what"] for each in refused] == ["/officer", "/officer/search"]


def pages(site: GatewayProcess, browser: Chromium) -> Iterator[str]:
    """Every page there is, named once the browser shows it."""
    browser.forget()
    browser.open(url(site, "/officer"))
    yield "sign-in"
    browser.sign_in("officer.lane", "wrong")
    yield "wrong password"
    browser.sign_in("officer.lane", password(site, "officer.lane"))
    yield "overview"
    browser.open(url(site, "/officer/search"))
    browser.element("patient").send_keys("patient-2")
    browser.press("ask")
    yield "search"
    browser.element("since").send_keys("soon")
    browser.press("ask")
    yield "search refused"
    browser.open(url(site, "/officer/record?chain=&sequence=5"))
    yield "record"
    browser.open(url(site, "/officer/disclosures"))
    browser.element("patient").send_keys("patient-2")
    browser.press("ask")
    yield "disclosures"
    browser.open(url(site, "/officer/signals?show=all"))
    yield "signals"
    browser.open(url(site, "/officer/break-glass?show=all"))
    yield "break-glass"
    browser.open(url(site, "/officer/nothing"))
    yield "no page"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_any_page(
    site: GatewayProcess, scripting: Chromium, scheme: str
) -> None:
    assert AXE.is_file(), "run `npm ci` in tests/interop"
    scripting.colours(scheme)
    found = {name: scripting.violations() for name in pages(site, scripting)}
    scripting.colours("light")
    assert len(found) == 10
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("size", [PHONE, (320, 640)], ids=["360 px", "320 px"])
async def test_no_page_is_wider_than_a_telephone(
    site: GatewayProcess, scriptless: Chromium, size: tuple[int, int]
) -> None:
    found = {}
    for name in pages(site, scriptless):
        scriptless.resize(size)
        found[name] = scriptless.overflow()
    assert found == dict.fromkeys(found, 0)
    assert len(found) == 10
