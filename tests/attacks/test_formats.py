"""Formats and codings as ways round the judge: XML in and out, `_format`, Accept, gzip.

Every case makes the five assertions: no marker of another patient anywhere, decoded too; nothing upstream on a refusal
by the request alone; one audit record; an outcome in the negotiated format; and a permitted twin that succeeds.
"""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.fhir.xml_reading import parse_resource_xml
from gateway.fhir.xml_writing import write_resource_xml
from gateway.settings import ResponseSignatures
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.http_signatures import Exchange, verify
from tests.support.long_bundle import entry, long_bundle
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: formats
version: 1
owner: tests
text: What patients read and write, in any format.
status: enforce
rules:
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, vread, search, history-instance, create, update, patch]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: it is theirs
  - rule: bundles
    effect: permit
    who: {context: patient}
    may: [batch, transaction]
    resources: [Observation, Patient]
    because: apps ask for much at once
tests:
  - test: a stranger's chart is closed
    as: {context: patient, patient: A}
    request: GET /Observation/b1
    given: {Observation/b1: {resourceType: Observation, id: b1, status: final, subject: {reference: Patient/B}}}
    expect: {decision: deny, status: 404}
"""
FHIR = "http://hl7.org/fhir"
XML = ("Content-Type", "application/fhir+xml")
JSON = ("Content-Type", "application/fhir+json")
GIVE_XML = ("Accept", "application/fhir+xml")
GZIP = ("Accept-Encoding", "gzip")
XML_ANSWER = "application/fhir+xml; charset=utf-8"
OWN = {
    "resourceType": "Observation",
    "id": "a1",
    "status": "final",
    "code": {"text": "x"},
    "subject": {"reference": "Patient/A"},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("formats")
    running = await start_gateway(
        folder, policies=policies_with(folder, "90-formats.yaml", POLICY), unversioned_writes=True
    )
    yield running
    await stop_gateway(running)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def signing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """One that signs all its answers, and asks the store for gzip."""
    folder = tmp_path_factory.mktemp("signing")
    running = await start_gateway(
        folder,
        policies=policies_with(folder, "90-formats.yaml", POLICY),
        response_signatures=ResponseSignatures.ON,
        ask_gzip=True,
    )
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def ask(
    gateway: RunningGateway,
    method: str,
    path: str,
    *headers: tuple[str, str],
    body: bytes = b"",
    who: str = "pA-rw",
) -> Reply:
    reply = await gateway.fhir(method, path, who=who, headers=list(headers), body=body)
    assert SECRET.encode() not in reply.raw
    assert SECRET.encode() not in content(reply)
    return reply


def content(reply: Reply) -> bytes:
    """The body without its coding."""
    return gzip.decompress(reply.body) if reply.header("Content-Encoding") == "gzip" else reply.body


def value(reply: Reply) -> Any:
    """The resource of an answer in XML, as JSON has it."""
    assert reply.header("Content-Type") == XML_ANSWER, reply.raw[:400]
    return parse_resource_xml(content(reply))


def reason(reply: Reply) -> str:
    """The reason of an outcome, in whichever format it is."""
    outcome = value(reply) if reply.header("Content-Type") == XML_ANSWER else reply.json
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0]["details"]["coding"][0]["code"])


def stores(gateway: RunningGateway) -> list[tuple[str, dict[str, str], bytes]]:
    """Let the store take writes; what it got."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {"Content-Type": "application/fhir+json", "ETag": 'W/"1"'}
        if request.method == "GET":
            return web.Response(body=json.dumps(OWN).encode(), headers=headers)
        got.append((request.method, {n.lower(): v for n, v in request.headers.items()}, body))
        place = (
            {"Location": f"{gateway.upstream.base}/Observation/new/_history/1"}
            if request.method == "POST"
            else {}
        )
        stored = {**json.loads(body), "id": "new" if request.method == "POST" else "a1"}
        status = 201 if request.method == "POST" else 200
        return web.Response(status=status, body=json.dumps(stored).encode(), headers=headers | place)

    gateway.upstream.answer = answer
    return got


async def access(gateway: RunningGateway, before: int) -> list[dict[str, Any]]:
    return [record for record in (await gateway.audit())[before:] if record.get("event") == "access"]


