"""A store that takes what is posted, counts it, and answers 201 once it has all of it.

usage: python -m tests.bench.sink PORT; a body in chunks may hold no CR LF of its own before a zero.
"""

import asyncio
import re
import sys
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_LAST_CHUNK = b"0\r\n\r\n"
_CREATED = b"HTTP/1.1 201 Created\r\nLocation: Binary/new\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """A connection. Heads are small and come whole; of a body only its end is looked for."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._head = b""
        self._left: int | None = None
        self._end: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """A head, or a piece of a body."""
        if self._left is None and self._end is None:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            length = _LENGTH.search(head)
            if length is not None:
                self._left = int(length[1])
            elif b"chunked" in head.lower():
                self._end = b""
            else:
                self._left = 0
        if self._left is not None:
            self._left -= len(data)
        elif self._end is not None:
            self._end = (self._end + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        if self._left == 0 or self._end == _LAST_CHUNK:
            self._left = self._end = None
            self._transport.write(_CREATED)


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
