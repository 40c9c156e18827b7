"""Attack group L: bulk export against a store whose files hold everybody, and jobs of others.

No marker of what is not granted anywhere, nothing upstream on a refusal, one audit record, an OperationOutcome that
tells nothing of the store, and beside each refusal the export that succeeds.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.policies_folder import load_policies
from tests.attacks.table.play import check_no_marker, check_no_store
from tests.support.gateway import (
    MOUNT,
    ROOT,
    Reply,
    RunningGateway,
    policies_with,
    start_gateway,
    stop_gateway,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
ASYNC = ("Prefer", "respond-async")
POLICY = """
policy: export
version: 1
owner: tests
text: The registry's export.
status: enforce
rules:
  - rule: nightly-export
    effect: permit
    who: {context: system, org: laboratory}
    may: ["operation:Group/$export", "operation:Patient/$export"]
    resources: [Group, Patient]
    shared: true
    operation:
      types: [Patient, Observation, Condition]
      type_filter: {Observation: "Observation?category=vital-signs"}
      jobs_at_once: 2
    because: The registry takes its group over.
  - rule: not-the-strangers
    effect: deny
    who: {context: system}
    may: [read]
    resources: [Patient]
    where: {ids: [B, C]}
    because: They said no.
tests:
  - test: the registry exports
    as: {context: system, org: laboratory, client: registry}
    request: GET /Group/g/$export?_type=Observation
    given:
      search:
        - {resourceType: Observation, id: v, category: [{coding: [{code: vital-signs}]}]}
        - {resourceType: Observation, id: l, category: [{coding: [{code: laboratory}]}]}
    expect: {decision: permit, shows: [Observation/v], hides: [Observation/l]}
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("export")
    running = await start_gateway(folder, policies=policies_with(folder, "90-export.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


async def ask(gateway: RunningGateway, method: str, path: str, client: str, **claims: Any) -> Reply:
    claims = {"client_id": client, "sub": client, **claims}
    token = await gateway.token("lab", **claims)
    return await gateway.fhir(method, path, token=token, headers=[ASYNC])


def path_of(gateway: RunningGateway, url: str | None) -> str:
    assert url is not None
    assert url.startswith(gateway.origin + MOUNT + "/_")
    return url.removeprefix(gateway.origin + MOUNT)


async def begin(gateway: RunningGateway, client: str, path: str = "/Group/g/$export") -> str:
    reply = await ask(gateway, "GET", path, client)
    assert reply.status == 202, reply.raw[:600]
    return path_of(gateway, reply.header("Content-Location"))


def sent(gateway: RunningGateway) -> list[str]:
    return [str(request) for request in gateway.upstream.requests]


async def test_K201_an_export_is_cut_to_what_its_rule_and_its_scopes_give(gateway: RunningGateway) -> None:
    job = await begin(gateway, "cut", "/Group/g/$export?_since=2024-01-01T00:00:00Z")
    look, kick_off = sent(gateway)
    assert look == "GET /fhir/Group/g"
    assert kick_off == (
        "GET /fhir/Group/g/$export?_since=2024-01-01T00%3A00%3A00Z&_type=Condition%2CObservation%2CPatient"
        "&_typeFilter=Observation%3Fcategory%3Dvital-signs"
    )
    assert gateway.upstream.requests[1].headers["prefer"] == "respond-async, handling=strict"
    assert (await ask(gateway, "DELETE", job, "cut")).status == 202
    gateway.upstream.reset()
    reply = await ask(
        gateway, "GET", "/Patient/$export?_type=Patient,Coverage", "cut", scope="system/Patient.rs"
    )
    assert reply.status == 202
    assert sent(gateway) == ["GET /fhir/Patient/$export?_type=Patient"]


async def test_K201_a_filter_of_the_client_stands_within_that_of_the_rule(gateway: RunningGateway) -> None:
    query = "_type=Observation&_typeFilter=Observation%3Fcode%3D4548-4"
    await begin(gateway, "filter", f"/Group/g/$export?{query}")
    assert sent(gateway)[1] == (
        "GET /fhir/Group/g/$export?_type=Observation"
        "&_typeFilter=Observation%3Fcode%3D4548-4%26category%3Dvital-signs"
    )


REFUSED = [
    ("K201a", "/Group/g/$export?_type=Coverage", 403, {}),
    ("K201b", "/Group/g/$export?_elements=id", 403, {}),
    ("K201c", "/$export", 403, {}),
    ("K201d", "/Group/g/$export?_outputFormat=text/csv", 400, {}),
    ("K201e", "/Group/g/$export?_type=Nonsense", 400, {}),
    ("L210a", "/Patient/A/$export", 403, {}),
    ("L210b", "/Group/g/$export", 403, {"scope": "patient/*.rs", "patient": "A"}),
    ("L210c", "/Group/g/$export", 403, {"scope": "user/*.rs"}),
    ("L210d", "/Group/g/$export", 403, {"scope": "system/Coverage.rs"}),
    ("L210e", "/Group/g/$export", 403, {"scope": "system/*.r"}),
    ("L210f", "/Group/g/$export", 403, {"organization": "other"}),
    ("L212a", "/Group/g/$export?_typeFilter=Observation%3F_has:Provenance:target:agent%3Dx", 403, {}),
    ("L212b", "/Group/g/$export?_typeFilter=Coverage%3Fstatus%3Dactive", 403, {}),
    ("L212c", "/Group/g/$export?_typeFilter=Observation%3Fsubject.name%3Dx", 403, {}),
    ("L212d", "/Group/g/$export?_typeFilter=Observation", 400, {}),
    ("L212e", "/Group/g/$export?_typeFilter=Observation%3Fnonsense%3Dx", 400, {}),
    ("L212f", "/Group/g/$export?patient=Patient/A", 403, {}),
]  # fmt: skip


@pytest.mark.parametrize(("case", "path", "status", "claims"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_a_kick_off_beyond_the_grant_is_refused_and_nobody_is_asked(
    gateway: RunningGateway, case: str, path: str, status: int, claims: dict[str, Any]
) -> None:
    before = len(await gateway.audit())
    reply = await ask(gateway, "GET", path, "refused", **claims)
    assert reply.status == status, reply.raw[:600]
    check_no_marker(reply)
    check_no_store(reply)
    assert sent(gateway) == []
    assert [r["event"] for r in (await gateway.audit())[before:]] == ["access"]


async def test_an_export_without_respond_async_is_refused(gateway: RunningGateway) -> None:
    token = await gateway.token("lab")
    reply = await gateway.fhir("GET", "/Patient/$export", token=token)
    assert (reply.status, reply.reason, sent(gateway)) == (400, "invalid-parameter", [])


async def test_L208_the_manifest_names_the_gateway_alone_and_files_hold_what_may_be_seen(
    gateway: RunningGateway,
) -> None:
    job = await begin(gateway, "files")
    reply = await ask(gateway, "GET", job, "files")
    manifest = reply.json
    assert (reply.status, reply.header("Content-Type")) == (200, "application/json")
    assert manifest["requiresAccessToken"] is True
    assert manifest["request"] == f"{gateway.origin}{MOUNT}/Group/g/$export"
    assert manifest["error"] == []
    files = {each["type"]: path_of(gateway, each.pop("url")) for each in manifest["output"]}
    assert manifest["output"] == [{"type": "Observation"}, {"type": "Patient"}]
    check_no_store(reply)
    before = len(await gateway.audit())
    lines = await ask(gateway, "GET", files["Observation"], "files")
    assert lines.header("Content-Type") == "application/fhir+ndjson"
    expected = json.dumps(gateway.upstream.resources["Observation/a-vitals"]).encode() + b"\n"
    assert lines.body == expected  # not a byte is changed
    check_no_marker(lines)
    (record,) = (await gateway.audit())[before:]
    assert record["entries"] == {"shown": 1, "dropped": 4}
    people = await ask(gateway, "GET", files["Patient"], "files")
    assert [json.loads(line)["id"] for line in people.body.splitlines()] == ["A"]
    check_no_marker(people)
    accepting = await gateway.fhir(
        "GET",
        files["Patient"],
        token=await gateway.token("lab", client_id="files", sub="files"),
        headers=[("Accept", "application/fhir+ndjson")],
    )
    assert accepting.body == people.body


async def test_L206_a_job_and_a_file_of_another_are_not_found_byte_for_byte_as_one_that_never_was(
    gateway: RunningGateway,
) -> None:
    job = await begin(gateway, "owner")
    manifest = (await ask(gateway, "GET", job, "owner")).json
    file = path_of(gateway, manifest["output"][0]["url"])
    gateway.upstream.reset()
    never = await ask(gateway, "GET", "/_job/AAAA", "thief")
    assert (never.status, never.reason) == (404, "not-found")
    volatile = {"x-fapi-interaction-id", "date", "dpop-nonce"}
    plain = [h for h in never.headers if h[0].lower() not in volatile]
    for method, path, client, claims in (
        ("GET", job, "thief", {}),
        ("DELETE", job, "thief", {}),
        ("GET", file, "thief", {}),
        ("GET", job, "owner", {"sub": "another"}),
        ("GET", job.replace("_job", "_file"), "owner", {}),
        ("GET", file.replace("_file", "_job"), "owner", {}),
        ("DELETE", file.replace("_file", "_job"), "owner", {}),
        ("GET", job[:-1], "owner", {}),
        ("GET", job[:20] + "x" + job[21:], "owner", {}),
        ("GET", job, "owner", {"scope": "patient/*.rs", "patient": "A", "client_id": "pA"}),
    ):
        reply = await ask(gateway, method, path, client, **claims)
        assert (reply.status, reply.body) == (404, never.body), (method, path[:12], client, claims)
        assert [h for h in reply.headers if h[0].lower() not in volatile] == plain
    assert sent(gateway) == []
    assert (await ask(gateway, "GET", job, "owner")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/_job/AAAA", 405), ("PUT", "/_job/AAAA", 405), ("DELETE", "/_file/AAAA", 405), ("GET", "/_job/", 404),
        ("GET", "/_job", 404), ("GET", "/_job/A.A", 404), ("GET", "/_job/AA/BB", 404), ("GET", "/_job/%41", 404),
        ("GET", "/_job/AAAA/../x", 400), ("GET", "/_job/AAAA?x=1", 400), ("GET", "/_file/" + "A" * 7601, 400),
        ("HEAD", "/_file/AAAA", 405),
    ],
)  # fmt: skip
async def test_the_paths_of_jobs_and_files_have_one_reading(
    gateway: RunningGateway, method: str, path: str, status: int
) -> None:
    reply = await ask(gateway, method, path, "paths")
    assert reply.status == status, reply.raw[:300]
    assert sent(gateway) == []


async def test_L214_a_client_has_as_many_jobs_as_its_rule_says_and_gets_a_place_back_once(
    gateway: RunningGateway,
) -> None:
    replies = await asyncio.gather(*(ask(gateway, "GET", "/Patient/$export", "many") for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [202, 202, 429, 429]
    refused = next(reply for reply in replies if reply.status == 429)
    assert (refused.reason, refused.header("Retry-After")) == ("too-many-jobs", "60")
    assert (await ask(gateway, "GET", "/Patient/$export", "someone-else")).status == 202
    first = next(path_of(gateway, r.header("Content-Location")) for r in replies if r.status == 202)
    assert (await ask(gateway, "DELETE", first, "many")).status == 202
    assert (await ask(gateway, "GET", "/Patient/$export", "many")).status == 202
    for _ in range(2):  # the end of a job gives back no place of another one
        assert (await ask(gateway, "DELETE", first, "many")).status == 202
        assert (await ask(gateway, "GET", "/Patient/$export", "many")).status == 429


async def test_L214_a_kick_off_that_the_store_refuses_takes_no_place(gateway: RunningGateway) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=503, text="SECRET-B")

    for _ in range(3):
        gateway.upstream.answer = refuse
        reply = await ask(gateway, "GET", "/Patient/$export", "unlucky")
        assert reply.status == 502
        check_no_marker(reply)
    gateway.upstream.reset()
    assert (await ask(gateway, "GET", "/Patient/$export", "unlucky")).status == 202


@pytest.mark.parametrize(
    "place",
    ["http://evil.example/fhir/jobs/1", "/jobs/1", "http://169.254.169.254/latest", "{base}/../admin", ""],
)
async def test_L208_a_job_that_is_not_below_the_base_of_the_store_is_no_job(
    gateway: RunningGateway, place: str
) -> None:
    async def elsewhere(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            status=202, headers={"Content-Location": place.replace("{base}", gateway.upstream.base)}
        )

    gateway.upstream.answer = elsewhere
    reply = await ask(gateway, "GET", "/Patient/$export", "elsewhere")
    assert (reply.status, reply.reason) == (502, "upstream-invalid")
    assert b"evil" not in reply.raw


@pytest.mark.parametrize(
    "manifest",
    [
        [], {}, {"transactionTime": "SECRET-B", "output": []}, {"transactionTime": "2026-01-01T00:00:00Z"},
        {"transactionTime": "2026-01-01T00:00:00Z", "output": [{"type": "Patient", "url": "https://blob.example/x"}]},
        {"transactionTime": "2026-01-01T00:00:00Z", "output": [{"url": "x"}]},
    ],
)  # fmt: skip
async def test_L208_a_manifest_with_files_elsewhere_or_without_sense_is_no_manifest(
    gateway: RunningGateway, manifest: Any
) -> None:
    job = await begin(gateway, "sense")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(manifest)

    gateway.upstream.answer = answer
    reply = await ask(gateway, "GET", job, "sense")
    assert (reply.status, reply.reason) == (502, "upstream-invalid")
    check_no_marker(reply)
    assert b"blob.example" not in reply.raw


async def test_a_running_job_tells_how_far_it_is_in_the_gateways_words(gateway: RunningGateway) -> None:
    job = await begin(gateway, "running")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        said = {"X-Progress": "SECRET-B: 40% of 3 patients", "Retry-After": "7", "X-Host": "upstream-product"}
        return web.Response(status=202, headers=said)

    gateway.upstream.answer = answer
    reply = await ask(gateway, "GET", job, "running")
    assert (reply.status, reply.body) == (202, b"")
    assert (reply.header("X-Progress"), reply.header("Retry-After")) == ("in progress, 40%", "7")
    check_no_marker(reply)
    check_no_store(reply)


async def test_L209_a_job_of_other_policies_is_ended_and_not_found(gateway: RunningGateway) -> None:
    job = await begin(gateway, "stale")
    file = path_of(gateway, (await ask(gateway, "GET", job, "stale")).json["output"][0]["url"])
    shipped = Path(__file__).parents[2] / "policies" / "00-definitions.yaml"
    narrower = {"0.yaml": shipped.read_text(), "1.yaml": POLICY.replace("types: [Patient, ", "types: [")}
    before = gateway.gateway.engines.engine
    gateway.gateway.engines.engine = gateway.gateway._engine(load_policies(narrower))
    try:
        gateway.upstream.reset()
        reply = await ask(gateway, "GET", file, "stale")
        assert (reply.status, sent(gateway)) == (404, [])
        reply = await ask(gateway, "GET", job, "stale")
        assert (reply.status, sent(gateway)) == (404, ["DELETE /fhir/jobs/7"])
    finally:
        gateway.gateway.engines.engine = before


async def test_L209_a_caller_who_would_not_be_granted_the_export_today_gets_neither_status_nor_file(
    gateway: RunningGateway,
) -> None:
    job = await begin(gateway, "left")
    file = path_of(gateway, (await ask(gateway, "GET", job, "left")).json["output"][0]["url"])
    gateway.upstream.reset()
    reply = await ask(gateway, "GET", file, "left", organization="other")
    assert (reply.status, sent(gateway)) == (403, [])
    reply = await ask(gateway, "GET", job, "left", organization="other")
    assert (reply.status, sent(gateway)) == (403, ["DELETE /fhir/jobs/7"])


async def test_H250_a_file_that_breaks_its_form_is_no_file(gateway: RunningGateway) -> None:
    job = await begin(gateway, "broken")
    file = path_of(gateway, (await ask(gateway, "GET", job, "broken")).json["output"][0]["url"])

    for body, kind in ((b"SECRET-B\n", "application/fhir+ndjson"), (b"{}", "application/json")):

        async def answer(
            request: web.BaseRequest, body: bytes = body, kind: str = kind
        ) -> web.StreamResponse:
            return web.Response(body=body, content_type=kind)

        gateway.upstream.answer = answer
        reply = await ask(gateway, "GET", file, "broken")
        assert (reply.status, reply.reason) == (502, "upstream-invalid")
        check_no_marker(reply)


async def test_L209_of_what_follows_an_export_only_the_steps_that_its_rule_names_are_open(
    gateway: RunningGateway,
) -> None:
    shipped = next(path for path in (ROOT / "policies").glob("00-*.yaml"))
    named = POLICY.replace(
        '"operation:Patient/$export"]', '"operation:Patient/$export", "operation:export-status"]'
    )
    before = gateway.gateway.engines.engine
    files = {"0.yaml": shipped.read_text(), "1.yaml": named}
    gateway.gateway.engines.engine = gateway.gateway._engine(load_policies(files))
    try:
        job = await begin(gateway, "steps")
        gateway.upstream.reset()
        reply = await ask(gateway, "DELETE", job, "steps")
        assert (reply.status, reply.reason, sent(gateway)) == (403, "interaction-closed", [])
        status = await ask(gateway, "GET", job, "steps")
        assert status.status == 200, status.raw[:400]
        for each in status.json["output"]:
            reply = await ask(gateway, "GET", path_of(gateway, each["url"]), "steps")
            assert (reply.status, reply.reason) == (403, "interaction-closed")
        assert sent(gateway) == ["GET " + gateway.upstream.requests[0].target]
    finally:
        gateway.gateway.engines.engine = before
