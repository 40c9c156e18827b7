"""The filter of a scope as an oracle: `system/Observation.rs?code=x` where the code is hidden from the caller.

Whoever asks for a token chooses its filters, so whether a record is shown tells whether it meets them. The store is
hostile: it ignores every criterion. Each row has its twin, by an element that is shown.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.gateway import Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]

POLICIES = """\
policy: filters
version: 1
owner: o
status: enforce
text: Laboratories see observations of A without their codes.
rules:
  - rule: no-codes
    effect: permit
    who: {context: system}
    may: [read, vread, history-instance, search]
    resources: [Observation]
    where: {compartment: {patient: A}}
    return: {hide: [Observation.code]}
    because: x
  - rule: writes
    effect: permit
    who: {context: system}
    may: [update, delete]
    resources: [Observation]
    where: {compartment: {patient: A}}
    because: x
  - rule: no-labels
    effect: deny
    may: [any]
    resources: any
    fields: [meta.security]
    because: The label itself would tell.
tests:
  - {test: t, as: {context: system}, request: GET /Observation/a, expect: {decision: permit}}
"""
MATCHES, DIFFERS = "code=4548-4", "code=1234-5"
WAYS = ("/Observation/a1", "/Observation/a1/_history/1", "/Observation/a1/_history", "/Observation")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("filters")
    (folder / "policies").mkdir()
    (folder / "policies" / "filters.yaml").write_text(POLICIES)
    running = await start_gateway(folder, policies=folder / "policies")
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def asked(gateway: RunningGateway, path: str, *filters: str, method: str = "GET") -> Reply:
    scope = " ".join(f"system/Observation.cruds?{each}" for each in filters)
    token = await gateway.token("lab", scope=scope)
    before = len(await gateway.audit())
    reply = await gateway.fhir(method, path, token=token)
    assert len([r for r in (await gateway.audit())[before:] if r.get("event") == "access"]) == 1
    assert SECRET.encode() not in reply.raw
    if reply.status >= 400:
        assert reply.json["resourceType"] == "OperationOutcome"
    return reply


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("hidden", [(MATCHES, DIFFERS), ("_security=R", "_security=N")], ids=["view", "deny"])
async def test_a_scope_does_not_ask_for_what_is_hidden(
    gateway: RunningGateway, path: str, hidden: tuple[str, str]
) -> None:
    one, other = [await asked(gateway, path, each) for each in hidden]
    assert (one.status, one.reason) == (403, "scope-insufficient")
    assert one.body == other.body
    assert gateway.upstream.requests == [], "nothing that the store says decides it"


@pytest.mark.parametrize("path", WAYS)
async def test_a_scope_asks_for_what_is_shown(gateway: RunningGateway, path: str) -> None:
    reply = await asked(gateway, path, "category=laboratory")
    assert reply.status == 200
    assert b"4548-4" not in reply.body
    assert b"a1" in reply.body


@pytest.mark.parametrize("path", WAYS)
async def test_a_hidden_filter_beside_one_that_is_shown_adds_nothing(
    gateway: RunningGateway, path: str
) -> None:
    shown = "category=vital-signs"
    one, other = [await asked(gateway, path, shown, each) for each in (MATCHES, DIFFERS)]
    alone = await asked(gateway, path, shown)
    assert one.status == other.status == alone.status
    assert b'"a1"' not in one.body
    if one.status == 200:
        assert [r.json.get("entry") for r in (one, other)] == [alone.json.get("entry")] * 2
    else:
        assert one.body == other.body == alone.body


async def test_a_write_does_not_ask_for_what_a_read_hides(gateway: RunningGateway) -> None:
    one, other = [
        await asked(gateway, "/Observation/a1", each, method="DELETE") for each in (MATCHES, DIFFERS)
    ]
    assert (one.status, one.reason) == (403, "scope-insufficient")
    assert one.body == other.body
    assert gateway.upstream.requests == []
    assert (await asked(gateway, "/Observation/a1", "category=laboratory", method="DELETE")).status == 204


@pytest.mark.parametrize("query", [MATCHES, DIFFERS, "category=laboratory", "category=survey"])
async def test_of_a_stranger_the_reason_does_not_tell_whether_the_filter_is_met(
    gateway: RunningGateway, query: str
) -> None:
    reply = await asked(gateway, "/Observation/b1", query)
    hidden = query.startswith("code")
    assert (reply.status, reply.reason) == (403, "scope-insufficient" if hidden else "no-permit")
