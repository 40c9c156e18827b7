"""Clinical documents as pages: given to whom the document would be given, of what would have gone out, under a policy."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.settings import DocumentSettings
from tests.attacks import test_document_sections, test_document_services
from tests.attacks.test_binaries import refused
from tests.support.document_store import MRN, DocumentStore
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.injected_documents import WORD, injected, narrative
from tests.support.plain_documents import PatientIndex, PlainDocuments
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("document-views")]

PAGE = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")  # as browsers ask


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plain() -> AsyncIterator[PlainDocuments]:
    found = PlainDocuments()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, plain: PlainDocuments
) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("views")
    policies = policies_with(folder, "50-sections.yaml", test_document_sections.POLICIES)
    own = test_document_services.POLICIES.replace("what-leads-there", "what-leads-to-own")
    (policies / "60-own.yaml").write_text(own)
    running = await start_gateway(
        folder,
        policies=policies,
        identifier_systems={f"urn:oid:{OID}": MRN},
        documents={
            "base": plain.base,
            "identifier_systems": {f"urn:oid:{OID}": MRN},
            "documents": DocumentSettings("fhir", "documents/{id}"),
        },
    )
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> DocumentStore:
    return DocumentStore(gateway.upstream)


async def lab(gateway: RunningGateway) -> str:
    return await gateway.token("lab", scope="system/*.rs")


def check_page(reply: Reply) -> str:
    """The page, with everything that guards it."""
    assert reply.status == 200, reply.raw[:500]
    policy = reply.header("Content-Security-Policy") or ""
    assert policy.startswith("sandbox; default-src 'none'; style-src 'sha256-")
    assert "allow-" not in policy
    assert (reply.header("Content-Type"), reply.header("Content-Disposition")) == (
        "text/html; charset=utf-8",
        "inline",
    )
    assert (reply.header("X-Content-Type-Options"), reply.header("Referrer-Policy")) == (
        "nosniff",
        "no-referrer",
    )
    assert "no-store" in (reply.header("Cache-Control") or "")
    assert "Accept" in (reply.header("Vary") or "")
    assert reply.header("ETag") is None
    text = reply.body.decode()
    assert text.startswith('<!doctype html><html lang="en">')
    assert text.endswith("</html>")
    return text


async def test_who_asks_for_a_page_gets_one_and_everybody_else_the_document(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A", narrative("shown"))
    token = await lab(gateway)
    for accept in ("text/html", PAGE[1], "text/html, */*;q=0.1"):
        before = len(await gateway.audit())
        headers = [("Accept", accept), ("Range", "bytes=0-9"), ("If-None-Match", 'W/"1"')]
        reply = await gateway.fhir("GET", "/Binary/d", token=token, headers=headers)
        assert f"{WORD} shown" in check_page(reply)
        access, delivered = (await gateway.audit())[before:]
        assert (access["event"], access["presented_as"]) == ("access", "html")
        assert access["document"]["kind"] == "ClinicalDocument"
        assert delivered["bytes"] == len(reply.body)
    for accept in ("*/*", "text/xml", "text/xml, text/html;q=0.9", "text/html;q=0, */*", "text/*"):
        reply = await gateway.fhir("GET", "/Binary/d", token=token, headers=[("Accept", accept)])
        assert (reply.status, reply.body) == (200, store.contents["d"]), accept
        assert reply.header("Content-Disposition") == "attachment"
        assert "presented_as" not in (await gateway.audit())[-2]


async def test_a_document_of_a_plain_store_is_a_page_at_its_own_address(
    gateway: RunningGateway, store: DocumentStore, plain: PlainDocuments
) -> None:
    gateway.upstream.answer = PatientIndex(MRN).answer
    plain.contents["d1"] = narrative("shown")
    token = await gateway.token("pA-r", aud=f"{gateway.origin}/cda", scope="patient/*.rs")
    reply = await gateway.fhir("GET", "/documents/d1", token=token, mount="/cda", headers=[PAGE])
    assert f"{WORD} shown" in check_page(reply)
    reply = await gateway.fhir("GET", "/documents/d1", token=token, mount="/cda")
    assert reply.body == plain.contents["d1"]
    plain.contents["d1"] = narrative(SECRET).replace(b"mrn-A", b"mrn-B")
    reply = await gateway.fhir("GET", "/documents/d1", token=token, mount="/cda", headers=[PAGE])
    assert reply.status == 404
    assert SECRET.encode() not in reply.raw


@pytest.mark.parametrize("name", ["another", "restricted", "broken", "doctype", "none"])
async def test_who_may_not_have_the_document_has_no_page_of_it(
    gateway: RunningGateway, store: DocumentStore, name: str
) -> None:
    own = narrative(SECRET)
    content = {
        "another": own.replace(b"mrn-A", b"mrn-B"),
        "restricted": own.replace(b'code="N"', b'code="V"'),
        "broken": own[:-5],
        "doctype": own.replace(b"<ClinicalDocument", b"<!DOCTYPE x><ClinicalDocument"),
        "none": f"<html><script>{SECRET}</script></html>".encode(),
    }[name]
    store.document("d", "A", content)
    await refused(gateway, "/Binary/d", token=await lab(gateway), headers=[PAGE])


async def test_what_is_withheld_from_the_document_is_not_on_the_page(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.document("d", "A", test_document_sections.MIXED)
    before = len(await gateway.audit())
    text = check_page(await gateway.fhir("GET", "/Binary/d", token=await lab(gateway), headers=[PAGE]))
    assert SECRET not in text
    assert "shown" in text
    assert "Parts of the original were withheld from this copy." in text
    assert text.index("Parts of the original") < text.index("shown")
    access, delivered = (await gateway.audit())[before:]
    assert access["presented_as"] == "html"
    assert delivered["withheld"] == {"sections": 2, "entries": 0, "signature": "none"}


async def test_a_long_document_of_which_something_is_withheld_says_so_at_its_end(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    filler = "<entry><observation><value>" + "x" * 60_000 + "</value></observation></entry>"
    section = test_document_sections.section
    long_one = section("shown").replace("</section>", f"{filler * 80}</section>")
    sections = f"{section('word ' * 2000)}{long_one}{section(SECRET, 'R')}"
    content = document(body=f"<structuredBody>{sections}</structuredBody>")
    store.document("d", "A", content)
    text = check_page(await gateway.fhir("GET", "/Binary/d", token=await lab(gateway), headers=[PAGE]))
    assert SECRET not in text
    assert text.index("shown") < text.index("Parts of the original were withheld")


async def test_a_document_that_takes_its_header_back_has_half_a_page(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    filler = "<paragraph>x</paragraph>" * 30_000
    content = narrative(filler).replace(
        b"</ClinicalDocument>", f"<recordTarget/><title>{SECRET}</title></ClinicalDocument>".encode()
    )
    store.document("d", "A", content)
    reply = await gateway.fhir("GET", "/Binary/d", token=await lab(gateway), headers=[PAGE])
    assert not reply.has_last_chunk
    assert SECRET.encode() not in reply.raw
    assert (await gateway.audit())[-1]["ended"] == "broken-off"


@pytest.mark.parametrize("name", sorted(injected("https://trap.example")))
async def test_nothing_of_a_hostile_document_is_markup_of_the_page(
    gateway: RunningGateway, store: DocumentStore, name: str
) -> None:
    store.document("d", "A", injected("https://trap.example")[name])
    text = check_page(await gateway.fhir("GET", "/Binary/d", token=await lab(gateway), headers=[PAGE]))
    assert WORD in text
    for never in ("<script", "<img", "<svg", "<iframe", "<a ", "<link", "<form", "<object", "<base"):
        assert never not in text
