"""A person's visit to the pages: where an interaction, its client, its browser and its account meet, and the guards.

Nothing is known of a visit but by its handle, in the very browser that began it, while its pushed request waits.
Nothing redirects before authorization_answers.locate() proved the address.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from authz.clock import Clock
from authz.endpoints.own_id_tokens import read_hint
from authz.endpoints.pushed_authorization import REQUEST_URI_PREFIX, request_id
from authz.endpoints.unproven_requests import may_visit
from authz.handles import digest, new_handle
from authz.http import read_form
from authz.keys import KeyRing
from authz.login.accounts import Accounts
from authz.login.browser import Browser, Browsers, session_id_of
from authz.login.finding import FinderUnavailable
from authz.login.language import Language, language_of
from authz.login.relations import Relations
from authz.protocol import authorization_answers
from authz.protocol.authorization_answers import RedirectTarget
from authz.protocol.clients import Client
from authz.protocol.encoding import parse_query
from authz.protocol.launch_context import context_of
from authz.protocol.openid import Subjects, acr_of, read_claims_request, wanted_acr, wanted_subjects
from authz.protocol.request import HttpRequest
from authz.settings import Account
from authz.storage.interactions import Interaction, PushedRequest
from authz.storage.store import Store

GONE = "error.gone"
_PAGE_SECONDS = 60
_MAX_FORM_BYTES = 64 * 1024


class PageError(Exception):
    """An error that cannot be sent to a client: shown to the person. said names its text in the catalogues."""

    def __init__(self, said: str, status: int = 400, **values: object) -> None:
        super().__init__(said)
        self.said = said
        self.status = status
        self.values = values


@dataclass(frozen=True, slots=True)
class Visit:
    """A person on the way: the interaction, its client and where the answer will go.

    came_over says that the person signed in beside it, in another tab: forms that were shown before are of no use.
    """

    interaction: Interaction
    handle: str
    client: Client
    target: RedirectTarget
    browser: Browser
    account: Account | None
    language: Language
    came_over: bool = False


class Visits:
    """Begins visits and finds them again."""

    def __init__(
        self,
        *,
        issuer: str,
        acr_values: tuple[str, ...],
        sign_in_seconds: int,
        store: Store,
        clients: Mapping[str, Client],
        accounts: Accounts,
        browsers: Browsers,
        subjects: Subjects,
        keys: KeyRing,
        relations: Relations,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._acr_values = acr_values
        self._sign_in_seconds = sign_in_seconds
        self._store = store
        self._clients = clients
        self._accounts = accounts
        self._browsers = browsers
        self._subjects = subjects
        self._keys = keys
        self._relations = relations
        self._clock = clock

    async def begin(self, request: HttpRequest) -> Visit:
        """The visit of a person whom the client sent (RFC 9126 4): client_id and request_uri are read, nothing else (P9).

        It is not stored before keep(): prompt=none needs no more. Raises PageError, OAuthError where the redirect URI is
        not the client's any more.
        """
        client_id, handle = pushed_in(request.query.encode("ascii"))
        now = self._clock()
        pushed = await self._store.pushed_request(request_id(handle), now=now)
        if pushed is None or pushed.client_id != client_id or pushed.expires_at <= now:
            raise PageError("error.request_uri_unknown")
        if not await may_visit(self._store, pushed.id, now=now):
            raise PageError("error.too_many", status=429)
        return await self.begin_with(pushed, request)

    async def begin_with(self, pushed: PushedRequest, request: HttpRequest) -> Visit:
        """The visit for a request that is kept. Raises PageError, OAuthError as begin() does."""
        now = self._clock()
        client = self._clients.get(pushed.client_id)
        if client is None:
            raise PageError("error.client_unknown")
        authorization_answers.locate(pushed.parameters, client)
        browser = await self._browsers.known_or_new(request)
        new = new_handle()
        interaction = Interaction(
            id=digest(new),
            request_id=pushed.id,
            client_id=pushed.client_id,
            parameters=pushed.parameters,
            dpop_jkt=pushed.dpop_jkt,
            session_id=browser.session.id,
            expires_at=now + self._sign_in_seconds,
        )
        return await self._visit(interaction, new, client, browser, request)

    async def keep(self, visit: Visit) -> None:
        """Store a visit that has begun, and let the pushed request outlive the pages: the person may take as long as a
        sign-in may take."""
        now = self._clock()
        await self._store.keep_pushed_request(
            visit.interaction.request_id,
            until=now + self._sign_in_seconds,
            now=now,
            interaction=visit.interaction,
        )

    async def of(self, request: HttpRequest, handle: str | None) -> Visit:
        """The visit that handle names, in the browser that began it; its pushed request still waits.

        Raises PageError.
        """
        session_id = session_id_of(request)
        if not handle or session_id is None:
            raise PageError(GONE)
        found = await self._store.visit(
            session_id=session_id, interaction_id=digest(handle), now=self._clock()
        )
        if found is None:
            raise PageError(GONE)
        session, interaction = found
        came_over = interaction.session_id != session_id
        if came_over:
            # Of this browser it is all the same, where it waited for a sign-in and there was one. Else of another, or
            # of another person.
            if session.begun_as is None or interaction.session_id != session.begun_as:
                raise PageError(GONE)
            interaction = replace(interaction, session_id=session_id)
            await self._store.put_interaction(interaction)
        client = self._clients.get(interaction.client_id)
        if client is None:
            raise PageError("error.client_gone")
        visit = await self._visit(interaction, handle, client, Browser(session, None), request)
        return replace(visit, came_over=came_over)

    async def _visit(
        self, interaction: Interaction, handle: str, client: Client, browser: Browser, request: HttpRequest
    ) -> Visit:
        subject = browser.session.subject
        account = None if subject is None else self._accounts.of_subject(subject)
        if account is not None:
            with suppress(FinderUnavailable):  # what cannot be asked lets nobody act for anybody
                account = await self._relations.with_related(account, request)
        return Visit(
            interaction=interaction,
            handle=handle,
            client=client,
            target=authorization_answers.locate(interaction.parameters, client),
            browser=browser,
            account=account,
            language=language_of(request, interaction.parameters.get("ui_locales", "")),
        )

    def signed_in(self, visit: Visit) -> Account:
        """The account of a visit whose sign-in is good for this request. Raises PageError."""
        if visit.account is None or self.must_sign_in(visit):
            raise PageError(GONE)
        return visit.account

    def must_sign_in(self, visit: Visit) -> bool:
        """Whether the app wants another sign-in than the one that the browser has.

        A newer one (prompt, max_age), of another kind (acr_values, claims), or somebody else's; RFC 9470 4. Who signed
        in on the way through this very visit has done what was asked.
        """
        if visit.interaction.signed_in:
            return False
        parameters = visit.interaction.parameters
        if self.hints_at_another(visit):
            return True
        prompt = parameters.get("prompt", "").split()
        if "login" in prompt or "select_account" in prompt:
            return True
        session = visit.browser.session
        wanted, _ = wanted_acr(parameters, self._acr_values)
        if wanted and acr_of(session.amr) not in wanted:
            return True
        max_age, at = parameters.get("max_age"), session.authenticated_at
        if max_age is None:
            return False
        if at is None or not re.fullmatch("[0-9]{1,9}", max_age):
            return True
        # Zero is prompt=login (OpenID Connect Core 3.1.2.1), in the second of the last sign-in too.
        return int(max_age) == 0 or self._clock() - at > int(max_age)

    def grew_too_old(self, visit: Visit) -> bool:
        """Whether the sign-in became older than max_age while the person was at the pages.

        A sign-in on the way through this very visit is good for a minute at least: the consent page has to be read.
        """
        max_age, at = visit.interaction.parameters.get("max_age"), visit.browser.session.authenticated_at
        if visit.account is None or at is None or max_age is None or not re.fullmatch("[0-9]{1,9}", max_age):
            return False
        at_least = _PAGE_SECONDS if visit.interaction.signed_in else 0
        return self._clock() - at > max(int(max_age), at_least)

    def hints_at_another(self, visit: Visit) -> bool:
        """Whether the app, or the launch, means somebody else than the person who is signed in.

        The app says so by id_token_hint, or by a value for sub in claims (OpenID Connect Core 3.1.2.2).
        """
        parameters, subject = visit.interaction.parameters, visit.browser.session.subject
        if subject is None:
            return False
        launched = context_of(parameters)
        if launched is not None and launched.get("user") != subject:
            return True
        named = self._subjects.of(visit.client, subject)
        wanted = wanted_subjects(read_claims_request(parameters.get("claims", "{}"), self._acr_values))
        if wanted is not None and named not in wanted:
            return True
        hint = parameters.get("id_token_hint")
        found = None if hint is None else read_hint(hint, self._keys, self._issuer)
        return hint is not None and (found is None or found.subject != named)


def check_form(request: HttpRequest, form: Mapping[str, str], visit: Visit) -> None:
    """Raise PageError for a forged form (RFC 9700 4.7) of this session and interaction."""
    check_form_of(request, form, visit.browser, visit.interaction.id)


def check_form_of(request: HttpRequest, form: Mapping[str, str], browser: Browser, about: str) -> None:
    """Raise PageError for a forged form (RFC 9700 4.7): the token of this session for what it is about is missing from
    it, or the browser itself says that it came from elsewhere."""
    origin = request.headers.get("origin")
    if origin is not None and origin != request.origin:
        raise PageError("error.elsewhere", status=403)
    if not browser.owns_form(form.get("form_token"), about):
        raise PageError("error.form_expired", status=403)


def page_query(request: HttpRequest) -> dict[str, str]:
    """The query of a page's address. Raises PageError."""
    try:
        return dict(parse_query(request.query))
    except ValueError as error:
        raise PageError("error.address_unreadable") from error


