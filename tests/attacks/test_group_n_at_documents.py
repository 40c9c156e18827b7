"""Attack group N at a plain store of documents (`cda-rest`), reads and submissions, each with its permitted twin."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.document_settings import SubmissionSettings
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.document_store import MRN
from tests.support.documents import OID, document
from tests.support.gateway import Reply, RunningGateway, stop_gateway
from tests.support.plain_documents import PatientIndex, PlainDocuments
from tests.support.submissions import of, send, start
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("group-n-documents")]

MARKED = f"<nonXMLBody><text>{SECRET}</text></nonXMLBody>"
UNDER_A = ("X-Security-Context", "Patient/A")
BILLION = (
    '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)
INCLUDE = '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="http://169.254.169.254/"/>'
HOSTILE = (
    of("A", prolog='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', body=MARKED),
    of("A", prolog='<!DOCTYPE x SYSTEM "http://169.254.169.254/latest">', body=MARKED),
    of("A", prolog=BILLION, body=MARKED),
    of("A", prolog="<?xml-model href='http://169.254.169.254/'?>", body=MARKED),
    of("A", before=INCLUDE, body=MARKED),
    of("A", body="<x>" * 300 + SECRET + "</x>" * 300),
    of("A", body=MARKED).decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    of("A", declaration='<?xml version="1.0" encoding="UTF-7"?>', body=MARKED),
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def store() -> AsyncIterator[PlainDocuments]:
    found = PlainDocuments()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, store: PlainDocuments
) -> AsyncIterator[RunningGateway]:
    limits = SubmissionSettings(largest=1024 * 1024)
    running = await start(tmp_path_factory.mktemp("group-n"), store, submission=limits)
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh(gateway: RunningGateway, store: PlainDocuments) -> None:
    gateway.upstream.reset()
    gateway.upstream.answer = PatientIndex(MRN).answer
    store.reset()


async def read(gateway: RunningGateway, id: str, *headers: tuple[str, str]) -> Reply:
    token = await gateway.token("pA-r", aud=f"{gateway.origin}/cda")
    return await gateway.fhir("GET", f"/documents/{id}", token=token, mount="/cda", headers=headers)


async def not_there(gateway: RunningGateway, id: str) -> None:
    """The document is not found, as one that never was."""
    for headers in ((), (("Accept", "application/fhir+json"),), (("Range", "bytes=0-9"),)):
        reply = await read(gateway, id, *headers)
        assert reply.status == 404, reply.raw
        assert reply.body == (await read(gateway, "never-was", *headers)).body
        check_no_leak(reply)
    record = next(each for each in reversed(await gateway.audit()) if each["event"] == "access")
    assert record["decision"] in ("deny", "refused")


async def test_N226_a_strangers_document_is_not_there(gateway: RunningGateway, store: PlainDocuments) -> None:
    store.contents = {"b": of("B", body=MARKED), "a": of("A")}
    await not_there(gateway, "b")
    assert (await read(gateway, "a")).body == of("A")


@pytest.mark.parametrize(
    "context",
    [
        "Patient/A/_history/1",
        "https://other.example/fhir/Patient/A",
        "#p",
        "Binary/a",
        "Patient/B",
        "Group/g",
    ],
)
async def test_N228_a_security_context_files_only_where_it_is_read(
    gateway: RunningGateway, store: PlainDocuments, context: str
) -> None:
    reply = await send(gateway, of("B", body=MARKED), ("X-Security-Context", context))
    assert reply.status in (400, 403), reply.raw
    check_outcome(reply, gateway)
    check_no_leak(reply)
    assert store.received == []
    assert (await send(gateway, of("A"))).status == 201


async def test_N229_nobody_writes_the_reference_that_would_open_anothers_document(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    store.contents["b"] = of("B", body=MARKED)
    body = b"""{"resourceType":"DocumentReference","status":"current","subject":{"reference":"Patient/A"},
        "content":[{"attachment":{"url":"Binary/b"}}]}"""
    token = await gateway.token("pA-rw", aud=f"{gateway.origin}/cda")
    headers = [("Content-Type", "application/fhir+json")]
    reply = await gateway.fhir(
        "POST", "/DocumentReference", token=token, mount="/cda", headers=headers, body=body
    )
    assert reply.status in (403, 405, 415), reply.raw
    await not_there(gateway, "b")


async def test_N230_no_address_of_the_store_goes_out(gateway: RunningGateway, store: PlainDocuments) -> None:
    store.contents["a"] = of("A")
    for reply in (await read(gateway, "a"), await read(gateway, "a", ("Accept", "application/fhir+json"))):
        assert reply.status == 200
        assert f":{store.port}".encode() not in reply.raw
    filed = await send(gateway, of("A"))
    assert filed.header("Location") == f"{gateway.origin}/cda/Binary/new1"
    assert f":{store.port}".encode() not in filed.raw


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "application/javascript", "text/xml"])
async def test_N232_and_N238_a_document_opens_in_no_browser(
    gateway: RunningGateway, store: PlainDocuments, media_type: str
) -> None:
    store.media_type = media_type
    prolog = "<?xml-stylesheet type='text/xsl' href='https://evil.example/x.xsl'?>"
    body = "<nonXMLBody><text><reference value='javascript:alert(1)'/></text></nonXMLBody>"
    store.contents["a"] = of("A", prolog=prolog, body=body)
    reply = await read(gateway, "a")
    assert reply.status == 200
    assert reply.header("Content-Disposition") == "attachment"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert str(reply.header("Content-Security-Policy")).startswith("sandbox")
    assert reply.header("Content-Type") in ("application/octet-stream", "text/xml")
    assert b"evil.example" not in reply.raw
    refused = await send(gateway, store.contents["a"])  # what is filed brings no stylesheet either
    assert (refused.status, refused.reason) == (400, "invalid-body")


async def test_N233_nothing_of_another_is_written_over_and_nothing_without_end_is_taken(
    gateway: RunningGateway, store: PlainDocuments
) -> None:
    store.contents["b"] = of("B", body=MARKED)
    token = await gateway.token("pA-rw", aud=f"{gateway.origin}/cda")
    headers = [("Content-Type", "text/xml")]
    reply = await gateway.fhir(
        "PUT", "/documents/b", token=token, mount="/cda", headers=headers, body=of("A")
    )
    assert reply.status == 405
    assert store.asked == []
    long = of("A", body="<nonXMLBody><text>" + "A" * 2_000_000 + "</text></nonXMLBody>")
    assert (await send(gateway, long)).reason == "too-large"
    assert store.received == []
    assert (await send(gateway, of("A"))).status == 201


@pytest.mark.parametrize(
    "targets",
    [
        f'<id root="{OID}" extension="mrn-A"/><id root="{OID}" extension="mrn-B"/>',
        f'<id root="{OID}" extension="mrn-A"/></patientRole></recordTarget><recordTarget><patientRole>'
        f'<id root="{OID}" extension="mrn-B"/>',
        f'<id root="{OID}" extension="mrn-A"/></patientRole></recordTarget><recordTarget><patientRole>',
        f'<id root="{OID}" extension="mrn-<!-- -->A"/>'.replace("<!-- -->", "&lt;!-- --&gt;"),
        f'<id root="{OID}.1" extension="mrn-A"/>',
    ],
    ids=range(5),
)
async def test_N236_every_record_target_is_the_one_patient(
    gateway: RunningGateway, store: PlainDocuments, targets: str
) -> None:
    content = document(ids=targets, body=MARKED)
    store.contents = {"d": content, "a": of("A")}
    await not_there(gateway, "d")
    reply = await send(gateway, content)
    assert (reply.status, reply.reason) == (403, "document-of-another-patient")
    assert store.received == []
    assert (await read(gateway, "a")).status == 200


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
async def test_N237_what_reaches_outside_a_document_is_neither_read_nor_filed(
    gateway: RunningGateway, store: PlainDocuments, content: bytes
) -> None:
    store.contents = {"d": content, "a": of("A")}
    if b"<x><x>" not in content:  # what stands behind the header breaks off while it streams
        await not_there(gateway, "d")
    for more in ((), (UNDER_A,)):
        reply = await send(gateway, content, *more)
        assert (reply.status, reply.reason) == (400, "invalid-body"), reply.raw
        check_outcome(reply, gateway)
        check_no_leak(reply)
    assert store.received == []
    assert (await read(gateway, "a")).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n\r\n<ClinicalDocument/>",
        b'<Envelope xmlns="http://www.w3.org/2003/05/soap-envelope">' + of("A")[38:] + b"</Envelope>",
        b'<x:Include xmlns:x="http://www.w3.org/2004/08/xop/include" href="http://169.254.169.254/"/>',
    ],
    ids=range(3),
)
async def test_N240_a_package_is_no_document(
    gateway: RunningGateway, store: PlainDocuments, content: bytes
) -> None:
    store.contents = {"d": content, "a": of("A")}
    await not_there(gateway, "d")
    for more in ((), (UNDER_A,)):
        reply = await send(gateway, content, *more)
        assert reply.status in (400, 403, 422), reply.raw
        check_outcome(reply, gateway)
    assert store.received == []
    assert (await read(gateway, "a")).status == 200
