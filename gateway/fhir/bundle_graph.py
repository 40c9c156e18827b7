"""How the entries of a transaction refer to one another, and to what a search would find (FHIR R4 3.1.0.11.2, 2.36.4.1).

A store that resolves references while it writes decides late what a resource belongs to. So they are resolved here,
before anything is judged: a urn becomes the reference to its entry's resource, criteria the one resource they find.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from gateway.fhir import links
from gateway.fhir.outcome import FhirError, Reason

_URN = re.compile(r"urn:(?:uuid|oid):", re.IGNORECASE)
_CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?(.+)", re.DOTALL)


def criteria_of(text: str, bases: Collection[str]) -> tuple[str, str] | None:
    """Type and query of a conditional reference; None for any other."""
    found = _CONDITIONAL.fullmatch(links.below(text, bases) or text)
    return None if found is None else (found[1], found[2])


def conditional_references(value: Any, bases: Collection[str]) -> list[str]:
    """The conditional references of a resource, as written, each once."""
    found: dict[str, None] = {}

    def note(text: str) -> None:
        if criteria_of(text, bases) is not None:
            found[text] = None

    links.change_references(value, note)
    return list(found)


def resolve(value: Any, names: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Put references in place of urns (names) and of criteria (found), in place.

    A urn that names no entry would stay open until the store writes, so it is refused. Raises FhirError(INVALID_BODY).
    """

    def reference(text: str) -> str | None:
        if text in found:
            return found[text]
        if _URN.match(text) and text not in names:
            raise FhirError(
                Reason.INVALID_BODY, "a reference by urn must be the fullUrl of an entry with a resource"
            )
        return names.get(text)

    links.change_references(value, reference)
    links.change_urls(value, names.get)


def is_open(value: Any, names: Collection[str], bases: Collection[str]) -> bool:
    """Whether a resource refers to something that is not known yet: a urn beside names, or what criteria find."""
    seen: list[str] = []

    def note(text: str) -> None:
        if (_URN.match(text) and text not in names) or criteria_of(text, bases) is not None:
            seen.append(text)

    links.change_references(value, note)
    return bool(seen)


def mentions_entries(value: Any, names: Collection[str], bases: Collection[str]) -> bool:
    """Whether a resource refers to one of these urns, or to what criteria find."""
    seen: list[str] = []

    def note(text: str) -> None:
        if text in names or criteria_of(text, bases) is not None:
            seen.append(text)

    links.change_references(value, note)
    return bool(seen)


def relative(value: Any, bases: Collection[str]) -> None:
    """Make references to the store's own resources relative, as they are judged, in place."""
    links.relative_references(value, bases)


def check_resolved(after: Any, before: Any, bases: Collection[str]) -> None:
    """Raise FhirError(INTERACTION_CLOSED) for criteria in a reference that before, the stored version, did not hold.

    The store would resolve them among all that it holds, after everything was judged.
    """
    kept = () if before is None else conditional_references(before, bases)
    if any(text not in kept for text in conditional_references(after, bases)):
        raise FhirError(
            Reason.INTERACTION_CLOSED,
            "a conditional reference is resolved in a transaction only: name the resource by its id",
        )


def referred(value: Any, bases: Collection[str]) -> set[str]:
    """What a resource refers to in the store, as 'Type/id'."""
    found: set[str] = set()

    def note(text: str) -> None:
        local = links.local_reference(text, bases)
        if local is not None:
            found.add(f"{local.type}/{local.id}")

    links.change_references(value, note)
    return found


def rename(value: Any, names: Mapping[str, str]) -> None:
    """Put other texts in place of references and addresses, in place."""
    links.change_urls(value, names.get)
