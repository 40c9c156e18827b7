"""A public app in a real browser with tokens that are bound to a key there: oauth4webapi, PKCE, DPoP, both nonces."""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.app_server import AppServer
from tests.support.browser_app import APPS, MODULES, BrowserApp, served
from tests.support.chromium import chromium
from tests.support.smart_site import SmartSite

LIBRARY = MODULES / "oauth4webapi/build/index.js"
pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium-dpop"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        "CI" not in os.environ and not LIBRARY.is_file(), reason="needs `npm ci` in tests/interop"
    ),
]
SCOPE = "openid fhirUser launch/patient offline_access patient/*.rs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[SmartSite, AppServer]]:
    files = {f"/{name}": APPS / name for name in ("dpop.html", "dpop.mjs")}
    folder = tmp_path_factory.mktemp("dpop")
    async with served(folder, {**files, "/oauth4webapi.js": LIBRARY}, page="/dpop.html") as both:
        yield both


@pytest.fixture(scope="module")
def app(
    running: tuple[SmartSite, AppServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserApp]:
    site, server = running
    folder = tmp_path_factory.mktemp("profile")
    with chromium(folder, site.gateway.folder / "server.pem", scripts=True) as browser:
        yield BrowserApp(site, server, browser)


@pytest.fixture(scope="module")
def seen(app: BrowserApp) -> dict[str, Any]:
    """What the app saw on its way in."""
    told = {"issuer": app.site.issuer, "fhir_base": app.site.base, "client_id": "app-dpop", "scope": SCOPE}
    app.begin("/dpop.html", told)
    return app.sign_in_and_allow()


async def test_a_public_app_reads_with_a_token_that_is_bound_to_its_key(
    app: BrowserApp, seen: dict[str, Any]
) -> None:
    assert (seen["token_type"], seen["patient"], seen["id"]) == ("dpop", PATIENT, PATIENT)
    assert seen["sub"] == app.site.user("stephen")["subject"]
    assert seen["subjects"] == [f"Patient/{PATIENT}"]
    assert "McLaughlin" in app.browser.text()


async def test_the_nonce_of_each_server_can_be_read_from_another_origin(seen: dict[str, Any]) -> None:
    assert seen["challenges"] == ["token", "resource"]


@pytest.mark.usefixtures("seen")
async def test_the_key_cannot_be_taken_and_the_token_alone_opens_nothing(app: BrowserApp) -> None:
    assert app.browser.evaluate("act.exported()") == "InvalidAccessError"
    assert app.browser.evaluate("act.bare('Bearer')") == 401
    assert app.browser.evaluate("act.bare('DPoP')") == 401
    assert app.browser.evaluate("act.with_another_key()") == [
        401,
        "invalid_dpop_proof",
    ]  # RFC 9449 4.3 check 12


@pytest.mark.usefixtures("seen")
async def test_another_record_is_not_found(app: BrowserApp) -> None:
    assert app.browser.evaluate(f"act.read('/Patient/{PATIENT}')") == {"status": 200, "id": PATIENT}
    assert app.browser.evaluate(f"act.read('/Patient/{OTHER_PATIENT}')")["status"] == 404


@pytest.mark.usefixtures("seen")
async def test_the_refresh_token_is_good_with_the_key_alone(app: BrowserApp) -> None:
    assert app.browser.evaluate("act.refresh_with_another_key()") == "invalid_grant"
    assert app.browser.evaluate("act.refresh_without_a_key()") == "invalid_dpop_proof"
    renewed = app.browser.evaluate("act.refresh()")
    assert renewed == {"token_type": "dpop", "other": True, "status": 200}
