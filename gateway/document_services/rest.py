"""A plain REST store of clinical documents, as a FHIR store to the passage (kind `cda-rest`).

A document is its Binary. What leads to it is the DocumentReference that its own header makes; everything else (Patient,
Consent, what policies ask for) is the business of the FHIR store that knows the patients. So a document passes the
same decisions as one that FHIR keeps, and nothing of it goes out before its header is judged.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.document_services.contents import (
    ANY,
    as_binary,
    media_type_of,
    missing,
    tag_of,
    without_content,
)
from gateway.document_services.document_reference import document_reference
from gateway.document_services.service import DocumentService
from gateway.document_settings import DocumentSettings
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers as passed
from gateway.proxy.documents.document_stream import DocumentStream
from gateway.proxy.own_answers import own_resource
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

_CAPABILITIES: Mapping[str, Any] = {
    "resourceType": "CapabilityStatement",
    "status": "active",
    "kind": "instance",
    "fhirVersion": "4.0.1",
    "format": ["application/fhir+json"],
    "rest": [
        {
            "mode": "server",
            "resource": [
                {"type": "Binary", "interaction": [{"code": "read"}, {"code": "create"}]},
                {"type": "DocumentReference", "interaction": [{"code": "read"}]},
            ],
        }
    ],
}


class RestDocuments(DocumentService):
    """The client of a mount of kind `cda-rest`."""

    capabilities = _CAPABILITIES

    def __init__(
        self,
        upstream: Upstream,
        settings: DocumentSettings,
        observe: Callable[[float], None],
        patients: UpstreamClient,
    ) -> None:
        super().__init__(upstream, observe, patients, settings.lookup)
        self._settings = settings

    async def _binary(self, id_: str, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        return await (self._look(id_, headers) if query else self._content(id_, headers))

    async def _look(self, id_: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        """The Binary without its content."""
        answer = await self._ask_store("HEAD", self._path_of(id_), {**headers, "accept": ANY})
        answer.close()
        if answer.status != 200:
            return missing(answer)
        return without_content(id_, media_type_of(answer), tag_of(answer))

    async def _content(self, id_: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        """The document as it is or, to who asks for FHIR, as a Binary."""
        if passed.is_json(headers.get("accept", "")):
            answer = await self._ask_store("GET", self._path_of(id_), {**headers, "accept": ANY})
            limit = self.upstream.max_resource
            return await as_binary(answer, id_, media_type_of(answer), tag_of(answer), limit)
        answer = await self._ask_store("GET", self._path_of(id_), headers)
        answer.headers = {**answer.headers, "etag": tag_of(answer)}
        return answer

    async def _search(self, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        """What leads to a Binary; a store of documents finds nothing by anything else."""
        terms = dict(parse_qsl(query, keep_blank_values=True))
        places = {place.rpartition("Binary/")[2] for place in terms.pop("location", "").split(",")}
        if not terms.keys() <= {"_count"} or len(places) != 1 or not all(map(is_id, places)):
            said = "this document service finds documents by their address alone"
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, said)
        found = await self._reference(places.pop(), headers)
        entry = [] if found is None else [{"resource": found}]
        return own_resource({"resourceType": "Bundle", "type": "searchset", "entry": entry})

    async def _reference(self, id_: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """What the header of the document says of it; None where it cannot be told for certain."""
        sent = {**headers, "accept": ANY, "accept-encoding": "identity"}
        answer = await self._ask_store("GET", self._path_of(id_), sent)
        try:
            if answer.status != 200:
                return None
            content = DocumentStream(answer.stream())
            await content.begin()
        finally:
            answer.close()
        header = content.header
        if header is None or content.fault is not None:
            return None
        patient = await self._patient_in(header, headers)
        return None if patient is None else document_reference(id_, header, patient, media_type_of(answer))

    async def _provide(
        self, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamAnswer:
        """A new document, which the store gives a place of its own."""
        answer = await self._ask_store("POST", self._settings.collection, headers, body)
        if answer.status not in (200, 201):
            return answer
        answer.close()
        id_ = self._settings.id_at(answer.headers.get("location", ""))
        if id_ is None:
            raise FhirError(Reason.UPSTREAM_INVALID, "the store does not say where it keeps the document")
        return own_resource(
            {"resourceType": "Binary", "id": id_}, 201, location=f"Binary/{id_}", etag=tag_of(answer)
        )

    async def _ask_store(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        return await UpstreamClient.send(self, method, path, headers, body)

    def _path_of(self, id_: str) -> str:
        return self._settings.path_of(id_)
