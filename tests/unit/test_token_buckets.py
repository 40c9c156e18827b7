"""Token buckets: nobody gets more than the rate, whatever is forgotten; who stays below it is never refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.token_buckets import TokenBuckets


def test_a_bucket_gives_its_size_at_once_and_then_one_by_one() -> None:
    buckets = TokenBuckets(size=3, per_second=2, most=10)
    assert [buckets.take("a", now=100) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("a", now=100.25) == 0.25
    assert buckets.take("a", now=100.5) == 0
    assert buckets.take("a", now=100.5) == 0.5


def test_waiting_as_long_as_was_said_is_enough() -> None:
    buckets = TokenBuckets(size=5, per_second=0.3, most=10)
    now = 1000.0
    for _ in range(200):
        wait = buckets.take("a", now=now)
        if wait:
            now += wait
            assert buckets.take("a", now=now) == 0


def test_one_key_does_not_spend_for_another() -> None:
    buckets = TokenBuckets(size=1, per_second=1, most=10)
    assert buckets.take("a", now=0) == 0
    assert buckets.take("b", now=0) == 0
    assert buckets.take("a", now=0) == 1


def test_a_refused_use_takes_nothing() -> None:
    buckets = TokenBuckets(size=1, per_second=1, most=10)
    buckets.take("a", now=0)
    assert {buckets.take("a", now=0.5) for _ in range(100)} == {0.5}
    assert buckets.take("a", now=1) == 0


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(size=1, per_second=1, most=10)
    assert [buckets.wait("a", now=0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", now=0) == 0
    assert buckets.wait("a", now=0) == 1


def test_full_buckets_are_forgotten_and_the_table_stays_small() -> None:
    buckets = TokenBuckets(size=2, per_second=1, most=1000)
    for number in range(5000):
        assert buckets.take(number, now=number / 10) == 0
        assert len(buckets) <= 12


def test_a_spent_bucket_is_not_forgotten_for_new_keys_which_share_one_instead() -> None:
    buckets = TokenBuckets(size=2, per_second=1, most=3)
    for key in ("a", "b", "c"):
        assert [buckets.take(key, now=0), buckets.take(key, now=0)] == [0, 0]
    # Ten thousand strangers cannot wash the three out, and have two uses among them.
    taken = [number for number in range(10_000) if not buckets.take(number, now=0)]
    assert taken == [0, 1]
    assert len(buckets) == 3
    assert [buckets.take(key, now=0.5) for key in ("a", "b", "c")] == [0.5, 0.5, 0.5]


def test_strangers_have_buckets_of_their_own_again_once_there_is_room() -> None:
    buckets = TokenBuckets(size=1, per_second=1, most=1)
    assert buckets.take("a", now=0) == 0
    assert buckets.take("b", now=0) == 0  # that of the others
    assert buckets.take("c", now=0) == 1
    assert buckets.take("c", now=1) == 0
    assert len(buckets) == 1


USES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 5)), max_size=120)


@given(USES, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
def test_no_key_ever_gets_more_than_size_and_rate_whatever_is_forgotten(
    uses: list[tuple[str, int]], size: int, rate: int, most: int
) -> None:
    buckets = TokenBuckets(size=size, per_second=rate, most=most)
    now, given_to = 0.0, dict[str, list[float]]()
    for key, pause in uses:
        now += pause / 8
        if not buckets.take(key, now=now):
            given_to.setdefault(key, []).append(now)
        assert len(buckets) <= most
    for times in given_to.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                assert last - first + 1 <= size + rate * (times[last] - start) + 1e-6


@given(USES, st.integers(1, 4), st.integers(1, 5))
def test_with_room_for_all_it_is_the_plain_bucket_of_each(
    uses: list[tuple[str, int]], size: int, rate: int
) -> None:
    buckets = TokenBuckets(size=size, per_second=rate, most=8)
    now, held = 0.0, dict[str, tuple[float, float]]()
    for key, pause in uses:
        now += pause / 8
        tokens, since = held.get(key, (float(size), now))
        tokens = min(size, tokens + (now - since) * rate)
        wait = buckets.take(key, now=now)
        if tokens >= 1 - 1e-6:
            assert wait == 0
            tokens -= 1
        else:
            assert wait == pytest.approx((1 - tokens) / rate, abs=1e-6)
        held[key] = (tokens, now)
