"""Attack groups A, B and C, byte for byte against the whole process and a store that leaks whatever it is asked.

Every case makes the five assertions: no marker of another patient anywhere, nothing upstream on a refusal, one audit
record, an OperationOutcome that tells nothing of the store, and a permitted twin that succeeds.
"""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.attacks.cases import GROUP_A, GROUP_B, GROUP_C, Case
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway
from tests.support.world import SECRET

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    running = await start_gateway(folder)
    yield running
    await stop_gateway(running)


def check_no_leak(reply: Reply) -> None:
    """Assertion 1, with the encodings in which a leak could hide."""
    encoded = base64.b64encode(SECRET.encode())[:-4]
    assert SECRET.encode() not in reply.raw
    assert encoded not in reply.raw
    assert b"\\u0053ECRET" not in reply.raw


def check_outcome(reply: Reply, gateway: RunningGateway) -> None:
    """Assertion 4."""
    assert str(gateway.upstream.port).encode() not in reply.raw
    assert b"upstream-product" not in reply.raw
    assert b"JSESSIONID" not in reply.raw
    assert b"Traceback" not in reply.raw
    if (
        reply.status >= 400
        and reply.body
        and reply.header(
            "Content-Type",
        )
        == "application/fhir+json; charset=utf-8"
    ):
        assert reply.json["resourceType"] == "OperationOutcome"


async def play(gateway: RunningGateway, case: Case) -> Reply:
    target = case.target.replace("{base}", MOUNT)
    token = await gateway.token(case.who)
    gateway.upstream.reset()
    htu = gateway.origin + (case.proof_target or target).partition("?")[0].partition("#")[0]
    headers = [
        ("Authorization", f"DPoP {token}"),
        ("DPoP", gateway.proof(case.method, htu, token)),
        *case.headers,
    ]
    return await gateway.send(case.method, target, headers, case.body)


@pytest.mark.parametrize("case", [*GROUP_A, *GROUP_B, *GROUP_C], ids=lambda case: case.id)
async def test_case(gateway: RunningGateway, case: Case) -> None:
    before = len(await gateway.audit())
    reply = await play(gateway, case)
    assert reply.status in case.status, reply.raw[:600]
    check_no_leak(reply)
    check_outcome(reply, gateway)
    if case.reason is not None:
        assert reply.reason == case.reason
    seen = [str(request) for request in gateway.upstream.requests]
    if case.upstream:
        assert len(seen) == 1 or reply.status >= 400, seen
        assert all(text.startswith(case.upstream) for text in seen), seen
    else:
        assert seen == []
    for request in gateway.upstream.requests:
        assert not set(case.absent) & request.headers.keys()
        assert "authorization" not in request.headers
        assert "dpop" not in request.headers
        assert "cookie" not in request.headers
    records = (await gateway.audit())[before:]
    reached = case.target.startswith("{base}/") and reply.reason is not None
    if reached or reply.status == 200:
        access = [r for r in records if r.get("event") == "access"]
        assert len(access) == (0 if case.method == "OPTIONS" else 1), records


@pytest.mark.parametrize(
    "twin", sorted({c.twin for c in (*GROUP_A, *GROUP_B, *GROUP_C) if c.twin is not None})
)
async def test_the_permitted_twin_succeeds(gateway: RunningGateway, twin: str) -> None:
    method, _, target = twin.partition(" ")
    reply = await play(gateway, Case("twin", target, (200,), method=method))
    assert reply.status == 200, reply.raw[:600]
    assert gateway.upstream.requests
    check_no_leak(reply)


async def test_A8_a_foreign_id_and_a_missing_id_are_answered_alike(gateway: RunningGateway) -> None:
    foreign = await play(gateway, Case("foreign", "{base}/Patient/B", ()))
    missing = await play(gateway, Case("missing", "{base}/Patient/no-such-id", ()))
    assert (foreign.status, foreign.body) == (missing.status, missing.body)
    volatile = {"x-fapi-interaction-id", "date", "dpop-nonce"}
    assert [h for h in foreign.headers if h[0].lower() not in volatile] == [
        h for h in missing.headers if h[0].lower() not in volatile
    ]


