"""Conditions that only the store can tell (`coverage:Coverage.payor=…`), before a store that may not honour them.

Every row makes the five assertions: no marker of another insurer's member, nothing upstream on a refusal, one audit
record, an OperationOutcome that tells nothing of the store, and a permitted twin that succeeds.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.config.profiles import shipped
from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.hostile_upstream import asked_for
from tests.support.policies import policy
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

DEFINITIONS = """\
definitions: d
version: 1
claims:
  insurer: {path: insurer, type: reference, of: [Organization]}
"""
RULES = (
    "rule: own, effect: permit, who: {context: system}, may: any, resources: [ExplanationOfBenefit], "
    'where: {match: {ExplanationOfBenefit: "coverage:Coverage.payor={token.insurer}"}}, '
    "query: {include: any-permitted}",
    "rule: claims, effect: permit, who: {context: system}, may: [read, search, batch], resources: [Claim], "
    "shared: true, query: {include: any-permitted}",
    "rule: together, effect: permit, who: {context: system}, may: [batch], resources: any",
)
CHAIN = ("coverage:Coverage.payor", "Organization/acme")
PAYORS = {"Coverage/acme-1": "Organization/acme", "Coverage/bolt-1": "Organization/bolt"}


def benefit(id_: str, coverage: str, text: str) -> dict[str, Any]:
    """An explanation of benefit that is paid for by a coverage; only the Coverage says by which insurer."""
    return {
        "resourceType": "ExplanationOfBenefit",
        "id": id_,
        "meta": {"versionId": "3"},
        "status": "active",
        "disposition": text,
        "insurance": [{"focal": True, "coverage": {"reference": coverage}}],
    }


class Store:
    """A store that knows chains, and can be told to misbehave."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.deaf = False  # it ignores every chain
        self.quiet = False  # its self link does not name chains
        self.links_last = False
        self.more: list[dict[str, Any]] = []  # stands in every answer as well
        self.pages = False
        found = [
            *(benefit(f"own-{n}", "Coverage/acme-1", "own") for n in range(3)),
            *(benefit(f"other-{n}", "Coverage/bolt-1", SECRET) for n in range(3)),
        ]
        self.benefits = {f"{each['id']}": each for each in found}

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.removeprefix("/fhir/").split("/")
        query = request.query_string
        if request.method == "POST":
            query = await request.text()
        if parts[0] == "Claim" or (len(parts) > 1 and parts[1] != "_search"):
            found = (
                self.benefits.get(parts[1])
                if len(parts) > 1
                else {"resourceType": "Bundle", "type": "searchset"}
            )
            return web.json_response(found, content_type="application/fhir+json")
        terms = dict(parse_qsl(query))
        matches = [each for each in self.benefits.values() if terms.get("_id", each["id"]) == each["id"]]
        payor = terms.get(CHAIN[0])
        if payor is not None and not self.deaf:
            matches = [
                each for each in matches if PAYORS[each["insurance"][0]["coverage"]["reference"]] == payor
            ]
        named = "status=active" if self.quiet else query
        base = self.gateway.upstream.base
        links = [{"relation": "self", "url": f"{base}/ExplanationOfBenefit?{named}"}]
        if self.pages:
            links.insert(0, {"relation": "next", "url": f"{base}/ExplanationOfBenefit?_page=2"})
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(matches)}
        entries = [{"resource": each, "search": {"mode": "match"}} for each in [*matches, *self.more]]
        order = (
            [("entry", entries), ("link", links)]
            if self.links_last
            else [("link", links), ("entry", entries)]
        )
        return web.Response(
            body=json.dumps(bundle | dict(order)).encode(), content_type="application/fhir+json"
        )


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("told")
    policies = folder / "policies"
    policies.mkdir()
    (policies / "0.yaml").write_text(DEFINITIONS)
    tests = "  - {test: t, as: {context: system}, request: GET /Claim/A, expect: {status: 200}}\n"
    (policies / "1.yaml").write_text(policy(*RULES, tests=tests))
    profile = replace(shipped("generic"), told_by_search=True, self_link_of_forms=shipped("blaze").self_link)
    running = await start_gateway(folder, policies=policies, profile=profile)
    yield running
    await stop_gateway(running)


@pytest.fixture
def store(gateway: RunningGateway) -> Store:
    gateway.upstream.reset()
    made = Store(gateway)
    gateway.upstream.answer = made
    return made


