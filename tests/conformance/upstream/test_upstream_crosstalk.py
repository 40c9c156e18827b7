"""Nobody gets another's answer, however ill the store behaves and whoever leaves; and no connection is lost over it.

One thing no client can tell: an answer that nobody asked for, sent once the next request has gone out.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from gateway.fhir.outcome import FhirError
from gateway.proxy.upstream import UpstreamClient
from tests.conformance.upstream.test_upstream_pool import opened, until
from tests.support.raw_store import Connected, RawStore

CALLERS = 24
REQUESTS = 12


class Unruly:
    """A store that names in each answer who asked, and behaves ill now and then."""

    def __init__(self, pick: random.Random, store: RawStore) -> None:
        self.pick = pick
        self.store = store
        self.did: Counter[str] = Counter()

    async def __call__(self, here: Connected) -> None:
        head = next(
            head
            for head, on in zip(reversed(self.store.heads), reversed(self.store.on), strict=True)
            if on == here.number
        )
        name = head.split(b" ")[1].rpartition(b"/")[2]
        body = name * self.pick.choice([1, 1, 50, 20_000])
        kinds = ["plain"] * 6 + [
            "chunked",
            "slow",
            "twice",
            "cut",
            "drop",
            "reset",
            "close",
            "none",
            "garbage",
        ]
        kind = self.pick.choice(kinds)
        self.did[kind] += 1
        plain = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        match kind:
            case "plain":
                await here.send(plain)
            case "chunked":
                chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:]) if part]
                await here.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(chunks), b"0\r\n\r\n"
                )
            case "slow":
                cut = self.pick.randrange(len(plain))
                await here.send(plain[:cut])
                await asyncio.sleep(self.pick.random() / 50)
                await here.send(plain[cut:])
            case "twice":
                await here.send(plain + plain)
            case "cut":
                await here.send(plain[: self.pick.randrange(len(plain))])
                here.end()
            case "drop":
                here.end()
            case "reset":
                here.reset()
            case "close":
                await here.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                here.end()
            case "none":
                await here.gone()
            case _:
                await here.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + body)


async def one(client: UpstreamClient, name: str, pick: random.Random) -> bytes:
    method = pick.choice(["GET", "GET", "POST", "PUT"])
    body: bytes | AsyncIterator[bytes] | None = (
        None if method == "GET" else name.encode() * pick.choice([1, 9000])
    )
    if method == "POST":
        body = parts(name.encode(), pick)
    answer = await client.send(method, f"Patient/{name}", {}, body)
    try:
        if pick.random() < 0.1:
            return b""  # it is not read
        return await answer.read(10**6)
    finally:
        answer.close()


async def parts(part: bytes, pick: random.Random) -> AsyncIterator[bytes]:
    for _ in range(pick.randrange(1, 5)):
        await asyncio.sleep(pick.random() / 200)
        yield part


async def caller(client: UpstreamClient, number: int, pick: random.Random, ended: Counter[str]) -> None:
    for turn in range(REQUESTS):
        name = f"c{number:02}t{turn:02}"
        asking = asyncio.create_task(one(client, name, pick))
        if pick.random() < 0.2:
            await asyncio.sleep(pick.random() / 50)
            asking.cancel()
        await asyncio.wait([asking])
        if asking.cancelled():
            ended["left"] += 1
        elif (error := asking.exception()) is None:
            body = asking.result()
            assert body == name.encode() * (len(body) // len(name)), "somebody else's answer"
            ended["answered"] += bool(body)
        else:
            assert isinstance(error, FhirError)
            ended[str(error.reason)] += 1


@pytest.mark.parametrize("seed", range(6))
async def test_each_has_the_answer_to_what_was_asked_or_none(store: RawStore, seed: int) -> None:
    pick = random.Random(seed)
    unruly = Unruly(random.Random(seed + 100), store)
    store.answers = [unruly]
    ended: Counter[str] = Counter()
    async with opened(
        store, connections=6, connect_timeout=0.5, answer_timeout=0.2, idle_timeout=0.2
    ) as client:
        await asyncio.gather(*(caller(client, number, pick, ended) for number in range(CALLERS)))
        assert client.in_use == 0
        pool = client._pool
        assert pool is not None
        assert pool.size <= 6
        store.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]
        for _ in range(12):  # all six places are there to be had
            (await client.send("GET", "Patient/A", {})).close()
        await until(lambda: client.in_use == 0)
    assert ended["answered"] > CALLERS
    assert sum(ended.values()) > CALLERS * REQUESTS // 2
    assert len(unruly.did) == 10
