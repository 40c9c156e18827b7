"""Headers, codings and conditions of reads: none of them tells of a record, and none gets bytes past the judge."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks-answers")]

VOLATILE = {"x-fapi-interaction-id", "date", "dpop-nonce"}
MODIFIED = "Sat, 01 Aug 2026 10:00:00 GMT"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    running = await start_gateway(tmp_path_factory.mktemp("answers"))
    yield running
    await stop_gateway(running)


@pytest.fixture(autouse=True)
def fresh_store(gateway: RunningGateway) -> None:
    gateway.upstream.reset()


def stable(reply: Reply) -> list[tuple[str, str]]:
    return [each for each in reply.headers if each[0].lower() not in VOLATILE]


async def ask(gateway: RunningGateway, method: str, path: str, *headers: tuple[str, str]) -> Reply:
    """The answer to a patient's request, with one record of it and nothing of anybody else's in it."""
    before = len(await gateway.audit())
    reply = await gateway.fhir(method, path, headers=list(headers))
    assert b"SECRET-B" not in reply.raw
    assert b"upstream-product" not in reply.raw
    records = [r for r in (await gateway.audit())[before:] if r.get("event") == "access"]
    assert [record["status"] for record in records] == [reply.status]
    sent = {name for request in gateway.upstream.requests for name in request.headers}
    assert sent.isdisjoint({"if-none-match", "if-modified-since", "range", "if-range", "if-match"})
    assert all(request.method == "GET" for request in gateway.upstream.requests)
    return reply


CONDITIONS = [
    (),
    (("If-None-Match", 'W/"1"'),),
    (("If-None-Match", "*"),),
    (("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),),
    (("If-Match", 'W/"9"'),),
    (("If-Unmodified-Since", "Fri, 01 Jan 1999 00:00:00 GMT"),),
    (("Range", "bytes=0-10"),),
    (("Range", "bytes=0-10"), ("If-Range", 'W/"1"')),
]


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("foreign", "missing", "asked"),
    [("Patient/B", "Patient/none", 0), ("Observation/b1", "Observation/none", 1)],
)
async def test_G_a_foreign_record_and_a_missing_one_are_answered_alike_whatever_the_condition(
    gateway: RunningGateway,
    method: str,
    condition: tuple[tuple[str, str], ...],
    foreign: str,
    missing: str,
    asked: int,
) -> None:
    one = await ask(gateway, method, f"/{foreign}", *condition)
    assert len(gateway.upstream.requests) == asked
    other = await ask(gateway, method, f"/{missing}", *condition)
    assert one.status == other.status == 404
    assert (stable(one), one.body) == (stable(other), other.body)
    assert one.header("ETag") is None
    assert int(one.header("Content-Length") or 0) > 0
    assert (one.body == b"") is (method == "HEAD")


@pytest.mark.parametrize("path", ["/Patient/A", "/Observation/a1", "/Observation"])
async def test_B25_HEAD_has_the_headers_of_GET_and_no_body(gateway: RunningGateway, path: str) -> None:
    got, headed = await ask(gateway, "GET", path), await ask(gateway, "HEAD", path)
    assert (got.status, stable(got)) == (headed.status, stable(headed))
    assert (len(got.body), headed.body) == (int(got.header("Content-Length") or 0), b"")


@pytest.mark.parametrize("path", ["/Patient/A", "/Observation/a1", "/Observation"])
async def test_C50_a_range_is_passed_over_and_the_answer_is_whole(gateway: RunningGateway, path: str) -> None:
    whole = await ask(gateway, "GET", path)
    ranged = await ask(gateway, "GET", path, ("Range", "bytes=5-9"))
    assert (ranged.status, ranged.body, stable(ranged)) == (200, whole.body, stable(whole))
    assert ranged.header("Accept-Ranges") is None


def answers(gateway: RunningGateway, status: int = 200, body: bytes | None = None, **headers: str) -> None:
    own = json.dumps(gateway.upstream.resources["Patient/A"]).encode()

    async def answer(request: web.BaseRequest) -> web.Response:
        said = {"Content-Type": "application/fhir+json", "ETag": 'W/"7"', "Last-Modified": MODIFIED}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=own if body is None else body, headers=said)

    gateway.upstream.answer = answer


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (("If-None-Match", 'W/"7"'), 304),
        (("If-None-Match", '"7"'), 304),
        (("If-None-Match", 'W/"1", W/"7"'), 304),
        (("If-None-Match", 'W/"8"'), 200),
        (("If-None-Match", "*"), 200),
        (("If-None-Match", 'W/"7'), 200),
        (("If-None-Match", "7"), 200),
        (("If-Modified-Since", MODIFIED), 304),
        (("If-Modified-Since", "Sat, 01 Aug 2026 09:59:59 GMT"), 200),
        (("If-Modified-Since", "yesterday"), 200),
    ],
)
async def test_304_says_of_a_record_that_was_judged_that_the_callers_copy_is_the_newest(
    gateway: RunningGateway, condition: tuple[str, str], status: int
) -> None:
    answers(gateway)
    reply = await ask(gateway, "GET", "/Patient/A", condition)
    assert reply.status == status
    assert reply.header("ETag") == 'W/"7"'
    assert reply.header("Cache-Control") == "no-store, private"
    if status == 304:
        assert (reply.body, reply.header("Content-Type")) == (b"", None)


async def test_If_None_Match_counts_before_If_Modified_Since(gateway: RunningGateway) -> None:
    answers(gateway)
    newer = ("If-Modified-Since", MODIFIED)
    assert (await ask(gateway, "GET", "/Patient/A", ("If-None-Match", 'W/"8"'), newer)).status == 200


async def test_what_the_judge_refuses_is_never_304(gateway: RunningGateway) -> None:
    """The store answers with somebody else's record, under the version that the caller names."""
    foreign = json.dumps(gateway.upstream.resources["Observation/b1"]).encode()
    answers(gateway, body=foreign)
    reply = await ask(gateway, "GET", "/Observation/a1", ("If-None-Match", 'W/"7"'))
    assert (reply.status, reply.reason) == (404, "not-found")


