"""Entries of a Bundle as requests of their own, and answers as entries of the Bundle that goes back.

FHIR R4 3.1.0.11.3: an entry means what the same request alone means. So each becomes an HttpRequest with nothing in it
that the entry does not say, and is read by the one grammar there is.
"""

import base64
import binascii
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Protocol

from authz.protocol.request import Answer, Body, BytesBody, EmptyBody, HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir import request, resource
from gateway.fhir.bundle import Entry, Requests
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.json_patch import JSON_PATCH
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.own_references import with_own_references
from gateway.policy.decision import Deny, Environment
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import PAGE_PREFIX
from gateway.proxy.refusals import denied
from gateway.proxy.trail import Trail
from gateway.settings import Upstream

_OF_ALL = ("accept-language", "prefer", "traceparent", "tracestate")
_HEADERS = {"ifMatch": "if-match", "ifNoneMatch": "if-none-match", "ifNoneExist": "if-none-exist"}
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_SAID = {"Location": "location", "ETag": "etag"}
_OUTCOME = b'{"resourceType":"OperationOutcome"'
_NESTED = frozenset({Interaction.BATCH, Interaction.TRANSACTION})


class OnePassage(Protocol):
    """How a single request passes."""

    async def pass_one(
        self, http: HttpRequest, asked: FhirRequest, caller: Caller, engine: Engine, trail: Trail
    ) -> Answer:
        """The answer to a request. Raises what refuses it."""
        ...

    def refused(self, trail: Trail, error: Exception) -> Answer:
        """The answer to a request that failed by this error; the trail keeps why."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A Bundle that came, who sent it, and the policies that decide."""

    http: HttpRequest
    trail: Trail
    caller: Caller
    engine: Engine
    requests: Requests


@dataclass(frozen=True, slots=True)
class Part:
    """An entry, the request that it stands for, and how that one was read."""

    entry: Entry
    http: HttpRequest
    asked: FhirRequest


def part_of(entry: Entry, http: HttpRequest, upstream: Upstream) -> Part:
    """The request of an entry of the Bundle that came with http.

    Raises FhirError with the expression of the entry, as the grammar does, and for what no Bundle may hold.
    """
    try:
        sub = _request_of(entry, http, upstream)
        asked = with_own_references(asked_with(sub, sub.path[len(upstream.at) :]), upstream.bases)
    except FhirError as error:
        raise located(error, entry) from error
    why = _closed(asked)
    if why is not None:
        raise FhirError(Reason.INTERACTION_CLOSED, why, expression=entry.expression)
    if entry.resource is None and asked.interaction is Interaction.CREATE:
        raise FhirError(Reason.INVALID_BODY, "a create needs a resource", expression=entry.expression)
    return Part(entry, sub, asked)


async def check_opened(sent: Sent, part: Part, trail: Trail, environment: Environment) -> None:
    """Raise FhirError, or OAuthError (step-up), unless the entry may come in a Bundle of this kind."""
    kind, count = sent.requests.kind, len(sent.requests.entries)
    opened = await trail.knowledge.decided(
        lambda: sent.engine.enveloping(part.asked, kind, count, sent.caller, environment)
    )
    if isinstance(opened, Deny):
        raise denied(opened, expression=part.entry.expression)


def is_page(http: HttpRequest) -> bool:
    """Whether a request is for a page that the gateway sealed."""
    return http.query.startswith(PAGE_PREFIX) and "&" not in http.query


def asked_with(http: HttpRequest, path: str) -> FhirRequest:
    """What a request to this path asks for. A page is had by GET of the type that was searched, and in no other way.

    Raises FhirError.
    """
    if is_page(http):
        asked = request.parse(http.method, path, "")
        if asked.interaction is Interaction.SEARCH and not asked.posted and asked.compartment is None:
            return asked
    return request.parse(http.method, path, http.query)


