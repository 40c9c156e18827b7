"""The desk of the pages under /account: who is signed in, for whom they act, and the frame that each page stands in.

Pages of their own, with a sign-in of their own: no app sends anybody here. Each page says for whom it is and leads to
the same page of everybody else whom the person acts for.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

from authz.clock import Clock
from authz.endpoints.sign_in_attempts import attempt_of
from authz.endpoints.visit_pages import error_page
from authz.endpoints.visits import PageError, check_form_of, each_once, page_form_pairs, page_query
from authz.events import Emit, OwnRecordShown
from authz.login import browser as pages
from authz.login.accounts import Accounts
from authz.login.browser import Browser, Browsers
from authz.login.finding import FinderUnavailable
from authz.login.language import LANGUAGES, SWITCH, Language, cookie_of, language_of
from authz.login.relations import Relations
from authz.login.represented import Person, people_of
from authz.networks import network_of
from authz.protocol.encoding import parse_query
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.settings import Account, AuthorizationSettings
from authz.storage.store import Store

Door = Callable[[HttpRequest], Awaitable[Answer]]
START = "/account"
SIGN_IN = "/account/sign-in"
GRANTS = "/account/grants"
CONSENTS = "/account/consents"
CONSENT = "/account/consents/edit"
HISTORY = "/account/consents/history"
RECEIPT = "/account/consents/receipt"
ACCESSES = "/account/accesses"
DOWNLOAD = "/account/download"
FRESH_SECONDS = 600
"""So old a sign-in may be at most when a consent is changed."""
_A_MINUTE = 120  # so many new browsers from one address: nobody has signed in yet, and each leaves a row
_FORM = "account"  # what the token of the forms here is about
_BACK = re.compile(
    r"/(authorize|sign-in|patient|encounter|consent|logout|account(/[a-z]+){0,2}|officer(/[a-z-]+)?)(\?[!-~]{0,2000})?"
)


@dataclass(frozen=True, slots=True)
class Here:
    """A signed-in person at a page, and whom it is about. whom is None where there is no record that they may see."""

    request: HttpRequest
    browser: Browser
    account: Account
    language: Language
    people: tuple[Person, ...]
    whom: Person | None
    now: int
    form: Mapping[str, str] = field(default_factory=dict)
    # Of fields that may come more than once.
    ticked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def patient(self, what: str) -> Person:
        """Whom the page is about, where the person may do this for them. Raises PageError."""
        if self.whom is None or not self.whom.allows(what):
            raise PageError("error.not_for_them", status=403)
        return self.whom

    @property
    def sign_in_age(self) -> int:
        """How many seconds ago the person signed in."""
        return self.now - (self.browser.session.authenticated_at or 0)

    def to(self, path: str, **query: str) -> str:
        """The way to a page, for the same person."""
        asked = ({} if self.whom is None or self.whom.is_self else {"for": self.whom.patient}) | query
        return f"{path}?{urlencode(asked)}" if asked else path


Handler = Callable[[Here], Awaitable[Answer]]


class AccountDesk:
    """What all pages under /account share."""

    def __init__(
        self,
        *,
        settings: AuthorizationSettings,
        store: Store,
        accounts: Accounts,
        browsers: Browsers,
        pages_there: frozenset[str],
        base: str,
        relations: Relations,
        emit: Emit,
        clock: Clock,
    ) -> None:
        """pages_there are the paths of the pages that this house has; base is the FHIR base that they are about."""
        self.settings = settings
        self._store = store
        self._accounts = accounts
        self._browsers = browsers
        self._pages_there = pages_there
        self.base = base
        self._relations = relations
        self.emit = emit
        self._clock = clock

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door of the sign-in and of the switch of languages."""
        return {
            SIGN_IN: {"POST": self._shown(self._sign_in)},
            SWITCH: {"GET": self._shown(self._switch)},
        }

    def page_door(self, handler: Handler) -> Door:
        """The door of a page: the sign-in form for somebody who is not signed in here."""

        async def opened(request: HttpRequest) -> Answer:
            browser = await self._browser(request)
            query = page_query(request)
            here = await self._here(request, browser, query.get("for", ""))
            return self.sign_in_form(request, browser) if here is None else await handler(here)

        return self._shown(opened)

    def form_door(self, handler: Handler, *, again: str, repeatable: frozenset[str] = frozenset()) -> Door:
        """The door that takes a form of ours. again is the page that the person comes to who must sign in first."""

        async def sent(request: HttpRequest) -> Answer:
            pairs = await page_form_pairs(request)
            form = each_once([pair for pair in pairs if pair[0] not in repeatable])
            browser = await self._browser_of_form(request, form)
            ticked = {name: tuple(value for n, value in pairs if n == name) for name in repeatable}
            here = await self._here(request, browser, form.get("for", ""), form, ticked)
            if here is None:
                problem = language_of(request).plain("sign_in.ended")
                return self.sign_in_form(request, browser, status=403, problem=problem, to=again)
            return await handler(here)

        return self._shown(sent)

    def must_sign_in_again(self, here: Here, to: str, *, at_most: int = FRESH_SECONDS) -> Answer | None:
        """The sign-in form where the sign-in is too old for what the person is about to do."""
        if here.sign_in_age <= at_most:
            return None
        return self.sign_in_form(here.request, here.browser, status=403, to=to, again=True)

    def tell(self, here: Here, what: str, person: Person) -> None:
        """Tell that the person was shown what is kept of this patient."""
        self.emit(OwnRecordShown(what, here.account.subject, self.base, person.patient, person.relationship))

    def page(self, here: Here, template: str, path: str, *, status: int = 200, **values: object) -> Answer:
        """A page with the way to every other. path is its own, to which its choice of people and languages leads."""
        ways = [page for page in (START, GRANTS, CONSENTS, ACCESSES, DOWNLOAD) if page in self._pages_there]
        if here.whom is None:
            ways = [page for page in ways if page in (START, GRANTS)]
        at = here.to(path)
        return self._answer(
            here.browser,
            pages.page(
                status,
                template,
                language=here.language,
                here=at,
                organisation=self.settings.organisation,
                privacy_url=self.settings.privacy_url,
                form_token=here.browser.form_token(_FORM),
                account_name=here.account.name,
                whom=here.whom,
                others=[person for person in here.people if person is not here.whom],
                path=path,
                ways=[(page, here.to(page), _NAMES[page]) for page in ways],
                to=here.to,
                **values,  # type: ignore[arg-type]  # no template has a value named form_goes_to
            ),
        )

    def sign_in_form(
        self,
        request: HttpRequest,
        browser: Browser,
        *,
        status: int = 200,
        problem: str = "",
        username: str = "",
        to: str = "",
        again: bool = False,
    ) -> Answer:
        """The sign-in form; to is where it leads, the page that was asked for without it."""
        asked = f"{request.path}?{request.query}" if request.query else request.path
        to = to or (asked if request.method == "GET" else GRANTS)
        return self._answer(
            browser,
            pages.page(
                status,
                "account_sign_in.html",
                language=language_of(request),
                here=to if _BACK.fullmatch(to) else GRANTS,
                organisation=self.settings.organisation,
                privacy_url=self.settings.privacy_url,
                form_token=browser.form_token(_FORM),
                problem=problem,
                username=username[:256],
                to=to,
                again=again,
            ),
        )

    async def _sign_in(self, request: HttpRequest) -> Answer:
        """POST /account/sign-in: on to the page with a new session, or the form again."""
        form = each_once(await page_form_pairs(request))
        browser = await self._browser_of_form(request, form)
        to = form.get("to", GRANTS)
        if not _BACK.fullmatch(to) or not to.startswith(START):
            to = GRANTS
        attempt = await attempt_of(
            form,
            request,
            accounts=self._accounts,
            client_id=None,
            emit=self.emit,
            now=self._clock(),
            language=language_of(request),
        )
        if attempt.account is None:
            page = self.sign_in_form(
                request,
                browser,
                status=attempt.status,
                problem=attempt.problem,
                username=attempt.username,
                to=to,
            )
            return page.with_headers(attempt.headers)
        signed_in = await self._browsers.signed_in(browser, attempt.account.subject, ("pwd",))
        return pages.redirect(to, signed_in.cookie or "")

    async def _switch(self, request: HttpRequest) -> Answer:
        """GET /account/language: back to a page of ours, in the language that was chosen."""
        asked = dict(parse_query(request.query)) if request.query else {}
        language, back = LANGUAGES.get(asked.get("to", "")), asked.get("back", "")
        if language is None or not _BACK.fullmatch(back):
            raise PageError("error.address_unreadable")
        return pages.redirect(back, cookie_of(language))

    async def _browser(self, request: HttpRequest) -> Browser:
        browser = await self._browsers.known(request)
        if browser is not None:
            return browser
        key = f"account:{network_of(request.peer)}"
        if await self._store.count(key, window_seconds=60, now=self._clock()) > _A_MINUTE:
            raise PageError("error.too_many", status=429)
        return await self._browsers.known_or_new(request)

    async def _browser_of_form(self, request: HttpRequest, form: Mapping[str, str]) -> Browser:
        """The browser that sent a form of ours. Raises PageError."""
        browser = await self._browsers.known(request)
        if browser is None:
            raise PageError("error.form_over", status=403)
        check_form_of(request, form, browser, _FORM)
        return browser

    async def _here(
        self,
        request: HttpRequest,
        browser: Browser,
        asked: str,
        form: Mapping[str, str] | None = None,
        ticked: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Here | None:
        """The person of a session, at the page of whom they asked for. Raises PageError for somebody not theirs."""
        subject = browser.session.subject
        account = None if subject is None else self._accounts.of_subject(subject)
        if account is None:
            return None
        now = self._clock()
        with suppress(FinderUnavailable):  # what cannot be asked lets nobody act for anybody
            account = await self._relations.with_related(account, request)
        people = people_of(account, now)
        whom = next((person for person in people if person.patient == asked), None)
        if asked and whom is None:
            raise PageError("error.not_for_them", status=403)
        if whom is None:
            whom = people[0] if people else None
        language = language_of(request)
        return Here(request, browser, account, language, people, whom, now, form or {}, ticked or {})

    def _shown(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError) as error:
                return error_page(error, request, self.settings, self.emit)
            except ValueError:  # of a query that parse_query() cannot read
                unread = PageError("error.address_unreadable")
                return error_page(unread, request, self.settings, self.emit)

        return shown

    def _answer(self, browser: Browser, answer: Answer) -> Answer:
        return answer if browser.cookie is None else answer.with_headers((("Set-Cookie", browser.cookie),))


_NAMES = {
    START: "account.start",
    GRANTS: "grants.title",
    CONSENTS: "consents.title",
    ACCESSES: "accesses.title",
    DOWNLOAD: "download.title",
}
