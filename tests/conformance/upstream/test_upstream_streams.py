"""Bodies in both directions: as fast as the slower side, with bounded memory, with an end to every wait."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from tests.conformance.upstream.test_upstream_pool import opened, until
from tests.support.raw_store import OK, Connected, RawStore, asked

MEGABYTE = 1024 * 1024
LONG = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
IN_FLIGHT = 24 * MEGABYTE  # what two sockets and our buffer may hold
REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def taken(answer: UpstreamAnswer) -> bytes:
    try:
        return b"".join([piece async for piece in answer.stream()])
    finally:
        answer.close()


async def reason_of(sending: Any) -> Reason:
    with pytest.raises(FhirError) as refused:
        await sending
    return refused.value.reason


# Answers


async def test_a_reader_who_does_not_take_slows_the_store_and_little_is_held(
    store: RawStore, client: UpstreamClient
) -> None:
    sent = 0

    async def endless(here: Connected) -> None:
        nonlocal sent
        here.writer.write(LONG)
        for _ in range(256):
            here.writer.write(b"100000\r\n" + bytes(MEGABYTE) + b"\r\n")
            await here.writer.drain()
            sent += MEGABYTE
        here.writer.write(b"0\r\n\r\n")

    store.answers = [endless, OK]
    answer = await client.send("GET", "Binary/1", {})
    before = -1
    while before != sent or not sent:  # until the store can send no more
        before = sent
        await asyncio.sleep(0.1)
    assert sent < IN_FLIGHT
    assert answer._exchange.buffered < MEGABYTE
    size, most = 0, 0
    async for piece in answer.stream():
        size += len(piece)
        most = max(most, answer._exchange.buffered, len(piece))
    answer.close()
    assert size == 256 * MEGABYTE
    assert most < MEGABYTE
    await asked(client)
    assert store.on == [0, 0]


async def test_what_has_come_whole_is_read_without_a_switch_of_tasks(
    store: RawStore, client: UpstreamClient
) -> None:
    store.answers = [OK]
    answer = await client.send("GET", "Patient/A", {})
    reading = answer.read(2)
    with pytest.raises(StopIteration) as ended:
        reading.send(None)
    assert ended.value.value == b"{}"
    answer.close()


@pytest.mark.parametrize(
    "said", [OK, LONG + b"2\r\n{}\r\n0\r\n\r\n", OK[:-2]], ids=["whole", "chunks", "to-come"]
)
async def test_more_than_the_reader_judges_is_invalid(
    store: RawStore, client: UpstreamClient, said: bytes
) -> None:
    store.answers = [said]
    answer = await client.send("GET", "Patient/A", {})
    assert await reason_of(answer.read(1)) is Reason.UPSTREAM_INVALID
    answer.close()
    assert client.in_use == 0


async def test_gzip_that_nobody_asked_for_is_decoded(store: RawStore, client: UpstreamClient) -> None:
    coded = gzip.compress(b"{}" * 50)
    store.answers = [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n%b" % (len(coded), coded)
    ]
    answer, body = await asked(client)
    assert body == b"{}" * 50
    assert not {"content-encoding", "content-length"} & set(answer.headers)


async def silent(here: Connected) -> None:
    await here.gone()


async def stuck(here: Connected) -> None:
    await here.send(LONG + b"2\r\n{}\r\n")
    await here.gone()


async def test_a_store_that_does_not_answer_is_a_timeout(store: RawStore) -> None:
    store.answers = [silent]
    async with opened(store, answer_timeout=0.05) as client:
        assert await reason_of(asked(client)) is Reason.UPSTREAM_TIMEOUT
        assert client.in_use == 0


async def test_a_store_that_goes_on_saying_wait_is_a_timeout(store: RawStore) -> None:
    async def waits(here: Connected) -> None:
        for _ in range(10):
            await here.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.02)
        await here.gone()

    store.answers = [waits]
    async with opened(store, answer_timeout=0.1) as client:
        assert await reason_of(asked(client)) is Reason.UPSTREAM_TIMEOUT


async def test_a_store_that_stops_in_the_middle_of_a_body_is_a_timeout(store: RawStore) -> None:
    store.answers = [stuck]
    async with opened(store, idle_timeout=0.05) as client:
        answer = await client.send("GET", "Patient/A", {})
        assert await reason_of(taken(answer)) is Reason.UPSTREAM_TIMEOUT
        assert client.in_use == 0


async def test_the_time_that_a_reader_takes_is_not_the_stores(store: RawStore) -> None:
    body = bytes(8 * MEGABYTE)
    store.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body]
    async with opened(store, idle_timeout=0.2) as client:
        answer = await client.send("GET", "Binary/1", {})
        await until(lambda: answer._exchange.buffered > 256 * 1024)
        await asyncio.sleep(0.5)
        assert await taken(answer) == body


async def test_who_leaves_in_the_middle_of_a_body_ends_the_connection(
    store: RawStore, client: UpstreamClient
) -> None:
    store.answers = [stuck]
    answer = await client.send("GET", "Patient/A", {})
    reading = asyncio.create_task(taken(answer))
    await asyncio.sleep(0.01)
    assert client.in_use == 1
    reading.cancel()
    await asyncio.wait([reading])
    assert client.in_use == 0


# Bodies of requests


async def test_a_body_in_pieces_goes_in_chunks_or_in_its_length(
    store: RawStore, client: UpstreamClient
) -> None:
    store.answers = [OK]
    for headers in ({}, {"content-length": "300000"}):
        body = pieces(b"a" * 100_000, b"", b"b" * 199_999, b"c")
        (await client.send("POST", "Binary", headers, body)).close()
    assert store.bodies == [b"a" * 100_000 + b"b" * 199_999 + b"c"] * 2
    assert [b"transfer-encoding: chunked" in head for head in store.heads] == [True, False]
    assert store.on == [0, 0]


@pytest.mark.parametrize("size", [0, 2, 65_536, 5 * MEGABYTE])
async def test_a_body_in_memory_goes_whole(store: RawStore, client: UpstreamClient, size: int) -> None:
    store.answers = [OK]
    (await client.send("PUT", "Patient/A", {}, b"x" * size)).close()
    assert store.bodies == [b"x" * size]
    assert b"\r\ncontent-length: %d\r\n" % size in store.heads[0]


@pytest.mark.parametrize("length", ["2", "4"], ids=["longer", "shorter"])
async def test_a_body_that_is_not_as_long_as_it_says_is_broken_off(
    store: RawStore, client: UpstreamClient, length: str
) -> None:
    store.answers = [OK]
    sending = client.send("POST", "Binary", {"content-length": length}, pieces(b"a", b"bc"))
    assert await reason_of(sending) is Reason.INTERNAL
    await asyncio.sleep(0.01)
    assert client.in_use == 0
    assert length == "2" or store.bodies == []


async def test_a_store_that_does_not_take_slows_the_giver_and_times_out(store: RawStore) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1024):
            given += MEGABYTE
            yield bytes(MEGABYTE)

    async def deaf(here: Connected) -> None:
        await asyncio.sleep(5)

    store.reads_bodies = False
    store.answers = [deaf]
    async with opened(store, answer_timeout=0.3) as client:
        assert await reason_of(client.send("POST", "Binary", {}, endless())) is Reason.UPSTREAM_TIMEOUT
        assert client.in_use == 0
    assert given < IN_FLIGHT


async def test_each_piece_that_is_taken_puts_off_the_end(store: RawStore) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(15):
            await asyncio.sleep(0.1)
            yield b"x"

    store.answers = [OK]
    async with opened(store, answer_timeout=1) as client:
        (await client.send("POST", "Binary", {}, slow())).close()
    assert store.bodies == [b"x" * 15]


async def test_a_giver_who_gives_nothing_is_a_timeout(store: RawStore) -> None:
    ended = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            ended.set()

    store.answers = [OK]
    async with opened(store, answer_timeout=0.1) as client:
        assert await reason_of(client.send("POST", "Binary", {}, stuck())) is Reason.UPSTREAM_TIMEOUT
        assert ended.is_set()


async def test_what_the_body_raises_is_raised_and_the_store_never_has_it_whole(
    store: RawStore, client: UpstreamClient
) -> None:
    async def refused() -> AsyncIterator[bytes]:
        yield b"x"
        raise FhirError(Reason.TOO_LARGE)

    gone = asyncio.Event()

    async def watch(here: Connected) -> None:
        await here.gone()
        gone.set()

    store.reads_bodies = False
    store.answers = [watch]
    assert await reason_of(client.send("POST", "Binary", {}, refused())) is Reason.TOO_LARGE
    await asyncio.wait_for(gone.wait(), 5)
    assert client.in_use == 0


class Giver:
    """A body of which the last piece waits, and may be a refusal."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.last = asyncio.Event()
        self.ended = False

    async def body(self) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await self.last.wait()
            if self.error is not None:
                raise self.error
            yield b"y"
        finally:
            self.ended = True


