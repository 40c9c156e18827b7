"""Headers of which each request has a value of its own: what is made of their heads is what the strict reading makes.

As in test_likenesses; what has not the form of its header to the last byte is like none that has.
"""

import ipaddress
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.http import ListenerFace
from gateway.proxy import precedents
from gateway.wire import varying_headers
from tests.unit.test_likenesses import FACES, HEAD, OWN, PEERS, PROOF, TRACES, UUIDS, check, strict


def having(name: bytes, value: bytes, head: bytes = HEAD) -> bytes:
    """A head with one header more; where it has this one, another value of it."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(name.lower() + b":")]
    return b"\r\n".join([lines[0], name + b": " + value, *lines[1:]])


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("said", [bytes.lower, bytes.title, bytes.upper])
@pytest.mark.parametrize("face", FACES)
def test_each_request_has_values_of_its_own(
    name: bytes, said: Callable[[bytes], bytes], face: ListenerFace
) -> None:
    first, second = (having(said(name), value) for value in OWN[name])
    for one, other in ((first, second), (second, first), (first, second.replace(b"/x ", b"/y "))):
        assert check(one, other, face, (PEERS[0], PEERS[0]))


def test_all_of_them_may_be_in_one_head() -> None:
    first = second = HEAD
    for name, values in OWN.items():
        first, second = having(name, values[0], first), having(name, values[1], second)
    for face in FACES:
        assert check(first, second.replace(PROOF, b"a.b.c"), face, (PEERS[0], PEERS[0]))


B3_TRACE, B3_SPAN = b"80f198ee56343ba864fe8b2a57d3eff7", b"e457b5a2e4d86bd1"
ODD = {
    b"b3": [
        B3_TRACE, B3_TRACE + b"-", B3_TRACE.upper() + b"-" + B3_SPAN, B3_TRACE[:20] + b"-" + B3_SPAN, b"2", b"00", b"deny",
        B3_TRACE + b"-" + B3_SPAN + b"-x", B3_TRACE + b"-" + B3_SPAN + b"--" + B3_SPAN, B3_TRACE + b"-" + B3_SPAN + b"-1-0",
    ],
    b"x-b3-traceid": [B3_TRACE[:-1], B3_TRACE + b"0", B3_TRACE.upper(), b"x" * 32, B3_TRACE[:17]],
    b"x-b3-spanid": [B3_SPAN[:-1], B3_SPAN + b"0", B3_SPAN.upper(), B3_TRACE],
    b"x-b3-parentspanid": [B3_SPAN[:-1], B3_SPAN + b"0", B3_SPAN.upper(), B3_TRACE],
    b"x-b3-sampled": [b"2", b"01", b"True", b"tru", b"d"],
    b"x-b3-flags": [b"2", b"01", b"true"],
    b"x-datadog-trace-id": [b"1" * 21, b"-1", b"0x1", b"1.5", b"a"],
    b"x-datadog-parent-id": [b"1" * 21, b"-1", b"0x1", b"1.5", b"a"],
    b"x-datadog-sampling-priority": [b"10", b"--1", b"-", b"a", b"+1"],
    b"x-datadog-origin": [b"x" * 65, b"a b", b"a=b", b"a,b"],
    b"x-datadog-tags": [b"x" * 513],
    b"x-amzn-trace-id": [
        b"Root", b"Root=", b"=1", b"Root=1;", b";Root=1", b"Root=1;;Self=2", b"Root=1;  Self=2", b"Root=1, Self=2",
        b"a=" + b"b" * 129, b"a" * 33 + b"=b", b"a=b;" * 8 + b"a=b", b"a=b c", b"a_b=c", b'a="b"',
    ],
    b"x-cloud-trace-context": [
        B3_TRACE[:-1], B3_TRACE + b"0", B3_TRACE + b"/", B3_TRACE + b"/a", B3_TRACE + b"/" + b"1" * 21, B3_TRACE + b";o=",
        B3_TRACE + b"/1;o=10", B3_TRACE + b"/1;x=1", B3_TRACE + b"/1 ;o=1",
    ],
    b"baggage": [
        b"a", b"=", b"=b", b"a=b,", b",a=b", b"a=b,,c=d", b'a="b"', b"a=b\\c", b"a=b;", b"a=b;;c", b"a=b c", b"a b=c",
        b"a= ", b"a=b;c= ", b"a=b;c ", b"a  =b", b"a=b  ,c=d", b"a=b\t,c=d", b"a(=b", b",".join([b"a=b"] * 65),
        b"a=" + b"b" * 8191, b"\xc3\xa4=b", b"a=\xc3\xa4",
    ],
}  # fmt: skip
"""Beside what is no form of any of them: what the smallest difference takes the form from."""


@pytest.mark.parametrize("name", OWN)
def test_what_has_not_its_form_is_like_none_that_has(name: bytes) -> None:
    """What is no form of it in the first, or in the second; whether or not the strict reading takes it."""
    good = OWN[name][0]
    odd = [
        b"", b" ", b" " + good, good + b" ", good + b"\t", b"\t" + good, good + b"\x00", b"\x00", good + b"\xfc",
        good + b"\x7f",
        good + b"\r\n more", good + b"\r\n\tmore", good + b"\r\n" + name + b": " + good, good + b"\r\nX: y", good + b"\n",
        good + b"\rx", good * 600, good + b"\r\n" + name.title() + b": x",
    ]  # fmt: skip
    if name in (b"traceparent", b"x-fapi-interaction-id"):
        odd += [good[:-1], good + b"0", good[:-1] + b"_", good.replace(b"-", b"_")]
    if name == b"traceparent":
        odd += [
            good.upper(),
            b"01" + good[2:],
            b"ff" + good[2:],
            good.replace(b"-", b"", 1),
            b"x" * len(good),
            UUIDS[0],
        ]
    if name == b"x-forwarded-for":
        odd += [
            b"unknown",
            b"203.0.113.9, unknown",
            b"fe80::1%eth0",
            b"_hidden",
            b"203.0.113.9;",
            b", 203.0.113.9",
        ]
    odd += ODD.get(name, [])
    for value in odd:
        for face in FACES:
            assert not check(having(name, good), having(name, value), face, (PEERS[0], PEERS[0])), value
            assert not check(having(name, value), having(name, good), face, (PEERS[0], PEERS[0])), value


def test_a_value_belongs_to_its_own_header_and_its_own_place() -> None:
    def of(*fields: tuple[bytes, bytes]) -> bytes:
        return HEAD.replace(b"Accept: ", b"".join([b"%b: %b\r\n" % field for field in fields]) + b"Accept: ")

    trace, id_ = TRACES[0], b"r1"
    both = of((b"traceparent", trace), (b"x-request-id", id_))
    assert check(
        both, of((b"traceparent", TRACES[1]), (b"x-request-id", trace)), FACES[0], (PEERS[0], PEERS[0])
    )
    for other in (
        of((b"x-request-id", id_), (b"traceparent", trace)),
        of((b"traceparent", id_), (b"x-request-id", trace)),
        of((b"traceparent", trace), (b"x-correlation-id", id_)),
        of((b"traceparent", trace), (b"x-request-id", id_), (b"x-correlation-id", id_)),
        of((b"traceparent", trace)),
        of((b"x-request-id", id_)),
        of((b"Traceparent", trace), (b"x-request-id", id_)),
        of((b"traceparent", trace), (b"x_request_id", id_)),
        of((b"traceparent", trace), (b"x-request-id", id_), (b"x_request_id", id_)),
        HEAD,
    ):
        assert not check(both, other, FACES[0], (PEERS[0], PEERS[0]))
        assert not check(other, both, FACES[0], (PEERS[0], PEERS[0]))


def test_a_list_in_several_lines_is_like_no_other() -> None:
    """One of the lines may have the form that the whole has not: it is joined (RFC 9110 5.3)."""
    for name, (one, other) in ((name, OWN[name]) for name in (b"x-forwarded-for", b"forwarded", b"baggage")):
        first, second = having(name, one), having(name, other)
        for more in (b"x", b"a=b", b"unknown", b"for=\xfc", b"fe80::1%1", b"203.0.113.10"):
            line = b"%b: %b\r\n" % (name.upper(), more)
            for put in (b"Host: ", b"DPoP: "):
                twice = [each.replace(put, line + put) for each in (first, second)]
                for face in FACES:
                    assert not check(twice[0], twice[1], face, (PEERS[0], PEERS[0]))


def test_who_comes_from_another_address_is_like_none_but_those_from_there() -> None:
    """Behind a trusted proxy. The address is the right-most that is none of ours, whatever stands left of it."""
    same = [
        b"203.0.113.9", b"203.0.113.9:1", b"192.0.2.5, 203.0.113.9", b"198.51.100.1, 203.0.113.9, 192.0.2.1:80,192.0.2.2",
        b"[2001:db8::1], 203.0.113.9",
    ]  # fmt: skip
    others = [
        b"203.0.113.10", b"203.0.113.9, 203.0.113.10", b"192.0.2.9", b"192.0.2.3", b"2001:db8::1", b"[2001:db8::1]:443",
        b"203.0.113.9, .", b"1.2.3", b"203.0.113.9, 999.0.0.1", b"::", b"203.0.113.9, [",
    ]  # fmt: skip
    for one in same:
        first = having(b"X-Forwarded-For", one)
        for other in same:
            assert check(first, having(b"X-Forwarded-For", other), FACES[1], (PEERS[0], PEERS[0]))
        for other in others:
            assert not check(first, having(b"X-Forwarded-For", other), FACES[1], (PEERS[0], PEERS[0]))
            assert not check(having(b"X-Forwarded-For", other), first, FACES[1], (PEERS[0], PEERS[0]))
            # Whom nobody trusts says nothing by it.
            assert check(first, having(b"X-Forwarded-For", other), FACES[0], (PEERS[0], PEERS[0])) == (
                not other.endswith(b"[")
            )
            assert check(first, having(b"X-Forwarded-For", one), FACES[1], (PEERS[2], PEERS[2]))


addresses = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(["192.0.2.1", "192.0.2.5", "::ffff:192.0.2.5", "203.0.113.9", "1", "."])
)  # fmt: skip
chains = st.lists(
    st.builds(lambda form, address: form.format(address), st.sampled_from(["{}", "{}:80", "[{}]", "[{}]:80"]), addresses),
    max_size=4,
).map(", ".join)  # fmt: skip


@settings(max_examples=300)
@given(chains, chains)
def test_the_address_behind_a_proxy_is_that_of_the_strict_reading(one: str, other: str) -> None:
    first, second = (having(b"x-forwarded-for", each.encode()) for each in (one, other))
    check(first, second, FACES[1], (PEERS[0], PEERS[0]))


def certificate(name: str) -> bytes:
    """A small one, as RFC 9440 2.1 writes it: it has the form of a tracestate."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    times = [datetime(year, 1, 1, tzinfo=UTC) for year in (2025, 2035)]
    builder = x509.CertificateBuilder(who, who, key.public_key(), 1, *times)
    der = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    return b":" + b64encode(der) + b":"


def test_a_header_with_certificates_is_looked_at_each_time() -> None:
    """Whatever an operator has it named."""
    first, second = (having(b"tracestate", certificate(name)) for name in "ab")
    for header in (None, "tracestate"):
        face = ListenerFace(
            "https://gw.example",
            trusted=(ipaddress.ip_network("192.0.2.0/29"),),
            certificate_header=header,
            certificate_form="rfc9440",
        )
        read = strict(first, face, PEERS[0])
        assert read is not None
        assert (read.certificate is None) == (header is None)
        assert check(first, second, face, (PEERS[0], PEERS[0])) == (header is None)


def test_of_each_header_that_may_vary_it_is_known_what_it_decides() -> None:
    assert {name.encode() for name in varying_headers._FORMS} == {*OWN, b"dpop"}
    assert set(varying_headers._FORMS) == precedents._VARYING
