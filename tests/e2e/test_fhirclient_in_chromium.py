"""npm fhirclient in a real browser, as apps embed it: launches, reads, refreshes against a gateway of another origin."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.app_server import AppServer
from tests.support.browser_app import APPS, MODULES, BrowserApp, served
from tests.support.chromium import chromium
from tests.support.smart_site import SmartSite

LIBRARY = MODULES / "fhirclient/build/fhir-client.js"
pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium-apps"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        "CI" not in os.environ and not LIBRARY.is_file(), reason="needs `npm ci` in tests/interop"
    ),
]
SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"
SEEN = "window.seen"
SUBMIT = """(action, fields) => {
  const form = document.createElement("form");
  form.method = "POST"; form.action = action;
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    input.name = name; input.value = value; form.append(input);
  }
  document.body.append(form); form.submit();
}"""
OFF_THE_LIST = "ee9f8dd8-72d2-4769-8020-89e504b1504b"


class App(BrowserApp):
    """The app of launch.html and index.html."""

    def launch(
        self, client_id: str, *, scope: str = SCOPE, query: dict[str, str] | None = None, **more: Any
    ) -> None:
        """Open the launch page of the app, registered as client_id."""
        asked = {"clientId": client_id, "scope": scope, "redirectUri": "/index.html", "pkceMode": "required"}
        whole = {**asked, **({} if query else {"iss": self.site.base}), **more}
        self.begin("/launch.html", {"authorize": whole}, query)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[SmartSite, AppServer]]:
    files = {f"/{name}": APPS / name for name in ("launch.html", "index.html")}
    folder = tmp_path_factory.mktemp("apps")
    async with served(folder, {**files, "/fhir-client.js": LIBRARY}, page="/index.html") as both:
        yield both


@pytest.fixture(scope="module")
def app(running: tuple[SmartSite, AppServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    site, server = running
    folder = tmp_path_factory.mktemp("profile")
    with chromium(folder, site.gateway.folder / "server.pem", scripts=True) as browser:
        yield App(site, server, browser)


async def test_a_standalone_launch_reads_the_own_record_and_nothing_else(app: App) -> None:
    app.launch("app-public")
    seen = app.sign_in_and_allow()
    assert seen["id"] == PATIENT
    assert seen["subjects"] == [f"Patient/{PATIENT}"]
    assert "McLaughlin" in app.browser.text()
    assert len(app.browser.driver.find_elements("css selector", "#results li")) == 3
    assert seen["response"]["token_type"] == "Bearer"
    assert (seen["fhirUser"], seen["user"]) == (f"Patient/{PATIENT}", "Patient")


async def test_the_app_refreshes_though_it_names_no_client(app: App) -> None:
    """fhirclient sends grant_type and refresh_token alone, which are all that SMART App Launch 2.2 lists."""
    app.launch("app-public")
    first = app.sign_in_and_allow()
    app.browser.element("refresh").click()
    second = app.seen(reads=2)
    assert second["token"] != first["token"]
    assert second["refresh_token"] != first["refresh_token"]  # public apps: replaced at each use
    assert second["id"] == PATIENT
    app.browser.element("refresh").click()
    assert app.seen(reads=3)["token"] != second["token"]


async def test_a_reload_of_the_page_goes_on_with_the_token_that_it_has(app: App) -> None:
    app.launch("app-public")
    first = app.sign_in_and_allow()
    app.browser.driver.refresh()
    assert app.seen(reads=1)["token"] == first["token"]


async def test_a_form_of_the_apps_page_finds_the_person_signed_in(app: App) -> None:
    """Browsers keep our cookie from a form of another site: what answers it leads on to where the cookie is sent."""
    app.launch("app-public")
    app.sign_in_and_allow()
    asked = {
        "response_type": "code",
        "client_id": "app-public",
        "redirect_uri": f"{app.server.origin}/index.html",
        "scope": "launch/patient patient/*.rs",
        "state": "s-1",
        "aud": app.site.base,
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    for _ in range(2):  # nor is the session gone after it
        app.browser.evaluate(f"({SUBMIT})({json.dumps(app.site.issuer + '/authorize')}, {json.dumps(asked)})")
        app.browser.wait_for(lambda: app.browser.has("allow") or app.browser.has("login"))
        assert app.browser.has("allow")
        app.browser.open(f"{app.server.origin}/index.html")


async def test_a_launch_from_the_record_system_opens_its_patient_for_staff(app: App) -> None:
    made = await app.site.launch("app-public", "dr.allen", patient=OTHER_PATIENT, need_patient_banner=False)
    app.launch(
        "app-public",
        scope="launch openid fhirUser patient/*.rs",
        query={"iss": made["iss"], "launch": made["launch"]},
    )
    seen = app.sign_in_and_allow("dr.allen")
    assert seen["id"] == OTHER_PATIENT
    assert seen["subjects"] == [f"Patient/{OTHER_PATIENT}"]
    assert seen["response"]["need_patient_banner"] is False
    assert seen["fhirUser"].startswith("Practitioner/")
    assert seen["user"] == "Practitioner"


async def test_a_used_launch_is_told_to_the_app(app: App) -> None:
    made = await app.site.launch("app-public", "stephen", patient=PATIENT)
    asked = {"iss": made["iss"], "launch": made["launch"]}
    app.launch("app-public", scope="launch patient/*.rs", query=asked)
    app.sign_in_and_allow()
    app.launch("app-public", scope="launch patient/*.rs", query=asked)
    assert "invalid_request: launch is not known here" in app.error()


async def test_a_person_who_denies_sends_the_app_an_error(app: App) -> None:
    app.launch("app-public")
    app.sign_in()
    app.browser.press("deny")
    assert "access_denied" in app.error()


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
async def test_an_app_with_a_key_signs_its_assertion_in_the_browser(app: App, algorithm: str) -> None:
    app.launch("app-keys", clientPrivateJwk=app.site.private_jwk(algorithm))
    seen = app.sign_in_and_allow()
    assert (seen["id"], seen["subjects"]) == (PATIENT, [f"Patient/{PATIENT}"])
    assert seen["refresh_token"]


async def test_an_app_with_a_key_cannot_refresh_because_the_library_then_sends_no_assertion(app: App) -> None:
    """Whoever must authenticate is not let in by a refresh token alone (RFC 6749 6), and is told why."""
    app.launch("app-keys", clientPrivateJwk=app.site.private_jwk("ES384"))
    app.sign_in_and_allow()
    app.browser.element("refresh").click()
    assert "invalid_client: a client must authenticate" in app.error()


async def test_an_app_with_a_secret_sends_it_from_the_browser(app: App) -> None:
    app.launch("app-secret", clientSecret=app.site.secret)
    assert app.sign_in_and_allow()["id"] == PATIENT
    app.browser.element("refresh").click()
    assert app.seen(reads=2)["id"] == PATIENT


async def test_the_library_follows_pages_resolves_references_and_posts_searches(app: App) -> None:
    app.launch("app-public")
    app.sign_in_and_allow()
    whole = app.browser.evaluate(
        "client.request('Observation?_count=20', {pageLimit: 0, flat: true}).then(r => r.map(o => o.id))"
    )
    assert len(whole) == len(set(whole)) == 51
    names = app.browser.evaluate(
        "client.request('Observation?_count=2', {flat: true, resolveReferences: ['subject']})"
        ".then(r => r.map(o => o.subject.name[0].family))"
    )
    assert names == ["McLaughlin", "McLaughlin"]
    posted = app.browser.evaluate(
        "client.request({url: 'Observation/_search', method: 'POST', body: 'category=survey&_count=50',"
        " headers: {'content-type': 'application/x-www-form-urlencoded'}}).then(r => r.entry.length)"
    )
    assert posted == 3
    told = app.browser.evaluate(
        f"client.request('Patient/{OTHER_PATIENT}').then(() => 'read', e => [e.statusCode, e.message])"
    )
    assert told[0] == 404
    assert "Patient" in told[1]


async def test_another_record_is_refused_in_words_that_the_app_can_read(app: App) -> None:
    app.launch("app-public")
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


async def test_staff_search_a_patient_and_choose_a_visit_on_the_way_to_the_app(app: App) -> None:
    app.launch("app-public", scope="launch/patient launch/encounter patient/*.rs")
    app.browser.wait_for(lambda: app.browser.has("login"))
    app.browser.sign_in("dr.allen", str(app.site.user("dr.allen")["password"]))
    app.browser.element("query").send_keys("Conn")
    app.browser.press("search")
    app.browser.element("patient-1").click()
    app.browser.press("select")
    app.browser.element("encounter-1").click()
    app.browser.press("select")
    app.browser.press("allow")
    seen = app.seen(reads=1)
    assert (seen["id"], seen["subjects"]) == (OFF_THE_LIST, [f"Patient/{OFF_THE_LIST}"])
    assert seen["visit"] == seen["response"]["encounter"]
    assert seen["visit_of"] == f"Patient/{OFF_THE_LIST}"


async def test_a_page_of_an_origin_that_no_app_has_reads_nothing(app: App) -> None:
    app.launch("app-public")
    token = app.sign_in_and_allow()["token"]
    base, issuer = app.site.base, app.site.issuer
    asked = {
        f"{base}/Patient/{PATIENT}": f"{{headers: {{authorization: 'Bearer {token}'}}}}",
        f"{issuer}/token": "{method: 'POST', body: new URLSearchParams({grant_type: 'refresh_token'})}",
        f"{base}/metadata": "{}",
        f"{base}/.well-known/smart-configuration": "{}",
    }

    def readable() -> list[bool]:
        told = [f"fetch('{url}', {how}).then(() => true, () => false)" for url, how in asked.items()]
        found: list[bool] = app.browser.evaluate(f"Promise.all([{','.join(told)}])")
        return found

    assert readable() == [True, True, True, True]
    stranger = AppServer({"/index.html": APPS / "index.html"})
    try:
        app.browser.open(f"{stranger.origin}/index.html")
        assert readable() == [False, False, True, True]
    finally:
        stranger.close()


async def test_a_token_that_ends_is_renewed_before_each_question(tmp_path: Path) -> None:
    """The library renews what has 10 s or less to live, which is all that these tokens ever have."""

    def change(document: dict[str, Any]) -> None:
        document["authorization"]["lifetimes"] = {"access_token": "10s"}

    files = {f"/{name}": APPS / name for name in ("launch.html", "index.html")}
    async with served(tmp_path, {**files, "/fhir-client.js": LIBRARY}, page="/index.html", change=change) as (
        site,
        server,
    ):
        with chromium(tmp_path / "profile", site.gateway.folder / "server.pem", scripts=True) as browser:
            app = App(site, server, browser)
            app.launch("app-public")
            first = app.sign_in_and_allow()
            assert first["response"]["expires_in"] == 10
            browser.element("read").click()
            assert app.seen(reads=2)["token"] != first["token"]
