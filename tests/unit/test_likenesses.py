"""Heads that are taken for like one before: what is made of them is what the strict reading makes of them, or nothing.

The strict reading is llhttp with authz.http behind it, as a listener has it. Whatever it refuses is like no other head.
"""

import asyncio
import gc
import ipaddress
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authz.http import ListenerFace, read
from authz.protocol.request import Answer, Body, HttpRequest, RequestError
from gateway.wire import likenesses
from gateway.wire.connection import Connection
from gateway.wire.likenesses import Likenesses
from gateway.wire.peers import Peer
from gateway.wire.reading import RawHeaders, RequestReader
from gateway.wire.service import Service
from tests.support.wire import MAX_HEADER, MAX_URL, Wire, service, settled

FACES = (
    ListenerFace("https://gw.example"),
    ListenerFace(
        "https://gw.example",
        trusted=(ipaddress.ip_network("192.0.2.0/29"),),
        certificate_header="x-client-cert",
        certificate_form="nginx",
    ),
)
PEERS = (
    Peer("192.0.2.1"), Peer("192.0.2.2"), Peer("198.51.100.7"), Peer("192.0.2.1", b"one"), Peer("192.0.2.1", b"two"),
    Peer("192.0.2.1", b"one", (b"ca",)), Peer(""),
)  # fmt: skip
PROOF = b"eyJ0eXAiOiJkcG9wK2p3dCJ9.eyJqdGkiOiJhIn0.c2ln-_"
UUIDS = (b"6ba7b810-9dad-11d1-80b4-00c04fd430c8", b"6BA7B811-9DAD-11D1-80B4-00C04FD430C8")
TRACES = (
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
)  # fmt: skip
OWN = {
    b"x-fapi-interaction-id": UUIDS,
    b"traceparent": TRACES,
    b"tracestate": (b"a=b", b"congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"),
    b"x-request-id": (b"0b9bd9a55fd74e37a5c04a1f9a2f6e51", b'r:7/"-x'),
    b"x-correlation-id": (b"c", b"c" * 128),
    b"x-forwarded-for": (b"203.0.113.9", b"192.0.2.3, 203.0.113.9:4711, [192.0.2.4]:1"),
    b"forwarded": (b"for=203.0.113.9", b'for="[2001:db8::1]:4711";proto=https, for=unknown'),
    b"b3": (
        b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90",
        b"64fe8b2a57d3eff7-e457b5a2e4d86bd1",
    ),
    b"x-b3-traceid": (b"80f198ee56343ba864fe8b2a57d3eff7", b"64fe8b2a57d3eff7"),
    b"x-b3-spanid": (b"e457b5a2e4d86bd1", b"05e3ac9a4f6e3b90"),
    b"x-b3-parentspanid": (b"05e3ac9a4f6e3b90", b"e457b5a2e4d86bd1"),
    b"x-b3-sampled": (b"1", b"false"),
    b"x-b3-flags": (b"1", b"0"),
    b"x-datadog-trace-id": (b"1316480302839184718", b"18446744073709551615"),
    b"x-datadog-parent-id": (b"7", b"18446744073709551615"),
    b"x-datadog-sampling-priority": (b"1", b"-1"),
    b"x-datadog-origin": (b"rum", b"synthetics-browser"),
    b"x-datadog-tags": (b"_dd.p.dm=-1,_dd.p.tid=66d77b0400000000", b"x" * 512),
    b"x-amzn-trace-id": (
        b"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        b"Self=1-67891234-12456789abcdef012345678; Root=1-67891233-abcdef012345678912345678;Lineage=25:a1b2c3d4:0|1:a:9",
    ),
    b"x-cloud-trace-context": (
        b"105445aa7843bc8bf206b12000100000/1;o=1",
        b"105445AA7843BC8BF206B12000100001",
    ),
    b"baggage": (
        b"key1=value1;property1;property2, key2 = value2, key3=value3; propertyKey=propertyValue",
        b",".join([b"k%d=%%20v" % number for number in range(64)]),
    ),
}
"""Headers of which each request may have a value of its own, each with two: behind FACES[1] both are of one address."""
HEAD = (
    b"GET /fhir/r4/Observation/x HTTP/1.1\r\nHost: gw.example\r\nAccept: application/fhir+json\r\n"
    b"Authorization: DPoP eyJ.eyJ.sig\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.3\r\nDPoP: "
    + PROOF
    + b"\r\n\r\n"
)
FRAGMENTS = [
    b"/", b" ", b"\r\n", b"\n", b"\r", b":", b"?", b"#", b"%41", b"%", b".", b"..", b"_", b"-", b"x", b"\x00", b"\t",
    b"\x80", b"\xff", b"//", b"/y", b"?a=b/c", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1\r\n", b"HTTP/1.1\r\n", b"GET /",
    b"HEAD /",
    b"\r\nDPoP: ", b"\r\ndpop: ", b"\r\nDpop: x", b"\r\nDPoP:", b"\r\nDPoP : x", b"\r\ndpop-x: y", b"\r\nDPoP_: x",
    b"\r\nDPoP: " + PROOF, b"\r\ndpop: " + PROOF, b"\r\n DPoP: x", b"\r\nConnection: close", b"\r\nConnection: keep-alive",
    b"\r\nConnection: upgrade\r\nUpgrade: websocket", b"\r\nContent-Length: 0", b"\r\nContent-Length: 5",
    b"\r\nTransfer-Encoding: chunked", b"\r\nExpect: 100-continue", b"\r\nHost: other", b"\r\nX_Y: z", b"\r\nX-Y: z",
    b"\r\nX-Client-Cert: x", b"\r\nX-Forwarded-For: 10.0.0.1", b"\r\nCookie: a=b", b"\r\nUser-Agent: \xfc", b"\r\n\r\n",
    b"a" * 64, b"a" * 65, b"a" * 9000,
    b"\r\nx-fapi-interaction-id: " + UUIDS[0], b"\r\nX-Fapi-Interaction-Id: " + UUIDS[1], b"\r\nX-FAPI-INTERACTION-ID: x",
    b"\r\nx-fapi-interaction-id: ", b"\r\nx-fapi-interaction-id: \x00", b"\r\nx-fapi-interaction-id: " + UUIDS[0] + b" ",
    *(b"\r\n%b: %b" % (name, value) for name, values in OWN.items() for value in values),
    *(b"\r\n%b: %b" % (name.title(), values[0]) for name, values in OWN.items()),
    *(b"\r\n%b: %b" % (name, value) for name in OWN for value in (*TRACES, b"203.0.113.10, 203.0.113.9", b"", b" x")),
    b"\r\n ", b"\r\n\t", b"\r\nX_Request_Id: x", b"\r\ntraceparent: 00-", b"\r\nTracestate:a=b", b"\r\nX-Request-Id: \t",
]  # fmt: skip


