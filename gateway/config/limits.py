"""`limits:` of gateway.yaml: sizes, how often and how much at once; what a rate such as 600/min means."""

import re

from gateway.config.schema import Section, node_text
from gateway.settings import AT_ONCE, RATES, Limits, RequestRate
from gateway.yaml_source import Mapping as YamlMapping
from gateway.yaml_source import Scalar

_RATE = re.compile(r"([1-9][0-9]{0,6})/(s|min|h)")
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_EXPECTED = "a rate such as 50/s, 600/min or 10/h"


def read_limits(top: Section) -> Limits:
    """The limits of the process."""
    section = top.section("limits")
    default = Limits()
    if section is None:
        return default
    section.known(
        "max_header", "max_url", "concurrent_requests", "drain", "lookups", "connections", "rates", "at_once"
    )  # fmt: skip
    connections, of_address = _connections(section.section("connections"))
    return Limits(
        max_header=section.size("max_header", default.max_header),
        max_url=section.size("max_url", default.max_url),
        concurrent_requests=section.integer(
            "concurrent_requests", default.concurrent_requests, low=1, high=1_000_000
        ),
        drain=section.seconds("drain", default.drain, low=0, high=3600),
        lookups=section.integer("lookups", default.lookups, low=0, high=10_000),
        connections=connections,
        connections_of_address=of_address,
        rates=_rates(section.section("rates")),
        at_once=_at_once(section.section("at_once")),
    )


def _rates(section: Section | None) -> dict[str, RequestRate]:
    if section is None:
        return {}
    section.known(*RATES)
    found = {}
    for name in RATES:
        if section.has(name):
            rate = _rate(section, name)
            if rate is not None:
                found[name] = rate
    return found


def _rate(section: Section, name: str) -> RequestRate | None:
    node = section.node.node(name)
    if isinstance(node, YamlMapping):
        inner = section.section(name)
        if inner is None:
            return None
        inner.known("rate", "burst", "shared")
        rate = _read(inner, "rate")
        shared = inner.flag("shared", False)
        if shared and inner.has("burst"):
            inner.report(
                inner.place("burst"),
                f"{inner.path}.burst: a shared limit counts whole periods, without burst",
            )
        if rate is None:
            return None
        burst = inner.integer("burst", rate.burst, low=1, high=1_000_000)
        return RequestRate(rate.uses, rate.seconds, burst, shared)
    return _read(section, name)


def _read(section: Section, name: str) -> RequestRate | None:
    node = section.node.node(name)
    if node is None:
        section.report(section.node.place, f"{section.path}.{name} is missing, expected {_EXPECTED}")
        return None
    match = _RATE.fullmatch(node.text) if isinstance(node, Scalar) else None
    if match is None:
        section.report(node.place, f"{section.path}.{name} is {node_text(node)}, expected {_EXPECTED}")
        return None
    uses = int(match[1])
    return RequestRate(uses, _SECONDS[match[2]], burst=uses, shared=False)


def _connections(section: Section | None) -> tuple[int | None, int | None]:
    """How many may be open, all together and of one address; None where that is not said."""
    if section is None:
        return None, None
    section.known("all", "address")
    found = [
        section.integer(name, 1, low=1, high=1_000_000) if section.has(name) else None
        for name in ("all", "address")
    ]
    if found[0] is not None and found[1] is not None and found[1] > found[0]:
        section.report(
            section.place("address"),
            f"{section.path}.address is {found[1]}, more than {section.path}.all ({found[0]})",
        )
    return found[0], found[1]


def _at_once(section: Section | None) -> dict[str, int]:
    if section is None:
        return {}
    section.known(*AT_ONCE)
    return {name: section.integer(name, 1, low=1, high=1_000_000) for name in AT_ONCE if section.has(name)}
