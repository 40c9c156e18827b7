"""A registry and its repositories (IHE XDS.b, kind `xds`), as a FHIR store to the passage.

A document is its Binary, its registry entry the DocumentReference that leads to it; everything about patients is the
business of the FHIR store that knows them. The id of both is the entryUUID that the registry gave: nothing is kept
here, and an id says nothing but to that registry (GetDocuments).
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from authz.clock import Clock
from gateway.cda.header import Header, InstanceIdentifier
from gateway.cda.patients import normal
from gateway.document_services.contents import ANY, NOT_HERE, as_binary, without_content
from gateway.document_services.service import DocumentService
from gateway.document_services.xds import entries, envelopes, soap_answers, submission
from gateway.document_services.xds.assertion import Assertions
from gateway.document_services.xds.endpoint import SoapEndpoint
from gateway.document_services.xds.entries import Entry
from gateway.document_services.xds.retrieved import Retrieved
from gateway.document_settings import DocumentSettings
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers as passed
from gateway.proxy.answers.delivery import resource_or_none
from gateway.proxy.documents.attachments import identifiers_of
from gateway.proxy.documents.document_stream import DocumentStream
from gateway.proxy.own_answers import own_refusal, own_resource
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream
from gateway.xds_settings import XdsSettings

_SEARCHED = frozenset({"patient", "subject", "status", "type", "category", "date", "_count"})
_MAX_IDENTIFIERS = 4  # of one patient at the affinity domain
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
                {
                    "type": "DocumentReference",
                    "interaction": [{"code": "read"}, {"code": "search-type"}],
                    "searchParam": [
                        {"name": "patient", "type": "reference"},
                        {"name": "status", "type": "token"},
                        {"name": "type", "type": "token"},
                        {"name": "category", "type": "token"},
                        {"name": "date", "type": "date"},
                    ],
                },
            ],
        }
    ],
}


class XdsDocuments(DocumentService):
    """The client of a mount of kind `xds`."""

    capabilities = _CAPABILITIES

    def __init__(
        self,
        upstream: Upstream,
        documents: DocumentSettings,
        xds: XdsSettings,
        observe: Callable[[float], None],
        patients: UpstreamClient,
        clock: Clock,
    ) -> None:
        super().__init__(upstream, observe, patients, documents.lookup)
        assertions = None if xds.assertion is None else Assertions(xds.assertion)

        def endpoint(url: str) -> SoapEndpoint:
            return SoapEndpoint(upstream, url, observe, tls=xds.tls, assertions=assertions, clock=clock)

        self._registry = endpoint(upstream.base)
        self._repositories = {oid: endpoint(url) for oid, url in xds.repositories.items()}
        self._provider = None if xds.provide is None else endpoint(xds.provide.url)
        self._xds = xds
        self._clock = clock

    @property
    def in_use(self) -> int:
        """Connections that have a request, or are being opened for one."""
        return sum(each.in_use for each in self._endpoints())

    async def open(self) -> None:
        """Make the pools; no connection yet."""
        for each in self._endpoints():
            await each.open()

    async def close(self) -> None:
        """Close every connection."""
        for each in self._endpoints():
            await each.close()

    def _endpoints(self) -> list[SoapEndpoint]:
        more = [] if self._provider is None else [self._provider]
        return [self._registry, *self._repositories.values(), *more]

    # ITI-18

    async def _entries(
        self, query: str, parameters: Mapping[str, str], headers: Mapping[str, str]
    ) -> list[Entry]:
        asked = envelopes.stored_query(query, parameters)
        said = await self._registry.ask(envelopes.QUERY, asked, headers)
        if said.name != "query:AdhocQueryResponse":
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not one to a stored query")
        soap_answers.check_success(said)
        return [entries.entry_of(each) for each in said.all("rim:RegistryObjectList", "rim:ExtrinsicObject")]

    async def _entry(self, id_: str, headers: Mapping[str, str]) -> Entry | None:
        try:
            name = uuid.UUID(id_)
        except ValueError:
            return None
        if str(name) != id_:  # one id, written in one way
            return None
        asked = {"$XDSDocumentEntryEntryUUID": envelopes.listed([f"urn:uuid:{id_}"])}
        if self._xds.home is not None:
            asked["$homeCommunityId"] = envelopes.quoted(self._xds.home)
        found = await self._entries(envelopes.GET_DOCUMENTS, asked, headers)
        if len(found) > 1 or any(each.id != id_ for each in found):
            raise FhirError(Reason.UPSTREAM_INVALID, "the registry answered with another entry")
        return found[0] if found else None

    async def _reference(self, id_: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """The DocumentReference of an entry; None where it is not certain whose it is."""
        entry = await self._entry(id_, headers)
        if entry is None or entry.patient.root != self._xds.assigning_authority:
            return None
        patient = await self._patient_of(entry.patient, headers)
        return None if patient is None else entries.as_reference(entry, patient)

    async def _patient_of(self, identifier: InstanceIdentifier, headers: Mapping[str, str]) -> str | None:
        return await self._patient_in(Header(((identifier,),)), headers)

    async def _search(self, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        pairs = parse_qsl(query, keep_blank_values=True)
        terms = dict(pairs)
        if len(terms) != len(pairs):
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, "a parameter is given once here")
        places = {place.rpartition("Binary/")[2] for place in terms.pop("location", "").split(",") if place}
        found: list[dict[str, Any]] = []
        if places:
            if not terms.keys() <= {"_count"} or len(places) != 1 or not all(map(is_id, places)):
                raise FhirError(Reason.UNSUPPORTED_PARAMETER, "one address leads to one document")
            one = await self._reference(places.pop(), headers)
            found = [] if one is None else [one]
        else:
            found = await self._found(terms, headers)
        link = [{"relation": "self", "url": f"{self.upstream.base}/DocumentReference?{query}"}]
        entry = [{"resource": each} for each in found]
        return own_resource({"resourceType": "Bundle", "type": "searchset", "link": link, "entry": entry})

    async def _found(self, terms: dict[str, str], headers: Mapping[str, str]) -> list[dict[str, Any]]:
        named = {terms.get(name, "").removeprefix("Patient/") for name in ("patient", "subject")} - {""}
        if not terms.keys() <= _SEARCHED or len(named) != 1:
            said = "this registry finds documents of one patient, by status, type, category and date"
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, said)
        patient = named.pop()
        if not is_id(patient):
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, "a patient is named by its id")
        found: list[dict[str, Any]] = []
        for identifier in await self._at_the_domain(patient, headers):
            asked = entries.parameters(terms, entries.patient_text(identifier))
            for each in await self._entries(envelopes.FIND_DOCUMENTS, asked, headers):
                if each.patient != identifier:
                    raise FhirError(Reason.UPSTREAM_INVALID, "the registry answered for another patient")
                found.append(entries.as_reference(each, patient))
        return found

    async def _at_the_domain(self, patient: str, headers: Mapping[str, str]) -> list[InstanceIdentifier]:
        """The identifiers that a patient has at the affinity domain, each of which is certain to be nobody else's."""
        answer = await self._others.send("GET", f"Patient/{patient}", self._for_others(headers))
        value = await resource_or_none(answer, self.upstream.max_resource)
        known = frozenset() if value is None or value.get("id") != patient else identifiers_of(value)
        root, systems = self._xds.assigning_authority, self.upstream.identifier_systems
        own = normal(f"urn:oid:{root}", systems)
        named = sorted(text for system, text in known if normal(system, systems) == own)[:_MAX_IDENTIFIERS]
        identifiers = [InstanceIdentifier(root, text) for text in named]
        return [each for each in identifiers if await self._patient_of(each, headers) == patient]

    # ITI-43

    async def _binary(self, id_: str, query: str, headers: Mapping[str, str]) -> UpstreamAnswer:
        entry = await self._entry(id_, headers)
        if entry is None:
            return own_refusal(404, NOT_HERE)
        # A document keeps its uniqueId for as long as it is the same (ITI TF-3 4.2.3.2.26).
        kind, tag = entry.media_type or "application/octet-stream", f'"{entry.hash or entry.id}"'
        if "fhir" in kind:
            kind = "application/octet-stream"
        if query:
            return without_content(id_, kind, tag)
        answer = await self._retrieved(entry, kind, tag, headers)
        if passed.is_json(headers.get("accept", ANY)):
            return await as_binary(answer, id_, kind, tag, self.upstream.max_resource)
        return answer

    async def _retrieved(
        self, entry: Entry, kind: str, tag: str, headers: Mapping[str, str]
    ) -> UpstreamAnswer:
        repository = self._repositories.get(entry.repository)
        if repository is None:
            raise FhirError(Reason.UPSTREAM_INVALID, "the registry names a repository that is not configured")
        asked = envelopes.retrieval(entry.repository, entry.unique_id, entry.home or self._xds.home)
        said, parts, answer = await repository.ask_mtom(envelopes.RETRIEVE, asked, headers)
        try:
            return await Retrieved.of(said, parts, answer, entry, kind, tag)
        except BaseException:
            answer.close()
            raise

    # ITI-41

    async def _provide(
        self, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes] | None
    ) -> UpstreamAnswer:
        if body is None:
            return own_refusal(405, NOT_HERE)
        settings = self._xds.provide
        if settings is None or self._provider is None:
            return own_refusal(405, "this mount takes no documents")
        if isinstance(body, bytes):
            body = _one(body)
        content = DocumentStream(body, stylesheets=False, fault=Reason.INVALID_BODY)
        await content.begin()
        header = content.header
        if header is None or content.fault is not None:
            raise FhirError(Reason.INVALID_BODY, content.fault or "this registry takes clinical documents")
        new = submission.Submission(
            header,
            await self._about(header, headers),
            uuid.uuid4(),
            uuid.uuid4(),
            uuid.uuid4(),
            self._clock(),
        )
        said, _, answer = await self._provider.ask_mtom(
            envelopes.PROVIDE,
            submission.request(new, settings),
            headers,
            content.pieces(),
            submission.MEDIA_TYPE,
        )
        answer.close()
        if said.name != "rs:RegistryResponse":
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not one of a repository")
        soap_answers.check_success(said)
        id_ = str(new.entry_id)
        return own_resource({"resourceType": "Binary", "id": id_}, 201, location=f"Binary/{id_}")

    async def _about(self, header: Header, headers: Mapping[str, str]) -> InstanceIdentifier:
        """Whom a document is about, by the one identifier at the affinity domain. Raises FhirError(INVALID_BODY)."""
        patient = await self._patient_in(header, headers)
        known = [] if patient is None else await self._at_the_domain(patient, headers)
        if len(known) != 1:
            raise FhirError(Reason.INVALID_BODY, "the patient of the document is not one of this registry")
        return known[0]


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content
