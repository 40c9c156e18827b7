"""The frame of the pages that a visit leads through: where they are filled, and where their errors are shown."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from authz.endpoints.visits import PageError, Visit
from authz.login import browser as pages
from authz.login.browser import Browser
from authz.login.finding import FinderUnavailable
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer, HttpRequest, RequestError
from authz.settings import AuthorizationSettings

Door = Callable[[HttpRequest], Awaitable[Answer]]


class VisitPages:
    """Fills pages for a visit."""

    def __init__(self, settings: AuthorizationSettings) -> None:
        self._settings = settings

    def door(self, handler: Door) -> Door:
        """The handler with its errors shown as a page."""

        async def shown(request: HttpRequest) -> Answer:
            try:
                return await handler(request)
            except (PageError, RequestError) as error:
                return self.error_page(error.description, error.status)
            except FinderUnavailable:
                said = "The records cannot be reached now. Go back and try again in a moment."
                return self.error_page(said, 503)
            except OAuthError as error:
                return self.error_page(f"The app sent a request that is not valid: {error.description}.")

        return shown

    def error_page(self, description: str, status: int = 400) -> Answer:
        """The page for an error that cannot be sent to the client."""
        settings = self._settings
        return pages.error_page(
            description, organisation=settings.organisation, privacy_url=settings.privacy_url, status=status
        )

    def page(self, visit: Visit, status: int, template: str, **values: object) -> Answer:
        """A page of this visit: its forms lead on to the app's redirect URI."""
        return pages.page(
            status,
            template,
            form_goes_to=visit.target.redirect_uri,
            organisation=self._settings.organisation,
            privacy_url=self._settings.privacy_url,
            client_name=visit.client.name,
            interaction=visit.handle,
            form_token=visit.browser.form_token(visit.interaction.id),
            **values,
        )


def to(path: str, handle: str, browser: Browser) -> Answer:
    """The way to the next page of a visit."""
    url = f"{path}?interaction={quote(handle)}"
    return pages.redirect(url) if browser.cookie is None else pages.redirect(url, browser.cookie)
