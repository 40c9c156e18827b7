"""Bulk export: kick-off, status, files and end of a job, none of which leads round the gateway (Bulk Data Access 2).

The store works, the gateway keeps the doors: the job's place at the store leaves sealed, every file of the manifest
too, and each line of a file is judged when it is downloaded. A job of somebody else is not found, in the same bytes as
one that never was.
"""

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from authz.clock import Clock
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from authz.storage.claims import Namespace
from authz.storage.store import Store
from gateway.audit.log import AuditLog
from gateway.fhir import links, request_target, resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Deny, Environment, Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers, kept_consents
from gateway.proxy.answers.delivery import check_coding, check_status
from gateway.proxy.answers.long_answer import whole_or_long
from gateway.proxy.answers.ndjson_filter import NdjsonFilter
from gateway.proxy.sealed_jobs import LIFETIME_SECONDS, Job, SealedJobs
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

FHIR_NDJSON = "application/fhir+ndjson"
_NDJSON_TYPES = frozenset({FHIR_NDJSON, "application/ndjson", "application/x-ndjson"})
_ASYNC = re.compile(r"(?:^|[,;\s])respond-async(?:$|[,;\s])")
_PERCENT = re.compile(r"(?<!\d)(\d{1,2}|100)\s?%")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_RETRY_SECONDS = 5


