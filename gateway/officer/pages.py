"""The officer's pages, /officer: who may see them, the sign-in before them, and the guard of every form.

An account is an officer's by a role of the configuration (`officer.roles`). A sign-in for these pages is good for half an
hour, whatever other pages accept; where several steps are asked for at a sign-in, they count here as well.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

from authz.endpoints.refused_pages import tell_refusal
from authz.endpoints.sign_in_attempts import attempt_of
from authz.http import read_form
from authz.login import browser as login_pages
from authz.login.browser import Browser
from authz.login.language import Language, language_of
from authz.networks import network_of
from authz.protocol.encoding import parse_query
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.settings import Account
from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditUnavailable
from gateway.officer import question_pages, queue_pages, rendering
from gateway.officer.house import FORM, OfficerHouse, OfficerVisit

Handler = Callable[[OfficerVisit], Awaitable[Answer]]
PREFIX = "/officer"
_SIGN_IN = "/officer/sign-in"
_FRESH_SECONDS = 1800
_A_MINUTE = 120  # so many new browsers from one address: nobody has signed in yet, and each leaves a row
_LARGEST_FORM = 64 * 1024
_log = logging.getLogger("securus.officer")


class _Told(Exception):
    """Something to be told to the person instead of the page: the names of its texts."""

    def __init__(self, status: int, heading: str, words: str) -> None:
        super().__init__(words)
        self.status, self.heading, self.words = status, heading, words


class OfficerPages:
    """Every page under /officer, without a network: HttpRequest in, Answer out."""

    def __init__(self, house: OfficerHouse) -> None:
        self._house = house
        questions, queues = question_pages.QuestionPages(house), queue_pages.QueuePages(house)
        self._doors: Mapping[str, Mapping[str, Handler]] = {
            queue_pages.OVERVIEW: {"GET": queues.overview},
            question_pages.SEARCH: {"GET": questions.search_form, "POST": questions.search},
            question_pages.RECORD: {"GET": questions.record},
            question_pages.DISCLOSURES: {"GET": questions.disclosures_form, "POST": questions.disclosures},
            queue_pages.SIGNALS: {"GET": queues.signals, "POST": queues.review_signal},
            queue_pages.BREAK_GLASS: {"GET": queues.break_glass, "POST": queues.review_break_glass},
        }

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of these pages."""
        return path == PREFIX or path.startswith(PREFIX + "/")

    async def handle(self, request: HttpRequest) -> Answer:
        """The answer to a request for one of these pages."""
        if request.path == rendering.OFFICER_STYLE and request.method in ("GET", "HEAD"):
            return rendering.style_sheet()
        language = language_of(request)
        try:
            return await self._handled(request, language)
        except _Told as told:
            return self._refused(told, request, language)
        except (StoreUnavailable, AuditUnavailable) as error:
            # Without its record a look shows nothing.
            _log.error("a page of the officer is not shown", extra={"cause": str(error)})
            words = "officer.unavailable_words"
            answer = self._refused(_Told(503, "officer.unavailable", words), request, language)
            return answer.with_headers((("Retry-After", "5"),))

    async def _handled(self, request: HttpRequest, language: Language) -> Answer:
        doors = {"POST": None} if request.path == _SIGN_IN else self._doors.get(request.path)
        if doors is None:
            return self._told(_Told(404, "officer.no_page", "officer.no_page_words"), language)
        if request.method not in doors:
            told = self._told(_Told(405, "officer.no_page", "officer.other_way"), language)
            return told.with_headers((("Allow", ", ".join(sorted(doors))),))
        if request.method == "POST":
            fields = await _form(request)
            browser = await self._browser_of_form(request, fields)
            if request.path == _SIGN_IN:
                return await self._sign_in(request, browser, fields, language)
        else:
            fields, browser = _query(request), await self._browser(request)
        account = self._signed_in(browser)
        if account is None:
            problem = "" if request.method == "GET" else "officer.sign_in_ended"
            said = language.plain(problem) if problem else ""
            return self._sign_in_form(browser, language, problem=said, status=403 if problem else 200)
        if not self._is_officer(account):
            refused = {"event": "audit-refused", "by": account.subject, "what": request.path}
            await self._house.audit.record(refused | {"outcome": "refused"})
            raise _Told(403, "officer.not_yours", "officer.not_yours_words")
        handler = self._doors[request.path][request.method]
        return await handler(OfficerVisit(browser, account, language, fields))

    async def _browser(self, request: HttpRequest) -> Browser:
        browser = await self._house.browsers.known(request)
        if browser is None:
            key, now = f"account:{network_of(request.peer)}", self._house.clock()
            if await self._house.store.count(key, window_seconds=60, now=now) > _A_MINUTE:
                raise _Told(429, "officer.too_many", "officer.wait")
            browser = await self._house.browsers.known_or_new(request)
        return browser

    async def _browser_of_form(self, request: HttpRequest, fields: Mapping[str, str]) -> Browser:
        """The browser that sent a form of ours, made for its session (RFC 9700 4.7)."""
        browser = await self._house.browsers.known(request)
        origin = request.headers.get("origin")
        if origin is not None and origin != request.origin:
            raise _Told(403, "officer.refused", "officer.form_foreign")
        if browser is None or not browser.owns_form(fields.get("form_token"), FORM):
            raise _Told(403, "officer.refused", "officer.form_expired")
        return browser

    async def _sign_in(
        self, request: HttpRequest, browser: Browser, fields: Mapping[str, str], language: Language
    ) -> Answer:
        house = self._house
        attempt = await attempt_of(
            fields,
            request,
            accounts=house.accounts,
            client_id=None,
            emit=house.emit,
            now=house.clock(),
            language=language,
        )
        await house.audit.settled()
        if attempt.account is None:
            form = self._sign_in_form(
                browser, language, problem=attempt.problem, status=attempt.status, username=attempt.username
            )
            return form.with_headers(attempt.headers)
        signed_in = await house.browsers.signed_in(browser, attempt.account.subject, ("pwd",))
        return login_pages.redirect(PREFIX, signed_in.cookie or "")

    def _signed_in(self, browser: Browser) -> Account | None:
        """The account of a sign-in that is young enough for these pages."""
        session = browser.session
        if session.subject is None or session.authenticated_at is None:
            return None
        if self._house.clock() - session.authenticated_at > _FRESH_SECONDS:
            return None
        return self._house.accounts.of_subject(session.subject)

    def _is_officer(self, account: Account) -> bool:
        roles = account.claims.get("roles")
        found = set(map(str, roles)) if isinstance(roles, list | tuple) else {str(roles)}
        return not found.isdisjoint(self._house.settings.officer.roles)

    def _sign_in_form(
        self, browser: Browser, language: Language, *, problem: str, status: int, username: str = ""
    ) -> Answer:
        return self._house.shown(
            browser,
            language,
            "sign_in.html",
            here="",
            status=status,
            problem=problem,
            username=username[:256],
        )

    def _refused(self, told: _Told, request: HttpRequest, language: Language) -> Answer:
        tell_refusal(self._house.emit, request, told.words, status=told.status)
        return self._told(told, language)

    def _told(self, told: _Told, language: Language) -> Answer:
        organisation = self._house.settings.authorization.organisation
        return rendering.page(
            "told.html",
            language,
            back=PREFIX,
            status=told.status,
            organisation=organisation,
            here="",
            form_token="",
            heading=told.heading,
            words=told.words,
        )


async def _form(request: HttpRequest) -> dict[str, str]:
    """The fields of a form, each once."""
    try:
        text = (await read_form(request, limit_bytes=_LARGEST_FORM)).decode("ascii")
        return _each_once(parse_query(text))
    except RequestError as error:
        raise _Told(error.status, "officer.refused", "officer.form_unread") from error
    except (OAuthError, ValueError) as error:
        raise _Told(400, "officer.refused", "officer.form_unread") from error


def _query(request: HttpRequest) -> dict[str, str]:
    try:
        return _each_once(parse_query(request.query))
    except ValueError as error:
        raise _Told(400, "officer.refused", "officer.address_unread") from error


def _each_once(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found
