"""Processes that have few file descriptors, from their start or from now on, and callers who take them."""

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_SAME_LOOKS = 5
_TICKS = os.sysconf("SC_CLK_TCK")


def limited(descriptors: int) -> tuple[str, ...]:
    """The command that stands for `securus`, with so many descriptors at most."""
    begin = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}));"
        "os.execv(sys.executable, [sys.executable, '-m', 'gateway', *sys.argv[1:]])"
    )
    return sys.executable, "-c", begin


def open_descriptors(pid: int) -> set[int]:
    """The descriptors that a process has."""
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


@asynccontextmanager
async def starved(pid: int) -> AsyncIterator[None]:
    """While this lasts the process can open nothing, unless it closes something that it has.

    What it is just closing is waited for.
    """
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit, same = before[0], 0
    while same < _SAME_LOOKS:
        there = open_descriptors(pid)
        lowest = next(number for number in range(len(there) + 1) if number not in there)
        same = same + 1 if lowest >= limit else 0
        limit = min(limit, lowest)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def cpu_seconds(pid: int) -> float:
    """The time of a processor that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Crowd:
    """Connections of one address of this machine, such as 127.0.0.2, that are not used further. To be closed."""

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._address = address
        self.sockets: list[socket.socket] = []
        self._refused = 0

    def come(self, count: int, sent: bytes = b"") -> None:
        """So many connections more, which send that."""
        for _ in range(count):
            try:
                each = socket.create_connection(
                    ("127.0.0.1", self._port), timeout=10, source_address=(self._address, 0)
                )
            except ConnectionResetError:  # refused before our own side knew that it was connected
                self._refused += 1
                continue
            self.sockets.append(each)
            with suppress(ConnectionError):
                each.sendall(sent)
            each.setblocking(False)

    def ended(self) -> int:
        """How many of them the other side ended."""
        found = self._refused
        for each in self.sockets:
            try:
                found += each.recv(2**16) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                found += 1
        return found

    def close(self) -> None:
        """Leave."""
        while self.sockets:
            self.sockets.pop().close()
