"""Searches that a permit opens by what must be asked (`needs_one_of`): a store that drops it shows everybody (case 108)."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.five import FORM
from tests.support.gateway import RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: finding
version: 1
owner: o
status: enforce
text: Staff finds a person by a number, or by name and birth date.
rules:
  - rule: find-a-patient
    effect: permit
    who: {context: user}
    may: [search]
    resources: [Patient]
    shared: true
    query: {needs_one_of: [identifier, "family+birthdate", organization.name], chain_depth: 1}
    because: x
  - rule: directory
    effect: permit
    who: {context: user}
    may: [read, search]
    resources: [Organization, Practitioner]
    shared: true
    because: x
tests:
  - {test: t, as: {context: user}, request: GET /Claim/A, expect: {decision: deny}}
"""
FOUND = [
    ("identifier=urn:mrn|1", "identifier"),
    ("identifier=urn:mrn|1&_sort=family&_count=5", "identifier"),
    ("family:exact=Smith&birthdate=ge1970-01-01&birthdate=le1970-12-31", "birthdate"),
    ("family=Smith&birthdate=1970-01-01", "family"),
    ("organization.name=x", "organization:Organization.name"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("needed")
    (folder / "policies").mkdir()
    (folder / "policies" / "finding.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize(("query", "dropped"), FOUND)
async def test_108_a_store_that_drops_what_is_needed_shows_nobody(
    gateway: RunningGateway, query: str, dropped: str
) -> None:
    gateway.upstream.reset()
    gateway.upstream.forgets = dropped
    reply = await gateway.fhir("GET", f"/Patient?{query}", who="dr1")
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")
    assert SECRET.encode() not in reply.raw
    gateway.upstream.reset()
    assert (await gateway.fhir("GET", f"/Patient?{query}", who="dr1")).status == 200


async def test_what_is_not_needed_may_be_left_out_of_a_self_link(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    gateway.upstream.forgets = "_count"
    assert (await gateway.fhir("GET", "/Patient?identifier=x&_count=5", who="dr1")).status == 200
    gateway.upstream.forgets = "name"
    assert (await gateway.fhir("GET", "/Practitioner?name=x", who="dr1")).status == 200


async def test_a_form_is_held_to_the_same(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    gateway.upstream.forgets = "identifier"
    sent = {"who": "dr1", "headers": [FORM], "body": b"identifier=x&_sort=family"}
    reply = await gateway.fhir("POST", "/Patient/_search", **sent)  # type: ignore[arg-type]
    assert (reply.status, reply.reason) == (502, "narrowing-ignored")


@pytest.mark.parametrize(
    "query",
    [
        "identifier=urn:mrn|",
        "identifier=urn:mrn|1,urn:mrn|",
        "identifier=urn:mrn%7C",
        "family=Smith&birthdate=ne1970-01-01",
        "family=Smith&birthdate=1970-01-01,ne1970-01-01",
        "identifier:not=urn:mrn|1",
        "identifier:missing=false",
        "organization.name:missing=false",
        "family=Smith",
    ],
)
async def test_what_narrows_to_nobody_is_not_what_is_needed(gateway: RunningGateway, query: str) -> None:
    gateway.upstream.reset()
    reply = await gateway.fhir("GET", f"/Patient?{query}", who="dr1")
    assert (reply.status, reply.reason) == (403, "query-closed")
    assert gateway.upstream.requests == []


@pytest.mark.parametrize(
    "query",
    [
        "identifier=urn:mrn|1,urn:mrn|2",
        "identifier=|1",
        "identifier=1",
        "identifier=urn:mrn|1&identifier=urn:other|",
        "identifier=a\\|",
        "family=Smith&birthdate=ge1970-01-01&birthdate=ne1970-05-05",
    ],
)
async def test_what_names_somebody_is(gateway: RunningGateway, query: str) -> None:
    gateway.upstream.reset()
    assert (await gateway.fhir("GET", f"/Patient?{query}", who="dr1")).status == 200
