"""The client of Inferno's SMART App Launch kit 2.2, as it behaves: its requests, its kinds of registration, its launches.

Shaped after inferno-framework/smart-app-launch-test-kit, lib/smart_app_launch: assertions are signed for the token
endpoint, expire in 300 s, and carry neither iat nor nbf; public apps send Origin; there is no PAR and no DPoP.
"""

import base64
import json
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from gateway.demo.client import Reply
from gateway.demo.world import PATIENT
from tests.support.smart_site import REDIRECT_URI, SmartSite, assertion_of, start_smart_site

STANDALONE = "launch/patient openid fhirUser offline_access patient/*.rs"
EHR = "launch openid fhirUser offline_access patient/*.rs user/*.rs"
ENCOUNTER = "eb673e5c-cc56-4ed3-a724-7b13fe614942"
ORIGIN = "https://app.example"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class Registration:
    """How an app is registered: public, symmetric, or asymmetric with the algorithm that it signs with."""

    client_id: str
    algorithm: str | None = None

    @property
    def is_public(self) -> bool:
        """Whether it has no credentials."""
        return self.client_id == "app-public"


PUBLIC = Registration("app-public")
SYMMETRIC = Registration("app-secret")
ASYMMETRIC = Registration("app-keys", "ES384")
ASYMMETRIC_RSA = Registration("app-keys", "RS384")
BACKEND = Registration("backend", "RS384")


class Inferno:
    """One tester: its HTTP client, for one gateway."""

    def __init__(self, site: SmartSite, http: aiohttp.ClientSession) -> None:
        self.site = site
        self.http = http

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; redirects are not followed."""
        async with self.http.request(
            method, URL(url, encoded=True), headers=headers, data=form, allow_redirects=False
        ) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, names, await response.read())

    async def well_known(self, **headers: str) -> Reply:
        """The discovery document of the FHIR base."""
        return await self.send("GET", f"{self.site.base}/.well-known/smart-configuration", headers=headers)

    async def fhir(self, path: str, token: str | None = None, **headers: str) -> Reply:
        """A read or search, by the path below the base or by a whole URL."""
        url = path if path.startswith("https:") else self.site.base + path
        sent = {"Accept": "application/fhir+json", **headers}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return await self.send("GET", url, headers=sent)

    def credentials(self, app: Registration, **changes: Any) -> tuple[dict[str, str], dict[str, str]]:
        """Form parameters and headers that say who asks."""
        if app.is_public:
            return {"client_id": app.client_id}, {"Origin": ORIGIN}
        if app.algorithm is None:
            pair = f"{quote(app.client_id, safe='')}:{quote(self.site.secret, safe='')}"
            return {}, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        assertion = assertion_of(self.site, app.client_id, app.algorithm, **changes)
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}, {}

    async def token(self, app: Registration, form: Mapping[str, str | None]) -> Reply:
        """POST to the token endpoint; a parameter that is None is left out."""
        said, headers = self.credentials(app)
        whole = {**said, **form}
        sent = {name: value for name, value in whole.items() if value is not None}
        url = (await self.well_known()).json["token_endpoint"]
        return await self.send("POST", url, headers={"Accept": "application/json", **headers}, form=sent)


@dataclass
class Launch:
    """A launch of an app, from the request to the answer at its redirect URI."""

    app: Registration
    scope: str
    launch: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    state: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    def parameters(self, base: str) -> dict[str, str]:
        """S-A05: what SMART App Launch 2.2 requires of an authorization request."""
        challenge = base64.urlsafe_b64encode(sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": self.app.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": self.scope,
            "state": self.state,
            "aud": base,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return {**asked, **({"launch": self.launch} if self.launch else {}), **self.changes}

    async def arrive(
        self, inferno: Inferno, username: str, *, method: str = "GET", **how: Any
    ) -> dict[str, str]:
        """The parameters that the person's browser brings to the redirect URI. how: see Browser.answer."""
        url = (await inferno.well_known()).json["authorization_endpoint"]
        asked = self.parameters(inferno.site.base)
        browser = Browser(inferno, username)
        if method == "POST":
            return await browser.answer("POST", url, list(asked.items()), **how)
        return await browser.answer("GET", f"{url}?{urlencode(asked)}", None, **how)

    async def redeem(self, inferno: Inferno, code: str, **changes: str | None) -> Reply:
        """The answer of the token endpoint to the code."""
        form: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": self.verifier,
        }
        return await inferno.token(self.app, form | changes)


@dataclass
class Launched:
    """A launch that ended with tokens: what the app asked, and every answer on the way."""

    asked: Launch
    answer: dict[str, str]
    exchanged: Reply
    refreshed: Reply
    narrowed: Reply
    narrowed_to: str

    @property
    def told(self) -> dict[str, Any]:
        """The token response."""
        found: dict[str, Any] = self.exchanged.json
        return found


