"""The browser: its session cookie, the token against forged forms, and pages under a strict content policy."""

import hmac
import secrets
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from authz.clock import Clock
from authz.handles import digest, new_handle
from authz.login.language import Language, switches
from authz.login.page_templates import PageTemplates
from authz.protocol.encoding import base64url
from authz.protocol.request import Answer, HttpRequest
from authz.storage.interactions import BrowserSession
from authz.storage.store import Store

COOKIE = "__Host-securus"
GONE = f"{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
"""The cookie that takes the session's cookie away."""
STYLE_PATH = "/assets/securus.css"


_PAGES = PageTemplates("authz.login")

_PAGE_HEADERS: tuple[tuple[str, str], ...] = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Pragma", "no-cache"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # Not no-referrer: under it browsers send `Origin: null` with our own forms, which then look forged (Fetch 3.2).
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
)


def page(
    status: int,
    template: str,
    *,
    language: Language,
    here: str = "",
    form_goes_to: str | None = None,
    **values: object,
) -> Answer:
    """A page under a policy of its own: no script, our style only, forms to us and, after them, to form_goes_to.

    Chromium holds every redirect that follows a form against form-action, those of the app behind its redirect URI
    too, and an app may well lead on to another origin. So what follows a form is bounded by its scheme only.

    here is the path and query that show this page again, for the switch to another language; '' where none does.
    """
    target = "" if form_goes_to is None else " " + _sources(form_goes_to)
    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self'{target}"
    )
    ways = switches(language, here) if here else []
    body = _PAGES.render(template, style=STYLE_PATH, t=language, switches=ways, **values)
    return Answer(status, (*_PAGE_HEADERS, ("Content-Security-Policy", policy)), body.encode())


def rendered(template: str, *, language: Language, **values: object) -> bytes:
    """A page to keep: it stands alone, without style, form or way to anywhere."""
    return _PAGES.render(template, t=language, **values).encode()


def error_page(
    description: str, *, language: Language, organisation: str, privacy_url: str | None, status: int = 400
) -> Answer:
    """The page for an error that cannot be sent to the client."""
    return page(
        status,
        "error.html",
        language=language,
        description=description,
        organisation=organisation,
        privacy_url=privacy_url,
    )


@cache
def style_sheet() -> Answer:
    """The style sheet of all pages."""
    headers = (("Content-Type", "text/css; charset=utf-8"), ("Cache-Control", "max-age=3600"))
    return Answer(200, (*headers, ("X-Content-Type-Options", "nosniff")), _PAGES.read("style.css").encode())


def redirect(url: str, *cookies: str) -> Answer:
    """303 to url (T2), which nobody keeps."""
    headers = [("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]
    return Answer(303, (*headers, *(("Set-Cookie", cookie) for cookie in cookies)))


def _sources(url: str) -> str:
    """The content policy sources for a redirect URI and what the app may lead on to."""
    parts = urlsplit(url)
    if parts.scheme == "http":  # of a native app on the loopback address; the policy has no way to write IPv6
        return "http: https:" if "[" in parts.netloc else f"http://{parts.netloc} https:"
    return f"{parts.scheme}:"


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser with its session, and the cookie to set when the session is new."""

    session: BrowserSession
    cookie: str | None

    def form_token(self, interaction_id: str) -> str:
        """The token that a form of this session and interaction must carry."""
        key = self.session.csrf_key.encode()
        return base64url(hmac.digest(key, interaction_id.encode(), "sha256"))

    def owns_form(self, form_token: str | None, interaction_id: str) -> bool:
        """Whether a form was made by us for this session and interaction."""
        return form_token is not None and hmac.compare_digest(
            form_token.encode(), self.form_token(interaction_id).encode()
        )


class Browsers:
    """Sessions of browsers, by cookie."""

    def __init__(self, store: Store, lifetime_seconds: int, clock: Clock) -> None:
        self._store = store
        self._lifetime_seconds = lifetime_seconds
        self._clock = clock

    async def known(self, request: HttpRequest) -> Browser | None:
        """The browser that sent this request, None without a live session."""
        id = session_id_of(request)
        if id is None:
            return None
        session = await self._store.session(id, now=self._clock())
        return None if session is None else Browser(session, None)

    async def known_or_new(self, request: HttpRequest) -> Browser:
        """The browser that sent this request, with a session of nobody where it had none."""
        return await self.known(request) or await self._start(subject=None)

    async def signed_in(self, before: Browser, subject: str, amr: tuple[str, ...]) -> Browser:
        """A new session for the person who just signed in: what the browser held before is worth nothing now.

        Where nobody was signed in it says in whose place it came: visits that waited for a sign-in go on in it.
        """
        await self._store.delete_session(before.session.id)
        begun_as = before.session.id if before.session.subject is None else None
        return await self._start(subject=subject, amr=amr, begun_as=begun_as)

    async def signed_out(self, before: Browser) -> Browser:
        """A new session of nobody in place of the one before."""
        await self._store.delete_session(before.session.id)
        return await self._start(subject=None)

    async def ended(self, before: Browser) -> None:
        """The session is over; the browser is told by the cookie GONE."""
        await self._store.delete_session(before.session.id)

    async def _start(
        self, *, subject: str | None, amr: tuple[str, ...] = (), begun_as: str | None = None
    ) -> Browser:
        handle = new_handle()
        now = self._clock()
        session = BrowserSession(
            id=digest(handle),
            csrf_key=base64url(secrets.token_bytes(32)),
            subject=subject,
            authenticated_at=None if subject is None else now,
            amr=amr,
            expires_at=now + self._lifetime_seconds,
            begun_as=begun_as,
        )
        await self._store.put_session(session)
        return Browser(session, f"{COOKIE}={handle}; Path=/; Secure; HttpOnly; SameSite=Lax")


def session_id_of(request: HttpRequest) -> str | None:
    """The id of the session that a browser claims to have; None where its cookie is missing, or there twice."""
    values = [
        value.strip()
        for name, _, value in (p.partition("=") for p in request.headers.get("cookie", "").split(";"))
        if name.strip() == COOKIE
    ]
    return digest(values[0]) if len(values) == 1 else None
