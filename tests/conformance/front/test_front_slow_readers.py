"""Readers of a long answer that are slow: one who goes on is waited for, one who takes nothing is not."""

import asyncio

import pytest

from gateway.wire.connection import Connection
from gateway.wire.service import Patience
from tests.conformance.front.test_front_connections import GET, answering
from tests.support.wire import Wire, service

pytestmark = [pytest.mark.asyncio, pytest.mark.xdist_group("front")]
PATIENCE = Patience()
LEAST = 60_000  # bytes in two minutes


class FullWire(Wire):
    """A transport with so many bytes that its reader has not taken."""

    unsent = 10_000_000

    def get_write_buffer_size(self) -> int:
        return self.unsent


def paused() -> tuple[Connection, FullWire]:
    """A connection whose answer waits for its reader."""
    loop = asyncio.get_running_loop()
    connection, wire = Connection(service(answering, PATIENCE), loop), FullWire()
    connection.connection_made(wire)
    connection.data_received(GET)
    connection.pause_writing()
    return connection, wire


async def ended(connection: Connection) -> None:
    connection.connection_lost(None)
    while connection.work is not None and not connection.work.done():
        await asyncio.sleep(0)


async def test_a_reader_who_goes_on_has_the_same_time_again_and_again() -> None:
    connection, wire = paused()
    for _ in range(20):
        wire.unsent -= LEAST
        before = asyncio.get_running_loop().time()
        connection.overdue()
        assert not wire.closed
        assert connection.deadline >= before + PATIENCE.reader
    await ended(connection)


@pytest.mark.parametrize("taken", [0, 1, LEAST - 1])
async def test_a_reader_who_takes_too_little_is_broken_off(taken: int) -> None:
    connection, wire = paused()
    wire.unsent -= LEAST
    connection.overdue()
    wire.unsent -= taken
    connection.overdue()
    assert wire.closed
    await ended(connection)


async def test_what_is_on_its_way_to_a_reader_makes_no_room() -> None:
    connection, wire = paused()
    assert connection.waits_since is None
    assert connection.body_due is None
    await ended(connection)
    assert wire.unsent
