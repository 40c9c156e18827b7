"""Attack group N, writes: whose a new Binary is, and what a new attachment would open."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.attacks.test_documents import level, partner
from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.document_policies import POLICIES
from tests.support.document_store import MRN, DocumentStore, reference
from tests.support.documents import OID, document
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("binary-writes")]

JSON = [("Content-Type", "application/fhir+json")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("binary-writes")
    policies = policies_with(folder, "50-documents.yaml", POLICIES)
    running = await start_gateway(
        folder, policies=policies, identifier_systems={f"urn:oid:{OID}": MRN}, max_body=4 * 1024 * 1024
    )
    yield running
    await stop_gateway(running)


class Creating(DocumentStore):
    """A document store that takes creates. taken holds their bodies as far as they came."""

    def __init__(self, gateway: RunningGateway) -> None:
        super().__init__(gateway.upstream)
        self.taken: list[bytes] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the store says."""
        if request.method != "POST":
            return await super().answer(request)
        body = b""
        async for chunk in request.content.iter_any():
            body += chunk
        self.taken.append(body)
        type_ = request.path.rpartition("/")[2]
        place = f"{self.upstream.base}/{type_}/new/_history/1"
        return web.Response(status=201, headers={"Location": place, "ETag": 'W/"1"'})


@pytest.fixture
def store(gateway: RunningGateway) -> Creating:
    return Creating(gateway)


async def write(
    gateway: RunningGateway,
    method: str,
    path: str,
    body: Any,
    *more: tuple[str, str],
    token: str | None = None,
) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = [] if isinstance(body, bytes) else JSON
    token = await gateway.token("pA-rw") if token is None else token
    reply = await gateway.fhir(method, path, token=token, headers=[*kind, *more], body=content)
    check_no_leak(reply)
    check_outcome(reply, gateway)
    return reply


def writes(gateway: RunningGateway) -> list[str]:
    """What the store was asked to change."""
    return [str(request) for request in gateway.upstream.requests if request.method != "GET"]


def binary(context: Any, content: bytes = b"x", **more: Any) -> dict[str, Any]:
    """A Binary as a body; context None leaves it out."""
    said = {} if context is None else {"securityContext": {"reference": context}}
    data = base64.b64encode(content).decode()
    return {"resourceType": "Binary", "contentType": "text/xml", **said, "data": data, **more}


@pytest.mark.parametrize("context", ["Patient/A", "{public}/Patient/A", "DocumentReference/a1"])
async def test_233_a_new_binary_belongs_to_whom_its_security_context_leads(
    gateway: RunningGateway, store: Creating, context: str
) -> None:
    own = context.replace("{public}", gateway.origin + MOUNT)
    reply = await write(gateway, "POST", "/Binary", binary(own))
    assert reply.status == 201, reply.raw
    assert json.loads(store.taken[0])["securityContext"] == {"reference": context.replace("{public}/", "")}
    native = [("Content-Type", "application/pdf"), ("X-Security-Context", own)]
    assert (await write(gateway, "POST", "/Binary", b"%PDF", *native)).status == 201
    assert store.taken[1] == b"%PDF"
    sent = gateway.upstream.requests[-1].headers
    assert sent["x-security-context"] == context.replace("{public}/", "")
    assert sent["content-type"] == "application/pdf"


@pytest.mark.parametrize(
    "context",
    [
        None,
        "Patient/B",
        "DocumentReference/b1",
        "Group/g",
        "Binary/a",
        "Patient/no-such-id",
        "https://elsewhere.example/Patient/A",
        "#x",
        "Patient/A/../B",
    ],
)
async def test_233_a_new_binary_under_somebody_else_is_not_stored(
    gateway: RunningGateway, store: Creating, context: str | None
) -> None:
    assert (await write(gateway, "POST", "/Binary", binary(context))).status == 403
    said = [] if context is None else [("X-Security-Context", context)]
    reply = await write(gateway, "POST", "/Binary", b"%PDF", ("Content-Type", "application/pdf"), *said)
    assert reply.status in (400, 403)
    assert writes(gateway) == []


