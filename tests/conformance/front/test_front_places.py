"""How many callers are connected, on real sockets: bounds, who makes room, handshakes, and no descriptor left."""

import asyncio
import errno
import gc
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from authz.protocol.request import Answer, HttpRequest
from gateway.demo.world import free_port
from gateway.listener import Face
from gateway.settings import Limits, Listener, TrustedProxies
from gateway.wire import accepting
from gateway.wire.front import Front
from gateway.wire.places import Bounds, Places
from tests.conformance.front.test_front_connections import (
    GET,
    Slow,
    answering,
    callers_leave,  # noqa: F401  # of exchange()
    contexts,
    exchange,
    until,
)
from tests.support.wire import front, service

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("front")]
_SOCKETS: list[socket.socket] = []
REFUSED = b"refused"


@pytest_asyncio.fixture(autouse=True)
async def sockets_close() -> AsyncIterator[None]:
    """After each test its callers are gone."""
    yield
    while _SOCKETS:
        _SOCKETS.pop().close()


def caller(port: int) -> socket.socket:
    """A caller that is connected, as far as its system knows; nobody has accepted it yet."""
    made = socket.create_connection(("127.0.0.1", port))  # which takes no turn of the loop
    _SOCKETS.append(made)
    made.setblocking(False)
    return made


async def said_to(made: socket.socket) -> bytes:
    """What comes next; b"" for an end in good order, REFUSED for a reset."""
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(made, 2**16), 4)
    except ConnectionResetError:
        return REFUSED


async def asks(made: socket.socket) -> bytes:
    """The answer to a request."""
    with suppress(ConnectionError):
        await asyncio.get_running_loop().sock_sendall(made, GET)
    return (await said_to(made))[:12]


def later_than(moment: float) -> Callable[[], bool]:
    """Whether the clock of the loop has gone on: of two that came at the same moment either may be the first."""
    return lambda: asyncio.get_running_loop().time() > moment


OK = b"HTTP/1.1 200"


async def test_who_connects_beyond_the_bound_of_an_address_is_refused_and_serves_again_after_one_left() -> (
    None
):
    counted: Counter[str] = Counter()
    places = Places(Bounds(100, 2), counted=lambda why: counted.update([why]))
    async with front(answering, places=places) as (_, _, port):
        first, second = caller(port), caller(port)
        assert [await asks(first), await asks(second)] == [OK, OK]
        assert await said_to(caller(port)) == REFUSED
        assert (places.taken, counted) == (2, {"address": 1})
        first.close()
        await until(lambda: places.taken == 1)
        assert await asks(caller(port)) == OK
        assert await asks(second) == OK
    assert places.taken == 0


async def test_a_trusted_proxy_has_as_many_as_there_are_places() -> None:
    places = Places(Bounds(3, 1))
    async with front(answering, places=places, is_unbound=lambda peer: peer == "127.0.0.1") as (_, _, port):
        callers = [caller(port) for _ in range(3)]
        assert [await asks(each) for each in callers] == [OK] * 3


async def test_the_longest_idle_connection_makes_room_and_none_with_a_request_in_work() -> None:
    slow, counted = Slow(), Counter[str]()
    places = Places(Bounds(3, 100), counted=lambda why: counted.update([why]))
    async with front(slow, places=places) as (_, _, port):
        loop = asyncio.get_running_loop()
        working, idle = caller(port), caller(port)
        await until(lambda: places.taken == 2)
        await until(later_than(loop.time()))
        half = caller(port)
        await until(lambda: places.taken == 3)
        await loop.sock_sendall(working, GET)
        await loop.sock_sendall(half, GET[:10])
        await until(lambda: slow.begun)
        newcomers = [caller(port)]
        assert await said_to(idle) in (b"", REFUSED)
        newcomers.append(caller(port))
        assert await said_to(half) in (b"", REFUSED)
        await until(lambda: places.taken == 3)
        for each in newcomers:
            await loop.sock_sendall(each, GET)
        await until(lambda: len(slow.begun) == 3)
        assert await said_to(caller(port)) == REFUSED  # each has a request in work: the newest goes
        assert counted == {"room": 2, "all": 1}
        slow.go.set()
        assert [(await said_to(each))[:12] for each in (working, *newcomers)] == [OK] * 3


async def test_an_answer_on_its_way_is_not_ended_for_a_newcomer() -> None:
    async def long(request: HttpRequest) -> Answer:
        return Answer(200, (), b"x" * 2**24)

    places = Places(Bounds(1, 1))
    async with front(long, places=places, is_unbound=lambda peer: True) as (_, _, port):
        reading = caller(port)
        await asyncio.get_running_loop().sock_sendall(reading, GET)
        await until(lambda: places.taken == 1)
        await said_to(reading)
        assert await said_to(caller(port)) == REFUSED


