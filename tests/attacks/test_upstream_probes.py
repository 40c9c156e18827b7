"""A store is asked what it can do before callers depend on it; one that lies about it is found out, and does not hold up."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from gateway.proxy.probe import ProbeResult, probe
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Probe, SelfLink, Upstream, UpstreamProfile
from tests.support.gateway import MOUNT, start_gateway, stop_gateway
from tests.support.hostile_upstream import HostileUpstream

pytestmark = pytest.mark.xdist_group("probes")

USED = {"Patient": frozenset({"_id"}), "Observation": frozenset({"subject"})}
STATEMENT: dict[str, Any] = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "4.0.1",
    "software": {"name": "Store", "version": "1.2"},
    "rest": [
        {
            "mode": "server",
            "searchParam": [{"name": "_id"}],
            "resource": [
                {
                    "type": type_,
                    "versioning": "versioned",
                    "interaction": [{"code": "search-type"}],
                    "searchParam": [{"name": "subject"}],
                }
                for type_ in ("Patient", "Observation")
            ],
        }
    ],
}


@pytest_asyncio.fixture
async def store() -> AsyncIterator[HostileUpstream]:
    running = HostileUpstream()
    await running.start()
    yield running
    await running.stop()


async def probed(store: HostileUpstream, profile: UpstreamProfile | None = None) -> ProbeResult:
    upstream = Upstream(
        "fhir", "fhir-r4", "/fhir/r4", store.base, "https://gw.example/fhir/r4", frozenset(), "Bearer SECRET-UP",
        answer_timeout=5.0, profile=profile or UpstreamProfile(),
    )  # fmt: skip
    client = UpstreamClient(upstream, lambda seconds: None)
    await client.open()
    try:
        return await probe(client, USED)
    finally:
        await client.close()


def faithful(
    store: HostileUpstream, *, statement: Any = STATEMENT, strict: bool = True, self_link: str | None = "echo"
) -> Callable[[web.BaseRequest], Any]:
    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path.endswith("/metadata"):
            return web.Response(body=json.dumps(statement).encode())
        if "unknown" in request.query_string and strict:
            return web.Response(status=400, text="SECRET-B")
        link = f"{store.base}/Patient?{request.query_string if self_link == 'echo' else 'x=y'}"
        links = [] if self_link is None else [{"relation": "self", "url": link}]
        value = {"resourceType": "Bundle", "type": "searchset", "link": links}
        return web.Response(body=json.dumps(value).encode())

    return answer


async def test_a_store_that_does_as_its_profile_says_is_right(store: HostileUpstream) -> None:
    store.answer = faithful(store)
    result = await probed(store)
    assert (result.findings, result.is_right) == ((), True)
    assert (result.software, result.fhir_version) == ("Store 1.2", "4.0.1")
    assert [r.target.partition("=")[0] for r in store.requests] == [
        "/fhir/metadata",
        "/fhir/Patient?_id",
        "/fhir/Patient?securus-unknown-parameter",
    ]
    assert all(r.headers["prefer"] == "handling=strict" for r in store.requests)


async def test_a_store_that_ignores_every_criterion_is_found_out_and_nothing_of_it_is_kept(
    store: HostileUpstream,
) -> None:
    result = await probed(store)
    assert not result.is_right
    said = json.dumps(result.as_json())
    assert "the store ignores criteria" in said
    assert "skipped although strict handling was asked for" in said
    for word in ("SECRET", "Patient/", "127.0.0.1", "b1"):
        assert word not in said


@pytest.mark.parametrize(
    ("change", "right", "said"),
    [
        ({"self_link": "other"}, False, "the self link of a search does not name its criteria"),
        ({"self_link": None}, True, "the self link of a search does not name its criteria"),
        ({"strict": False}, True, "a parameter that does not exist is skipped"),
        ({"statement": STATEMENT | {"fhirVersion": "5.0.0"}}, False, "the store speaks FHIR '5.0.0', expected 4.0.x"),
        ({"statement": {"resourceType": "Patient"}}, False, "GET metadata gives 200 and no CapabilityStatement"),
        ({"statement": []}, False, "the store cannot be asked: invalid-body"),
    ],
)  # fmt: skip
async def test_each_lie_has_its_finding(
    store: HostileUpstream, change: dict[str, Any], right: bool, said: str
) -> None:
    store.answer = faithful(store, **change)
    result = await probed(store)
    assert result.is_right is right
    assert said in str(result.as_json())


async def test_a_criterion_that_policies_add_and_the_store_does_not_list_is_a_warning(
    store: HostileUpstream,
) -> None:
    statement = json.loads(json.dumps(STATEMENT))
    del statement["rest"][0]["resource"][1]["searchParam"]
    statement["rest"][0]["resource"][0]["versioning"] = "no-version"
    statement["rest"][0]["resource"][1]["versioning"] = "no-version"
    store.answer = faithful(store, statement=statement)
    result = await probed(store)
    assert [finding.message for finding in result.findings] == [
        "policies narrow Observation by 'subject', which the store does not list among its parameters",
        "the profile says that If-Match is supported, but the store keeps no versions",
    ]
    assert result.is_right


async def test_a_profile_that_says_so_asks_for_less(store: HostileUpstream) -> None:
    store.answer = faithful(store, strict=False, self_link="other")
    lenient = UpstreamProfile(name="own", strict_handling=False, self_link=SelfLink.UNRELIABLE)
    assert (await probed(store, lenient)).findings == ()
    assert all("prefer" not in r.headers for r in store.requests)


async def test_a_store_that_is_not_there_is_a_finding(store: HostileUpstream) -> None:
    await store.stop()
    assert (await probed(store)).as_json()["findings"] == [
        {"level": "error", "message": "the store cannot be asked: upstream-unavailable"}
    ]


@pytest.mark.parametrize(("mode", "status"), [(Probe.REQUIRED, 503), (Probe.BACKGROUND, 200)])
async def test_a_hostile_store_holds_up_readiness_only_where_the_probe_is_required(
    tmp_path: Path, mode: Probe, status: int
) -> None:
    running = await start_gateway(tmp_path, probe=mode)
    try:
        async with ClientSession(f"http://127.0.0.1:{running.operations_port}") as session:
            found: list[Any] = []
            async with asyncio.timeout(10):
                while not found:
                    async with session.get("/upstreams") as reply:
                        found = await reply.json()
            async with session.get("/readyz") as reply:
                assert reply.status == status
                assert ("store 'fhir' is not as its profile says" in await reply.text()) is (status == 503)
        assert found[0]["upstream"] == "fhir"
        assert found[0]["ok"] is False
        assert "SECRET" not in str(found)
    finally:
        await stop_gateway(running)


async def test_a_parameter_or_a_header_that_the_profile_never_lets_through_does_not_pass(
    tmp_path: Path,
) -> None:
    profile = UpstreamProfile(
        name="own", never_parameters=frozenset({"code"}), never_headers=frozenset({"accept-language"})
    )
    running = await start_gateway(tmp_path, profile=profile)
    try:
        refused = await running.fhir("GET", "/Observation?code=x")
        assert (refused.status, refused.reason) == (403, "unsupported-parameter")
        assert running.upstream.requests == []
        passed = await running.fhir("GET", "/Patient/A", headers=[("Accept-Language", "de")])
        assert passed.status == 200
        assert "accept-language" not in running.upstream.requests[-1].headers
    finally:
        await stop_gateway(running)


async def test_L_a_page_link_that_is_no_page_is_left_out_and_counted(tmp_path: Path) -> None:
    """Another type, another person, an operation, a parameter that nobody sent: none of them is sealed."""
    running = await start_gateway(tmp_path)
    try:
        for target in (
            "Patient?_page=x",
            "Observation?_page=2&performer=Patient/B",
            "$export",
            "Observation/b1",
        ):

            async def answer(request: web.BaseRequest, target: str = target) -> web.Response:
                link = [
                    {
                        "relation": "self",
                        "url": f"{running.upstream.base}/Observation?{request.query_string}",
                    },
                    {"relation": "next", "url": f"{running.upstream.base}/{target}"},
                ]
                value = {"resourceType": "Bundle", "type": "searchset", "link": link}
                return web.Response(
                    body=json.dumps(value).encode(), headers={"Content-Type": "application/fhir+json"}
                )

            running.upstream.answer = answer
            reply = await running.fhir("GET", "/Observation")
            assert reply.status == 200
            assert [each["relation"] for each in reply.json["link"]] == ["self"]
            assert running.origin + MOUNT + "/Observation" == reply.json["link"][0]["url"]
        left_out = running.gateway.metrics.page_links_left_out.labels("fhir")
        assert left_out.value == 4
    finally:
        await stop_gateway(running)
