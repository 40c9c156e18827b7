"""Attack group N: Binaries, which say of themselves neither whose they are nor what they hold.

Every refusal makes the five assertions: no byte of another patient, only reads before it, one audit record, the answer
to an id that nobody has, and a permitted twin.
"""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.document_policies import POLICIES
from tests.support.document_store import MRN, DocumentStore, reference
from tests.support.documents import OID
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("binaries")]

FHIR = [("Accept", "application/fhir+json")]
VOLATILE = {"x-fapi-interaction-id", "date", "dpop-nonce"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("binaries")
    policies = policies_with(folder, "50-documents.yaml", POLICIES)
    running = await start_gateway(
        folder, policies=policies, identifier_systems={f"urn:oid:{OID}": MRN}, max_resource=1024 * 1024
    )
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> DocumentStore:
    return DocumentStore(gateway.upstream)


async def refused(gateway: RunningGateway, path: str, **more: Any) -> Reply:
    """The answer to a read, which must be that to an id that nobody has, and tell nothing."""
    before = len(await gateway.audit())
    gateway.upstream.requests.clear()
    reply = await gateway.fhir("GET", path, **more)
    assert reply.status == 404, reply.raw[:600]
    assert all(r.method == "GET" for r in gateway.upstream.requests)
    records = [r for r in (await gateway.audit())[before:] if r["event"] == "access"]
    assert len(records) == 1
    assert records[0]["decision"] in ("deny", "refused")
    check_no_leak(reply)
    check_outcome(reply, gateway)
    unknown = await gateway.fhir("GET", "/Binary/nobody-has-this", **more)
    assert reply.body == unknown.body
    assert [h for h in reply.headers if h[0].lower() not in VOLATILE] == [
        h for h in unknown.headers if h[0].lower() not in VOLATILE
    ]
    return reply


async def test_226_the_binary_of_an_own_document_is_read_and_a_strangers_is_not_there(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    reply = await gateway.fhir("GET", "/Binary/a")
    assert (reply.status, reply.body) == (200, store.contents["a"])
    assert reply.header("Content-Type") == "application/pdf"
    seen = [str(request) for request in gateway.upstream.requests]
    assert seen[0].startswith("GET /fhir/Binary/a?_elements=")
    assert "GET /fhir/DocumentReference?location=Binary%2Fa,http" in seen[1]
    assert seen[2:] == ["GET /fhir/Binary/a"]
    await refused(gateway, "/Binary/b")
    await refused(gateway, "/Binary/b", headers=FHIR)
    assert not [r for r in gateway.upstream.requests if r.target == "/fhir/Binary/b"]


async def test_226_both_forms_hold_the_same_content(gateway: RunningGateway, store: DocumentStore) -> None:
    reply = await gateway.fhir("GET", "/Binary/a", headers=FHIR)
    assert reply.status == 200
    assert reply.header("Content-Type") == "application/fhir+json; charset=utf-8"
    assert base64.b64decode(reply.json["data"]) == store.contents["a"]


@pytest.mark.parametrize(
    ("accept", "is_fhir"),
    [
        (None, False),
        ("*/*", False),
        ("application/pdf", False),
        ("application/pdf, application/fhir+json;q=0.5", False),
        ("application/fhir+json, */*;q=0.1", True),
        ("application/json", True),
        ("application/fhir+xml", True),
        ("application/fhir+xml;q=0.9, application/pdf;q=0.8", True),
        ("application/fhir+json;q=0, */*", False),
    ],
)
async def test_accept_says_which_form_goes_out(
    gateway: RunningGateway, store: DocumentStore, accept: str | None, is_fhir: bool
) -> None:
    headers = [] if accept is None else [("Accept", accept)]
    reply = await gateway.fhir("GET", "/Binary/a", headers=headers)
    assert reply.status == 200
    assert str(reply.header("Content-Type")).startswith("application/fhir+") is is_fhir
    if accept is not None and accept.startswith("application/fhir+xml"):
        assert reply.header("Content-Type") == "application/fhir+xml; charset=utf-8"
        assert base64.b64encode(store.contents["a"]) in reply.body
    assert (await gateway.fhir("GET", "/Binary/a?_format=json")).json["resourceType"] == "Binary"


async def test_a_content_that_is_not_accepted_is_406_to_those_who_may_read_alone(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    headers = [("Accept", "image/png")]
    assert (await gateway.fhir("GET", "/Binary/a", headers=headers)).status == 406
    await refused(gateway, "/Binary/b", headers=headers)


@pytest.mark.parametrize(
    "context",
    ["Patient/A", "{base}/Patient/A", "Patient/A/_history/1", "DocumentReference/a1"],
)
async def test_228_a_security_context_opens_what_its_resource_opens(
    gateway: RunningGateway, store: DocumentStore, context: str
) -> None:
    own = context.replace("{base}", gateway.upstream.base)
    store.binary("x", b"own", "text/plain", securityContext={"reference": own})
    assert (await gateway.fhir("GET", "/Binary/x")).body == b"own"


@pytest.mark.parametrize(
    "context",
    [
        {"reference": "Patient/B"},
        {"reference": "{base}/Patient/B"},
        {"reference": "Patient/B/_history/1"},
        {"reference": "DocumentReference/b1"},
        {"reference": "Group/g"},
        {"reference": "#p"},
        {"reference": "urn:uuid:0f5c6bc2-1a2b-4b3c-8d4e-5f6a7b8c9d0e"},
        {"reference": "https://elsewhere.example/fhir/Patient/A"},
        {"reference": "Patient/A/../B"},
        {"reference": "Patient/no-such-id"},
        {"reference": "Binary/a"},
        {"reference": ["Patient/A"]},
        {"identifier": {"system": "https://mrn.example", "value": "mrn-A"}},
        {},
        [],
        "Patient/A",
        None,
    ],
)
async def test_228_what_no_context_leads_to_is_not_there_even_if_a_document_names_it(
    gateway: RunningGateway, store: DocumentStore, context: Any
) -> None:
    text = json.loads(json.dumps(context).replace("{base}", gateway.upstream.base))
    store.binary("x", SECRET.encode(), "text/plain", securityContext=text)
    store.add(reference("x", "A", "Binary/x"))
    await refused(gateway, "/Binary/x")


@pytest.mark.parametrize("url", ["Binary/x", "{base}/Binary/x", "{public}/Binary/x"])
async def test_every_form_of_the_address_leads_to_it(
    gateway: RunningGateway, store: DocumentStore, url: str
) -> None:
    public = gateway.origin + MOUNT
    store.binary("x", b"own", "text/plain")
    store.add(reference("x", "A", url.replace("{base}", gateway.upstream.base).replace("{public}", public)))
    assert (await gateway.fhir("GET", "/Binary/x")).body == b"own"
    location = next(r for r in gateway.upstream.requests if "location=" in r.target).target
    for form in ("Binary%2Fx", "%2Ffhir%2FBinary%2Fx", "%2Ffhir%2Fr4%2FBinary%2Fx"):
        assert form in location


@pytest.mark.parametrize(
    "found",
    [
        reference("x", "B", "Binary/x"),
        reference("x", "A", "Binary/x2"),
        reference("x", "A", "Binary/x/_history/1"),
        reference("x", "A", "https://elsewhere.example/Binary/x"),
        reference("x", "A", "Binary/x?a=b"),
        reference("x", "A", "Patient/x"),
        reference("x", "A") | {"content": [{"attachment": {"title": "Binary/x"}}, {"attachment": "Binary/x"}, None]},
        reference("x", "A", "Binary/x") | {"resourceType": "Media"},
        reference("x", "A", "Binary/x") | {"subject": {"reference": "Group/g"}},
    ],
)  # fmt: skip
async def test_what_the_store_finds_is_not_believed(
    gateway: RunningGateway, store: DocumentStore, found: dict[str, Any]
) -> None:
    store.binary("x", SECRET.encode(), "text/plain")
    store.upstream.resources["DocumentReference/x"] = found
    await refused(gateway, "/Binary/x")


async def test_an_old_version_is_led_to_only_by_what_names_it(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    await refused(gateway, "/Binary/a/_history/1")
    store.add(reference("v", "A", "Binary/a/_history/1"))
    assert (await gateway.fhir("GET", "/Binary/a/_history/1")).body == store.contents["a"]


@pytest.mark.parametrize("scope", ["patient/Binary.r", "patient/Binary.r patient/Observation.rs"])
async def test_the_scopes_must_give_what_leads_to_it_as_well(
    gateway: RunningGateway, store: DocumentStore, scope: str
) -> None:
    token = await gateway.token("pA-r", scope=scope)
    await refused(gateway, "/Binary/a", token=token)
    token = await gateway.token("pA-r", scope=f"{scope} patient/DocumentReference.r")
    assert (await gateway.fhir("GET", "/Binary/a", token=token)).status == 200


async def test_searches_history_and_includes_show_no_binary_that_nobody_found_the_way_to(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    for path in ("/Binary?_id=b", "/Binary", "/Binary/b/_history", "/DocumentReference?_include=*"):
        reply = await gateway.fhir("GET", path)
        check_no_leak(reply)
        assert b'"resourceType":"Binary"' not in reply.body


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("application/pdf", "application/pdf"),
        ("text/plain; charset=UTF-8", "text/plain; charset=utf-8"),
        ("text/plain; charset=utf-7", "text/plain"),
        ("image/jpeg", "image/jpeg"),
        ("text/html", "application/octet-stream"),
        ("TEXT/HTML; x=application/pdf", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("application/javascript", "application/octet-stream"),
        ("application/pdf\r\nX-Evil: 1", "application/octet-stream"),
        ("pdf", "application/octet-stream"),
    ],
)
async def test_232_content_opens_in_no_browser_under_the_name_of_the_gateway(
    gateway: RunningGateway, store: DocumentStore, stored: str, told: str
) -> None:
    store.binary("a", b"<script>alert(1)</script>", stored)
    store.native = "\r" not in stored
    reply = await gateway.fhir("GET", "/Binary/a")
    assert (reply.status, reply.header("Content-Type")) == (200, told)
    assert reply.header("Content-Disposition") == "attachment"
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert str(reply.header("Content-Security-Policy")).startswith("sandbox")
    assert reply.header("X-Evil") is None
    assert reply.header("X-Powered-By") is None
    assert reply.body == b"<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=900-", 416, slice(0, 0)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("bytes=1-0x", 200, slice(None)),
        ("items=0-3", 200, slice(None)),
    ],
)
async def test_50_one_range_passes_after_the_judge(
    gateway: RunningGateway, store: DocumentStore, asked: str, status: int, part: slice
) -> None:
    reply = await gateway.fhir("GET", "/Binary/a", headers=[("Range", asked)])
    assert (reply.status, reply.body) == (status, store.contents["a"][part])
    assert (reply.header("Content-Range") is not None) is (status != 200)
    ranged = [r.target for r in gateway.upstream.requests if "range" in r.headers]
    assert ranged == (["/fhir/Binary/a"] if status != 200 else [])
    await refused(gateway, "/Binary/b", headers=[("Range", asked)])
    assert not [r for r in gateway.upstream.requests if "range" in r.headers]


@pytest.mark.parametrize("condition", ['W/"1"', '"1"', "Thu, 01 Jan 2026 00:00:00 GMT", "x"])
async def test_50_if_range_and_etags_tell_a_stranger_nothing(
    gateway: RunningGateway, store: DocumentStore, condition: str
) -> None:
    headers = [("Range", "bytes=0-3"), ("If-Range", condition), ("If-None-Match", condition)]
    await refused(gateway, "/Binary/b", headers=headers)
    reply = await gateway.fhir("GET", "/Binary/a", headers=headers[:2])
    assert (reply.status, reply.body) == (200, store.contents["a"])  # the tags of FHIR are weak ones
    again = await gateway.fhir("GET", "/Binary/a", headers=[("If-None-Match", 'W/"1"')])
    assert (again.status, again.body) == (304, b"")


async def test_50_a_range_of_the_resource_is_not_taken(gateway: RunningGateway, store: DocumentStore) -> None:
    reply = await gateway.fhir("GET", "/Binary/a", headers=[*FHIR, ("Range", "bytes=0-10")])
    assert (reply.status, reply.json["id"]) == (200, "a")


async def test_a_store_that_gives_a_part_nobody_asked_for_is_not_passed_on(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    inner = store.answer

    async def partial(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/fhir/Binary/a" and "fhir" not in request.headers["Accept"]:
            return web.Response(status=206, body=b"x", headers={"ETag": 'W/"1"'})
        return await inner(request)

    gateway.upstream.answer = partial
    assert (await gateway.fhir("GET", "/Binary/a")).status == 502
    assert (await gateway.fhir("GET", "/Binary/a", headers=[("Range", "bytes=0-0")])).status == 502


@pytest.mark.parametrize("tells_version", [True, False])
async def test_what_is_changed_between_judging_and_reading_does_not_go_out(
    gateway: RunningGateway, store: DocumentStore, tells_version: bool
) -> None:
    store.tells_version = tells_version
    assert (await gateway.fhir("GET", "/Binary/a")).body == store.contents["a"]
    inner = store.answer

    async def changing(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/fhir/Binary/a" and "fhir" not in request.headers["Accept"]:
            store.binary("a", SECRET.encode(), "application/pdf", securityContext={"reference": "Patient/B"})
            store.upstream.resources["Binary/a"]["meta"] = {"versionId": "2"}
        return await inner(request)

    gateway.upstream.answer = changing
    reply = await gateway.fhir("GET", "/Binary/a")
    # The new version is judged by itself, and is somebody else's.
    assert (reply.status, reply.body) == (404, (await gateway.fhir("GET", "/Binary/b")).body)
    check_no_leak(reply)


async def test_a_store_without_native_content_is_served_from_the_resource(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    store.native = False
    reply = await gateway.fhir("GET", "/Binary/a")
    assert (reply.status, reply.body) == (200, store.contents["a"])
    assert reply.header("Content-Type") == "application/pdf"
    await refused(gateway, "/Binary/b")


async def test_a_head_tells_what_a_get_would(gateway: RunningGateway, store: DocumentStore) -> None:
    reply = await gateway.fhir("HEAD", "/Binary/a")
    assert (reply.status, reply.body, reply.header("Content-Type")) == (200, b"", "application/pdf")
    assert (await gateway.fhir("HEAD", "/Binary/b")).status == 404


async def test_the_record_says_what_led_to_it_and_how_much_went_out(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    before = len(await gateway.audit())
    await gateway.fhir("GET", "/Binary/a")
    access, delivered = (await gateway.audit())[before:]
    assert access["through"] == ["DocumentReference/a1"]
    assert access["rules"] == ["documents/own-content"]
    assert (delivered["event"], delivered["bytes"]) == ("delivered", len(store.contents["a"]))


async def test_the_labels_of_the_binary_count_with_those_of_the_document(tmp_path: Path) -> None:
    text = POLICIES.replace(
        "      binary: {through: [DocumentReference]}\n    because: What belongs",
        "      labels: {at_most: N, unlabelled: N}\n      binary: {through: [DocumentReference]}\n"
        "    because: What belongs",
    )
    running = await start_gateway(tmp_path, policies=policies_with(tmp_path, "50.yaml", text))
    try:
        store = DocumentStore(running.upstream)
        assert (await running.fhir("GET", "/Binary/a")).status == 200
        label = {
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]
        }
        store.upstream.resources["Binary/a"]["meta"] |= label
        assert (await running.fhir("GET", "/Binary/a")).status == 404
        store.upstream.resources["Binary/a"]["meta"] = {"versionId": "1"}
        store.upstream.resources["DocumentReference/a1"]["meta"] |= label
        assert (await running.fhir("GET", "/Binary/a")).status == 404
    finally:
        await stop_gateway(running)


async def test_who_is_not_shown_the_attachment_is_not_led_to_it(tmp_path: Path) -> None:
    hidden = (
        'where: {compartment: {patient: "{token.patient}"}}\n    return: {hide: [DocumentReference.content]}'
    )
    text = POLICIES.replace(
        "resources: [Patient, DocumentReference]", "resources: [DocumentReference]"
    ).replace('where: {compartment: {patient: "{token.patient}"}}', hidden, 1)
    text = text.replace("may: [read, search, create, update, batch, transaction]", "may: [read, search]", 1)
    running = await start_gateway(tmp_path, policies=policies_with(tmp_path, "50.yaml", text))
    try:
        DocumentStore(running.upstream)
        assert b"Binary/a" not in (await running.fhir("GET", "/DocumentReference/a1")).body
        assert (await running.fhir("GET", "/Binary/a")).status == 404
    finally:
        await stop_gateway(running)


async def test_313_the_address_of_an_attachment_leads_back_through_the_gateway(
    gateway: RunningGateway, store: DocumentStore
) -> None:
    foreign = "https://blob.example/x?sig=1"
    store.add(reference("x", "A", f"{gateway.upstream.base}/Binary/a", foreign, "ftp://blob.example/x"))
    reply = await gateway.fhir("GET", "/DocumentReference/x")
    urls = [each["attachment"]["url"] for each in reply.json["content"]]
    assert urls == [f"{gateway.origin}{MOUNT}/Binary/a", foreign, "ftp://blob.example/x"]
    path = urls[0].removeprefix(gateway.origin + MOUNT)
    assert (await gateway.fhir("GET", path)).body == store.contents["a"]


@pytest.mark.parametrize(
    "wrapping", ["application/json", "application/json+fhir", "application/fhir+xml", "text/json"]
)
@pytest.mark.parametrize("kind", ["application/pdf", "text/xml"])
async def test_a_resource_in_another_clothing_is_no_content(
    gateway: RunningGateway, store: DocumentStore, wrapping: str, kind: str
) -> None:
    store.binary("a", b"<ClinicalDocument/>", kind)
    whole = gateway.upstream.resources["Binary/a"] | {"data": base64.b64encode(store.contents["a"]).decode()}
    usual = gateway.upstream.answer
    assert usual is not None

    async def wrapped(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/Binary/a") and not request.query_string:
            raw = json.dumps(whole).encode()
            if "xml" in wrapping:
                raw = b'<Binary xmlns="http://hl7.org/fhir"><id value="a"/><data value="AAAA"/></Binary>'
            return web.Response(body=raw, content_type=wrapping, headers={"ETag": 'W/"1"'})
        return await usual(request)

    gateway.upstream.answer = wrapped
    reply = await gateway.fhir("GET", "/Binary/a")
    if "json" in wrapping:
        assert (reply.status, reply.body) == (200, store.contents["a"])
    else:
        assert (reply.status, reply.reason) == (502, "upstream-invalid")
