"""Updates, patches and deletes: stored and resulting version are judged, and no answer tells what the caller may not know.

The five claims of each refusal: the status and reason, what the store saw, that nothing was stored, that no byte of
the stranger's record comes back, and that the same request about an own resource passes.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, Reply, RunningGateway, policies_with, start_gateway, stop_gateway
from tests.support.world import SECRET, world

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]
JSON = ("Content-Type", "application/fhir+json")
JSON_PATCH = ("Content-Type", "application/json-patch+json")
POLICY = """
policy: writing
version: 1
owner: tests
text: What may be changed.
status: enforce
rules:
  - rule: own-chart
    effect: permit
    who: {context: patient}
    may: [read, create, update, patch, delete]
    resources: [Observation, Patient]
    where: {compartment: {patient: "{token.patient}", membership: subject}}
    because: a patient keeps the own diary
  - rule: laboratory-takes-results
    effect: permit
    who: {context: system, org: laboratory}
    may: [update, patch, delete]
    resources: [Observation]
    where: {match: {Observation: "Observation?category=laboratory"}}
    conceal: true
    because: the laboratory corrects its results, which it does not read here
  - rule: laboratory-takes-vital-signs
    effect: permit
    who: {context: system, org: laboratory}
    may: [update]
    resources: [Observation]
    where: {match: {Observation: "Observation?category=vital-signs"}}
    conceal: true
    because: a second way in, which makes no way from one to the other
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("writes")
    running = await start_gateway(folder, policies=policies_with(folder, "90-writing.yaml", POLICY))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def observation(id_: str, patient: str = "A", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id_,
        "status": "amended",
        "subject": {"reference": f"Patient/{patient}"},
    } | more


def replace_op(path: str, value: Any, op: str = "replace") -> list[dict[str, Any]]:
    return [{"op": op, "path": path, "value": value}]


async def write(
    gateway: RunningGateway,
    method: str,
    path: str,
    body: Any = None,
    *,
    who: str = "pA-rw",
    headers: tuple[tuple[str, str], ...] = (),
    media: tuple[str, str] | None = None,
    scope: str | None = None,
) -> Reply:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if media is None:
        media = JSON_PATCH if method == "PATCH" else JSON
    token = await gateway.token(who, **({} if scope is None else {"scope": scope}))
    sent = [*([media] if media[1] else []), *headers]
    return await gateway.fhir(method, path, token=token, headers=sent, body=raw)


def untouched(gateway: RunningGateway) -> bool:
    sent = {request.method for request in gateway.upstream.requests}
    return gateway.upstream.resources == world() and sent <= {"GET"}


async def test_an_update_replaces_the_version_that_was_judged(gateway: RunningGateway) -> None:
    reply = await write(gateway, "PUT", "/Observation/a1", observation("a1"))
    assert (reply.status, reply.json["status"], reply.header("ETag")) == (200, "amended", 'W/"2"')
    assert [str(r) for r in gateway.upstream.requests] == [
        "GET /fhir/Observation/a1",
        "PUT /fhir/Observation/a1",
    ]
    assert gateway.upstream.requests[1].headers["if-match"] == 'W/"1"'


async def test_a_write_is_on_record_before_the_store_hears_of_it(gateway: RunningGateway) -> None:
    await write(gateway, "DELETE", "/Observation/a1", media=("", ""))
    begun, done = (await gateway.audit())[-2:]
    assert (begun["event"], begun["interaction"]) == ("write-begins", "delete")
    assert begun["upstream"] == ["GET Observation/a1", "DELETE Observation/a1"]
    assert (done["event"], done["status"]) == ("access", 204)
    assert done["interaction_id"] == begun["interaction_id"]


@dataclass(frozen=True)
class Refused:
    """A write that must not happen. store: whether the store may be asked for the stored version."""

    id: str
    method: str
    path: str
    body: Any
    status: int
    reason: str
    store: bool = True
    who: str = "pA-rw"
    headers: tuple[tuple[str, str], ...] = ()
    media: tuple[str, str] | None = None