async def test_handshakes_that_do_not_end_hold_places_and_make_room(tmp_path: Path) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(3, 100))
    async with front(answering, places=places, context=serving) as (_, common, port):
        silent = []
        for number in range(3):
            silent.append(caller(port))
            await until(lambda wanted=number + 1: places.taken == wanted)
            await until(later_than(asyncio.get_running_loop().time()))
        assert not common.connections
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=calling, server_hostname="localhost"
        )
        writer.write(GET)
        assert (await reader.readexactly(12)) == OK
        assert await said_to(silent[0]) in (b"", REFUSED)
        await until(lambda: places.taken == 3)
        writer.transport.abort()
        for each in silent:
            each.close()
        await until(lambda: places.taken == 0)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
)
@pytest.mark.parametrize("leaves", ["closes", "resets"])
async def test_every_way_to_leave_a_handshake_gives_the_place_back(
    tmp_path: Path, sent: bytes, leaves: str
) -> None:
    serving, _ = contexts(tmp_path)
    places = Places(Bounds(10, 4))
    async with front(answering, places=places, context=serving) as (_, _, port):
        made = caller(port)
        await until(lambda: places.taken == 1)
        await asyncio.get_running_loop().sock_sendall(made, sent)
        if leaves == "resets":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        made.close()
        await until(lambda: places.taken == 0)


async def test_places_of_every_end_of_a_connection_come_back() -> None:
    places = Places(Bounds(100, 100))
    async with front(answering, places=places) as (_, _, port):
        for content in (GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"nonsense\r\n\r\n"):
            assert await exchange(port, content)
        gone = caller(port)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        await until(lambda: places.taken == 0)
        assert await asks(caller(port)) == OK


async def test_accepted_connections_send_at_once_and_do_not_block() -> None:
    async with front(answering) as (_, common, port):
        made = caller(port)
        assert await asks(made) == OK
        (connection,) = common.connections
        theirs = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not os.get_blocking(theirs.fileno())


