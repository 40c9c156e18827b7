"""PyPI fhirclient, SMART's own client for Python: it finds the server by /metadata alone and keeps its state as a dict."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from fhirclient.client import FHIRClient
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException, FHIRUnauthorizedException

from gateway.demo.client import Person
from gateway.demo.world import OTHER_PATIENT, PATIENT
from tests.support.smart_site import BACKEND_SCOPE, REDIRECT_URI, SmartSite, assertion_of, start_smart_site

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("python-fhirclient"),
    pytest.mark.asyncio(loop_scope="module"),
]
SCOPE = "openid fhirUser offline_access patient/*.read"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SmartSite]:
    running = await start_smart_site(tmp_path_factory.mktemp("fhirclient"))
    yield running
    await running.stop()


class App:
    """A web app around the library: each step begins with the state that the last one saved."""

    def __init__(self, site: SmartSite, app_id: str, **settings: Any) -> None:
        self._authority = site.gateway.facts["ca_certificate"]
        self._state: dict[str, Any] = {}
        named = {"app_id": app_id, "api_base": site.base, "scope": SCOPE, "redirect_uri": REDIRECT_URI}
        self._settings = {**named, **settings}

    def _save(self, state: dict[str, Any]) -> None:
        self._state = state

    def client(self) -> FHIRClient:
        """The client of the next page: made of the saved state, the first one of the settings."""
        made = {"state": self._state} if self._state else {"settings": self._settings}
        client = FHIRClient(**made, save_func=self._save)
        client.server.session.trust_env = False
        client.server.session.verify = self._authority
        return client


async def allowed(site: SmartSite, url: str, username: str) -> str:
    """Where the person's browser comes back to."""
    async with site.browser() as http:
        answer = await Person(http).authorize(url, username, str(site.user(username)["password"]))
    return f"{REDIRECT_URI}?{urlencode(answer)}"


async def signed_in(site: SmartSite, app: App, username: str = "stephen") -> FHIRClient:
    """The client after its callback."""

    def begin() -> str:
        client = app.client()
        assert client.prepare() is False
        return str(client.authorize_url)

    def end(url: str) -> FHIRClient:
        client = app.client()
        client.handle_callback(url)
        return client

    url = await asyncio.to_thread(begin)
    assert url.startswith(f"{site.issuer}/authorize?")
    return await asyncio.to_thread(end, await allowed(site, url, username))


def settings_of(site: SmartSite, app_id: str) -> dict[str, Any]:
    return {"app_secret": site.secret} if app_id == "app-secret" else {}


@pytest.mark.parametrize("app_id", ["app-public", "app-secret"])
async def test_the_library_signs_in_and_reads_the_own_record(site: SmartSite, app_id: str) -> None:
    client = await signed_in(site, App(site, app_id, **settings_of(site, app_id)))

    def read() -> tuple[str, str, int, set[str]]:
        pages = Observation.where({"_count": "5"}).perform_resources_iter(client.server)
        found = list(islice(pages, 12))  # two links to next pages are followed
        subjects = {observation.subject.reference for observation in found}
        return client.patient.id, client.patient.name[0].family, len({o.id for o in found}), subjects

    assert await asyncio.to_thread(read) == (PATIENT, "McLaughlin", 12, {f"Patient/{PATIENT}"})
    assert client.launch_context["scope"].split(" ") == ["launch/patient", *SCOPE.split(" ")]


async def test_another_record_is_not_found(site: SmartSite) -> None:
    client = await signed_in(site, App(site, "app-public"))
    with pytest.raises(FHIRNotFoundException):
        await asyncio.to_thread(Patient.read, OTHER_PATIENT, client.server)


async def test_without_a_token_it_is_told_to_sign_in(site: SmartSite) -> None:
    client = App(site, "app-public").client()
    with pytest.raises(FHIRUnauthorizedException):
        await asyncio.to_thread(Patient.read, PATIENT, client.server)


@pytest.mark.parametrize("app_id", ["app-public", "app-secret"])
async def test_the_library_refreshes(site: SmartSite, app_id: str) -> None:
    client = await signed_in(site, App(site, app_id, **settings_of(site, app_id)))

    def refresh() -> tuple[bool, bool, str]:
        first, kept = client.server.auth.access_token, client.server.auth.refresh_token
        renewed = client.reauthorize()
        assert client.server.auth.refresh_token != kept  # rotation is on
        return renewed, client.server.auth.access_token != first, client.patient.id

    assert await asyncio.to_thread(refresh) == (True, True, PATIENT)


async def test_a_launch_from_the_record_system_names_the_patient(site: SmartSite) -> None:
    made = await site.launch("app-public", "dr.allen", patient=OTHER_PATIENT)
    app = App(site, "app-public", launch_token=made["launch"], scope="patient/*.read")
    client = await signed_in(site, app, "dr.allen")
    assert client.launch_context["patient"] == OTHER_PATIENT
    assert await asyncio.to_thread(lambda: client.patient.id) == OTHER_PATIENT


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_a_backend_that_signs_its_own_assertion_gets_a_token(site: SmartSite, algorithm: str) -> None:
    assertion = assertion_of(site, "backend", algorithm)
    app = App(site, "backend", jwt_token=assertion, scope=BACKEND_SCOPE, redirect_uri=None)

    def ask() -> tuple[str, str]:
        client = app.client()
        client.wants_patient = False
        client.prepare()
        client.authorize()
        with pytest.raises(FHIRPermissionDeniedException):
            client.server.request_json("Condition")
        return client.launch_context["scope"], Patient.read(PATIENT, client.server).id

    assert await asyncio.to_thread(ask) == (BACKEND_SCOPE, PATIENT)
