"""The client of a mount whose consents are kept here: what is about Consent goes to our own server, the rest to the store.

All that asks the store goes through it, lookups and conditional writes too, so that there is one way to a consent.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from authz.protocol.tokens import Caller
from gateway.consent_service.server import ConsentServer
from gateway.fhir import resource
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import headers as passed
from gateway.proxy.answers.delivery import resource_or_none
from gateway.proxy.own_answers import OwnAnswer, own_resource
from gateway.proxy.upstream import UpstreamAnswer, UpstreamClient
from gateway.settings import Upstream

_INTERACTIONS = ("read", "vread", "update", "patch", "history-instance", "create", "search-type")
_PARAMETERS = {
    "_id": "token", "_lastUpdated": "date", "action": "token", "actor": "reference", "category": "token",
    "consentor": "reference", "data": "reference", "date": "date", "identifier": "token",
    "organization": "reference", "patient": "reference", "period": "date", "purpose": "token", "scope": "token",
    "security-label": "token", "status": "token",
}  # fmt: skip
_OUR_PART: Mapping[str, Any] = {
    "type": "Consent",
    "interaction": [{"code": code} for code in _INTERACTIONS],
    "versioning": "versioned-update",
    "readHistory": True,
    "updateCreate": True,
    "conditionalCreate": True,
    "searchParam": [{"name": name, "type": kind} for name, kind in _PARAMETERS.items()],
}


class RoutingClient(UpstreamClient):
    """Sends requests to one store, those about Consent to our own server, which serve() names."""

    _server: ConsentServer | None = None

    def __init__(self, upstream: Upstream, observe: Callable[[float], None]) -> None:
        super().__init__(upstream, observe)

    def serve(self, server: ConsentServer) -> None:
        """Ask this server from now on."""
        self._server = server

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """Send a request that nobody is named for: it changes no consent. Raises FhirError."""
        if is_of_consents(target):
            return await self._own(None, method, target, headers, body)
        answer = await super().send(method, target, headers, body)
        return answer if target != "metadata" else await self._capabilities(answer)

    def reading(self, type_: str) -> UpstreamClient | None:
        """The store reads all but Consent."""
        return None if type_ == "Consent" else self

    async def write(
        self,
        caller: Caller,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> UpstreamAnswer:
        """Send what this caller writes. Raises FhirError."""
        if is_of_consents(target):
            return await self._own(caller, method, target, headers, body)
        return await super().write(caller, method, target, headers, body)

    async def has_patient(self, id: str) -> bool:
        """Whether the store has a patient of this id. Raises FhirError."""
        answer = await super().send("GET", f"Patient/{id}", passed.of_our_own(self.upstream))
        return await resource_or_none(answer, self.upstream.max_resource) is not None

    async def _own(
        self,
        caller: Caller | None,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> UpstreamAnswer:
        if self._server is None or not (body is None or isinstance(body, bytes)):
            raise FhirError(Reason.INTERNAL)
        said = await self._server.answer(method, target, headers, body, caller)
        return OwnAnswer(said.status, said.headers, said.body)

    async def _capabilities(self, answer: UpstreamAnswer) -> UpstreamAnswer:
        """What the store can do, with consents as they are kept here."""
        if answer.status != 200 or not passed.is_json(answer.headers.get("content-type", "")):
            return answer
        try:
            value = resource.parse_resource(await answer.read(self.upstream.max_resource))
        finally:
            answer.close()
        value["rest"] = value.get("rest") or [{"mode": "server"}]
        for rest in value["rest"]:
            others = [
                each
                for each in rest.get("resource", [])
                if isinstance(each, dict) and each.get("type") != "Consent"
            ]
            rest["resource"] = [*others, dict(_OUR_PART)]
        return own_resource(value)


def is_of_consents(target: str) -> bool:
    """Whether a target is about consents, and not an operation that the store carries out on what it is sent."""
    match target.partition("?")[0].split("/"):
        case ["Consent", *rest]:
            return not (rest and rest[-1].startswith("$"))
        case ["Patient", _, "Consent", *_]:
            return True
        case _:
            return False
