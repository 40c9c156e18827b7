"""Attachments of an MHD service that are no Binaries: as which Binary each is shown, and where it is at the service."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from gateway.fhir import links
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import FhirError, Reason

_VIRTUAL = re.compile(r"at-(0|[1-9]\d{0,2})-([A-Za-z0-9.-]{1,64})")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]+(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")
_HIDDEN = re.compile(r"%(?:2e|2f|5c|00|25)", re.IGNORECASE)
_TYPES = frozenset(map(str.lower, RESOURCE_TYPES))
_NOT_A_DOCUMENT = ("_", "$", "metadata")


def is_virtual(id_: str) -> bool:
    """Whether a Binary with this id stands for an attachment. The service's own of such a name are not reached."""
    return id_.startswith("at-")


def owner_of(id_: str) -> tuple[int, str]:
    """The number of the attachment and the id of its DocumentReference. Raises FhirError(NOT_FOUND)."""
    found = _VIRTUAL.fullmatch(id_)
    if found is None or not is_id(found[2]):
        raise FhirError(Reason.NOT_FOUND)
    return int(found[1]), found[2]


def store_path(url: str, base: str) -> str | None:
    """The request target of an attachment below the service's base; None for what is elsewhere, a Binary or no path.

    What a FHIR request could be is no document: a DocumentReference opens no other resource.
    """
    if not links.is_readable(url):
        return None
    # Of the bases only the service's own is a place of its files: ours are those of resources.
    path = links.relative_target(url, upstream=base) if ":" in url.partition("/")[0] else url
    if path is None or not _PATH.fullmatch(path) or _HIDDEN.search(path):
        return None
    segments = path.partition("?")[0].split("/")
    is_plain = "" not in segments and not {".", ".."} & set(segments)
    first = unquote(segments[0]).partition(";")[0].lower()
    is_fhir = first in _TYPES or first.startswith(_NOT_A_DOCUMENT)
    return path if is_plain and not is_fhir else None


def show_attachments(value: dict[str, Any], base: str, bases: Collection[str]) -> None:
    """Give each attachment of a DocumentReference that is no Binary the address that leads to it here, in place.

    One below the base that nothing leads to has none.
    """
    id_ = value.get("id")
    for number, attachment in enumerate(_attachments(value)):
        url = None if attachment is None else attachment.get("url")
        if attachment is None or not isinstance(url, str):
            continue
        place = links.local_reference(url, bases)
        if place is not None:
            if place.type == "Binary" and is_virtual(place.id):
                del attachment["url"]
        elif store_path(url, base) is not None:
            name = f"at-{number}-{id_}"
            if isinstance(id_, str) and is_id(name) and number < 1000:
                attachment["url"] = f"Binary/{name}"
            else:
                del attachment["url"]
        elif links.below(url, bases) is not None or ":" not in url.partition("/")[0]:
            del attachment["url"]


def stored_attachments(value: dict[str, Any], urls: Mapping[str, str], bases: Collection[str]) -> None:
    """Put the addresses that the service has in place of those shown here, urls, in a DocumentReference, in place.

    Raises FhirError(INVALID_BODY) for another address below the base that names no Binary: whoever could attach that
    would open it.
    """
    for attachment in _attachments(value):
        url = None if attachment is None else attachment.get("url")
        if attachment is None or not isinstance(url, str):
            continue
        if url in urls:
            attachment["url"] = urls[url]
            continue
        place = links.local_reference(url, bases)
        is_binary = place is not None and place.type == "Binary"
        is_here = links.below(url, bases) is not None or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url)
        if is_here and not is_binary:
            raise FhirError(Reason.INVALID_BODY, "an attachment of this service must be a Binary")


def attached_urls(value: Mapping[str, Any]) -> list[str]:
    """The addresses of the attachments of a DocumentReference."""
    found = [None if each is None else each.get("url") for each in _attachments(value)]
    return [url for url in found if isinstance(url, str)]


def _attachments(value: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    content = value.get("content", [])
    for each in content if isinstance(content, list) else ():
        attachment = each.get("attachment") if isinstance(each, dict) else None
        yield attachment if isinstance(attachment, dict) else None
