"""Histograms that cost next to nothing to observe: counted in lists, and brought into Prometheus's form when it asks.

Each request is observed four times. prometheus_client takes a lock and walks through the buckets each time; all of our
observations come from the one thread of the event loop.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily


class Series:
    """The observations with one set of labels."""

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
        self._label = label
        self._bounds = tuple(map(float, bounds))
        self._series: dict[str, Series] = {}
        if not label:
            self.labels("")
        self._names = (*(repr(bound) for bound in self._bounds), "+Inf")
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
            family.add_metric([value] if self._label else [], buckets, series.total)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        labels = [self._label] if self._label else []
        return HistogramMetricFamily(self._name, self._documentation, labels=labels)
