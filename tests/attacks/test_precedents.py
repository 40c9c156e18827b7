"""Reads that follow one like them are answered, recorded and counted as if none had gone before.

Each sequence is played at two gateways that differ in this alone (tests.support.twins). Each test has a token of its own,
so that its heads are like those of no other.
"""

import asyncio
import gc
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from authz.storage.store import StoreUnavailable
from gateway.audit.log import AuditUnavailable
from gateway.demo.client import Key
from gateway.wire import likenesses
from tests.support.gateway import MOUNT, Reply, RunningGateway
from tests.support.hostile_upstream import Handler
from tests.support.twins import NOW, Line, Twins, start_twins, stop_twins

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("precedents")]
FHIR = "application/fhir+json; charset=utf-8"
OBSERVATION = {
    "resourceType": "Observation", "id": "x", "meta": {"versionId": "1"}, "status": "final",
    "code": {"text": "x"}, "subject": {"reference": "Patient/A"}, "valueQuantity": {"value": 6.5},
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def twins(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Twins]:
    with pytest.MonkeyPatch.context() as patch:
        started = await start_twins(tmp_path_factory.mktemp("twins"), patch)
        yield started
        await stop_twins(started)


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def as_at_first(twins: Twins) -> AsyncIterator[None]:
    yield
    for gateway in twins.each:
        gateway.upstream.reset()
    if twins.now[0] != NOW:
        await twins.at(NOW)


def name() -> str:
    """The name of a token that no other test has."""
    _NAMES.append(f"token-{len(_NAMES)}")
    return _NAMES[-1]


_NAMES: list[str] = []


def plain(value: Any) -> bytes:
    """JSON as most stores write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def answering(body: bytes, status: int = 200, **headers: str) -> Handler:
    """A store that answers everything with this."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        said = {"Content-Type": FHIR, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return web.Response(status=status, body=body, headers=said)

    return answer


async def warm(twins: Twins, **more: Any) -> str:
    """The name of a token with which a read of an Observation has a precedent that is followed to the end."""
    token = name()
    twins.store_answers(answering(plain(OBSERVATION), ETag='W/"1"'))
    before = twins.uses.shortly
    for _ in range(2):
        assert (await twins.read("/Observation/x", name=token, **more)).status == 200
    assert twins.uses.shortly == before + 1
    return token


async def follows(twins: Twins, path: str = "/Observation/x", **more: Any) -> Reply:
    """The answer to a read that has a precedent."""
    before = twins.uses.followed
    reply = await twins.read(path, **more)
    assert twins.uses.followed == before + 1
    return reply


async def test_a_read_like_one_before_is_answered_recorded_and_counted_the_same(twins: Twins) -> None:
    token = await warm(twins)
    for id_ in ("x", "y", "x", "A-very-long-id-0123456789-0123456789-0123456789-0123456789-012345"[:64]):
        twins.store_answers(answering(plain(OBSERVATION | {"id": id_})))
        reply = await follows(twins, f"/Observation/{id_}", name=token)
        assert (reply.status, reply.json["id"]) == (200, id_)


BIG = OBSERVATION | {"note": [{"text": "n" * 5000}]}
LABELLED = OBSERVATION | {"meta": {"security": [{"system": "urn:l", "code": "R"}]}}
FOREIGN = OBSERVATION | {"subject": {"reference": "Patient/B"}}
ODD_ANSWERS: dict[str, Handler] = {
    "another-id": answering(plain(OBSERVATION | {"id": "z"})),
    "another-type": answering(plain({"resourceType": "Patient", "id": "x"})),
    "no-type": answering(plain({"id": "x"})),
    "a-type-that-is-no-text": answering(plain(OBSERVATION | {"resourceType": 7})),
    "an-outcome": answering(plain({"resourceType": "OperationOutcome", "issue": []})),
    "a-stranger": answering(plain(FOREIGN)),
    "nobody": answering(plain({k: v for k, v in OBSERVATION.items() if k != "subject"})),
    "two-subjects": answering(plain(OBSERVATION)[:-1] + b',"subject":{"reference":"Patient/B"}}'),
    "two-ids": answering(b'{"id":"y",' + plain(OBSERVATION)[1:]),
    "labels": answering(plain(LABELLED)),
    "labels-that-are-none": answering(plain(OBSERVATION | {"meta": {"security": "R"}})),
    "contained": answering(plain(OBSERVATION | {"contained": [{"resourceType": "Patient", "id": "c"}]})),
    "spaces": answering(json.dumps(OBSERVATION, indent=1).encode()),
    "escapes": answering(plain(OBSERVATION).replace(b"final", b"fin\\u0061l")),
    "numbers-as-they-were": answering(plain(OBSERVATION).replace(b"6.5", b"6.50")),
    "a-long-number": answering(plain(OBSERVATION).replace(b"6.5", b"9" * 400)),
    "a-byte-order-mark": answering(b"\xef\xbb\xbf" + plain(OBSERVATION)),
    "not-utf-8": answering(plain(OBSERVATION).replace(b"final", b"\xff")),
    "half-a-pair": answering(plain(OBSERVATION).replace(b"final", b"\\ud800")),
    "not-json": answering(b"<Observation/>"),
    "half-of-it": answering(plain(OBSERVATION)[:-9]),
    "nothing": answering(b""),
    "a-list": answering(b"[" + plain(OBSERVATION) + b"]"),
    "deep": answering(plain(OBSERVATION)[:-1] + b',"extension":' + b"[" * 80 + b"]" * 80 + b"}"),
    "large": answering(plain(BIG)),
    "larger-than-is-judged": answering(plain(OBSERVATION | {"note": [{"text": "n" * 2_000_000}]})),
    "html": answering(b"<html>", Content_Type="text/html"),
    "plain-json": answering(plain(OBSERVATION), Content_Type="application/json"),
    "another-charset": answering(plain(OBSERVATION), Content_Type="application/fhir+json; charset=utf-16"),
    "another-version": answering(plain(OBSERVATION), Content_Type="application/fhir+json; fhirVersion=3.0"),
    "no-type-of-body": answering(plain(OBSERVATION), Content_Type=""),
    "identity": answering(plain(OBSERVATION), Content_Encoding="identity"),
    "gzip": answering(gzip.compress(plain(OBSERVATION), mtime=0), Content_Encoding="gzip"),
    "gzip-that-is-none": answering(plain(OBSERVATION), Content_Encoding="gzip"),
    "half-of-gzip": answering(gzip.compress(plain(BIG), mtime=0)[:-20], Content_Encoding="gzip"),
    "deflate": answering(zlib.compress(plain(OBSERVATION)), Content_Encoding="deflate"),
    "a-tag-of-odd-bytes": answering(plain(OBSERVATION), ETag='W/"\xfc"'),
    "another-tag": answering(plain(OBSERVATION), ETag='W/"2"', Last_Modified="Wed, 01 Jan 2025 00:00:00 GMT"),
    "a-place": answering(plain(OBSERVATION), Content_Location="http://elsewhere.example/Observation/x"),
    "headers-of-its-own": answering(plain(OBSERVATION), Set_Cookie="a=b", Link="<http://x>; rel=next"),
    "201": answering(plain(OBSERVATION), 201),
    "204": answering(b"", 204),
    "206": answering(plain(OBSERVATION), 206),
    "301": answering(b"", 301, Location="/Observation/y"),
    "304": answering(b"", 304),
    "400": answering(plain(OBSERVATION), 400),
    "401": answering(b"", 401),
    "403": answering(plain(OBSERVATION), 403),
    "404": answering(plain({"resourceType": "OperationOutcome", "issue": []}), 404),
    "410": answering(b"", 410),
    "412": answering(b"", 412),
    "429": answering(b"", 429),
    "500": answering(b"", 500),
    "503": answering(b"", 503, Retry_After="120"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_ANSWERS)
async def test_what_a_store_answers_later_is_looked_at_as_at_first(twins: Twins, odd: str) -> None:
    token = await warm(twins)
    twins.store_answers(ODD_ANSWERS[odd])
    reply = await follows(twins, name=token)
    if odd in ("another-id", "another-type", "a-stranger", "nobody", "an-outcome"):
        assert (reply.status, b"6.5" in reply.body) == (404, False)
    twins.store_answers(answering(plain(OBSERVATION)))
    assert (await follows(twins, name=token)).status == 200


async def test_addresses_of_the_store_leave_as_ours(twins: Twins) -> None:
    token = await warm(twins)

    async def with_addresses(request: web.BaseRequest) -> web.StreamResponse:
        base = str(request.url).rpartition("/Observation")[0]
        value = OBSERVATION | {"hasMember": [{"reference": f"{base}/Observation/y"}]}
        headers = {"Content-Location": f"{base}/Observation/x/_history/1"}
        return web.Response(body=plain(value), content_type="application/fhir+json", headers=headers)

    twins.store_answers(with_addresses)
    reply = await follows(twins, name=token)
    assert reply.json["hasMember"] == [{"reference": f"{twins.first.origin}{MOUNT}/Observation/y"}]
    assert reply.header("content-location") == f"{twins.first.origin}{MOUNT}/Observation/x/_history/1"


async def test_an_answer_that_breaks_off_is_none(twins: Twins) -> None:
    token = await warm(twins)

    async def half(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FHIR, "Content-Length": "500"})
        await response.prepare(request)
        await response.write(plain(OBSERVATION)[:40])
        assert request.transport is not None
        request.transport.abort()
        return response

    twins.store_answers(half)
    assert (await follows(twins, name=token)).status == 502


async def test_an_answer_in_chunks_is_the_same(twins: Twins) -> None:
    token = await warm(twins)

    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": FHIR})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for byte in plain(OBSERVATION):
            await response.write(bytes([byte]))
        return response

    twins.store_answers(chunked)
    assert (await follows(twins, name=token)).json == OBSERVATION


@pytest.mark.parametrize(
    "headers",
    [
        (), (("Accept", "application/fhir+json"),), (("Accept", "*/*"), ("Accept-Encoding", "gzip")),
        (("Accept-Encoding", "gzip;q=0"),), (("Accept-Encoding", "identity;q=1, gzip;q=0.5"),),
        (("accept-language", "nl"), ("USER-AGENT", "\xfcber"), ("Cache-Control", "no-cache"), ("Pragma", "no-cache")),
        (("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=b")),
        (("Traceparent", "securus-mark-r" * 3 + "securus-mark"),),
        (("traceparent", ('securus-mark-i["securus-mark-p"]' * 2)[:55]),),
        (("tracestate", "securus-mark-r"),), (("tracestate", "securus-mark-i"),),
        (("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")),
        (("Accept", "application/fhir+json"), ("Accept", "application/json")),
        (("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "cross-site")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [OBSERVATION, BIG, LABELLED], ids=["short", "large", "labels"])
async def test_headers_of_the_caller_mean_what_they_mean_to_the_first(
    twins: Twins, headers: tuple[tuple[str, str], ...], value: dict[str, Any]
) -> None:
    token = name()
    twins.store_answers(answering(plain(value), ETag='"1"'))
    for _ in range(3):
        assert (await twins.read("/Observation/x", name=token, headers=headers)).status == 200
    assert (await twins.read("/Observation/b1", name=token, headers=headers)).status == 404


@pytest.mark.parametrize(
    "headers",
    [
        (("If-None-Match", 'W/"1"'),), (("If-Modified-Since", "Wed, 01 Jan 2025 00:00:00 GMT"),), (("If-Match", 'W/"2"'),),
        (("Accept", "application/fhir+xml"),), (("Accept", "text/html"),), (("Origin", "https://app.example"),),
        (("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site")), (("X-Provenance", "{}"),),
        (("Prefer", "handling=lenient"),), (("X-Break-Glass-Reason", "an emergency of somebody"),), (("Cookie", "a=b"),),
        (("X-Http-Method-Override", "DELETE"),), (("Content-Type", "application/fhir+json"),), (("Range", "bytes=0-1"),),
        (("Content-Length", "0"),), (("Connection", "close"),), (("Expect", "100-continue"),), (("X-Whatever", "x"),),
        (("Upgrade", "websocket"), ("Connection", "upgrade")), (("Content-Encoding", "gzip"),), (("Referer", "x"),),
        (("X-Fapi-Interaction-Id", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),), (("X-Fapi-Interaction-Id", "none"),),
        (("Client-Cert", "x"),), (("X-Request-Id", "x"),),
    ],
)  # fmt: skip
async def test_headers_that_decide_something_decide_it_each_time(
    twins: Twins, headers: tuple[tuple[str, str], ...]
) -> None:
    """Where none before had them, and where one with the same had."""
    token = await warm(twins)
    twins.store_answers(answering(plain(OBSERVATION), ETag='W/"1"'))
    for _ in range(2):
        await twins.read("/Observation/x", name=token, headers=headers)
        await twins.read("/Observation/y", name=token, headers=headers)


async def test_the_interaction_id_that_a_caller_gives_is_in_answer_and_record(twins: Twins) -> None:
    token, id_ = name(), "6BA7B810-9dad-11d1-80b4-00c04fd430c8"
    twins.store_answers(answering(plain(OBSERVATION)))
    for _ in range(2):
        reply = await twins.read("/Observation/x", name=token, headers=(("x-fapi-interaction-id", id_),))
        assert reply.header("x-fapi-interaction-id") == id_
        assert (await twins.first.audit())[-1]["interaction_id"] == id_


async def test_reads_with_interaction_ids_of_their_own_follow_one_another(twins: Twins) -> None:
    token, before = name(), twins.uses.shortly
    twins.store_answers(answering(plain(OBSERVATION)))
    for number in range(3):
        id_ = f"6ba7b810-9dad-11d1-80b4-00c04fd430c{number}"
        reply = await twins.read("/Observation/x", name=token, headers=(("x-fapi-interaction-id", id_),))
        assert reply.header("x-fapi-interaction-id") == id_
        assert (await twins.first.audit())[-1]["interaction_id"] == id_
    assert twins.uses.shortly == before + 2


# Tokens, keys and proofs


async def test_a_proof_that_was_used_is_refused_the_second_time(twins: Twins) -> None:
    token = await warm(twins)
    heads = {id(each): await twins.head(each, "/Observation/x", name=token) for each in twins.each}
    replies = [await twins.same(lambda g: twins.line(g).ask(heads[id(g)])) for _ in range(3)]
    assert [each.status for each in replies] == [200, 401, 401]


@pytest.mark.parametrize(
    "claims",
    [
        {"htm": "POST"}, {"htu": "https://gw.example/fhir/r4/Observation/x"}, {"iat": NOW - 400}, {"iat": NOW + 400},
        {"nonce": "x"}, {"nonce": None}, {"ath": "x"}, {"jti": ""}, {"exp": NOW - 1000}, {"nbf": NOW + 1000},
    ],
)  # fmt: skip
async def test_a_proof_that_is_not_right_is_refused_after_those_that_were(
    twins: Twins, claims: dict[str, Any]
) -> None:
    token = await warm(twins)

    async def ask(gateway: RunningGateway) -> Reply:
        head = await twins.head(
            gateway, "/Observation/x", name=token,
            proof=lambda url, text: gateway.proof("GET", url, text, **claims),
        )  # fmt: skip
        return await twins.line(gateway).ask(head)

    before = twins.uses.followed
    assert (await twins.same(ask)).status == 401
    assert twins.uses.followed == before + 1
    assert (await follows(twins, name=token)).status == 200


@pytest.mark.parametrize("said", ["x", "a.b.c", ".", "..", "x" * 3000, "eyJ.e30.", ""])
async def test_what_is_no_proof_is_refused_after_those_that_were(twins: Twins, said: str) -> None:
    token = await warm(twins)
    assert (await twins.read("/Observation/x", name=token, proof=lambda *_: said)).status in (400, 401)
    assert (await follows(twins, name=token)).status == 200


async def test_the_proof_of_another_key_is_refused(twins: Twins) -> None:
    token, own, other = await warm(twins), twins.first.key, Key.new()
    try:
        twins.first.key = twins.plain.key = other
        assert (await follows(twins, name=token)).status == 401
    finally:
        twins.first.key = twins.plain.key = own
    assert (await follows(twins, name=token)).status == 200


async def test_the_proof_for_one_resource_is_none_for_another(twins: Twins) -> None:
    token = await warm(twins)

    async def ask(gateway: RunningGateway) -> Reply:
        head = await twins.head(gateway, "/Observation/x", name=token)
        return await twins.line(gateway).ask(head.replace(b"/Observation/x ", b"/Observation/y "))

    assert (await twins.same(ask)).status == 401


async def test_the_token_of_another_has_precedents_of_its_own(twins: Twins) -> None:
    """The heads differ in the token alone: of A all is shown to A, nothing to a token of B, one of fewer scopes, or none."""
    token = await warm(twins)
    for claims in (
        {"patient": "B", "fhirUser": "Patient/B"},
        {"scope": "patient/Patient.rs"},
        {"patient": ...},
    ):
        assert (await twins.read("/Observation/x", name=name(), **claims)).status in (403, 404)
    assert (await follows(twins, name=token)).status == 200


async def test_a_token_that_expires_is_refused_from_that_second(twins: Twins) -> None:
    token = await warm(twins)
    for seconds, status in ((299, 200), (300, 401), (301, 401), (1000, 401)):
        await twins.at(NOW + seconds)
        assert (await follows(twins, name=token)).status == status


async def test_a_nonce_that_ages_is_followed_by_a_fresh_one(twins: Twins) -> None:
    token = await warm(twins)
    twins.keep_nonces()
    fresh = []
    for seconds in (0, 100, 160, 250, 290):
        twins.now[0] = NOW + seconds
        fresh.append((await follows(twins, name=token)).header("DPoP-Nonce"))
    assert fresh[0] is None
    assert fresh[-1] is not None


async def test_a_token_that_is_revoked_is_refused_at_once(twins: Twins) -> None:
    token = await warm(twins)
    for gateway in twins.each:
        gateway.gateway.authorization.resource_server._revocations.add(token)
    assert (await follows(twins, name=token)).status == 401


async def test_a_grant_that_is_revoked_is_refused_at_once(twins: Twins) -> None:
    grant = name()
    token = await warm(twins, grant_id=grant)
    for gateway in twins.each:
        gateway.gateway.authorization.resource_server._revocations.add(grant)
    assert (await follows(twins, name=token)).status == 401


async def test_a_client_that_is_suspended_is_refused_at_once(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await warm(twins, client_id="soon-stopped")
    for gateway in twins.each:
        directory = gateway.gateway.authorization.clients
        monkeypatch.setattr(directory, "is_suspended", "soon-stopped".__eq__)
    assert (await follows(twins, name=token)).status == 401


async def test_a_token_whose_key_was_taken_away_is_refused(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await warm(twins)
    with monkeypatch.context() as patch:
        for gateway in twins.each:
            keys = gateway.gateway.keys
            patch.setattr(keys, "public_key", lambda kid: None)
            patch.setattr(keys, "generation", keys.generation + 1)
        assert (await follows(twins, name=token)).status == 401
        assert (await twins.read("/Observation/x", name=token)).status == 401


async def test_a_token_may_have_unbound_and_bearer_forms_that_are_refused_each_time(twins: Twins) -> None:
    token = await warm(twins)

    async def as_bearer(gateway: RunningGateway) -> Reply:
        head = await twins.head(gateway, "/Observation/x", name=token)
        return await twins.line(gateway).ask(head.replace(b"Authorization: DPoP", b"Authorization: Bearer"))

    for _ in range(2):
        assert (await twins.same(as_bearer)).status == 401


# What fails on the way


@pytest.mark.parametrize(
    ("where", "what"),
    [("claim", StoreUnavailable("away")), ("claim", RuntimeError("broken")), ("claim", TimeoutError())],
)
async def test_a_store_of_claims_that_is_away_refuses(
    twins: Twins, where: str, what: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await warm(twins)

    async def away(*_: Any, **__: Any) -> Any:
        raise what

    with monkeypatch.context() as patch:
        for gateway in twins.each:
            patch.setattr(gateway.gateway.store, where, away)
        assert (await follows(twins, name=token)).status in (500, 503)
    assert (await follows(twins, name=token)).status == 200


@pytest.mark.parametrize("answer", ["usual", "a-stranger", "labels", "500"])
@pytest.mark.parametrize("times", [1, 99])
async def test_without_a_record_there_is_no_answer(
    twins: Twins, answer: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the log takes the next record: what was not recorded is not recorded as something else."""
    token = await warm(twins)
    twins.store_answers(ODD_ANSWERS.get(answer, answering(plain(OBSERVATION))))
    with monkeypatch.context() as patch:
        for gateway in twins.each:
            patch.setattr(
                gateway.gateway.store, "append_audit", failing(gateway.gateway.store.append_audit, times)
            )
            patch.setattr(
                gateway.gateway.store, "extend_audit", failing(gateway.gateway.store.extend_audit, times)
            )
        assert (await follows(twins, name=token)).status == 503
    twins.store_answers(answering(plain(OBSERVATION)))
    assert (await follows(twins, name=token)).status == 200


def failing(right: Any, times: int) -> Any:
    """The same, the first so many times away."""
    left = [times]

    async def attempt(*said: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("away")
        return await right(*said, **more)

    return attempt


async def test_a_log_that_takes_no_more_refuses(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await warm(twins)

    async def full(*_: Any) -> None:
        raise AuditUnavailable("50000 records wait to be written")

    with monkeypatch.context() as patch:
        for gateway in twins.each:
            patch.setattr(gateway.gateway.audit, "record_written", full)
        assert (await follows(twins, name=token)).status == 503


async def test_a_store_that_is_gone_is_502_or_504_each_time(twins: Twins) -> None:
    token = await warm(twins)

    async def hangs_up(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    twins.store_answers(hangs_up)
    assert (await follows(twins, name=token)).status in (502, 503)


# Paths


PATHS = [
    "/Observation/..", "/Observation/.", "/Observation/a.b", "/Observation/%78", "/Observation/x?_summary=true",
    "/Observation/x?", "/Observation/x/", "/Observation//x", "/Observation/x/_history", "/Observation/x/_history/1",
    "/Observation/_history", "/Observation/_search", "/Observation/$lastn", "/Observation/metadata", "/Observation/",
    "/Observation", "/Observation/" + "a" * 64, "/Observation/" + "a" * 65, "/Observation/x;y", "/Observation/x%2Fy",
    "/Observation/x%00", "/observation/x", "/Observatio/x", "/Patient/A", "/Patient/B", "/Patient/A/Observation",
    "/Patient/Observation/x", "/metadata", "/metadata/x", "/Binary/x", "/Consent/x", "/x", "/Observation/x?access_token=1",
    "/Observation/x?_format=xml", "/Observation/x?_page=x", "/Observation/x#y", "/_file/x", "/_job/x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_what_a_path_means_does_not_hang_on_those_before(twins: Twins, path: str) -> None:
    token = await warm(twins)
    for _ in range(2):
        await twins.read(path, name=token)
    assert (await twins.read("/Observation/x", name=token)).status == 200


async def test_an_id_that_is_the_name_of_something_else_is_an_id(twins: Twins) -> None:
    token = await warm(twins)
    for id_ in (
        "metadata",
        "history",
        "Patient",
        "Observation",
        "0",
        "-",
        "---",
        "securus-mark-r",
        "securus-mark-i",
    ):
        twins.store_answers(answering(plain(OBSERVATION | {"id": id_})))
        reply = await follows(twins, f"/Observation/{id_}", name=token)
        assert (reply.status, reply.json["id"]) == (200, id_)


# Connections


async def test_requests_in_one_packet_are_answered_in_order(twins: Twins) -> None:
    token = await warm(twins)

    async def packet(gateway: RunningGateway) -> list[Reply]:
        heads = [
            await twins.head(gateway, f"/Observation/{id_}", name=token) for id_ in ("x", "y", "x", "y", "x")
        ]
        return await twins.line(gateway).ask_all(b"".join(heads), 5)

    before = twins.uses.followed
    assert [each.status for each in await twins.same(packet)] == [200, 404, 200, 404, 200]
    assert twins.uses.followed == before + 5


async def test_a_head_in_pieces_is_the_same_head(twins: Twins) -> None:
    token = await warm(twins)

    async def pieces(gateway: RunningGateway) -> Reply:
        head = await twins.head(gateway, "/Observation/x", name=token)
        line = twins.line(gateway)
        _, writer = await line.opened()
        for at in range(0, len(head) - 7, 199):
            writer.write(head[at : min(at + 199, len(head) - 7)])
            await asyncio.sleep(0)
        return await line.ask(head[-7:])

    before = twins.uses.followed
    assert (await twins.same(pieces)).status == 200
    assert twins.uses.followed == before + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET ", b"HEAD "), (b"GET ", b"DELETE "), (b"GET ", b"get "), (b" HTTP/1.1", b" HTTP/1.0"),
        (b"Host: localhost", b"Host: elsewhere"), (b"Host: localhost\r\n", b""), (b"DPoP: ", b"dpop: "),
        (b"DPoP: ", b"dPoP: "), (b"DPoP: ", b"DPoP:"), (b"DPoP: ", b"DPoP:  "), (b"DPoP: ", b"DPoP : "),
        (b"DPoP: ", b"DPoP_: "), (b"Authorization", b"AUTHORIZATION"), (b"Authorization: DPoP", b"Authorization: dpop"),
        (b"\r\n\r\n", b"\r\nDPoP: x\r\n\r\n"), (b"\r\n\r\n", b"\r\ndpop: x\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"), (b"\r\n\r\n", b" \r\n\r\n"),
        (b"GET /", b"\r\nGET /"), (b"GET /", b"GET https://localhost/"), (b"\r\n\r\n", b"\r\n x\r\n\r\n"),
        (b"Host: localhost", b"X-A: /x HTTP/1.1\r\nHost: localhost"),
    ],
)  # fmt: skip
async def test_another_head_is_read_as_if_there_were_none_like_it(
    twins: Twins, old: bytes, new: bytes
) -> None:
    token = await warm(twins)

    async def other(gateway: RunningGateway) -> Reply:
        head = await twins.head(gateway, "/Observation/x", name=token)
        line = type(twins.line(gateway))(gateway)
        try:
            return await line.ask(head.replace(old, new, 1))
        finally:
            await line.close()

    for _ in range(2):
        await twins.same(other)
    assert (await twins.read("/Observation/x", name=token)).status == 200


async def test_reads_that_follow_at_once_are_each_answered_and_recorded_by_themselves(twins: Twins) -> None:
    """Of one caller on many connections, the answers of the store in another order than they were asked for."""
    gateway, token = twins.first, await warm(twins)
    ids, go_on = (
        [f"{kind}-{number}" for number in range(8) for kind in ("own", "foreign", "spaced")],
        asyncio.Event(),
    )
    waiting: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        id_ = request.path.rpartition("/")[2]
        waiting.append(id_)
        if len(waiting) == len(ids):
            go_on.set()
        await go_on.wait()
        for _ in range(3 * (len(ids) - ids.index(id_))):
            await asyncio.sleep(0)
        value = (FOREIGN if id_.startswith("foreign") else OBSERVATION) | {"id": id_}
        body = json.dumps(value, indent=1).encode() if id_.startswith("spaced") else plain(value)
        return web.Response(body=body, content_type="application/fhir+json")

    gateway.upstream.answer = answer
    await twins.records(gateway)
    before = twins.uses.followed
    lines = [Line(gateway) for _ in ids]
    heads = [await twins.head(gateway, f"/Observation/{id_}", name=token) for id_ in ids]
    replies = await asyncio.gather(*(line.ask(head) for line, head in zip(lines, heads, strict=True)))
    for line in lines:
        await line.close()
    assert twins.uses.followed == before + len(ids)
    by_id = {
        each["request"]["id"]: each for each in await twins.records(gateway) if each["event"] == "access"
    }
    for id_, reply in zip(ids, replies, strict=True):
        record = by_id.pop(id_)
        status, decision = (404, "deny") if id_.startswith("foreign") else (200, "permit")
        assert (reply.status, record["status"], record["decision"]) == (status, status, decision)
        assert record["interaction_id"] == reply.header("x-fapi-interaction-id")
        assert record["upstream"] == [f"GET Observation/{id_}"]
        if status == 200:
            assert (reply.json["id"], record["patients"]) == (id_, ["A"])
    assert not by_id


async def test_what_answered_those_like_a_head_that_goes_is_gone_at_once(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the collector, which comes by seldom in a process that serves: many heads come once or twice."""
    monkeypatch.setattr(likenesses, "_AT_MOST", 3)
    token = name()
    twins.store_answers(answering(plain(OBSERVATION)))
    (mount,) = twins.first.gateway._mounts
    assert mount.passage._precedents is not None
    gc.collect()
    before = list(mount.passage._precedents._followed)
    gc.disable()
    try:
        for number in range(12):
            for _ in range(2):
                agent = (("User-Agent", f"client {number}"),)
                assert (await twins.read("/Observation/x", name=token, headers=agent)).status == 200
        there = [each for each in mount.passage._precedents._followed if each not in before]
        assert 1 <= len(there) <= 4
    finally:
        gc.enable()
