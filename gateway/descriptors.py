"""How many connections a process can have open: its file descriptors, less those that it needs for everything else.

A process without descriptors cannot accept, reach a store, open a file or write a log. So callers are bounded before
that: the bound of the configuration, or 10000, and in either case not more than the descriptors are good for.
"""

import logging
import resource

from gateway.settings import GatewaySettings
from gateway.wire.places import Bounds

USUAL = 10_000
BESIDE = 192
"""Descriptors for files and sockets of our own: the loop, listeners, operators, SQLite, certificates, feeds, fetches."""
_log = logging.getLogger("securus.listener")


def bounds_of(settings: GatewaySettings) -> Bounds:
    """The bounds of this process, whose soft limit of descriptors is raised as far as they need it."""
    limits = settings.limits
    wanted = limits.connections or USUAL
    beside = BESIDE + at_stores(settings)
    there = _raised(wanted + beside)
    connections = within(wanted, there=there, beside=beside)
    said = {"count": connections, "cause": f"{there} descriptors, {beside} of them for everything else"}
    if limits.connections is not None and connections < limits.connections:
        _log.warning("fewer connections than limits.connections.all says", extra=said)
    else:
        _log.info("connections at most", extra=said)
    of_address = limits.connections_of_address or max(connections // 2, 1)
    return Bounds(connections, min(of_address, connections))


def within(wanted: int, *, there: int, beside: int) -> int:
    """How many of the connections wanted so many descriptors are good for.

    Where nearly all are promised to stores, callers have a quarter: a store is asked only for somebody who is connected.
    """
    return max(min(wanted, max(there - beside, there // 4)), 1)


def at_stores(settings: GatewaySettings) -> int:
    """Connections that stores behind the gateway, PostgreSQL and Valkey may have."""
    storage = settings.storage
    found = 0
    for upstream in settings.upstreams:
        bases = 1 + (upstream.consents is not None and upstream.consents.base is not None)
        found += bases * upstream.connections
    if storage.postgresql is not None:
        found += storage.postgresql.pool + 1
    if storage.valkey is not None:
        found += storage.valkey.connections
    return found


def _raised(wanted: int) -> int:
    """The descriptors that this process may have, after its soft limit was raised up to what is wanted.

    The soft limit is often 1024, for programs that use select(); this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if raised > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of descriptors cannot be raised", extra={"cause": str(error)})
            return soft
        return raised
    return soft
