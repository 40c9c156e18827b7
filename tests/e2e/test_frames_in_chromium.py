"""The pages of an authorization in a frame of the record system, in a real browser: where it is named, and where not."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from gateway.demo.world import free_port
from tests.support.chromium import Callback, Chromium, chromium
from tests.support.processes import start_process

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("chromium")]
SCOPE = "openid fhirUser launch/patient patient/*.rs"


@contextmanager
def record_system(folder: Path, port: int, framed: list[str]) -> Iterator[str]:
    """A site at https://localhost that shows the last address of framed in a frame; its origin."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = framed[-1].replace("&", "&amp;")
            page = f'<!doctype html><title>EHR</title><h1>EHR</h1><iframe id="app" src="{address}"></iframe>'
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = ThreadingHTTPServer(("127.0.0.1", port), Door)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_frame(browser: Chromium, origin: str) -> list[str]:
    """The headings of the page in the frame of a site."""
    browser.driver.switch_to.default_content()
    browser.open(origin)
    browser.driver.switch_to.frame("app")
    return headings(browser)


def headings(browser: Chromium) -> list[str]:
    """The headings of where the browser is."""
    return [found.text for found in browser.driver.find_elements(By.TAG_NAME, "h1")]


async def test_S_A15_a_named_record_system_frames_the_sign_in_and_a_stranger_does_not(tmp_path: Path) -> None:
    callback, named, stranger = Callback(), free_port(), free_port()

    def change(document: dict[str, Any]) -> None:
        document["authorization"]["frame_ancestors"] = [f"https://localhost:{named}"]
        for client in document["clients"]:
            if client["redirect_uris"]:
                client["redirect_uris"] = [callback.uri]

    gateway = await start_process(tmp_path, change=change)
    password = next(u["password"] for u in gateway.facts["users"] if u["username"] == "stephen")
    framed: list[str] = []

    async def ask() -> None:
        async with gateway.session("portal-dpop") as session:
            await session.discover()
            pushed, _, _ = await session.push(callback.uri, SCOPE)
            framed.append(session.authorization_url(pushed.json["request_uri"]))

    try:
        with (
            record_system(gateway.folder, named, framed) as ehr,
            record_system(gateway.folder, stranger, framed) as evil,
            chromium(tmp_path / "profile", gateway.folder / "server.pem", scripts=True) as browser,
        ):
            await ask()
            assert in_frame(browser, evil) != ["Sign in"]
            assert in_frame(browser, ehr) == ["Sign in"]
            for id, text in (("username", "stephen"), ("password", str(password))):
                browser.element(id).send_keys(text)
            browser.element("login").click()
            browser.wait_for(lambda: headings(browser) == ["Allow access?"])
    finally:
        assert await gateway.stop() == 0
        callback.close()
