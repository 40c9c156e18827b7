"""The connections to a store: their number, who gets the next, when one ends, and when a request is sent again."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.upstream import UpstreamClient
from gateway.wire import upstream_pool
from gateway.wire.upstream_addresses import Addresses
from tests.support.raw_store import OK, Connected, RawStore, asked, client_of


@asynccontextmanager
async def opened(store: RawStore, **changes: Any) -> AsyncIterator[UpstreamClient]:
    client = client_of(store, **changes)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


class Gate:
    """An answer that waits until it is let through."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.through = asyncio.Event()

    async def __call__(self, here: Connected) -> None:
        self.asked.release()
        await self.through.wait()
        await here.send(OK)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def reason_of(client: UpstreamClient, method: str = "GET", body: bytes | None = None) -> Reason:
    with pytest.raises(FhirError) as refused:
        (await client.send(method, "Patient/A", {}, body)).close()
    return refused.value.reason


async def test_no_more_connections_than_allowed_and_each_is_used_again(store: RawStore) -> None:
    gate = Gate()
    store.answers = [gate]
    async with opened(store, connections=3) as client:
        asking = [asyncio.create_task(asked(client)) for _ in range(12)]
        for _ in range(3):
            await gate.asked.acquire()
        assert (len(store.connections), client.in_use) == (3, 3)
        gate.through.set()
        assert [body for _, body in await asyncio.gather(*asking)] == [b"{}"] * 12
        assert (len(store.connections), client.in_use) == (3, 0)
        assert sorted(set(store.on)) == [0, 1, 2]


async def test_who_waits_longest_is_served_first(store: RawStore) -> None:
    gate = Gate()
    store.answers = [gate]
    async with opened(store, connections=1) as client:
        asking = []
        for number in range(8):
            asking.append(asyncio.create_task(client.send("GET", f"Patient/{number}", {})))
            await asyncio.sleep(0)
        await gate.asked.acquire()
        gate.through.set()
        for answer in await asyncio.gather(*asking):
            answer.close()
        assert [head.split()[1] for head in store.heads] == [b"/base/Patient/%d" % n for n in range(8)]


async def test_the_wait_for_a_connection_has_an_end_and_the_place_in_line_is_given_back(
    store: RawStore,
) -> None:
    gate = Gate()
    store.answers = [gate, OK]
    async with opened(store, connections=1, connect_timeout=0.05) as client:
        first = asyncio.create_task(asked(client))
        await gate.asked.acquire()
        assert await reason_of(client) is Reason.UPSTREAM_TIMEOUT
        gate.through.set()
        await first
        assert (await asked(client))[1] == b"{}"
        assert store.on == [0, 0]


async def test_who_leaves_gives_the_connection_and_the_place_in_line_back(store: RawStore) -> None:
    gate = Gate()
    gone = asyncio.Event()

    async def silent(here: Connected) -> None:
        gate.asked.release()
        await here.gone()
        gone.set()

    store.answers = [silent, OK]
    async with opened(store, connections=1) as client:
        first = asyncio.create_task(asked(client))
        await gate.asked.acquire()
        leaving = asyncio.create_task(asked(client))
        staying = asyncio.create_task(asked(client))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        first.cancel()
        await asyncio.wait([first])
        await asyncio.wait_for(gone.wait(), 5)
        assert (await staying)[1] == b"{}"
        assert (client.in_use, len(store.connections)) == (0, 2)


