"""Which addresses and URLs the server may fetch from: the rules against being sent to our own side of the wall.

A URL that a client registers is a stranger's choice of where this machine connects to. Only addresses of the public
Internet are fetched from (IANA special-purpose address registries, RFC 6890), and beside them what an operator lists.
Some addresses are never fetched from, listed or not: no service that is meant lives there, but cloud metadata does.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARACTERS = 2000
_TARGET = re.compile(r"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*+(?:\?[!$-;=?-Z_a-z~]*+)?")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")

_SPECIAL = tuple(
    IPv4Network(text)
    for text in (
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # RFC 6598, behind a carrier's NAT
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.0.0.0/24",  # RFC 6890
        "192.0.2.0/24",  # RFC 5737, documentation
        "192.88.99.0/24",  # RFC 7526, 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # RFC 2544, benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
    )
)
_SPECIAL_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # RFC 2928: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # RFC 3849, documentation
        "2002::/16",  # RFC 3056, 6to4: stands for an IPv4 address that somebody else may reach
        "3fff::/20",  # RFC 9637, documentation
    )
)
_UNICAST_6 = IPv6Network("2000::/3")  # all that IANA gave out; what lies outside of it is special
_NEVER: tuple[Network, ...] = (
    IPv4Network("0.0.0.0/8"),  # this host, to many systems
    IPv4Network("169.254.0.0/16"),  # link-local: cloud metadata
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("::/128"),
    IPv6Network("fe80::/10"),
    IPv6Network("fec0::/10"),
    IPv6Network("ff00::/8"),
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


class NotFetched(Exception):
    """A URL or address that is not fetched from. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class AllowList:
    """Hosts and networks that may be fetched from although they are not public, as the configuration lists them."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchUrl:
    """An https URL, read once. Only read_url() makes one.

    host    in lower case, without brackets and without a dot at its end
    target  path with query, as it goes into the request line
    """

    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as a Host header has them (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def read_allow_list(entries: Iterable[str]) -> AllowList:
    """The list of host names, addresses and networks. Raises ValueError naming the entry that is none."""
    hosts, networks = set(), []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
            continue
        except ValueError:
            pass
        host = entry.lower().rstrip(".")
        if not _HOST_NAME.fullmatch(host) or "/" in entry or host.replace(".", "").isdigit():
            raise ValueError(
                f"'{entry}' is not a host, an address or a network, such as keys.example or 10.0.0.0/24"
            )
        hosts.add(host)
    return AllowList(frozenset(hosts), tuple(networks))


def read_url(url: str) -> FetchUrl:
    """The URL, when it is https, ASCII, without user and without fragment. Raises NotFetched."""
    if len(url) > MAX_URL_CHARACTERS:
        raise NotFetched(f"the URL is longer than {MAX_URL_CHARACTERS} characters")
    # urlsplit() drops tabs and line ends, other readers do not: one reading only.
    if not re.fullmatch(r"[!-~]+", url) or "\\" in url:
        raise NotFetched("the URL holds spaces, backslashes or characters outside ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise NotFetched("the URL has a host or port that is none") from error
    if parts.scheme != "https":
        raise NotFetched("only https is fetched")
    if "@" in parts.netloc:
        raise NotFetched("the URL holds a user")
    if "#" in url:
        raise NotFetched("the URL holds a fragment")
    host = (host or "").rstrip(".")
    bracketed = parts.netloc.startswith("[")
    if not (_is_address(host, 6) if bracketed else _HOST_NAME.fullmatch(host)):
        raise NotFetched("the URL has a host or port that is none")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _TARGET.fullmatch(target):
        raise NotFetched("the URL has a path or query that is not percent-encoded")
    if port == 0:
        raise NotFetched("the URL has a host or port that is none")
    return FetchUrl(host, 443 if port is None else port, target)


def check_address(address: Address, host: str, allow: AllowList) -> None:
    """Check that an address, to which a name was resolved, may be connected to. Raises NotFetched.

    An IPv4 address inside an IPv6 one is judged as what it is (RFC 4291 2.5.5.2, RFC 6052).
    """
    meant = inner_address(address)
    if any(_within(meant, network) or _within(address, network) for network in _NEVER):
        raise NotFetched(f"{address} is an address that is never fetched from")
    if any(_within(meant, network) or _within(address, network) for network in allow.networks):
        return
    if host in allow.hosts or is_public(meant):
        return
    raise NotFetched(f"{address} is not a public address; fetch.allow may list '{host}' or its network")


def is_public(address: Address) -> bool:
    """Whether this is an address of the public Internet: global unicast, for no special purpose."""
    if isinstance(address, IPv4Address):
        return not any(_within(address, network) for network in (*_SPECIAL, *_NEVER))
    return address in _UNICAST_6 and not any(address in network for network in _SPECIAL_6)


def inner_address(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for: mapped (RFC 4291) or behind NAT64 (RFC 6052); else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _is_address(text: str, version: int) -> bool:
    try:
        return "%" not in text and ip_address(text).version == version
    except ValueError:
        return False
