"""The store's answer on its way to the caller: one resource judged whole, or a Bundle entry by entry.

Nothing of it goes out before the judge has seen it; a short answer is held until it is whole, a long one streams.
"""

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.audit.log import AuditLog
from gateway.fhir import links, request_target, resource
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.shape import shape_of, shaped
from gateway.policy.decision import Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.conditional_reads import is_current
from gateway.proxy.answers.large_resources import LargeResources
from gateway.proxy.answers.long_answer import whole_or_long
from gateway.proxy.answers.page_links import is_page
from gateway.proxy.answers.response_filter import BundleFilter
from gateway.proxy.answers.sealed_links import Page, SealedLinks
from gateway.proxy.kept_consents import profile_of
from gateway.proxy.large_bodies import by_length
from gateway.proxy.proven_searches import the_one
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer
from gateway.settings import SelfLink, Upstream
from gateway.telemetry import Metrics

PAGE_PREFIX = "_page="
_LARGEST_PLAIN = 512 * 1024  # bytes that the decoder in C reads in 5 ms, in which nobody else has a turn
_PASSED_ON = frozenset({400, 406, 409, 412, 422})  # of the store's refusals


class Delivery:
    """Delivers the answers of one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        sealed_links: SealedLinks,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self.bases = frozenset({*upstream.bases, upstream.base})
        self._links = sealed_links
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self.large = LargeResources(upstream.base)

    async def one(self, trail: Trail, permit: Permit, answer: UpstreamAnswer) -> Answer:
        """A single resource: judged whole, before its first byte goes out."""
        raw = await answer.read(self._upstream.max_resource)
        asked = permit.request
        passed = headers.returned(answer.headers, self._upstream, asked.type, asked.id)
        answer.close()
        return await self.judged(trail, permit, raw, passed)

    async def judged(
        self, trail: Trail, permit: Permit, raw: bytes, passed: tuple[tuple[str, str], ...]
    ) -> Answer:
        """The resource that raw holds, as one() gives it; passed are headers of the store's answer."""
        plain = None if len(raw) > _LARGEST_PLAIN else self.large.plain(raw, permit.judge)
        if plain is None or not isinstance(plain.get("resourceType"), str):
            value = await by_length(len(raw), partial(stored, raw))
        else:
            value = plain
        return await self._whole(trail, permit, value, raw, passed, is_plain=value is plain)

    async def found(self, trail: Trail, permit: Permit, answer: UpstreamAnswer) -> Answer:
        """A read that went as a search: the one resource of the Bundle, by itself."""
        content = await answer.read(self._upstream.max_resource)
        bundle = await by_length(len(content), partial(stored, content))
        answer.close()
        asked = trail.asked or permit.request
        value = the_one(bundle, permit, asked.type or "", asked.id or "")
        meta = value.get("meta")
        version = meta.get("versionId") if isinstance(meta, dict) else None
        is_named = isinstance(version, str) and is_id(version)
        passed = (("ETag", f'W/"{version}"'),) if is_named else ()
        raw = await by_length(len(content), partial(resource.write_resource, value))
        return await self._whole(trail, permit, value, raw, passed)

    async def _whole(
        self,
        trail: Trail,
        permit: Permit,
        value: dict[str, Any],
        raw: bytes,
        passed: tuple[tuple[str, str], ...],
        *,
        is_plain: bool = False,
    ) -> Answer:
        """value, the resource that raw holds, judged; is_plain is whether its numbers are not as they were written."""
        trail.tally.dropped = 1
        await settle(trail, permit, value)
        seen = judge(trail, permit, value)
        trail.tally.dropped, trail.tally.shown = 0, 1
        trail.tally.about.note(value, self.bases)
        changed = seen is not None
        if seen is not None:
            passed = headers.of_what_is_seen(passed, value, seen)
        if seen is None and is_current(trail.request, permit.request, passed):
            return Answer(304, (*headers.PRIVATE, *passed))
        if seen is None and not permit.request.terms and not links.may_mention(raw, self._upstream.base):
            return fhir_answer(raw, passed)  # the usual case: not a byte is another
        if is_plain:  # what is written anew has every number as it was
            value = await by_length(len(raw), partial(stored, raw))
            seen = judge(trail, permit, value)
        value = value if seen is None else dict(seen)
        changed |= links.rewrite_urls(value, upstream=self._upstream.base, public=self._upstream.identifier)
        shape = shape_of(permit.request.terms)
        if shape is not None:
            value, changed = shaped(value, shape), True
        if changed:
            raw = await by_length(len(raw), partial(resource.write_resource, value))
        return fhir_answer(raw, passed)

    async def many(
        self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller, answer: UpstreamAnswer
    ) -> Answer:
        """A Bundle: filtered entry by entry; held when short, else streamed."""
        if permit.judge is None or permit.request.type is None:
            raise FhirError(Reason.INTERNAL)
        asked = trail.asked or permit.request
        is_operation = permit.request.interaction is Interaction.OPERATION
        is_search = is_operation or permit.request.interaction is Interaction.SEARCH
        filtered = BundleFilter(
            judges=permit.judges if is_operation else {permit.request.type: permit.judge},
            upstream=self._upstream.base,
            public=self._upstream.identifier,
            kind="searchset" if is_search else "history",
            includes=is_operation,
            added=permit.added,
            needed=permit.needed,
            exact=permit.exact,
            self_url=self._self_url(http, asked),
            seal=lambda target: self._seal(target, permit, asked, caller, trail.policy_hash or ""),
            tally=trail.tally,
            included=permit.included,
            shape=shape_of(asked.terms),
            bases=self.bases,
            self_link=self._self_link(permit.request),
            settle=trail.knowledge.settle if trail.knowledge.judges_ask else None,
            proof=(permit.by_search is not None or bool(permit.opened)) and bool(permit.added),
        ).run(_bounded(answer.stream(), self._upstream.max_body))
        if is_search and not is_operation and permit.leaves_to_judge:
            self._metrics.criteria_not_pushed_down.labels(self._upstream.name).inc()

        async def record(ended: str) -> None:
            await self._audit.record(trail.delivered(ended))
            self._metrics.shadowed(trail.shadows.uncounted())

        try:
            body = await whole_or_long(filtered, answer, record)
        except FhirError as error:
            if error.reason is Reason.NARROWING_IGNORED:
                self._metrics.narrowing_ignored.inc()
            raise
        self._note_narrowing(permit, trail)
        return fhir_answer(body, ())

    def _note_narrowing(self, permit: Permit, trail: Trail) -> None:
        if permit.added and trail.tally.narrowing_seen is None and not permit.request.posted:
            # A self link that does not speak: the judge alone decided. The operator should know. (Of a form that
            # was posted, stores do not speak at all.)
            self._metrics.narrowing_ignored.inc()

    def open_page(self, http: HttpRequest, asked: FhirRequest, caller: Caller, engine: Engine) -> Page:
        """The request that a page link stands for, and where the store continues. Raises FhirError(STALE_LINK)."""
        token = http.query[len(PAGE_PREFIX) :]
        page = self._links.open(token, caller=caller, policy_hash=engine.policy_hash, now=self._clock())
        if page is None or page.asked.type != asked.type:
            raise FhirError(Reason.STALE_LINK)
        return page

    def _self_link(self, sent: FhirRequest) -> SelfLink:
        profile = profile_of(self._upstream, sent.type)
        if profile.self_link is SelfLink.CHECKED and sent.posted:
            return profile.self_link_of_forms
        return profile.self_link

    def _seal(
        self, target: str, permit: Permit, asked: FhirRequest, caller: Caller, policy_hash: str
    ) -> str | None:
        profile = profile_of(self._upstream, permit.request.type)
        if not is_page(target, permit.request, profile):
            self._metrics.page_links_left_out.labels(self._upstream.name).inc()
            return None
        proof = () if permit.by_search is None else permit.by_search.proof
        token = self._links.seal(
            asked, target, caller=caller, policy_hash=policy_hash, now=self._clock(), proof=proof
        )
        return f"{self._upstream.identifier}/{asked.type}?{PAGE_PREFIX}{token}"

    def _self_url(self, http: HttpRequest, asked: FhirRequest) -> str:
        if http.query.startswith(PAGE_PREFIX) or http.method == "POST":
            return f"{self._upstream.identifier}/{request_target.upstream_target(asked)}"
        return self._asked_url(http)

    def _asked_url(self, http: HttpRequest) -> str:
        query = f"?{http.query}" if http.query else ""
        return self._upstream.identifier + http.path[len(self._upstream.at) :] + query

    def nothing(self, http: HttpRequest) -> Answer:
        """An allowed search that can find nothing: nobody is asked."""
        link = {"relation": "self", "url": self._asked_url(http)}
        value = {"resourceType": "Bundle", "type": "searchset", "total": 0, "link": [link]}
        return fhir_answer(resource.write_resource(value), ())


