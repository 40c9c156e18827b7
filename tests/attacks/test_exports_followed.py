"""Who follows an export (case 206): a rule may open less than all of it, and closes what it does not name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.consent_desk import KEPT, consent
from tests.support.five import attack
from tests.support.gateway import MOUNT, RunningGateway, policies_with, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
ASYNC = [("Prefer", "respond-async")]
RULE = """
  - rule: {name}
    effect: permit
    who: {{context: system, client: {name}}}
    may: ["operation:Group/$export"{words}]
    resources: [Group]
    shared: true
    operation: {{types: [Observation], jobs_at_once: 3, type_filter: {{Observation: "Observation?subject=Patient/A"}}}}
    because: x
"""
WORDS = {
    "watcher": ', "operation:export-status"',
    "fetcher": ', "operation:export-status", "operation:export-file"',
    "everyone": "",
}
POLICY = (
    "policy: exports\nversion: 1\nowner: o\nstatus: enforce\ntext: t\nrules:"
    + "".join(RULE.format(name=name, words=words) for name, words in WORDS.items())
    + "tests:\n  - {test: t, as: {context: system, client: nobody}, request: GET /_job/of-another, "
    "expect: {decision: deny, status: 404, upstream: none}}\n"
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("followed")
    running = await start_gateway(folder, policies=policies_with(folder, "90-exports.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.mark.parametrize(
    ("client", "file_is", "end_is"), [("watcher", 403, 403), ("fetcher", 200, 403), ("everyone", 200, 202)]
)
async def test_206_a_client_follows_its_export_as_far_as_its_rule_says(
    gateway: RunningGateway, client: str, file_is: int, end_is: int
) -> None:
    gateway.upstream.reset()
    token = await gateway.token("lab", client_id=client, sub=client, organization=None)
    begun = await attack(gateway, "GET", "/Group/g/$export", token=token, headers=ASYNC)
    assert begun.status == 202
    place = (begun.header("Content-Location") or "").removeprefix(gateway.origin + MOUNT)
    told = await attack(gateway, "GET", place, token=token, sent=["GET /fhir/jobs/7"])
    assert told.status == 200
    (file,) = told.json["output"]
    path = file["url"].removeprefix(gateway.origin + MOUNT)
    sent = ["GET /fhir/jobs/7/Observation"] if file_is == 200 else []
    fetched = await attack(gateway, "GET", path, token=token, sent=sent)
    assert fetched.status == file_is
    ended = await attack(
        gateway, "DELETE", place, token=token, sent=["DELETE /fhir/jobs/7"] if end_is == 202 else []
    )
    assert ended.status == end_is
    for refused in (reply for reply in (fetched, ended) if reply.status == 403):
        assert refused.reason == "interaction-closed"
    other = await gateway.token("lab", client_id="somebody", sub="somebody", organization=None)
    for method, of_another in (("GET", place), ("GET", path), ("DELETE", place)):
        assert (await attack(gateway, method, of_another, token=other, sent=[])).status == 404


async def test_no_consent_of_the_store_is_exported_where_consents_are_kept_here(tmp_path: Path) -> None:
    rule = RULE.replace("types: [Observation]", "types: [Observation, Consent]")
    rule = rule.replace(', type_filter: {{Observation: "Observation?subject=Patient/A"}}', "")
    policy = "policy: exports\nversion: 1\nowner: o\nstatus: enforce\ntext: t\nrules:" + rule.format(
        name="everyone", words=""
    )
    policies = policies_with(tmp_path, "90-exports.yaml", policy)
    for consents, types in ((None, ["Consent", "Observation"]), (KEPT, ["Observation"])):
        folder = tmp_path / str(len(types))
        folder.mkdir()
        gateway = await start_gateway(folder, policies=policies, consents=consents)
        try:
            gateway.upstream.resources["Consent/theirs"] = {**consent(), "id": "theirs"}
            token = await gateway.token("lab", client_id="everyone", sub="everyone", organization=None)
            begun = await attack(gateway, "GET", "/Group/g/$export", token=token, headers=ASYNC)
            assert begun.status == 202, begun.raw
            place = (begun.header("Content-Location") or "").removeprefix(gateway.origin + MOUNT)
            told = await attack(gateway, "GET", place, token=token)
            assert sorted(each["type"] for each in told.json["output"]) == types
        finally:
            await stop_gateway(gateway)
