"""Chromium for tests: headless, with a profile of its own, and an app at the loopback address that catches the answer."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.missing import missing

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
AXE = Path(__file__).parents[1] / "interop/node_modules/axe-core/axe.min.js"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
)  # fmt: skip
DESKTOP = (1280, 900)
PHONE = (360, 740)


class Chromium:
    """A browser. scripts says whether pages may run any."""

    def __init__(self, driver: Chrome, *, scripts: bool) -> None:
        self.driver = driver
        self.scripts = scripts
        self._left = 0

    def forget(self) -> None:
        """A browser that was never here: no cookie, no cache, the desktop's width."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        self.resize(DESKTOP)

    def resize(self, size: tuple[int, int]) -> None:
        """Give the page so many CSS pixels; a headless window cannot be as narrow as a telephone."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, scheme: str) -> None:
        """'light' or 'dark', as the person's device says; nothing moves while they change."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        told = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})

    def open(self, url: str) -> None:
        """Go there."""
        self.driver.get(url)

    def has(self, id: str) -> bool:
        """Whether the page has an element of this id."""
        return bool(self.driver.find_elements(By.ID, id))

    def element(self, id: str) -> WebElement:
        """The element of this id."""
        return self.driver.find_element(By.ID, id)

    def press(self, id: str) -> None:
        """Click the button of this id, and wait for the page that it leads to."""
        self._leave(self.element(id).click)

    def back(self) -> None:
        """The browser's back button."""
        self._leave(self.driver.back)

    def _leave(self, act: Callable[[], None]) -> None:
        self._left += 1  # a page that comes back from the browser's memory has the number of an earlier leave
        self.evaluate(f"window.left = {self._left}")
        act()
        ready = f"window.left !== {self._left} && document.readyState === 'complete'"
        self.wait_for(lambda: self.evaluate(ready) is True)

    def text(self) -> str:
        """The words on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def heading(self) -> str:
        """The page's main heading."""
        return self.driver.find_element(By.TAG_NAME, "h1").text

    def sign_in(self, username: str, password: str) -> None:
        """Fill the sign-in form and send it."""
        for id, text in (("username", username), ("password", password)):
            field = self.element(id)
            field.clear()
            field.send_keys(text)
        self.press("login")

    def keys(self, *texts: str) -> None:
        """Type, wherever the focus is."""
        ActionChains(self.driver).send_keys(*texts).perform()

    def focused(self) -> str:
        """The id of the element that has the focus, '' where it has none."""
        return self.driver.switch_to.active_element.get_attribute("id") or ""

    def wait_for(self, claim: Callable[[], bool]) -> None:
        """Wait until it is so; between two pages nothing can be asked at all."""
        waiting = WebDriverWait(self.driver, 20, 0.05, ignored_exceptions=(WebDriverException,))
        waiting.until(lambda _: claim())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, asked by the debugger: works where pages may run no script."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.driver.execute_cdp_cmd("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page: rule, help and the place."""
        self.evaluate(AXE.read_text(encoding="utf-8") + ";true")
        found = json.loads(self.evaluate("axe.run(document).then(r => JSON.stringify(r.violations))"))
        return [f"{v['id']}: {v['help']}: {[n['html'] for n in v['nodes']]}" for v in found]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        root = "document.documentElement"
        return int(self.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(profile: Path, certificate: Path, *, scripts: bool = False) -> Iterator[Chromium]:
    """A browser that trusts this server certificate's key and, beyond what is public, nothing else.

    Without Chromium the test is skipped, and fails in CI.
    """
    if not (BROWSER.is_file() and DRIVER.is_file()):
        missing(f"Chromium is not installed: {BROWSER} and {DRIVER}")
    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_argument(f"--ignore-certificate-errors-spki-list={_pin(certificate)}")
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    try:
        if not scripts:
            driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        browser = Chromium(driver, scripts=scripts)
        browser.resize(DESKTOP)
        yield browser
    finally:
        driver.quit()


def _pin(certificate: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return base64.b64encode(
        sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


class Callback:
    """An app at the loopback address: what the browser brings to its redirect URI.

    With `on` in its query it leads on to leads_on_to.
    """

    def __init__(self) -> None:
        brought = self._brought = SimpleQueue[dict[str, str]]()
        self.referrers: list[str | None] = []
        self.leads_on_to = ""
        app = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                pairs = parse_qsl(parts.query, keep_blank_values=True)
                asked = dict(pairs)
                if parts.path != "/callback" or len(asked) != len(pairs):
                    self.send_error(404)
                    return
                leads_on = asked.pop("on", None) is not None
                body = b'<!doctype html><html lang="en"><title>App</title><h1>Back in the app</h1></html>'
                self.send_response(302 if leads_on else 200)
                if leads_on:
                    self.send_header("Location", app.leads_on_to)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                if asked:
                    app.referrers.append(self.headers["Referer"])
                    brought.put(asked)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.uri = f"http://127.0.0.1:{self._server.server_port}/callback"
        self._thread = threading.Thread(target=self._server.serve_forever, name="callback")
        self._thread.start()

    def answer(self) -> dict[str, str]:
        """The next answer. Fails when none comes."""
        return self._brought.get(timeout=10)

    def is_quiet(self) -> bool:
        """Whether nothing more came."""
        try:
            self._brought.get_nowait()
        except Empty:
            return True
        return False

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
