"""Creates: judged, and on record, before the store hears of them (FHIR R4 3.1.0.8)."""

from collections.abc import AsyncIterator
from functools import partial

from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller
from gateway.audit.log import AuditLog
from gateway.fhir import bundle_graph, request_target
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Environment, Permit
from gateway.policy.engine import Engine
from gateway.proxy import headers
from gateway.proxy.answers.delivery import check_status
from gateway.proxy.answers.representation import Representation
from gateway.proxy.documents.attached_writes import AttachedWrites
from gateway.proxy.documents.attachments import Asking
from gateway.proxy.large_bodies import by_length
from gateway.proxy.trail import Trail
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.proxy.writes import conditional_writes, creation
from gateway.proxy.writes.conditional_writes import Found
from gateway.settings import Upstream

_MOST_LOOKS = 5  # for what others write meanwhile
_OF_THE_KEEPER = frozenset({412})
_OF_A_STORE = frozenset({409, 412})  # to a create under no condition: what is there already is in its way


class Creates:
    """Creates in one store. show gives what a caller may see of a stored resource, b'' where that is nothing."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        client: UpstreamClient,
        audit: AuditLog,
        show: Representation,
        attached: AttachedWrites,
    ) -> None:
        self._attached = attached
        self._upstream = upstream
        self._client = client
        self._audit = audit
        self._show = show
        self._bases = (*upstream.bases, upstream.base)

    async def answer(
        self,
        http: HttpRequest,
        trail: Trail,
        permit: Permit,
        caller: Caller,
        engine: Engine,
        environment: Environment,
    ) -> Answer:
        """The answer to a create that the engine lets go on. Raises FhirError, AuditUnavailable."""
        is_service = self._attached.submissions is not None
        kind = creation.body_kind(http, permit, of_documents=is_service)
        asking = Asking(http, trail, caller, engine, environment)
        body: bytes | AsyncIterator[bytes]
        native = None
        if kind is creation.BodyKind.RESOURCE:
            raw = await http.body.read(self._upstream.max_resource)
            made_of = partial(
                creation.new_version,
                raw,
                permit.request.type,
                self._bases,
                may_name_id=http.method == "POST",
            )
            value, body = await by_length(len(raw), made_of)
            value = await self._attached.seen(asking, value, permit, is_new=True)
            await self._attached.judge(asking, value, permit)
            await self._attached.check_attachments(asking, None, value)
            checking = partial(bundle_graph.check_resolved, value, None, self._bases)
            await by_length(len(raw), checking)
        else:
            native = creation.native_members(http, self._bases)
            body = creation.bounded(http.body.stream(), self._upstream.max_body)
            if is_service or not permit.unconditional:
                body = await self._attached.native(asking, native, permit, body)
        trail.decision = "permit"
        sent = headers.to_upstream(http, self._upstream, trail.interaction_id)
        minimal = permit.obligations.minimal
        sent |= creation.upstream_headers(http, kind, native, minimal=minimal)
        target = request_target.upstream_target(permit.request)
        trail.upstream.append(f"POST {target}")
        # A write happens once the store has it, whatever becomes of the answer: it is on record before.
        await self._audit.record(trail.begun(self._upstream.name))
        answer = await self._write(asking, permit, target, sent, body)
        if isinstance(answer, Answer):
            return answer
        try:
            if answer.status not in (200, 201):
                check_status(answer)
                raise FhirError(Reason.UPSTREAM_INVALID)
            made = creation.made(answer.headers, self._upstream, permit.request.type)
            trail.made = made.id
            shown = b""
            if made.id is not None and headers.is_json(answer.headers.get("content-type", "")):
                raw = await answer.read(self._upstream.max_resource)
                shown = await self._show(raw, made.id, permit.request, caller, engine, http, trail)
        finally:
            answer.close()
        content = (headers.JSON_BODY,) if shown else ()
        # A 200 says that the store made nothing: what it has instead, and its address, are for who may read that.
        place = made.headers if shown or answer.status == 201 else ()
        if place:
            place = *place, *headers.returned(answer.headers, self._upstream, permit.request.type, made.id)
        return Answer(answer.status, (*content, *headers.PRIVATE, *place), shown)

    async def _write(
        self,
        asking: Asking,
        permit: Permit,
        target: str,
        sent: dict[str, str],
        body: bytes | AsyncIterator[bytes],
    ) -> UpstreamAnswer | Answer:
        """The store's answer, or that the resource is there: another caller was first with the same criteria.

        A keeper who writes only while the criteria find nothing says so when that is over, and a store that lets no two
        have the same identifier says that another has it. Then they are looked for anew, as the caller's search: who may
        not find it hears no more than that. Raises FhirError.
        """
        http, trail, caller, engine = asking.http, asking.trail, asking.caller, asking.engine
        asked = permit.request if trail.asked is None else trail.asked
        terms = conditional_writes.criteria(asked, http)
        for _ in range(_MOST_LOOKS):
            more = conditional_writes.to_the_keeper(self._upstream, asked, terms, trail)
            answer = await self._client.write(caller, "POST", target, sent | more, body)
            if answer.status not in (_OF_THE_KEEPER if more else _OF_A_STORE) or not terms:
                return answer
            answer.close()
            found = await conditional_writes.find(
                http, trail, asked, terms, caller, engine, asking.environment,
                upstream=self._upstream, client=self._client,
            )  # fmt: skip
            if found is not None and asked.interaction is Interaction.CREATE:
                return await self.is_there(http, trail, asked, found, caller, engine)
            if found is not None or not more:
                break
        raise FhirError(Reason.VERSION_CONFLICT, "another caller wrote what the criteria match: ask again")

    async def is_there(
        self,
        http: HttpRequest,
        trail: Trail,
        asked: FhirRequest,
        found: Found,
        caller: Caller,
        engine: Engine,
    ) -> Answer:
        """A conditional create that found its resource: nothing is made (FHIR R4 3.1.0.8.1)."""
        trail.decision = "permit"
        shown = await self._show(found.raw, found.id, asked, caller, engine, http, trail)
        place = ("Location", f"{self._upstream.identifier}/{asked.type}/{found.id}")
        return Answer(200, (*((headers.JSON_BODY,) if shown else ()), *headers.PRIVATE, place), shown)
