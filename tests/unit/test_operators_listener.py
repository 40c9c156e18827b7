"""The listener for operators, at an address and at a socket file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from authz.protocol.request import Answer, HttpRequest
from gateway.demo.world import free_port
from gateway.operators_listener import TEXT, OperatorsListener
from gateway.settings import Limits

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def said(request: HttpRequest) -> Answer:
    """What was asked, as it was read."""
    body = await request.body.read(100)
    return Answer(200, TEXT, f"{request.method} {request.path} {request.query} {body.decode()}".encode())


@pytest_asyncio.fixture
async def listener(tmp_path: Path) -> AsyncIterator[OperatorsListener]:
    listener = OperatorsListener(Limits(), said)
    await listener.open_file(tmp_path / "socket")
    yield listener
    await listener.close()


@pytest_asyncio.fixture
async def stream(listener: OperatorsListener, tmp_path: Path) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
    yield reader, writer
    writer.close()


async def ask(stream: Stream, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer."""
    reader, writer = stream
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return int(head.split()[1]), await reader.readexactly(int(length.split(b":")[1]))


async def test_requests_at_a_socket_file_are_answered_one_after_the_other(stream: Stream) -> None:
    assert await ask(stream, b"GET /readyz?x=1 HTTP/1.1\r\nHost: worker\r\n\r\n") == (
        200,
        b"GET /readyz x=1 ",
    )
    posted = b"POST /access/v1/evaluation HTTP/1.1\r\nHost: worker\r\nContent-Length: 2\r\n\r\n{}"
    assert await ask(stream, posted) == (200, b"POST /access/v1/evaluation  {}")


async def test_what_has_two_readings_is_refused_here_too(stream: Stream) -> None:
    twice = b"POST / HTTP/1.1\r\nHost: worker\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await ask(stream, twice))[0] == 400


async def test_who_is_connected_is_answered_when_no_more_are_taken(
    listener: OperatorsListener, stream: Stream, tmp_path: Path
) -> None:
    request = b"GET /readyz HTTP/1.1\r\nHost: worker\r\n\r\n"
    assert (await ask(stream, request))[0] == 200
    listener.take_no_more()
    with pytest.raises(OSError):
        await asyncio.open_unix_connection(tmp_path / "socket")
    assert (await ask(stream, request))[0] == 200
    await listener.close()
    assert await stream[0].read() == b""


async def test_it_listens_at_an_address() -> None:
    listener, port = OperatorsListener(Limits(), said), free_port()
    await listener.open("127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await ask((reader, writer), b"GET /healthz HTTP/1.1\r\nHost: worker\r\n\r\n"))[0] == 200
    writer.close()
    await listener.close()
