"""Answers with Content-Encoding: gzip, for callers that accept it (RFC 9110 12.5.3), piece by piece as they pass.

Each piece is flushed, so that an entry goes out when it is there. What a signature covers is the content as coded
(RFC 9530 2), since signing comes behind.

BREACH needs a page that makes the victim's browser send requests with text of the attacker's choice, and an answer that
mixes it with a secret. Nothing here is sent on a browser's own account: there are no cookies, and every request brings
a token and a proof that only the application can make. Tokens and codes leave by other doors, uncompressed.
"""

import re
import zlib
from asyncio import sleep
from collections.abc import AsyncIterator
from dataclasses import replace

from authz.protocol.request import Answer, HttpRequest
from gateway.fhir.formats import Format
from gateway.proxy.answers.formats import weak_etags
from gateway.proxy.whole_answers import let_go

_MIN_BYTES = 1024  # less would hardly become fewer packets
_LEVEL = 3  # measured on Bundles: docs/formats.md
_PIECE_BYTES = 32 * 1024  # compressed without a pause: well below 1 ms
_TYPES = frozenset({Format.JSON.value, Format.XML.value, "application/fhir+ndjson"})
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


async def coded(http: HttpRequest, answer: Answer) -> Answer:
    """The answer, compressed where the caller accepts that and it is worth it; Vary tells caches of both."""
    fields = varied(answer.headers)
    if accepts_gzip(http.headers.get("accept-encoding", "")):
        # 304 names the tag that a 200 would have: it is made weak there, too (RFC 9110 15.4.5).
        if answer.status == 304:
            return replace(answer, headers=weak_etags(fields))
        if _is_worth_it(answer):
            fields = (*weak_etags(fields), ("Content-Encoding", "gzip"))
            if not isinstance(answer.body, bytes):
                return replace(answer, headers=fields, body=_GzipStream(answer.body))
            compressor = zlib.compressobj(_LEVEL, wbits=31)
            body = await _compressed(compressor, answer.body) + compressor.flush()
            return replace(answer, headers=fields, body=body)
    return Answer(answer.status, fields, answer.body, answer.trailer)


def varied(fields: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Header fields of an answer that may be compressed, or not, by what the caller accepts."""
    return tuple(
        [(name, f"{value}, Accept-Encoding") if name == "Vary" else (name, value) for name, value in fields]
    )


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is accepted, and not less than the body as it is."""
    if not accept_encoding:
        return False
    qualities: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value.strip()) if _QUALITY.fullmatch(value.strip()) else 0.0
        qualities[name.strip()] = quality
    wanted = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return wanted > 0 and wanted >= qualities.get("identity", 0.0)


def _is_worth_it(answer: Answer) -> bool:
    fields = {name.lower(): value for name, value in answer.headers}
    if "content-encoding" in fields or "content-range" in fields:
        return False
    media_type = fields.get("content-type", "").partition(";")[0]
    return media_type in _TYPES and (not isinstance(answer.body, bytes) or len(answer.body) >= _MIN_BYTES)


async def _compressed(compressor: "zlib._Compress", content: bytes) -> bytes:
    out = []
    for start in range(0, len(content), _PIECE_BYTES):
        if start:
            await sleep(0)  # others have their turn
        out.append(compressor.compress(content[start : start + _PIECE_BYTES]))
    return b"".join(out)


class _GzipStream:
    """A body, compressed as it passes: each piece of it whole in what goes out."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._compressor = zlib.compressobj(_LEVEL, wbits=31)
        self._is_ended = False

    def __aiter__(self) -> "_GzipStream":
        return self

    async def __anext__(self) -> bytes:
        if self._is_ended:
            raise StopAsyncIteration
        try:
            piece = await anext(self._body)
        except StopAsyncIteration:
            self._is_ended = True
            return self._compressor.flush()
        out = await _compressed(self._compressor, piece)
        return out + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    async def aclose(self) -> None:
        """Let go of what the body holds."""
        await let_go(self._body)
