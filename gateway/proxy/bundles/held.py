"""Answers that are held to go out within another one: a Bundle of many answers has a size of its own."""

from collections.abc import AsyncIterator

from authz.protocol.request import Answer
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers
from gateway.proxy.whole_answers import let_go


class Held:
    """What the answers of one Bundle may still take, in bytes."""

    def __init__(self, left: int) -> None:
        self._left = left

    async def whole(self, answer: Answer) -> bytes | None:
        """The body of an answer; None where it is let go, since the entry was carried out and its answer is too long.

        Raises FhirError(TOO_LARGE) where nothing was changed by the entry, and NOT_ACCEPTABLE for what is no JSON.
        """
        is_json = any(name == "Content-Type" and headers.is_json(value) for name, value in answer.headers)
        body = await self._read(answer.body)
        if body is not None and (is_json or not body):
            return body
        if answer.status != 200:
            return None
        if not is_json:
            raise FhirError(Reason.NOT_ACCEPTABLE, "the answer is no FHIR JSON: ask for it by itself")
        raise FhirError(Reason.TOO_LARGE, "the answers of the Bundle are too long together: ask by itself")

    async def _read(self, body: bytes | AsyncIterator[bytes]) -> bytes | None:
        """The whole body; None when it is longer than what is left."""
        if isinstance(body, bytes):
            return body if self._take(len(body)) else None
        parts: list[bytes] = []
        try:
            async for piece in body:
                if not self._take(len(piece)):
                    return None
                parts.append(piece)
        finally:
            await let_go(body)
        return b"".join(parts)

    def _take(self, count: int) -> bool:
        if count > self._left:
            return False
        self._left -= count
        return True
