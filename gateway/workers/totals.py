"""The metrics of several processes as those of one. What a process that ended had counted stays in the sums.

Counters and histograms are added up; of a process that ended, what it told last is kept, so that no counter falls
when it is started again. Gauges are those of the processes that live, added up. The time at which a counter began
(`_created`) is the earliest of all.
"""

from collections.abc import Iterable, Sequence

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

_CUMULATIVE = frozenset({"counter", "histogram"})
_CREATED = "_created"
Key = tuple[str, tuple[tuple[str, str], ...]]


class Sample(msgspec.Struct, frozen=True):
    """One number of a metric."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True):
    """A metric with all its samples."""

    name: str
    help: str
    kind: str
    samples: list[Sample]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[Family])


def families(registry: CollectorRegistry) -> list[Family]:
    """What a registry holds now."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def written(told: Sequence[Family]) -> bytes:
    """The families as they go from a worker to its supervisor."""
    return _encoder.encode(told)


def read(text: bytes) -> list[Family]:
    """The families that written() gave. Raises ValueError."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError("these are no metrics of a worker") from error


class Totals:
    """The sums over all processes, those that ended included."""

    def __init__(self) -> None:
        self._live: dict[int, Sequence[Family]] = {}
        self._ended: dict[str, Family] = {}

    def note(self, worker: int, told: Sequence[Family]) -> None:
        """Take what a worker tells of itself, in the place of what it told before."""
        self._live[worker] = told

    def end(self, worker: int) -> None:
        """The worker is gone: what it told last is kept, its gauges are not."""
        kept = [family for family in self._live.pop(worker, ()) if family.kind in _CUMULATIVE]
        self._ended = _sums([*self._ended.values(), *kept])

    def text(self, own: Sequence[Family]) -> bytes:
        """Everything in the Prometheus text format, with the supervisor's own."""
        told = [family for families in self._live.values() for family in families]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(_sums([*own, *self._ended.values(), *told]).values()))
        return generate_latest(registry)


class _Collected:
    """Families as prometheus_client takes them."""

    def __init__(self, found: Iterable[Family]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        """Each family."""
        for family in self._found:
            metric = Metric(family.name, family.help, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric


def _sums(told: Iterable[Family]) -> dict[str, Family]:
    first: dict[str, Family] = {}
    numbers: dict[str, dict[Key, float]] = {}
    for family in told:
        first.setdefault(family.name, family)
        sums = numbers.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            if key not in sums:
                sums[key] = sample.value
            elif sample.name.endswith(_CREATED):
                sums[key] = min(sums[key], sample.value)
            else:
                sums[key] += sample.value
    return {
        name: Family(
            name,
            family.help,
            family.kind,
            [Sample(key[0], dict(key[1]), value) for key, value in numbers[name].items()],
        )
        for name, family in first.items()
    }
