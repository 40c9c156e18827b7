"""Operations on their way through: the look at the instance before, and $validate with an outcome of our own words.

The store's OperationOutcome on a body may speak of other resources, which it looked up to say what is wrong. Severity,
code and the place in the caller's own body go out; texts do not.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from authz.protocol.request import Answer, BytesBody, EmptyBody, HttpRequest
from gateway.consents.decision_parameters import NAME as CONSENT_DECISION
from gateway.fhir import request_target, resource
from gateway.fhir.formats import BOTH
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.operation_parameters import validated, with_parameters
from gateway.fhir.operations import operation_of
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.policy.operations import as_stored
from gateway.proxy import headers
from gateway.proxy.answers.delivery import check_status, fhir_answer, judge, settle, stored, whole_resource
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.writes import creation
from gateway.proxy.writes.changes import Writes
from gateway.proxy.writes.write_verdicts import Write
from gateway.settings import Upstream

_SEVERITIES = ("fatal", "error", "warning", "information")
_CODES = frozenset(  # FHIR R4 IssueType
    {
        "invalid", "structure", "required", "value", "invariant", "security", "login", "unknown", "expired",
        "forbidden", "suppressed", "processing", "not-supported", "duplicate", "multiple-matches", "not-found",
        "deleted", "too-long", "code-invalid", "extension", "too-costly", "business-rule", "conflict",
        "transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled", "informational",
    }
)  # fmt: skip
_PLACE = re.compile(r"[A-Z][A-Za-z]{0,63}(?:\.[A-Za-z]{1,64}(?:\[\d{1,4}\])?){0,20}")
_MAX_ISSUES = 100
_MAX_PARAMETERS_BYTES = 64 * 1024
_OF_A_DELETE = b'{"resourceType":"Parameters","parameter":[{"name":"mode","valueCode":"delete"}]}'
_JUDGED_OUTCOMES = frozenset({200, 400, 412, 422})  # a store may say with a status that a body is not valid


class OperationPassage:
    """What operations ask of one store beside the request itself."""

    def __init__(self, *, upstream: Upstream, client: UpstreamClient, writes: Writes) -> None:
        self._upstream = upstream
        self._client = client
        self._writes = writes

    async def look_at_instance(self, http: HttpRequest, trail: Trail, permit: Permit) -> None:
        """Read the instance that an operation is asked at, and judge it. Raises FhirError unless it may be used.

        Systems that ask for decisions go through ids of others: of a patient about whom they may not ask they hear
        what they hear of one who is not there.
        """
        target = f"{permit.request.type}/{permit.request.id}"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        trail.upstream.append(f"GET {target}")
        answer = await self._client.send("GET", target, sent)
        value = await whole_resource(answer, self._upstream.max_resource)
        await settle(trail, permit, value)
        conceals = permit.conceal or permit.request.operation == CONSENT_DECISION
        judge(trail, replace(permit, conceal=conceals), value)

    async def with_parameters(self, http: HttpRequest, asked: FhirRequest) -> FhirRequest:
        """An operation by POST as the GET that its Parameters stand for. Raises FhirError."""
        raw = await self._content(http, _MAX_PARAMETERS_BYTES)
        return with_parameters(asked, resource.parse_resource(raw) if raw else None)

    async def validated(self, http: HttpRequest, asked: FhirRequest) -> tuple[HttpRequest, FhirRequest]:
        """A $validate with the resource alone as its body, and with the mode that its Parameters say. Raises FhirError."""
        if operation_of(asked) is None:
            return http, asked
        raw = await self._content(http, self._upstream.max_resource)
        if asked.type == "Parameters" or b"Parameters" not in raw:
            return replace(http, body=BytesBody(raw)), asked
        value = await by_length(len(raw), partial(resource.parse_resource, raw))
        if value["resourceType"] != "Parameters":
            return replace(http, body=BytesBody(raw)), asked
        asked, held = validated(asked, value)
        if held is None:
            return replace(http, body=EmptyBody()), asked
        written = await by_length(len(raw), partial(resource.write_resource, held))
        return replace(http, body=BytesBody(written)), asked

    async def _content(self, http: HttpRequest, limit_bytes: int) -> bytes:
        raw = await http.body.read(limit_bytes)
        if raw and not headers.is_json(http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        return raw

    async def validate(self, write: Write) -> Answer:
        """POST [type]/$validate or [type]/[id]/$validate: judged as the write would be, told without the store's texts."""
        http, trail, permit = write.http, write.trail, write.permit
        stored_as = as_stored(permit.request)
        if stored_as is None:
            raise FhirError(Reason.INTERNAL)
        if stored_as.interaction is Interaction.CREATE:
            body = await self._to_create(http, trail, permit)
        else:
            body = await self._to_change(replace(write, permit=replace(permit, request=stored_as)))
        trail.decision = "permit"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        sent["content-type"] = f"{headers.FHIR_JSON}; charset=utf-8"
        # Of a delete the mode stands in the body alone, never twice.
        is_delete = stored_as.interaction is Interaction.DELETE
        target = request_target.upstream_target(
            replace(permit.request, terms=()) if is_delete else permit.request
        )
        trail.upstream.append(f"POST {target}")
        answer = await self._client.send("POST", target, sent, body)
        try:
            if answer.status not in _JUDGED_OUTCOMES:
                check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID)
            told = await answer.read(self._upstream.max_resource)
            said = await by_length(len(told), partial(stored, told))
        finally:
            answer.close()
        return fhir_answer(resource.write_resource(outcome(said)))

    async def _to_create(self, http: HttpRequest, trail: Trail, permit: Permit) -> bytes:
        if creation.body_kind(http, permit) is not creation.BodyKind.RESOURCE:
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        raw = await http.body.read(self._upstream.max_resource)
        bases = (*self._upstream.bases, self._upstream.base)
        made_of = partial(creation.new_version, raw, permit.request.type, bases, may_name_id=True)
        value, body = await by_length(len(raw), made_of)
        await settle(trail, permit, value)
        judge(trail, permit, value)
        return body

    async def _to_change(self, write: Write) -> bytes:
        """What is to be validated of an update or delete that may happen; the stored version is read and judged."""
        is_delete = write.permit.request.interaction is Interaction.DELETE
        if is_delete and await write.http.body.read(self._upstream.max_resource):
            raise FhirError(Reason.INVALID_BODY, "mode=delete takes no resource")
        await self.look_at_instance(write.http, write.trail, write.permit)
        change = await self._writes.decided(write)
        if change.after is None:
            return _OF_A_DELETE
        return await by_length(change.length, partial(resource.write_resource, change.after))