def strict(head: bytes, face: ListenerFace, peer: Peer) -> HttpRequest | None:
    """The request as a listener reads it that knows no likeness; None where it is refused, or is no plain read."""

    def reading(method: str, target: str, raw_headers: RawHeaders, body: Body | None) -> HttpRequest:
        return read(
            method, target, raw_headers, peer_address=peer.address, face=face, certificate=peer.certificate,
            chain=peer.chain, body=body, max_header=MAX_HEADER, max_url=MAX_URL,
        )  # fmt: skip

    reader = RequestReader()
    try:
        request = reader.begin(head, reading, NoTap())
    except RequestError:
        return None
    return request if reader.is_usual else None


class NoTap:
    """Of a body that nobody reads."""

    def body_is_wanted(self) -> None: ...
    def body_has_come(self) -> None: ...
    def shut(self) -> None: ...
    def open(self) -> None: ...


class Somebody:
    """Answers those that are alike."""

    async def answer(self, request: HttpRequest) -> Answer:
        """Nothing."""
        return Answer(204)


def follow(known: Likenesses, head: bytes, face: ListenerFace, peer: Peer) -> bool:
    """Whether heads like this one are known from now on."""
    cut, request = known.cut(head, peer), strict(head, face, peer)
    if cut is None or request is None:
        return False
    likeness = known.note(cut, request).likeness
    if likeness is None:
        return False
    likeness.follow(Somebody())
    return True


def found(known: Likenesses, head: bytes, peer: Peer) -> HttpRequest | None:
    """What is made of a head by one like it."""
    cut = known.cut(head, peer)
    return None if cut is None else known.find(cut)