_B = {"reference": "Patient/B"}
REFUSED = [
    Refused("H136 steal a stranger's resource", "PUT", "/Observation/b1", observation("b1"), 404, "not-found"),
    Refused("H137 move an own resource", "PUT", "/Observation/a1", observation("a1", "B"), 403,
            "scope-insufficient", store=False),
    Refused("H137b about B, performed by A", "PUT", "/Observation/a1",
            observation("a1", subject=_B, performer=[{"reference": "Patient/A"}]), 403, "scope-insufficient", store=False),
    Refused("H137c about nobody", "PUT", "/Observation/a1", {"resourceType": "Observation", "id": "a1"}, 403,
            "scope-insufficient", store=False),
    Refused("H140 another id in the body", "PUT", "/Observation/a1", observation("b1"), 400, "invalid-body", store=False),
    Refused("H140b no id in the body", "PUT", "/Observation/a1", {"resourceType": "Observation"}, 400,
            "invalid-body", store=False),
    Refused("H140c another type", "PUT", "/Observation/a1", {"resourceType": "Patient", "id": "a1"}, 400,
            "invalid-body", store=False),
    Refused("H132 a conditional reference", "PUT", "/Observation/a1",
            observation("a1", subject={"reference": "Patient?identifier=mrn|B"}), 403, "scope-insufficient", store=False),
    Refused("H144 delete a stranger's", "DELETE", "/Observation/b1", None, 404, "not-found"),
    Refused("H144b delete a stranger", "DELETE", "/Patient/B", None, 404, "not-found", store=False),
    Refused("H146 a vendor's deletion switch", "DELETE", "/Observation/a1?_cascade=delete", None, 400,
            "unknown-parameter", store=False),
    Refused("H146b another", "DELETE", "/Observation/a1?_hardDelete=true", None, 400, "unknown-parameter", store=False),
    Refused("H150 a view that is not whole", "PUT", "/Observation/a1",
            observation("a1", meta={"tag": [{"code": "SUBSETTED"}]}), 400, "invalid-body", store=False),
    Refused("I153 patch the subject away", "PATCH", "/Observation/a1", replace_op("/subject/reference", "Patient/B"),
            403, "scope-insufficient"),
    Refused("I153b patch a stranger's to be mine", "PATCH", "/Observation/b1", replace_op("/subject/reference",
            "Patient/A"),
            404, "not-found"),
    Refused("I-test an oracle in a test", "PATCH", "/Observation/b1", replace_op("/status", "final", "test"),
            404, "not-found"),
    Refused("I-path an oracle in a path", "PATCH", "/Observation/b1", replace_op("/nothing/there", 1), 404, "not-found"),
    Refused("I160 functions in FHIRPath Patch", "PATCH", "/Observation/a1",
            {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
                {"name": "type", "valueCode": "replace"}, {"name": "path",
                "valueString": "Observation.subject.resolve().id"},
                {"name": "value", "valueString": "B"}]}]}, 400, "invalid-body", media=JSON),
    Refused("I161 XML Patch", "PATCH", "/Observation/a1", b"<diff/>", 415, "unsupported-media-type", store=False,
            media=("Content-Type", "application/xml-patch+xml")),
    Refused("I162 plain JSON", "PATCH", "/Observation/a1", [], 415, "unsupported-media-type", store=False,
            media=("Content-Type", "application/json")),
    Refused("I162b a merge patch", "PATCH", "/Observation/a1", {}, 415, "unsupported-media-type", store=False,
            media=("Content-Type", "application/merge-patch+json")),
    Refused("I164 patch the id", "PATCH", "/Observation/a1", replace_op("/id", "b1"), 400, "invalid-body"),
    Refused("I164b patch the type", "PATCH", "/Observation/a1", replace_op("/resourceType", "Patient"), 400,
            "invalid-body"),
    Refused("I164c patch the version", "PATCH", "/Observation/a1", replace_op("/meta/versionId", "9"), 400, "invalid-body"),
    Refused("I166 copies that double", "PATCH", "/Observation/a1",
            [{"op": "copy", "from": "/code", "path": f"/code/x{n}"} for n in range(60)], 413, "too-large"),
    Refused("I-fails a path that leads nowhere", "PATCH", "/Observation/a1", replace_op("/nothing/there", 1),
            422, "patch-failed"),
    Refused("412 another version is meant", "PUT", "/Observation/a1", observation("a1"), 412, "version-conflict",
            headers=(("If-Match", 'W/"7"'),)),
    Refused("412 delete", "DELETE", "/Observation/a1", None, 412, "version-conflict", headers=(("If-Match", 'W/"7"'),)),
    Refused("412 patch", "PATCH", "/Observation/a1", replace_op("/status", "amended"), 412, "version-conflict",
            headers=(("If-Match", 'W/"7"'),)),
    Refused("a foreign version is no oracle", "PUT", "/Observation/b1", observation("b1"), 404, "not-found",
            headers=(("If-Match", 'W/"7"'),)),
    Refused("If-Match is one tag", "PUT", "/Observation/a1", observation("a1"), 400, "ambiguous-header", store=False,
            headers=(("If-Match", 'W/"1", W/"2"'),)),
    Refused("If-Match is no star", "PUT", "/Observation/a1", observation("a1"), 400, "ambiguous-header", store=False,
            headers=(("If-Match", "*"),)),
    Refused("If-None-Match is closed", "PUT", "/Observation/a1", observation("a1"), 403, "interaction-closed", store=False,
            headers=(("If-None-Match", "*"),)),
    Refused("a coded body that is cut off", "PUT", "/Observation/a1", b"\x1f\x8b", 400, "invalid-body", store=False,
            headers=(("Content-Encoding", "gzip"),)),
    Refused("XML in another encoding", "PUT", "/Observation/a1", b"<Observation/>", 415, "unsupported-media-type",
            store=False, media=("Content-Type", "application/fhir+xml; charset=utf-16")),
    Refused("members twice", "PUT", "/Observation/a1", b'{"resourceType":"Observation","id":"a1","id":"b1"}', 400,
            "invalid-body", store=False),
    Refused("a read scope does not write", "PUT", "/Observation/a1", observation("a1"), 403, "scope-insufficient",
            store=False, who="pA-r"),
    Refused("from one permit's to another's", "PUT", "/Observation/a1",
            observation("a1", category=[{"coding": [{"code": "vital-signs"}]}]), 403, "no-permit", who="lab-w"),
    Refused("patch without the right to read", "PATCH", "/Observation/a1", replace_op("/status", "final", "test"), 403,
            "no-permit", store=False, who="lab-w"),
    Refused("H32 update of a whole type", "PUT", "/Observation", observation("a1"), 400, "invalid-parameter", store=False),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
