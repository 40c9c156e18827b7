"""What every service of documents is that no FHIR store keeps: a FHIR store to the passage, whose Binaries are documents.

What is about patients is the business of the FHIR store that knows them, which is asked with its own credentials.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from gateway.cda.header import Header
from gateway.document_services.contents import NOT_HERE
from gateway.document_services.document_reference import NEW, document_reference
from gateway.document_services.patients import Patients
from gateway.document_settings import PatientLookup
from gateway.fhir.ids import is_id
from gateway.proxy import headers as passed
from gateway.proxy.own_answers import own_refusal, own_resource
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

_NOT_FOR_OTHERS = frozenset(
    {"authorization", "prefer", "content-type", "content-length", "x-security-context"}
)


def for_store_of_patients(headers: Mapping[str, str], others: UpstreamClient) -> dict[str, str]:
    """The headers for the patients' store: its own credentials, and nothing that is of a document or its service."""
    kept = {name: value for name, value in headers.items() if name not in _NOT_FOR_OTHERS}
    return kept | passed.of_our_own(others.upstream)


class DocumentService(UpstreamClient, ABC):
    """The client of such a mount; one that lacks what differs from service to service is not made.

    It closes its own connections; others, the patients' store, is somebody else's client.
    """

    capabilities: Mapping[str, Any]

    def __init__(
        self,
        upstream: Upstream,
        observe: Callable[[float], None],
        others: UpstreamClient,
        lookup: PatientLookup,
    ) -> None:
        super().__init__(upstream, observe)
        self._others = others
        self._patients = Patients(others, upstream.identifier_systems, lookup)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """The answer to a FHIR request. Raises FhirError as a store does."""
        path, _, query = target.partition("?")
        match method, path.split("/"):
            case "GET", ["metadata"]:
                return own_resource(self.capabilities)
            case "GET", ["Binary", id_] if is_id(id_):
                return await self._binary(id_, query, headers)
            case "GET", ["DocumentReference", id_] if is_id(id_):
                found = await self._reference(id_, headers)
                return own_refusal(404, NOT_HERE) if found is None else own_resource(found)
            case "GET", ["DocumentReference"]:
                return await self._search(query, headers)
            case "POST", ["Binary"]:
                return await self._provide(headers, body)
            case "GET" | "HEAD", [type_, *_] if type_ not in ("Binary", "DocumentReference"):
                return await self._others.send(method, target, self._for_others(headers))
            case _:
                return own_refusal(404 if method == "GET" else 405, NOT_HERE)

    async def reference_to_be(
        self, header: Header, media_type: str, headers: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """What will lead to a new document with this header; None where it names no one patient. Raises FhirError."""
        patient = await self._patient_in(header, headers)
        return None if patient is None else document_reference(NEW, header, patient, media_type)

    async def _patient_in(self, header: Header, headers: Mapping[str, str]) -> str | None:
        """The id of the patient whom a document is about; None where that is not certain. Raises FhirError."""
        return await self._patients.of(header, self._for_others(headers))

    def _for_others(self, headers: Mapping[str, str]) -> dict[str, str]:
        return for_store_of_patients(headers, self._others)

    @abstractmethod
    async def _binary(self, id_: str, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        """A Binary: with a query without its content, else the content or, to who asks for FHIR, the resource."""

    @abstractmethod
    async def _reference(self, id_: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """The DocumentReference that leads to a document; None where it cannot be told for certain."""

    @abstractmethod
    async def _search(self, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        """A search of DocumentReferences."""

    @abstractmethod
    async def _provide(
        self, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamAnswer:
        """A new document."""
