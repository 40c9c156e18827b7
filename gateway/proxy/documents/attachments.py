"""Finds out what leads to a Binary, and whom a document is about, with reads of the gateway's own.

A security context decides alone where a Binary has one (FHIR R4 2.41.3): it is what the store was told at writing.
Without one the resources of `through` are searched by the address of the Binary, in every form in which it may be
written. Neither is believed: what comes back must name the Binary, and is judged as a read of it by this caller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from gateway.cda.header import Header
from gateway.cda.patients import Identifier, is_about
from gateway.fhir.compartment import patients_of
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.attachments import THROUGH, Content, Needs, SeenBinary
from gateway.policy.decision import Environment, Permit, Resource
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import resource_or_none, settle
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes.stored_version import NO_CACHE, own_references
from gateway.settings import Upstream

_MAX_FOUND = 50  # resources that name one Binary
_MAX_PATIENTS = 4


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and by what it is decided."""

    http: HttpRequest
    trail: Trail
    caller: Caller
    engine: Engine
    environment: Environment


class Attachments:
    """Finds out about the Binaries of one store."""

    def __init__(self, *, upstream: Upstream, client: UpstreamClient) -> None:
        self._upstream = upstream
        self._client = client
        self.bases = frozenset((*upstream.bases, upstream.base))

    async def seen(
        self, asking: Asking, members: Mapping[str, Any], needs: Needs, *, version: str | None = None
    ) -> SeenBinary:
        """The Binary with what leads to it, and nothing about its content. version is the one of a vread."""
        if not needs.through:
            return SeenBinary(members)
        if "securityContext" in members:
            via = await self._context(asking, members["securityContext"])
        else:
            found = [await self._found(asking, type_, members, version) for type_ in sorted(needs.through)]
            via = [each for one in found for each in one]
        asking.trail.through = [f"{each['resourceType']}/{each.get('id')}" for each in via]
        return SeenBinary(members, via)

    async def content(self, asking: Asking, header: Header | None, seen: SeenBinary, needs: Needs) -> Content:
        """What the content is, by the header of the document that it is."""
        if header is None or not needs.patients:
            return Content(header)
        asked = {one for via in seen.via for one in self._patient(via)}
        systems = self._upstream.identifier_systems
        named = [
            patient
            for patient in sorted(asked)[:_MAX_PATIENTS]
            if is_about(header, identifiers_of(await self._get(asking, f"Patient/{patient}")), systems)
        ]
        return Content(header, frozenset(named))

    def _patient(self, via: Resource) -> Iterable[str]:
        patients = patients_of(via, self.bases)
        return patients if patients is not None and len(patients) == 1 else ()

    async def _context(self, asking: Asking, reference: Any) -> list[Resource]:
        text = reference.get("reference") if isinstance(reference, dict) else None
        place = local_reference(text, self.bases) if isinstance(text, str) else None
        if place is None or place.type == "Binary":
            return []
        # By the resource as it is now: rights that were taken away are not found in an old version of it.
        permit = await self._reading(asking, place.type, place.id)
        found = None if permit is None else await self._get(asking, f"{place.type}/{place.id}")
        return [] if found is None or await self._read(asking, permit, found) is None else [found]

    async def _found(
        self, asking: Asking, type_: str, members: Mapping[str, Any], version: str | None
    ) -> list[Resource]:
        id_ = members.get("id")
        if not isinstance(id_, str) or not self._upstream.profile.document_location:
            return []
        permit = await self._reading(asking, type_, None)
        if permit is None:
            return []
        place = f"Binary/{id_}" if version is None else f"Binary/{id_}/_history/{version}"
        forms = [place, *sorted(f"{base}/{place}" for base in self.bases)]
        values = ",".join(quote(form, safe="") for form in forms)
        bundle = await self._get(asking, f"{type_}?{THROUGH[type_]}={values}&_count={_MAX_FOUND}")
        entries = bundle.get("entry", []) if bundle is not None else []
        if bundle is not None and (bundle["resourceType"] != "Bundle" or not isinstance(entries, list)):
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a Bundle")
        found: list[Resource] = []
        for entry in entries[:_MAX_FOUND]:
            value = entry.get("resource") if isinstance(entry, dict) else None
            if (
                isinstance(value, dict)
                and value.get("resourceType") == type_
                and self._names(value, id_, version)
            ):
                own_references(value, self.bases)
                read = await self._read(asking, permit, value)
                # Whose view of it has no such attachment is not led anywhere by it.
                if read is not None and self._names(read, id_, version):
                    found.append(value)
        return found

    def _names(self, resource: Resource, id_: str, version: str | None) -> bool:
        """Whether an attachment of a DocumentReference is this Binary; an old version only where it is named."""
        for url in attachment_urls(resource):
            place = local_reference(url, self.bases)
            if place is not None and (place.type, place.id, place.version) == ("Binary", id_, version):
                return True
        return False

    async def _reading(self, asking: Asking, type_: str, id_: str | None) -> Permit | None:
        asked = FhirRequest("GET", Interaction.READ, type_, id=id_)
        decision = await asking.trail.knowledge.decided(
            partial(asking.engine.decide, asked, asking.caller, asking.environment)
        )
        return decision if isinstance(decision, Permit) else None

    async def _read(self, asking: Asking, permit: Permit | None, resource: Resource) -> Resource | None:
        """What the caller sees of a resource; None for nothing."""
        if permit is None or permit.judge is None:
            return None
        await settle(asking.trail, permit, resource)
        verdict = permit.judge(resource)
        if not verdict.shown:
            return None
        return resource if verdict.seen is None else verdict.seen

    async def _get(self, asking: Asking, target: str) -> dict[str, Any] | None:
        """A resource of the store; None where it has none. Raises FhirError."""
        asking.trail.upstream.append(f"GET {target}")
        sent = headers.to_upstream(asking.http, self._upstream, asking.trail.interaction_id) | NO_CACHE
        answer = await self._client.send("GET", target, sent)
        value = await resource_or_none(answer, self._upstream.max_resource)
        if value is not None:
            own_references(value, self.bases)
        return value


def attachment_urls(resource: Resource) -> list[str]:
    """The addresses of the attachments of a DocumentReference."""
    found = []
    content = resource.get("content")
    for each in content if isinstance(content, list) else []:
        attachment = each.get("attachment") if isinstance(each, dict) else None
        url = attachment.get("url") if isinstance(attachment, dict) else None
        if isinstance(url, str):
            found.append(url)
    return found


def identifiers_of(patient: Resource | None) -> frozenset[Identifier]:
    """System and value of the identifiers of a patient; those that are 'old' are somebody's no more."""
    said = None if patient is None else patient.get("identifier")
    return frozenset(
        (each["system"], each["value"])
        for each in (said if isinstance(said, list) else ())
        if isinstance(each, dict)
        and isinstance(each.get("system"), str)
        and isinstance(each.get("value"), str)
        and each.get("use") != "old"
    )
