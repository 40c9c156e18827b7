"""The front on real sockets: order, back-pressure in both directions, callers that leave, timeouts, TLS, the drain."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from authz.protocol.request import Answer, HttpRequest, RequestError
from gateway.demo.authority import Authority
from gateway.log_lines import JsonLines
from gateway.wire.connection import Connection
from gateway.wire.service import Patience, Service
from tests.support.gateway import parse_reply
from tests.support.wire import front

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("front")]
GET = b"GET /a HTTP/1.1\r\nHost: gw\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n"
MEGABYTE = b"x" * 2**20
SHORT = Patience(
    head=0.1, next_request=0.1, body=0.1, reader=0.1, linger=0.2, quiet=0.05, close=0.1, look=0.02
)
_WRITERS: list[asyncio.StreamWriter] = []


@pytest_asyncio.fixture(autouse=True)
async def callers_leave() -> AsyncIterator[None]:
    """After each test its callers are gone."""
    yield
    while _WRITERS:
        writer = _WRITERS.pop()
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def opened(port: int, context: Any = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = "localhost" if context is not None else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    _WRITERS.append(writer)
    return reader, writer


async def until_broken(reader: asyncio.StreamReader) -> bytes:
    """What comes before the connection ends or breaks."""
    found = b""
    with suppress(ConnectionError):
        while piece := await asyncio.wait_for(reader.read(2**16), 10):
            found += piece
    return found


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of the front and of a caller with a certificate of its own; files of both are in the folder."""
    authority = Authority.new("Test CA")
    (folder / "ca.pem").write_bytes(authority.pem)
    authority.issue(folder / "server.pem", folder / "server.key", "localhost", server=True)
    authority.issue(folder / "own.pem", folder / "own.key", "own.example", server=False)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    serving.load_cert_chain(folder / "server.pem", folder / "server.key")
    serving.verify_mode = ssl.CERT_OPTIONAL
    calling = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    calling.load_cert_chain(folder / "own.pem", folder / "own.key")
    return serving, calling


async def exchange(port: int, content: bytes) -> bytes:
    """Everything that comes back until the front closes."""
    reader, writer = await opened(port)
    writer.write(content)
    found = await asyncio.wait_for(reader.read(), 10)
    return found


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds; ten seconds are for ever."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    """What stands in the log of the listener: level, message, and the other fields."""
    written = [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "securus.listener"]
    always = ("at", "level", "logger", "message")
    return [
        (line["level"], line["message"], {name: line[name] for name in line if name not in always})
        for line in written
    ]


def only(common: Service) -> Connection:
    (connection,) = common.connections
    return connection


async def answering(request: HttpRequest) -> Answer:
    body = await request.body.read(2**30)
    return Answer(200, (("Content-Type", "text/plain"),), f"{request.path} {len(body)}".encode())


class Slow:
    """A handler that waits for a word, and knows what became of it."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer or Answer(200, (("Content-Type", "text/plain"),), b"done")
        self.begun: list[str] = []
        self.cancelled = False
        self.go = asyncio.Event()

    async def __call__(self, request: HttpRequest) -> Answer:
        self.begun.append(request.path)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.answer


class Endless:
    """A long body that counts what was asked of it."""

    def __init__(self, megabytes: int = 1000, error: Exception | None = None) -> None:
        self.asked = 0
        self.closed = False
        self._megabytes = megabytes
        self._error = error

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(self._megabytes):
                self.asked += 1
                yield MEGABYTE
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    async def handle(self, request: HttpRequest) -> Answer:
        return Answer(200, (("Content-Type", "text/plain"),), self.pieces())


# Order


async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    slow = Slow()
    async with front(slow) as (_, _, port):
        reader, writer = await opened(port)
        writer.write(GET + LAST)
        await until(lambda: slow.begun)
        assert slow.begun == ["/a"]
        slow.go.set()
        raw = await asyncio.wait_for(reader.read(), 10)
    assert (slow.begun, raw.count(b"HTTP/1.1 200 OK\r\n")) == (["/a", "/last"], 2)


async def test_what_a_caller_pipelines_is_bounded() -> None:
    slow = Slow()
    async with front(slow) as (_, common, port):
        _, writer = await opened(port)
        writer.write(GET + GET * 400_000)
        await until(lambda: slow.begun and only(common)._is_shut)
        held = len(only(common)._waiting)
        assert 64 * 1024 < held <= 64 * 1024 + 256 * 1024
        assert writer.transport.get_write_buffer_size() > 2**20
        writer.transport.abort()


