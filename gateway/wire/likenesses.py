"""Heads like one that was read before: the same bytes but for the last segment of the path, the proof and an interaction id.

An app sends the same head with each of its reads but for these. What the strict reading made of one is true of the next
as well: the segment is of letters, digits and '-' in both, the proof of the characters of a JWS, the id as long as a UUID
and of its characters, and every other byte is the same, on the same listener, from the same peer with the same certificate.
So nothing else is left to read. Whatever is not like a head that is kept is read as if none were kept.

A head is kept only once its request was answered and whoever answered it wants to answer those that follow.
"""

from dataclasses import replace
from typing import NamedTuple

from authz.http import following
from authz.protocol.request import HttpRequest, Likeness
from gateway.wire.peers import Peer

_AT_MOST = 4096  # heads: about 10 KB each, with what answers those like it
_BYTES_AT_MOST = 8 * 1024 * 1024  # of all heads together: of a long one, three times its bytes are kept
_LINE_END = b" HTTP/1.1\r\n"
_PROOFS = (b"\r\nDPoP: ", b"\r\ndpop: ")  # as clients write it; other spellings are read each time
_INTERACTIONS = tuple(
    b"\r\n%b: " % name
    for name in (b"x-fapi-interaction-id", b"X-Fapi-Interaction-Id", b"X-FAPI-Interaction-ID")
)
_UUID_BYTES = 36
_NOWHERE = -1
_SEGMENT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
_JWS = _SEGMENT + b"_."
_LONGEST_SEGMENT = 64


class Key(NamedTuple):
    """All of a head that stays, and whose it is."""

    before: bytes  # up to the last slash of the path
    between: bytes  # from behind the path to the proof, or to the end
    behind: bytes  # the proof
    spots: tuple[int, int]  # where in each of the two an interaction id was
    peer: str
    certificate: bytes | None
    chain: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """The bytes of the head that are kept."""
        return len(self.before) + len(self.between) + len(self.behind)


class Cut(NamedTuple):
    """A head in parts: what stays, the last segment, proof and interaction id, None where there is none."""

    key: Key
    segment: bytes
    proof: bytes | None
    interaction: bytes | None = None


class Likenesses:
    """The heads of one listener that are kept. Of longest bytes no limit of the listener is in the way of a head."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._known: dict[Key, tuple[HttpRequest, Likeness]] = {}
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
        at = head.find(_PROOFS[0], line)
        if at < 0:
            at = head.find(_PROOFS[1], line)
        if at < 0:
            if b"\r\ndpop" in head.lower():
                return None
            between, interaction, spot = _apart(head[line:])
            key = Key(
                head[:slash], between, b"", (spot, _NOWHERE), peer.address, peer.certificate, peer.chain
            )
            return Cut(key, segment, None, interaction)
        at += len(_PROOFS[0])
        end = head.find(b"\r\n", at)
        proof = head[at:end]
        if not proof or proof.translate(None, _JWS):
            return None
        between, interaction, spot = _apart(head[line:at])
        behind, second = head[end:], _NOWHERE
        if interaction is None:
            behind, interaction, second = _apart(behind)
        key = Key(head[:slash], between, behind, (spot, second), peer.address, peer.certificate, peer.chain)
        return Cut(key, segment, proof, interaction)

    def find(self, cut: Cut) -> HttpRequest | None:
        """The request of a head like one that is kept, as the strict reading would give it; None for any other."""
        known = self._known.get(cut.key)
        if known is None:
            return None
        like, likeness = known
        changed = {}
        if cut.proof is not None:
            changed["dpop"] = cut.proof.decode("ascii")
        if cut.interaction is not None:
            changed["x-fapi-interaction-id"] = cut.interaction.decode("ascii")
        return following(like, cut.segment.decode("ascii"), changed, likeness)

    def note(self, cut: Cut, request: HttpRequest) -> HttpRequest:
        """The request of this head, as it was read, with the likeness by which others may follow it."""
        if request.query:  # its last slash may stand there
            return request
        # What it keeps has no likeness, so that no request holds itself: it goes with its last use.
        return replace(request, likeness=Likeness(lambda likeness: self._keep(cut.key, request, likeness)))

    def _keep(self, key: Key, request: HttpRequest, likeness: Likeness) -> None:
        known = self._known.pop(key, None)
        if known is None:
            self._bytes += key.size
        elif known[1] is not likeness:
            known[1].precedent = None
        self._known[key] = request, likeness
        while len(self._known) > _AT_MOST or self._bytes > _BYTES_AT_MOST:
            oldest = next(iter(self._known))
            # A precedent holds the request that it was: without this both would stay until the collector comes by.
            self._known.pop(oldest)[1].precedent = None
            self._bytes -= oldest.size


def _apart(lines: bytes) -> tuple[bytes, bytes | None, int]:
    """The lines of a head without the interaction id in them, the id, and where it was."""
    for name in _INTERACTIONS:
        at = lines.find(name)
        if at >= 0:
            at += len(name)
            end = lines.find(b"\r\n", at)
            value = lines[at:end]
            if len(value) != _UUID_BYTES or value.translate(None, _SEGMENT):
                break
            return lines[:at] + lines[end:], value, at
    return lines, None, _NOWHERE
