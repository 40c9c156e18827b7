"""An app in a real browser: served from an origin of its own, it talks to a gateway of another."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.app_server import AppServer
from tests.support.chromium import Chromium
from tests.support.smart_site import SmartSite, start_smart_site

APPS = Path(__file__).parents[1] / "interop" / "apps"
MODULES = APPS.parent / "node_modules"


@dataclass
class BrowserApp:
    """The app, the gateway that it reads from, and the browser. Its page says in window.seen what it saw."""

    site: SmartSite
    server: AppServer
    browser: Chromium

    def begin(self, page: str, settings: Mapping[str, Any], query: Mapping[str, str] | None = None) -> None:
        """Open a page of the app in a browser that was never here."""
        self.browser.forget()
        self.server.settings.clear()
        self.server.settings.update(settings)
        self.browser.open(f"{self.server.origin}{page}?{urlencode(query or {})}")

    def sign_in(self, username: str = "stephen") -> None:
        """As far as the consent page."""
        self.browser.wait_for(lambda: self.browser.has("login"))
        self.browser.sign_in(username, str(self.site.user(username)["password"]))
        while self.browser.has("select"):
            self.browser.press("select")

    def sign_in_and_allow(self, username: str = "stephen") -> dict[str, Any]:
        """Through our pages, back to what the app saw."""
        self.sign_in(username)
        self.browser.press("allow")
        return self.seen(reads=1)

    def seen(self, *, reads: int) -> dict[str, Any]:
        """What the app saw after so many readings."""
        self.browser.wait_for(
            lambda: self.browser.evaluate(f"window.seen.reads >= {reads} || !!window.seen.error")
        )
        found: dict[str, Any] = self.browser.evaluate("window.seen")
        assert "error" not in found, found
        return found

    def error(self) -> str:
        """What the app was refused."""
        self.browser.wait_for(lambda: bool(self.browser.evaluate("window.seen && window.seen.error")))
        return str(self.browser.evaluate("window.seen.error"))


@asynccontextmanager
async def served(
    folder: Path, files: Mapping[str, Path], *, page: str, **more: Any
) -> AsyncIterator[tuple[SmartSite, AppServer]]:
    """A gateway, and a server of these files to whose page the answers go."""
    server = AppServer(files)
    try:
        site = await start_smart_site(folder, redirect_uri=f"{server.origin}{page}", **more)
        try:
            yield site, server
        finally:
            await site.stop()
    finally:
        server.close()
