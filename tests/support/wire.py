"""The front alone: connections without sockets, and a front on loopback with a handler of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from authz.http import ListenerFace, read
from authz.protocol.request import Answer, Body, HttpRequest
from gateway.demo.world import free_port
from gateway.wire import heads
from gateway.wire.connection import Connection
from gateway.wire.front import Front
from gateway.wire.likenesses import Likenesses
from gateway.wire.peers import Peer
from gateway.wire.places import Bounds, Places
from gateway.wire.reading import RawHeaders
from gateway.wire.service import Patience, Service

ORIGIN = "https://gw.example"
MAX_URL, MAX_HEADER = 8 * 1024, 16 * 1024
Handler = Callable[[HttpRequest], Awaitable[Answer]]


def read_request(
    method: str, target: str, raw_headers: RawHeaders, peer: Peer, body: Body | None
) -> HttpRequest:
    """The request as a listener reads it."""
    return read(
        method, target, raw_headers, peer_address=peer.address, face=ListenerFace(ORIGIN), body=body,
        certificate=peer.certificate, chain=peer.chain, max_header=MAX_HEADER, max_url=MAX_URL,
    )  # fmt: skip


def service(handler: Handler, patience: Patience | None = None) -> Service:
    """What a listener gives to its connections."""
    return Service(
        read=read_request,
        handle=handler,
        max_url=MAX_URL,
        max_head=heads.longest(MAX_URL, MAX_HEADER),
        likenesses=Likenesses(min(MAX_URL, MAX_HEADER), ListenerFace(ORIGIN)),
        patience=patience or Patience(),
    )


class Wire(asyncio.Transport):
    """A transport without a socket, which keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Only an address."""
        return ("192.0.2.1", 4711) if name == "peername" else default

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        """Keep them."""
        self.written += b"".join(list_of_data)

    def can_write_eof(self) -> bool:
        """No."""
        return False

    def get_write_buffer_size(self) -> int:
        """Nothing is held back."""
        return 0

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.closed

    def close(self) -> None:
        """Close."""
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing to pause."""

    def resume_reading(self) -> None:
        """Nothing to go on with."""


Seen = list[tuple[str, str, dict[str, str], bytes]]


async def requests_in(pieces: list[bytes]) -> tuple[Seen, Wire]:
    """What the front reads in these bytes as whole requests, and what it wrote."""
    seen: Seen = []

    async def handler(request: HttpRequest) -> Answer:
        body = b"".join([piece async for piece in request.body.stream()])
        target = request.path + ("?" + request.query if request.query else "")
        seen.append((request.method, target, dict(request.headers), body))
        return Answer(204)

    common = service(handler)
    connection, wire = Connection(common, asyncio.get_running_loop()), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        if wire.closed:
            break
        connection.data_received(piece)
        await settled(connection)
    await settled(connection)
    connection.connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    return seen, wire


async def settled(connection: Connection) -> None:
    """Let the tasks of the connection run until they wait for more bytes."""
    idle, last = 0, None
    while idle < 8:
        await asyncio.sleep(0)
        idle = idle + 1 if connection.work is last else 0
        last = connection.work


@asynccontextmanager
async def front(
    handler: Handler,
    *,
    patience: Patience | None = None,
    context: Any = None,
    places: Places | None = None,
    is_unbound: Callable[[str], bool] = lambda address: False,
) -> AsyncIterator[tuple[Front, Service, int]]:
    """A front on loopback: itself, what its connections share, and its port. places are many, unless they are given."""
    common, port = service(handler, patience), free_port()
    opened = Front(common, places or Places(Bounds(1000, 1000)), is_unbound=is_unbound)
    await opened.open("127.0.0.1", port, context)
    try:
        yield opened, common, port
    finally:
        await opened.close(2.0)
