"""The frame of the pages that a visit leads through: where they are filled, and where their errors are shown."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from authz.endpoints.refused_pages import tell_refusal
from authz.endpoints.visits import PageError, Visit
from authz.events import Emit
from authz.login import browser as pages
from authz.login.browser import Browser
from authz.login.finding import FinderUnavailable
from authz.login.language import language_of
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.settings import AuthorizationSettings

Door = Callable[[HttpRequest], Awaitable[Answer]]
_PATHS = {
    "sign_in.html": "/sign-in",
    "patient.html": "/patient",
    "encounter.html": "/encounter",
    "consent.html": "/consent",
}


class VisitPages:
    """Fills pages for a visit."""

    def __init__(self, settings: AuthorizationSettings, emit: Emit) -> None:
        self._settings = settings
        self._emit = emit

    def door(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError, FinderUnavailable, OAuthError) as error:
                return error_page(error, request, self._settings, self._emit)

        return shown

    def page(self, visit: Visit, status: int, template: str, **values: object) -> Answer:
        """A page of this visit: its forms lead on to the app's redirect URI."""
        return pages.page(
            status,
            template,
            form_goes_to=visit.target.redirect_uri,
            language=visit.language,
            here=f"{_PATHS[template]}?interaction={quote(visit.handle)}",
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
            client_name=visit.client.name,
            interaction=visit.handle,
            form_token=visit.browser.form_token(visit.interaction.id),
            **values,
        )


def error_page(
    error: PageError | RequestError | FinderUnavailable | OAuthError,
    request: HttpRequest,
    settings: AuthorizationSettings,
    emit: Emit,
) -> Answer:
    """The page for an error that cannot be sent to the client, in the language of the person at the browser."""
    language, status, cause = language_of(request), 400, ""
    match error:
        case PageError():
            name, said, status = error.said, language(error.said, **error.values), error.status
        case FinderUnavailable():
            name, status = "error.records_away", 503
            said = language(name)
        case OAuthError():
            name, cause = "error.not_valid", error.description
            said = language(name, description=cause)
        case RequestError():
            name, cause, status = "error.request", error.description, error.status
            said = language(name, description=cause)
    tell_refusal(emit, request, name, status=status, cause=cause)
    return pages.error_page(
        said,
        language=language,
        organisation=settings.organisation,
        privacy_url=settings.privacy_url,
        status=status,
    )


def to(path: str, handle: str, browser: Browser) -> Answer:
    """The way to the next page of a visit."""
    url = f"{path}?interaction={quote(handle)}"
    return pages.redirect(url) if browser.cookie is None else pages.redirect(url, browser.cookie)
