"""Attacks on conditions that only a search can tell (cases 108, 126, 217): nothing is shown without proof of narrowing."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.settings import SelfLink, UpstreamProfile
from tests.support.five import FORM, attack, shown
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
definitions: d
version: 1
claims:
  insurer: {path: insurer, type: reference, of: [Organization]}
---
policy: payers
version: 1
owner: o
status: enforce
text: An insurer sees the benefits of its members.
rules:
  - rule: own-benefits
    effect: permit
    who: {context: system}
    may: [read, vread, history-instance, search, update, delete]
    resources: [ExplanationOfBenefit]
    where: {match: {ExplanationOfBenefit: "status=active&coverage:Coverage.payor={token.insurer}"}}
    conceal: true
    because: x
tests:
  - {test: t, as: {context: system}, request: GET /Claim/x, expect: {decision: deny}}
"""
OWN = {"coverage:Coverage.payor": "Organization/acme"}
BENEFIT = "/ExplanationOfBenefit"
PROVES = UpstreamProfile(index_is_immediate=True)


async def opened(folder: Path, profile: UpstreamProfile) -> RunningGateway:
    (folder / "policies").mkdir()
    for name, text in zip(("0.yaml", "1.yaml"), POLICIES.split("---\n"), strict=True):
        (folder / "policies" / name).write_text(text)
    return await start_gateway(folder, policies=folder / "policies", profile=profile)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await opened(tmp_path_factory.mktemp("told"), PROVES)
    yield running
    await stop_gateway(running)


def benefit(id_: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "ExplanationOfBenefit",
        "id": id_,
        "status": "active",
        "meta": {"versionId": "3"},
    } | more


FOREIGN = benefit("e2", disposition=SECRET)
MINE = benefit("e1", payment={"amount": {"value": 10.50}})


