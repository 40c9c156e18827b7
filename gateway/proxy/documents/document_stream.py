"""The content of a Binary on its way out, when a decision looks at the document in it.

The beginning is held until the header is read, and nothing of it goes out before the judge has seen that. The rest
streams, and is read along: a document that takes its header back further on breaks off.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial

from gateway.cda.header import Header
from gateway.cda.header_reader import HeaderReader, looks_like_xml
from gateway.cda.parser import DocumentError
from gateway.fhir.outcome import FhirError, Reason

_SNIFFED_BYTES = 1024


class DocumentStream:
    """Content in pieces. begin() comes first; then header and fault say what it is, and pieces() gives all of it.

    header  of a clinical document; None for other content
    fault   why the content cannot be told; None where it can
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        stylesheets: bool = True,
        fault: Reason = Reason.UPSTREAM_INVALID,
        new_reader: Callable[[], HeaderReader] | None = None,
    ) -> None:
        """stylesheets is whether a document may name one; fault is the reason of what pieces() raises.

        new_reader makes what reads the document, where more is looked at than the header.
        """
        self._chunks = chunks
        self._new_reader = new_reader or partial(HeaderReader, stylesheets=stylesheets)
        self._fault = fault
        self._held = bytearray()
        self._reader: HeaderReader | None = None
        self._is_whole = False
        self.header: Header | None = None
        self.fault: str | None = None

    async def begin(self) -> None:
        """Read as far as a decision needs. Raises FhirError as the store's answer does."""
        try:
            await self._begin()
        except DocumentError as error:
            self.fault = str(error)
        if self._reader is not None:
            self.header = self._reader.header
            if self._reader.is_document is None and self.fault is None:
                self.fault = "the document has no root"

    async def _begin(self) -> None:
        async for chunk in self._chunks:
            self._held += chunk
            if self._reader is not None:
                self._reader.feed(chunk)
            elif len(self._held) < _SNIFFED_BYTES:
                continue
            elif not self._starts_reading():
                return
            if self._reader is not None and self._reader.is_decided:
                return
        self._is_whole = True
        if self._reader is None:
            self._starts_reading()
        if self._reader is not None:
            self._reader.finish()

    def _starts_reading(self) -> bool:
        beginning = bytes(self._held)
        if not beginning or (beginning.strip(b" \t\r\n") and not looks_like_xml(beginning)):
            return False
        self._reader = self._new_reader()
        self._reader.feed(beginning)
        return True

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content, without stylesheet instructions before a document: they name a script for whoever opens it.

        Raises FhirError: it breaks off here.
        """
        first = self._without_stylesheets()
        self._held.clear()
        reader = self._reader if self.header is not None and not self._is_whole else None
        if reader is None:
            if first:
                yield first
            async for chunk in self._chunks:
                yield chunk
            return
        try:
            waiting = bytearray(first)  # what was not looked at does not go out
            async for chunk in self._chunks:
                if len(waiting) > reader.unread_bytes:
                    yield _taken(waiting, len(waiting) - reader.unread_bytes)
                waiting += chunk
                reader.feed(chunk)
            reader.finish()
        except DocumentError as error:
            raise FhirError(self._fault, str(error)) from error
        if waiting:
            yield bytes(waiting)

    def _without_stylesheets(self) -> bytes:
        content = bytes(self._held)
        for at in reversed(
            self._reader.stylesheets if self._reader is not None and self.header is not None else []
        ):
            end = content.index(b"?>", at) + 2
            content = content[:at] + content[end:]
        return content


def _taken(waiting: bytearray, size: int) -> bytes:
    taken = bytes(waiting[:size])
    del waiting[:size]
    return taken
