"""The pages under /account in a real browser: both languages, light and dark, on a telephone, by keyboard, and axe-core."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from authz.login.language import LANGUAGES
from tests.support.chromium import AXE, Chromium, chromium
from tests.support.processes import GatewayProcess, start_process

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]
PHONE = (360, 640)
GERMAN = LANGUAGES["de"]


@dataclass
class Site:
    """A running gateway in which Antony may act for Stephen."""

    gateway: GatewayProcess

    @property
    def issuer(self) -> str:
        return str(self.gateway.facts["issuer"])

    @property
    def represented(self) -> str:
        return str(next(u for u in self.gateway.facts["users"] if u["username"] == "stephen")["patient"])

    def enter(self, browser: Chromium, username: str, path: str = "/account") -> None:
        """The page, signed in to."""
        browser.open(f"{self.issuer}{path}")
        if browser.has("login"):
            found = next(u for u in self.gateway.facts["users"] if u["username"] == username)
            browser.sign_in(username, str(found["password"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    def change(document: dict[str, Any]) -> None:
        document["authorization"]["sign_in_attempts"] = "1000/min"
        document["upstreams"]["fhir"]["consents"] = {"kept": "here"}
        document["account_pages"] = {
            "consents": {
                "custodian": "Organization/1",
                "organizations": [{"id": "lab", "name": "Laboratory North"}],
            }
        }
        known = {user["username"]: user for user in document["users"]}
        known["antony"]["represents"] = [
            {
                "patient": known["stephen"]["patient"],
                "label": "Stephen McLaughlin",
                "relationship": "HPOWATT",
                "until": "2099-12-31",
            }
        ]

    gateway = await start_process(tmp_path_factory.mktemp("account"), change=change)
    yield Site(gateway)
    assert await gateway.stop() == 0


@pytest.fixture(scope="module")
def scriptless(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser that runs no script of any page."""
    with chromium(tmp_path_factory.mktemp("profile"), site.gateway.folder / "server.pem") as browser:
        yield browser


