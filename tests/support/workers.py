"""`securus serve --workers`: which worker a connection is with, and requests to two of them at one moment."""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.support.gateway import Reply, parse_reply
from tests.support.processes import GatewayProcess, start_process

FORM = ("Content-Type", "application/x-www-form-urlencoded")


async def start_workers(
    folder: Path, *, count: int = 2, change: Callable[[dict[str, Any]], None] | None = None, **more: Any
) -> GatewayProcess:
    """So many workers on a demonstration's configuration, ready."""

    def changed(document: dict[str, Any]) -> None:
        document["workers"] = count
        if change is not None:
            change(document)

    return await start_process(folder, change=changed, **more)


async def workers_of(running: GatewayProcess) -> list[dict[str, Any]]:
    """The workers as /readyz shows them."""
    _, text = await running.operations("/readyz")
    workers: list[dict[str, Any]] = json.loads(text)["workers"]
    return workers


async def counted(running: GatewayProcess, series: str) -> float:
    """The sum of a metric over its labels."""
    _, text = await running.operations("/metrics")
    return sum(float(number) for number in re.findall(rf"^{series}(?:{{.*}})? (\S+)$", text, re.M))


class Connection:
    """A TLS connection to one worker that is known, by its process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self._reader = reader
        self._writer = writer
        self.pid = pid

    def write(self, request: bytes) -> None:
        """Send a request."""
        self._writer.write(request)

    async def reply(self) -> Reply:
        """The answer to the last request."""
        async with asyncio.timeout(20):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.I)
            body = await self._reader.readexactly(int(length[1])) if length else await self._chunks()
        return parse_reply(head + body)

    async def _chunks(self) -> bytes:
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            found += await self._reader.readuntil(b"\r\n")
        return found

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def connect(running: GatewayProcess) -> Connection:
    """A connection to whichever worker the system gives it to."""
    context = ssl.create_default_context(cafile=running.facts["ca_certificate"])
    reader, writer = await asyncio.open_connection("localhost", running.ports.public, ssl=context)
    own = writer.get_extra_info("sockname")[1]
    pids = [worker["pid"] for worker in await workers_of(running) if worker["pid"] is not None]
    return Connection(reader, writer, _owner(running.ports.public, own, pids))


@asynccontextmanager
async def one_to_each(running: GatewayProcess, count: int = 2) -> AsyncIterator[list[Connection]]:
    """A connection to each of so many workers."""
    found: dict[int, Connection] = {}
    try:
        for _ in range(200):
            connection = await connect(running)
            if connection.pid in found:
                await connection.close()
            found.setdefault(connection.pid, connection)
            if len(found) == count:
                break
        assert len(found) == count, f"200 connections reached {len(found)} workers of {count}"
        yield list(found.values())
    finally:
        for connection in found.values():
            await connection.close()


async def alone(running: GatewayProcess, request: bytes) -> Reply:
    """The answer to a request on a connection of its own, which is never sent again; status 0 without one."""
    context = ssl.create_default_context(cafile=running.facts["ca_certificate"])
    writer = None
    raw = b""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("localhost", running.ports.public, ssl=context)
        writer.write(request)
        with suppress(OSError):
            while piece := await asyncio.wait_for(reader.read(65536), 20):
                raw += piece
        writer.close()
        await writer.wait_closed()
    return parse_reply(raw)


async def at_once(connections: list[Connection], requests: list[bytes]) -> list[Reply]:
    """The answers to requests that all are on their way before one is read."""
    for connection, request in zip(connections, requests, strict=True):
        connection.write(request)
    return list(await asyncio.gather(*(connection.reply() for connection in connections)))


def get(url: str, headers: list[tuple[str, str]]) -> bytes:
    """A GET as bytes."""
    return _request("GET", url, headers, b"")


def post(
    url: str, headers: list[tuple[str, str]], form: Mapping[str, str] | Sequence[tuple[str, str]]
) -> bytes:
    """A form as bytes."""
    return _request("POST", url, [FORM, *headers], urlencode(form).encode())


def _request(method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in [("Host", parts.netloc), *headers]]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _owner(port: int, peer_port: int, pids: list[int]) -> int:
    """Which process holds the server's end of a loopback connection."""
    wanted = f"0100007F:{port:04X} 0100007F:{peer_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if f"{fields[1]} {fields[2]}" == wanted:
            inode = f"socket:[{fields[9]}]"
            for pid in pids:
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    try:
                        if os.readlink(descriptor) == inode:
                            return pid
                    except OSError:
                        continue
    raise AssertionError("no worker holds this connection")
