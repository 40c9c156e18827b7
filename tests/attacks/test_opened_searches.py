"""What `query: open` opens, on the ways that the attack table does not go: pages, batches, forms, stores of other makes."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.fhir.search import OPENABLE
from gateway.settings import SelfLink, UpstreamProfile
from tests.attacks.table.worlds import DEFINITIONS, POLICIES
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("opened-searches")]
ABLE = UpstreamProfile(opened_parameters=OPENABLE)
FILTER = "_filter=code%20eq%20x"


async def started(folder: Path, profile: UpstreamProfile) -> RunningGateway:
    policies = folder / "policies"
    policies.mkdir()
    (policies / "00-definitions.yaml").write_text(DEFINITIONS)
    batch = """\
  - rule: batches
    effect: permit
    may: [batch]
    resources: [Observation]
    shared: true
    because: Several at once.
tests:"""
    (policies / "opened.yaml").write_text(POLICIES["opened"].replace("tests:", batch, 1))
    return await start_gateway(folder, policies=policies, profile=profile)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await started(tmp_path_factory.mktemp("able"), ABLE)
    yield running
    await stop_gateway(running)


async def ask(gateway: RunningGateway, target: str, **more: Any) -> Reply:
    """A request of the patient A to a store that behaves as at first."""
    gateway.upstream.reset()
    return await gateway.fhir(more.pop("method", "GET"), target, token=await gateway.token("pA-r"), **more)


def sent(gateway: RunningGateway) -> list[str]:
    """What the store saw."""
    return [str(each).replace(" /fhir/", " ") for each in gateway.upstream.requests]


async def test_a_list_of_another_and_one_that_nobody_has_are_answered_alike(gateway: RunningGateway) -> None:
    foreign = {"resourceType": "List", "id": "lb", "status": "current", "mode": "working",
               "subject": {"reference": "Patient/B"}, "title": SECRET}  # fmt: skip

    async def answered(held: bool) -> bytes:
        gateway.upstream.reset()
        if held:
            gateway.upstream.resources["List/lb"] = foreign
        token = await gateway.token("pA-r")
        reply = await gateway.fhir("GET", "/Observation?_list=lb", token=token)
        assert sent(gateway) == ["GET List/lb"]
        assert reply.status == 200
        return reply.body

    assert await answered(True) == await answered(False)


async def test_the_list_is_read_again_for_every_page(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    token = await gateway.token("pA-r")

    async def pages(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/List/mix"):
            held = gateway.upstream.resources.get("List/mix")
            return web.Response(
                status=200 if held else 404,
                text=json.dumps(held or {"resourceType": "OperationOutcome"}),
                content_type="application/fhir+json",
            )
        base = gateway.upstream.base
        links = [
            {"relation": "self", "url": f"{base}/Observation?{request.rel_url.raw_query_string}"},
            {"relation": "next", "url": f"{base}/Observation?_list=mix&subject=Patient/A&_page=2"},
        ]
        held = gateway.upstream.resources["Observation/a1"]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": [{"resource": held}]}
        return web.Response(text=json.dumps(bundle), content_type="application/fhir+json")

    gateway.upstream.answer = pages
    first = await gateway.fhir("GET", "/Observation?_list=mix", token=token)
    (following,) = [link["url"] for link in first.json["link"] if link["relation"] == "next"]
    target = following.removeprefix(gateway.origin + MOUNT)
    second = await gateway.fhir("GET", target, token=token)
    assert [len(each.json["entry"]) for each in (first, second)] == [1, 1]
    assert sent(gateway)[2:] == ["GET List/mix", "GET Observation?_list=mix&subject=Patient/A&_page=2"]
    del gateway.upstream.resources["List/mix"]
    third = await gateway.fhir("GET", target, token=token)
    assert third.status == 200
    assert "entry" not in third.json
    assert sent(gateway)[4:] == ["GET List/mix"]
    gateway.upstream.answer = None


async def test_an_entry_of_a_batch_is_judged_as_the_search_alone(gateway: RunningGateway) -> None:
    urls = ["Observation?_list=mix", f"Observation?{FILTER}", "Observation?_filter=subject.name%20co%20x",
            "Observation?_filter=subject%20eq%20Patient/B"]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "batch",
              "entry": [{"request": {"method": "GET", "url": url}} for url in urls]}  # fmt: skip
    headers = [("Content-Type", "application/fhir+json")]
    reply = await ask(gateway, "", method="POST", body=json.dumps(bundle).encode(), headers=headers)
    assert reply.status == 200
    assert SECRET.encode() not in reply.raw
    told = [each["response"]["status"][:3] for each in reply.json["entry"]]
    assert told == ["200", "200", "403", "200"]
    assert sorted(sent(gateway)) == sorted([
        "GET List/mix", "GET Observation?_list=mix&subject=Patient%2FA", f"GET Observation?{FILTER}&subject=Patient%2FA",
    ])  # fmt: skip


async def test_an_answer_without_a_self_link_shows_nothing(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    held = gateway.upstream.resources["Observation/a1"]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": held}]}

    async def mute(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=json.dumps(bundle), content_type="application/fhir+json")

    gateway.upstream.answer = mute
    token = await gateway.token("pA-r")
    for query in (FILTER, "_text=x"):
        reply = await gateway.fhir("GET", f"/Observation?{query}", token=token)
        assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    gateway.upstream.answer = None


FORM = [("Content-Type", "application/x-www-form-urlencoded")]


@pytest.mark.parametrize(
    ("name", "profile", "by_get", "by_form"),
    [
        ("unknown", UpstreamProfile(), 403, 403),
        ("others", replace(ABLE, opened_parameters=OPENABLE - {"_filter"}), 403, 403),
        ("never", replace(ABLE, never_parameters=frozenset({"_filter"})), 403, 403),
        ("unreliable", replace(ABLE, self_link=SelfLink.UNRELIABLE), 403, 403),
        ("silent", ABLE, 200, 403),
        ("speaking", replace(ABLE, self_link_of_forms=SelfLink.CHECKED), 200, 200),
    ],
)
async def test_a_store_is_asked_only_what_it_will_say_that_it_took(
    tmp_path: Path, name: str, profile: UpstreamProfile, by_get: int, by_form: int
) -> None:
    gateway = await started(tmp_path, profile)
    try:
        reply = await ask(gateway, f"/Observation?{FILTER}")
        assert (reply.status, reply.reason) == (by_get, None if by_get == 200 else "unsupported-parameter")
        assert len(sent(gateway)) == (by_get == 200)
        reply = await ask(gateway, "/Observation/_search", method="POST", body=FILTER.encode(), headers=FORM)
        assert (reply.status, reply.reason) == (by_form, None if by_form == 200 else "unsupported-parameter")
        assert len(sent(gateway)) == (by_form == 200)
        if by_form == 200:
            assert gateway.upstream.requests[-1].body == f"{FILTER}&subject=Patient%2FA".encode()
    finally:
        await stop_gateway(gateway)
