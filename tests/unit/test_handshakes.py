"""Turns of handshakes: one at a time, each address after every other, and who stalls holds nobody up for long."""

import asyncio

import pytest

from gateway.wire import handshakes
from gateway.wire.arrivals import hello_bytes
from gateway.wire.handshakes import Handshakes


class One:
    """A handshake of an address, which ends when the test says so."""

    def __init__(self, all_: Handshakes, begun: list["One"], address: str | None) -> None:
        self.address = address
        self.ended = False
        self._all, self._begun = all_, begun

    def begin(self) -> None:
        self._begun.append(self)

    def make_room(self) -> None:
        self.ended = True
        self._all.leave(self)


class World:
    """Handshakes under a clock that stands."""

    def __init__(self) -> None:
        self.now = 100.0
        self.stalled = 0
        self.begun: list[One] = []
        self.all = Handshakes(stalled=self._note, steady=lambda: self.now)

    def come(self, address: str | None, count: int = 1) -> list[One]:
        """So many arrive from there."""
        made = [One(self.all, self.begun, address) for _ in range(count)]
        for each in made:
            self.all.come(each)
        return made

    def _note(self) -> None:
        self.stalled += 1


HELLO = b"\x16\x03\x01\x01\x04\x01\x00\x01\x00"  # a record of 260 bytes, a message of 256


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", 0), (b"G", 0), (b"GET / HTT", 0), (b"\x15\x03\x01\x00\x02\x01\x00\x00\x00", 0), (HELLO[:1], 9), (HELLO[:5], 9),
        (HELLO[:8], 9), (HELLO, 9 + 256), (HELLO[:5] + b"\x02", 0), (HELLO[:6] + b"\x00\x40\x00", 9 + 16384),
        (HELLO[:6] + b"\x00\x40\x01", 0), (HELLO[:6] + b"\xff\xff\xff", 0), (HELLO[:6] + b"\x00\x00\x00", 9),
    ],
)  # fmt: skip
def test_a_handshake_is_ready_for_its_turn_with_the_whole_hello(said: bytes, expected: int) -> None:
    assert hello_bytes(said) == expected


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(handshakes, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(handshakes, "AT_ONCE", 256)
    return World()


async def test_one_begins_in_a_turn_of_the_loop(world: World) -> None:
    world.come("a", 5)
    for expected in range(1, 6):
        await turns(1)
        assert (len(world.begun), world.all.under_way, world.all.waiting) == (
            expected,
            expected,
            5 - expected,
        )


async def test_between_two_the_process_does_other_things(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshakes, "PAUSE_SECONDS", 60.0)
    world.come("a", 2)
    await turns(20)
    assert (len(world.begun), world.all.waiting) == (1, 1)
    world.now += 60.0
    world.come("b")
    await turns(20)
    assert len(world.begun) == 1  # the timer is set, and nobody who comes sets another
    world.all = Handshakes(steady=lambda: world.now)
    world.begun.clear()
    world.come("a")
    await turns(1)
    assert len(world.begun) == 1  # who comes alone waits for nothing


async def test_a_stranger_waits_for_one_of_each_address_however_many_another_has(world: World) -> None:
    world.come("a", 50)
    world.come("b", 50)
    await turns(4)
    (stranger,) = world.come("c")
    await turns(3)
    assert stranger in world.begun
    assert {each.address for each in world.begun} == {"a", "b", "c"}


async def test_an_address_has_so_many_under_way_and_others_have_theirs(world: World) -> None:
    mine = world.come("a", handshakes.OF_ADDRESS + 3)
    await turns(len(mine))
    assert len(world.begun) == handshakes.OF_ADDRESS
    (other,) = world.come("b")
    await turns(1)
    assert world.begun[-1] is other
    world.all.leave(mine[0])
    await turns(2)
    assert world.begun[-1] is mine[handshakes.OF_ADDRESS]
    assert world.all.waiting == 2


async def test_who_has_no_bound_has_that_of_all(world: World) -> None:
    world.come(None, handshakes.AT_ONCE + 1)
    await turns(handshakes.AT_ONCE + 5)
    assert (len(world.begun), world.all.waiting) == (handshakes.AT_ONCE, 1)


async def test_who_leaves_the_line_has_no_turn(world: World) -> None:
    first, second = world.come("a", 2)
    (third,) = world.come("b")
    world.all.leave(first)
    world.all.leave(third)
    world.all.leave(third)
    await turns(5)
    assert world.begun == [second]
    world.all.leave(second)
    assert (world.all.under_way, world.all.waiting) == (0, 0)


async def test_one_that_does_not_go_on_is_ended_once_others_of_its_address_wait(world: World) -> None:
    mine = world.come("a", handshakes.OF_ADDRESS)
    (other,) = world.come("b")
    await turns(len(mine) + 1)
    world.now += handshakes.STALLED_SECONDS + 1
    world.all.look()
    assert world.stalled == 0  # nobody waits
    waiting = world.come("a", 2)
    await turns(1)
    world.all.look()
    await turns(2)
    assert world.begun[-2:] == waiting
    assert [each.ended for each in mine] == [True, True] + [False] * (len(mine) - 2)  # no more than wait
    assert (world.stalled, other.ended) == (2, False)


async def test_one_that_may_still_go_on_is_not_ended(world: World) -> None:
    mine = world.come("a", handshakes.OF_ADDRESS + 1)
    await turns(len(mine))
    world.now += handshakes.STALLED_SECONDS - 0.1
    world.all.look()
    assert (world.stalled, world.all.waiting) == (0, 1)


async def test_where_all_are_held_those_are_ended_that_hold_most(world: World) -> None:
    slow = world.come("slow")[0]
    several = handshakes.AT_ONCE // handshakes.OF_ADDRESS
    for number in range(several):
        world.come(f"attacker-{number}", handshakes.OF_ADDRESS)
    await turns(handshakes.AT_ONCE + 5)
    assert world.all.under_way == handshakes.AT_ONCE
    honest = world.come("honest", 2)
    world.now += handshakes.STALLED_SECONDS + 1
    world.all.look()
    await turns(3)
    assert set(honest) < set(world.begun[-3:])  # the third is the last of the attackers', who waited as well
    assert (slow.ended, world.stalled) == (False, 3)


async def test_callers_without_a_bound_that_hold_all_make_room_for_one_another(world: World) -> None:
    mine = world.come(None, handshakes.AT_ONCE)
    await turns(handshakes.AT_ONCE)
    (waiting,) = world.come("a")
    world.now += handshakes.STALLED_SECONDS + 1
    world.all.look()
    await turns(2)
    assert world.begun[-1] is waiting
    assert [each.ended for each in mine] == [True] + [False] * (len(mine) - 1)
