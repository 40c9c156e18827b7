"""The frame of the pages that a visit leads through: where they are filled, and where their errors are shown."""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from authz.endpoints.visits import PageError, Visit
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
_log = logging.getLogger("securus.pages")


class VisitPages:
    """Fills pages for a visit."""

    def __init__(self, settings: AuthorizationSettings) -> None:
        self._settings = settings

    def door(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError, FinderUnavailable, OAuthError) as error:
                return error_page(error, request, self._settings)

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
) -> Answer:
    """The page for an error that cannot be sent to the client, in the language of the person at the browser.

    The log says why: no client hears of it, and the person may only say that it does not work.
    """
    language, status = language_of(request), 400
    match error:
        case PageError():
            cause, said, status = error.said, language(error.said, **error.values), error.status
        case FinderUnavailable():
            cause, status = "error.records_away", 503
            said = language(cause)
        case OAuthError():
            cause, said = error.description, language("error.not_valid", description=error.description)
        case RequestError():
            cause, status = error.description, error.status
            said = language("error.request", description=cause)
    told = {"cause": cause, "status": status, "endpoint": request.path, "peer": request.peer}
    _log.info("a page was refused", extra=told)
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
