"""Load that does not wait: so many requests a second whatever becomes of them, each a prepared one with a proof of its own.

usage: python -m tests.bench.open_loop PORT REQUESTS RATE SECONDS CONNECTIONS; prints how many were answered, how many
of them with no success, p50 and p99 in ms, and p99 of how late they were sent. The time of a request begins when it is
due, so that one which finds every connection taken waits on its own account. Load that is late comes in heaps, and heaps
wait: where it was, the times are those of the machine.
"""

import asyncio
import re
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


class Pool:
    """The connections, the requests that are due and have none, and the times of those that were answered."""

    def __init__(self) -> None:
        self.idle: list[Lane] = []
        self.due: deque[tuple[bytes, float]] = deque()
        self.times: list[float] = []
        self.late: list[float] = []
        self.failed = 0

    def send(self, request: bytes, due_at: float) -> None:
        """Send it now, or as soon as a connection is free."""
        self.late.append(time.perf_counter() - due_at)
        self.due.append((request, due_at))
        self.go_on()

    def go_on(self) -> None:
        """Give idle connections what is due."""
        while self.due and self.idle:
            self.idle.pop().send(*self.due.popleft())


class Lane(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport
        self._answer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is idle."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._pool.idle.append(self)

    def send(self, request: bytes, due_at: float) -> None:
        """Send a request."""
        self._began = due_at
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """An answer, or a piece of one."""
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if length is None:
            raise RuntimeError("an answer without its length")
        if len(body) < int(length[1]):
            return
        self._pool.failed += head[9:10] != b"2"
        self._pool.times.append(time.perf_counter() - self._began)
        self._answer = b""
        self._pool.idle.append(self)
        self._pool.go_on()


async def main(port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> None:
    """Send at this rate for so long, wait for what is on its way, print."""
    pool = Pool()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Lane(pool), "127.0.0.1", port)
    began = time.perf_counter()
    due = [(request, began + number / rate) for number, request in enumerate(requests[: int(rate * seconds)])]

    def send() -> None:
        for request, due_at in due:
            if (early := due_at - time.perf_counter()) > 0:
                time.sleep(early)
            loop.call_soon_threadsafe(pool.send, request, due_at)

    # In a thread: timers of the loop know milliseconds, and a loop that looks all the time takes the core of the store.
    await asyncio.to_thread(send)
    async with asyncio.timeout(30):
        while len(pool.times) < len(due):
            await asyncio.sleep(0.01)
    p50, p99 = (sorted(pool.times)[int(len(pool.times) * share)] * 1e3 for share in (0.5, 0.99))
    late = sorted(pool.late)[int(len(pool.late) * 0.99)] * 1e3
    print(len(pool.times), pool.failed, p50, p99, late)


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_bytes().split(b"\n")
    prepared = [line.replace(b"\\r\\n", b"\r\n") for line in lines]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), prepared, float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