async def test_a_connection_given_to_one_who_leaves_goes_to_the_next(
    store: RawStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    store.answers = [gate, OK]
    async with opened(store, connections=1) as client:
        first = await_head(client)
        await gate.asked.acquire()
        leaving, staying = asyncio.create_task(asked(client)), asyncio.create_task(asked(client))
        await asyncio.sleep(0)
        pool = client._pool
        assert pool is not None
        give, given = pool._give, list[object]()

        def give_and_leave(connection: Any) -> None:
            give(connection)
            given.append(connection)
            if len(given) == 1:
                leaving.cancel()  # the first in line has it, and has not run yet

        monkeypatch.setattr(pool, "_give", give_and_leave)
        assert len(pool._waiting) == 2
        gate.through.set()
        await asyncio.wait([leaving, first])
        assert leaving.cancelled()
        assert (await staying)[1] == b"{}"
        assert store.on == [0, 0]
        assert client.in_use == 0


def await_head(client: UpstreamClient) -> "asyncio.Task[Any]":
    return asyncio.create_task(asked(client))


async def test_an_idle_connection_ends_after_its_time(
    store: RawStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()

    async def answer(here: Connected) -> None:
        await here.send(OK)
        await here.gone()
        gone.set()

    monkeypatch.setattr(upstream_pool, "IDLE_SECONDS", 0.05)
    store.answers = [answer]
    async with opened(store) as client:
        await asked(client)
        await asyncio.wait_for(gone.wait(), 5)
        assert client._pool is not None
        assert client._pool.size == 0


@pytest.mark.parametrize("end", [Connected.end, Connected.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_the_store_closed_is_not_used_again(
    store: RawStore, client: UpstreamClient, end: Any, method: str
) -> None:
    store.answers = [OK]
    await asked(client)
    end(store.connections[0])
    pool = client._pool
    assert pool is not None
    await until(lambda: pool.size == 0)
    answer = await client.send(method, "Patient", {}, b"{}" if method == "POST" else None)
    answer.close()
    assert store.on == [0, 1]


class Stranger(threading.Thread):
    """A store of one thread: answers once, then sends what nobody asked for, or closes. Then it answers as it should."""

    def __init__(self, afterwards: bytes | None) -> None:
        super().__init__(daemon=True)
        self.afterwards = afterwards
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.again = threading.Event()
        self.done = threading.Event()
        self.heads: list[bytes] = []

    def run(self) -> None:
        first, _ = self.listening.accept()
        self.heads.append(first.recv(65536))
        first.sendall(OK)
        self.again.wait(5)
        if self.afterwards is None:
            first.close()
        else:
            first.sendall(self.afterwards)
        self.done.set()
        second, _ = self.listening.accept()
        self.heads.append(second.recv(65536))
        second.sendall(OK)
        second.recv(1)
        second.close()
        first.close()
        self.listening.close()


@pytest.mark.parametrize(
    "afterwards", [OK.replace(b"{}", b"[]"), b"\r\n", None], ids=["answer", "line", "end"]
)
async def test_what_the_loop_has_not_read_yet_is_seen_before_a_connection_is_used_again(
    afterwards: bytes | None,
) -> None:
    """The answer that waits in the socket would be taken for the one to the next request."""
    stranger = Stranger(afterwards)
    stranger.start()
    store = RawStore(port=stranger.listening.getsockname()[1])
    async with opened(store) as client:
        await asked(client)
        stranger.again.set()
        stranger.done.wait(5)  # the loop stands still meanwhile
        answer = await client.send("POST", "Patient", {}, b"mine")
        assert await answer.read(9) == b"{}"
        answer.close()
    stranger.join(5)
    assert stranger.heads[1].startswith(b"POST ")


async def test_an_answer_that_was_not_read_to_its_end_ends_the_connection(store: RawStore) -> None:
    gone = asyncio.Event()

    async def long(here: Connected) -> None:
        await here.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
        await here.gone()
        gone.set()

    store.answers = [long, OK]
    async with opened(store) as client:
        answer = await client.send("GET", "Patient/A", {})
        answer.close()
        await asyncio.wait_for(gone.wait(), 5)
        await asked(client)
        assert store.on == [0, 1]


async def test_an_answer_that_is_forgotten_takes_no_connection_with_it(store: RawStore) -> None:
    async def long(here: Connected) -> None:
        await here.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}")
        await here.gone()

    store.answers = [long]
    async with opened(store) as client:
        answer = await client.send("GET", "Patient/A", {})
        assert client.in_use == 1
        del answer
        assert client.in_use == 0


# Sent again


async def drop(here: Connected) -> None:
    """End the connection instead of an answer."""
    here.end()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_changes_nothing_is_sent_again_once_where_the_store_had_closed(
    store: RawStore, client: UpstreamClient, method: str
) -> None:
    answer = OK if method == "GET" else b"HTTP/1.1 200 OK\r\n\r\n"
    store.answers = [OK, drop, answer]
    await asked(client)
    assert (await asked(client, method))[0].status == 200
    assert store.on == [0, 0, 1]


async def test_it_is_not_sent_a_third_time(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [OK, drop, drop, OK]
    await asked(client)
    assert await reason_of(client) is Reason.UPSTREAM_UNAVAILABLE
    assert store.on == [0, 0, 1]


@pytest.mark.parametrize(
    ("method", "body"), [("POST", b"{}"), ("POST", None), ("PUT", b"{}"), ("DELETE", None), ("GET", b"{}")]
)
async def test_what_may_have_changed_something_is_never_sent_again(
    store: RawStore, client: UpstreamClient, method: str, body: bytes | None
) -> None:
    store.answers = [OK, drop, OK]
    await asked(client)
    assert await reason_of(client, method, body) is Reason.UPSTREAM_UNAVAILABLE
    assert store.on == [0, 0]


async def test_on_a_new_connection_nothing_is_sent_again(store: RawStore, client: UpstreamClient) -> None:
    store.answers = [drop, OK]
    assert await reason_of(client) is Reason.UPSTREAM_UNAVAILABLE
    assert store.on == [0]


async def test_an_answer_that_had_begun_is_not_asked_for_again(
    store: RawStore, client: UpstreamClient
) -> None:
    async def begun(here: Connected) -> None:
        await here.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        here.end()

    store.answers = [OK, begun, OK]
    await asked(client)
    assert await reason_of(client) is Reason.UPSTREAM_INVALID
    assert store.on == [0, 0]


# Where the store is


async def test_nobody_there_is_unavailable_and_the_place_is_free_again(store: RawStore) -> None:
    await store.stop()
    async with opened(store, connections=1) as client:
        for _ in range(3):
            assert await reason_of(client) is Reason.UPSTREAM_UNAVAILABLE
        assert client.in_use == 0


async def test_a_store_that_accepts_no_connection_is_a_timeout(unused: int) -> None:
    async with opened(RawStore(port=unused), connect_timeout=0.1, connections=1) as client:
        assert await reason_of(client) is Reason.UPSTREAM_TIMEOUT
        assert client.in_use == 0


@pytest.fixture
async def unused() -> AsyncIterator[int]:
    """A port whose line of connections to be accepted is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        place = listening.getsockname()
        fill = [socket.socket() for _ in range(4)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(place)
        await asyncio.sleep(0.05)
        yield place[1]
        for each in fill:
            each.close()


async def test_every_address_is_tried_and_the_name_is_looked_up_once_in_a_while(
    store: RawStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    async def look_up(self: Addresses) -> list[tuple[int, str]]:
        looked.append(self)
        return [(int(socket.AF_INET), "127.0.0.2"), (int(socket.AF_INET), "127.0.0.1")]

    monkeypatch.setattr(Addresses, "_look_up", look_up)
    store.answers = [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"]
    async with opened(store, base=f"http://store.example:{store.port}") as client:
        for _ in range(5):
            await asked(client)
        assert len(looked) == 1
        assert client._pool is not None
        client._pool._addresses._good_until = 0
        await asked(client)
        assert len(looked) == 2
    assert b"\r\nhost: store.example:%d\r\n" % store.port in store.heads[0]


async def test_a_name_without_address_is_unavailable() -> None:
    async with opened(RawStore(), base="http://nobody.invalid") as client:
        assert await reason_of(client) is Reason.UPSTREAM_UNAVAILABLE


async def test_a_store_on_IPv6(store: RawStore) -> None:
    six = RawStore(answers=[OK], host="::1")
    try:
        await six.start()
    except OSError:
        pytest.skip("no IPv6 here")
    async with opened(six, base=f"http://[::1]:{six.port}/base/") as client:
        assert (await asked(client))[1] == b"{}"
    await six.stop()
    assert b"GET /base/Patient/A HTTP/1.1\r\nhost: [::1]:%d\r\n" % six.port in six.heads[0]


async def test_after_close_nothing_is_open_and_who_waits_is_told(store: RawStore) -> None:
    gate = Gate()
    store.answers = [gate]
    client = client_of(store, connections=1)
    await client.open()
    asking = [asyncio.create_task(asked(client)) for _ in range(3)]
    await gate.asked.acquire()
    await client.close()
    for each in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(each, FhirError)
        assert each.reason is Reason.UPSTREAM_UNAVAILABLE
    assert await reason_of(client) is Reason.UPSTREAM_UNAVAILABLE
    assert client.in_use == 0