async def _bounded(body: AsyncIterator[bytes], limit_bytes: int) -> AsyncIterator[bytes]:
    """The pieces of an answer. Raises FhirError(UPSTREAM_INVALID) as soon as there are more bytes than that."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit_bytes:
            raise FhirError(Reason.UPSTREAM_INVALID, f"the answer is longer than {limit_bytes} bytes")
        yield chunk


def check_status(answer: UpstreamAnswer) -> None:
    """What the store's refusals become: never its own text, never a redirect, never a hint that something was.

    Raises FhirError unless the status is 200.
    """
    if answer.status == 200:
        return
    if answer.status in (404, 410):
        raise FhirError(Reason.NOT_FOUND)
    if answer.status in (401, 403, 407) or answer.status >= 500 or answer.status < 400:
        raise FhirError(Reason.UPSTREAM_INVALID, "the FHIR store answered with an error of its own")
    if answer.status == 429:
        raise FhirError(Reason.OVERLOADED, headers=(("Retry-After", "5"),))
    raise FhirError(Reason.UPSTREAM_REFUSED, status=answer.status if answer.status in _PASSED_ON else 400)


def check_fhir_json(answer: UpstreamAnswer) -> None:
    """Raise FhirError(UPSTREAM_INVALID) unless the answer says that it is FHIR JSON, and not compressed."""
    if not headers.is_json(answer.headers.get("content-type", "")):
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not FHIR JSON")
    check_coding(answer)


def check_coding(answer: UpstreamAnswer) -> None:
    """Raise FhirError(UPSTREAM_INVALID) for what is compressed: where that was asked for, it was undone by now."""
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is compressed, which was not asked for")


async def whole_resource(answer: UpstreamAnswer, limit_bytes: int) -> dict[str, Any]:
    """The resource that an answer of the store holds, whose connection is given back.

    Raises FhirError as check_status(), and UPSTREAM_INVALID for what is longer or has no single reading.
    """
    try:
        check_status(answer)
        raw = await answer.read(limit_bytes)
        return await by_length(len(raw), partial(stored, raw))
    finally:
        answer.close()


async def resource_or_none(answer: UpstreamAnswer, limit_bytes: int) -> dict[str, Any] | None:
    """The same; None where the store has none, or none any more. Raises FhirError for all else."""
    if answer.status in (404, 410):
        answer.close()
        return None
    return await whole_resource(answer, limit_bytes)


async def settle(trail: Trail, permit: Permit, value: Mapping[str, Any]) -> None:
    """Find out what the judge needs to know. Raises FhirError where it refuses only since that could not be had."""
    judging = permit.judge
    if judging is not None:
        await trail.knowledge.settle([lambda: judging(value).shown])


def judge(trail: Trail, permit: Permit, value: dict[str, Any]) -> Mapping[str, Any] | None:
    """What of the resource is seen, None for all of it. Raises FhirError unless the judge shows, or takes, it."""
    if permit.judge is None:
        raise FhirError(Reason.INTERNAL)
    verdict = permit.judge(value)
    trail.rules = verdict.rules or trail.rules
    if not verdict.shown:
        trail.decision = "deny"
        conceals = permit.conceal and permit.request.interaction is not Interaction.CREATE
        raise FhirError(Reason.NOT_FOUND if conceals else verdict.reason or Reason.POLICY_DENIED)
    return verdict.seen


def fhir_answer(body: bytes | AsyncIterator[bytes], passed: tuple[tuple[str, str], ...] = ()) -> Answer:
    """200 with FHIR JSON that nobody keeps."""
    return Answer(200, (headers.JSON_BODY, *headers.PRIVATE, *passed), body)


def stored(raw: bytes) -> dict[str, Any]:
    """A resource that the store answered with. Raises FhirError(UPSTREAM_INVALID): the caller sent nothing wrong."""
    try:
        return resource.parse_resource(raw)
    except FhirError as error:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a resource with one reading") from error