def outcome(said: Mapping[str, Any]) -> dict[str, Any]:
    """A store's OperationOutcome without its texts. Raises FhirError(UPSTREAM_INVALID)."""
    issues = said.get("issue")
    if said.get("resourceType") != "OperationOutcome" or not isinstance(issues, list) or not issues:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not an OperationOutcome")
    told = [_issue(issue) for issue in issues]
    told.sort(key=lambda issue: _SEVERITIES.index(issue["severity"]))  # the worst are not among those cut off
    return {"resourceType": "OperationOutcome", "issue": told[:_MAX_ISSUES]}


def _issue(issue: object) -> dict[str, Any]:
    if not isinstance(issue, dict):
        raise FhirError(Reason.UPSTREAM_INVALID, "an issue of the outcome is not an object")
    severity, code = issue.get("severity"), issue.get("code")
    # What has no word of the specification is told as the worst: nothing wrong reads as valid by that.
    told: dict[str, Any] = {
        "severity": severity if isinstance(severity, str) and severity in _SEVERITIES else "error",
        "code": code if isinstance(code, str) and code in _CODES else "processing",
    }
    places = issue.get("expression")
    own = (
        [p for p in places if isinstance(p, str) and _PLACE.fullmatch(p)] if isinstance(places, list) else []
    )
    return told | ({"expression": own} if own else {})