async def test_what_may_not_be_written_is_refused_and_nothing_is_stored(
    gateway: RunningGateway, case: Refused
) -> None:
    who, scope = ("lab", "system/*.cruds") if case.who == "lab-w" else (case.who, None)
    reply = await write(
        gateway,
        case.method,
        case.path,
        case.body,
        who=who,
        headers=case.headers,
        media=case.media,
        scope=scope,
    )
    assert (reply.status, reply.reason) == (case.status, case.reason), reply.raw[:400]
    assert untouched(gateway)
    assert case.store or not gateway.upstream.requests
    assert SECRET.encode() not in reply.raw


@pytest.mark.parametrize(
    ("method", "body", "media"),
    [
        ("PUT", observation("a1"), JSON),
        ("PATCH", replace_op("/status", "amended"), JSON_PATCH),
        ("PATCH", [{"op": "test", "path": "/status", "value": "final"}], JSON_PATCH),
        (
            "PATCH",
            {
                "resourceType": "Parameters",
                "parameter": [
                    {
                        "name": "operation",
                        "part": [
                            {"name": "type", "valueCode": "replace"},
                            {"name": "path", "valueString": "Observation.status"},
                            {"name": "value", "valueCode": "amended"},
                        ],
                    }
                ],
            },
            JSON,
        ),
        ("DELETE", None, ("", "")),
    ],
)
async def test_the_same_of_an_own_resource_passes(
    gateway: RunningGateway, method: str, body: Any, media: tuple[str, str]
) -> None:
    reply = await write(
        gateway, method, "/Observation/a1", body, media=media, headers=(("If-Match", 'W/"1"'),)
    )
    assert reply.status in (200, 204), reply.raw[:400]
    sent = gateway.upstream.requests[-1]
    assert (sent.method, sent.headers["if-match"]) == ("DELETE" if method == "DELETE" else "PUT", 'W/"1"')