def store(gateway: RunningGateway, found: list[dict[str, Any]], **said: Any) -> None:
    """Let the store answer every search with these; said overrides members of the Bundle."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        link = [{"relation": "self", "url": f"{gateway.upstream.base}{BENEFIT}?{request.query_string}"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, **said}
        bundle["entry"] = [{"resource": resource} for resource in found]
        return web.json_response(bundle, content_type="application/fhir+json")

    gateway.upstream.reset()
    gateway.upstream.answer = answer


async def token(gateway: RunningGateway, insurer: str = "Organization/acme") -> str:
    return await gateway.token("lab", scope="system/*.cruds", insurer=insurer, organization=None)


async def test_126_a_read_goes_as_a_search_and_comes_as_the_one_resource(gateway: RunningGateway) -> None:
    store(gateway, [MINE])
    reply = await attack(gateway, "GET", f"{BENEFIT}/e1", token=await token(gateway))
    (seen,) = gateway.upstream.requests
    assert unquote(str(seen)) == (
        "GET /fhir/ExplanationOfBenefit?_id=e1&status=active&coverage:Coverage.payor=Organization/acme"
    )
    assert seen.headers["prefer"] == "handling=strict"
    assert seen.headers["cache-control"] == "no-cache", "what was so a minute ago does not count"
    assert (reply.status, reply.json["id"], reply.header("ETag")) == (200, "e1", 'W/"3"')
    assert b"10.5" in reply.body
    store(gateway, [])
    none = await attack(gateway, "GET", f"{BENEFIT}/e2", token=await token(gateway))
    gateway.upstream.reset()
    gone = await attack(gateway, "GET", f"{BENEFIT}/nobody", token=await token(gateway))
    assert (none.status, none.body) == (404, none.body)
    assert none.reason == "not-found"
    assert gone.status == 404


@pytest.mark.parametrize(
    ("found", "said", "reason"),
    [
        ([FOREIGN], {}, "narrowing-ignored"),
        ([MINE, FOREIGN], {}, "narrowing-ignored"),
        ([MINE], {"link": []}, "narrowing-ignored"),
        ([MINE], {"link": [{"relation": "self", "url": "ExplanationOfBenefit?_id=e1"}]}, "narrowing-ignored"),
        ([MINE], {"type": "history"}, "upstream-invalid"),
        ([benefit("e1", status="draft", disposition=SECRET)], {}, "not-found"),
        ([benefit("e1", resourceType="Claim", disposition=SECRET)], {}, "narrowing-ignored"),
    ],
)
async def test_108_a_read_that_proves_nothing_shows_nothing(
    gateway: RunningGateway, found: list[dict[str, Any]], said: dict[str, Any], reason: str
) -> None:
    store(gateway, found, **said)
    reply = await attack(gateway, "GET", f"{BENEFIT}/e1", token=await token(gateway))
    assert reply.reason == reason
    assert reply.status in (404, 502)


@pytest.mark.parametrize(
    "link", [[], [{"relation": "self", "url": "ExplanationOfBenefit"}], [{"relation": "next", "url": "x"}]]
)
async def test_108_a_search_without_proof_shows_no_entry(gateway: RunningGateway, link: list[Any]) -> None:
    store(gateway, [FOREIGN, MINE], link=link)
    reply = await attack(gateway, "GET", BENEFIT, token=await token(gateway))
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    store(gateway, [MINE, benefit("e3", status="draft")])
    twin = await attack(gateway, "GET", f"{BENEFIT}?created=ge2024", token=await token(gateway))
    assert shown(twin) == {"ExplanationOfBenefit/e1"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/e1/_history/1"), ("GET", "/e1/_history"), ("DELETE", "/e1"), ("PUT", "/e1"),
    ],
)  # fmt: skip
async def test_what_is_no_search_stays_closed(gateway: RunningGateway, method: str, path: str) -> None:
    store(gateway, [MINE])
    body = b'{"resourceType":"ExplanationOfBenefit","id":"e1"}' if method == "PUT" else b""
    headers = [("Content-Type", "application/fhir+json")] if body else []
    reply = await attack(
        gateway, method, BENEFIT + path, token=await token(gateway), headers=headers, body=body, sent=[]
    )
    assert reply.status in (403, 404)


async def test_a_search_by_form_is_closed_where_forms_prove_nothing(gateway: RunningGateway) -> None:
    store(gateway, [MINE])
    reply = await attack(
        gateway, "POST", f"{BENEFIT}/_search", token=await token(gateway), headers=[FORM], body=b"", sent=[]
    )
    assert (reply.status, reply.reason) == (403, "told-by-search")


async def test_217_a_page_opens_for_the_insurer_that_it_was_narrowed_to(gateway: RunningGateway) -> None:
    base = f"{gateway.upstream.base}{BENEFIT}?status=active&coverage:Coverage.payor=Organization/acme"
    link = [{"relation": "self", "url": base}, {"relation": "next", "url": f"{base}&_page=2"}]
    store(gateway, [MINE], link=link)
    first = await attack(gateway, "GET", BENEFIT, token=await token(gateway))
    following = next(each["url"] for each in first.json["link"] if each["relation"] == "next")
    path = following.removeprefix(gateway.origin + MOUNT)
    store(gateway, [MINE], link=[])
    again = await attack(gateway, "GET", path, token=await token(gateway))
    assert shown(again) == {"ExplanationOfBenefit/e1"}
    moved = await attack(gateway, "GET", path, token=await token(gateway, "Organization/bolt"), sent=[])
    assert (moved.status, moved.reason) == (404, "stale-link")


@pytest.mark.parametrize(
    "profile",
    [
        UpstreamProfile(),
        UpstreamProfile(index_is_immediate=True, strict_handling=False),
        UpstreamProfile(index_is_immediate=True, self_link=SelfLink.UNRELIABLE),
    ],
    ids=["lagging", "not-strict", "unreliable"],
)
async def test_a_store_that_proves_nothing_is_not_asked(tmp_path: Path, profile: UpstreamProfile) -> None:
    running = await opened(tmp_path, profile)
    try:
        store(running, [MINE])
        for path in (f"{BENEFIT}/e1", BENEFIT):
            reply = await attack(running, "GET", path, token=await token(running), sent=[])
            assert (reply.status, reply.reason) == (403, "told-by-search")
    finally:
        await stop_gateway(running)