async def test_the_header_goes_with_native_content_only(gateway: RunningGateway, store: Creating) -> None:
    said = ("X-Security-Context", "Patient/A")
    assert (await write(gateway, "POST", "/Binary", binary("Patient/B"), said)).status == 403
    assert (await write(gateway, "POST", "/DocumentReference", reference("x", "A"), said)).status == 403
    assert writes(gateway) == []


async def test_233_native_content_is_bounded(gateway: RunningGateway, store: Creating) -> None:
    native = [("Content-Type", "application/pdf"), ("X-Security-Context", "Patient/A")]
    reply = await write(gateway, "POST", "/Binary", b"x" * (4 * 1024 * 1024 + 1), *native)
    assert reply.status == 413


@pytest.mark.parametrize(
    ("stored", "new", "status"),
    [
        ("Patient/A", "Patient/A", 200),
        (None, None, 200),  # by the DocumentReference that names it
        ("Patient/A", "Patient/B", 403),
        ("Patient/B", "Patient/A", 404),
        ("Patient/B", None, 403),
    ],
)
async def test_233_an_update_is_judged_on_both_versions(
    gateway: RunningGateway, store: Creating, stored: str | None, new: str | None, status: int
) -> None:
    context = {} if stored is None else {"securityContext": {"reference": stored}}
    store.binary("x", b"x", "text/xml", **context)
    if stored != "Patient/B":
        store.add(reference("x", "A", "Binary/x"))
    reply = await write(gateway, "PUT", "/Binary/x", binary(new, id="x"))
    assert reply.status == status, reply.raw
    assert writes(gateway) == (["PUT /fhir/Binary/x"] if status == 200 else [])


async def test_233_native_bytes_replace_nothing(gateway: RunningGateway, store: Creating) -> None:
    for id_ in ("a", "b", "nobody-has-this"):
        native = [("Content-Type", "application/pdf")]
        assert (await write(gateway, "PUT", f"/Binary/{id_}", b"%PDF", *native)).status == 415
    assert writes(gateway) == []


@pytest.mark.parametrize(
    "url", ["Binary/b", "{base}/Binary/b", "{public}/Binary/b", "Binary/b/_history/1", "Binary/none"]
)
async def test_229_an_attachment_opens_no_binary_that_its_writer_may_not_read(
    gateway: RunningGateway, store: Creating, url: str
) -> None:
    text = url.replace("{base}", gateway.upstream.base).replace("{public}", gateway.origin + MOUNT)
    reply = await write(gateway, "POST", "/DocumentReference", reference("x", "A", "Binary/a", text))
    assert reply.status == 403, reply.raw
    own = reference("a1", "A", "Binary/a", text)
    assert (await write(gateway, "PUT", "/DocumentReference/a1", own)).status == 403
    assert writes(gateway) == []


async def test_229_an_attachment_of_an_own_binary_or_of_another_place_is_stored(
    gateway: RunningGateway, store: Creating
) -> None:
    body = reference("x", "A", "Binary/a", "https://blob.example/x")
    assert (await write(gateway, "POST", "/DocumentReference", body)).status == 201
    store.binary("y", b"y", "text/plain", securityContext={"reference": "Patient/A"})
    body = reference("a1", "A", f"{gateway.origin}{MOUNT}/Binary/y")
    assert (await write(gateway, "PUT", "/DocumentReference/a1", body)).status == 200
    assert store.upstream.resources["DocumentReference/a1"]["content"][0]["attachment"]["url"] == (
        f"{gateway.upstream.base}/Binary/y"
    )


async def test_229_what_was_attached_before_is_no_new_way(gateway: RunningGateway, store: Creating) -> None:
    store.add(reference("a1", "A", "Binary/gone"))
    body = reference("a1", "A", "Binary/gone", description="changed")
    assert (await write(gateway, "PUT", "/DocumentReference/a1", body)).status == 200


