"""A document as it comes out of a repository: one part of an answer as MTOM, streamed (ITI-43)."""

import hashlib
from collections.abc import AsyncIterator
from urllib.parse import unquote

from gateway.document_services.xds.entries import Entry
from gateway.document_services.xds.multipart import Parts
from gateway.document_services.xds.soap_answers import Node, check_success
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy.own_answers import OwnAnswer
from gateway.proxy.upstream import UpstreamAnswer


class Retrieved(OwnAnswer):
    """The document. What is not what the registry knows of it, by hash and size, breaks off before its last bytes."""

    __slots__ = ("_answer", "_entry", "_parts")

    def __init__(self, answer: UpstreamAnswer, parts: Parts, entry: Entry, kind: str, tag: str) -> None:
        super().__init__(200, {"content-type": kind, "etag": tag}, b"")
        self._answer = answer
        self._parts = parts
        self._entry = entry

    @classmethod
    async def of(
        cls, said: Node, parts: Parts | None, answer: UpstreamAnswer, entry: Entry, kind: str, tag: str
    ) -> "Retrieved":
        """The one document that was asked for. Raises FhirError, NOT_FOUND where the repository does not have it."""
        if said.name != "xds:RetrieveDocumentSetResponse":
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not one of a repository")
        check_success(said.one("rs:RegistryResponse"))
        found = said.one("xds:DocumentResponse")
        named = None if found is None else found.one("xds:Document", "xop:Include")
        if found is None or named is None or parts is None:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer has no document beside it")
        told = (found.said("xds:RepositoryUniqueId"), found.said("xds:DocumentUniqueId"))
        if told != (entry.repository, entry.unique_id):
            raise FhirError(Reason.UPSTREAM_INVALID, "the repository answered with another document")
        head = await parts.head()
        href = named.attributes.get("href", "")
        id_ = "" if head is None else head.get("content-id", "")
        if not href.startswith("cid:") or id_ not in (f"<{unquote(href[4:])}>", f"<{href[4:]}>"):
            raise FhirError(Reason.UPSTREAM_INVALID, "the document is not the part that the answer names")
        return cls(answer, parts, entry, kind, tag)

    async def read(self, limit_bytes: int) -> bytes:
        """The whole document. Raises FhirError for one that is longer."""
        found = bytearray()
        async for piece in self.stream():
            found += piece
            if len(found) > limit_bytes:
                raise FhirError(Reason.UPSTREAM_INVALID, "the document is longer than is taken")
        return bytes(found)

    async def stream(self) -> AsyncIterator[bytes]:
        """The document in pieces, the last one when all of it was seen."""
        digest, size, held = hashlib.sha1(usedforsecurity=False), 0, b""
        async for piece in self._parts.content():
            digest.update(piece)
            size += len(piece)
            if held:
                yield held
            held = piece
        if await self._parts.head() is not None:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer has more than one document")
        entry = self._entry
        if (entry.hash and entry.hash != digest.hexdigest()) or (entry.size not in (None, size)):
            raise FhirError(Reason.UPSTREAM_INVALID, "the document is not the one that was registered")
        if held:
            yield held

    def close(self) -> None:
        """Let the connection go."""
        self._answer.close()
