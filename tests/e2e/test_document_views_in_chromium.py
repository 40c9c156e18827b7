"""Pages of clinical documents in a real browser: nothing of a hostile document runs or loads, and axe-core finds no fault.

Each is looked at twice: as the gateway gives it, and as markup alone, without the policy that would forbid what slipped
through. The browser runs scripts; a page that is not ours shows that the trap would tell.
"""

import asyncio
import gzip
import re
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from selenium.common.exceptions import NoAlertPresentException

from gateway.cda.view import View
from tests.attacks import test_document_sections
from tests.support.chromium import AXE, PHONE, Chromium, chromium
from tests.support.document_store import MRN, DocumentStore
from tests.support.documents import OID
from tests.support.gateway import MOUNT, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.injected_documents import WORD, injected, narrative, unstructured

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("chromium-documents"),
    pytest.mark.asyncio(loop_scope="module"),
]
SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
RICH = narrative(
    '<paragraph><content styleCode="Bold Italics">one</content><br/>two<sub>2</sub></paragraph><list>'
    "<caption>Drugs</caption>"
    "<item>three</item></list><list listType='ordered'><item>four</item></list><table><caption>Values</caption><thead><tr>"
    "<th>Test</th><th colspan='2'>Value</th></tr></thead><tbody><tr><th>Sodium</th><td>140</td><td>mmol/l</td></tr></tbody>"
    "</table><linkHtml href='https://hospital.example/'>five</linkHtml><renderMultiMedia referencedObject='m'/>"
    "<footnote>six</footnote><content revised='delete'>seven</content><script>eight</script>",
    before="<languageCode code='de-CH'/><title>Entlassungsbericht</title>",
)
NAMES = sorted(injected("http://trap.example"))


class Trap:
    """A server that nobody calls: it keeps who does, and gives pages whose markup is to be looked at."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.page = b""
        trap = self

        class Door(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/page":
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html; charset=utf-8")
                    self.end_headers()
                    self.wfile.write(trap.page)
                    return
                if self.path != "/favicon.ico":  # which browsers want of every site
                    trap.calls.append(self.path)
                self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="trap")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def trap() -> Iterator[Trap]:
    found = Trap()
    yield found
    found.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("document-views")
    policies = policies_with(folder, "50-sections.yaml", test_document_sections.POLICIES)
    running = await start_gateway(folder, policies=policies, identifier_systems={f"urn:oid:{OID}": MRN})
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> DocumentStore:
    return DocumentStore(gateway.upstream)


@pytest.fixture(scope="module")
def browser(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile"), gateway.folder / "server.pem", scripts=True) as found:
        found.driver.execute_cdp_cmd("Network.enable", {})
        yield found


async def open_at_the_gateway(gateway: RunningGateway, browser: Chromium) -> None:
    """Go to the document with a token and a proof, and with what browsers say that they accept."""
    token = await gateway.token("lab", scope="system/*.rs")
    url = f"{gateway.origin}{MOUNT}/Binary/d"
    said = {"Authorization": f"DPoP {token}", "DPoP": gateway.proof("GET", url, token)}
    browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": said})
    await asyncio.to_thread(browser.open, url)
    browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


def open_alone(trap: Trap, browser: Chromium, content: bytes) -> None:
    """Go to the same markup without any policy."""
    view = View()
    page = (view.feed(content) + view.finish()).decode()
    page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page, count=1)
    assert count == 1
    trap.page = page.encode()
    browser.open(f"{trap.url}/page")


def check_quiet(browser: Chromium, trap: Trap, name: str) -> None:
    """Nothing ran, nothing was loaded, and the words are there."""
    with pytest.raises(NoAlertPresentException):
        _ = browser.driver.switch_to.alert.text
    assert WORD in browser.text() + str(browser.evaluate("document.title")), name
    assert browser.evaluate("typeof window.ran") == "undefined", name
    assert browser.evaluate("document.scripts.length") == 0, name
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0, name
    assert trap.calls == [], name


async def test_the_trap_tells_of_a_page_that_is_not_ours(browser: Chromium, trap: Trap) -> None:
    trap.page = f"<!doctype html><p>{WORD}<script>window.ran=1</script><img src='{trap.url}/i'>".encode()
    browser.open(f"{trap.url}/page")
    browser.wait_for(lambda: trap.calls == ["/i"])
    assert browser.evaluate("typeof window.ran") == "number"
    with pytest.raises(AssertionError):
        check_quiet(browser, trap, "a page that is not ours")
    trap.calls.clear()


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_of_a_hostile_document_runs_or_loads_anything(
    gateway: RunningGateway, store: DocumentStore, browser: Chromium, trap: Trap, name: str
) -> None:
    content = injected(trap.url)[name]
    store.document("d", "A", content)
    await open_at_the_gateway(gateway, browser)
    check_quiet(browser, trap, name)
    open_alone(trap, browser, content)
    check_quiet(browser, trap, name)


async def test_the_page_has_no_origin_and_runs_no_script(
    gateway: RunningGateway, store: DocumentStore, browser: Chromium
) -> None:
    store.document("d", "A", RICH)
    await open_at_the_gateway(gateway, browser)
    assert browser.heading() == "Entlassungsbericht"
    assert browser.evaluate("window.origin") == "null"
    added = "document.body.appendChild(Object.assign(document.createElement('script'),{text:'window.ran=1'}))"
    browser.evaluate(f"{added};true")
    assert browser.evaluate("typeof window.ran") == "undefined"
    assert browser.evaluate("document.querySelector('main > div').lang") == "de-CH"
    assert "seven" in browser.text()
    assert "eight" not in browser.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_any_page(browser: Chromium, trap: Trap, scheme: str) -> None:
    assert AXE.is_file(), "run `npm ci` in tests/interop"
    browser.colours(scheme)
    pages = {path.name: gzip.decompress(path.read_bytes()) for path in SAMPLES}
    pages |= {
        "rich": RICH,
        "text": unstructured("words", "text/plain"),
        "pdf": unstructured("QUJD", "application/pdf"),
    }
    pages["nothing"] = unstructured("", "text/plain").replace(f"<title>{WORD}</title>".encode(), b"")
    wrong = {}
    for name, content in pages.items():
        open_alone(trap, browser, content)
        wrong[name] = browser.violations()
    browser.colours("light")
    assert {name: found for name, found in wrong.items() if found} == {}


async def test_a_page_is_no_wider_than_a_telephone(browser: Chromium, trap: Trap) -> None:
    open_alone(trap, browser, RICH.replace(b"five", b"five" * 40))
    browser.resize(PHONE)
    assert browser.overflow() == 0
    browser.resize((1280, 900))
