"""Sign-out that an app begins (OpenID Connect RP-Initiated Logout 1.0): the session of this browser ends."""

from collections.abc import Mapping
from urllib.parse import urlencode

from authz.endpoints.own_id_tokens import Hint, read_hint
from authz.endpoints.visit_pages import error_page
from authz.endpoints.visits import PageError
from authz.events import Emit, SignedOut
from authz.http import read_form
from authz.keys import KeyRing
from authz.login import browser as pages
from authz.login.browser import Browsers
from authz.login.language import Language, language_of
from authz.protocol.clients import Client
from authz.protocol.encoding import parse_query
from authz.protocol.errors import OAuthError
from authz.protocol.openid import Subjects
from authz.protocol.request import Answer, HttpRequest
from authz.settings import AuthorizationSettings

_MAX_STATE = 4096


class Logout:
    """GET and POST /logout."""

    def __init__(
        self,
        settings: AuthorizationSettings,
        clients: Mapping[str, Client],
        browsers: Browsers,
        subjects: Subjects,
        keys: KeyRing,
        emit: Emit,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._browsers = browsers
        self._subjects = subjects
        self._keys = keys
        self._emit = emit

    async def end_session(self, request: HttpRequest) -> Answer:
        """Sign the browser out and send it back to the app, or say that it is done.

        An app proves by id_token_hint that it signed this person in; without that, or for somebody else's sign-in, the
        person is asked first: a page that any site could open must not sign people out.
        """
        try:
            asked = await self._parameters(request)
        except (ValueError, OAuthError):
            return self._error("error.logout_unreadable", request)
        client = self._client(asked)
        back = asked.get("post_logout_redirect_uri")
        if back is not None and (client is None or back not in client.post_logout_redirect_uris):
            return self._error("error.logout_address", request)
        browser = await self._browsers.known(request)
        subject = None if browser is None else browser.session.subject
        if browser is not None and subject is not None:
            hint = self._hint(asked)
            named = None if client is None else self._subjects.of(client, subject)
            sure = hint is not None and hint.subject == named
            confirmed = request.method == "POST" and browser.owns_form(asked.get("form_token"), "logout")
            if not sure and not confirmed:
                return self._question(asked, client, browser.form_token("logout"), language_of(request))
            await self._browsers.ended(browser)
            asked_by = None if client is None else client.client_id
            self._emit(SignedOut(subject, asked_by, request.peer))
        if back is None:
            return self._done(request)
        state = asked.get("state", "")[:_MAX_STATE]
        separator = "&" if "?" in back else "?"
        return pages.redirect(
            f"{back}{separator}{urlencode({'state': state})}" if state else back, pages.GONE
        )

    async def _parameters(self, request: HttpRequest) -> dict[str, str]:
        """Each parameter once; from the form of a POST, else from the query. Raises ValueError, OAuthError."""
        text = (await read_form(request)).decode("ascii") if request.method == "POST" else request.query
        pairs = parse_query(text)
        asked = dict(pairs)
        if len(asked) != len(pairs):
            raise ValueError("a parameter is sent twice")
        if "id_token_hint" in asked and self._hint(asked) is None:
            raise ValueError("id_token_hint is not one of ours")
        return asked

    def _hint(self, asked: Mapping[str, str]) -> Hint | None:
        return read_hint(asked.get("id_token_hint", ""), self._keys, self._settings.issuer)

    def _client(self, asked: Mapping[str, str]) -> Client | None:
        """The client that asks: named by client_id, and by the hint where there is one, never by two."""
        named = asked.get("client_id")
        hint = self._hint(asked)
        if named is not None and hint is not None and named != hint.client_id:
            return None
        return self._clients.get(named or (hint.client_id if hint is not None else ""))

    def _question(
        self, asked: Mapping[str, str], client: Client | None, form_token: str, language: Language
    ) -> Answer:
        kept = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")
        return pages.page(
            200,
            "logout.html",
            language=language,
            form_goes_to=asked.get("post_logout_redirect_uri"),
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
            client_name=None if client is None else client.name,
            fields=[(name, asked[name]) for name in kept if name in asked],
            form_token=form_token,
        )

    def _error(self, said: str, request: HttpRequest) -> Answer:
        return error_page(PageError(said), request, self._settings, self._emit)

    def _done(self, request: HttpRequest) -> Answer:
        page = pages.page(
            200,
            "signed_out.html",
            language=language_of(request),
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
        )
        return page.with_headers((("Set-Cookie", pages.GONE),))