def check(first: bytes, second: bytes, face: ListenerFace, peers: tuple[Peer, Peer]) -> bool:
    """Whether the second head follows the first; what is made of it is what the strict reading makes."""
    known = Likenesses(min(MAX_URL, MAX_HEADER), face)
    follow(known, first, face, peers[0])
    request = found(known, second, peers[1])
    if request is None:
        return False
    expected = strict(second, face, peers[1])
    assert expected is not None, second
    assert replace(request, body=expected.body) == expected
    assert list(request.headers.items()) == list(expected.headers.items())
    return True


heads = st.one_of(
    st.just(HEAD),
    st.builds(
        lambda chosen: HEAD.replace(b"Accept: ", b"".join([b"%b: %b\r\n" % each for each in chosen]) + b"Accept: "),
        st.lists(
            st.sampled_from(sorted(OWN)).flatmap(
                lambda name: st.tuples(
                    st.sampled_from((name, name.title(), name.upper())),
                    st.one_of(st.sampled_from(OWN[name]), st.sampled_from(OWN[name]), st.binary(max_size=3)),
                )
            ),
            max_size=4,
        ),
    ),
    st.builds(
        lambda segment, proof: HEAD.replace(b"/x ", b"/" + segment + b" ").replace(PROOF, proof),
        st.one_of(
            st.from_regex(rb"[A-Za-z0-9\-]{1,66}", fullmatch=True), st.sampled_from(FRAGMENTS), st.binary(max_size=4)
        ),
        st.one_of(
            st.from_regex(rb"[A-Za-z0-9\-_.]{1,80}", fullmatch=True), st.sampled_from(FRAGMENTS), st.binary(max_size=4)
        ),
    ),
)  # fmt: skip
edits = st.lists(
    st.tuples(st.integers(0, len(HEAD)), st.integers(0, 3), st.sampled_from(FRAGMENTS)), max_size=3
)


