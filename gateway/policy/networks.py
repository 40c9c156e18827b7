"""From where a request may come: the networks of a rule, as hours.py has its hours."""

import ipaddress

from gateway.policy.rules import Network


def in_networks(peer: str, networks: tuple[Network, ...], *, unknown: bool) -> bool:
    """Whether an address lies in one of the networks; IPv4 inside IPv6 is IPv4 (attack case 305).

    unknown is the answer about a peer that has no IP address.
    """
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return unknown
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks if network.version == address.version)
