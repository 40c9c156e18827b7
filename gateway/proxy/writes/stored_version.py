"""The version that the store holds, read before it is written over: what was judged is what is replaced.

FHIR R4 3.1.0.7.1 and RFC 9110 13.1.1: a write carries If-Match with the version that was judged, so that another
writer's version is never lost and never escapes the judge.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from authz.protocol.request import HttpRequest
from gateway.fhir import links
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers
from gateway.proxy.answers.delivery import check_fhir_json, check_status, stored
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream

# What is written over is looked at as it is now: HAPI FHIR answers a search from one of the last minute otherwise.
NO_CACHE = {"cache-control": "no-cache"}
_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]{1,128})"')  # RFC 9110 8.8.3


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A resource as the store holds it.

    version is its versionId, None where the store names none; length is of how many bytes it was read.
    """

    resource: dict[str, Any]
    version: str | None
    length: int = 0

    @property
    def precondition(self) -> dict[str, str]:
        """The header that lets a write replace this version only."""
        return {} if self.version is None else {"if-match": f'W/"{self.version}"'}


async def stored_version(
    http: HttpRequest, trail: Trail, place: str, *, upstream: Upstream, client: UpstreamClient
) -> StoredVersion | None:
    """The version at place ('Type/id'); None where the store has none, or none any more.

    Raises FhirError: UPSTREAM_INVALID for an answer that is not one resource in one version.
    """
    trail.upstream.append(f"GET {place}")
    sent = headers.to_upstream(http, upstream, trail.interaction_id) | NO_CACHE
    answer = await client.send("GET", place, sent)
    try:
        if answer.status in (404, 410):
            return None
        check_status(answer)
        check_fhir_json(answer)
        raw = await answer.read(upstream.max_resource)
        resource = await by_length(len(raw), partial(_read, raw, (*upstream.bases, upstream.base)))
        version = _version(resource, answer.headers)
    finally:
        answer.close()
    if version is None and not upstream.unversioned_writes:
        raise FhirError(Reason.UPSTREAM_INVALID, "the store does not say which version it holds")
    return StoredVersion(resource, version, len(raw))


def _read(raw: bytes, bases: Collection[str]) -> dict[str, Any]:
    resource = stored(raw)
    own_references(resource, bases)
    return resource


def own_references(resource: dict[str, Any], bases: Collection[str]) -> bool:
    """Make references to the store's own resources relative, as they are judged and compared; whether any was not."""
    return links.relative_references(resource, bases)


def _version(resource: Mapping[str, Any], answered: Mapping[str, str]) -> str | None:
    """The versionId, by body and ETag alike. Raises FhirError(UPSTREAM_INVALID) where they differ."""
    meta = resource.get("meta")
    said = meta.get("versionId") if isinstance(meta, dict) else None
    tag = _TAG.fullmatch(answered.get("etag", ""))
    named = tag[1] if tag is not None else None
    if said is None:
        said = named
    if said is None:
        return None
    if not isinstance(said, str) or not is_id(said) or (named is not None and named != said):
        raise FhirError(Reason.UPSTREAM_INVALID, "body and ETag do not name one version")
    return said


def wanted_version(http: HttpRequest) -> str | None:
    """The version of the caller's If-Match; None without. Raises FhirError(AMBIGUOUS_HEADER): not one entity tag."""
    if "if-match" not in http.headers:
        return None
    tag = _TAG.fullmatch(http.headers["if-match"].strip(" \t"))
    if tag is None:
        raise FhirError(Reason.AMBIGUOUS_HEADER, "If-Match must be one entity tag that names a version")
    return tag[1]


def check_version(wanted: str | None, found: StoredVersion) -> None:
    """Raise FhirError(VERSION_CONFLICT) when the caller means another version than the one that is stored."""
    if wanted is not None and wanted != found.version:
        raise FhirError(Reason.VERSION_CONFLICT, "read the resource again: it was changed since")
