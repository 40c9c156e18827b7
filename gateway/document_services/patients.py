"""Which patient of the FHIR store a clinical document is about: every record target must be the same one.

Looked up by the identifiers of the document, by a search of Patient (IHE PDQm, ITI-78) or by a cross-reference of
identifiers (IHE PIXm, ITI-83). What is found is held to the document's identifiers once more: nobody else's word for
it is enough.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.cda.header import Header
from gateway.cda.patients import Identifier, as_fhir, is_about
from gateway.document_settings import PatientLookup
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import objects
from gateway.proxy.answers.delivery import resource_or_none, whole_resource
from gateway.proxy.documents.attachments import identifiers_of
from gateway.proxy.upstream import UpstreamClient

_MAX_IDENTIFIERS = 8
_MAX_BYTES = 1024 * 1024
_FEW = 3  # patients: two are one too many


class Patients:
    """The patients of the FHIR store that a document service relies on."""

    def __init__(self, client: UpstreamClient, systems: Mapping[str, str], lookup: PatientLookup) -> None:
        self._client = client
        self._systems = systems
        self._lookup = lookup
        self._bases = (client.upstream.base, *client.upstream.bases)

    async def of(self, header: Header, sent: Mapping[str, str]) -> str | None:
        """The id of the one patient whom all record targets are; None where that is not certain.

        Raises FhirError where the store cannot be asked, or does not answer as agreed.
        """
        names = sorted({as_fhir(each, self._systems) for target in header.record_targets for each in target})
        if not names or len(names) > _MAX_IDENTIFIERS:
            return None
        found = await (
            self._by_search(names, sent)
            if self._lookup is PatientLookup.SEARCH
            else self._by_pix(names, sent)
        )
        about = [id_ for id_, known in found.items() if is_about(header, known, self._systems)]
        return about[0] if len(about) == 1 else None

    async def _by_search(
        self, names: list[Identifier], sent: Mapping[str, str]
    ) -> dict[str, frozenset[Identifier]]:
        """The patients with one of these identifiers. More than one is nobody, whoever is meant."""
        wanted = ",".join(quote(f"{_escaped(system)}|{_escaped(value)}", safe="") for system, value in names)
        bundle = await self._asked(f"Patient?identifier={wanted}&_count={_FEW}", sent)
        found = {}
        for entry in objects(bundle.get("entry")):
            value = entry.get("resource")
            if (
                isinstance(value, dict)
                and value.get("resourceType") == "Patient"
                and isinstance(value.get("id"), str)
            ):
                found[value["id"]] = identifiers_of(value)
        return found if len(found) == 1 else {}

    async def _by_pix(
        self, names: list[Identifier], sent: Mapping[str, str]
    ) -> dict[str, frozenset[Identifier]]:
        places = set()
        for system, value in names:
            source = quote(f"{_escaped(system)}|{_escaped(value)}", safe="")
            said = await self._parameters(f"Patient/$ihe-pix?sourceIdentifier={source}", sent)
            for each in said:
                reference = each.get("valueReference") if each.get("name") == "targetId" else None
                text = reference.get("reference") if isinstance(reference, dict) else None
                place = local_reference(text, self._bases) if isinstance(text, str) else None
                if place is not None and place.type == "Patient":
                    places.add(place.id)
        if len(places) != 1:
            return {}
        (id_,) = places
        patient = await self._asked(f"Patient/{id_}", sent)
        return {id_: identifiers_of(patient)} if patient.get("id") == id_ else {}

    async def _parameters(self, target: str, sent: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = await self._client.send("GET", target, sent)
        value = await resource_or_none(answer, _MAX_BYTES)  # 404: nobody has this identifier
        listed = [] if value is None else value.get("parameter", [])
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    async def _asked(self, target: str, sent: Mapping[str, str]) -> dict[str, Any]:
        value = await whole_resource(await self._client.send("GET", target, sent), _MAX_BYTES)
        if value.get("resourceType") not in ("Bundle", "Patient"):
            raise FhirError(
                Reason.UPSTREAM_INVALID, "the patients' store does not answer a search with a Bundle"
            )
        return value


def _escaped(text: str) -> str:
    """A part of a token, with what would be read as syntax escaped (FHIR R4 3.1.1.5.4)."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace(",", "\\,").replace("$", "\\$")
