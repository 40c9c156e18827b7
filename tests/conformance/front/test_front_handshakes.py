"""TLS handshakes on real sockets: who is silent, who leaves, who stalls, and who is answered meanwhile."""

import asyncio
import socket
import ssl
from collections import Counter
from pathlib import Path

import pytest

from gateway.wire import accepting, handshakes
from gateway.wire.places import Bounds, Places
from gateway.wire.service import Patience
from tests.conformance.front.test_front_connections import GET, answering, contexts, until
from tests.conformance.front.test_front_places import (
    OK,
    REFUSED,
    asks,
    caller,
    said_to,
    sockets_close,  # noqa: F401  # of caller()
)
from tests.support.wire import front

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("front")]


def hello(context: ssl.SSLContext) -> bytes:
    """The first flight of a caller."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(coming, going, server_hostname="localhost").do_handshake()
    return going.read()


async def connected(port: int, context: ssl.SSLContext) -> bytes:
    """How the answer begins to somebody who shakes hands as one does."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(GET)
    try:
        return await asyncio.wait_for(reader.readexactly(12), 10)
    finally:
        writer.transport.abort()


async def test_who_says_nothing_has_no_handshake_and_is_ended_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    monkeypatch.setattr(accepting, "_HANDSHAKE_SECONDS", 0.05)
    async with front(answering, places=places, context=serving, patience=Patience(look=0.02)) as (_, _, port):
        silent = [caller(port) for _ in range(3)]
        await until(lambda: places.taken == 3)
        assert (places.handshakes.under_way, places.handshakes.waiting) == (0, 0)
        for each in silent:
            assert await said_to(each) in (b"", REFUSED)
        await until(lambda: places.taken == 0)
        monkeypatch.setattr(accepting, "_HANDSHAKE_SECONDS", 20.0)
        assert await connected(port, calling) == OK


