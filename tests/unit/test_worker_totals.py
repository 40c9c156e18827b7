"""The metrics of several processes as those of one: sums, and nothing that was counted is taken back."""

import re

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.workers import totals
from gateway.workers.totals import Totals


class Process:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "Requests", ["route"], registry=self.registry)
        self.seconds = Histogram("seconds", "Time", buckets=(1, 2), registry=self.registry)
        self.waiting = Gauge("waiting", "Waiting", registry=self.registry)

    def tells(self) -> list[totals.Family]:
        """What it sends to the supervisor, as it arrives."""
        return totals.read(totals.written(totals.families(self.registry)))


def value(text: bytes, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text.decode(), re.M)
    assert found is not None, series
    return float(found[1])


def test_counters_histograms_and_gauges_of_all_processes_are_added_up() -> None:
    both, sums = (Process(), Process()), Totals()
    for number, process in enumerate(both):
        process.requests.labels("fhir").inc(number + 1)
        process.seconds.observe(number + 0.5)
        process.waiting.set(number + 3)
        sums.note(number, process.tells())
    text = sums.text([])
    assert value(text, 'requests_total{route="fhir"}') == 3
    assert value(text, 'seconds_bucket{le="1.0"}') == 1
    assert value(text, 'seconds_bucket{le="2.0"}') == value(text, "seconds_count") == 2
    assert value(text, "seconds_sum") == 2.0
    assert value(text, "waiting") == 7
    assert text.count(b"# TYPE requests_total counter") == 1


def test_what_a_process_tells_takes_the_place_of_what_it_told_before() -> None:
    process, sums = Process(), Totals()
    for _ in range(3):
        process.requests.labels("fhir").inc()
        sums.note(0, process.tells())
    assert value(sums.text([]), 'requests_total{route="fhir"}') == 3


def test_no_counter_falls_when_a_process_ends_and_another_begins_in_its_place() -> None:
    sums, seen = Totals(), 0.0
    for life in range(3):
        process = Process()
        for _ in range(4):
            process.requests.labels("fhir").inc()
            process.seconds.observe(0.5)
            sums.note(0, process.tells())
            now = value(sums.text([]), 'requests_total{route="fhir"}')
            assert now > seen
            seen = now
        sums.end(0)
        text = sums.text([])
        assert value(text, 'requests_total{route="fhir"}') == value(text, "seconds_count") == 4 * (life + 1)


def test_a_gauge_ends_with_its_process() -> None:
    one, other, sums = Process(), Process(), Totals()
    one.waiting.set(5)
    other.waiting.set(2)
    sums.note(0, one.tells())
    sums.note(1, other.tells())
    sums.end(0)
    assert value(sums.text([]), "waiting") == 2


def test_a_counter_began_when_the_first_of_them_did() -> None:
    both, sums = (Process(), Process()), Totals()
    for number, process in enumerate(both):
        process.requests.labels("fhir").inc()
        sums.note(number, process.tells())
    began = [
        sample.value
        for process in both
        for family in process.tells()
        for sample in family.samples
        if sample.name == "requests_created"
    ]
    assert value(sums.text([]), 'requests_created{route="fhir"}') == min(began)
    assert len(set(began)) == 2


def test_the_supervisors_own_metrics_are_among_them() -> None:
    own, process, sums = Process(), Process(), Totals()
    own.waiting.set(1)
    process.waiting.set(1)
    sums.note(0, process.tells())
    assert value(sums.text(own.tells()), "waiting") == 2