@pytest.mark.parametrize("status", [204, 206, 301, 304])
async def test_a_part_or_a_304_that_nobody_asked_the_store_for_is_502(
    gateway: RunningGateway, status: int
) -> None:
    answers(gateway, status=status)
    reply = await ask(gateway, "GET", "/Patient/A", ("If-None-Match", 'W/"7"'), ("Range", "bytes=0-9"))
    assert (reply.status, reply.reason) == (502, "upstream-invalid")


def bomb() -> bytes:
    maker = zlib.compressobj(9, wbits=31)
    return b"".join([maker.compress(b" " * 1024 * 1024) for _ in range(8)]) + maker.flush()


async def test_R268_a_store_that_compresses_though_nobody_asked_is_read_and_judged(
    gateway: RunningGateway,
) -> None:
    plain = await ask(gateway, "GET", "/Patient/A")
    content = json.dumps(gateway.upstream.resources["Patient/A"]).encode()
    answers(gateway, body=gzip.compress(content), Content_Encoding="gzip")
    reply = await ask(gateway, "GET", "/Patient/A", ("Accept-Encoding", "gzip"))
    assert (reply.status, reply.json) == (200, plain.json)
    assert reply.header("Content-Encoding") is None
    assert int(reply.header("Content-Length") or 0) == len(reply.body)
    foreign = json.dumps(gateway.upstream.resources["Observation/b1"]).encode()
    answers(gateway, body=gzip.compress(foreign), Content_Encoding="gzip")
    assert (await ask(gateway, "GET", "/Observation/a1")).status == 404


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"{}")[:-3]),
        ("gzip", gzip.compress(b"{}") + gzip.compress(b"SECRET-B")),
        ("gzip", gzip.compress(b"{}") + b"SECRET-B"),
        ("gzip", b""),
        ("gzip", bomb()),
        ("br", b"SECRET-B"),
        ("zstd", b"SECRET-B"),
        ("deflate", zlib.compress(b"{}")),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
    ],
    ids=[
        "not gzip",
        "cut off",
        "two members",
        "something behind",
        "empty",
        "bomb",
        "br",
        "zstd",
        "deflate",
        "twice",
    ],
)
async def test_R268_what_cannot_be_decoded_whole_is_502(
    gateway: RunningGateway, coding: str, body: bytes
) -> None:
    answers(gateway, body=body, Content_Encoding=coding)
    reply = await ask(gateway, "GET", "/Patient/A")
    assert (reply.status, reply.reason) == (502, "upstream-invalid")
    assert reply.header("Content-Encoding") is None


FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    ("coding", "body", "status", "reason"),
    [
        ("gzip", gzip.compress(b"code=x"), 200, None),
        ("identity", b"code=x", 200, None),
        ("gzip", b"code=x", 400, "invalid-body"),
        ("gzip", gzip.compress(b"code=x")[:-1], 400, "invalid-body"),
        ("gzip", gzip.compress(b"code=x") * 2, 400, "invalid-body"),
        ("gzip", gzip.compress(b"code=x&" * 20_000), 413, "too-large"),
        ("gzip", bomb(), 413, "too-large"),
        ("br", b"code=x", 415, "unsupported-media-type"),
        ("deflate", zlib.compress(b"code=x"), 415, "unsupported-media-type"),
        ("gzip, gzip", gzip.compress(b"code=x"), 415, "unsupported-media-type"),
    ],
    ids=[
        "gzip",
        "identity",
        "not gzip",
        "cut off",
        "two members",
        "too long",
        "bomb",
        "br",
        "deflate",
        "twice",
    ],
)
async def test_C53_a_coded_body_is_decoded_before_it_is_decided_about_or_refused(
    gateway: RunningGateway, coding: str, body: bytes, status: int, reason: str | None
) -> None:
    headers = [FORM, ("Content-Encoding", coding)]
    reply = await gateway.fhir("POST", "/Observation/_search", headers=headers, body=body)
    assert (reply.status, reply.reason) == (status, reason), reply.raw[:300]
    assert b"SECRET-B" not in reply.raw
    seen: list[Any] = gateway.upstream.requests
    if status == 200:
        assert [request.body for request in seen] == [b"code=x&subject=Patient%2FA"]
        assert "content-encoding" not in seen[0].headers
    else:
        assert seen == []


@pytest.mark.parametrize("accept", ["gzip", "br, zstd, identity;q=0", "*", "gzip;q=1, identity;q=0"])
async def test_C52_answers_are_never_compressed(gateway: RunningGateway, accept: str) -> None:
    plain = await ask(gateway, "GET", "/Patient/A")
    reply = await ask(gateway, "GET", "/Patient/A", ("Accept-Encoding", accept))
    assert (reply.status, reply.body, stable(reply)) == (200, plain.body, stable(plain))
    assert all(r.headers["accept-encoding"] == "identity" for r in gateway.upstream.requests)


async def test_257_of_the_stores_headers_only_the_known_ones_come_through(gateway: RunningGateway) -> None:
    answers(
        gateway, Server="upstream-product", X_Powered_By="SECRET-B", X_Request_Url="SECRET-B", Link="SECRET-B",
        Set_Cookie="SECRET-B=1", Via="SECRET-B", Accept_Ranges="bytes", Warning="SECRET-B",
        Content_Location=f"{gateway.upstream.base}/Patient/A/_history/7",
    )  # fmt: skip
    reply = await ask(gateway, "GET", "/Patient/A")
    names = {name.lower() for name, _ in reply.headers}
    assert names - VOLATILE == {
        "content-type", "cache-control", "vary", "x-content-type-options", "etag", "last-modified", "content-location",
        "server", "content-length", "connection",
    }  # fmt: skip
    assert reply.header("Content-Location") == f"{gateway.origin}{MOUNT}/Patient/A/_history/7"


@pytest.mark.parametrize("accept", ["text/turtle", "text/html", "application/json;q=0"])
async def test_a_refusal_of_the_format_is_an_outcome_in_json(gateway: RunningGateway, accept: str) -> None:
    reply = await ask(gateway, "GET", "/Patient/A", ("Accept", accept))
    assert (reply.status, reply.reason) == (406, "not-acceptable")
    assert reply.header("Content-Type") == "application/fhir+json; charset=utf-8"
    assert gateway.upstream.requests == []
