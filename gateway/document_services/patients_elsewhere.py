"""References to patients of another server, in resources of a service of documents.

There they are absolute, here they are relative to this mount, which passes requests for patients on. A relative one of
the service's own would name somebody else of the same id: it names nobody here.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from gateway.fhir import links
from gateway.settings import Upstream

_BY_PATIENT = frozenset({"patient", "subject", "patient:Patient", "subject:Patient"})
_NOBODY = "urn:x-securus:patient-of-another-base"


@dataclass(frozen=True, slots=True)
class Search:
    """A search as the service gets it. asked gives for each of its terms about a patient the value that was asked for."""

    target: str
    form: bytes | AsyncIterator[bytes] | None
    asked: Mapping[tuple[str, str], str]

    def show_links(self, bundle: Mapping[str, Any]) -> None:
        """The links of the answer, in place, with what was asked for: by these it is told what the service did."""
        found = bundle.get("link", []) if bundle.get("resourceType") == "Bundle" else []
        for each in found if isinstance(found, list) else ():
            url = each.get("url") if isinstance(each, dict) else None
            if isinstance(url, str) and "?" in url:
                path, _, query = url.partition("?")
                terms = parse_qsl(query, keep_blank_values=True)
                shown = [(name, self.asked.get((name, value), value)) for name, value in terms]
                each["url"] = f"{path}?{urlencode(shown)}"


class PatientsElsewhere:
    """The references between a service of documents, with these bases of its own, and the store of its patients."""

    def __init__(self, patients: Upstream, own: Collection[str]) -> None:
        self._base = patients.base
        self._bases = (patients.base, *patients.bases)
        self._own = own

    def show(self, value: dict[str, Any]) -> None:
        """References to patients as they are here, in place."""
        links.change_references(value, self._shown)

    def store(self, value: dict[str, Any]) -> None:
        """References to patients as the service has them, in place."""
        links.change_references(value, self._stored)

    def search(self, target: str, form: bytes | AsyncIterator[bytes] | None) -> "Search | None":
        """A search that asks for patients as the service has them; None where it asks for none."""
        path, mark, query = target.partition("?")
        is_form = path.endswith("/_search") and isinstance(form, bytes)
        posted = form.decode() if is_form and isinstance(form, bytes) else ""
        names = {
            (name, self._wanted(value)): value
            for name, value in [*parse_qsl(query), *parse_qsl(posted)]
            if name in _BY_PATIENT
        }
        if not names:
            return None
        body = self._searched(posted).encode() if is_form else form
        return Search(path + mark + self._searched(query), body, names)

    def _searched(self, query: str) -> str:
        terms = parse_qsl(query, keep_blank_values=True)
        return urlencode(
            [(name, self._wanted(value) if name in _BY_PATIENT else value) for name, value in terms]
        )

    def _wanted(self, value: str) -> str:
        wanted = (
            self._stored(each if "/" in each else f"Patient/{each}") or each for each in value.split(",")
        )
        return ",".join(wanted)

    def _shown(self, text: str) -> str | None:
        place = links.local_reference(text, self._bases) if ":" in text else None
        if place is not None and place.type == "Patient":
            return f"Patient/{place.id}"
        own = links.local_reference(text, self._own)
        return _NOBODY if own is not None and own.type == "Patient" else None

    def _stored(self, text: str) -> str | None:
        place = links.local_reference(text, (*self._own, *self._bases))
        return f"{self._base}/Patient/{place.id}" if place is not None and place.type == "Patient" else None
