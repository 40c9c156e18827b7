"""Framing, pipelining and credentials, byte for byte against the whole process (cases 28 to 30, 34, 36 and 41)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.attacks.table.play import check_no_marker as check_no_leak
from tests.attacks.table.play import check_no_store, send
from tests.attacks.table.rows import Headers, ask
from tests.support.gateway import MOUNT, Reply, RunningGateway, start_gateway, stop_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("attacks")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("attacks")
    running = await start_gateway(folder)
    yield running
    await stop_gateway(running)


__all__ = ["check_no_leak", "check_outcome"]


def check_outcome(reply: Reply, gateway: RunningGateway) -> None:
    """Nothing of the store, and an error in JSON is an OperationOutcome."""
    check_no_store(reply)
    assert f":{gateway.upstream.port}".encode() not in reply.raw
    json_body = reply.header("Content-Type") == "application/fhir+json; charset=utf-8"
    if reply.status >= 400 and reply.body and json_body:
        assert reply.json["resourceType"] == "OperationOutcome"


async def ask_for(gateway: RunningGateway, place: str, headers: Headers = ()) -> Reply:
    gateway.upstream.reset()
    return await send(gateway, ask(f"GET {place}", headers=headers))


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
    reply = await ask_for(gateway, "/Patient/A")
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
    await ask_for(gateway, "/Patient/A", headers[:2])
    sent = gateway.upstream.requests[0].headers
    assert "x-forwarded-host" not in sent  # nor ours: see gateway.proxy.headers
    assert "evil.example" not in str(sent)
    assert sent["x-forwarded-for"] == "127.0.0.1"