async def page_form_pairs(request: HttpRequest) -> list[tuple[str, str]]:
    """The fields of a page's form, in order. Raises PageError, and what read_form() raises."""
    try:
        return parse_query((await read_form(request, limit_bytes=_MAX_FORM_BYTES)).decode("ascii"))
    except ValueError as error:
        raise PageError("error.form_unreadable") from error


async def page_form(request: HttpRequest) -> dict[str, str]:
    """The fields of a page's form, each once. Raises PageError, and what read_form() raises."""
    return each_once(await page_form_pairs(request))


def each_once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The fields by name. Raises PageError for a name that comes twice: which one was meant?"""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PageError("error.form_twice")
    return found


def pushed_in(content: bytes) -> tuple[str, str]:
    """client_id and the part of request_uri that we made, of a query or a form (P9, P10). Raises PageError."""
    try:
        pairs = parse_query(content.decode("ascii"))
    except ValueError as error:
        raise PageError("error.address_unreadable") from error
    asked: dict[str, str] = {}
    for name, value in pairs:
        if name not in ("client_id", "request_uri"):
            continue
        if name in asked:
            raise PageError("error.sent_twice", name=name)
        asked[name] = value
    request_uri, client_id = asked.get("request_uri", ""), asked.get("client_id", "")
    if not request_uri:
        raise PageError("error.request_uri_missing")
    if not client_id:
        raise PageError("error.client_missing")
    if not request_uri.startswith(REQUEST_URI_PREFIX):
        raise PageError("error.request_uri_foreign")
    return client_id, request_uri.removeprefix(REQUEST_URI_PREFIX)