async def test_G114_a_foreign_observation_and_a_missing_one_are_answered_alike(
    gateway: RunningGateway,
) -> None:
    foreign = await play(gateway, Case("foreign", "{base}/Observation/b1", ()))
    assert [str(r) for r in gateway.upstream.requests] == ["GET /fhir/Observation/b1"]
    check_no_leak(foreign)
    missing = await play(gateway, Case("missing", "{base}/Observation/no-such-id", ()))
    assert (foreign.status, foreign.body) == (missing.status, missing.body) == (404, missing.body)
    check_no_leak(missing)


async def test_B28_two_framings_at_once_are_refused(gateway: RunningGateway) -> None:
    gateway.upstream.reset()
    head = f"POST {MOUNT}/Patient/_search HTTP/1.1\r\nHost: localhost\r\n".encode()
    for framing in (
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length : 3\r\n",
    ):
        reply = await gateway.raw(head + framing + b"Connection: close\r\n\r\n0\r\n\r\n")
        assert reply.status in (0, 400, 501), (framing, reply.raw[:300])
    assert gateway.upstream.requests == []


async def test_B29_a_pipelined_request_is_authenticated_on_its_own(gateway: RunningGateway) -> None:
    token = await gateway.token("pA-r")
    gateway.upstream.reset()
    url = gateway.origin + MOUNT + "/Patient/A"
    signed = (
        f"GET {MOUNT}/Patient/A HTTP/1.1\r\nHost: localhost\r\nAuthorization: DPoP {token}\r\n"
        f"DPoP: {gateway.proof('GET', url, token)}\r\n\r\n"
    ).encode()
    bare = f"GET {MOUNT}/Patient/A HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    reply = await gateway.raw(signed + bare)
    assert reply.raw.count(b"HTTP/1.1 200") == 1
    assert reply.raw.count(b"HTTP/1.1 401") == 1
    assert len(gateway.upstream.requests) == 1


async def test_B30_a_bad_token_is_refused_before_the_body_is_asked_for(gateway: RunningGateway) -> None:
    content = (
        f"POST {MOUNT}/Patient/_search HTTP/1.1\r\nHost: localhost\r\nAuthorization: DPoP nonsense\r\n"
        "Expect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        "Content-Length: 5000000000\r\nConnection: close\r\n\r\n"
    ).encode()
    reply = await gateway.raw(content)
    assert reply.status == 401
    assert b"100 Continue" not in reply.raw


@pytest.mark.parametrize(
    "authorization",
    [
        [("Authorization", "DPoP {t}"), ("Authorization", "DPoP {t}")],
        [("Authorization", "Bearer x, DPoP {t}")],
        [("Authorization", "DPoP {t}"), ("authorization", "Bearer x")],
        [("Authorization", "DPoP")],
        [("Authorization", "DPoP {t} {t}")],
        [("Authorization", "Basic eDp5")],
    ],
    ids=["C34-twice", "C34-list", "C34-two-cases", "empty", "two-tokens", "basic"],
)
async def test_C34_one_authorization_with_one_token(
    gateway: RunningGateway, authorization: list[tuple[str, str]]
) -> None:
    token = await gateway.token("pA-r")
    gateway.upstream.reset()
    url = gateway.origin + MOUNT + "/Patient/A"
    headers = [(name, value.replace("{t}", token)) for name, value in authorization]
    reply = await gateway.send(
        "GET", MOUNT + "/Patient/A", [*headers, ("DPoP", gateway.proof("GET", url, token))]
    )
    assert reply.status in (400, 401)
    assert gateway.upstream.requests == []


async def test_C36_a_cookie_of_the_store_never_comes_back(gateway: RunningGateway) -> None:
    reply = await play(gateway, Case("cookie", "{base}/Patient/A", ()))
    assert reply.status == 200
    assert reply.header("Set-Cookie") is None
    assert reply.header("Server") == "securus"
    assert [name.lower() for name, _ in reply.headers].count("date") == 1


async def test_C41_forwarded_headers_are_ours(gateway: RunningGateway) -> None:
    headers = (
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Host", "evil.example"),
    )
    await play(gateway, Case("forwarded", "{base}/Patient/A", (), headers=headers[:2]))
    sent = gateway.upstream.requests[0].headers
    assert "x-forwarded-host" not in sent  # nor ours: see gateway.proxy.headers
    assert "evil.example" not in str(sent)
    assert sent["x-forwarded-for"] == "127.0.0.1"