def edited(head: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The head with pieces put in, or in the place of others."""
    for at, taken, put in changes:
        head = head[:at] + put + head[at + taken :]
    return (
        head
        if head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1
        else head.replace(b"\r\n\r\n", b"\r\n") + b"\r\n"
    )


@settings(max_examples=600)
@given(heads, heads, edits, edits, st.sampled_from(FACES), st.sampled_from(PEERS), st.sampled_from(PEERS))
@example(HEAD, HEAD.replace(b"/x ", b"/y "), [], [], FACES[0], PEERS[0], PEERS[0])
@example(HEAD, HEAD, [(26, 0, b"?a=/b")], [(26, 0, b"?a=/c")], FACES[0], PEERS[0], PEERS[0])
def test_what_is_made_of_a_head_by_one_like_it_is_what_the_strict_reading_makes(
    first: bytes,
    second: bytes,
    of_both: list[tuple[int, int, bytes]],
    of_one: list[tuple[int, int, bytes]],
    face: ListenerFace,
    peer: Peer,
    other: Peer,
) -> None:
    """Two heads that are changed alike, and then one of them once more; from one peer, and from two."""
    one, two = edited(first, of_both), edited(second, of_both)
    check(one, two, face, (peer, peer))
    check(one, edited(two, of_one), face, (peer, peer))
    check(one, two, face, (peer, other))


def test_heads_that_differ_in_segment_and_proof_follow() -> None:
    """Or the property above could not fail."""
    for segment, proof in ((b"y", PROOF), (b"x", b"a.b.c"), (b"A-9" * 21, b"x")):
        second = HEAD.replace(b"/x ", b"/" + segment + b" ").replace(PROOF, proof)
        for face in FACES:
            for peer in PEERS:
                assert check(HEAD, second, face, (peer, peer))
    without = HEAD.replace(b"DPoP: " + PROOF + b"\r\n", b"")
    assert check(without, without.replace(b"/x ", b"/y "), FACES[0], (PEERS[0], PEERS[0]))


@pytest.mark.parametrize(
    ("one", "other"), [(a, b) for a in range(len(PEERS)) for b in range(len(PEERS)) if a != b]
)
def test_a_head_of_another_peer_certificate_or_chain_is_like_none(one: int, other: int) -> None:
    assert not check(HEAD, HEAD, FACES[0], (PEERS[one], PEERS[other]))


def test_a_listener_knows_the_heads_of_no_other() -> None:
    one, other = Likenesses(MAX_URL, FACES[0]), Likenesses(MAX_URL, FACES[0])
    assert follow(one, HEAD, FACES[0], PEERS[0])
    assert found(one, HEAD, PEERS[0]) is not None
    assert found(other, HEAD, PEERS[0]) is None


def test_the_client_behind_a_proxy_and_its_certificate_are_those_of_its_own_head() -> None:
    """The proxy is one peer for all: what it says of each stands in the head."""
    for client in (b"203.0.113.10", b"203.0.113.9, 198.51.100.1", b""):
        other = HEAD.replace(b"203.0.113.9, 192.0.2.3", client)
        assert not check(HEAD, other, FACES[1], (PEERS[0], PEERS[0]))


def test_so_many_heads_are_kept_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likenesses, "_AT_MOST", 3)
    known = Likenesses(MAX_URL, FACES[0])
    several = [HEAD.replace(b"gw.example", b"gw-%d.example" % number) for number in range(5)]
    for head in several:
        assert follow(known, head, FACES[0], PEERS[0])
        assert follow(known, head, FACES[0], PEERS[0])  # a second time it takes no second place
    assert [found(known, head, PEERS[0]) is not None for head in several] == [False, False, True, True, True]


def test_so_many_bytes_of_heads_are_kept_however_long_each_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likenesses, "_BYTES_AT_MOST", 5 * len(HEAD))
    known = Likenesses(MAX_URL, FACES[0])
    for number in range(40):
        padding = b"\r\nX: " + b"%02d" % (number % 20) + b"u" * (number * 90)
        assert follow(known, HEAD.replace(b"\r\n\r\n", padding + b"\r\n\r\n"), FACES[0], PEERS[0])
        assert sum(size for _, _, size in known._known.values()) <= 5 * len(HEAD)
        assert known._bytes == sum(size for _, _, size in known._known.values())


class Fields(dict[str, str]):
    """Headers of which it can be told whether somebody still has them."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed is freed by its last use, not when the collector comes by, which is seldom in a process that serves."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watched(known: Likenesses, head: bytes) -> tuple[HttpRequest, weakref.ref[Fields]]:
    """A request as a connection has it, and whether it is still there."""
    cut, request = known.cut(head, PEERS[0]), strict(head, FACES[0], PEERS[0])
    assert cut is not None
    assert request is not None
    fields = Fields(request.headers)
    return known.note(cut, replace(request, headers=fields)), weakref.ref(fields)


@pytest.mark.usefixtures("no_collector")
def test_a_request_that_nobody_follows_goes_with_its_last_use() -> None:
    request, there = watched(Likenesses(MAX_URL, FACES[0]), HEAD)
    assert request.likeness is not None
    del request
    assert there() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("by", ["another", "the same"])
def test_a_head_that_goes_takes_with_it_what_answered_those_like_it(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    class Holding(Somebody):
        def __init__(self, like: HttpRequest) -> None:
            self.like = like

    monkeypatch.setattr(likenesses, "_AT_MOST", 1)
    known = Likenesses(MAX_URL, FACES[0])
    request, there = watched(known, HEAD)
    assert request.likeness is not None
    request.likeness.follow(Holding(request))
    del request
    assert there() is not None
    assert follow(known, HEAD if by == "the same" else HEAD.replace(b"gw.", b"other."), FACES[0], PEERS[0])
    assert there() is None


def test_a_head_that_limits_stand_in_the_way_of_is_like_none() -> None:
    known = Likenesses(len(HEAD), FACES[0])
    assert follow(known, HEAD, FACES[0], PEERS[0])
    assert found(known, HEAD, PEERS[0]) is not None
    assert found(known, HEAD.replace(b"/x ", b"/xx "), PEERS[0]) is None


# On a connection

Told = list[tuple[str, str, dict[str, str], bytes]]


async def told(pieces: list[bytes], longest: int) -> tuple[Told, bytes, int]:
    """What a handler is asked, and what is written; the third, how many of them followed one before."""
    seen: Told = []
    followed = 0

    class Following:
        async def answer(self, request: HttpRequest) -> Answer:
            nonlocal followed
            followed += 1
            return await handler(request)

    async def handler(request: HttpRequest) -> Answer:
        body = b"".join([piece async for piece in request.body.stream()])
        seen.append((request.method, f"{request.path}?{request.query}", dict(request.headers), body))
        if request.likeness is not None:
            request.likeness.precedent = Following()
            request.likeness.follow(request.likeness.precedent)
        return Answer(200, (), request.path.encode())

    async def dispatch(request: HttpRequest) -> Answer:
        if request.likeness is not None and request.likeness.precedent is not None:
            return await request.likeness.precedent.answer(request)
        return await handler(request)

    common: Service = service(dispatch)
    common.likenesses = Likenesses(longest, FACES[0])
    connection, wire = Connection(common, asyncio.get_running_loop()), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        if wire.closed:
            break
        connection.data_received(piece)
        await settled(connection)
    await settled(connection)
    connection.connection_lost(None)
    for _ in range(4):
        await asyncio.sleep(0)
    return seen, undated(wire.written), followed


def undated(written: bytes) -> bytes:
    """What was written, without the lines that tell the time."""
    return b"\r\n".join(line for line in written.split(b"\r\n") if not line.startswith(b"Date: "))


BETWEEN = [
    b"", b"\r\n", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"GET /b HTTP/1.0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"junk\r\n\r\n",
    b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"GET /d HTTP/1.1\r\n\r\n",
    b"HEAD /fhir/r4/Observation/x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
]  # fmt: skip


@settings(max_examples=250)
@given(
    st.lists(
        st.one_of(st.sampled_from(BETWEEN), heads, st.builds(edited, heads, edits)), min_size=2, max_size=7
    ),
    st.lists(st.integers(0, 4000), max_size=6),
)
def test_a_connection_answers_the_same_whether_heads_may_follow_or_not(
    parts: list[bytes], cuts: list[int]
) -> None:
    """Several requests in one packet, heads in pieces, and requests of other kinds between those that are alike."""
    content = b"".join([HEAD, *parts, HEAD])
    places = [0, *sorted(cut % len(content) for cut in cuts), len(content)]
    pieces = [content[a:b] for a, b in pairwise(places) if a < b]

    async def both() -> None:
        following, plain = await told(pieces, min(MAX_URL, MAX_HEADER)), await told(pieces, 0)
        assert following[:2] == plain[:2]
        assert plain[2] == 0

    asyncio.run(both())


def test_heads_do_follow_on_a_connection() -> None:
    """Or the property above could not fail."""
    second = HEAD.replace(b"/x ", b"/y ")
    seen, written, followed = asyncio.run(told([HEAD, second + HEAD, second[:50], second[50:]], MAX_URL))
    assert [each[1] for each in seen] == [f"/fhir/r4/Observation/{id_}?" for id_ in "xyxy"]
    assert followed == 3
    assert written.count(b"HTTP/1.1 200 ") == 4


@pytest.mark.parametrize(
    "name", [b"x-fapi-interaction-id", b"X-Fapi-Interaction-Id", b"X-FAPI-Interaction-ID"]
)
@pytest.mark.parametrize("before", [b"Host: ", b"Authorization: ", b"DPoP: "])
def test_each_request_has_an_interaction_id_of_its_own(name: bytes, before: bytes) -> None:
    first, second = (HEAD.replace(before, name + b": " + each + b"\r\n" + before) for each in UUIDS)
    assert check(first, second, FACES[0], (PEERS[0], PEERS[0]))
    behind = [HEAD.replace(PROOF, PROOF + b"\r\n" + name + b": " + each) for each in UUIDS]
    assert check(behind[0], behind[1], FACES[0], (PEERS[0], PEERS[0]))
    assert not check(first, behind[1], FACES[0], (PEERS[0], PEERS[0]))  # in another place it is another head


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"x", UUIDS[0] + b"0", UUIDS[0][:-1] + b"_", UUIDS[0] + b" "]
)
def test_what_is_no_interaction_id_is_like_none_that_is(value: bytes) -> None:
    odd, usual = (
        HEAD.replace(b"Host: ", b"x-fapi-interaction-id: " + each + b"\r\nHost: ")
        for each in (value, UUIDS[0])
    )
    assert not check(odd, usual, FACES[0], (PEERS[0], PEERS[0]))
    assert not check(usual, odd, FACES[0], (PEERS[0], PEERS[0]))
