"""Callers that leave early, and answers that cannot go out: whatever was held for them is let go, and it is on record."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from authz.protocol.request import Answer, HttpRequest
from gateway.audit.log import AuditUnavailable
from gateway.settings import ResponseSignatures
from gateway.wire.connection import Connection
from tests.support.gateway import MOUNT, RunningGateway, start_gateway, stop_gateway
from tests.support.long_bundle import long_bundle
from tests.support.wire import Wire, service

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("attacks")]
SEARCH = "/Observation?code=x"
WORDS = list(ResponseSignatures)


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[RunningGateway]:
    gateway = await start_gateway(folder, **options)
    try:
        yield gateway
    finally:
        await stop_gateway(gateway)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds; five seconds are for ever."""
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.01)


async def opened(gateway: RunningGateway) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(gateway.folder / "ca.pem"))
    return await asyncio.open_connection("localhost", gateway.port, ssl=context, limit=2**16)


async def request_bytes(gateway: RunningGateway, method: str, path: str) -> bytes:
    token = await gateway.token()
    target = MOUNT + path
    proof = gateway.proof(method, gateway.origin + target.partition("?")[0], token)
    wish = 'sig=("@status" "content-digest")'
    return (
        f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n"
        f"Accept-Signature: {wish}\r\n\r\n"
    ).encode()


def connections(gateway: RunningGateway) -> int:
    """Connections to the store that are in use."""
    return gateway.gateway._mounts[0].client.in_use


@asynccontextmanager
async def nothing_left(gateway: RunningGateway) -> AsyncIterator[None]:
    """After the block, soon: no connection to the store in use, no request in flight, no task more than before."""
    before = asyncio.all_tasks()
    yield

    async def let_go() -> bool:
        return (
            connections(gateway) == 0
            and gateway.gateway.metrics.registry.get_sample_value("securus_inflight_requests") == 0
            and not [task for task in asyncio.all_tasks() - before if not task.done()]
        )

    await until(let_go)


async def until_no_connection(gateway: RunningGateway) -> None:
    async def freed() -> bool:
        return connections(gateway) == 0

    await until(freed)


async def delivered(gateway: RunningGateway) -> list[Any]:
    return [record["ended"] for record in await gateway.audit() if record["event"] == "delivered"]


@pytest.mark.parametrize("word", WORDS)
async def test_who_hangs_up_in_the_middle_of_a_long_bundle_frees_the_store_and_is_on_record(
    tmp_path: Path, word: ResponseSignatures
) -> None:
    async with running(tmp_path, response_signatures=word) as gateway:
        gateway.upstream.answer = long_bundle(gateway, 400)
        async with nothing_left(gateway):
            reader, writer = await opened(gateway)
            writer.write(await request_bytes(gateway, "GET", SEARCH))
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(300_000)
            assert connections(gateway) == 1
            assert await delivered(gateway) == []
            writer.transport.abort()
        assert await delivered(gateway) == ["broken-off"]
        access = [record for record in await gateway.audit() if record["event"] == "access"][-1]
        assert (access["decision"], access["status"]) == ("permit", 200)


@pytest.mark.parametrize("word", WORDS)
async def test_who_hangs_up_while_the_store_thinks_frees_it(tmp_path: Path, word: ResponseSignatures) -> None:
    async with running(tmp_path, response_signatures=word) as gateway:
        asked, left = asyncio.Event(), asyncio.Event()

        async def think(request: web.BaseRequest) -> web.StreamResponse:
            asked.set()
            async with asyncio.timeout(5):
                while request.transport is not None and not request.transport.is_closing():
                    await asyncio.sleep(0.01)
            left.set()
            return web.Response()

        gateway.upstream.answer = think
        async with nothing_left(gateway):
            _, writer = await opened(gateway)
            writer.write(await request_bytes(gateway, "GET", SEARCH))
            await asyncio.wait_for(asked.wait(), 5)
            assert connections(gateway) == 1
            writer.transport.abort()
            await asyncio.wait_for(left.wait(), 5)  # the store is told, it need not go on
        assert await delivered(gateway) == []


@pytest.mark.parametrize("word", WORDS)
async def test_head_of_a_long_bundle_leaves_nothing_and_delivers_nothing(
    tmp_path: Path, word: ResponseSignatures
) -> None:
    async with running(tmp_path, response_signatures=word) as gateway:
        gateway.upstream.answer = long_bundle(gateway, 40)
        async with nothing_left(gateway):
            reply = await gateway.fhir("HEAD", SEARCH)
            assert (reply.status, reply.body) == (200, b"")
        assert await delivered(gateway) == []


@pytest.mark.parametrize("word", WORDS)
async def test_who_hangs_up_while_the_record_is_written_frees_the_store(
    tmp_path: Path, word: ResponseSignatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, response_signatures=word) as gateway:
        gateway.upstream.answer = long_bundle(gateway, 400)
        writing = asyncio.Event()

        async def slow(record: object) -> None:
            writing.set()
            await asyncio.Event().wait()

        async with nothing_left(gateway):
            with monkeypatch.context() as patch:
                patch.setattr(gateway.gateway.audit, "record", slow)
                _, writer = await opened(gateway)
                writer.write(await request_bytes(gateway, "GET", SEARCH))
                await asyncio.wait_for(writing.wait(), 5)
                assert connections(gateway) == 1
                writer.transport.abort()
                await until_no_connection(gateway)
        assert await delivered(gateway) == []


@pytest.mark.parametrize("word", WORDS)
async def test_a_long_bundle_whose_record_cannot_be_written_frees_the_store(
    tmp_path: Path, word: ResponseSignatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, response_signatures=word) as gateway:
        gateway.upstream.answer = long_bundle(gateway, 400)

        async def full(record: object) -> None:
            raise AuditUnavailable("the disk is full")

        async with nothing_left(gateway):
            with monkeypatch.context() as patch:
                patch.setattr(gateway.gateway.audit, "record", full)
                reply = await gateway.fhir("GET", SEARCH)
                assert (reply.status, reply.reason) == (503, "audit-unavailable")
        assert await delivered(gateway) == []


async def test_a_store_that_breaks_off_is_on_record_and_let_go(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        gateway.upstream.answer = long_bundle(gateway, 12, breaks_off=True)
        async with nothing_left(gateway):
            reply = await gateway.fhir("GET", SEARCH)
            assert reply.status == 200
        assert await delivered(gateway) == ["broken-off"]


async def test_a_caller_who_leaves_as_the_gateway_ends_does_not_keep_it_from_ending() -> None:
    """The end of its TLS is under way: a transport that is closed once more could not be asked what it holds."""

    class Closing(Wire):
        def is_closing(self) -> bool:
            return True

        def close(self) -> None:
            raise AssertionError("closed once more")

    async def handler(request: HttpRequest) -> Answer:
        return Answer(204)

    connection = Connection(service(handler), asyncio.get_running_loop())
    connection.connection_made(Closing())
    connection.drain()
    assert not connection.is_busy
