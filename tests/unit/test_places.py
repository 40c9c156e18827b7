"""Places of connections: bounds for all and for each address, who makes room, and what the log says of it."""

import logging
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.wire.places import TELL_SECONDS, Bounds, Place, Places


class Caller:
    """A connection that waits since then, or does not wait."""

    def __init__(self, places: Places, since: float | None, address: str | None = None) -> None:
        self.waits_since = since
        self.ended = False
        self._place = places.take(address)

    def make_room(self) -> None:
        self.ended, self.waits_since = True, None

    def leave(self) -> None:
        assert self._place is not None
        self._place.give_back()


class Clock:
    """A clock that stands."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counted() -> Counter[str]:
    return Counter()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def places_of(counted: Counter[str], clock: Clock, most: int = 4, of_address: int = 4) -> Places:
    return Places(Bounds(most, of_address), counted=lambda why: counted.update([why]), steady=clock)


def test_an_address_has_so_many_and_others_have_theirs(counted: Counter[str], clock: Clock) -> None:
    places = places_of(counted, clock, 100, 2)
    mine = [places.take("192.0.2.1") for _ in range(3)]
    assert mine[2] is None
    assert places.take("192.0.2.2") is not None
    assert mine[0] is not None
    mine[0].give_back()
    assert places.take("192.0.2.1") is not None
    assert places.take("192.0.2.1") is None
    assert (places.taken, counted) == (3, {"address": 2})


@pytest.mark.parametrize("other", ["2001:db8:0:1::2", "2001:db8:0:1:ffff::", "2001:db8:0:1::1%eth0"])
def test_a_subscriber_of_IPv6_is_one_address(counted: Counter[str], clock: Clock, other: str) -> None:
    places = places_of(counted, clock, 100, 1)
    assert places.take("2001:db8:0:1::1") is not None
    assert places.take(other) is None
    assert places.take("2001:db8:0:2::1") is not None


def test_who_has_no_bound_of_its_own_has_that_of_all(counted: Counter[str], clock: Clock) -> None:
    places = places_of(counted, clock, 3, 1)
    assert [places.take(None) is not None for _ in range(4)] == [True, True, True, False]
    assert counted == {"all": 1}


def test_a_place_is_given_back_once(counted: Counter[str], clock: Clock) -> None:
    places = places_of(counted, clock)
    first, second = places.take("192.0.2.1"), places.take("192.0.2.1")
    assert first is not None
    assert second is not None
    for _ in range(3):
        first.give_back()
    assert places.taken == 1
    second.give_back()
    assert places.taken == 0


def test_who_waits_longest_makes_room(counted: Counter[str], clock: Clock) -> None:
    places = places_of(counted, clock)
    callers = [Caller(places, since) for since in (3.0, 1.0, None, 2.0)]
    places.watch(lambda: [caller for caller in callers if not caller.ended])
    order = []
    for _ in range(3):
        assert places.take("192.0.2.9") is not None
        order += [caller for caller in callers if caller.ended and caller not in order]
    assert [callers.index(caller) for caller in order] == [1, 3, 0]
    assert places.take("192.0.2.9") is None  # the third has a request in work
    assert counted == {"room": 3, "all": 1}


def test_who_was_heard_of_since_is_not_ended(counted: Counter[str], clock: Clock) -> None:
    places = places_of(counted, clock, most=64)
    callers = [Caller(places, float(number)) for number in range(64)]
    places.watch(lambda: [caller for caller in callers if not caller.ended])
    assert places.take(None) is not None  # looks out four at once: 0 to 3
    callers[1].waits_since, callers[2].waits_since = 99.0, None
    assert places.take(None) is not None
    assert places.take(None) is not None
    assert [number for number, caller in enumerate(callers) if caller.ended] == [0, 3, 4]


def test_a_look_that_finds_nobody_is_not_repeated_for_each_newcomer(
    counted: Counter[str], clock: Clock
) -> None:
    places = places_of(counted, clock, most=1)
    looks = 0

    def nobody() -> list[Caller]:
        nonlocal looks
        looks += 1
        return []

    places.watch(nobody)
    assert places.take(None) is not None
    assert [places.take(None) for _ in range(100)] == [None] * 100
    assert looks == 1
    clock.now += 1
    assert places.take(None) is None
    assert looks == 2


def test_the_log_has_one_line_for_each_reason_and_period(
    counted: Counter[str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    places = places_of(counted, clock, 100, 1)
    places.tell()
    assert not caplog.records
    for _ in range(50):
        places.take("192.0.2.1")
    places.tell()
    (line,) = caplog.records
    assert (line.getMessage(), vars(line)["count"], vars(line)["peer"]) == (
        "connections were refused", 49, "192.0.2.1",
    )  # fmt: skip
    assert vars(line)["cause"] == "an address may have 1 open; peer is the last one"
    for _ in range(7):
        places.take("192.0.2.1")
        places.turned_away("descriptors")
        places.tell()
    assert len(caplog.records) == 1
    clock.now += TELL_SECONDS
    places.tell()
    places.tell()
    told = {record.getMessage(): vars(record)["count"] for record in caplog.records[1:]}
    assert told == {"connections were refused": 7, "connections could not be accepted": 7}


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.booleans()), max_size=60))
def test_no_bound_is_passed_and_no_place_is_lost(steps: list[tuple[str | None, bool]]) -> None:
    places = Places(Bounds(5, 2), steady=lambda: 0.0)
    taken: list[tuple[str | None, Place]] = []
    for address, comes in steps:
        if comes:
            place = places.take(address)
            if place is not None:
                taken.append((address, place))
        elif taken:
            taken.pop(0)[1].give_back()
        assert places.taken == len(taken) <= 5
        assert max(Counter(each for each, _ in taken if each is not None).values(), default=0) <= 2
    for _, place in taken:
        place.give_back()
    assert places.taken == 0
    assert [places.take("a") is not None for _ in range(3)] == [True, True, False]