async def asked(gateway: RunningGateway, method: str, path: str, body: bytes = b"", **claims: Any) -> Reply:
    token = await gateway.token("lab", scope="system/*.cruds", **{"insurer": "Organization/acme", **claims})
    headers = [("Content-Type", "application/fhir+json")] if body else []
    if path.endswith("_search"):
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
    before = len(await gateway.audit())
    reply = await gateway.fhir(method, path, token=token, headers=headers, body=body)
    access = [r for r in (await gateway.audit())[before:] if r.get("event") == "access" and "entry" not in r]
    assert len(access) == 1
    assert SECRET.encode() not in reply.raw
    assert str(gateway.upstream.port).encode() not in reply.raw
    if reply.status >= 400:
        assert reply.json["resourceType"] == "OperationOutcome"
    return reply


def shown(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.raw[:500]
    return [entry["resource"]["id"] for entry in reply.json.get("entry", [])]


async def test_a_read_is_the_search_that_the_store_can_tell_it_by(
    gateway: RunningGateway, store: Store
) -> None:
    reply = await asked(gateway, "GET", "/ExplanationOfBenefit/own-1")
    assert reply.status == 200
    assert reply.json == store.benefits["own-1"]
    assert reply.header("ETag") == 'W/"3"'
    (sent,) = gateway.upstream.requests
    assert sent.target.startswith("/fhir/ExplanationOfBenefit?")
    assert asked_for(sent) == [("_id", "own-1"), CHAIN]
    assert sent.headers["prefer"] == "handling=strict"
    assert sent.headers["cache-control"] == "no-cache"


async def test_what_is_of_another_insurer_reads_like_what_is_not_there(
    gateway: RunningGateway, store: Store
) -> None:
    other = await asked(gateway, "GET", "/ExplanationOfBenefit/other-1")
    nobody = await asked(gateway, "GET", "/ExplanationOfBenefit/nobody")
    assert (other.status, other.reason, other.body) == (404, "not-found", nobody.body)


@pytest.mark.parametrize("how", ["deaf and quiet", "quiet", "two", "another", "another type"])
async def test_a_store_that_does_not_tell_is_not_believed(
    gateway: RunningGateway, store: Store, how: str
) -> None:
    store.deaf = "deaf" in how
    store.quiet = "quiet" in how
    wanted = "other-1" if store.deaf else "own-1"
    if how == "two":
        store.more = [store.benefits["other-1"]]
    elif how == "another":
        wanted, store.more = "nobody", [store.benefits["other-1"]]
    elif how == "another type":
        wanted, store.more = "nobody", [{"resourceType": "Patient", "id": "nobody", "text": SECRET}]
    reply = await asked(gateway, "GET", f"/ExplanationOfBenefit/{wanted}")
    assert reply.status == 502
    assert reply.reason == ("narrowing-ignored" if store.quiet else "upstream-invalid")


@pytest.mark.parametrize("posted", [False, True], ids=["get", "post"])
@pytest.mark.parametrize("links_last", [False, True], ids=["links-first", "links-last"])
async def test_a_search_shows_what_the_store_says_is_ours(
    gateway: RunningGateway, store: Store, posted: bool, links_last: bool
) -> None:
    store.links_last = links_last
    if posted:
        reply = await asked(gateway, "POST", "/ExplanationOfBenefit/_search", b"status=active")
    else:
        reply = await asked(gateway, "GET", "/ExplanationOfBenefit?status=active")
    assert shown(reply) == ["own-0", "own-1", "own-2"]
    assert reply.json["total"] == 3
    assert len(gateway.upstream.requests) == 1


@pytest.mark.parametrize("links_last", [False, True], ids=["links-first", "links-last"])
async def test_a_search_that_is_not_proven_shows_nothing(
    gateway: RunningGateway, store: Store, links_last: bool
) -> None:
    store.deaf = store.quiet = True
    store.links_last = links_last
    reply = await asked(gateway, "GET", "/ExplanationOfBenefit?status=active")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    record = (await gateway.audit())[-1]
    assert record.get("entries", {}).get("shown", 0) == 0


@pytest.mark.parametrize("links_last", [False, True], ids=["links-first", "links-last"])
async def test_no_long_answer_begins_before_it_is_proven(
    gateway: RunningGateway, store: Store, links_last: bool
) -> None:
    store.deaf = store.quiet = True
    store.links_last = links_last
    for each in store.benefits.values():
        each["processNote"] = [{"text": f"{SECRET} {'x' * 200_000}"}]
    reply = await asked(gateway, "GET", "/ExplanationOfBenefit?status=active")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")


CLOSED = {
    "vread": ("GET", "/ExplanationOfBenefit/own-1/_history/1", b""),
    "history": ("GET", "/ExplanationOfBenefit/own-1/_history", b""),
    "update": ("PUT", "/ExplanationOfBenefit/own-1", json.dumps(benefit("own-1", "Coverage/acme-1", "x")).encode()),
    "delete": ("DELETE", "/ExplanationOfBenefit/own-1", b""),
    "create": ("POST", "/ExplanationOfBenefit", json.dumps(benefit("x", "Coverage/acme-1", "x")).encode()),
    "conditional delete": ("DELETE", "/ExplanationOfBenefit?status=active", b""),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), CLOSED.values(), ids=CLOSED)