@pytest.mark.parametrize(
    "said", [REFUSAL, REFUSAL.replace(b"Content-Length: 2\r\n", b"")], ids=["length", "close"]
)
async def test_a_refusal_before_the_end_of_the_body_is_the_answer(
    store: RawStore, client: UpstreamClient, said: bytes
) -> None:
    async def refuse(here: Connected) -> None:
        await here.send(said)
        if b"Content-Length" not in said:
            here.end()
        else:
            await here.gone()

    store.reads_bodies = False
    store.answers = [refuse, OK]
    giver = Giver()
    answer = await client.send("POST", "Binary", {}, giver.body())
    assert (answer.status, await answer.read(9)) == (413, b"{}")
    answer.close()
    assert giver.ended
    assert client.in_use == 0
    await asked(client)
    assert store.on == [0, 1]


async def test_a_success_before_the_end_of_the_body_is_none_until_all_was_given(
    store: RawStore, client: UpstreamClient
) -> None:
    answered = asyncio.Event()

    async def hasty(here: Connected) -> None:
        await here.send(OK)
        answered.set()
        await here.reader.readuntil(b"0\r\n\r\n")

    store.reads_bodies = False
    store.answers = [hasty, OK]
    giver = Giver()
    sending = asyncio.create_task(client.send("POST", "Binary", {}, giver.body()))
    await asyncio.wait_for(answered.wait(), 5)
    await asyncio.sleep(0.02)
    assert not sending.done()
    giver.last.set()
    answer = await sending
    assert (answer.status, await answer.read(9)) == (200, b"{}")
    answer.close()
    await until(lambda: client.in_use == 0)


