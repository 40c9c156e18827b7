"""Callers that are slow on purpose: heads, bodies and handshakes that do not end, and too many connections of one."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.settings import Limits
from tests.attacks.test_overload import metrics
from tests.support.gateway import MOUNT, RunningGateway, parse_reply, start_gateway, stop_gateway

Start = Callable[..., Any]
HALF_OF_A_FORM = (
    b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 5000\r\n\r\ngrant_type="
)
HALF_OF_CHUNKS = (
    b"POST /par HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\ngrant\r\n"
)
HALF_OF_A_HEAD = b"GET /fhir/r4/Patient/A HTTP/1.1\r\nHost: localhost\r\nX-Padding: "


class Attackers:
    """Connections to a gateway, which say something and then wait."""

    def __init__(self, running: RunningGateway) -> None:
        self._running = running
        self._context = ssl.create_default_context(cafile=str(running.folder / "ca.pem"))
        self._writers: list[asyncio.StreamWriter] = []

    async def come(self, said: bytes = b"", *, handshake: bool = True) -> asyncio.StreamReader:
        """One more; handshake is whether it does that."""
        name = "localhost" if handshake else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._running.port, ssl=self._context if handshake else None, server_hostname=name
        )
        self._writers.append(writer)
        writer.write(said)
        return reader

    async def leave(self) -> None:
        """All of them."""
        while self._writers:
            writer = self._writers.pop()
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """A gateway with these limits, and its attackers."""
    opened: list[tuple[RunningGateway, Attackers]] = []

    async def begin(**limits: Any) -> tuple[RunningGateway, Attackers]:
        running = await start_gateway(tmp_path, limits=Limits(drain=2.0, **limits))
        opened.append((running, Attackers(running)))
        return opened[-1]

    yield begin
    for running, attackers in opened:
        await attackers.leave()
        await stop_gateway(running)


async def until_counted(running: RunningGateway, line: str) -> None:
    async with asyncio.timeout(20):
        while line not in (await metrics(running)).splitlines():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("slow", [HALF_OF_A_FORM, HALF_OF_CHUNKS])
async def test_requests_that_wait_for_their_bodies_keep_nobody_out(start: Start, slow: bytes) -> None:
    running, attackers = await start(concurrent_requests=3)
    readers = [await attackers.come(slow) for _ in range(3)]
    await until_counted(running, "securus_inflight_requests 3.0")
    for number in range(6):
        assert (await running.fhir("GET", "/Patient/A")).status == 200
        readers.append(await attackers.come(slow))
        await until_counted(running, f"securus_inflight_requests {min(3 + number, 3)}.0")
    ended = parse_reply(await asyncio.wait_for(readers[0].read(), 10))
    assert (ended.status, ended.header("connection")) == (408, "close")
    said = await metrics(running)
    assert 'securus_refusals_total{reason="overloaded"}' not in said


async def test_a_body_that_comes_is_read_also_where_others_make_room(start: Start) -> None:
    running, attackers = await start(concurrent_requests=2)
    for _ in range(2):
        await attackers.come(HALF_OF_A_FORM)
    await until_counted(running, "securus_inflight_requests 2.0")
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    reply = await running.send("POST", "/token", form, b"grant_type=nonsense")
    assert (reply.status, reply.json["error"]) == (400, "invalid_client")


@pytest.mark.parametrize(("said", "handshake"), [(b"", True), (HALF_OF_A_HEAD, True), (b"", False)])
async def test_connections_without_a_request_keep_nobody_out(
    start: Start, said: bytes, handshake: bool
) -> None:
    running, attackers = await start(connections=4, connections_of_address=4)
    for _ in range(12):
        await attackers.come(said, handshake=handshake)
        assert (await running.fhir("GET", "/Patient/A")).status == 200
    text = await metrics(running)
    assert "securus_connections_at_most 4.0" in text
    assert 'securus_connections_turned_away_total{why="all"} 0.0' in text


async def test_an_address_with_all_its_connections_is_refused_and_operators_are_answered(
    start: Start,
) -> None:
    running, attackers = await start(connections=100, connections_of_address=3)
    for _ in range(3):
        await attackers.come(HALF_OF_A_HEAD)
    for _ in range(5):
        with pytest.raises(OSError):
            await running.send("GET", MOUNT + "/metadata")
    text = await metrics(running)
    assert 'securus_connections_turned_away_total{why="address"} 5.0' in text
    assert "securus_connections 3.0" in text
    await attackers.leave()
    await until_counted(running, "securus_connections 0.0")
    assert (await running.fhir("GET", "/Patient/A")).status == 200


async def test_a_flood_of_pipelined_requests_is_answered_in_turn_with_others(start: Start) -> None:
    running, attackers = await start()
    request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
    readers = [await attackers.come(request * 1000) for _ in range(3)]
    await asyncio.wait_for(readers[0].readline(), 10)
    assert (await running.fhir("GET", "/Patient/A")).status == 200
    last = [await asyncio.wait_for(_answers(reader, 1000), 30) for reader in readers]
    assert last == [1000] * 3


async def _answers(reader: asyncio.StreamReader, most: int) -> int:
    """How many answers come, the one whose first line was read included."""
    found = 0
    while found < most:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        await reader.readexactly(int(length[16:]))
        found += 1
    return found