async def test_what_no_search_tells_stays_closed(
    gateway: RunningGateway, store: Store, method: str, path: str, body: bytes
) -> None:
    reply = await asked(gateway, method, path, body)
    assert reply.status == 403
    assert reply.reason in ("not-decidable", "no-permit")
    assert gateway.upstream.requests == []


async def test_an_include_of_it_is_closed(gateway: RunningGateway, store: Store) -> None:
    reply = await asked(gateway, "GET", "/Claim?_revinclude=ExplanationOfBenefit:claim")
    assert (reply.status, reply.reason) == (403, "join-closed")
    assert gateway.upstream.requests == []
    assert (await asked(gateway, "GET", "/Claim?status=active")).status == 200


async def test_in_a_batch_it_is_closed(gateway: RunningGateway, store: Store) -> None:
    urls = ["ExplanationOfBenefit/own-1", "ExplanationOfBenefit?status=active", "Claim?status=active"]
    entry = [{"request": {"method": "GET", "url": url}} for url in urls]
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": entry}).encode()
    reply = await asked(gateway, "POST", "", body)
    assert reply.status == 200, reply.raw[:400]
    assert [each["response"]["status"][:3] for each in reply.json["entry"]] == ["403", "403", "200"]
    assert len(gateway.upstream.requests) == 1


async def test_a_page_link_is_good_for_the_criteria_that_were_proven_and_for_no_others(
    gateway: RunningGateway, store: Store
) -> None:
    store.pages = True
    reply = await asked(gateway, "GET", "/ExplanationOfBenefit?status=active")
    (url,) = [link["url"] for link in reply.json["link"] if link["relation"] == "next"]
    path = url.partition("/fhir/r4")[2]
    store.pages = False
    gateway.upstream.requests.clear()
    # The same app with a token that names another insurer: the page was narrowed to the first one.
    other = await asked(gateway, "GET", path, insurer="Organization/bolt")
    assert (other.status, other.reason) == (404, "stale-link")
    assert gateway.upstream.requests == []
    store.benefits = {k: v for k, v in store.benefits.items() if k.startswith("own")}
    assert shown(await asked(gateway, "GET", path)) == ["own-0", "own-1", "own-2"]


@pytest.mark.parametrize(
    "profile",
    [
        shipped("generic"),
        replace(shipped("hapi"), strict_handling=False),
        replace(shipped("hapi"), self_link=shipped("generic").self_link.UNRELIABLE),
    ],
    ids=["closed", "not-strict", "no-proof"],
)
async def test_a_store_that_cannot_prove_it_is_not_asked(tmp_path: Path, profile: Any) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "0.yaml").write_text(DEFINITIONS)
    tests = "  - {test: t, as: {context: system}, request: GET /Claim/A, expect: {status: 200}}\n"
    (policies / "1.yaml").write_text(policy(*RULES, tests=tests))
    gateway = await start_gateway(tmp_path, policies=policies, profile=profile)
    try:
        for path in ("/ExplanationOfBenefit/own-1", "/ExplanationOfBenefit?status=active"):
            reply = await asked(gateway, "GET", path)
            assert (reply.status, reply.reason) == (403, "not-decidable")
        assert gateway.upstream.requests == []
    finally:
        await stop_gateway(gateway)