@pytest.mark.parametrize("headers", [(), (("If-Match", 'W/"1"'),), (("If-Match", 'W/"7"'),)])
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PUT", observation("{}")),
        ("PUT", observation("{}", "B")),
        ("PATCH", replace_op("/status", "final", "test")),
        ("PATCH", replace_op("/status", "x", "test")),
        ("PATCH", replace_op("/nothing", "x")),
        ("DELETE", None),
    ],
)
async def test_a_foreign_id_is_answered_as_one_that_nobody_has(
    gateway: RunningGateway, method: str, body: Any, headers: tuple[tuple[str, str], ...]
) -> None:
    answers = []
    for id_ in ("b1", "not-there"):
        raw = json.dumps(body).replace("{}", id_).encode() if body is not None else b""
        reply = await write(
            gateway,
            method,
            f"/Observation/{id_}",
            raw,
            headers=headers,
            scope="patient/*.rud",
        )
        volatile = {"x-fapi-interaction-id", "date", "dpop-nonce"}
        answers.append((reply.status, reply.body, [h for h in reply.headers if h[0].lower() not in volatile]))
    assert answers[0] == answers[1]
    assert answers[0][0] in (403, 404)
    assert untouched(gateway)


async def test_H138_update_as_create_needs_the_rights_to_create_and_to_update(
    gateway: RunningGateway,
) -> None:
    for scope in ("patient/*.ru", "patient/*.cr"):
        reply = await write(gateway, "PUT", "/Observation/mine", observation("mine"), scope=scope)
        assert reply.status in (403, 404)
        assert untouched(gateway)
    reply = await write(gateway, "PUT", "/Observation/mine", observation("mine"))
    assert (reply.status, reply.json["id"]) == (201, "mine")
    assert reply.header("Location") == f"{gateway.origin}{MOUNT}/Observation/mine/_history/1"
    sent = gateway.upstream.requests[-1]
    assert (str(sent), sent.headers["if-none-match"]) == ("PUT /fhir/Observation/mine", "*")


async def test_what_was_deleted_is_not_made_again_by_an_update_with_a_version(
    gateway: RunningGateway,
) -> None:
    reply = await write(
        gateway, "PUT", "/Observation/gone", observation("gone"), headers=(("If-Match", 'W/"1"'),)
    )
    assert (reply.status, reply.reason) == (404, "not-found")
    assert untouched(gateway)


async def test_H148_a_write_answer_shows_what_may_be_read_only(gateway: RunningGateway) -> None:
    body = observation("a1", category=[{"coding": [{"code": "laboratory"}]}])
    for headers in ((), (("Prefer", "return=representation"),)):
        reply = await write(
            gateway, "PUT", "/Observation/a1", body, who="lab", scope="system/*.cruds", headers=headers
        )
        assert (reply.status, reply.body) == (200, b"")
        assert reply.header("ETag") is not None


async def test_a_write_is_answered_as_the_caller_prefers(gateway: RunningGateway) -> None:
    minimal = await write(
        gateway, "PUT", "/Observation/a1", observation("a1"), headers=(("Prefer", "return=minimal"),)
    )
    assert (minimal.status, minimal.body) == (200, b"")
    outcome = await write(
        gateway, "PUT", "/Observation/a1", observation("a1"), headers=(("Prefer", "return=OperationOutcome"),)
    )
    assert (outcome.status, outcome.json["resourceType"]) == (200, "OperationOutcome")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_of_two_writers_of_one_version_one_is_told(gateway: RunningGateway, method: str) -> None:
    bodies = {"PUT": observation("a1"), "DELETE": None, "PATCH": replace_op("/status", "amended")}
    replies = await asyncio.gather(
        *(
            write(gateway, method, "/Observation/a1", bodies[method], headers=(("If-Match", 'W/"1"'),))
            for _ in range(4)
        )
    )
    done = [reply.status for reply in replies if reply.status in (200, 204)]
    assert len(done) == 1
    assert {reply.reason for reply in replies if reply.status not in (200, 204)} <= {
        "version-conflict",
        "not-found",
    }


