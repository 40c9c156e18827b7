"""A store on loopback that answers with the very bytes it is told to, and knows what came on which connection."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
UPSTREAM = Upstream(
    "store", "fhir-r4", "/fhir", "", "https://gw.example/fhir", frozenset(), answer_timeout=5, idle_timeout=5
)
Writer = Callable[["Connected"], Awaitable[None]]


@dataclass
class Connected:
    """One connection, as the store sees it."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Send each part by itself, so that it arrives as such."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.003 if len(parts) > 1 else 0)

    def end(self) -> None:
        """Close it."""
        self.writer.close()

    def reset(self) -> None:
        """Break it off: the other side sees a reset."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the other side is gone."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@dataclass
class RawStore:
    """The store. Each request takes the next of answers: bytes to send, or what does it; the last one stays."""

    answers: list[bytes | Writer] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    on: list[int] = field(default_factory=list)  # the connection of each request
    connections: list[Connected] = field(default_factory=list)
    reads_bodies: bool = True
    port: int = 0
    host: str = "127.0.0.1"
    _server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end every connection."""
        for each in self.connections:
            each.writer.transport.abort()
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here = Connected(len(self.connections), reader, writer)
        self.connections.append(here)
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                self.on.append(here.number)
                if self.reads_bodies:
                    self.bodies.append(await _body(head, reader))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if isinstance(answer, bytes):
                    await here.send(answer)
                else:
                    await answer(here)
        writer.close()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    parts = []
    while b"transfer-encoding" in fields:
        size = int((await reader.readuntil(b"\r\n"))[:-2], 16)
        parts.append((await reader.readexactly(size + 2))[:-2])
        if not size:
            break
    return b"".join(parts)


def client_of(store: RawStore, **changes: Any) -> UpstreamClient:
    """The gateway's client of a store, with changes to its settings; to be opened and closed."""
    base = f"http://{store.host}:{store.port}/base"
    return UpstreamClient(replace(UPSTREAM, **({"base": base} | changes)), lambda seconds: None)


async def asked(client: UpstreamClient, method: str = "GET") -> tuple[UpstreamAnswer, bytes]:
    """A request without a body, and the whole answer."""
    answer = await client.send(method, "Patient/A", {"accept": "x"})
    try:
        return answer, await answer.read(2**20)
    finally:
        answer.close()
