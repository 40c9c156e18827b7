"""A token of patient A never yields a byte of patient B: by read, vread, history, search, POST search or page.

The store is hostile: it ignores every criterion and answers with the whole world, pages included.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.hostile_upstream import asked_for
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
OWN = ["a1", "a-vitals", "a-mh"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("leaks"))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def page_of(gateway: RunningGateway, number: int, query: str) -> dict[str, Any]:
    """A page of two Observations of the world, with an opaque next link."""
    found = [r for key, r in world().items() if key.startswith("Observation/")]
    link = [{"relation": "self", "url": f"{gateway.upstream.base}/Observation?{query}"}]
    if (number + 1) * 2 < len(found):
        link.append({"relation": "next", "url": f"{gateway.upstream.base}?_getpages=opaque{number + 1}"})
    entries = [{"resource": r, "search": {"mode": "match"}} for r in found[number * 2 : number * 2 + 2]]
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found),
        "link": link,
        "entry": entries,
    }


@pytest.mark.parametrize("kind", sorted({key.split("/")[0] for key in world()}))
async def test_a_search_shows_own_entries_only(gateway: RunningGateway, kind: str) -> None:
    reply = await gateway.fhir("GET", f"/{kind}")
    assert SECRET.encode() not in reply.raw
    if reply.status == 200:
        for entry in reply.json.get("entry", []):
            assert entry["resource"]["resourceType"] == kind
            assert "Patient/B" not in json.dumps(entry)


@pytest.mark.parametrize("key", sorted(world()))
@pytest.mark.parametrize("form", ["/{key}", "/{key}/_history/1", "/{key}/_history"])
async def test_reads_of_every_form_show_own_resources_only(
    gateway: RunningGateway, key: str, form: str
) -> None:
    reply = await gateway.fhir("GET", form.format(key=key))
    assert SECRET.encode() not in reply.raw
    own = {"Patient/A", "Observation/a1", "Observation/a-vitals", "Observation/a-mh"}
    if key in own:
        assert reply.status == 200, reply.raw[:300]


async def test_an_own_search_by_get_and_by_post_finds_the_same(gateway: RunningGateway) -> None:
    got = await gateway.fhir("GET", "/Observation?code=4548-4")
    assert [e["resource"]["id"] for e in got.json["entry"]] == OWN
    assert asked_for(gateway.upstream.requests[-1])[-1] == ("subject", "Patient/A")
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    posted = await gateway.fhir("POST", "/Observation/_search", headers=form, body=b"code=4548-4")
    assert [e["resource"]["id"] for e in posted.json["entry"]] == OWN
    assert b"subject=Patient%2FA" in gateway.upstream.requests[-1].body


async def test_the_total_of_a_store_that_ignores_us_is_not_passed_on(gateway: RunningGateway) -> None:
    gateway.upstream.echoes = False
    reply = await gateway.fhir("GET", "/Observation")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    assert gateway.gateway.metrics.narrowing_ignored.labels().value >= 1


async def test_own_entries_leave_with_links_of_the_gateway_and_exact_numbers(gateway: RunningGateway) -> None:
    reply = await gateway.fhir("GET", "/Observation")
    assert f":{gateway.upstream.port}".encode() not in reply.raw
    assert reply.json["entry"][0]["fullUrl"] == f"{gateway.origin}{MOUNT}/Observation/a1"
    assert b"6.3" in reply.body


@pytest.mark.parametrize(
    "query",
    [
        "subject=Patient/B",
        "patient=B",
        "subject=B",
        "subject:Patient=B",
        "subject=Patient/A,Patient/B",
        "subject:not=Patient/A",
        "subject:missing=true",
        "subject:identifier=urn:mrn|b-number",
        "subject=Patient/A\\,Patient/B",
        "patient=Patient/A%26subject=Patient/B",
        "performer=Patient/A",
        "_id=b1",
        "_has:Observation:subject:code=x",
        "subject.name=x",
        "_include=Observation:subject",
        "_revinclude=Provenance:target",
        "_filter=subject%20eq%20Patient/B",
        "_list=mix",
        "_summary=count",
        "_total=accurate",
        "_elements=id",
        "_count=0",
        "_text=x",
        "_query=x",
        "unknown-param=1",
    ],
)
async def test_no_query_widens_a_search(gateway: RunningGateway, query: str) -> None:
    reply = await gateway.fhir("GET", f"/Observation?{query}")
    assert SECRET.encode() not in reply.raw
    assert reply.status in (200, 400, 403)
    for request in gateway.upstream.requests:
        assert ("subject", "Patient/A") in asked_for(request)
    if reply.status == 200 and reply.json.get("entry"):
        assert {e["resource"]["id"] for e in reply.json["entry"]} <= set(OWN)


async def test_pages_are_sealed_and_judged_like_the_first(gateway: RunningGateway) -> None:
    async def pages(request: web.BaseRequest) -> web.StreamResponse:
        number = int(request.query.get("_getpages", "opaque0").removeprefix("opaque"))
        return web.json_response(
            page_of(gateway, number, request.query_string), content_type="application/fhir+json"
        )

    gateway.upstream.answer = pages
    seen: list[str] = []
    path = "/Observation?_count=2"
    for _ in range(6):
        reply = await gateway.fhir("GET", path)
        assert reply.status == 200, reply.raw[:400]
        assert SECRET.encode() not in reply.raw
        assert b"_getpages" not in reply.raw
        seen += [e["resource"]["id"] for e in reply.json.get("entry", [])]
        following = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
        if not following:
            break
        path = following[0].removeprefix(gateway.origin + MOUNT)
    assert sorted(seen) == sorted(OWN)


async def test_a_page_of_somebody_else_opens_for_nobody(gateway: RunningGateway) -> None:
    async def pages(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(
            page_of(gateway, 0, request.query_string), content_type="application/fhir+json"
        )

    gateway.upstream.answer = pages
    reply = await gateway.fhir("GET", "/Observation?_count=2")
    url = next(link["url"] for link in reply.json["link"] if link["relation"] == "next")
    path = url.removeprefix(gateway.origin + MOUNT)
    asked = len(gateway.upstream.requests)
    for token in (
        await gateway.token("pA-r", sub="somebody-else"),
        await gateway.token("pA-r", client_id="another-app"),
        await gateway.token("pA-r", grant_id="another-grant"),
    ):
        foreign = await gateway.fhir("GET", path, token=token)
        assert (foreign.status, foreign.reason) == (404, "stale-link")
    for broken in (
        path[:-3] + "AAA",
        path.replace("Observation", "Condition"),
        path + "&patient=B",
        "/Observation?_page=x",
    ):
        assert (await gateway.fhir("GET", broken)).status in (400, 404)
    assert (await gateway.fhir("GET", "/Observation?_getpages=opaque1")).status == 400
    assert len(gateway.upstream.requests) == asked


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", b"<html>SECRET-B</html>"),
        (200, "application/fhir+xml", b"<Patient/>"),
        (200, "application/fhir+json", b"{"),
        (200, "application/fhir+json", b'{"resourceType":"Patient","id":"B","text":"SECRET-B"}'),
        (200, "application/fhir+json", b'{"resourceType":"Observation","id":"a1","subject":{"reference":"Patient/A"},'
         b'"subject":{"reference":"Patient/B"}}'),
        (200, "application/fhir+json; charset=utf-16", b"{}"),
        (301, "text/plain", b"SECRET-B"),
        (401, "application/json", b'{"SECRET-B":1}'),
        (410, "application/json", b'{"SECRET-B":1}'),
        (500, "text/plain", b"java.lang.SECRET-B"),
        (204, "text/plain", b""),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_the_resource_asked_for_never_passes(
    gateway: RunningGateway, status: int, content_type: str, body: bytes
) -> None:
    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": content_type, "Location": "http://upstream/fhir/Patient/B"}
        return web.Response(status=status, body=body, headers=headers)

    gateway.upstream.answer = odd
    reply = await gateway.fhir("GET", "/Observation/a1")
    assert reply.status in (404, 502)
    assert SECRET.encode() not in reply.raw
    assert reply.header("Location") is None


async def test_an_include_that_nobody_asked_for_is_left_out(gateway: RunningGateway) -> None:
    async def included(request: web.BaseRequest) -> web.StreamResponse:
        bundle = page_of(gateway, 0, request.query_string)
        bundle["entry"].append({"resource": world()["Patient/A"], "search": {"mode": "include"}})
        outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": SECRET}]}
        bundle["entry"].append({"resource": outcome, "search": {"mode": "outcome"}})
        return web.json_response(bundle, content_type="application/fhir+json")

    gateway.upstream.answer = included
    reply = await gateway.fhir("GET", "/Observation")
    assert SECRET.encode() not in reply.raw
    assert {e["resource"]["resourceType"] for e in reply.json["entry"]} == {"Observation"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/Observation", b'{"resourceType":"Observation"}'),
        ("PUT", "/Observation/a1", b'{"resourceType":"Observation","id":"a1"}'),
        ("PATCH", "/Observation/a1", b"[]"),
        ("DELETE", "/Observation/a1", b""),
        ("DELETE", "/Observation?code=x", b""),
        ("GET", "/Patient/A/$everything", b""),
        ("GET", "/$export", b""),
        ("GET", "/Observation/_history", b""),
        ("GET", "/_history", b""),
    ],
)
async def test_what_is_not_decided_yet_is_refused_with_its_reason(
    gateway: RunningGateway, method: str, path: str, body: bytes
) -> None:
    reply = await gateway.fhir(method, path, who="pA-rw", body=body)
    assert reply.status == 403
    assert reply.reason in ("interaction-closed", "no-permit")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        ("{store}/Patient/A/_history/1", "{public}/Patient/A/_history/1"),
        ("http://inner.example/fhir/Patient/A", None),
        ("/fhir/Patient/A", None),
    ],
)
async def test_a_content_location_names_the_public_base_or_nothing(
    gateway: RunningGateway, said: str, passed: str | None
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = json.dumps(world()["Patient/A"]).encode()
        place = said.format(store=gateway.upstream.base)
        headers = {"Content-Type": "application/fhir+json", "Content-Location": place}
        return web.Response(body=body, headers=headers)

    gateway.upstream.answer = answer
    reply = await gateway.fhir("GET", "/Patient/A")
    expected = None if passed is None else passed.format(public=gateway.origin + MOUNT)
    assert (reply.status, reply.header("Content-Location")) == (200, expected)
