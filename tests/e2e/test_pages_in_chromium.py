"""The pages for people in a real browser: without scripts, by keyboard, on a telephone, and what axe-core says of them."""

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

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
LONG_SCOPE = (
    "patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"
)
SCOPE = "openid fhirUser offline_access launch/patient patient/*.rs"
MANY = f"fhirUser offline_access launch/patient patient/Observation.cruds patient/MedicationRequest.rs {LONG_SCOPE}"
LONG_NAME = "Donaudampfschifffahrtsgesellschaftskrankenversicherungsportal"
REFUSED = "User name or password is not right."
_numbers = itertools.count(1)
LIMITED = "Too many attempts. Wait a minute and try again."


@dataclass
class Site:
    """A running gateway, and apps whose redirect URI we listen at."""

    gateway: GatewayProcess
    callback: Callback

    @property
    def issuer(self) -> str:
        return str(self.gateway.facts["issuer"])

    def password(self, username: str) -> str:
        """The password of an account of the demonstration."""
        return str(next(u for u in self.gateway.facts["users"] if u["username"] == username)["password"])

    async def url(self, scope: str = SCOPE, *, app: str = "portal-dpop", uri: str = "") -> str:
        """Where an app that has just pushed its request sends the browser."""
        session = self.gateway.session(app)
        async with session:
            await session.discover()
            pushed, _, _ = await session.push(uri or self.callback.uri, scope)
            assert pushed.status == 201, pushed.body
            return session.authorization_url(pushed.json["request_uri"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    callback = Callback()

    def change(document: dict[str, Any]) -> None:
        document["privacy_url"] = "https://hospital.example/privacy"
        document["authorization"]["sign_in_attempts"] = "6/min"
        for client in document["clients"]:
            if client["redirect_uris"]:
                client["redirect_uris"] = [callback.uri, f"{callback.uri}?on=1"]
                client["policy_url"] = "https://app.example/privacy"
            if client["client_id"] == "portal-dpop-2":
                client["name"] = LONG_NAME
                client["scope"] = MANY

    gateway = await start_process(tmp_path_factory.mktemp("pages"), change=change)
    # An app that leads on to another origin, as many do; the mutual-TLS listener serves for one.
    callback.leads_on_to = f"{gateway.facts['fhir_base_mtls'].partition('/fhir')[0]}/jwks"
    yield Site(gateway, callback)
    assert await gateway.stop() == 0
    callback.close()


@pytest.fixture(scope="module")
def scriptless(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser that runs no script of any page."""
    with chromium(tmp_path_factory.mktemp("profile"), site.gateway.folder / "server.pem") as browser:
        browser.open("data:text/html,<title>off</title><script>document.title='on'</script>")
        assert browser.driver.title == "off"
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


async def consent_page(site: Site, browser: Chromium, username: str = "stephen", **asked: str) -> None:
    """As far as the consent page."""
    browser.open(await site.url(**asked))
    browser.sign_in(username, site.password(username))


# The ways through


async def test_a_patient_signs_in_and_allows_without_any_script(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    assert browser.heading() == "Sign in"
    assert "Patient portal" in browser.text()
    browser.sign_in("stephen", site.password("stephen"))
    assert browser.heading() == "Allow access?"
    assert "Record of Stephen McLaughlin" in browser.text()
    browser.press("allow")
    answer = site.callback.answer()
    assert set(answer) == {"code", "state", "iss"}
    assert answer["iss"] == site.issuer
    assert browser.heading() == "Back in the app"


async def test_A5_a_patient_who_does_not_allow_is_sent_back_with_access_denied(
    site: Site, browser: Chromium
) -> None:
    await consent_page(site, browser)
    browser.press("deny")
    answer = site.callback.answer()
    assert set(answer) == {"error", "error_description", "state", "iss"}
    assert (answer["error"], answer["iss"]) == ("access_denied", site.issuer)


@pytest.mark.parametrize("page", ["sign-in", "patient"])
async def test_A5_whoever_turns_back_earlier_is_sent_back_too(
    site: Site, browser: Chromium, page: str
) -> None:
    browser.open(await site.url())
    if page == "patient":
        browser.sign_in("dr.allen", site.password("dr.allen"))
        assert browser.heading() == "Whose record?"
    browser.press("cancel")  # with empty required fields: the button needs none
    assert site.callback.answer()["error"] == "access_denied"


async def test_a_physician_chooses_a_patient(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    browser.sign_in("dr.allen", site.password("dr.allen"))
    assert browser.heading() == "Whose record?"
    radios = browser.driver.find_elements(By.NAME, "patient")
    assert len(radios) == 2
    browser.driver.find_element(By.CSS_SELECTOR, "label[for=patient-2]").click()
    browser.press("select")
    assert "Record of Antony Anderson, born 1986" in browser.text()
    browser.press("allow")
    assert site.callback.answer()["code"]


async def test_an_unticked_scope_is_not_granted(site: Site, browser: Chromium) -> None:
    session = site.gateway.session("portal-dpop")
    async with session:
        await session.discover()
        pushed, verifier, state = await session.push(site.callback.uri, SCOPE)
        browser.open(session.authorization_url(pushed.json["request_uri"]))
        browser.sign_in("stephen", site.password("stephen"))
        browser.driver.find_element(By.CSS_SELECTOR, "input[value=offline_access]").click()
        browser.press("allow")
        answer = site.callback.answer()
        assert answer["state"] == state
        tokens = await session.redeem(answer["code"], verifier, site.callback.uri)
    assert tokens.status == 200, tokens.body
    assert set(tokens.json["scope"].split()) == {"openid", "fhirUser", "launch/patient", "patient/*.rs"}
    assert "refresh_token" not in tokens.json


async def test_a_part_of_a_scope_is_left_without_any_script(site: Site, browser: Chromium) -> None:
    session = site.gateway.session("portal-dpop")
    async with session:
        await session.discover()
        scope = "launch/patient patient/Observation.rs patient/Patient.r"
        pushed, verifier, _ = await session.push(site.callback.uri, scope)
        browser.open(session.authorization_url(pushed.json["request_uri"]))
        browser.sign_in("stephen", site.password("stephen"))
        assert not browser.element("only-2-1").is_displayed()
        browser.element("parts-2").click()
        assert browser.element("only-2-1").is_displayed()
        browser.driver.find_element(By.CSS_SELECTOR, "label[for=only-2-1]").click()
        browser.press("allow")
        tokens = await session.redeem(site.callback.answer()["code"], verifier, site.callback.uri)
    laboratory = "?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory"
    assert tokens.json["scope"] == f"launch/patient patient/Observation.rs{laboratory} patient/Patient.r"


async def test_somebody_else_can_take_over_at_the_consent_page(site: Site, browser: Chromium) -> None:
    await consent_page(site, browser)
    browser.press("other-account")
    assert browser.heading() == "Sign in"
    browser.sign_in("antony", site.password("antony"))
    assert "You are signed in as Antony Anderson." in browser.text()
    assert "Stephen" not in browser.text()


async def test_the_second_app_of_the_day_asks_for_consent_only(site: Site, browser: Chromium) -> None:
    await consent_page(site, browser)
    browser.press("allow")
    site.callback.answer()
    browser.open(await site.url())
    assert browser.heading() == "Allow access?"


async def test_an_app_may_lead_on_to_another_origin(site: Site, browser: Chromium) -> None:
    """Chromium holds that redirect too against the form-action of the page that it began at."""
    await consent_page(site, browser, uri=f"{site.callback.uri}?on=1")
    browser.press("allow")
    assert site.callback.answer()["code"]
    browser.wait_for(lambda: browser.driver.current_url == site.callback.leads_on_to)


# The page of own grants


async def test_a_person_sees_what_an_app_may_do_and_ends_it_with_one_click(
    site: Site, browser: Chromium
) -> None:
    session = site.gateway.session("portal-dpop")
    async with session:
        await session.discover()
        pushed, verifier, _ = await session.push(site.callback.uri, SCOPE)
        browser.open(session.authorization_url(pushed.json["request_uri"]))
        browser.sign_in("antony", site.password("antony"))
        browser.press("allow")
        answer = site.callback.answer()
        tokens = await session.redeem(answer["code"], verifier, site.callback.uri)
        assert tokens.status == 200, tokens.body
        browser.forget()
        browser.open(f"{site.issuer}/account/grants")
        browser.sign_in("antony", site.password("antony"))
        assert browser.heading() == "Apps with access"
        text = browser.text()
        assert "Patient portal" in text
        assert "See the whole health record of the chosen patient" in text
        assert "Last used" in text
        patient = next(u["patient"] for u in site.gateway.facts["users"] if u["username"] == "antony")
        reading = (f"{site.gateway.facts['fhir_base']}/Patient/{patient}", tokens.json["access_token"])
        assert (await session.get(*reading)).status == 502  # the token is good; there is no store here
        browser.press("revoke-1")
        assert "Patient portal has no access any more." in browser.element("ended").text
        assert (await session.get(*reading)).status == 401
    browser.element("sign-out").click()
    browser.wait_for(lambda: browser.has("logout"))
    browser.press("logout")
    assert browser.has("signed-out")


# Wrong passwords


async def test_unknown_names_and_wrong_passwords_read_the_same(site: Site, browser: Chromium) -> None:
    seen = []
    for username in ("antony", "nobody-at-all"):
        browser.forget()
        browser.open(await site.url())
        browser.sign_in(username, "wrong")
        seen.append((browser.driver.title, browser.text(), browser.element("problem").text))
        assert browser.element("username").get_property("value") == username
        assert browser.element("password").get_property("value") == ""
    assert seen[0] == seen[1]
    assert seen[0][2] == REFUSED
    assert seen[0][0].startswith("Error: Sign in")


async def test_after_a_wrong_password_the_right_one_works(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    browser.sign_in("stephen", "wrong")
    browser.sign_in("stephen", site.password("stephen"))
    assert browser.heading() == "Allow access?"


async def test_too_many_attempts_are_told_to_wait(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    said = REFUSED
    for _ in range(30):  # a minute may begin on the way, and the count with it
        if said == LIMITED:
            break
        assert said == REFUSED
        browser.sign_in("guessed.name", "wrong")
        said = browser.element("problem").text
    assert said == LIMITED


# Back, again, elsewhere


async def test_the_back_button_after_consent_does_not_grant_twice(site: Site, browser: Chromium) -> None:
    await consent_page(site, browser)
    browser.press("allow")
    assert site.callback.answer()["code"]
    browser.back()
    if browser.has("allow"):
        browser.press("allow")
    assert browser.has("error")
    assert "completed already" in browser.element("error-description").text
    assert site.callback.is_quiet()


async def test_the_back_button_before_consent_leads_to_no_dead_end(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    browser.sign_in("dr.allen", site.password("dr.allen"))
    browser.press("select")
    assert browser.heading() == "Allow access?"
    browser.back()
    assert browser.heading() in ("Whose record?", "Allow access?")
    if browser.has("select"):
        browser.driver.find_element(By.CSS_SELECTOR, "label[for=patient-2]").click()
        browser.press("select")
    assert "Record of" in browser.text()
    browser.press("allow")
    assert site.callback.answer()["code"]


async def test_P8_reloading_the_address_of_the_app_begins_again(site: Site, browser: Chromium) -> None:
    url = await site.url()
    browser.open(url)
    browser.open(url)
    browser.sign_in("stephen", site.password("stephen"))
    browser.press("allow")
    assert site.callback.answer()["code"]
    browser.open(url)
    assert browser.has("error")


async def test_P8_one_request_uri_in_two_browsers_gives_one_code(
    site: Site, browser: Chromium, judge: Chromium
) -> None:
    url = await site.url()
    for each in (browser, judge):
        each.open(url)
        each.sign_in("stephen", site.password("stephen"))
        assert each.heading() == "Allow access?"
    browser.press("allow")
    assert site.callback.answer()["code"]
    judge.press("allow")
    assert judge.has("error")
    assert site.callback.is_quiet()


async def test_nothing_of_the_way_here_is_told_to_the_app(site: Site, browser: Chromium) -> None:
    site.callback.referrers.clear()
    await consent_page(site, browser)
    browser.press("allow")
    site.callback.answer()
    assert site.callback.referrers == [None]


# What the browser is told to forbid


async def test_scripts_that_got_into_a_page_do_not_run(site: Site, judge: Chromium) -> None:
    judge.open(await site.url())
    judge.evaluate(
        "{const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.setAttribute('onerror', 'window.ran = 1');"
        "i.src = '/nothing'; document.body.append(i);}"
    )
    judge.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    assert judge.evaluate("window.ran === undefined") is True


@pytest.mark.parametrize("page", ["sign-in", "consent", "error"])
async def test_no_page_can_be_framed_even_by_this_very_site(site: Site, judge: Chromium, page: str) -> None:
    judge.open(await site.url())
    if page == "consent":
        judge.sign_in("stephen", site.password("stephen"))
    shown = {"sign-in": "username", "consent": "allow", "error": "error"}[page]
    framed = f"{site.issuer}/authorize" if page == "error" else judge.driver.current_url
    judge.open(f"{site.issuer}/jwks")
    judge.evaluate(
        "new Promise(loaded => {const f = document.createElement('iframe'); f.onload = () => loaded(1);"
        f"f.src = '{framed}'; document.body.append(f);}})"
    )
    judge.driver.switch_to.frame(judge.driver.find_element(By.TAG_NAME, "iframe"))
    is_shown = judge.has(shown)
    judge.driver.switch_to.default_content()
    assert not is_shown
    judge.open(framed)
    assert judge.has(shown)


async def test_the_cookie_is_kept_from_scripts_and_other_hosts(site: Site, judge: Chromium) -> None:
    judge.open(await site.url())
    assert judge.evaluate("document.cookie") == ""
    cookies = judge.driver.execute_cdp_cmd("Network.getCookies", {"urls": [site.issuer]})["cookies"]
    assert [c["name"] for c in cookies] == ["__Host-securus"]
    cookie = cookies[0]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Lax")
    assert (cookie["domain"], cookie["path"], cookie["session"]) == ("localhost", "/", True)


# For everybody


async def pages(site: Site, browser: Chromium) -> AsyncIterator[str]:
    """Every page there is, the longest texts among them; named once the browser shows it."""
    browser.open(await site.url())
    yield "sign-in"
    browser.sign_in(f"visitor-{next(_numbers)}", "wrong")
    yield "wrong password"
    browser.sign_in("dr.allen", site.password("dr.allen"))
    yield "patient"
    browser.press("select")
    yield "consent"
    browser.press("allow")
    site.callback.answer()
    browser.forget()
    browser.open(f"{site.issuer}/account/grants")
    yield "sign-in to the own grants"
    browser.sign_in("dr.allen", site.password("dr.allen"))
    yield "own grants"
    browser.forget()
    await consent_page(site, browser, app="portal-dpop-2", scope=MANY)
    yield "long consent"
    browser.element("parts-4").click()
    yield "long consent, unfolded"
    browser.open(f"{site.issuer}/authorize?request_uri={'x' * 500}")
    yield "error"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_any_page(site: Site, judge: Chromium, scheme: str) -> None:
    assert AXE.is_file(), "run `npm ci` in tests/interop"
    judge.colours(scheme)
    found = {name: judge.violations() async for name in pages(site, judge)}
    judge.colours("light")
    assert len(found) == 9
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("size", [PHONE, (320, 640)], ids=["360 px", "320 px"])
async def test_no_page_is_wider_than_a_telephone(
    site: Site, browser: Chromium, size: tuple[int, int]
) -> None:
    found = {}
    async for name in pages(site, browser):
        browser.resize(size)
        found[name] = browser.overflow()
        assert browser.evaluate("innerWidth") == size[0]
    assert found == dict.fromkeys(found, 0)
    assert len(found) == 9


async def test_everything_to_press_is_large_enough_for_a_finger(site: Site, browser: Chromium) -> None:
    """WCAG 2.2, 2.5.8: 24 px; buttons and fields are larger, as fingers in gloves want them."""
    async for name in pages(site, browser):
        browser.resize(PHONE)
        for control in browser.driver.find_elements(By.CSS_SELECTOR, "button, input:not([type=hidden])"):
            if not control.is_displayed():  # a part of a scope, folded away
                continue
            box = control.rect
            least = 24 if control.get_attribute("type") in ("radio", "checkbox") else 44
            assert min(box["width"], box["height"]) >= least, (name, control.get_attribute("id"), box)


async def test_the_way_through_needs_nothing_but_a_keyboard(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    browser.keys(Keys.TAB, "dr.allen", Keys.TAB, site.password("dr.allen"), Keys.ENTER)
    browser.wait_for(lambda: browser.has("select"))
    browser.keys(Keys.TAB, Keys.ARROW_DOWN, Keys.TAB)
    assert browser.focused() == "select"
    browser.keys(Keys.ENTER)
    browser.wait_for(lambda: browser.has("allow"))
    assert "Antony Anderson" in browser.text()
    seen = []
    while browser.focused() != "allow":
        browser.keys(Keys.TAB)
        seen.append(browser.focused())
        assert len(seen) < 20
        if seen[-1].startswith("scope-"):
            browser.keys(Keys.SPACE)
            browser.keys(Keys.SPACE)
    assert [id for id in seen if id.startswith("scope-")] == [f"scope-{n}" for n in range(1, 6)]
    browser.keys(Keys.ENTER)
    assert site.callback.answer()["code"]


async def test_what_has_the_focus_can_be_seen(site: Site, browser: Chromium) -> None:
    browser.open(await site.url())
    for id in ("username", "password", "login", "cancel"):
        browser.keys(Keys.TAB)
        assert browser.focused() == id
        outline = browser.evaluate("getComputedStyle(document.activeElement).outline")
        assert "solid 3px" in outline, (id, outline)


class _Controls(HTMLParser):
    """The controls and labels of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.controls: dict[str, dict[str, str | None]] = {}
        self.labelled: set[str | None] = set()
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "label":
            self.labelled.add(given["for"])
        elif tag == "input" and given["type"] != "hidden":
            self.controls[str(given["id"])] = given


async def test_every_field_has_a_label_and_tells_password_managers_what_it_is(
    site: Site, browser: Chromium
) -> None:
    async for name in pages(site, browser):
        found = _Controls(browser.driver.page_source)
        assert set(found.controls) == found.labelled, name
        if "username" in found.controls:
            username, password = found.controls["username"], found.controls["password"]
            assert (username["autocomplete"], username["type"]) == ("username", "text")
            assert (password["autocomplete"], password["type"]) == ("current-password", "password")
            assert "required" in username
            assert "required" in password


async def test_pages_carry_language_title_and_nothing_from_elsewhere(site: Site, judge: Chromium) -> None:
    async for name in pages(site, judge):
        assert judge.evaluate("document.documentElement.lang") == "en"
        assert judge.driver.title.endswith("· Example Hospital"), name
        loaded = judge.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
        assert loaded
        assert {urlsplit(url).netloc for url in loaded} == {urlsplit(site.issuer).netloc}