# What is asked for


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/Observation/a1", [GIVE_XML]),
        ("/Observation/a1?_format=xml", []),
        ("/Observation/a1?_format=application/fhir%2Bxml", [("Accept", "application/fhir+json")]),
        ("/Observation/a1?_format=text/xml", [("Accept", "text/html")]),
        ("/Observation/a1", [("Accept", "application/fhir+json;q=0.5, application/xml")]),
        ("/Observation/a1", [("Accept", "application/fhir+json;q=0, */*")]),
    ],
)
async def test_a_resource_is_given_in_xml(
    gateway: RunningGateway, path: str, headers: list[tuple[str, str]]
) -> None:
    reply = await ask(gateway, "GET", path, *headers)
    assert reply.status == 200
    assert value(reply) == json.loads(
        (await ask(gateway, "GET", "/Observation/a1")).body, parse_float=None
    ) | {"valueQuantity": value(reply)["valueQuantity"]}
    assert ElementTree.fromstring(reply.body).tag == f"{{{FHIR}}}Observation"
    for request in gateway.upstream.requests:
        assert request.headers["accept"] == "application/fhir+json"
        assert "_format" not in request.target


async def test_P265_the_parameter_wins_over_the_header(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Observation/a1?_format=json", GIVE_XML)
    assert reply.json["id"] == "a1"
    reply = await ask(gateway, "POST", "/Observation/_search", ("Content-Type", "application/x-www-form-urlencoded"),
                      body=b"_format=xml&status=final")  # fmt: skip
    assert value(reply)["type"] == "searchset"
    assert b"_format" not in gateway.upstream.requests[-1].body
    reply = await ask(gateway, "POST", "/Observation/_search?_format=json",
                      ("Content-Type", "application/x-www-form-urlencoded"), body=b"_format=xml")  # fmt: skip
    assert (reply.status, reason(reply)) == (400, "ambiguous-query")


@pytest.mark.parametrize(
    ("path", "accept", "status", "why"),
    [
        ("/Observation/a1?_format=html/json", None, 406, "not-acceptable"),
        ("/Observation/a1?_format=application/x-turtle", None, 406, "not-acceptable"),
        ("/Observation/a1?_format=", None, 406, "not-acceptable"),
        ("/Observation/a1?_format=xml&_format=xml", None, 400, "ambiguous-query"),
        ("/Observation/a1?_format=xml&_format=json", None, 400, "ambiguous-query"),
        ("/Observation/a1?%5fformat=turtle", None, 406, "not-acceptable"),
        ("/Observation/a1", "text/turtle", 406, "not-acceptable"),
        ("/Observation/a1", "application/fhir+xml;fhirVersion=3.0", 406, "not-acceptable"),
        ("/Observation/a1", "application/fhir+ndjson", 406, "not-acceptable"),
    ],
)
async def test_P265_another_format_is_refused_before_the_store_is_asked(
    gateway: RunningGateway, path: str, accept: str | None, status: int, why: str
) -> None:
    before = len(await gateway.audit())
    reply = await ask(gateway, "GET", path, *([("Accept", accept)] if accept else []))
    assert (reply.status, reason(reply)) == (status, why)
    assert gateway.upstream.requests == []
    assert len(await access(gateway, before)) == 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "why"),
    [
        ("GET", "/Observation/b1", [GIVE_XML], 404, "not-found"),
        ("GET", "/Observation/b1?_format=xml", [], 404, "not-found"),
        ("GET", "/Observation/nobody", [GIVE_XML], 404, "not-found"),
        ("GET", "/Patient/A/Observation/b1", [GIVE_XML], 404, "unknown-route"),
        ("GET", "/Observation?nonsense=x", [GIVE_XML], 400, "unknown-parameter"),
        ("GET", "/Observation?_page=x&_format=xml", [], 404, "stale-link"),
        ("DELETE", "/Observation/a1", [GIVE_XML], 403, "no-permit"),
        ("TRACE", "/Observation/a1", [GIVE_XML], 405, "method-not-allowed"),
    ],
)
async def test_a_refusal_is_an_outcome_in_the_format_that_was_asked_for(
    gateway: RunningGateway, method: str, path: str, headers: list[tuple[str, str]], status: int, why: str
) -> None:
    before = len(await gateway.audit())
    reply = await ask(gateway, method, path, *headers)
    assert (reply.status, reason(reply)) == (status, why)
    assert value(reply)["resourceType"] == "OperationOutcome"
    assert f":{gateway.upstream.port}".encode() not in reply.raw
    records = await access(gateway, before)
    assert [record["reason"] for record in records] == [why]


async def test_a_challenge_is_an_outcome_in_the_format_that_was_asked_for(gateway: RunningGateway) -> None:
    reply = await gateway.send("GET", f"{MOUNT}/Observation/a1", [GIVE_XML])
    assert (reply.status, reason(reply)) == (401, "token-missing")
    assert reply.header("WWW-Authenticate") is not None


