"""Which addresses and URLs are fetched from (I3): the public Internet, what is listed, and some never."""

import sys
from ipaddress import ip_address

import pytest

from authz.protocol.addresses import (
    AllowList,
    NotFetched,
    check_address,
    is_public,
    read_allow_list,
    read_url,
)

NOTHING = AllowList()
EVERYTHING = read_allow_list(["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "192.0.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "198.17.255.255",
     "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2001:200::1", "2400::1", "64:ff9b::8.8.8.8",
     "::ffff:8.8.8.8"],
)  # fmt: skip
def test_I3_public_addresses_are_fetched_from(address: str) -> None:
    check_address(ip_address(address), "keys.example", NOTHING)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1", "172.16.0.1", "172.31.255.255",
     "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
     "203.0.113.1", "::1", "::7f00:1", "fc00::1", "fd12::1", "2001:db8::1", "3fff::1", "2002:7f00:1::1",
     "2001::1", "2001:2::1", "2001:10::1", "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1", "100::1", "5f00::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "4000::1"],
)  # fmt: skip
def test_I3_addresses_with_a_special_purpose_are_not_unless_listed(address: str) -> None:
    with pytest.raises(NotFetched, match="is not a public address"):
        check_address(ip_address(address), "keys.example", NOTHING)
    check_address(ip_address(address), "keys.example", AllowList(hosts=frozenset({"keys.example"})))
    check_address(ip_address(address), "keys.example", EVERYTHING)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::",
     "fe80::1", "fec0::1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::ffff:0.0.0.0"],
)  # fmt: skip
def test_I3_some_addresses_are_never_fetched_from_whatever_is_listed(address: str) -> None:
    for allow in (NOTHING, EVERYTHING, AllowList(hosts=frozenset({"keys.example"}))):
        with pytest.raises(NotFetched, match="never"):
            check_address(ip_address(address), "keys.example", allow)


def test_I3_a_listed_host_opens_only_itself_and_a_listed_network_only_its_addresses() -> None:
    allow = read_allow_list(["keys.lan", "10.1.0.0/24"])
    check_address(ip_address("192.168.7.7"), "keys.lan", allow)
    check_address(ip_address("10.1.0.9"), "other.example", allow)
    check_address(ip_address("::ffff:10.1.0.9"), "other.example", allow)
    for address, host in (("192.168.7.7", "sub.keys.lan"), ("10.1.1.9", "other.example")):
        with pytest.raises(NotFetched):
            check_address(ip_address(address), host, allow)


def test_I3_no_address_is_called_public_that_Python_calls_private() -> None:
    # Python knows the registries too, and newer versions know more: we must not be laxer.
    firsts = [*(f"{number}.0.0.1" for number in range(256)), *(f"192.{number}.2.1" for number in range(256))]
    firsts += [f"{number:x}::1" for number in range(0, 0x10000, 0x101)]
    for text in firsts:
        address = ip_address(text)
        assert not is_public(address) or address.is_global, (text, sys.version)


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "authority"),
    [
        ("https://keys.example/jwks", "keys.example", 443, "/jwks", "keys.example"),
        ("https://Keys.Example.:443", "keys.example", 443, "/", "keys.example"),
        ("https://keys.example:8443/a%20b?x=1&y=/", "keys.example", 8443, "/a%20b?x=1&y=/", "keys.example:8443"),
        ("https://[2606:4700::1111]:444/j", "2606:4700::1111", 444, "/j", "[2606:4700::1111]:444"),
        ("HTTPS://keys.example?x", "keys.example", 443, "/?x", "keys.example"),
    ],
)  # fmt: skip
def test_I3_a_URL_is_read_in_one_way(url: str, host: str, port: int, target: str, authority: str) -> None:
    read = read_url(url)
    assert (read.host, read.port, read.target, read.authority) == (host, port, target, authority)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://keys.example/jwks", "only https"),
        ("file:///etc/passwd", "only https"),
        ("//keys.example/", "only https"),
        ("https://user@keys.example/", "holds a user"),
        ("https://user:pw@keys.example/", "holds a user"),
        ("https://keys.example/#here", "holds a fragment"),
        ("https://keys.example/a b", "holds spaces"),
        ("https://keys.example/\tjwks", "holds spaces"),
        ("https://keys.example\\@evil.example/", "backslashes"),
        ("https://kéys.example/", "outside ASCII"),
        ("https:///jwks", "host or port that is none"),
        ("https://keys.example:0/", "host or port that is none"),
        ("https://keys.example:99999/", "host or port that is none"),
        ("https://[::1%25eth0]/", "host or port that is none"),
        ("https://[::1/", "host or port that is none"),
        ("https://[keys.example]/", "host or port that is none"),
        ("https://keys%2eexample/", "host or port that is none"),
        ("https://keys.example/%zz", "not percent-encoded"),
        ("https://keys.example/" + "a" * 2000, "longer than 2000"),
    ],
)
def test_I3_what_is_not_a_plain_https_URL_is_not_fetched(url: str, why: str) -> None:
    with pytest.raises(NotFetched, match=why):
        read_url(url)


@pytest.mark.parametrize(
    "entry", ["", "*", "*.lan", "https://keys.lan", "10.0.0.0/33", "10.0.0.1/8", "1.2.3", "a b"]
)
def test_an_allow_list_holds_hosts_addresses_and_networks_only(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host, an address or a network"):
        read_allow_list(["keys.lan", entry])
