"""How the content of a Binary goes out as it is: in which form, under which type, which part of it.

FHIR R4 2.41.2: who asks for a FHIR format gets the resource, everybody else the content. It never opens in a browser
under the gateway's name (CVE-2021-32054): it is an attachment, in a sandbox, of a type that was told and is not
guessed, and types that run are not told at all.
"""

import re
from collections.abc import Mapping

from authz.protocol.request import HttpRequest
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers

OCTETS = "application/octet-stream"
_TOLD = frozenset(
    {
        "application/dicom", "application/gzip", "application/hl7-cda+xml", "application/json", "application/msword",
        "application/pdf", "application/rtf", "application/xml", "application/zip", "image/bmp", "image/gif",
        "image/jp2", "image/jpeg", "image/png", "image/tiff", "image/webp", "text/csv", "text/plain", "text/rtf",
        "text/xml",
    }
)  # fmt: skip
_TOLD_KINDS = ("audio/", "video/", "application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.")
_MEDIA_TYPE = re.compile(r"([a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,127})\s*(?:;.*)?", re.I)
_CHARSET = re.compile(r";\s*charset=\"?(utf-8|us-ascii|iso-8859-1)\"?\s*(?:;|$)", re.I)
_FHIR = frozenset({"application/fhir+json", "application/fhir+xml", "application/json", "text/json"})
_QUALITY = re.compile(r"(?:^|;)\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)")
_RANGE = re.compile(r"bytes=(?:\d{1,15}-\d{0,15}|-\d{1,15})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)|bytes \*/(\d{1,15})")

GUARDS: tuple[tuple[str, str], ...] = (
    ("Content-Disposition", "attachment"),
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
)


def is_native(http: HttpRequest, asked: FhirRequest) -> bool:
    """Whether the content is wanted, not the resource."""
    if any(part.partition("=")[0] == "_format" for part in http.query.split("&")) or asked.terms:
        return False
    ranges = _ranges(http)
    best = max((quality for _, quality in ranges), default=1.0)
    return not any(name in _FHIR and quality == best > 0 for name, quality in ranges)


def wants_view(http: HttpRequest) -> bool:
    """Whether a page that people read is wanted before everything else. Nobody who takes anything is meant."""
    ranges = _ranges(http)
    best = max((quality for _, quality in ranges), default=0.0)
    return any(name == "text/html" and quality == best > 0 for name, quality in ranges)


def check_acceptable(http: HttpRequest, content_type: str) -> None:
    """Raise FhirError(NOT_ACCEPTABLE) where the caller takes no content of this type."""
    kind = content_type.partition(";")[0].strip()
    wanted = {kind, f"{kind.partition('/')[0]}/*", "*/*", OCTETS}
    ranges = _ranges(http)
    if ranges and not any(name in wanted and quality > 0 for name, quality in ranges):
        raise FhirError(
            Reason.NOT_ACCEPTABLE, f"the content is {kind}: Accept must allow it, or {headers.FHIR_JSON}"
        )


def _ranges(http: HttpRequest) -> list[tuple[str, float]]:
    found = []
    for part in http.headers.get("accept", "").split(","):
        name, _, parameters = part.partition(";")
        quality = _QUALITY.search(parameters)
        if name.strip():
            found.append((name.strip().lower(), 1.0 if quality is None else float(quality[1])))
    return found


def told_type(said: object) -> str:
    """The type under which content goes out: the one it is said to have, where nothing runs by it."""
    match = _MEDIA_TYPE.fullmatch(said.strip()) if isinstance(said, str) else None
    kind = OCTETS if match is None else match[1].lower()
    if kind not in _TOLD and not kind.startswith(_TOLD_KINDS):
        return OCTETS
    charset = _CHARSET.search(str(said))
    return kind if charset is None else f"{kind}; charset={charset[1].lower()}"


def media_type(said: object) -> str:
    """The media type that a Binary says of itself, without parameters; '' where it says none."""
    return said.partition(";")[0].strip().lower() if isinstance(said, str) else ""


def range_of(http: HttpRequest, etag: str) -> str | None:
    """The one range that is asked for; None for the whole content.

    Several ranges are the whole (RFC 9110 14.2 lets a server do so), and If-Range holds for a strong tag alone
    (13.1.5): what FHIR stores write are weak ones.
    """
    said = http.headers.get("range", "").strip()
    if not _RANGE.fullmatch(said):
        return None
    condition = http.headers.get("if-range")
    if condition is not None and (condition.strip() != etag or not etag.startswith('"')):
        return None
    return said


def content_range(status: int, answered: Mapping[str, str]) -> str:
    """The Content-Range of a partial answer. Raises FhirError(UPSTREAM_INVALID): it is not one that fits."""
    said = answered.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(said)
    is_part = match is not None and match[1] is not None and int(match[1]) <= int(match[2])
    is_none = match is not None and match[4] is not None
    if (status == 206 and is_part) or (status == 416 and is_none):
        return said
    raise FhirError(Reason.UPSTREAM_INVALID, "the store does not say which part it gives")
