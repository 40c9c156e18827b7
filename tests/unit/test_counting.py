"""Counters and histograms of our own say to Prometheus what those of prometheus_client would."""

import math

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from gateway.counting import Counter, Histogram

_BOUNDS = (-1, 0, 0.005, 0.25, 1, 60)
_values = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(-100, 100) | st.sampled_from(_BOUNDS)))


def _said(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(_values, st.sampled_from([_BOUNDS, _BOUNDS[2:]]))
def test_a_histogram_says_what_the_one_of_the_library_says(
    values: list[tuple[str, float]], bounds: tuple[float, ...]
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    own = Histogram("t", "Times", "route", bounds=bounds, registry=ours)
    other = prometheus_client.Histogram("t", "Times", ["route"], buckets=bounds, registry=theirs)
    for route, value in values:
        own.labels(route).observe(value)
        other.labels(route).observe(value)
    assert _numbers(ours) == _numbers(theirs)
    assert [line for line in _said(ours) if line.startswith("#")] == [
        line for line in _said(theirs) if line.startswith("#")
    ]


def _numbers(registry: CollectorRegistry) -> dict[str, float]:
    said = (line.rpartition(" ") for line in _said(registry) if not line.startswith("#"))
    return {name: round(float(value), 6) for name, _, value in said}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 5))))
def test_a_counter_says_what_the_one_of_the_library_says(counted: list[tuple[str, str, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    own = Counter("n", "Numbers", ["one", "two"], registry=ours)
    other = prometheus_client.Counter("n", "Numbers", ["one", "two"], registry=theirs)
    for one, two, amount in counted:
        own.labels(one, two).inc(amount)
        other.labels(one, two).inc(amount)
    assert _said(ours) == _said(theirs)


def test_without_labels_there_is_a_zero_from_the_beginning() -> None:
    registry = CollectorRegistry()
    Counter("n", "Numbers", registry=registry)
    Histogram("t", "Times", bounds=(1,), registry=registry)
    said = _numbers(registry)
    assert (said["n_total"], said['t_bucket{le="+Inf"}'], said["t_count"]) == (0, 0, 0)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Counter("n", "Numbers", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("n", "Numbers", registry=registry)


def test_as_many_values_as_labels_are_wanted() -> None:
    counter = Counter("n", "Numbers", ["one", "two"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="2 labels"):
        counter.labels("a")
    assert math.isclose(counter.labels("a", "b").value, 0)
