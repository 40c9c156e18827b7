"""X-Provenance: a second resource that comes in a header, and is decided as if it came in a body (FHIR R4 6.3.7).

A store that reads the header writes a Provenance that nobody judged. So it never reaches the store: the write and its
Provenance become a transaction, each decided by the rules about it. What a Provenance says is held against the token:
its target is the resource that is written, and nobody is its agent but the caller.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.fhir import links, resource
from gateway.fhir.bundle import Entry, Requests
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.json_patch import JSON_PATCH
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.bundles.entries import Sent
from gateway.proxy.bundles.transaction import Transactions
from gateway.proxy.trail import Trail
from gateway.proxy.writes.changes import preference
from gateway.settings import Upstream

HEADER = "x-provenance"
_CHANGING = frozenset(
    {
        Interaction.CREATE,
        Interaction.UPDATE,
        Interaction.PATCH,
        Interaction.DELETE,
        Interaction.BATCH,
        Interaction.OPERATION,
    }
)
_TAKEN = frozenset({Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH})
_CONDITIONS = frozenset({"if-none-exist", "if-none-match", "if-modified-since", "if-unmodified-since"})


def brings_provenance(http: HttpRequest, asked: FhirRequest) -> bool:
    """Whether the header means something here; with a read it means nothing, and it never reaches the store."""
    return HEADER in http.headers and asked.interaction in _CHANGING and asked.method != "GET"


class Provenances:
    """Writes that bring their Provenance along."""

    def __init__(self, *, upstream: Upstream, transactions: Transactions) -> None:
        self._upstream = upstream
        self._transactions = transactions

    async def answer(
        self, http: HttpRequest, asked: FhirRequest, trail: Trail, caller: Caller, engine: Engine
    ) -> Answer:
        """The answer to a write with X-Provenance: that to the write. Raises as a transaction does."""
        conditional = asked.interaction is not Interaction.CREATE and asked.id is None
        if asked.interaction not in _TAKEN or conditional or not _CONDITIONS.isdisjoint(http.headers):
            raise FhirError(
                Reason.INTERACTION_CLOSED, "X-Provenance goes with an unconditional create, update or patch"
            )
        said = _provenance(http.headers[HEADER], asked)
        self._check_agents(said, caller)
        urn = f"urn:uuid:{uuid.uuid4()}"
        path = http.path[len(self._upstream.at) :]
        conditions = {"ifMatch": http.headers["if-match"]} if "if-match" in http.headers else {}
        written = Entry(
            0, http.method, path, http.query, urn, None, await self._body(http, asked), conditions
        )
        beside = Entry(1, "POST", "/Provenance", "", None, None, said | {"target": [{"reference": urn}]}, {})
        requests = Requests(Interaction.TRANSACTION, (written, beside))
        sent = Sent(_preferring(http), trail, caller, engine, requests)
        try:
            answer = await self._transactions.answer(sent, is_opened=True)
        except FhirError as error:
            raise _of_the_write(error) from error
        return _answer_of(answer, preference(http))

    async def _body(self, http: HttpRequest, asked: FhirRequest) -> dict[str, Any]:
        content_type = http.headers.get("content-type", "")
        raw = await http.body.read(self._upstream.max_resource)
        if headers.is_json(content_type):
            return resource.parse_resource(raw)
        if asked.interaction is Interaction.PATCH and content_type.partition(";")[0].strip() == JSON_PATCH:
            data = base64.b64encode(raw).decode("ascii")
            return {"resourceType": "Binary", "contentType": JSON_PATCH, "data": data}
        raise FhirError(
            Reason.UNSUPPORTED_MEDIA_TYPE, "a write with X-Provenance is FHIR JSON, or a JSON Patch"
        )

    def _check_agents(self, said: Mapping[str, Any], caller: Caller) -> None:
        """Raise FhirError(POLICY_DENIED) where a Provenance names another agent than the caller."""
        agents = said.get("agent")
        for agent in agents if isinstance(agents, list) and agents else [None]:
            who = agent.get("who") if isinstance(agent, dict) else None
            if not isinstance(who, dict) or not self._is_caller(who, caller):
                raise FhirError(
                    Reason.POLICY_DENIED,
                    "X-Provenance: each agent.who must be the fhirUser of the token, or the identifier of the client",
                )

    def _is_caller(self, who: Mapping[str, Any], caller: Caller) -> bool:
        person, reference = caller.claims.get("fhirUser"), who.get("reference")
        bases = self._upstream.bases
        if isinstance(person, str):
            if not isinstance(reference, str) or "identifier" in who:
                return False
            return (links.below(reference, bases) or reference) == (links.below(person, bases) or person)
        identifier = who.get("identifier")
        return (
            reference is None and isinstance(identifier, dict) and identifier.get("value") == caller.client_id
        )


def _provenance(text: str, asked: FhirRequest) -> dict[str, Any]:
    """The Provenance of the header, read as a body is. Raises FhirError(INVALID_BODY)."""
    value = resource.parse_resource(text.encode("utf-8"))
    if value["resourceType"] != "Provenance" or "id" in value:
        raise FhirError(Reason.INVALID_BODY, "X-Provenance holds a Provenance without an id")
    own = [{"reference": f"{asked.type}/{asked.id}"}] if asked.id is not None else None
    if "target" in value and value["target"] != own:
        raise FhirError(
            Reason.POLICY_DENIED, "X-Provenance: leave target out, it is the resource that is written"
        )
    return value


def _preferring(http: HttpRequest) -> HttpRequest:
    """The same request, which says how it is to be answered: as single writes are when they say nothing."""
    said = {name: value for name, value in http.headers.items() if name != HEADER}
    return replace(http, headers=said | {"prefer": f"return={preference(http)}"})


def _of_the_write(error: FhirError) -> FhirError:
    """The refusal in the words of a single write: the caller sent no Bundle."""
    of_write = error.expression in ("", "Bundle.entry[0]")
    diagnostics = error.diagnostics if of_write else f"X-Provenance: {error.diagnostics}".rstrip(": ")
    status = 404 if of_write and error.reason is Reason.NOT_FOUND and error.status == 403 else error.status
    return FhirError(error.reason, diagnostics, status=status, headers=error.headers)


def _answer_of(answer: Answer, wants: str) -> Answer:
    """The answer to the write, out of the Bundle that answers both."""
    if not isinstance(answer.body, bytes):
        raise FhirError(Reason.INTERNAL)
    entry = resource.parse_json(answer.body)["entry"][0]
    response = entry["response"]
    shown = entry.get("resource") if wants == "representation" else response.get("outcome")
    passed = [
        (name, response[key]) for name, key in (("Location", "location"), ("ETag", "etag")) if key in response
    ]
    if "lastModified" in response:
        try:
            at = datetime.fromisoformat(response["lastModified"]).astimezone(UTC)
            passed.append(("Last-Modified", format_datetime(at, usegmt=True)))
        except ValueError:
            pass
    content = () if shown is None else (headers.JSON_BODY,)
    body = b"" if shown is None else resource.write_resource(shown)
    return Answer(int(response["status"]), (*content, *headers.PRIVATE, *passed), body)
