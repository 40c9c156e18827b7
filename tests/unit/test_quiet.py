"""Work beside the requests waits until nobody is being answered, and not for ever."""

import asyncio
from collections.abc import Awaitable
from itertools import pairwise

from gateway.quiet import Quiet


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_piece_waits_while_a_request_is_being_answered() -> None:
    inflight = 1
    looked = asyncio.Event()

    def said() -> int:
        looked.set()
        return inflight

    piece = asyncio.create_task(Quiet(said).moment())
    await looked.wait()
    await _turns()
    assert not piece.done()
    inflight = 0
    await asyncio.wait_for(piece, 10)


async def test_a_load_without_a_quiet_moment_stops_no_work() -> None:
    await asyncio.wait_for(Quiet(lambda: 1).moment(), 10)


async def test_a_request_that_came_during_a_piece_is_seen_before_the_next() -> None:
    """What is ready begins in the turn after the one in which it was read."""
    loop = asyncio.get_running_loop()
    inflight = looks = 0

    def begin() -> None:
        nonlocal inflight
        inflight = 1

    def said() -> int:
        nonlocal looks
        looks += 1
        return inflight

    moment = asyncio.create_task(Quiet(said).moment())
    loop.call_soon(loop.call_soon, begin)  # read in the next turn, begun in the one after it
    await _turns()
    assert not moment.done()
    assert looks == 1
    inflight = 0
    await asyncio.wait_for(moment, 10)


async def test_two_works_do_one_piece_at_a_time() -> None:
    """Each is let go alone: requests that are ready come in between."""
    done: list[str] = []
    quiet = Quiet(lambda: 0)

    async def work(name: str) -> None:
        for _ in range(3):
            await quiet.moment()
            done.append(name)

    def request() -> None:
        done.append("request")
        if len(done) < 20:
            asyncio.get_running_loop().call_soon(request)

    asyncio.get_running_loop().call_soon(request)
    works: list[Awaitable[None]] = [work("index"), work("tree")]
    await asyncio.wait_for(asyncio.gather(*works), 10)
    pieces = [index for index, name in enumerate(done) if name != "request"]
    assert len(pieces) == 6
    assert all("request" in done[a:b] for a, b in pairwise(pieces))