class ExportPassage:
    """The exports of one store."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        jobs: SealedJobs,
        store: Store,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._client = client
        self._jobs = jobs
        self._store = store
        self._audit = audit
        self._clock = clock

    # Kick-off

    async def begin(self, http: HttpRequest, trail: Trail, permit: Permit, caller: Caller) -> Answer:
        """202 with the place of the job, as a URL of the gateway that opens for its owner only."""
        if not _ASYNC.search(http.headers.get("prefer", "")):
            raise FhirError(Reason.INVALID_PARAMETER, "an export needs the header Prefer: respond-async")
        slot = await self._slot(caller, permit.jobs_at_once)
        trail.decision = "permit"
        try:
            target = await self._kicked_off(http, trail, permit)
        except BaseException:
            await self._store.release(Namespace.EXPORT_SLOT, self._slot_key(caller, slot))
            raise
        job = Job(
            id=secrets.token_urlsafe(12),
            slot=slot,
            asked=trail.asked or permit.request,
            target=target,
            type=None,
            policy_hash=trail.policy_hash or "",
            expires_at=self._clock() + LIFETIME_SECONDS,
        )
        place = f"{self._upstream.identifier}/_job/{self._jobs.seal(job, caller=caller)}"
        return Answer(202, (*headers.PRIVATE, ("Content-Location", place)), b"")

    async def _kicked_off(self, http: HttpRequest, trail: Trail, permit: Permit) -> str:
        target = request_target.upstream_target(permit.request)
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        sent["prefer"] = "respond-async, handling=strict"
        trail.upstream.append(f"GET {target}")
        # The store begins to work whatever becomes of the answer: it is on record before.
        await self._audit.record(trail.begun(self._upstream.name))
        answer = await self._client.send("GET", target, sent)
        try:
            if answer.status != 202:
                check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID, "the FHIR store began no job")
            return self._target(answer.headers.get("content-location"))
        finally:
            answer.close()

    async def _slot(self, caller: Caller, jobs_at_once: int) -> int:
        now = self._clock()
        for slot in range(jobs_at_once):
            key = self._slot_key(caller, slot)
            if await self._store.claim(Namespace.EXPORT_SLOT, key, until=now + LIFETIME_SECONDS, now=now):
                return slot
        raise FhirError(
            Reason.TOO_MANY_JOBS,
            f"{jobs_at_once} of this client's exports run already: wait for one, or DELETE it",
            headers=(("Retry-After", "60"),),
        )

    def _slot_key(self, caller: Caller, slot: int) -> bytes:
        return "\n".join((self._upstream.name, caller.issuer, caller.client_id, str(slot))).encode()

    def _target(self, url: object) -> str:
        """What follows the store's base in a place of its own. Raises FhirError(UPSTREAM_INVALID)."""
        target = links.relative_target(url, upstream=self._upstream.base) if isinstance(url, str) else None
        if not target or any(part in (".", "..") for part in re.split(r"[/?#]|%2[fF]", target)):
            raise FhirError(Reason.UPSTREAM_INVALID, "a job or file is not below the base of the FHIR store")
        return target

    # What follows

    async def follow(
        self, http: HttpRequest, trail: Trail, caller: Caller, engine: Engine, environment: Environment
    ) -> Answer:
        """Status or end of a job, or one of its files. Raises FhirError(NOT_FOUND) unless it is the caller's."""
        asked = trail.asked
        if asked is None or asked.sealed is None:
            raise FhirError(Reason.INTERNAL)
        is_file = asked.operation == "export-file"
        job = self._jobs.open(asked.sealed, caller=caller, is_file=is_file, now=self._clock())
        if job is None:
            raise FhirError(Reason.NOT_FOUND)
        decision = await trail.knowledge.decided(lambda: engine.decide(job.asked, caller, environment))
        trail.rules = decision.rules
        step = asked.operation or ""
        if isinstance(decision, Permit):
            for access in engine.accesses(decision.rules):
                if access.follows is not None and step not in access.follows:
                    trail.explanation = f"the export may be begun, its rule does not name {step}"
                    raise FhirError(Reason.INTERACTION_CLOSED)
        if step == "export-cancel":  # also of a job that would not be begun today
            trail.decision = "permit"
            return await self._cancel(http, trail, job, caller)
        if job.policy_hash != engine.policy_hash or not isinstance(decision, Permit):
            # What was begun under other policies, or would not be begun today, is nobody's to fetch.
            if not is_file:
                await self._end_at_store(http, trail, job, caller)
            if isinstance(decision, Deny) and job.policy_hash == engine.policy_hash:
                trail.explanation = decision.explanation
                raise FhirError(decision.reason)
            raise FhirError(Reason.NOT_FOUND)
        decision = kept_consents.without_the_stores(self._upstream, job.asked, decision)
        trail.decision = "permit"
        if is_file:
            return await self._file(http, trail, decision, job)
        return await self._status(http, trail, decision, job, caller)

    async def _send(
        self, method: str, http: HttpRequest, trail: Trail, target: str, accept: str
    ) -> UpstreamAnswer:
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        sent["accept"] = accept
        trail.upstream.append(f"{method} {target}")
        return await self._client.send(method, target, sent)

    async def _status(
        self, http: HttpRequest, trail: Trail, permit: Permit, job: Job, caller: Caller
    ) -> Answer:
        answer = await self._send("GET", http, trail, job.target, "application/json")
        try:
            if answer.status == 202:
                return Answer(202, (*headers.PRIVATE, *_progress(answer)), b"")
            if answer.status != 429:
                await self._ended(job, caller)
            check_status(answer)
            if not headers.is_json(answer.headers.get("content-type", "")):
                raise FhirError(Reason.UPSTREAM_INVALID, "the manifest is not JSON")
            said = await answer.read(self._upstream.max_resource)
        finally:
            answer.close()
        manifest = self._manifest(said, permit, job, caller)
        return Answer(
            200, (("Content-Type", "application/json"), *headers.PRIVATE), resource.write_resource(manifest)
        )

    def _manifest(self, raw: bytes, permit: Permit, job: Job, caller: Caller) -> dict[str, Any]:
        """The manifest with our own places; counts and the store's own files of errors stay behind."""
        try:
            said = resource.DECODER.decode(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise FhirError(Reason.UPSTREAM_INVALID, "the manifest is not strict JSON") from error
        at = said.get("transactionTime") if isinstance(said, dict) else None
        output = said.get("output") if isinstance(said, dict) else None
        if not isinstance(at, str) or not _INSTANT.fullmatch(at) or not isinstance(output, list):
            raise FhirError(Reason.UPSTREAM_INVALID, "the manifest has no transactionTime or no output")
        files = []
        for each in output:
            if not isinstance(each, dict) or not isinstance(each.get("type"), str):
                raise FhirError(Reason.UPSTREAM_INVALID, "an output of the manifest has no type")
            if each["type"] not in permit.judges:
                continue  # nobody may see a line of it
            file = replace(job, target=self._target(each.get("url")), type=each["type"])
            token = self._jobs.seal(file, caller=caller)
            files.append({"type": each["type"], "url": f"{self._upstream.identifier}/_file/{token}"})
        return {
            "transactionTime": at,
            "request": f"{self._upstream.identifier}/{request_target.upstream_target(job.asked)}",
            "requiresAccessToken": True,
            "output": files,
            "error": [],
        }

    async def _cancel(self, http: HttpRequest, trail: Trail, job: Job, caller: Caller) -> Answer:
        await self._end_at_store(http, trail, job, caller)
        return Answer(202, headers.PRIVATE, b"")

    async def _end_at_store(self, http: HttpRequest, trail: Trail, job: Job, caller: Caller) -> None:
        answer = await self._send("DELETE", http, trail, job.target, headers.FHIR_JSON)
        try:
            if answer.status in (200, 202, 204, 404, 410):
                await self._ended(job, caller)
            if answer.status not in (200, 202, 204):
                check_status(answer)
        finally:
            answer.close()

    async def _ended(self, job: Job, caller: Caller) -> None:
        """Give the job's place back, once: by then another job may have taken it."""
        now = self._clock()
        until = max(job.expires_at, now + 1)
        if await self._store.claim(Namespace.EXPORT_END, job.id.encode(), until=until, now=now):
            await self._store.release(Namespace.EXPORT_SLOT, self._slot_key(caller, job.slot))

    # Files

    async def _file(self, http: HttpRequest, trail: Trail, permit: Permit, job: Job) -> Answer:
        judge = permit.judges.get(job.type or "")
        if judge is None:
            raise FhirError(Reason.NOT_FOUND)
        answer = await self._send("GET", http, trail, job.target, FHIR_NDJSON)
        try:
            check_status(answer)
            _check_ndjson(answer)
            filtered = NdjsonFilter(
                judge,
                self._upstream.base,
                self._upstream.identifier,
                trail.tally,
                self._upstream.max_resource,
                trail.knowledge.settle,
                frozenset({*self._upstream.bases, self._upstream.base}),
            ).run(answer.stream())
            return await self._streamed(trail, answer, filtered)
        except BaseException:
            answer.close()
            raise

    async def _streamed(self, trail: Trail, answer: UpstreamAnswer, filtered: AsyncIterator[bytes]) -> Answer:
        """A short file whole, so that one record says all of it; a long one as it comes."""
        said = (("Content-Type", FHIR_NDJSON), *headers.PRIVATE)

        async def record(ended: str) -> None:
            await self._audit.record(trail.delivered(ended))

        return Answer(200, said, await whole_or_long(filtered, answer, record))


def _progress(answer: UpstreamAnswer) -> tuple[tuple[str, str], ...]:
    """How far a job is, in our words: a store's own text may count what the caller may not see."""
    percent = _PERCENT.search(answer.headers.get("x-progress", ""))
    said = "in progress" if percent is None else f"in progress, {percent[1]}%"
    wait = answer.headers.get("retry-after", "")
    seconds = int(wait) if re.fullmatch(r"\d{1,4}", wait) else _RETRY_SECONDS
    return ("X-Progress", said), ("Retry-After", str(max(1, seconds)))


def _check_ndjson(answer: UpstreamAnswer) -> None:
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _NDJSON_TYPES:
        raise FhirError(Reason.UPSTREAM_INVALID, "the file is not NDJSON")
    check_coding(answer)
