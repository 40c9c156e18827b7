"""Heads like one that was read before: the same bytes but for the last segment of the path and values of a few headers.

An app sends the same head with each of its reads but for these: the proof, an interaction id, what a library for traces or
an ingress adds (gateway.wire.varying_headers). What the strict reading made of one is true of the next as well: the segment
is of letters, digits and '-' in both, each value has the form of its header, and every other byte is the same, on the same
listener, from the same peer with the same certificate. So nothing else is left to read. Whatever is not like a head that is
kept is read as if none were kept.

Behind a trusted proxy many callers share a connection, and x-forwarded-for may be another each time, by a port or by the
proxies that a request came through. The address that it names is found each time, and is a part of what has to be the same.
For what depends on it is decided once for all that follow: rules with networks, what the store and the log are told. One
who comes from another address is like those alone that came from there. Limits by address are spent before, by each.

A head is kept only once its request was answered and whoever answered it wants to answer those that follow.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from authz.http import ListenerFace, following
from authz.protocol.request import HttpRequest, Likeness
from gateway.wire.peers import Peer
from gateway.wire.varying_headers import apart

_AT_MOST = 4096  # heads: about 10 KB each, with what answers those like it
_BYTES_AT_MOST = 8 * 1024 * 1024  # of all heads together: of a long one, three times its bytes are kept
_LINE_END = b" HTTP/1.1\r\n"
_SEGMENT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
_LONGEST_SEGMENT = 64


class Key(NamedTuple):
    """All of a head that stays, and whose it is. client is the address that x-forwarded-for names, where it may vary."""

    before: bytes  # up to the last slash of the path
    pieces: tuple[bytes, ...]  # from behind the path, between the values that were cut out
    peer: str
    client: str
    certificate: bytes | None
    chain: tuple[bytes, ...]


class Cut(NamedTuple):
    """A head in parts: what stays, the last segment of the path, and the values of headers. size is that of all in bytes."""

    key: Key
    segment: bytes
    values: Mapping[str, bytes]
    size: int


class Likenesses:
    """The heads of one listener that are kept. Of longest bytes no limit of the listener is in the way of a head."""

    def __init__(self, longest: int, face: ListenerFace) -> None:
        self._longest = longest
        self._face = face
        self._known: dict[Key, tuple[HttpRequest, Likeness, int]] = {}
        self._bytes = 0  # of their heads

    def cut(self, head: bytes, peer: Peer) -> Cut | None:
        """The parts of a whole head; None for one that can be like no other."""
        line = head.find(_LINE_END)
        if not head.startswith(b"GET /") or line < 0 or len(head) > self._longest:
            return None
        slash = head.rfind(b"/", 0, line) + 1
        segment = head[slash:line]
        if not segment or len(segment) > _LONGEST_SEGMENT or segment.translate(None, _SEGMENT):
            return None
        pieces, values = apart(head, line)
        if "dpop" not in values and b"\r\ndpop" in head.lower():
            return None  # of what is no proof nobody sends the same again
        client = ""
        if "x-forwarded-for" in values:
            client = self._face.client_of(peer.address, values["x-forwarded-for"].decode("ascii"))
        key = Key(head[:slash], pieces, peer.address, client, peer.certificate, peer.chain)
        return Cut(key, segment, values, len(head))

    def find(self, cut: Cut) -> HttpRequest | None:
        """The request of a head like one that is kept, as the strict reading would give it; None for any other."""
        known = self._known.get(cut.key)
        if known is None:
            return None
        like, likeness, _ = known
        changed = {name: value.decode("ascii") for name, value in cut.values.items()}
        return following(like, cut.segment.decode("ascii"), changed, likeness)

    def note(self, cut: Cut, request: HttpRequest) -> HttpRequest:
        """The request of this head, as it was read, with the likeness by which others may follow it."""
        if request.query:  # its last slash may stand there
            return request
        if any(request.headers.get(name) != value.decode("ascii") for name, value in cut.values.items()):
            return request  # the header is said in several lines, of which this is one
        if self._face.certificate_header in cut.values:
            return request  # a certificate is never one of several
        key, size = cut.key, cut.size
        # What it keeps has no likeness, so that no request holds itself: it goes with its last use.
        likeness = Likeness(lambda made: self._keep(key, size, request, made), frozenset(cut.values))
        return replace(request, likeness=likeness)

    def _keep(self, key: Key, size: int, request: HttpRequest, likeness: Likeness) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._bytes -= known[2]
            if known[1] is not likeness:
                known[1].precedent = None
        self._known[key] = request, likeness, size
        self._bytes += size
        while len(self._known) > _AT_MOST or self._bytes > _BYTES_AT_MOST:
            oldest = next(iter(self._known))
            # A precedent holds the request that it was: without this both would stay until the collector comes by.
            _, gone, size = self._known.pop(oldest)
            gone.precedent = None
            self._bytes -= size