async def test_a_connection_serves_many_requests_with_and_without_bodies() -> None:
    async with front(answering) as (_, _, port):
        reader, writer = await opened(port)
        for number in range(20):
            body = b"x" * number
            writer.write(
                f"POST /{number} HTTP/1.1\r\nHost: gw\r\nContent-Length: {number}\r\n\r\n".encode() + body
            )
            raw = await reader.readuntil(b"/%d %d" % (number, number))
            assert (parse_reply(raw).status, parse_reply(raw).body) == (200, f"/{number} {number}".encode())


# Answers


async def test_an_answer_has_our_name_one_date_and_its_length() -> None:
    async with front(answering) as (_, _, port):
        reply = parse_reply(await exchange(port, LAST))
    names = [name.lower() for name, _ in reply.headers]
    assert sorted(names) == ["connection", "content-length", "content-type", "date", "server"]
    assert (reply.header("Server"), reply.header("Content-Length")) == ("securus", "7")


async def test_HEAD_has_the_length_of_GET_and_no_body() -> None:
    async with front(answering) as (_, _, port):
        raw = await exchange(port, LAST.replace(b"GET", b"HEAD"))
    assert (parse_reply(raw).header("Content-Length"), parse_reply(raw).body) == ("7", b"")


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    async def handle(_: HttpRequest) -> Answer:
        return Answer(status, (), b"never sent")

    async with front(handle) as (_, _, port):
        reply = parse_reply(await exchange(port, LAST))
    assert (reply.status, reply.header("Content-Length"), reply.body) == (status, None, b"")


@pytest.mark.parametrize(
    "header", [("X-A", "b\r\nSet-Cookie: c"), ("X-A", "b\nc"), ("X-A", "b\0"), ("X\r\nA", "b"), ("Content-Length", "9")]
)  # fmt: skip
@pytest.mark.parametrize("is_long", [False, True])
async def test_a_header_that_would_split_the_answer_is_never_sent(
    header: tuple[str, str], is_long: bool
) -> None:
    endless = Endless(1)

    async def handle(_: HttpRequest) -> Answer:
        return Answer(200, (header,), endless.pieces() if is_long else b"abc")

    async with front(handle) as (_, _, port):
        raw = await exchange(port, LAST)
    assert parse_reply(raw).status == 500
    assert b"Cookie" not in raw