async def test_a_version_that_comes_between_judging_and_writing_is_never_lost(
    gateway: RunningGateway,
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            held = world()["Observation/a1"]
            gateway.upstream.resources["Observation/a1"] = held | {"meta": {"versionId": "2"}}
            gateway.upstream.answer = None
            return web.json_response(held, headers={"ETag": 'W/"1"'}, content_type="application/fhir+json")
        raise AssertionError

    gateway.upstream.answer = answer
    reply = await write(gateway, "PUT", "/Observation/a1", observation("a1"))
    assert (reply.status, reply.reason) == (412, "version-conflict")
    assert gateway.upstream.version("Observation/a1") == "2"


@pytest.mark.parametrize(
    ("change", "tag"),
    [({"meta": {}}, None), ({"meta": {"versionId": "2"}}, 'W/"1"'), ({"meta": {"versionId": "a b"}}, None)],
)
async def test_a_store_that_does_not_name_one_version_is_not_written_to(
    gateway: RunningGateway, change: dict[str, Any], tag: str | None
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Type": "application/fhir+json", **({"ETag": tag} if tag else {})}
        return web.Response(body=json.dumps(world()["Observation/a1"] | change).encode(), headers=headers)

    gateway.upstream.answer = answer
    reply = await write(gateway, "PUT", "/Observation/a1", observation("a1"))
    assert (reply.status, reply.reason) == (502, "upstream-invalid")
    assert {request.method for request in gateway.upstream.requests} == {"GET"}


async def test_addresses_of_the_gateway_are_stored_as_the_store_writes_them(gateway: RunningGateway) -> None:
    subject = {"reference": f"{gateway.origin}{MOUNT}/Patient/A"}
    reply = await write(gateway, "PUT", "/Observation/a1", observation("a1", subject=subject))
    assert reply.status == 200
    assert gateway.upstream.resources["Observation/a1"]["subject"] == {"reference": "Patient/A"}


async def test_a_store_without_versions_is_written_to_where_the_operator_says_so(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    shipped = Path(__file__).parents[2] / "policies" / "00-definitions.yaml"
    (policies / shipped.name).write_text(shipped.read_text())
    (policies / "90-writing.yaml").write_text(POLICY)
    running = await start_gateway(tmp_path, policies=policies, unversioned_writes=True)
    bare = world()["Observation/a1"] | {"meta": {}}

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(bare, content_type="application/fhir+json")

    running.upstream.answer = answer
    try:
        reply = await write(running, "PUT", "/Observation/a1", observation("a1"))
    finally:
        await stop_gateway(running)
    assert reply.status == 200
    assert "if-match" not in running.upstream.requests[-1].headers


async def test_H150_who_sees_a_part_does_not_write_over_the_whole(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    shipped = Path(__file__).parents[2] / "policies" / "00-definitions.yaml"
    (policies / shipped.name).write_text(shipped.read_text())
    hidden = """  - rule: values-are-not-shown
    effect: deny
    who: {context: patient}
    may: [read]
    resources: [Observation]
    fields: [Observation.code]
    because: the code tells what was looked for
"""
    (policies / "90-writing.yaml").write_text(POLICY + hidden)
    running = await start_gateway(tmp_path, policies=policies)
    guess = [{"op": "test", "path": "/code/coding/0/code", "value": "4548-4"}]
    try:
        for method, body in (
            ("PUT", observation("a1")),
            ("PATCH", guess),
            ("PATCH", [guess[0] | {"value": "x"}]),
        ):
            reply = await write(running, method, "/Observation/a1", body)
            assert (reply.status, reply.reason) == (403, "policy-denied")
            assert untouched(running)
    finally:
        await stop_gateway(running)
