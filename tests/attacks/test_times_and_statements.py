"""Attack cases on time, statements and policies in shadow (304, 317, 330), through the whole gateway.

No marker of a stranger anywhere, nothing upstream on a refusal by the request alone, one audit record with rule and
reason, an OperationOutcome that tells nothing of the store, and beside each refusal the request that succeeds.
"""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.attacks.test_groups_a_b_c import check_no_leak, check_outcome
from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
POLICY = """
policy: times
version: 1
owner: tests
text: Charts in the hours of the house, results once they are final.
status: enforce
rules:
  - rule: charts-by-day
    effect: permit
    who: {context: user, role: [physician]}
    when: {hours: "08:00-18:00", zone: Europe/Amsterdam}
    may: [read, search]
    resources: [Patient, Condition]
    shared: true
    because: While the house is open.
  - rule: own-results
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient, Observation]
    where: {compartment: {patient: "{token.patient}"}}
    conceal: true
    because: A person sees the own record.
  - rule: of-known-origin-only
    effect: deny
    who: {context: patient}
    may: [read, search]
    resources: [Observation]
    where: {fhirpath: "component.code.coding.code contains 'withheld'"}
    unless: {fhirpath: "component.empty()"}
    because: Parts of it may be withheld.
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Patient/B, expect: {status: 404}}
"""
SHADOW = """
policy: next-year
version: 1
owner: tests
text: What is planned for next year.
status: shadow
rules:
  - rule: no-results-yet
    effect: deny
    who: {context: patient}
    may: [read, search]
    resources: [Observation]
    because: Planned.
  - rule: every-patient
    effect: permit
    who: {context: patient}
    may: [read, search]
    resources: [Patient]
    shared: true
    because: Planned, and wrong.
tests:
  - {test: t, as: {context: patient, patient: A}, request: GET /Observation/x, expect: {decision: deny}}
"""


class _Clock:
    """A clock that stands where it was put."""

    def __init__(self) -> None:
        self.put("2026-03-02T12:00:00+01:00")

    def put(self, text: str) -> None:
        """Put it to a time."""
        self.now = int(datetime.fromisoformat(text).timestamp())

    def __call__(self) -> int:
        """Seconds since 1970."""
        return self.now


CLOCK = _Clock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("times")
    policies = policies_with(folder, "times.yaml", POLICY)
    (policies / "next-year.yaml").write_text(SHADOW)
    running = await start_gateway(folder, policies=policies, clock=CLOCK)
    yield running
    await stop_gateway(running)


def put(gateway: RunningGateway, at: str) -> None:
    """Put the clock to a time."""
    CLOCK.put(at)
    gateway.upstream.reset()


async def asked(
    gateway: RunningGateway, line: str, principal: str, *, at: str = "2026-03-02T12:00:00+01:00"
) -> tuple[Reply, dict[str, Any]]:
    """The answer, and its record, which is the only one."""
    put(gateway, at)
    before = len(await gateway.audit())
    token = await gateway.token(principal)
    method, _, path = line.partition(" ")
    reply = await gateway.fhir(method, path, token=token)
    (record,) = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    assert record["status"] == reply.status
    assert record["policies"]
    return reply, record


@pytest.mark.parametrize(
    ("at", "is_open"),
    [
        ("2026-03-02T07:59:59+01:00", False),
        ("2026-03-02T08:00:00+01:00", True),
        ("2026-03-02T17:59:59+01:00", True),
        ("2026-03-02T18:00:00+01:00", False),
        ("2026-03-30T07:59:59+02:00", False),  # on Monday the clocks have been put forward: it is summer
        ("2026-03-30T08:00:00+02:00", True),
        ("2026-03-30T18:00:00+02:00", False),
    ],
)
async def test_304_a_window_of_time_is_that_of_the_clocks_in_its_zone(
    gateway: RunningGateway, at: str, is_open: bool
) -> None:
    reply, record = await asked(gateway, "GET /Patient/A", "dr1", at=at)
    if is_open:
        assert reply.status == 200, reply.raw
        assert record["rules"] == ["times/charts-by-day"]
        return
    check_no_leak(reply)
    check_outcome(reply, gateway)
    assert reply.reason == "no-permit"
    assert reply.status == 403
    assert gateway.upstream.requests == []
    assert (record["decision"], record["reason"]) == ("refused", "no-permit")


