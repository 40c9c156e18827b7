"""Stores behind TLS: trusted authorities only, the right name only, and no end of an answer that anybody could make."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.demo.authority import Authority
from gateway.fhir.outcome import FhirError, Reason
from tests.conformance.upstream.test_upstream_pool import opened
from tests.support.raw_store import OK, Connected, RawStore, asked

OPEN_END = b"HTTP/1.1 200 OK\r\n\r\n{}"


@pytest.fixture
async def secret(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RawStore]:
    """A store with a certificate, for localhost or another name, of an authority that this machine trusts."""
    name = getattr(request, "param", "localhost")
    authority = Authority.new("Hospital CA")
    authority.issue(tmp_path / "s.pem", tmp_path / "s.key", name, server=True)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    store = RawStore(answers=[OK])
    await store.start(context)
    yield store
    await store.stop()


def base(store: RawStore, host: str = "localhost") -> str:
    return f"https://{host}:{store.port}/base"


async def test_a_trusted_store_answers_and_its_connection_is_kept(secret: RawStore) -> None:
    async with opened(secret, base=base(secret)) as client:
        for _ in range(3):
            assert (await asked(client))[1] == b"{}"
        assert secret.on == [0, 0, 0]
        body = bytes(3_000_000)
        (await client.send("PUT", "Binary/1", {}, body)).close()
        assert secret.bodies[-1] == body


async def test_the_certificate_may_name_an_address(secret: RawStore) -> None:
    async with opened(secret, base=base(secret, "127.0.0.1")) as client:
        assert (await asked(client))[1] == b"{}"


@pytest.mark.parametrize("secret", ["store.example"], indirect=True)
async def test_a_certificate_for_another_name_is_not_talked_to(secret: RawStore) -> None:
    async with opened(secret, base=base(secret)) as client:
        with pytest.raises(FhirError) as refused:
            await asked(client)
        assert refused.value.reason is Reason.UPSTREAM_UNAVAILABLE
        assert secret.heads == []
        assert client.in_use == 0


async def test_a_store_that_speaks_no_TLS_is_unavailable() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    store = RawStore(port=server.sockets[0].getsockname()[1])
    async with opened(store, base=base(store, "127.0.0.1")) as client:
        with pytest.raises(FhirError) as refused:
            await asked(client)
        assert refused.value.reason is Reason.UPSTREAM_UNAVAILABLE
        assert client.in_use == 0
    server.close()


async def test_a_handshake_that_never_ends_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = RawStore(port=listening.getsockname()[1])
        async with opened(silent, base=base(silent, "127.0.0.1"), connect_timeout=0.1) as client:
            with pytest.raises(FhirError) as refused:
                await asked(client)
            assert refused.value.reason is Reason.UPSTREAM_TIMEOUT
            assert client.in_use == 0


async def test_an_answer_until_close_ends_with_the_end_of_TLS(secret: RawStore) -> None:
    async def whole(here: Connected) -> None:
        await here.send(OPEN_END)
        here.end()

    secret.answers = [whole]
    async with opened(secret, base=base(secret)) as client:
        assert (await asked(client))[1] == b"{}"


def cut(listening: socket.socket, context: ssl.SSLContext) -> None:
    """A store that closes the connection, and not TLS before it."""
    raw, _ = listening.accept()
    with context.wrap_socket(raw, server_side=True) as here:
        here.recv(65536)
        here.sendall(OPEN_END)


@pytest.mark.asyncio(
    loop_factories=["uvloop"]
)  # which the gateway runs on; asyncio's own does not tell the ends apart
async def test_an_answer_until_close_that_is_cut_below_TLS_is_none(secret: RawStore, tmp_path: Path) -> None:
    """Anybody on the way can close a connection: without close_notify there may have been more (RFC 9112 9.8)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        store = RawStore(port=listening.getsockname()[1])
        cutting = asyncio.get_running_loop().run_in_executor(None, cut, listening, context)
        async with opened(store, base=base(store)) as client:
            with pytest.raises(FhirError) as refused:
                await asked(client)
            assert refused.value.reason is Reason.UPSTREAM_INVALID
        await cutting


async def test_a_reader_who_does_not_take_slows_TLS_as_well(secret: RawStore) -> None:
    sent = 0

    async def long(here: Connected) -> None:
        nonlocal sent
        here.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 64000000\r\n\r\n")
        for _ in range(64):
            here.writer.write(bytes(1_000_000))
            await here.writer.drain()
            sent += 1

    secret.answers = [long, OK]
    async with opened(secret, base=base(secret)) as client:
        answer = await client.send("GET", "Binary/1", {})
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 24
        assert answer._exchange.buffered < 1_000_000
        size = 0
        async for piece in answer.stream():
            size += len(piece)
        answer.close()
        assert size == 64_000_000
        await asked(client)
        assert secret.on == [0, 0]