async def test_a_foreign_id_and_a_missing_one_are_answered_alike_in_xml(gateway: RunningGateway) -> None:
    foreign = await ask(gateway, "GET", "/Observation/b1", GIVE_XML, GZIP)
    missing = await ask(gateway, "GET", "/Observation/nobody", GIVE_XML, GZIP)
    assert (foreign.status, foreign.body) == (missing.status, missing.body)
    assert {name for name, _ in foreign.headers} == {name for name, _ in missing.headers}


async def test_a_search_in_xml_shows_what_it_shows_in_json(gateway: RunningGateway) -> None:
    in_json = (await ask(gateway, "GET", "/Observation")).json
    in_xml = value(await ask(gateway, "GET", "/Observation", GIVE_XML))
    assert [each["resource"]["id"] for each in in_xml["entry"]] == [
        each["resource"]["id"] for each in in_json["entry"]
    ]
    assert len(in_xml["entry"]) == 3
    assert in_xml["link"] == in_json["link"]


async def test_a_page_of_which_nothing_is_shown_is_given_in_xml(gateway: RunningGateway) -> None:
    for kept in ("Observation/b1", "Patient/B"):
        gateway.upstream.resources = {kept: gateway.upstream.resources.get(kept, OWN)}
        reply = await gateway.fhir("GET", "/Observation?code=x", headers=[GIVE_XML])
        assert reply.status == 200
        assert b"<entry>" not in reply.body
        assert SECRET.encode() not in reply.raw
    together = {"resourceType": "Bundle", "type": "batch"}
    asked = {"request": {"method": "GET", "url": "Observation?code=x"}}
    body = json.dumps(together | {"entry": [asked]}).encode()
    reply = await gateway.fhir("POST", "/", who="pA-rw", headers=[JSON, GIVE_XML], body=body)
    assert (reply.status, reply.body.count(b"<Bundle"), reply.body.count(b"<entry>")) == (200, 2, 1)


async def test_the_capability_statement_lists_both_formats_and_comes_in_both(gateway: RunningGateway) -> None:
    reply = await gateway.send("GET", f"{MOUNT}/metadata?_format=xml", [])
    if reply.status == 502:  # the recording store has no statement of its own

        async def statement(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})

        gateway.upstream.answer = statement
        reply = await gateway.send("GET", f"{MOUNT}/metadata?_format=xml", [])
    assert reply.status == 200, reply.raw[:500]
    assert value(reply)["format"] == ["application/fhir+json", "json", "application/fhir+xml", "xml"]


async def test_a_head_says_the_type_and_length_that_a_get_has(gateway: RunningGateway) -> None:
    got = await ask(gateway, "GET", "/Observation/a1", GIVE_XML)
    head = await ask(gateway, "HEAD", "/Observation/a1", GIVE_XML)
    assert head.body == b""
    for name in ("Content-Type", "Content-Length"):
        assert head.header(name) == got.header(name)


async def test_a_head_of_a_long_bundle_delivers_nothing(gateway: RunningGateway) -> None:
    gateway.upstream.answer = long_bundle(gateway, 10)
    before = len(await gateway.audit())
    head = await ask(gateway, "HEAD", "/Observation", GIVE_XML, GZIP)
    assert (head.status, head.body, head.header("Content-Type")) == (200, b"", XML_ANSWER)
    assert [record for record in (await gateway.audit())[before:] if record.get("event") == "delivered"] == []