@pytest.mark.parametrize("count", [1, 5, 8, 9, 100])
async def test_half_of_a_hello_has_no_turn_and_the_whole_has(tmp_path: Path, count: int) -> None:
    """However it is cut; and what was heard of it is heard by the handshake."""
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    async with front(answering, places=places, context=serving) as (_, _, port):
        loop = asyncio.get_running_loop()
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = calling.wrap_bio(coming, going, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        first = going.read()
        made = caller(port)
        await loop.sock_sendall(made, first[:count])
        assert await connected(port, calling) == OK  # nobody waits behind it
        assert (places.handshakes.under_way, places.handshakes.waiting) == (0, 0)
        for byte in range(count, min(count + 20, len(first) - 1)):
            await loop.sock_sendall(made, first[byte : byte + 1])
            await asyncio.sleep(0)
        await loop.sock_sendall(made, first[min(count + 20, len(first) - 1) :])
        while True:
            coming.write(await said_to(made))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        tls.write(GET)
        await loop.sock_sendall(made, going.read())
        answer = b""
        while not answer.startswith(OK):
            coming.write(await said_to(made))
            try:
                answer += tls.read()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize(
    "said", [GET, b"\x15\x03\x01\x00\x02\x01\x00\x00\x00", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"]
)
async def test_what_is_no_hello_is_ended_at_once(tmp_path: Path, said: bytes) -> None:
    serving, _ = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    async with front(answering, places=places, context=serving) as (_, _, port):
        made = caller(port)
        await asyncio.get_running_loop().sock_sendall(made, said)
        assert await said_to(made) in (b"", REFUSED)
        await until(lambda: places.taken == 0)


async def test_who_leaves_in_the_middle_of_a_hello_gives_the_place_back(tmp_path: Path) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    async with front(answering, places=places, context=serving) as (_, _, port):
        for count in (3, 60):
            made = caller(port)
            await asyncio.get_running_loop().sock_sendall(made, hello(calling)[:count])
            await until(lambda: places.taken == 1)
            made.close()
            await until(lambda: places.taken == 0)


async def test_one_that_has_not_had_its_turn_is_ended_in_time_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    monkeypatch.setattr(accepting, "_HANDSHAKE_SECONDS", 0.2)
    monkeypatch.setattr(handshakes, "AT_ONCE", 0)
    async with front(answering, places=places, context=serving, patience=Patience(look=0.02)) as (_, _, port):
        made = caller(port)
        await asyncio.get_running_loop().sock_sendall(made, hello(calling))
        await until(lambda: places.handshakes.waiting == 1)
        assert await said_to(made) in (b"", REFUSED)
        await until(lambda: (places.taken, places.handshakes.waiting) == (0, 0))


async def test_handshakes_of_many_at_once_all_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of one address than may be under way: nobody is refused."""
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(1000, 1000))
    monkeypatch.setattr(handshakes, "OF_ADDRESS", 4)
    async with front(answering, places=places, context=serving) as (_, _, port):
        assert await asyncio.gather(*(connected(port, calling) for _ in range(60))) == [OK] * 60
        await until(lambda: places.taken == 0)
        assert (places.handshakes.under_way, places.handshakes.waiting) == (0, 0)


async def test_handshakes_that_stall_are_ended_for_those_of_their_address_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, calling = contexts(tmp_path)
    counted: Counter[str] = Counter()
    places = Places(Bounds(100, 100), counted=lambda why: counted.update([why]))
    monkeypatch.setattr(handshakes, "OF_ADDRESS", 2)
    monkeypatch.setattr(handshakes, "STALLED_SECONDS", 0.05)
    async with front(answering, places=places, context=serving, patience=Patience(look=0.02)) as (_, _, port):
        stalling = [caller(port), caller(port)]
        for each in stalling:
            await asyncio.get_running_loop().sock_sendall(each, hello(calling))
        await until(lambda: places.handshakes.under_way == 2)
        assert await connected(port, calling) == OK
        assert 1 <= counted["handshake"] <= 2
    assert places.taken == 0


async def test_a_caller_that_leaves_before_its_turn_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(3, 3))
    monkeypatch.setattr(handshakes, "AT_ONCE", 0)
    async with front(answering, places=places, context=serving) as (_, _, port):
        callers = [caller(port) for _ in range(3)]
        for each in callers:
            await asyncio.get_running_loop().sock_sendall(each, hello(calling))
        await until(lambda: places.handshakes.waiting == 3)
        await until(lambda: places.make_room())  # as for a newcomer where all places are taken
        await until(lambda: (places.taken, places.handshakes.waiting) == (2, 2))
        for each in callers:
            each.close()
        monkeypatch.setattr(handshakes, "AT_ONCE", 256)
        assert (
            await connected(port, calling) == OK
        )  # its turn comes behind those that left, of which nothing becomes
        await until(
            lambda: (places.taken, places.handshakes.under_way, places.handshakes.waiting) == (0, 0, 0)
        )


async def test_the_drain_ends_whoever_waits_for_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(10, 10))
    monkeypatch.setattr(handshakes, "AT_ONCE", 0)
    patience = Patience(late=0.05)
    async with front(answering, places=places, context=serving, patience=patience) as (opened, _, port):
        waits, silent = caller(port), caller(port)
        await asyncio.get_running_loop().sock_sendall(waits, hello(calling))
        await until(lambda: (places.taken, places.handshakes.waiting) == (2, 1))
        await asyncio.wait_for(opened.close(9.0), 8)
        assert [await said_to(each) in (b"", REFUSED) for each in (waits, silent)] == [True, True]
    assert (places.taken, places.handshakes.waiting) == (0, 0)


async def test_a_descriptor_that_was_used_for_a_caller_who_left_serves_the_next(tmp_path: Path) -> None:
    """What was watched for the first word of one connection is not taken for that of another with its number."""
    serving, calling = contexts(tmp_path)
    places = Places(Bounds(100, 100))
    async with front(answering, places=places, context=serving) as (_, _, port):
        for _ in range(20):
            made = caller(port)
            await until(lambda: places.taken == 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, accepting._BREAK_OFF)
            made.close()
            await until(lambda: places.taken == 0)
            assert await connected(port, calling) == OK
            await until(lambda: places.taken == 0)


async def test_listeners_without_TLS_have_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "AT_ONCE", 0)
    async with front(answering) as (_, _, port):
        assert await asks(caller(port)) == OK