def located(error: FhirError, entry: Entry) -> FhirError:
    """The same refusal, with the entry that it is about."""
    diagnostics, status = error.diagnostics, error.status
    return FhirError(
        error.reason, diagnostics, status=status, headers=error.headers, expression=entry.expression
    )


def _closed(asked: FhirRequest) -> str | None:
    """Why a request cannot be an entry; None when it can."""
    if asked.interaction in _NESTED:
        return "a Bundle in a Bundle is not taken: send its entries"
    if asked.interaction is Interaction.CAPABILITIES:
        return "the capabilities are asked for by themselves: GET [base]/metadata"
    if asked.sealed is not None or asked.operation == "export":
        return "exports are asked for by themselves"
    return None


def _request_of(entry: Entry, http: HttpRequest, upstream: Upstream) -> HttpRequest:
    said = {name: http.headers[name] for name in _OF_ALL if name in http.headers}
    said["accept"] = headers.FHIR_JSON
    for name, text in entry.conditions.items():
        if name == "ifModifiedSince":
            said["if-modified-since"] = _http_date(text)
        else:
            said[_HEADERS[name]] = text
    body: Body = EmptyBody()
    if entry.resource is not None:
        said["content-type"], raw = _content(entry)
        body = BytesBody(raw)
    path = upstream.at + ("" if entry.path == "/" else entry.path)
    return replace(
        http,
        method=entry.method,
        path=path,
        query=entry.query,
        url=http.origin + path,
        headers=said,
        body=body,
    )


def _content(entry: Entry) -> tuple[str, bytes]:
    """Media type and bytes of an entry's resource. A JSON Patch comes in a Binary (FHIR R4 3.1.0.9.3)."""
    value = entry.resource or {}
    if entry.method != "PATCH" or value["resourceType"] == "Parameters":
        return f"{headers.FHIR_JSON}; charset=utf-8", resource.write_resource(value)
    data = value.get("data")
    if (
        value["resourceType"] != "Binary"
        or value.get("contentType") != JSON_PATCH
        or not isinstance(data, str)
    ):
        raise FhirError(Reason.INVALID_BODY, f"a PATCH takes Parameters, or a Binary that holds {JSON_PATCH}")
    try:
        return JSON_PATCH, base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FhirError(Reason.INVALID_BODY, "Binary.data is not base64") from error


def _http_date(instant: str) -> str:
    """An instant in the form of If-Modified-Since (RFC 9110 5.6.7)."""
    try:
        if not _INSTANT.fullmatch(instant):
            raise ValueError(instant)
        return format_datetime(datetime.fromisoformat(instant).astimezone(UTC), usegmt=True)
    except (ValueError, OverflowError) as error:
        raise FhirError(Reason.INVALID_BODY, "request.ifModifiedSince is not an instant") from error


def entry_of(answer: Answer, body: bytes, *, head: bool = False) -> bytes:
    """The entry of the answering Bundle. body is the whole body of answer."""
    response: dict[str, Any] = {"status": str(answer.status)}
    for name, value in answer.headers:
        if name in _SAID:
            response[_SAID[name]] = value
        elif name == "Last-Modified" and (instant := _instant(value)) is not None:
            response["lastModified"] = instant
    is_outcome = answer.status >= 400 or body.startswith(_OUTCOME)
    said = resource.write_resource(response)
    if not body or head:
        return b'{"response":' + said + b"}"
    if is_outcome:
        return b'{"response":' + said[:-1] + b',"outcome":' + body + b"}}"
    return b'{"resource":' + body + b',"response":' + said + b"}"


def _instant(http_date: str) -> str | None:
    try:
        return parsedate_to_datetime(http_date).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, TypeError, OverflowError):
        return None


def answering(kind: Interaction, entries: list[bytes]) -> bytes:
    """The Bundle that answers (FHIR R4 3.1.0.11.4): an entry for each that was sent, in their order."""
    listed = b',"entry":[' + b",".join(entries) + b"]" if entries else b""
    return b'{"resourceType":"Bundle","type":"' + str(kind).encode() + b'-response"' + listed + b"}"