async def test_a_success_for_a_body_that_is_refused_at_its_end_is_a_refusal(
    store: RawStore, client: UpstreamClient
) -> None:
    answered = asyncio.Event()

    async def hasty(here: Connected) -> None:
        await here.send(OK)
        answered.set()
        await here.gone()

    store.reads_bodies = False
    store.answers = [hasty]
    giver = Giver(FhirError(Reason.INVALID_BODY))
    sending = asyncio.create_task(client.send("POST", "Binary", {}, giver.body()))
    await asyncio.wait_for(answered.wait(), 5)
    giver.last.set()
    assert await reason_of(sending) is Reason.INVALID_BODY
    assert client.in_use == 0


async def test_a_store_that_leaves_in_the_middle_of_a_body_is_unavailable(
    store: RawStore, client: UpstreamClient
) -> None:
    async def leave(here: Connected) -> None:
        here.reset()

    store.reads_bodies = False
    store.answers = [leave]
    giver = Giver()
    assert await reason_of(client.send("POST", "Binary", {}, giver.body())) is Reason.UPSTREAM_UNAVAILABLE
    assert giver.ended
    assert client.in_use == 0


async def test_who_leaves_while_a_body_is_sent_ends_the_body_and_the_connection(
    store: RawStore, client: UpstreamClient
) -> None:
    asked_for, gone = asyncio.Event(), asyncio.Event()

    async def wait(here: Connected) -> None:
        asked_for.set()
        await here.gone()
        gone.set()

    store.reads_bodies = False
    store.answers = [wait]
    giver = Giver()
    sending = asyncio.create_task(client.send("POST", "Binary", {}, giver.body()))
    await asyncio.wait_for(asked_for.wait(), 5)
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    await asyncio.wait_for(gone.wait(), 5)
    assert giver.ended
    assert client.in_use == 0
