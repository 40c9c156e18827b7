"""Addresses as callers are counted by them: attempts, requests and connections alike."""

from ipaddress import AddressValueError, IPv6Address, IPv6Network

_OF_ONE_SUBSCRIBER = 64  # bits of the network that one household, or attacker, has all of


def network_of(address: str) -> str:
    """The address, of IPv6 the network of one subscriber: who has that has 2^64 of them.

    One of IPv4 that is written as one of IPv6 is that of IPv4; what is no address is itself.
    """
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((int(found), _OF_ONE_SUBSCRIBER), strict=False))