async def test_304_the_next_page_is_decided_when_it_is_asked_for(gateway: RunningGateway) -> None:
    put(gateway, "2026-03-02T17:59:59+01:00")
    base = gateway.upstream.base

    async def page(request: web.Request) -> web.Response:
        link = [{"relation": "next", "url": f"{base}/Condition?page=2"}]
        bundle = {"resourceType": "Bundle", "type": "searchset", "link": link, "entry": []}
        return web.Response(text=json.dumps(bundle), content_type="application/fhir+json")

    gateway.upstream.answer = page
    token = await gateway.token("dr1")
    first = await gateway.fhir("GET", "/Condition", token=token)
    (following,) = [each["url"] for each in first.json["link"] if each["relation"] == "next"]
    path = f"/Condition?{following.partition('?')[2]}"
    assert (await gateway.fhir("GET", path, token=token)).status == 200
    put(gateway, "2026-03-02T18:00:00+01:00")
    assert (await gateway.fhir("GET", path, token=token)).status == 403
    assert gateway.upstream.requests == []


def _with_huge() -> dict[str, Any]:
    """The world, and a result of A with more parts than are looked through."""
    found = dict(world())
    codes = [{"system": "urn:x", "code": "SECRET-B"}] * 500
    component = [{"code": {"coding": codes}}] * 500
    found["Observation/huge"] = {**found["Observation/a1"], "id": "huge", "component": component}
    return found


async def test_330_a_resource_too_large_to_look_through_is_closed_by_a_deny(gateway: RunningGateway) -> None:
    gateway.upstream.made = _with_huge
    try:
        reply, record = await asked(gateway, "GET /Observation/huge", "pA-r")
        check_no_leak(reply)
        check_outcome(reply, gateway)
        assert reply.reason == "not-found"
        assert record["rules"] == ["times/of-known-origin-only"]
        twin, _ = await asked(gateway, "GET /Observation/a1", "pA-r")
        assert twin.status == 200
    finally:
        gateway.upstream.made = world


async def test_a_shadow_changes_no_answer_and_is_on_record(gateway: RunningGateway) -> None:
    reply, record = await asked(gateway, "GET /Observation/a1", "pA-r")
    assert reply.status == 200
    assert record["decision"] == "permit"
    (said,) = record["shadow"]
    assert said == {"policy": "next-year", "would": ["deny"], "rules": ["next-year/no-results-yet"]}
    assert (
        'securus_shadow_decisions_total{policy="next-year",would="deny"}'
        in gateway.gateway.metrics.text().decode()
    )


async def test_a_shadow_that_would_open_everything_opens_nothing(gateway: RunningGateway) -> None:
    reply, record = await asked(gateway, "GET /Patient/B", "pA-r")
    check_no_leak(reply)
    check_outcome(reply, gateway)
    assert reply.reason == "not-found"
    assert gateway.upstream.requests == []
    assert "rules" not in record or "next-year/every-patient" not in record["rules"]
    assert "next-year" not in reply.raw.decode("latin-1")


async def test_requests_go_through_however_long_after_the_first_while_a_nonce_of_then_does_not(
    gateway: RunningGateway,
) -> None:
    await asked(gateway, "GET /Patient/A", "dr1", at="2026-03-02T12:00:00+01:00")
    old = gateway.nonce
    put(gateway, "2026-03-02T12:05:30+01:00")
    token = await gateway.token("dr1")
    proof = gateway.proof("GET", f"{gateway.origin}{MOUNT}/Patient/A", token, nonce=old)
    held = [("Authorization", f"DPoP {token}"), ("DPoP", proof)]
    assert (await gateway.send("GET", f"{MOUNT}/Patient/A", held)).status == 401
    assert (await gateway.fhir("GET", "/Patient/A", token=token)).status == 200
