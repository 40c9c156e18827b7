"""Counters and histograms that cost next to nothing to count, and are brought into Prometheus's form when it asks.

Each request is counted eight times. prometheus_client takes a lock each time, and walks through the buckets of a histogram;
all of our counting is done in the one thread of the event loop.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily


class Count:
    """What was counted with one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count so many more."""
        self.value += amount


class Counter:
    """A counter of Prometheus in a registry: a Count for each set of values of its labels."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self.label_names = tuple(labels)
        self._counts: dict[tuple[str, ...], Count] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The count with these values of the labels, made when there is none. Raises ValueError for too few or many."""
        found = self._counts.get(values)
        if found is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self._name} has {len(self.label_names)} labels, not {len(values)}")
            found = self._counts[values] = Count()
        return found

    def inc(self, amount: float = 1.0) -> None:
        """Count so many more in a counter without labels."""
        self.labels().inc(amount)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The metric without its values: what the registry looks for names in."""
        return [CounterMetricFamily(self._name, self._documentation, labels=self.label_names)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The metric with its values as they are now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self.label_names)
        for values, count in self._counts.items():
            family.add_metric(values, count.value)
        return [family]


class Series:
    """The observations with one value of the label."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last one is beyond all bounds
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that is a bound counts with it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histogram:
    """A histogram of Prometheus with at most one label, in a registry. bounds are those of its buckets, ascending."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str = "",
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self.label_names = (label,) if label else ()
        self._bounds = tuple(map(float, bounds))
        self._names = (*(repr(bound) for bound in self._bounds), "+Inf")
        self._series: dict[str, Series] = {}
        if not label:
            self.labels("")
        registry.register(self)

    def labels(self, value: str) -> Series:
        """The series with this value of the label, made when there is none."""
        found = self._series.get(value)
        if found is None:
            found = self._series[value] = Series(self._bounds)
        return found

    def observe(self, value: float) -> None:
        """Count a value in a histogram without a label."""
        self.labels("").observe(value)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The metric without its values: what the registry looks for names in."""
        return [self._family()]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The metric with its values as they are now."""
        family = self._family()
        for value, series in self._series.items():
            buckets, so_far = [], 0
            for name, count in zip(self._names, series.counts, strict=True):
                so_far += count
                buckets.append((name, float(so_far)))
            labels = dict(zip(self.label_names, (value,), strict=False))
            family.add_metric(list(labels.values()), buckets, series.total)
            # A sum of these may fall: it is left out, and with it the library leaves out the count.
            if self._bounds[0] < 0:
                family.add_sample(f"{self._name}_count", labels, so_far)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=self.label_names)
