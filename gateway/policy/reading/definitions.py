"""The definitions files of the policy language: typed claims, and sets of types, clients, networks, hours and labels."""

import ipaddress
import re
from dataclasses import dataclass, field

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.labels import Label, read_label
from gateway.policy.facts import Fact
from gateway.policy.hours import Hours
from gateway.policy.presets import PRESETS
from gateway.policy.reading.hours import HOURS_KEYS, read_hours
from gateway.policy.reading.reader import Reader
from gateway.policy.rules import (
    Claim,
    Network,
)
from gateway.yaml_source import Entry, Mapping, Node, Place, Sequence, did_you_mean

CALLER_WORDS = ("context", "client", "bound", "issuer", "scope")
"""What `who` knows of a caller without a claim."""
_ACR = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
_CLAIM_TYPES = ("id", "reference", "string", "codes")
STANDING_CLAIMS = {
    "acr": Claim("acr", ("acr",), "string"),
    "patient": Claim("patient", ("patient",), "id"),
    "user": Claim("user", ("fhirUser",), "reference"),
    "org_reference": Claim("org_reference", ("org_reference",), "reference", ("Organization",)),
}


@dataclass(slots=True)
class Definitions:
    """What the definitions files define. places says where each claim and set was first defined."""

    places: dict[str, Place] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=lambda: dict(STANDING_CLAIMS))
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    clients: dict[str, frozenset[str]] = field(default_factory=dict)
    networks: dict[str, tuple[Network, ...]] = field(default_factory=dict)
    labels: dict[str, frozenset[Label]] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    hours: dict[str, tuple[Hours, ...]] = field(default_factory=dict)
    preset: str | None = None  # the shipped policy for what lies outside the Patient compartment
    acr: tuple[str, ...] = ()  # authentication contexts, from the weakest to the strongest


def read_definitions(reader: Reader, document: Mapping, found: Definitions) -> None:
    """Add what a definitions file says to what was found so far."""
    reader.keys(
        document,
        "a definitions file",
        (
            "definitions",
            "version",
            "fhir",
            "acr",
            "claims",
            "sets",
            "facts",
            "consent",
            "outside_compartment",
        ),
    )
    fhir = document.node("fhir")
    if fhir is not None:
        reader.word(fhir, "FHIR version", ("R4",))
    entry = document.entry("outside_compartment")
    if entry is not None:
        _check_new(reader, "choice of", entry, found)
        found.preset = reader.word(entry.value, "preset", PRESETS) or None
    entry = document.entry("acr")
    if entry is not None:
        _check_new(reader, "order of", entry, found)
        found.acr = tuple(acr_value(reader, item) for item in named(reader, entry.value, "acr"))
        if len(set(found.acr)) != len(found.acr):
            reader.problem(entry, "acr names a value twice: its order would have no meaning")
    claims = reader.mapping(document.node("claims"), "claims")
    for entry in claims or ():
        _check_new(reader, "claim", entry, found)
        if entry.key in CALLER_WORDS:
            reader.problem(entry, f"'{entry.key}' is not a claim: policies know it by that name already")
        body = reader.mapping(entry.value, f"claim '{entry.key}'")
        if body is None:
            continue
        reader.keys(body, f"claim '{entry.key}'", ("path", "type", "of", "source"))
        path = reader.text(body.node("path"), "path")
        kind = reader.word(body.node("type"), "claim type", _CLAIM_TYPES)
        of = tuple(reader.text(node, "of") for node in reader.items(body.node("of"), "of"))
        if not path or not kind:
            reader.problem(entry, f"claim '{entry.key}' must have path and type")
            continue
        source = frozenset(
            resource_type(reader, node) for node in reader.items(body.node("source"), "source")
        )
        found.claims[entry.key] = Claim(entry.key, tuple(path.split(".")), kind, of, source - {""})
    sets = reader.mapping(document.node("sets"), "sets")
    for entry in sets or ():
        _check_new(reader, "set", entry, found)
        _read_set(reader, entry.key, entry.value, found)


def _check_new(reader: Reader, what: str, entry: Entry, found: Definitions) -> None:
    """Note a second definition: which of the two holds would hang on the order of files."""
    first = found.places.setdefault(f"{what} {entry.key}", entry.place)
    if first is not entry.place:
        reader.problem(
            entry, f"{what} '{entry.key}' is defined twice (first in {first.file}, line {first.line})"
        )


def _read_set(reader: Reader, name: str, node: Node, found: Definitions) -> None:
    body = reader.mapping(node, f"set '{name}'")
    if body is None:
        return
    reader.keys(body, f"set '{name}'", ("types", "clients", "networks", "labels", *HOURS_KEYS))
    types = body.node("types")
    if types is not None:
        found.types[name] = frozenset(
            resource_type(reader, item) for item in reader.items(types, "types")
        ) - {""}
    clients = body.node("clients")
    if clients is not None:
        found.clients[name] = frozenset(
            reader.text(item, "client") for item in reader.items(clients, "clients")
        )
    networks = body.node("networks")
    if networks is not None:
        found.networks[name] = read_networks(reader, networks)
    hours = read_hours(reader, body)
    if hours is not None:
        found.hours[name] = hours
    labels = body.node("labels")
    if labels is not None:
        found.labels[name] = frozenset(
            label for item in named(reader, labels, "labels") if (label := label_of(reader, item)) is not None
        )


def label_of(reader: Reader, node: Node) -> Label | None:
    """A security label such as 'v3-ActCode|PSY'; None for what is none."""
    text = reader.text(node, "label")
    try:
        return read_label(text) if text else None
    except ValueError as error:
        reader.problem(node, str(error))
        return None


def resource_type(reader: Reader, node: Node) -> str:
    """A type of R4; '' for what is none, which is reported."""
    name = reader.text(node, "resource type")
    if name and name not in RESOURCE_TYPES:
        reader.problem(node, f"unknown resource type '{name}'.{did_you_mean(name, RESOURCE_TYPES)}")
        return ""
    return name


def read_networks(reader: Reader, node: Node) -> tuple[Network, ...]:
    """Networks in CIDR notation (RFC 4632); what is none is reported."""
    found: list[Network] = []
    for item in reader.items(node, "networks"):
        text = reader.text(item, "network")
        if not text:
            continue
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            reader.problem(item, f"'{text}' is not a network: write it as 10.20.0.0/16 or 2001:db8::/48")
            continue
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            reader.problem(item, f"'{text}' is IPv4 inside IPv6: write the IPv4 network")
            continue
        found.append(network)
    return tuple(found)


def acr_value(reader: Reader, node: Node) -> str:
    """A value of acr. It stands in a challenge between others, so that it can hold no space and no quote."""
    text = reader.text(node, "acr")
    if text and not _ACR.fullmatch(text):
        reader.problem(
            node, f"'{text}' is not an acr: ASCII without spaces, quotes and backslashes is expected"
        )
        return ""
    return text


def named(reader: Reader, node: Node, what: str) -> list[Node]:
    """The items of a list that must name something: a rule about nothing is a mistake, and a denial disarmed."""
    items = reader.items(node, what)
    if not items and isinstance(node, Sequence):
        reader.problem(node, f"'{what}' names nothing: the rule could never match")
    return items
