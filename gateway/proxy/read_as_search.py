"""A read that goes to the store as a search: for a condition that the resource alone does not tell.

`GET Type/id` becomes `Type?_id=id&criteria`. The one match is what the read would have given, and is judged as that;
no match is an id that nobody has. The store must show by its self link that it took every criterion: on this answer
there is nothing else to see it by.
"""

import re
from typing import Any

from authz.protocol.request import Answer, HttpRequest
from gateway.fhir import request, resource
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.proxy import headers
from gateway.proxy.delivery import Delivery, check_status, stored
from gateway.proxy.response_filter import echoes
from gateway.proxy.stored_version import NO_CACHE
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import SelfLink, Upstream
from gateway.telemetry import Metrics

_VERSION = re.compile(r"[A-Za-z0-9.-]{1,64}")


def check_can_be_told(permit: Permit, upstream: Upstream) -> None:
    """Raise FhirError(NOT_DECIDABLE) where this store's search does not tell, or does not prove, what no judge can."""
    if not permit.asks:
        return
    profile = upstream.profile
    posted = request.fit_for_the_store(permit.by_search or permit.request).posted
    proves = profile.self_link is SelfLink.CHECKED and (
        not posted or profile.self_link_of_forms is SelfLink.CHECKED
    )
    if not (profile.told_by_search and profile.strict_handling and proves):
        raise FhirError(Reason.NOT_DECIDABLE)


class ReadAsSearch:
    """Reads from one store by searching it."""

    def __init__(
        self, *, upstream: Upstream, client: UpstreamClient, delivery: Delivery, metrics: Metrics
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._delivery = delivery
        self._metrics = metrics

    async def answer(self, http: HttpRequest, trail: Trail, permit: Permit, search: FhirRequest) -> Answer:
        """The answer to the read. Raises FhirError: NOT_FOUND, NARROWING_IGNORED, UPSTREAM_INVALID."""
        asking = request.fit_for_the_store(search)
        target = request.upstream_target(asking)
        method, form = ("POST", request.upstream_form(asking)) if asking.posted else ("GET", None)
        trail.upstream.append(f"{method} {target}")
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id) | NO_CACHE
        sent |= {} if form is None else {"content-type": request.FORM_TYPE}
        answer = await self._client.send(method, target, sent, form)
        try:
            check_status(answer)
            if not headers.is_json(answer.headers.get("content-type", "")):
                raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not FHIR JSON")
            bundle = stored(await answer.read(self._upstream.max_resource))
        finally:
            answer.close()
        if bundle["resourceType"] != "Bundle" or bundle.get("type") != "searchset":
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer to a search is not a searchset")
        trail.tally.narrowing_seen = _is_proven(bundle, permit.asks)
        if not trail.tally.narrowing_seen:
            self._metrics.narrowing_ignored.inc()
            raise FhirError(Reason.NARROWING_IGNORED)
        found = _one_match(bundle, permit.request)
        trail.decision = "permit"
        return await self._delivery.shown(trail, permit, resource.write_resource(found), _version_of(found))


def _is_proven(bundle: dict[str, Any], asks: tuple[str, ...]) -> bool:
    urls = [link.get("url") for link in _objects(bundle, "link") if link.get("relation") == "self"]
    return len(urls) == 1 and isinstance(urls[0], str) and echoes(urls[0], asks)


def _one_match(bundle: dict[str, Any], asked: FhirRequest) -> dict[str, Any]:
    """The match of a search for one id. Raises FhirError: NOT_FOUND for none, UPSTREAM_INVALID for any other."""
    matches = []
    for entry in _objects(bundle, "entry"):
        search = entry.get("search")
        if (search.get("mode") if isinstance(search, dict) else None) in (None, "match"):
            matches.append(entry.get("resource"))
    if not matches:
        raise FhirError(Reason.NOT_FOUND)
    found = matches[0]
    if len(matches) > 1 or not isinstance(found, dict):
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer to a search for one id is not one resource")
    if (found.get("resourceType"), found.get("id")) != (asked.type, asked.id):
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is another resource than was searched for")
    return found


def _objects(bundle: dict[str, Any], name: str) -> list[dict[str, Any]]:
    members = bundle.get(name, [])
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise FhirError(Reason.UPSTREAM_INVALID, f"'{name}' of the answer is not a list of objects")
    return members


def _version_of(found: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The ETag that a read would have had (FHIR R4 3.1.0.2)."""
    meta = found.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return ()
    return (("ETag", f'W/"{version}"'),)
