"""Operations on their way through: the look at the instance before, and $validate with an outcome of our own words.

The store's OperationOutcome on a body may speak of other resources, which it looked up to say what is wrong. Severity,
code and the place in the caller's own body go out; texts do not.
"""

import re
from collections.abc import Mapping
from typing import Any

from authz.protocol.request import Answer, HttpRequest
from gateway.fhir import request, resource
from gateway.fhir.formats import BOTH
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.operation_parameters import resource_in, with_parameters
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Permit
from gateway.proxy import creation, headers
from gateway.proxy.delivery import check_status, fhir_answer, judge, settle, stored
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamClient
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
_JUDGED_OUTCOMES = frozenset({200, 400, 412, 422})  # a store may say with a status that a body is not valid


class OperationPassage:
    """What operations ask of one store beside the request itself."""

    def __init__(self, *, upstream: Upstream, client: UpstreamClient) -> None:
        self._upstream = upstream
        self._client = client

    async def with_parameters(self, http: HttpRequest, asked: FhirRequest) -> FhirRequest:
        """An operation by POST as the GET that its Parameters stand for. Raises FhirError."""
        raw = await http.body.read(_MAX_PARAMETERS_BYTES)
        if raw and not headers.is_json(http.headers.get("content-type", "")):
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        return with_parameters(asked, resource.parse_resource(raw) if raw else None)

    async def look_at_instance(self, http: HttpRequest, trail: Trail, permit: Permit) -> None:
        """Read the instance that an operation is asked at, and judge it. Raises FhirError unless it may be used."""
        target = f"{permit.request.type}/{permit.request.id}"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        trail.upstream.append(f"GET {target}")
        answer = await self._client.send("GET", target, sent)
        try:
            check_status(answer)
            value = stored(await answer.read(self._upstream.max_resource))
        finally:
            answer.close()
        await settle(trail, permit, value)
        judge(trail, permit, value)

    async def validate(self, http: HttpRequest, trail: Trail, permit: Permit) -> Answer:
        """POST [type]/$validate: the body judged as one that is to be stored, the outcome told without its texts."""
        if creation.body_kind(http, permit) is not creation.BodyKind.RESOURCE:
            raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"the body must be {BOTH} in UTF-8")
        raw = await http.body.read(self._upstream.max_resource)
        raw = _unwrapped(raw, permit.request.type)
        bases = (*self._upstream.bases, self._upstream.base)
        value, body = creation.new_version(raw, permit.request.type, bases, may_name_id=True)
        await settle(trail, permit, value)
        judge(trail, permit, value)
        trail.decision = "permit"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        sent["content-type"] = f"{headers.FHIR_JSON}; charset=utf-8"
        target = request.upstream_target(permit.request)
        trail.upstream.append(f"POST {target}")
        answer = await self._client.send("POST", target, sent, body)
        try:
            if answer.status not in _JUDGED_OUTCOMES:
                check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID)
            said = stored(await answer.read(self._upstream.max_resource))
        finally:
            answer.close()
        return fhir_answer(resource.write_resource(outcome(said)))


def _unwrapped(raw: bytes, type_: str | None) -> bytes:
    """The resource that Parameters of $validate hold; a body that is the resource itself as it is."""
    if type_ == "Parameters" or b"Parameters" not in raw:
        return raw
    value = resource.parse_resource(raw)
    return raw if value["resourceType"] != "Parameters" else resource.write_resource(resource_in(value))


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