OWN = f'<id root="{OID}" extension="mrn-A"/>'
OTHERS = f'<id root="{OID}" extension="mrn-B"/>'


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (document(ids=OWN), 201, None),
        (document(ids=OTHERS), 403, "document-of-another-patient"),
        (document(ids=OWN, confidentiality=level("R")), 403, "no-permit"),
        (document(ids=OWN, prolog='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'), 400, "invalid-body"),
        (document(ids=OWN, prolog="<?xml-stylesheet href='http://169.254.169.254/x.xsl'?>"), 400, "invalid-body"),
        (document(ids=OWN, before="<i:include xmlns:i='http://www.w3.org/2001/XInclude' href='x'/>"), 400, "invalid-body"),
        (b"%PDF-1.7", 403, "no-permit"),
        (b"", 403, "no-permit"),
    ],
)  # fmt: skip
async def test_237_a_new_document_is_read_before_the_store_hears_of_it(
    gateway: RunningGateway, store: Creating, content: bytes, status: int, reason: str | None
) -> None:
    token = await partner(gateway)
    whole = await write(gateway, "POST", "/Binary", binary("Patient/A", content), token=token)
    native = [("Content-Type", "application/hl7-cda+xml"), ("X-Security-Context", "Patient/A")]
    streamed = await write(gateway, "POST", "/Binary", content, *native, token=token)
    assert (whole.status, streamed.status) == (status, status)
    assert (whole.reason, streamed.reason) == (reason, reason)
    assert len(writes(gateway)) == (2 if status == 201 else 0)
    if status == 201:
        assert store.taken[1] == content


async def test_native_xml_that_a_store_may_take_for_a_resource_is_not_taken(
    gateway: RunningGateway, store: Creating
) -> None:
    other = b'<Binary xmlns="http://hl7.org/fhir"><securityContext><reference value="Patient/B"/></securityContext></Binary>'
    for type_ in ("text/xml", "application/xml", "application/json", "text/json"):
        said = [("Content-Type", type_), ("X-Security-Context", "Patient/A")]
        assert (await write(gateway, "POST", "/Binary", other, *said)).status in (400, 403, 415)
    assert writes(gateway) == []


async def test_a_new_document_that_takes_its_header_back_is_not_stored_whole(
    gateway: RunningGateway, store: Creating
) -> None:
    content = document(ids=OWN, body="<text>" + "<br/>" * 100_000 + "</text>", after="<recordTarget/>")
    native = [("Content-Type", "application/hl7-cda+xml"), ("X-Security-Context", "Patient/A")]
    reply = await write(gateway, "POST", "/Binary", content, *native, token=await partner(gateway))
    assert (reply.status, reply.reason) == (400, "invalid-body")
    assert content not in store.taken


def provided(url: str, context: str) -> dict[str, Any]:
    """A document and its reference in one transaction, as MHD ITI-65 has them."""
    entries = [
        ("Binary", binary(context), "urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d01"),
        ("DocumentReference", reference("x", "A", url), "urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d02"),
    ]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": name, "resource": value, "request": {"method": "POST", "url": type_}}
            for type_, value, name in entries
        ],
    }


@pytest.mark.parametrize(
    ("url", "context", "status"),
    [
        ("urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d01", "Patient/A", 200),
        ("Binary/a", "Patient/A", 200),
        ("urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d01", "Patient/B", 403),
        ("Binary/b", "Patient/A", 403),
    ],
)
async def test_229_a_transaction_opens_no_more_than_single_writes(
    gateway: RunningGateway, store: Creating, url: str, context: str, status: int
) -> None:
    reply = await write(gateway, "POST", "", provided(url, context))
    # This store answers a Bundle with no Bundle: whether it was asked at all is what is looked at.
    assert len(writes(gateway)) == (1 if status == 200 else 0), reply.raw
    if status == 403:
        assert reply.status == 403


async def test_a_batch_reads_binaries_as_single_requests_do(gateway: RunningGateway, store: Creating) -> None:
    entries = [{"request": {"method": "GET", "url": f"Binary/{id_}"}} for id_ in ("a", "b", "none")]
    body = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    reply = await write(gateway, "POST", "", body)
    own, others, nobodys = reply.json["entry"]
    assert base64.b64decode(own["resource"]["data"]) == store.contents["a"]
    assert others["response"]["status"] == nobodys["response"]["status"] == "404"
