"""The pickers of patients and visits in a real browser, before the sample store: without scripts, and by axe-core."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.chromium import AXE, PHONE, Callback, Chromium, chromium
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]
SCOPE = "openid fhirUser launch/patient launch/encounter patient/*.rs"
LIZ = "ee9f8dd8-72d2-4769-8020-89e504b1504b"
SURGERY = "b262dced-d5e7-40e1-995b-57149e439e0d"


@dataclass
class Site:
    """A running gateway before a sample store, and an app."""

    gateway: GatewayProcess
    callback: Callback

    def password(self, username: str) -> str:
        return str(next(u for u in self.gateway.facts["users"] if u["username"] == username)["password"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    callback = Callback()

    def change(document: dict[str, Any]) -> None:
        for client in document["clients"]:
            if client["client_id"] == "portal-dpop":
                client["redirect_uris"] = [callback.uri]
                client["scope"] += " launch/encounter"

    gateway = await start_process(tmp_path_factory.mktemp("pickers"), change=change)
    # A process of its own: the browser is waited for in this one.
    store = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.demo.fhir_server", str(gateway.ports.upstream)
    )
    yield Site(gateway, callback)
    store.terminate()
    await store.wait()
    assert await gateway.stop() == 0
    callback.close()


@pytest.fixture(scope="module")
def scriptless(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile"), site.gateway.folder / "server.pem") as browser:
        yield browser


@pytest.fixture(scope="module")
def scripting(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    folder = tmp_path_factory.mktemp("scripting")
    with chromium(folder, site.gateway.folder / "server.pem", scripts=True) as browser:
        yield browser


@pytest.fixture
def browser(scriptless: Chromium) -> Chromium:
    scriptless.forget()
    return scriptless


async def at_the_picker(site: Site, browser: Chromium) -> tuple[Any, str]:
    """dr.allen at the page /patient; the session of the app and its verifier."""
    session = site.gateway.session("portal-dpop")
    await session.discover()
    pushed, verifier, _ = await session.push(site.callback.uri, SCOPE)
    assert pushed.status == 201, pushed.body
    browser.open(session.authorization_url(pushed.json["request_uri"]))
    browser.sign_in("dr.allen", site.password("dr.allen"))
    assert browser.heading() == "Whose record?"
    return session, verifier


def search(browser: Chromium, words: str) -> None:
    field = browser.element("query")
    field.clear()
    field.send_keys(words)
    browser.press("search")


async def test_a_physician_finds_a_patient_and_a_visit_without_any_script(
    site: Site, browser: Chromium
) -> None:
    session, verifier = await at_the_picker(site, browser)
    async with session:
        assert "Stephen McLaughlin" in browser.text()  # of the ward
        search(browser, "liz conn")
        assert "Liz Conn" in browser.text()
        assert "born 28 November 1986" in browser.text()
        assert "liz" not in browser.driver.current_url
        browser.press("select")
        assert browser.heading() == "Which visit?"
        browser.driver.find_element(By.CSS_SELECTOR, f"input[value='{SURGERY}']").click()
        browser.press("select")
        text = browser.text()
        assert "Record of Liz Conn" in text
        assert (
            "Visit: Admission to surgical department, 29 September 2012, 20:37 to 30 September 2012" in text
        )
        browser.press("allow")
        tokens = await session.redeem(site.callback.answer()["code"], verifier, site.callback.uri)
        assert tokens.status == 200, tokens.body
        assert (tokens.json["patient"], tokens.json["encounter"]) == (LIZ, SURGERY)
    searches = [
        record
        for record in site.gateway.audit()
        if record.get("event") == "access" and record["interaction"] == "search"
    ]
    assert {record["caller"]["token"] for record in searches} == {"picker"}
    assert "liz" not in str(site.gateway.log).lower()


async def test_a_birth_date_finds_and_nothing_is_found_for_nobody(site: Site, browser: Chromium) -> None:
    session, _ = await at_the_picker(site, browser)
    async with session:
        search(browser, "1986-11-28")
        assert "Liz Conn" in browser.text()
        search(browser, "nobody-of-this-name")
        assert browser.has("nothing-found")
        search(browser, "x")
        assert browser.element("problem").text == "Search with 2 to 100 characters."
        browser.press("cancel")
        assert site.callback.answer()["error"] == "access_denied"


async def test_the_way_through_needs_nothing_but_a_keyboard(site: Site, browser: Chromium) -> None:
    session, _ = await at_the_picker(site, browser)
    async with session:
        for _ in range(10):
            browser.keys(Keys.TAB)
            if browser.focused() == "query":
                break
        browser.keys("liz conn", Keys.ENTER)  # which searches, and chooses nobody
        browser.wait_for(lambda: "Liz Conn" in browser.text())
        assert browser.heading() == "Whose record?"
        browser.keys(Keys.TAB, Keys.TAB)
        assert browser.focused() == "select"
        browser.keys(Keys.ENTER)
        browser.wait_for(lambda: browser.heading() == "Which visit?")
        browser.keys(Keys.TAB, Keys.ARROW_DOWN, Keys.TAB, Keys.TAB)
        assert browser.focused() == "without"
        browser.keys(Keys.ENTER)
        browser.wait_for(lambda: browser.heading() == "Allow access?")
        assert "launch/encounter" not in browser.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_the_pickers(site: Site, scripting: Chromium, scheme: str) -> None:
    assert AXE.is_file(), "run `npm ci` in tests/interop"
    scripting.forget()
    scripting.colours(scheme)
    session, _ = await at_the_picker(site, scripting)
    async with session:
        found = {"ward": scripting.violations()}
        search(scripting, "x")
        found["problem"] = scripting.violations()
        search(scripting, "nobody-of-this-name")
        found["nobody"] = scripting.violations()
        search(scripting, "liz")
        found["found"] = scripting.violations()
        scripting.press("select")
        found["visits"] = scripting.violations()
        scripting.resize(PHONE)
        assert scripting.overflow() == 0
    scripting.colours("light")
    assert found == {name: [] for name in found}
    assert len(found) == 5