async def launched(
    inferno: Inferno,
    app: Registration,
    scope: str,
    username: str,
    *,
    method: str = "GET",
    launch: str | None = None,
) -> Launched:
    """Launch, redeem, refresh without scopes and with fewer: what most tests of the kit look at."""
    asked = Launch(app, scope, launch)
    answer = await asked.arrive(inferno, username, method=method)
    exchanged = await asked.redeem(inferno, answer.get("code", ""))
    granted = str(exchanged.json.get("scope", "")).split(" ")
    narrowed_to = " ".join(text for text in granted if text not in ("openid", "fhirUser"))
    form: dict[str, str | None] = {
        "grant_type": "refresh_token",
        "refresh_token": exchanged.json.get("refresh_token", ""),
    }
    refreshed = await inferno.token(app, form)
    form |= {
        "refresh_token": refreshed.json.get("refresh_token", form["refresh_token"]),
        "scope": narrowed_to,
    }
    narrowed = await inferno.token(app, form)
    return Launched(asked, answer, exchanged, refreshed, narrowed, narrowed_to)


@asynccontextmanager
async def inferno_at(folder: Path, **more: Any) -> AsyncIterator[Inferno]:
    """A gateway with SMART apps of every kind, and a tester for it."""
    site = await start_smart_site(folder, **more)
    try:
        async with site.browser() as http:
            yield Inferno(site, http)
    finally:
        await site.stop()


@dataclass
class Runs:
    """Launches that many tests look at, each made once."""

    inferno: Inferno
    _done: dict[tuple[Registration, str, str], Launched] = field(default_factory=dict)

    async def of(self, app: Registration, method: str, kind: str) -> Launched:
        """A standalone launch of a patient, or one of a physician from the record system."""
        key = (app, method, kind)
        if key not in self._done:
            self._done[key] = await self._run(app, method, kind)
        return self._done[key]

    async def _run(self, app: Registration, method: str, kind: str) -> Launched:
        if kind == "standalone":
            return await launched(self.inferno, app, STANDALONE, "stephen", method=method)
        made = await self.inferno.site.launch(app.client_id, "dr.allen", **self.context())
        return await launched(self.inferno, app, EHR, "dr.allen", method=method, launch=str(made["launch"]))

    def context(self) -> dict[str, Any]:
        """What is open in the record system. The style document is any JSON document that is there by https."""
        return {
            "patient": PATIENT,
            "encounter": ENCOUNTER,
            "need_patient_banner": True,
            "smart_style_url": f"{self.inferno.site.issuer}/.well-known/oauth-authorization-server",
            "fhirContext": [{"reference": "ImagingStudy/1"}],
        }


class _Form(HTMLParser):
    """The form of a page: its action, fields, choices and buttons."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: list[tuple[str, str]] = []
        self.buttons: dict[str, tuple[str, str]] = {}
        self.parts: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "button":
            self.buttons[given.get("id", "")] = (given.get("name", ""), given.get("value", ""))
        elif given.get("name") == "only":
            self.parts.add(given["value"])
        elif tag == "input" and "name" in given and _is_sent(given):
            self.fields.append((given["name"], given.get("value", "")))


def _is_sent(given: Mapping[str, str]) -> bool:
    return given.get("type") not in ("checkbox", "radio") or "checked" in given


class NoAnswer(Exception):
    """A page of ours that leads nowhere: no answer ever reaches the app."""


class Browser:
    """A person at a fresh browser, without scripts."""

    def __init__(self, inferno: Inferno, username: str) -> None:
        self._inferno = inferno
        self._user = inferno.site.user(username)
        self._cookies: dict[str, str] = {}
        self.pages: list[str] = []

    async def answer(
        self,
        method: str,
        url: str,
        fields: list[tuple[str, str]] | None,
        *,
        without: Collection[str] = (),
        only: Collection[str] = (),
        press: str = "allow",
    ) -> dict[str, str]:
        """What reaches the app. Raises NoAnswer.

        The person signs in, leaves out the scopes of without, allows only those parts of what has parts, and presses.
        """
        for _ in range(8):
            left, page = await self._open(method, url, fields)
            if left is not None:
                assert left.startswith(REDIRECT_URI + "?"), left
                pairs = parse_qsl(urlsplit(left).query, keep_blank_values=True, strict_parsing=True)
                assert len(dict(pairs)) == len(pairs)
                return dict(pairs)
            self.pages.append(page)
            form = _Form(page)
            button = next((id for id in ("login", "select", press) if id in form.buttons), None)
            if button is None:
                raise NoAnswer(page)
            filled = {"username": self._user["username"], "password": self._user["password"]}
            fields = [
                (name, str(filled.get(name, value)))
                for name, value in form.fields
                if not (name == "scope" and value in without)
            ]
            if button == press:
                assert set(only) <= form.parts
                fields += [("only", part) for part in only]
            fields.append(form.buttons[button])
            method, url = "POST", urljoin(url, form.action)
        raise AssertionError("the pages never led back to the app")

    async def _open(
        self, method: str, url: str, fields: list[tuple[str, str]] | None
    ) -> tuple[str | None, str]:
        """The redirect that leaves the site, or the page that was reached."""
        origin = urlsplit(url).netloc
        while True:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
            data = None if fields is None else aiohttp.FormData(fields)
            async with self._inferno.http.request(
                method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
            ) as response:
                for cookie in response.headers.getall("Set-Cookie", []):
                    name, _, value = cookie.partition(";")[0].partition("=")
                    self._cookies[name] = value
                if response.status not in (302, 303):
                    return None, await response.text()
                target = urljoin(url, response.headers["Location"])
            if urlsplit(target).netloc != origin:
                return target, ""
            method, url, fields = "GET", target, None


def read_part(token: str, part: int) -> dict[str, Any]:
    """Header (0) or claims (1) of a JWT, unverified."""
    text = token.split(".")[part]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found
