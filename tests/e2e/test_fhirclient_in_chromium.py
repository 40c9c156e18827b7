"""npm fhirclient in a real browser, as apps embed it: launches, reads, refreshes against a gateway of another origin."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.app_server import AppServer
from tests.support.chromium import Chromium, chromium
from tests.support.smart_site import SmartSite, start_smart_site

INTEROP = Path(__file__).parents[1] / "interop"
LIBRARY = INTEROP / "node_modules/fhirclient/build/fhir-client.js"
pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium-apps"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not LIBRARY.is_file(), reason="needs `npm ci` in tests/interop"),
]
SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"
SEEN = "window.seen"


@dataclass
class App:
    """The app in the browser, and the gateway that it reads from."""

    site: SmartSite
    server: AppServer
    browser: Chromium

    def begin(
        self, client_id: str, *, scope: str = SCOPE, query: dict[str, str] | None = None, **more: Any
    ) -> None:
        """Open the launch page of the app, registered as client_id."""
        self.browser.forget()
        self.server.settings["authorize"] = {
            "clientId": client_id,
            "scope": scope,
            "redirectUri": "/index.html",
            "pkceMode": "required",
            **({} if query else {"iss": self.site.base}),
            **more,
        }
        self.browser.open(f"{self.server.origin}/launch.html?{urlencode(query or {})}")

    def sign_in_and_allow(self, username: str = "stephen") -> dict[str, Any]:
        """Through our pages, back to what the app saw."""
        self.browser.wait_for(lambda: self.browser.has("login"))
        self.browser.sign_in(username, str(self.site.user(username)["password"]))
        while self.browser.has("select"):
            self.browser.press("select")
        self.browser.press("allow")
        return self.seen(reads=1)

    def seen(self, *, reads: int) -> dict[str, Any]:
        """What the app saw after so many readings."""
        self.browser.wait_for(lambda: self.browser.evaluate(f"{SEEN}.reads >= {reads} || !!{SEEN}.error"))
        found: dict[str, Any] = self.browser.evaluate(SEEN)
        assert "error" not in found, found
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[SmartSite, AppServer]]:
    files = {f"/{name}": INTEROP / "apps" / name for name in ("launch.html", "index.html")}
    server = AppServer({**files, "/fhir-client.js": LIBRARY})
    try:
        folder = tmp_path_factory.mktemp("apps")
        site = await start_smart_site(folder, redirect_uri=f"{server.origin}/index.html")
        try:
            yield site, server
        finally:
            await site.stop()
    finally:
        server.close()


@pytest.fixture(scope="module")
def app(served: tuple[SmartSite, AppServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    site, server = served
    folder = tmp_path_factory.mktemp("profile")
    with chromium(folder, site.gateway.folder / "server.pem", scripts=True) as browser:
        yield App(site, server, browser)


async def test_a_standalone_launch_reads_the_own_record_and_nothing_else(app: App) -> None:
    app.begin("app-public")
    seen = app.sign_in_and_allow()
    assert seen["id"] == PATIENT
    assert seen["subjects"] == [f"Patient/{PATIENT}"]
    assert "McLaughlin" in app.browser.text()
    assert len(app.browser.driver.find_elements("css selector", "#results li")) == 3
    assert seen["response"]["token_type"] == "Bearer"
    assert seen["fhirUser"] == f"Patient/{PATIENT}"


async def test_the_app_refreshes_though_it_names_no_client(app: App) -> None:
    """fhirclient sends grant_type and refresh_token alone, which are all that SMART App Launch 2.2 lists."""
    app.begin("app-public")
    first = app.sign_in_and_allow()
    app.browser.element("refresh").click()
    second = app.seen(reads=2)
    assert second["token"] != first["token"]
    assert second["refresh_token"] != first["refresh_token"]  # public apps: replaced at each use
    assert second["id"] == PATIENT
    app.browser.element("refresh").click()
    assert app.seen(reads=3)["token"] != second["token"]


async def test_a_reload_of_the_page_goes_on_with_the_token_that_it_has(app: App) -> None:
    app.begin("app-public")
    first = app.sign_in_and_allow()
    app.browser.driver.refresh()
    assert app.seen(reads=1)["token"] == first["token"]


async def test_a_launch_from_the_record_system_opens_its_patient_for_staff(app: App) -> None:
    made = await app.site.launch("app-public", "dr.allen", patient=OTHER_PATIENT, need_patient_banner=False)
    app.begin(
        "app-public",
        scope="launch openid fhirUser patient/*.rs",
        query={"iss": made["iss"], "launch": made["launch"]},
    )
    seen = app.sign_in_and_allow("dr.allen")
    assert seen["id"] == OTHER_PATIENT
    assert seen["subjects"] == [f"Patient/{OTHER_PATIENT}"]
    assert seen["response"]["need_patient_banner"] is False
    assert seen["fhirUser"].startswith("Practitioner/")


async def test_a_used_launch_is_told_to_the_app(app: App) -> None:
    made = await app.site.launch("app-public", "stephen", patient=PATIENT)
    asked = {"iss": made["iss"], "launch": made["launch"]}
    app.begin("app-public", scope="launch patient/*.rs", query=asked)
    app.sign_in_and_allow()
    app.begin("app-public", scope="launch patient/*.rs", query=asked)
    app.browser.wait_for(lambda: bool(app.browser.evaluate(f"{SEEN} && {SEEN}.error")))
    assert "invalid_request: launch is not known here" in app.browser.evaluate(f"{SEEN}.error")


async def test_a_person_who_denies_sends_the_app_an_error(app: App) -> None:
    app.begin("app-public")
    app.browser.wait_for(lambda: app.browser.has("login"))
    app.browser.sign_in("stephen", str(app.site.user("stephen")["password"]))
    app.browser.press("deny")
    app.browser.wait_for(lambda: bool(app.browser.evaluate(f"{SEEN}.error")))
    assert "access_denied" in app.browser.evaluate(f"{SEEN}.error")


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_an_app_with_a_key_signs_its_assertion_in_the_browser(app: App, algorithm: str) -> None:
    app.begin("app-keys", clientPrivateJwk=app.site.private_jwk(algorithm))
    seen = app.sign_in_and_allow()
    assert (seen["id"], seen["subjects"]) == (PATIENT, [f"Patient/{PATIENT}"])
    assert seen["refresh_token"]


async def test_an_app_with_a_secret_sends_it_from_the_browser(app: App) -> None:
    app.begin("app-secret", clientSecret=app.site.secret)
    assert app.sign_in_and_allow()["id"] == PATIENT
    app.browser.element("refresh").click()
    assert app.seen(reads=2)["id"] == PATIENT


async def test_another_record_is_refused_in_words_that_the_app_can_read(app: App) -> None:
    app.begin("app-public")
    app.sign_in_and_allow()
    told = app.browser.evaluate(
        f"fetch('{app.site.base}/Patient/{OTHER_PATIENT}', {{headers: {{authorization: 'Bearer ' + {SEEN}.token}}}})"
        ".then(r => r.json().then(body => [r.status, body.resourceType]))"
    )
    assert told == [404, "OperationOutcome"]
    none = app.browser.evaluate(
        f"fetch('{app.site.base}/Patient/{PATIENT}').then(r => [r.status, r.headers.get('www-authenticate')])"
    )
    assert none[0] == 401
    assert "resource_metadata=" in none[1]
