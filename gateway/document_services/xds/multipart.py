"""Answers as MTOM (XOP 1.0, RFC 2387), read part by part: never more of one in memory than a piece of it."""

import re
from collections.abc import AsyncIterator, Mapping

from gateway.fhir.outcome import FhirError, Reason

_MAX_HEAD = 8 * 1024
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")  # RFC 2046 5.1.1
_PARAMETER = re.compile(r";\s*([A-Za-z0-9*-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))\s*")
_TRANSFERS = frozenset({"", "binary", "8bit", "7bit"})


def parameters_of(content_type: str) -> tuple[str, Mapping[str, str]]:
    """The media type and its parameters, both in lower case but for values. Raises FhirError(UPSTREAM_INVALID)."""
    media_type, _, rest = content_type.partition(";")
    found: dict[str, str] = {}
    at, text = 0, f";{rest}" if rest.strip() else ""
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match[1].lower() in found:
            raise FhirError(Reason.UPSTREAM_INVALID, "the type of the answer cannot be read")
        found[match[1].lower()] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        at = match.end()
    return media_type.strip().lower(), found


class Parts:
    """The parts of an answer, one after the other. head() and content() in turn; both raise FhirError."""

    def __init__(self, pieces: AsyncIterator[bytes], boundary: str) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer has no boundary between its parts")
        self._pieces = pieces
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._held = bytearray(b"\r\n")  # the first boundary may stand at the beginning
        # Of what is held: the line end before the content, which a boundary may follow at once.
        self._skip = 2
        self._has_begun = False

    async def head(self) -> Mapping[str, str] | None:
        """The headers of the next part, by name in lower case; None after the last."""
        if not self._has_begun:
            self._has_begun = True
            await self.whole(_MAX_HEAD)  # a preamble says nothing
        while len(self._held) < 2:
            await self._more()
        if self._held.startswith(b"--"):
            return None
        while b"\r\n\r\n" not in self._held:
            if len(self._held) > _MAX_HEAD:
                raise FhirError(Reason.UPSTREAM_INVALID, "a part of the answer has a head without end")
            await self._more()
        head, _, rest = bytes(self._held).partition(b"\r\n\r\n")
        self._held[:] = b"\r\n" + rest
        found: dict[str, str] = {}
        padding, *lines = head.decode("latin-1").split("\r\n")
        for line in lines:
            name, mark, value = line.partition(":")
            if not mark or line[:1].isspace() or name.lower() in found or "\n" in line:
                raise FhirError(Reason.UPSTREAM_INVALID, "a part of the answer has a head of no one reading")
            found[name.lower()] = value.strip()
        if padding.strip() or found.get("content-transfer-encoding", "").lower() not in _TRANSFERS:
            raise FhirError(Reason.UPSTREAM_INVALID, "a part of the answer is coded, or no part")
        return found

    async def content(self) -> AsyncIterator[bytes]:
        """The content of the part, up to the boundary after it."""
        keep = len(self._delimiter) - 1
        while True:
            at = self._held.find(self._delimiter)
            if at >= 0:
                if at > self._skip:
                    yield bytes(self._held[self._skip : at])
                self._skip = 2
                del self._held[: at + len(self._delimiter)]
                return
            ready = len(self._held) - keep
            if ready > self._skip:
                yield bytes(self._held[self._skip : ready])
                self._skip = 0
                del self._held[:ready]
            await self._more()

    async def whole(self, limit_bytes: int) -> bytes:
        """The content of a part that is short."""
        found = bytearray()
        async for piece in self.content():
            found += piece
            if len(found) > limit_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, "a part of the answer is longer than is taken")
        return bytes(found)

    async def _more(self) -> None:
        piece = await anext(self._pieces, b"")
        if not piece:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer broke off")
        self._held += piece
