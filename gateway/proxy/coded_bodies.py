"""Bodies with Content-Encoding: gzip, decoded as a stream under a cap of ratio and size; other codings are refused.

What is decided about must be what was sent: a body is decoded here, once, and goes on decoded.
"""

import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

from authz.protocol.request import Body, HttpRequest, RequestError
from gateway.fhir.outcome import FhirError, Reason

_PIECE_BYTES = 64 * 1024
_FREE_BYTES = 1024 * 1024  # short bodies may have any ratio
_MAX_RATIO = 200  # FHIR JSON has 5 to 50; gzip can reach 1030


class CodingError(Exception):
    """The bytes are not one gzip member, whole, or decode to more than is allowed."""


async def gunzip(chunks: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """The decoded bytes, in pieces of at most 64 KiB. Raises CodingError; pieces may have gone out."""
    decoder = zlib.decompressobj(wbits=31)
    taken = made = 0
    async for chunk in chunks:
        taken += len(chunk)
        rest = chunk
        while rest:
            if decoder.eof:
                raise CodingError("there is something behind the end of the gzip member")
            try:
                piece = decoder.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise CodingError("the bytes are not gzip") from error
            rest = decoder.unconsumed_tail or decoder.unused_data
            made += len(piece)
            if made > limit_bytes or made > _FREE_BYTES + _MAX_RATIO * taken:
                raise CodingError("the body decodes to more than is allowed")
            if piece:
                yield piece
            elif not decoder.eof:
                break
    if not decoder.eof:
        raise CodingError("the gzip member is not whole")


def decoded_request(http: HttpRequest, limit_bytes: int) -> HttpRequest:
    """The request with its body decoded on the way in. Raises FhirError(UNSUPPORTED_MEDIA_TYPE) for other codings."""
    coding = http.headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return http
    if coding not in ("gzip", "x-gzip"):
        raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding may be gzip, or left out")
    gone = ("content-encoding", "content-length")  # the length is that of the coded body
    headers = {name: value for name, value in http.headers.items() if name not in gone}
    return replace(http, headers=headers, body=_DecodedBody(http.body, limit_bytes))


class _DecodedBody:
    """A request's body, decoded."""

    def __init__(self, body: Body, limit_bytes: int) -> None:
        self._body = body
        self._limit_bytes = limit_bytes

    async def read(self, limit_bytes: int) -> bytes:
        """The whole decoded body. Raises RequestError: 413 when it is longer than limit_bytes, 400 when it is not gzip."""
        parts: list[bytes] = []
        size = 0
        async for piece in self.stream():
            size += len(piece)
            if size > limit_bytes:
                raise RequestError(413, f"the decoded body is longer than {limit_bytes} bytes")
            parts.append(piece)
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The decoded body in pieces. Raises RequestError(400)."""
        try:
            async for piece in gunzip(self._body.stream(), self._limit_bytes):
                yield piece
        except CodingError as error:
            raise RequestError(400, f"the body cannot be decoded: {error}") from error
