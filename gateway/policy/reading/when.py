"""The keys of time and place: `when` of a rule (network, hours, days, zone), and `valid` of a policy."""

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.policy.hours import Hours, Validity
from gateway.policy.reading.definitions import Definitions, named, read_networks
from gateway.policy.reading.hours import HOURS_KEYS, read_hours, read_zone
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import Network
from gateway.yaml_source import Mapping, Node, did_you_mean

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UTC = ZoneInfo("UTC")


def read_when(
    reader: Reader, body: Mapping, definitions: Definitions
) -> tuple[tuple[Network, ...] | None, tuple[Hours, ...] | None]:
    """The networks and the hours of a rule, each None without. signed_in_within is read with the sign-in."""
    when = reader.mapping(body.node("when"), "when")
    if when is None:
        return None, None
    reader.keys(when, "when", ("network", "signed_in_within", *HOURS_KEYS))
    return _networks(reader, when.node("network"), definitions), read_hours(reader, when, definitions.hours)


def _networks(reader: Reader, node: Node | None, definitions: Definitions) -> tuple[Network, ...] | None:
    if node is None:
        return None
    found: list[Network] = []
    for item in named(reader, node, "network"):
        text = reader.text(item, "network")
        if text.startswith("$"):
            networks = definitions.networks.get(text[1:])
            if networks is None:
                suggestion = did_you_mean(text[1:], definitions.networks)
                reader.problem(item, f"no set of networks named '{text}'.{suggestion}")
            found.extend(networks or ())
        else:
            found.extend(read_networks(reader, item))
    return tuple(found)


def read_valid(reader: Reader, document: Mapping) -> Validity | None:
    """The time in which a policy is valid; None for always. Both days belong to it, as the clocks of the zone have them.

    Without a zone the days are those of UTC.
    """
    node = document.node("valid")
    body = reader.mapping(node, "valid")
    if node is None or body is None:
        return None
    reader.keys(body, "valid", ("from", "until", "zone"))
    if "from" not in body and "until" not in body:
        reader.problem(
            node, "valid must say from or until which day: '{from: 2026-01-01, until: 2026-12-31}'"
        )
    zone = read_zone(reader, body.node("zone")) or _UTC
    first, last = _day(reader, body.node("from")), _day(reader, body.node("until"))
    if first is not None and last is not None and last < first:
        reader.problem(node, f"valid ends on {last}, before it begins: the rules could never match")
    begin = None if first is None else _midnight(first, zone)
    end = None if last is None else _midnight(last + timedelta(days=1), zone)
    words = ([] if first is None else [f"from {first}"]) + ([] if last is None else [f"until {last}"])
    return Validity(begin, end, f"{' '.join(words)} ({zone})", node.place)


def _day(reader: Reader, node: Node | None) -> date | None:
    if node is None:
        return None
    text = reader.text(node, "day")
    try:
        found = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        found = None
    if text and (found is None or not 1970 <= found.year <= 9000):
        reader.problem(node, f"'{text}' is no day: write it as 2026-12-31")
        return None
    return found


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp())
