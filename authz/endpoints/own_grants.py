"""The page of a person's own grants, /account/grants: which apps have what access, and an end to it (SMART 2.2 @390).

A page of its own, with a sign-in of its own: no app sends anybody here. What a person ends has ended at once, with
every token that is out.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from authz.clock import Clock
from authz.endpoints.sign_in_attempts import attempt_of
from authz.endpoints.visits import PageError, check_form_of, page_form
from authz.events import Emit
from authz.grant_endings import end_grants
from authz.login import browser as pages
from authz.login.accounts import Accounts, network_of
from authz.login.browser import Browser, Browsers
from authz.login.launch import records
from authz.protocol.authorization_details import in_words
from authz.protocol.clients import Client
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.protocol.scopes import plain_words
from authz.protocol.tokens import Grant
from authz.revocations import Revocations
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store

Door = Callable[[HttpRequest], Awaitable[Answer]]
PATH = "/account/grants"
_SIGN_IN = "/account/sign-in"
_ENDING = "It ends within minutes"
_A_MINUTE = 120  # so many new browsers from one address: nobody has signed in yet, and each leaves a row
_FORM = "account"  # what the token of the forms here is about


@dataclass(frozen=True, slots=True)
class GrantInWords:
    """A grant as its person reads it."""

    words: Sequence[str]
    record: str
    since: str
    used: str
    until: str


@dataclass(frozen=True, slots=True)
class AppInWords:
    """An app with the live grants that a person gave it, the newest first."""

    client_id: str
    name: str
    grants: Sequence[GrantInWords]


class OwnGrants:
    """GET and POST /account/grants, and the sign-in before them."""

    def __init__(
        self,
        *,
        settings: AuthorizationSettings,
        store: Store,
        clients: Mapping[str, Client],
        accounts: Accounts,
        browsers: Browsers,
        revocations: Revocations,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clients = clients
        self._accounts = accounts
        self._browsers = browsers
        self._revocations = revocations
        self._emit = emit
        self._clock = clock

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        return {
            PATH: {"GET": self._door(self.show), "POST": self._door(self.revoke)},
            _SIGN_IN: {"POST": self._door(self.sign_in)},
        }

    def _door(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError) as error:
                return pages.error_page(
                    error.description,
                    organisation=self._settings.organisation,
                    privacy_url=self._settings.privacy_url,
                    status=error.status,
                )

        return shown

    async def show(self, request: HttpRequest) -> Answer:
        """The person's grants; the sign-in form for somebody who is not signed in here."""
        browser = await self._browsers.known(request)
        if browser is None:
            key, now = f"account:{network_of(request.peer)}", self._clock()
            if await self._store.count(key, window_seconds=60, now=now) > _A_MINUTE:
                raise PageError("Too many requests. Wait a minute and try again.", status=429)
            browser = await self._browsers.known_or_new(request)
        account = self._account(browser)
        if account is None:
            return self._sign_in_form(browser)
        return await self._grants_page(browser, account)

    async def sign_in(self, request: HttpRequest) -> Answer:
        """POST /account/sign-in: on to the page with a new session, or the form again."""
        form = await page_form(request)
        browser = await self._browser_of_form(request, form)
        attempt = await attempt_of(
            form,
            request,
            accounts=self._accounts,
            client_id=None,
            emit=self._emit,
            now=self._clock(),
        )
        if attempt.account is None:
            page = self._sign_in_form(
                browser, status=attempt.status, problem=attempt.problem, username=attempt.username
            )
            return page.with_headers(attempt.headers)
        signed_in = await self._browsers.signed_in(browser, attempt.account.subject, ("pwd",))
        return pages.redirect(PATH, signed_in.cookie or "")

    async def revoke(self, request: HttpRequest) -> Answer:
        """POST /account/grants: every grant of this person to one app has ended, with its tokens.

        An app that has no grant of this person, or does not exist, is told alike: what was asked for is so.
        """
        form = await page_form(request)
        browser = await self._browser_of_form(request, form)
        account = self._account(browser)
        if account is None:
            return self._sign_in_form(browser, status=403, problem="Your sign-in has ended. Sign in again.")
        client_id = form.get("client", "")
        if form.get("action") != "revoke" or not client_id:
            raise PageError("The form names no app.")
        ended = await end_grants(
            self._store,
            subject=account.subject,
            client_id=client_id,
            now=self._clock(),
            access_token_seconds=self._settings.lifetimes.access_token,
            who=f"person {account.subject}",
            why="ended on the page of own grants",
            emit=self._emit,
            revocations=self._revocations,
            reason="person",
        )
        return await self._grants_page(browser, account, ended=self._name(client_id) if ended else "")

    async def _browser_of_form(self, request: HttpRequest, form: Mapping[str, str]) -> Browser:
        """The browser that sent a form of ours. Raises PageError."""
        browser = await self._browsers.known(request)
        if browser is None:
            raise PageError("The form has expired. Open the page again.", status=403)
        check_form_of(request, form, browser, _FORM)
        return browser

    def _account(self, browser: Browser) -> Account | None:
        subject = browser.session.subject
        return None if subject is None else self._accounts.of_subject(subject)

    async def _grants_page(self, browser: Browser, account: Account, *, ended: str = "") -> Answer:
        now = self._clock()
        apps: dict[str, list[GrantInWords]] = {}
        for grant in await self._store.grants(subject=account.subject, client_id=None, now=now):
            if grant.authenticated_at is not None:  # without a person it is a client's own
                apps.setdefault(grant.client_id, []).append(await self._in_words(grant, account, now))
        listed = [AppInWords(client_id, self._name(client_id), found) for client_id, found in apps.items()]
        return self._page(browser, 200, "grants.html", person=account.name, apps=listed, ended=ended)

    async def _in_words(self, grant: Grant, account: Account, now: int) -> GrantInWords:
        kinds = {kind.name: kind for kind in self._settings.detail_types}
        details = [in_words(detail, kinds) for detail in grant.authorization_details]
        patient = str(grant.context.get("patient", ""))
        until = _until(grant, now)
        if grant.session_id is not None and (grant.ends_at or 0) > now:
            is_there = await self._store.session(grant.session_id, now=now) is not None
            until = "You sign out" if is_there else _ENDING
        return GrantInWords(
            words=[*map(plain_words, grant.scope), *(f"Only: {words}" for words in details)],
            record=dict(records(account)).get(patient, patient),
            since=_when(grant.created_at),
            used="Not yet" if grant.used_at is None else _when(grant.used_at),
            until=until,
        )

    def _name(self, client_id: str) -> str:
        client = self._clients.get(client_id)
        return client_id if client is None else client.name

    def _sign_in_form(
        self, browser: Browser, *, status: int = 200, problem: str = "", username: str = ""
    ) -> Answer:
        page = "account_sign_in.html"
        return self._page(browser, status, page, problem=problem, username=username[:256])

    def _page(self, browser: Browser, status: int, template: str, **values: object) -> Answer:
        answer = pages.page(
            status,
            template,
            form_goes_to=None,
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
            form_token=browser.form_token(_FORM),
            **values,
        )
        return answer if browser.cookie is None else answer.with_headers((("Set-Cookie", browser.cookie),))


def _until(grant: Grant, now: int) -> str:
    if grant.ends_at is None:
        return "The app has not begun yet"
    return _when(grant.ends_at) if grant.ends_at > now else _ENDING


def _when(seconds: int) -> str:
    """A time in words, such as '7 March 2027, 14:05 UTC'."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"