async def test_a_version_is_the_same_version_in_each_format(gateway: RunningGateway) -> None:
    async def tagged(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(OWN, headers={"ETag": '"7"'}, content_type="application/fhir+json")

    gateway.upstream.answer = tagged
    assert (await ask(gateway, "GET", "/Observation/a1")).header("ETag") == '"7"'
    assert (await ask(gateway, "GET", "/Observation/a1", GIVE_XML)).header("ETag") == 'W/"7"'
    reply = await ask(gateway, "GET", "/Observation/a1", GIVE_XML, ("If-None-Match", 'W/"7"'))
    assert (reply.status, reply.header("ETag"), reply.body) == (304, 'W/"7"', b"")


async def test_next_pages_come_in_the_format_of_the_first(gateway: RunningGateway) -> None:
    async def paged(request: web.BaseRequest) -> web.StreamResponse:
        base = gateway.upstream.base
        link = [{"relation": "self", "url": f"{base}/x?{request.query_string}"},
                {"relation": "next", "url": f"{base}?_getpages=1"}]  # fmt: skip
        return web.json_response({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": [entry(1, "x")]},
                                 content_type="application/fhir+json")  # fmt: skip

    gateway.upstream.answer = paged
    first = value(await ask(gateway, "GET", "/Observation?_format=xml"))
    target = next(link["url"] for link in first["link"] if link["relation"] == "next")
    second = await ask(gateway, "GET", target.removeprefix(gateway.origin + MOUNT))
    assert second.status == 200, second.raw[:500]
    assert value(second)["entry"][0]["resource"]["id"] == "o1"
    plain = next(link["url"] for link in (await ask(gateway, "GET", "/Observation")).json["link"][1:])
    assert "_format" not in plain
    place = plain.removeprefix(gateway.origin + MOUNT)
    # Clients that say their format with each request say it behind a page link as well.
    for more in ("&_format=json", "&_format=application%2Ffhir%2Bjson&_pretty=true", "&_pretty=false&"):
        assert (await ask(gateway, "GET", place + more)).json["entry"][0]["resource"]["id"] == "o1"
    assert value(await ask(gateway, "GET", place + "&_format=xml"))["entry"][0]["resource"]["id"] == "o1"
    for more in (
        "&_count=5",
        "&subject=Patient/B",
        "&_format=json&_format=json",
        "&_page=x",
        "&_format=json&code=x",
    ):
        reply = await ask(gateway, "GET", place + more)
        assert reply.status == 400, more
    assert (await ask(gateway, "GET", place + "&_format=html")).status == 406


# What the store holds and XML cannot say


@pytest.mark.parametrize(
    "odd",
    [
        {"unknown": SECRET},
        {"status": 1},
        {"category": {}},
        {"text": {"status": "generated", "div": f"<div>{SECRET}</div>"}},
        {"text": {"status": "generated", "div": f"</div></text><note>{SECRET}</note>"}},
        {"note": [{"text": "\x01"}]},
    ],
)
async def test_what_xml_cannot_say_is_refused_and_json_is_not(
    gateway: RunningGateway, odd: dict[str, Any]
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(OWN | odd, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    before = len(await gateway.audit())
    reply = await ask(gateway, "GET", "/Observation/a1", GIVE_XML)
    assert (reply.status, reason(reply)) == (406, "not-acceptable")
    [record] = await access(gateway, before)
    assert (record["reason"], record["entries"]) == ("not-acceptable", {"shown": 0, "dropped": 1})
    assert (await gateway.fhir("GET", "/Observation/a1", who="pA-rw")).status == 200


async def test_a_long_bundle_that_xml_cannot_say_is_refused_with_a_status_and_nothing_is_delivered(
    gateway: RunningGateway,
) -> None:
    async def links_last(request: web.BaseRequest) -> web.StreamResponse:
        link = [{"relation": "self", "url": f"{gateway.upstream.base}/x?{request.query_string}"}]
        found = [entry(number, "x" * 100_000) for number in range(100)]
        value = {"resourceType": "Bundle", "type": "searchset", "entry": found, "link": link}
        return web.json_response(value, content_type="application/fhir+json")

    gateway.upstream.answer = links_last
    before = len(await gateway.audit())
    reply = await ask(gateway, "GET", "/Observation", GIVE_XML)
    assert (reply.status, reason(reply)) == (406, "not-acceptable")
    [record] = [r for r in (await gateway.audit())[before:] if r.get("event") in ("access", "delivered")]
    assert (record["reason"], record["entries"]["shown"]) == ("not-acceptable", 0)
    assert len((await gateway.fhir("GET", "/Observation", who="pA-rw")).json["entry"]) == 100


# What is sent


@dataclass(frozen=True)
class Sent:
    """A body that must not be stored."""

    id: str
    body: bytes
    status: int = 400
    reason: str = "invalid-body"
    media: str = "application/fhir+xml"
    path: str = "/Observation"
    method: str = "POST"


def observation(inner: str = "", *, patient: str = "A", head: str = "") -> bytes:
    return (
        f'{head}<Observation xmlns="{FHIR}"><status value="final"/><code><text value="x"/></code>'
        f'<subject><reference value="Patient/{patient}"/></subject>{inner}</Observation>'
    ).encode()


_LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(10))
_DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'
_ANNA = '<Patient><active value="true"/></Patient>'
SENT = [
    Sent("P237 an external entity", observation("&e;", head='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>')),
    Sent("P237 a billion laughs", observation("&l9;", head=f"<!DOCTYPE x [{_LAUGHS}]>")),
    Sent("P237 an external DTD", observation(head='<!DOCTYPE x SYSTEM "http://169.254.169.254/">')),
    Sent("P237 a parameter entity", observation(head='<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/"> %p;]>')),
    Sent("P237 XInclude", observation('<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>')),
    Sent("P237 a style sheet", observation(head='<?xml-stylesheet href="http://evil.example/"?>')),
    Sent("P237 a place of a schema", observation().replace(b"<Observation ", b'<Observation xmlns:xsi="http://www.w3.'
         b'org/2001/XMLSchema-instance" xsi:schemaLocation="x http://evil.example/" ')),
    Sent("P260 a byte order mark", b"\xef\xbb\xbf" + observation()),
    Sent("P260 UTF-16", observation().decode().encode("utf-16"), 415, "unsupported-media-type"),
    Sent("P260 UTF-16 without a mark", observation().decode().encode("utf-16-le")),
    Sent("P260 UTF-7 in the declaration", observation(head='<?xml version="1.0" encoding="UTF-7"?>')),
    Sent("P264 a charset that is not ours", observation(), 415, "unsupported-media-type",
         "application/fhir+xml; charset=utf-7"),
    Sent("P264 a release that is not ours", observation(), 415, "unsupported-media-type",
         "application/fhir+xml; fhirVersion=3.0"),
    Sent("P264 JSON that is said to be XML", json.dumps(OWN).encode(), 415, "unsupported-media-type"),
    Sent("P264 XML that is said to be JSON", observation(), 415, "unsupported-media-type", "application/fhir+json"),
    Sent("P264 no type", observation(), 415, "unsupported-media-type", ""),
    Sent("P264 plain text", observation(), 415, "unsupported-media-type", "text/plain"),
    Sent("P266 the subject twice", observation("<subject><reference value='Patient/B'/></subject>")),
    Sent("P266 a reference twice", observation().replace(b'<reference value="Patient/A"/>',
         b'<reference value="Patient/A"/><reference value="Patient/B"/>')),
    Sent("P266 the subject in a foreign namespace", observation().replace(b"<subject>", b'<subject xmlns="urn:x">')),
    Sent("P266 all in a foreign namespace", observation().replace(FHIR.encode(), b"urn:hl7-org:v3")),
    Sent("P266 in no namespace", observation().replace(b' xmlns="http://hl7.org/fhir"', b"")),
    Sent("P266 text beside the elements", observation("<note>Patient/B</note>")),
    Sent("P266 a value as CDATA", observation().replace(b'<reference value="Patient/A"/>',
         b"<reference><![CDATA[Patient/A]]></reference>")),
    Sent("another one behind the first", observation() + observation(patient="B")),
    Sent("two within one contained", observation(f"<contained>{_ANNA}{_ANNA}</contained>")),
    Sent("a resourceType as an element", observation('<resourceType value="Patient"/>')),
    Sent("a stranger's", observation(patient="B"), 403, "scope-insufficient"),
    Sent("a stranger's, by a character reference", observation(patient="&#66;"), 403, "scope-insufficient"),
    Sent("a stranger's, by a prefix", observation(patient="B").replace(b"<", b"<f:").replace(b"<f:/", b"</f:")
         .replace(b"xmlns=", b"xmlns:f="), 403, "scope-insufficient"),
    Sent("a stranger's, behind a comment", observation(patient="B").replace(b"<subject>",
         b"<!--<subject><reference value='Patient/A'/></subject>--><subject>"), 403, "scope-insufficient"),
    Sent("another type", observation().replace(b"Observation", b"Patient")),
    Sent("a script in the narrative", observation().replace(b"<status", f"<text><status value='generated'/>{_DIV}<script>"
         "x</script></div></text><status".encode(), 1)),
    Sent("a handler in the narrative", observation().replace(b"<status", f"<text><status value='generated'/>{_DIV}"
         "<p onclick='x'/></div></text><status".encode(), 1)),
    Sent("a number that is none", observation('<valueQuantity><value value="1e"/></valueQuantity>')),
    Sent("deep", observation("<extension>" * 100)),
    Sent("P161 XML Patch", b"<diff/>", 415, "unsupported-media-type", "application/xml-patch+xml", "/Observation/a1",
         "PATCH"),
]  # fmt: skip


@pytest.mark.parametrize("case", SENT, ids=lambda case: case.id)
@pytest.mark.parametrize("accept", ["application/fhir+xml", "application/fhir+json"])
async def test_what_is_not_one_readable_resource_is_not_stored(
    gateway: RunningGateway, case: Sent, accept: str
) -> None:
    got = stores(gateway)
    before = len(await gateway.audit())
    reply = await ask(
        gateway, case.method, case.path, ("Content-Type", case.media), ("Accept", accept), body=case.body
    )
    assert (reply.status, reason(reply)) == (case.status, case.reason), content(reply)[:600]
    assert reply.header("Content-Type") == f"{accept}; charset=utf-8"
    assert (got, gateway.upstream.requests) == ([], [])
    assert b"/etc/passwd" not in reply.raw
    assert b"root:" not in reply.raw
    assert len(await access(gateway, before)) == 1


async def test_the_twin_is_stored_as_the_json_that_it_means(gateway: RunningGateway) -> None:
    got = stores(gateway)
    sent = observation('<valueQuantity><value value="6.30"/></valueQuantity>', head='<?xml version="1.0"?>')
    reply = await ask(gateway, "POST", "/Observation", XML, GIVE_XML, body=sent)
    assert reply.status == 201, content(reply)
    assert value(reply)["id"] == "new"
    [(method, headers, body)] = got
    assert (method, headers["content-type"]) == ("POST", "application/fhir+json; charset=utf-8")
    assert b'"valueQuantity":{"value":6.30}' in body
    assert json.loads(body)["subject"] == {"reference": "Patient/A"}


async def test_the_twin_of_an_update_and_of_a_patch(gateway: RunningGateway) -> None:
    got = stores(gateway)
    reply = await ask(
        gateway, "PUT", "/Observation/a1", XML, body=write_resource_xml(OWN | {"status": "amended"})
    )
    assert reply.status == 200, reply.raw[:500]
    assert json.loads(got[-1][2])["status"] == "amended"
    part = [{"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Observation.status"},
            {"name": "value", "valueCode": "corrected"}]  # fmt: skip
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    reply = await ask(gateway, "PATCH", "/Observation/a1", XML, body=write_resource_xml(patch))
    assert reply.status == 200, reply.raw[:500]
    assert json.loads(got[-1][2])["status"] == "corrected"
    foreign = OWN | {"subject": {"reference": "Patient/B"}}
    count = len(got)
    reply = await ask(gateway, "PUT", "/Observation/a1", XML, body=write_resource_xml(foreign))
    assert (reply.status, len(got)) == (403, count)


async def test_a_batch_in_xml_is_judged_entry_by_entry(gateway: RunningGateway) -> None:
    asks = [{"request": {"method": "GET", "url": f"Observation/{id_}"}} for id_ in ("a1", "b1")]
    batch = write_resource_xml({"resourceType": "Bundle", "type": "batch", "entry": asks})
    found = value(await ask(gateway, "POST", "", XML, GIVE_XML, body=batch))
    assert found["type"] == "batch-response"
    own, foreign = found["entry"]
    assert own["resource"]["id"] == "a1"
    assert foreign["response"]["status"].startswith("404")
    assert foreign["response"]["outcome"]["resourceType"] == "OperationOutcome"
    reply = await ask(
        gateway, "POST", "", XML, GIVE_XML, body=batch.replace(b"<type", b"<total value='1'/><type")
    )
    assert (reply.status, reason(reply)) == (400, "invalid-body")


async def test_a_write_that_is_done_is_never_answered_by_a_refusal(gateway: RunningGateway) -> None:
    """What the store gives back cannot be said in XML: it comes in JSON, since it is stored."""

    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        stored = json.loads(await request.read()) | {"id": "new", "unknown": 1}
        headers = {"Location": f"{gateway.upstream.base}/Observation/new"}
        return web.json_response(stored, status=201, headers=headers, content_type="application/fhir+json")

    gateway.upstream.answer = odd
    reply = await ask(gateway, "POST", "/Observation", XML, GIVE_XML, body=observation())
    assert (reply.status, reply.json["unknown"]) == (201, 1)
    assert reply.header("Content-Type") == "application/fhir+json; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_narrative_that_runs_is_not_stored_in_json_either(
    gateway: RunningGateway, method: str
) -> None:
    got = stores(gateway)
    text = {"status": "generated", "div": f"{_DIV}<script>x</script></div>"}
    body: Any = OWN | {"text": text}
    media, path = JSON, "/Observation" if method == "POST" else "/Observation/a1"
    if method == "PATCH":
        media, body = (
            ("Content-Type", "application/json-patch+json"),
            [{"op": "add", "path": "/text", "value": text}],
        )
    reply = await ask(gateway, method, path, media, body=json.dumps(body).encode())
    assert (reply.status, reason(reply), got) == (400, "invalid-body", [])
    reply = await ask(gateway, method, path, media, body=json.dumps(body).replace("script", "b").encode())
    assert (reply.status in (200, 201), len(got)) == (True, 1)


async def test_P53_xml_in_gzip_is_decoded_before_it_is_judged(gateway: RunningGateway) -> None:
    got = stores(gateway)
    coding = ("Content-Encoding", "gzip")
    assert (
        await ask(gateway, "POST", "/Observation", XML, coding, body=gzip.compress(observation()))
    ).status == 201
    reply = await ask(
        gateway, "POST", "/Observation", XML, coding, body=gzip.compress(observation(patient="B"))
    )
    assert (reply.status, len(got)) == (403, 1)
    bomb = gzip.compress(b"<" + b" " * 60_000_000)
    reply = await ask(gateway, "POST", "/Observation", XML, coding, body=bomb)
    assert (reply.status in (400, 413), len(got)) == (True, 1)


async def test_P6_pieces_of_a_body_change_nothing(gateway: RunningGateway) -> None:
    got = stores(gateway)
    token = await gateway.token("pA-rw")
    proof = gateway.proof("POST", f"{gateway.origin}{MOUNT}/Observation", token)
    body = observation()
    head = (
        f"POST {MOUNT}/Observation HTTP/1.1\r\nHost: localhost:{gateway.port}\r\nConnection: close\r\n"
        f"Authorization: DPoP {token}\r\nDPoP: {proof}\r\nContent-Type: application/fhir+xml\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(
        "localhost", gateway.port, ssl=ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    )
    writer.write(head.encode())
    for byte in body:
        writer.write(b"1\r\n" + bytes([byte]) + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    raw = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert raw.startswith(b"HTTP/1.1 201")
    assert json.loads(got[0][2]) == json.loads((await _stored_whole(gateway, body))[2])


async def _stored_whole(gateway: RunningGateway, body: bytes) -> tuple[str, dict[str, str], bytes]:
    got = stores(gateway)
    assert (await ask(gateway, "POST", "/Observation", XML, body=body)).status == 201
    return got[0]


# Codings


async def test_an_answer_is_compressed_for_who_takes_it(gateway: RunningGateway) -> None:
    plain = await ask(gateway, "GET", "/Observation")
    coded = await ask(gateway, "GET", "/Observation", GZIP)
    assert coded.header("Content-Encoding") == "gzip"
    assert gzip.decompress(coded.body) == plain.body
    assert len(coded.body) < len(plain.body)
    assert coded.header("Vary") == plain.header("Vary") == "Authorization, DPoP, Accept, Accept-Encoding"
    assert gateway.upstream.requests[-1].headers["accept-encoding"] == "identity"
    short = await ask(gateway, "GET", "/Observation/b1", GZIP)
    assert (short.status, short.header("Content-Encoding")) == (404, None)


async def test_C52_a_coding_that_is_not_ours_is_not_used(gateway: RunningGateway) -> None:
    reply = await ask(gateway, "GET", "/Observation", ("Accept-Encoding", "br, zstd, identity;q=0"))
    assert (reply.status, reply.header("Content-Encoding")) == (200, None)
    assert gateway.upstream.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("path", ["/Observation", "/Observation/a1"])
async def test_C52_a_coding_of_the_store_that_is_not_ours_is_502(gateway: RunningGateway, path: str) -> None:
    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": "application/fhir+json", "Content-Encoding": "br"}
        return web.Response(body=b"\x0b\x02" + SECRET.encode(), headers=headers)

    gateway.upstream.answer = odd
    reply = await ask(gateway, "GET", path, GIVE_XML)
    assert (reply.status, reason(reply)) == (502, "upstream-invalid")


async def test_long_bundles_stream_in_xml_and_in_gzip(gateway: RunningGateway) -> None:
    gateway.upstream.answer = long_bundle(gateway, 20)
    before = len(await gateway.audit())
    plain = value(await ask(gateway, "GET", "/Observation", GIVE_XML))
    coded = await ask(gateway, "GET", "/Observation", GIVE_XML, GZIP)
    assert coded.header("Content-Encoding") == "gzip"
    assert coded.header("Transfer-Encoding") == "chunked"
    assert value(coded) == plain
    assert [each["resource"]["id"] for each in plain["entry"]] == [f"o{number}" for number in range(20)]
    ends = [r["ended"] for r in (await gateway.audit())[before:] if r.get("event") == "delivered"]
    assert ends == ["complete", "complete"]


async def test_the_first_entry_is_out_before_the_last_is_in(gateway: RunningGateway) -> None:
    taken = asyncio.Event()

    async def waits(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        link = [{"relation": "self", "url": f"{gateway.upstream.base}/x?{request.query_string}"}]
        begin = f'{{"resourceType":"Bundle","type":"searchset","link":{json.dumps(link)},"entry":['
        await response.write(begin.encode() + json.dumps(entry(0, "x" * 300_000)).encode())
        await taken.wait()
        await response.write(b"," + json.dumps(entry(1, "last")).encode() + b"]}")
        await response.write_eof()
        return response

    gateway.upstream.answer = waits
    token = await gateway.token("pA-rw")
    proof = gateway.proof("GET", f"{gateway.origin}{MOUNT}/Observation", token)
    reader, writer = await asyncio.open_connection(
        "localhost", gateway.port, ssl=ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    )
    lines = (f"GET {MOUNT}/Observation HTTP/1.1", f"Host: localhost:{gateway.port}", "Connection: close",
             f"Authorization: DPoP {token}", f"DPoP: {proof}", "Accept: application/fhir+xml",
             "Accept-Encoding: gzip")  # fmt: skip
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    decoder, seen = zlib.decompressobj(wbits=31), b""
    while b"</entry>" not in seen:
        size = int(await asyncio.wait_for(reader.readuntil(b"\r\n"), 20), 16)
        seen += decoder.decompress(await asyncio.wait_for(reader.readexactly(size), 20))
        await reader.readexactly(2)
    assert b'<id value="o0"/>' in seen
    assert b"last" not in seen
    taken.set()
    rest = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("headers", [[GIVE_XML], [GZIP], [GIVE_XML, GZIP]], ids=["XML", "gzip", "both"])
async def test_what_breaks_off_does_not_look_whole(
    gateway: RunningGateway, headers: list[tuple[str, str]]
) -> None:
    gateway.upstream.answer = long_bundle(gateway, 10, breaks_off=True)
    before = len(await gateway.audit())
    reply = await gateway.fhir("GET", "/Observation", who="pA-rw", headers=headers)
    assert reply.status == 200
    assert not reply.has_last_chunk
    ends = [r["ended"] for r in (await gateway.audit())[before:] if r.get("event") == "delivered"]
    assert ends == ["broken-off"]


@pytest.mark.parametrize("entries", [1, 20], ids=["whole", "streamed"])
@pytest.mark.parametrize("headers", [[GIVE_XML], [GZIP], [GIVE_XML, GZIP]], ids=["XML", "gzip", "both"])
async def test_a_signature_covers_the_content_as_it_is_coded(
    signing: RunningGateway, headers: list[tuple[str, str]], entries: int
) -> None:
    """RFC 9530 2: Content-Digest is of the content with its coding."""
    signing.upstream.answer = long_bundle(signing, entries)
    reply = await ask(signing, "GET", "/Observation", *headers)
    assert reply.status == 200
    assert (reply.header("Content-Encoding") == "gzip") is (GZIP in headers)
    url = f"{signing.origin}{MOUNT}/Observation"
    exchange = Exchange("GET", url, reply.status, reply.headers, reply.body, reply.trailers)
    verify(exchange, signing.gateway.keys.jwks())
    assert len(content(reply)) > 90_000 * entries


async def test_a_store_that_is_asked_for_gzip_is_read_within_bounds(signing: RunningGateway) -> None:
    sent: list[bytes] = []

    async def coded(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": "application/fhir+json", "Content-Encoding": "gzip"}
        return web.Response(body=sent[-1], headers=headers)

    signing.upstream.answer = coded
    sent.append(gzip.compress(json.dumps(OWN).encode()))
    assert (await ask(signing, "GET", "/Observation/a1")).json == OWN
    assert signing.upstream.requests[-1].headers["accept-encoding"] == "gzip"
    for odd in (
        gzip.compress(b" " * 50_000_000),  # a bomb
        sent[0][:-10],
        sent[0] + b"x",
        gzip.compress(sent[0]),
        b"{}",
    ):
        sent.append(odd)
        reply = await ask(signing, "GET", "/Observation/a1", GIVE_XML)
        assert (reply.status, reason(reply)) == (502, "upstream-invalid")


async def test_a_mount_that_does_not_compress_says_nothing_of_codings(
    tmp_path: Path,
) -> None:
    running = await start_gateway(tmp_path, compress=False)
    try:
        reply = await ask(running, "GET", "/Observation", GZIP)
        assert (reply.status, reply.header("Content-Encoding")) == (200, None)
        assert reply.header("Vary") == "Authorization, DPoP, Accept"
    finally:
        await stop_gateway(running)