@pytest.fixture(scope="module")
def scripting(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser as people have it, in which axe-core can run."""
    folder = tmp_path_factory.mktemp("scripting")
    with chromium(folder, site.gateway.folder / "server.pem", scripts=True) as browser:
        yield browser


@pytest.fixture
def browser(scriptless: Chromium) -> Chromium:
    scriptless.forget()
    return scriptless


@pytest.fixture
def judge(scripting: Chromium) -> Chromium:
    scripting.forget()
    return scripting


def click(browser: Chromium, selector: str) -> None:
    """Press what lies below a label or link, and wait for the page where one follows."""
    browser.driver.find_element(By.CSS_SELECTOR, selector).click()


def follow(browser: Chromium, id: str) -> None:
    """Follow a link."""
    browser.press(id)


def make_consent(browser: Chromium) -> None:
    """Fill in the form: this app, everything that is not sensitive, for treatment."""
    click(browser, "label[for=decision-permit]")
    click(browser, "label[for=whom-app]")
    Select(browser.element("app")).select_by_value("portal-dpop")
    click(browser, "label[for=what-normal]")
    click(browser, "label[for=purpose-TREAT]")
    browser.press("save")


def pages(site: Site, browser: Chromium, language: str) -> Iterator[str]:
    """Every page there is, in a language; named once the browser shows it."""
    browser.open(f"{site.issuer}/account")
    if language != "en":
        follow(browser, f"language-{language}")
    yield "sign-in"
    site.enter(browser, "antony")
    yield "start"
    for name in ("grants", "consents", "accesses", "download"):
        site.enter(browser, "antony", f"/account/{name}")
        yield name
    site.enter(browser, "antony", "/account/consents/edit")
    yield "form"
    click(browser, "label[for=decision-deny]")
    click(browser, "label[for=whom-app]")
    click(browser, "label[for=what-normal]")
    browser.press("save")
    assert browser.has("problem")
    yield "form with problems"
    site.enter(browser, "antony", "/account/consents/edit")
    make_consent(browser)
    yield "consents with one"
    follow(browser, "history-1")
    yield "history"
    site.enter(browser, "antony", "/account/consents")
    follow(browser, "receipt-1")
    yield "receipt"
    site.enter(browser, "antony", f"/account/accesses?for={site.represented}")
    yield "accesses of somebody represented"
    site.enter(browser, "antony", "/account/accesses?from=never")
    yield "a day that is none"
    site.enter(browser, "antony", "/account/accesses?before=x")
    yield "error"


COUNT = 14


@pytest.mark.parametrize("language", list(LANGUAGES))
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_any_page(
    site: Site, judge: Chromium, scheme: str, language: str
) -> None:
    assert AXE.is_file(), "run `npm ci` in tests/interop"
    judge.colours(scheme)
    found = {}
    for name in pages(site, judge, language):
        assert judge.evaluate("document.documentElement.lang") == language
        found[name] = judge.violations()
    judge.colours("light")
    assert len(found) == COUNT
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("language", list(LANGUAGES))
async def test_every_page_fits_a_telephone_and_a_finger(site: Site, browser: Chromium, language: str) -> None:
    """WCAG 2.2, 1.4.10 and 2.5.8: nothing beside the window, nothing to press smaller than 24 px."""
    found, small = {}, []
    browser.resize(PHONE)
    for name in pages(site, browser, language):
        assert browser.evaluate("innerWidth") == PHONE[0]
        found[name] = browser.overflow()
        for control in browser.driver.find_elements(
            By.CSS_SELECTOR, "a, button, select, input:not([type=hidden])"
        ):
            box = control.rect
            if control.is_displayed() and min(box["width"], box["height"]) < 24:
                small.append((name, control.get_attribute("id"), control.text, box))
    assert found == dict.fromkeys(found, 0)
    assert len(found) == COUNT
    assert small == []


async def test_a_consent_is_made_by_keyboard_alone_without_any_script(site: Site, browser: Chromium) -> None:
    site.enter(browser, "stephen", "/account/consents/edit")
    seen: list[str] = []
    while browser.focused() != "save":
        browser.keys(Keys.TAB)
        seen.append(browser.focused())
        assert len(seen) < 80
        if (
            seen[-1] in ("decision-permit", "what-everything")
            or seen[-1] == "whom-everybody"
            or seen[-1] == "purpose-TREAT"
        ):
            browser.keys(Keys.SPACE)
    assert {"decision-permit", "whom-everybody", "what-everything", "purpose-TREAT", "until"} <= set(seen)
    browser.keys(Keys.ENTER)
    browser.wait_for(lambda: browser.has("said"))
    assert (
        "I permit everybody who is involved to use my whole record, for treatment."
        in browser.element("said").text
    )
    browser.press("withdraw-1")
    assert "The consent is withdrawn." in browser.element("said").text


async def test_whom_a_page_is_about_is_chosen_on_every_page_and_said(site: Site, browser: Chromium) -> None:
    for path in ("", "/grants", "/consents", "/accesses", "/download"):
        site.enter(browser, "antony", f"/account{path}")
        assert "your own record: Antony Anderson" in browser.element("whom").text
        follow(browser, "for-1")
        said = browser.element("whom").text
        assert "the record of Stephen McLaughlin" in said
        assert "person with health care power of attorney" in said
        assert f"for={site.represented}" in browser.driver.current_url


async def test_a_look_of_a_representative_stands_among_the_accesses_of_the_patient(
    site: Site, browser: Chromium
) -> None:
    site.enter(browser, "antony", f"/account/accesses?for={site.represented}")
    browser.forget()

    def told() -> bool:
        site.enter(browser, "stephen", "/account/accesses")
        return "Antony Anderson" in browser.text()

    browser.wait_for(told)  # the index follows the log
    assert "Looked at these pages" in browser.text()


async def test_the_switch_stays_and_speaks_at_the_pages_of_apps_too(site: Site, browser: Chromium) -> None:
    browser.open(f"{site.issuer}/account")
    assert browser.heading() == "Sign in"
    follow(browser, "language-de")
    assert browser.heading() == "Anmelden"
    assert browser.driver.title == f"{GERMAN.plain('sign_in.title')} · Example Hospital"
    site.enter(browser, "stephen")
    assert browser.heading() == "Mein Konto"
    browser.open(f"{site.issuer}/authorize?request_uri=x")
    assert browser.heading() == "Das hat nicht geklappt"
    browser.open(f"{site.issuer}/logout")
    assert browser.heading() == "Abmelden?"


async def test_files_come_as_files(site: Site, browser: Chromium) -> None:
    site.enter(browser, "stephen", "/account/download")
    links = browser.driver.find_elements(By.CSS_SELECTOR, "dl.pages a[download]")
    assert [link.get_attribute("id") for link in links] == [
        "page",
        "json",
        "ndjson",
        "consents",
        "csv",
        "accesses",
    ]
