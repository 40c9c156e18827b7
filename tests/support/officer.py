"""The officer's pages over a store of their own, and a browser without a browser: forms are found and sent."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from authz.events import Event
from authz.login.accounts import Accounts
from authz.login.browser import Browsers
from authz.protocol.request import Answer
from authz.settings import AuthorizationSettings, Lifetimes, Protected
from authz.storage.audit_index import AccessEntry
from authz.storage.settings import StoreSettings
from authz.storage.sqlite.store import SqliteStore, open_store
from gateway.audit.log import AuditLog
from gateway.officer.house import FORM, OfficerHouse
from gateway.officer.pages import OfficerPages
from gateway.officer_settings import OfficerSettings
from gateway.settings import GatewaySettings, KeySettings, Operations, Upstream
from tests.support.audit_index_contract import BASE, START, entry
from tests.support.authorization_server import ANNA, ISSUER, PASSWORD, http_request

NOW = START // 1000 + 3600
OFFICER = replace(
    ANNA,
    username="olga",
    subject="olga-1",
    name="Olga Officer",
    patient=None,
    claims={"roles": ["privacy-officer"]},
)
NURSE = replace(
    ANNA, username="nora", subject="nora-1", name="Nora Nurse", patient=None, claims={"roles": ["nurse"]}
)
_COOKIE = re.compile(r"__Host-securus=[^;]+")
_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass
class Seen:
    """An answer as a person sees it."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def words(self) -> str:
        """Its text as a browser reads it."""
        return unescape(re.sub(r"<[^>]+>", " ", self.text))


@dataclass
class Desk:
    """The pages, and what they stand on."""

    pages: OfficerPages
    store: SqliteStore
    audit: AuditLog
    events: list[Event]
    browsers: Browsers
    settings: GatewaySettings
    now: list[int] = field(default_factory=lambda: [NOW])

    def person(self) -> "Person":
        """Somebody with a browser of their own."""
        return Person(self)

    async def officer(self) -> "Person":
        """The officer, signed in."""
        person = self.person()
        assert (await person.sign_in("olga")).status == 303
        await person.get("/officer/search")  # a form of the new session
        return person

    async def records(self, event: str) -> list[dict[str, Any]]:
        """The records of an event in the log."""
        found = [json.loads(line.line) for line in await self.store.audit(after=0, limit=1000)]
        return [each for each in found if each["event"] == event]


@dataclass
class Person:
    """A browser: its cookie, and the token of the last form that it was shown."""

    desk: Desk
    cookie: str = ""
    token: str = ""

    async def get(self, path: str, query: str = "", method: str = "GET") -> Seen:
        """Open a page."""
        return await self._sent(method, path, query, b"", [])

    async def post(self, path: str, headers: list[tuple[str, str]] | None = None, **fields: str) -> Seen:
        """Send a form, with the token of the last page unless it is given."""
        body = urlencode({"form_token": self.token, **{k.rstrip("_"): v for k, v in fields.items()}}).encode()
        kind = [("Content-Type", "application/x-www-form-urlencoded")]
        return await self._sent("POST", path, "", body, kind + (headers or [("Origin", ISSUER)]))

    async def sign_in(self, username: str, password: str = PASSWORD) -> Seen:
        """Open the pages and sign in."""
        await self.get("/officer")
        return await self.post("/officer/sign-in", username=username, password=password)

    async def take_token(self) -> None:
        """Have the token that forms of this session carry, whatever pages show it."""
        browser = await self.desk.browsers.known(http_request("GET", "/", headers=[("Cookie", self.cookie)]))
        assert browser is not None
        self.token = browser.form_token(FORM)

    async def _sent(
        self, method: str, path: str, query: str, body: bytes, headers: list[tuple[str, str]]
    ) -> Seen:
        cookie = [("Cookie", self.cookie)] if self.cookie else []
        request = http_request(method, path, query=query, headers=[*headers, *cookie], body=body)
        answer: Answer = await self.desk.pages.handle(request)
        given = {name.lower(): value for name, value in answer.headers}
        if "set-cookie" in given:
            found = _COOKIE.match(given["set-cookie"])
            self.cookie = found[0] if found else ""
        text = cast(bytes, answer.body).decode()
        token = _TOKEN.search(text)
        if token and token[1]:
            self.token = token[1]
        return Seen(answer.status, text, given)


@asynccontextmanager
async def open_desk(
    folder: Path, *entries: AccessEntry, officer: OfficerSettings | None = None
) -> AsyncIterator[Desk]:
    """The pages over a store with these entries."""
    store = await open_store(folder / "securus.db")
    clock = [NOW]
    audit = await AuditLog.open(store, lambda: float(clock[0]))
    await store.index_audit(entries, chain="", read_to=max((each.sequence for each in entries), default=0))
    settings = GatewaySettings(
        file=folder / "gateway.yaml",
        listeners=(),
        operations=Operations(),
        authorization=AuthorizationSettings(
            issuer=ISSUER,
            mtls_origin=None,
            resources=(Protected(BASE, "/fhir/r4", "fhir-r4"),),
            organisation="Example Hospital",
            lifetimes=Lifetimes(browser_session=86400),
        ),
        storage=StoreSettings(),
        keys=KeySettings(None),
        upstreams=(Upstream("fhir", "fhir-r4", "/fhir/r4", "http://x", BASE, frozenset({BASE})),),
        policies=folder,
        clients=(),
        accounts=(ANNA, OFFICER, NURSE),
        officer=officer or OfficerSettings(roles=frozenset({"privacy-officer"})),
    )
    accounts = {account.username: account for account in settings.accounts}
    events: list[Event] = []
    house = OfficerHouse(
        settings=settings,
        store=store,
        audit=audit,
        accounts=Accounts(accounts, store, 10),
        browsers=Browsers(store, 86400, lambda: clock[0]),
        engine=lambda: None,
        names=lambda: {"ehr": "Ward <b>system</b>"},
        emit=events.append,
        clock=lambda: clock[0],
    )
    desk = Desk(OfficerPages(house), store, audit, events, house.browsers, settings, clock)
    try:
        yield desk
    finally:
        await audit.close()
        await store.close()


__all__ = ["BASE", "NOW", "START", "Desk", "Person", "entry", "open_desk"]