async def test_HTTP_1_0_gets_a_long_answer_without_chunks_and_then_the_end() -> None:
    async with front(Endless(2).handle) as (_, _, port):
        raw = await exchange(port, b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = parse_reply(raw)
    assert reply.header("Transfer-Encoding") is None
    assert reply.body == MEGABYTE * 2


async def test_HTTP_1_0_lives_on_when_it_asks_and_the_answer_is_short() -> None:
    async with front(answering) as (_, _, port):
        raw = await exchange(
            port, b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + b"GET /b HTTP/1.0\r\n\r\n"
        )
    assert raw.count(b" 200 OK\r\n") == 2
    assert raw.count(b"Connection: keep-alive\r\n") == 1


# Flow


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_slow_reader_holds_the_answer_back(is_tls: bool, tmp_path: Path) -> None:
    serving, calling = contexts(tmp_path) if is_tls else (None, None)
    endless = Endless()
    async with front(endless.handle, context=serving) as (_, common, port):
        reader, writer = await opened(port, calling)
        writer.write(LAST)
        await until(lambda: common.connections and only(common)._writer.is_paused)
        first = endless.asked
        assert only(common)._transport.get_write_buffer_size() <= 2 * 2**20  # a piece, and what was before it
        assert first < 100
        await reader.readexactly(20 * 2**20)
        await until(lambda: endless.asked > first)
        writer.transport.abort()
        await until(lambda: endless.closed)


async def test_a_body_that_nobody_reads_is_held_back() -> None:
    slow = Slow()
    async with front(slow) as (_, common, port):
        _, writer = await opened(port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 104857600\r\n\r\n" + MEGABYTE * 100)
        await until(lambda: slow.begun and only(common)._is_shut)
        body = only(common)._reader.body
        assert body is not None
        assert 64 * 1024 < body._size <= 64 * 1024 + 256 * 1024
        writer.transport.abort()


async def test_a_long_body_is_read_whole_through_the_back_pressure() -> None:
    async with front(answering) as (_, _, port):
        head = b"POST /a HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length: 33554432\r\n\r\n"
        assert parse_reply(await exchange(port, head + MEGABYTE * 32)).body == b"/a 33554432"


# Callers that leave, answers that break


@pytest.mark.parametrize("how", ["abort", "half-close"])
async def test_the_work_for_a_caller_who_left_is_cancelled(how: str) -> None:
    slow = Slow()
    async with front(slow) as (_, common, port):
        _, writer = await opened(port)
        writer.write(GET)
        await until(lambda: slow.begun)
        if how == "abort":
            writer.transport.abort()
        else:
            writer.write_eof()  # who writes no more is taken as gone, as behind most proxies
        await until(lambda: slow.cancelled and not common.connections)


async def test_a_long_answer_to_a_caller_who_left_is_closed() -> None:
    endless = Endless()
    async with front(endless.handle) as (_, common, port):
        reader, writer = await opened(port)
        writer.write(GET)
        await reader.readexactly(2**20)
        writer.transport.abort()
        await until(lambda: endless.closed and not common.connections)


async def test_an_answer_that_fails_on_its_way_never_looks_whole() -> None:
    async with front(Endless(1, RuntimeError("the store")).handle) as (_, _, port):
        reader, writer = await opened(port)
        writer.write(GET)
        raw = await until_broken(reader)
    assert b"\r\n0\r\n" not in raw


async def test_a_body_that_breaks_off_reaches_nobody_as_whole() -> None:
    errors: list[BaseException] = []

    async def handle(request: HttpRequest) -> Answer:
        try:
            return await answering(request)
        except BaseException as error:
            errors.append(error)
            raise

    async with front(handle) as (_, common, port):
        _, writer = await opened(port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: common.connections and only(common).work)
        writer.close()
        await until(lambda: errors and not common.connections)
    assert isinstance(errors[0], ConnectionError | asyncio.CancelledError)


async def test_a_handler_that_fails_is_500_and_says_nothing_of_the_cause() -> None:
    async def handle(_: HttpRequest) -> Answer:
        raise RuntimeError("secret")

    async with front(handle) as (_, _, port):
        raw = await exchange(port, LAST)
    assert parse_reply(raw).status == 500
    assert b"secret" not in raw


async def test_a_reading_that_fails_is_500_and_ends_the_connection() -> None:
    def read(*_: object) -> HttpRequest:
        raise ZeroDivisionError("secret")

    async with front(answering) as (_, common, port):
        common.read = read
        raw = await exchange(port, GET + GET)
    assert (parse_reply(raw).status, raw.count(b"HTTP/1.1 500")) == (500, 1)
    assert b"secret" not in raw


# Bodies that are asked for


EXPECTING = (
    b"POST /a HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
)


async def test_9110_10_1_1_100_Continue_comes_when_somebody_wants_the_body() -> None:
    async with front(answering) as (_, _, port):
        reader, writer = await opened(port)
        writer.write(EXPECTING)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert parse_reply(await reader.read()).body == b"/a 3"


@pytest.mark.parametrize(
    "content", [EXPECTING + b"abc", EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc"]
)
async def test_9110_10_1_1_no_100_Continue_for_a_body_that_is_there(content: bytes) -> None:
    async with front(answering) as (_, _, port):
        raw = await exchange(port, content)
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_9110_10_1_1_no_100_Continue_when_the_answer_needs_no_body_and_the_connection_ends() -> None:
    async def handle(_: HttpRequest) -> Answer:
        raise RequestError(403, "no")

    async with front(handle) as (_, _, port):
        raw = await exchange(port, EXPECTING.replace(b"Connection: close\r\n", b""))
    assert raw.startswith(b"HTTP/1.1 403 ")
    assert b"\r\nConnection: close\r\n" in raw


async def test_an_answer_before_the_end_of_the_body_reaches_the_caller_who_still_sends() -> None:
    async def handle(request: HttpRequest) -> Answer:
        await request.body.read(10)
        return Answer(204)

    async with front(handle, patience=SHORT) as (_, _, port):
        reader, writer = await opened(port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 8388608\r\n\r\n")
        for _ in range(8):
            writer.write(MEGABYTE)
        raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert parse_reply(raw).status == 413
        assert b"\r\nConnection: close\r\n" in raw


# Timeouts


async def test_a_head_that_does_not_end_is_408() -> None:
    async with front(answering, patience=SHORT) as (_, _, port):
        assert parse_reply(await exchange(port, b"GET /a HTTP/1.1\r\nHost: g")).status == 408


async def test_a_head_that_drips_is_408_all_the_same() -> None:
    async with front(answering, patience=SHORT) as (_, _, port):
        reader, writer = await opened(port)

        async def drip() -> None:
            for byte in b"GET /a HTTP/1.1\r\nX-A: " + b"b" * 4000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.005)

        dripping = asyncio.create_task(drip())
        assert parse_reply(await asyncio.wait_for(reader.read(), 10)).status == 408
        dripping.cancel()


async def test_an_idle_connection_is_closed_in_silence() -> None:
    async with front(answering, patience=SHORT) as (_, _, port):
        assert (await exchange(port, GET)).count(b"HTTP/1.1 ") == 1
        assert await exchange(port, b"") == b""


async def test_a_body_that_does_not_come_is_408() -> None:
    async with front(answering, patience=SHORT) as (_, _, port):
        raw = await exchange(port, b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 3\r\n\r\nab")
    assert parse_reply(raw).status == 408


async def test_a_body_that_drips_is_408_all_the_same() -> None:
    async with front(answering, patience=SHORT) as (_, _, port):
        reader, writer = await opened(port)

        async def drip() -> None:
            writer.write(b"POST /a HTTP/1.1\r\nHost: gw\r\nContent-Length: 4000\r\n\r\n")
            for _ in range(4000):
                writer.write(b"b")
                await asyncio.sleep(0.005)

        dripping = asyncio.create_task(drip())
        assert parse_reply(await asyncio.wait_for(reader.read(), 10)).status == 408
        dripping.cancel()


async def test_a_reader_who_takes_nothing_is_cut_off_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    endless = Endless()
    async with front(endless.handle, patience=SHORT) as (_, common, port):
        _, writer = await opened(port)
        writer.write(LAST)
        await until(lambda: endless.closed and not common.connections)
    assert lines(caplog) == [
        ("info", "an answer broke off", {"peer": "127.0.0.1", "cause": "its reader took nothing of it"})
    ]


async def test_one_connection_that_cannot_be_ended_stops_no_others_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_order, failed = Connection.overdue, list[Connection]()

    def overdue(connection: Connection) -> None:
        if failed and connection not in failed:
            in_order(connection)
            return
        failed.append(connection)
        raise RuntimeError("the transport is not what it was")

    monkeypatch.setattr(Connection, "overdue", overdue)
    async with front(answering, patience=SHORT) as (_, common, port):
        await opened(port)
        await opened(port)
        await until(lambda: failed)
        await until(lambda: not common.connections)


async def test_a_failure_over_a_request_that_waited_ends_the_connection_at_once() -> None:
    async with front(answering) as (_, common, port):
        read = common.read

        def reading(method: str, target: str, *more: Any) -> HttpRequest:
            if target == "/last":
                raise ArithmeticError
            return read(method, target, *more)

        common.read = reading
        answered, failed = (await exchange(port, GET + LAST)).split(b"HTTP/1.1 ")[1:]
        assert (answered[:3], failed[:3]) == (b"200", b"500")


async def test_work_that_takes_long_is_no_timeout() -> None:
    slow = Slow()
    async with front(slow, patience=SHORT) as (_, common, port):
        reader, writer = await opened(port)
        writer.write(LAST)
        await until(lambda: slow.begun)
        assert only(common).deadline == float("inf")
        slow.go.set()
        assert parse_reply(await reader.read()).body == b"done"


# TLS


async def test_the_certificate_and_the_chain_of_mutual_TLS_come_with_each_request(tmp_path: Path) -> None:
    serving, calling = contexts(tmp_path)
    seen: list[HttpRequest] = []

    async def handle(request: HttpRequest) -> Answer:
        seen.append(request)
        return await answering(request)

    async with front(handle, context=serving) as (_, _, port):
        reader, writer = await opened(port, calling)
        writer.write(GET + LAST)
        assert (await asyncio.wait_for(reader.read(), 10)).count(b"HTTP/1.1 200") == 2
        bare = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        reader, writer = await opened(port, bare)
        writer.write(LAST)
        await asyncio.wait_for(reader.read(), 10)
    own = ssl.PEM_cert_to_DER_cert((tmp_path / "own.pem").read_text())
    assert [request.certificate for request in seen] == [own, own, None]
    assert {request.peer for request in seen} == {"127.0.0.1"}


# The drain


async def test_a_drain_lets_the_answer_in_work_out_whole_and_says_that_it_is_the_last() -> None:
    slow = Slow()
    async with front(slow) as (opened_front, common, port):
        idle_reader, _ = await opened(port)
        reader, writer = await opened(port)
        writer.write(GET + LAST)
        await until(lambda: slow.begun and len(common.connections) == 2)
        closing = asyncio.create_task(opened_front.close(10.0))
        assert await asyncio.wait_for(idle_reader.read(), 10) == b""
        with pytest.raises(OSError):
            await opened(port)
        assert not closing.done()
        slow.go.set()
        raw = await asyncio.wait_for(reader.read(), 10)
        await closing
        assert (parse_reply(raw).status, parse_reply(raw).body) == (200, b"done")
        assert parse_reply(raw).header("Connection") == "close"
        assert slow.begun == ["/a"]


async def test_a_drain_that_takes_too_long_breaks_the_answer_off_cancels_its_work_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Slow()
    async with front(slow) as (opened_front, _, port):
        reader, writer = await opened(port)
        writer.write(GET)
        await until(lambda: slow.begun)
        await opened_front.close(0.05)
        assert slow.cancelled
        assert await until_broken(reader) == b""
    assert lines(caplog) == [
        ("warning", "answers broke off", {"count": 1, "cause": "the time to drain is over"})
    ]


async def test_a_long_answer_ends_whole_in_a_drain() -> None:
    endless = Endless(30)
    async with front(endless.handle) as (opened_front, common, port):
        reader, writer = await opened(port)
        writer.write(GET)
        await until(lambda: common.connections and only(common)._writer.is_paused)
        closing = asyncio.create_task(opened_front.close(10.0))
        raw = await asyncio.wait_for(reader.read(), 10)
        await closing
        assert parse_reply(raw).body == MEGABYTE * 30


# Refusals


async def test_what_is_no_request_is_in_the_log_with_its_cause_and_its_peer_and_without_its_bytes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with front(answering) as (_, _, port):
        await exchange(port, b"GET /Patient/A HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    cause = "the header host is sent more than once"
    assert lines(caplog) == [("info", "a request cannot be read", {"peer": "127.0.0.1", "cause": cause})]


async def test_a_refused_request_that_came_whole_ends_at_once() -> None:
    patience = Patience(linger=1000.0, quiet=1000.0)
    async with front(answering, patience=patience) as (_, _, port):
        raw = await exchange(port, b"GET /a HTTP/1.1\r\nX-A: b\r\n\r\n")
    assert parse_reply(raw).status == 400


async def test_a_refusal_reaches_a_caller_who_still_sends_and_the_connection_ends_when_it_is_quiet() -> None:
    patience = Patience(quiet=0.05, look=0.02)
    async with front(answering, patience=patience) as (_, common, port):
        reader, writer = await opened(port)
        writer.write(b"POST /a HTTP/1.1\r\nContent-Length: 8388608\r\n\r\n")
        for _ in range(8):
            writer.write(MEGABYTE)
        assert parse_reply(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).status == 400
        await until(lambda: not common.connections)


async def test_a_caller_who_never_stops_sending_behind_a_refusal_is_cut_off() -> None:
    patience = Patience(linger=0.2, quiet=0.05, look=0.02)
    async with front(answering, patience=patience) as (_, common, port):
        _, writer = await opened(port)
        writer.write(b"POST /a HTTP/1.1\r\nContent-Length: 838860800\r\n\r\n")

        async def send() -> None:
            with suppress(ConnectionError):
                while True:
                    writer.write(MEGABYTE)
                    await writer.drain()

        sending = asyncio.create_task(send())
        await until(lambda: common.connections)
        await until(lambda: not common.connections)
        await asyncio.wait_for(sending, 10)