class Shortage:
    """Accepting as it is where no descriptor is left: it fails until so many were given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int = errno.EMFILE) -> None:
        self.is_on = False
        self.failed = 0
        self.given_up = 0
        accept, close, opened, refuse = socket.socket.accept, os.close, os.open, accepting._refuse

        def accept_as_it_is(listening: socket.socket) -> object:
            if self.is_on and not self.given_up:
                self.failed += 1
                raise OSError(error, os.strerror(error))
            found = accept(listening)
            if self.is_on:
                self.given_up -= 1
            return found

        def closing(descriptor: int) -> None:
            if self.is_on:
                self.given_up += 1
            close(descriptor)

        def opening(*args: object, **kwargs: object) -> int:
            if self.is_on and not self.given_up:
                raise OSError(error, os.strerror(error))
            if self.is_on:
                self.given_up -= 1
            return opened(*args, **kwargs)  # type: ignore[arg-type]

        def refusing(accepted: socket.socket) -> None:
            refuse(accepted)
            self.given_up += 1

        monkeypatch.setattr("gateway.wire.accepting.socket.socket.accept", accept_as_it_is)
        monkeypatch.setattr("gateway.wire.accepting._refuse", refusing)
        monkeypatch.setattr("gateway.wire.accepting.os.close", closing)
        monkeypatch.setattr("gateway.wire.accepting.os.open", opening)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While no descriptor is left."""
        self.is_on, self.given_up = True, 0
        yield
        self.is_on = False


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
async def test_without_descriptors_what_waits_is_refused_and_the_listener_rests(
    monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    counted: Counter[str] = Counter()
    shortage = Shortage(monkeypatch, error)
    places = Places(Bounds(100, 100), counted=lambda why: counted.update([why]))
    slow = Slow()
    async with front(slow, places=places) as (_, _, port):
        working = caller(port)
        await asyncio.get_running_loop().sock_sendall(working, GET)
        await until(lambda: slow.begun)
        with shortage.on():
            assert [await said_to(caller(port)) for _ in range(5)] == [REFUSED] * 5
            tries = shortage.failed
            await asyncio.sleep(0.3)
            assert shortage.failed - tries < 10  # nobody waits: nothing is tried again and again
        assert counted["descriptors"] == 5
        slow.go.set()
        assert (await said_to(working))[:12] == OK
        assert await asks(caller(port)) == OK


async def test_without_descriptors_who_waits_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    shortage = Shortage(monkeypatch)
    places = Places(Bounds(100, 100))
    async with front(answering, places=places) as (_, _, port):
        idle = caller(port)
        assert await asks(idle) == OK
        with shortage.on():
            newcomer = caller(port)
            assert await said_to(idle) in (b"", REFUSED)
        assert await asks(newcomer) == OK


async def test_a_spare_that_is_gone_too_does_not_make_the_loop_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    shortage = Shortage(monkeypatch)
    slow = Slow()
    async with front(slow, places=Places(Bounds(100, 100))) as (opened, _, port):
        working = caller(port)
        await asyncio.get_running_loop().sock_sendall(working, GET)
        await until(lambda: slow.begun)
        while opened._acceptor._held:
            os.close(opened._acceptor._held.pop())
        with shortage.on():
            waiting = caller(port)
            await until(lambda: shortage.failed)
            tries = shortage.failed
            await asyncio.sleep(0.3)
            assert shortage.failed - tries < 10
        slow.go.set()
        assert await asks(waiting) == OK  # it waited in the line of the system, and is served
        await until(lambda: opened._acceptor._held)


async def test_what_accept_says_of_a_caller_that_left_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = socket.socket.accept
    errors = [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EINVAL]

    def failing(listening: socket.socket) -> object:
        if errors:
            raise OSError(errors[0], os.strerror(errors.pop(0)))
        return accept(listening)

    caplog.set_level(logging.INFO)
    async with front(answering) as (_, _, port):
        monkeypatch.setattr("gateway.wire.accepting.socket.socket.accept", failing)
        assert await asks(caller(port)) == OK
        assert not errors
    told = [record.getMessage() for record in caplog.records if record.name == "securus.listener"]
    assert told == ["connections cannot be accepted"]  # of the last one, which is not of a caller


async def test_accepting_that_fails_again_and_again_is_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, failed = socket.socket.accept, [0]

    def failing(listening: socket.socket) -> object:
        if failed[0] < 5:
            failed[0] += 1
            raise OSError(errno.EINVAL, "no such thing")
        return accept(listening)

    caplog.set_level(logging.INFO)
    counted: Counter[str] = Counter()
    places = Places(Bounds(100, 100), counted=lambda why: counted.update([why]))
    monkeypatch.setattr("gateway.wire.accepting._REST_SECONDS", 0.001)
    async with front(answering, places=places) as (_, _, port):
        monkeypatch.setattr("gateway.wire.accepting.socket.socket.accept", failing)
        assert await asks(caller(port)) == OK
    said = [vars(record) for record in caplog.records if record.name == "securus.listener"]
    assert [(each["message"], each["count"], each["cause"]) for each in said] == [
        ("connections cannot be accepted", 1, "[Errno 22] no such thing")
    ]
    assert counted == {"error": 5}


async def test_who_had_connected_when_the_drain_began_is_answered_once() -> None:
    async with front(answering) as (opened, common, port):
        loop = asyncio.get_running_loop()
        idle = caller(port)
        assert await asks(idle) == OK
        silent, late = (
            socket.create_connection(("127.0.0.1", port)),
            socket.create_connection(("127.0.0.1", port)),
        )
        _SOCKETS.extend([silent, late])
        late.sendall(GET)
        opened.drain()  # before the loop turned: nobody has accepted them yet
        for each in (silent, late):
            each.setblocking(False)
        assert await said_to(idle) == b""
        answer = await said_to(late)
        assert answer[:12] == OK
        assert b"Connection: close" in answer
        with pytest.raises(ConnectionRefusedError):
            caller(port)
        await asyncio.wait_for(opened.close(10.0), 9)  # the silent one is not waited for so long
        assert await said_to(silent) == b""
        assert not common.connections
        await loop.sock_sendall(silent, b"x")


async def test_the_body_that_is_overdue_first_is_ended_for_another_request() -> None:
    begun: list[str] = []

    async def reading(request: HttpRequest) -> Answer:
        begun.append(request.path)
        await request.body.read(1000)
        return Answer(200, (), b"read")

    places = Places(Bounds(100, 100))
    async with front(reading, places=places) as (_, common, port):
        loop = asyncio.get_running_loop()
        assert not places.end_a_body()
        callers = []
        for name in ("a", "b"):
            callers.append(caller(port))
            post = f"POST /{name} HTTP/1.1\r\nHost: gw\r\nContent-Length: 10\r\n\r\n12345".encode()
            await loop.sock_sendall(callers[-1], post)
            await until(lambda wanted=name: begun[-1:] == [f"/{wanted}"])
            await until(lambda: all(each.body_due is not None for each in common.connections))
            await until(later_than(loop.time()))
        await until(later_than(loop.time() + 0.1))  # after a look that found nobody
        assert places.end_a_body()
        assert (await said_to(callers[0]))[:12] == b"HTTP/1.1 408"
        await loop.sock_sendall(callers[1], b"67890")
        assert (await said_to(callers[1]))[:12] == OK
        assert not places.end_a_body()


async def test_a_front_that_cannot_listen_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        opened = Front(service(answering), Places(Bounds(10, 10)))
        with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1 port {port}: address already in use"):
            await opened.open("127.0.0.1", port, None)
        gc.collect()  # an unclosed socket would be told here
        await opened.close(1.0)


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.0/8", [OK, OK]), ("127.0.0.2", [OK, REFUSED])])
async def test_proxies_that_a_listener_trusts_have_no_bound_of_their_own(
    trusted: str, expected: list[bytes]
) -> None:
    port = free_port()
    listener = Listener("public", "127.0.0.1", port, "https://gw", None, TrustedProxies((trusted,)))
    face = Face(listener, Limits(), answering, Places(Bounds(10, 1)))
    await face.open(None)
    try:
        assert [await asks(caller(port)) for _ in range(2)] == expected
    finally:
        await face.close(1.0)


async def test_a_socket_file_that_is_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "0.sock"
    for _ in range(2):  # the first one leaves it behind
        opened = Front(service(answering))
        await opened.open_file(path)
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(GET)
        assert await reader.readexactly(12) == OK
        writer.close()
        await opened.close(1.0)
        assert path.exists()
