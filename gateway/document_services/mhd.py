"""A FHIR service of documents (IHE MHD, kind `mhd`), whose attachments need not be Binaries and whose patients may
be known elsewhere.

ITI-66, ITI-67 and ITI-65 are FHIR as it is. Two things are not. An attachment may lie anywhere below the service's base:
it is shown as the Binary `at-[number]-[id of the DocumentReference]`, so that its address leads back here, is judged for
whoever follows it, and opens nothing by itself. And `subject` may name a patient of another server: where the mount says
which, the reference is one to that server and nothing else, on the way in and on the way out.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.document_services.attached import (
    attached_urls,
    is_virtual,
    owner_of,
    show_attachments,
    store_path,
    stored_attachments,
)
from gateway.document_services.contents import (
    NOT_HERE,
    as_binary,
    media_type_of,
    missing,
    tag_of,
    without_content,
)
from gateway.document_services.patients_elsewhere import PatientsElsewhere, Search
from gateway.document_services.service import for_store_of_patients
from gateway.fhir import links, resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import objects
from gateway.proxy import headers as passed
from gateway.proxy.answers.delivery import resource_or_none, stored
from gateway.proxy.own_answers import OwnAnswer, own_refusal, own_resource
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

_OF_DOCUMENTS = frozenset({"Binary", "DocumentReference", "List", "metadata", ""})
_CHANGED = frozenset({"DocumentReference", "List"})


class MhdDocuments(UpstreamClient):
    """The client of a mount of kind `mhd`. others is the client of the store that knows the patients, if it is another."""

    def __init__(
        self, upstream: Upstream, observe: Callable[[float], None], others: UpstreamClient | None = None
    ) -> None:
        super().__init__(upstream, observe)
        self._others = others
        self._bases = (*upstream.bases, upstream.base)
        self._elsewhere = None if others is None else PatientsElsewhere(others.upstream, self._bases)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """The answer to a FHIR request. Raises FhirError as a store does."""
        path, _, query = target.partition("?")
        type_, *rest = path.split("/")
        if self._others is not None and type_ not in _OF_DOCUMENTS:
            if method not in ("GET", "HEAD"):
                return own_refusal(405, NOT_HERE)
            return await self._others.send(method, target, for_store_of_patients(headers, self._others))
        if type_ == "Binary" and rest and is_virtual(rest[0]):
            return await self._binary(method, rest, query, headers)
        if type_ == "DocumentReference" and method == "GET" and not rest:
            location = dict(parse_qsl(query, keep_blank_values=True)).get("location", "")
            places = {place.rpartition("Binary/")[2] for place in location.split(",")}
            if any(map(is_virtual, places)):
                return await self._leads_to(places, headers)
        is_own = (
            method in ("POST", "PUT")
            and isinstance(body, bytes)
            and passed.is_json(headers.get("content-type", ""))
        )
        if is_own and isinstance(body, bytes):
            body = await self._as_stored(body, headers)
        search = None if is_own or self._elsewhere is None else self._elsewhere.search(target, body)
        if search is not None:
            target, body = search.target, search.form
        answer = await super().send(method, target, headers, body)
        return await self._as_shown(type_, answer, search)

    async def _as_shown(self, type_: str, answer: UpstreamAnswer, search: Search | None) -> UpstreamAnswer:
        """What the service answers with, with addresses and patients as they are here."""
        is_fhir = passed.is_json(answer.headers.get("content-type", ""))
        if type_ not in _CHANGED or not is_fhir or answer.status not in (200, 201):
            return answer
        try:
            raw = await answer.read(self.upstream.max_resource)
        finally:
            answer.close()
        if not raw.strip():
            return OwnAnswer(answer.status, answer.headers, raw)
        value = stored(raw)
        for each in _resources(value):
            self._show(each)
        if search is not None:
            search.show_links(value)
        kept = {name: said for name, said in answer.headers.items() if name != "content-length"}
        return OwnAnswer(answer.status, kept, resource.write_resource(value))

    def _show(self, value: dict[str, Any]) -> None:
        if value.get("resourceType") == "DocumentReference":
            show_attachments(value, self.upstream.base, self._bases)
        if self._elsewhere is not None:
            self._elsewhere.show(value)

    async def _as_stored(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """What is written, as the service has it. Raises FhirError for an attachment that is no Binary of this base."""
        value = resource.parse_resource(body)
        for each in _resources(value):
            if each.get("resourceType") == "DocumentReference":
                urls = {}
                for url in attached_urls(each):
                    place = links.local_reference(url, self._bases)
                    if place is not None and place.type == "Binary" and is_virtual(place.id):
                        urls[url] = await self._url_of(place.id, headers)
                stored_attachments(each, urls, self._bases)
            if self._elsewhere is not None:
                self._elsewhere.store(each)
        return resource.write_resource(value)

    async def _reference(self, id_: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
        sent = {**headers, "accept": passed.FHIR_JSON}
        answer = await super().send("GET", f"DocumentReference/{id_}", sent)
        value = await resource_or_none(answer, self.upstream.max_resource)
        is_it = (
            value is not None and value.get("resourceType") == "DocumentReference" and value.get("id") == id_
        )
        return value if is_it else None

    async def _attachment(self, id_: str, headers: Mapping[str, str]) -> dict[str, Any] | None:
        """The attachment that a Binary of ours stands for, as the service has it; None where there is none."""
        number, owner = owner_of(id_)
        found = await self._reference(owner, headers)
        content = [] if found is None else found.get("content", [])
        each = content[number] if isinstance(content, list) and number < len(content) else None
        attachment = each.get("attachment") if isinstance(each, dict) else None
        return attachment if isinstance(attachment, dict) else None

    async def _url_of(self, id_: str, headers: Mapping[str, str]) -> str:
        read = {
            name: said for name, said in headers.items() if name not in ("content-type", "if-match", "prefer")
        }
        attachment = await self._attachment(id_, read)
        url = None if attachment is None else attachment.get("url")
        if not isinstance(url, str) or store_path(url, self.upstream.base) is None:
            raise FhirError(Reason.INVALID_BODY, "an attachment names a Binary that is not there")
        return url

    async def _leads_to(self, places: set[str], headers: Mapping[str, str]) -> UpstreamAnswer:
        if len(places) != 1:
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, "one address leads to one document")
        _, owner = owner_of(places.pop())
        found = await self._reference(owner, headers)
        if found is not None:
            self._show(found)
        entry = [] if found is None else [{"resource": found}]
        return own_resource({"resourceType": "Bundle", "type": "searchset", "entry": entry})

    async def _binary(
        self, method: str, rest: list[str], query: str, headers: Mapping[str, str]
    ) -> UpstreamAnswer:
        """An attachment that is no Binary at the service, as one (ITI-68)."""
        if method != "GET" or len(rest) != 1:
            return own_refusal(404 if method == "GET" else 405, NOT_HERE)
        id_ = rest[0]
        attachment = await self._attachment(id_, {**headers, "cache-control": "no-cache"})
        url = None if attachment is None else attachment.get("url")
        path = store_path(url, self.upstream.base) if isinstance(url, str) else None
        if attachment is None or path is None:
            return own_refusal(404, NOT_HERE)
        accept = headers.get("accept", "*/*")
        wants = {
            **headers,
            "accept": "*/*" if passed.is_json(accept) else accept,
            "accept-encoding": "identity",
        }
        if query:
            return await self._look(id_, path, attachment, wants)
        answer = await super().send("GET", path, wants)
        if passed.is_json(accept):
            kind, tag = _media_type(attachment, answer), tag_of(answer)
            return await as_binary(answer, id_, kind, tag, self.upstream.max_resource)
        if answer.status == 200:
            kind = _media_type(attachment, answer)
            answer.headers = {**answer.headers, "etag": tag_of(answer), "content-type": kind}
        return answer

    async def _look(
        self, id_: str, path: str, attachment: Mapping[str, Any], headers: Mapping[str, str]
    ) -> UpstreamAnswer:
        answer = await super().send("HEAD", path, headers)
        answer.close()
        if answer.status in (405, 501):  # a place of documents, not all of which know HEAD
            answer = await super().send("GET", path, headers)
            answer.close()
        if answer.status != 200:
            return missing(answer)
        return without_content(id_, _media_type(attachment, answer), tag_of(answer))


def _media_type(attachment: Mapping[str, Any], answer: UpstreamAnswer) -> str:
    """What the metadata say, or else the answer. FHIR it is not: content of a document is never read as a resource."""
    said = attachment.get("contentType")
    found = (
        said.partition(";")[0].strip().lower() if isinstance(said, str) and said else media_type_of(answer)
    )
    return "application/octet-stream" if "fhir" in found else found


def _resources(value: dict[str, Any]) -> list[dict[str, Any]]:
    """A resource, or those of a Bundle."""
    if value.get("resourceType") != "Bundle":
        return [value]
    return objects([each.get("resource") for each in objects(value.get("entry"))])
