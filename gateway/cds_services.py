"""CDS Hooks for other systems: `GET /cds-services`, and `POST /cds-services/patient-consent-consult`.

The caller shows an access token of a mount, as there. The patient is searched and the decision asked for as requests of
this caller at that mount: scopes and policies decide, and each is on record, as if the caller had sent them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

from authz.events import Emit, Refused
from authz.http import json_answer
from authz.protocol.encoding import strict_json
from authz.protocol.errors import OAuthError
from authz.protocol.request import Answer, BytesBody, HttpRequest, RequestError
from authz.protocol.tokens import Caller
from authz.resource_server import ResourceServer
from gateway.admission import Admission
from gateway.consents.consent import ConsentAnswer, Said, objects
from gateway.consents.consult import HOOK, SERVICES, Consult, ConsultError, card, read_consult
from gateway.consents.decision_parameters import NAME, read_answer
from gateway.fhir.ids import is_id
from gateway.proxy.whole_answers import BrokenOff, TooLong, whole_body
from gateway.settings import Upstream

PATH = "/cds-services"
_MAX_BYTES = 64 * 1024
_MAX_ANSWER_BYTES = 1024 * 1024
_MAX_DEPTH = 16
_FHIR = "application/fhir+json"
_FORM = {"accept": _FHIR, "content-type": "application/x-www-form-urlencoded"}
_JSON = {"accept": _FHIR, "content-type": _FHIR}


class Passing(Protocol):
    """What a request passes: gateway.proxy.pipeline.Passage."""

    async def handle(self, http: HttpRequest, caller: Caller | None = None) -> Answer:
        """The answer to a request, of a caller who is known where one is given."""
        ...


class Refusal(Exception):
    """A call that is refused: its status, and what is told of it."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error


class CdsServices:
    """The CDS services of a gateway: mounts are its stores with their passages."""

    def __init__(
        self,
        mounts: Sequence[tuple[Upstream, Passing]],
        *,
        resource_server: ResourceServer,
        admission: Admission,
        issuer: str,
        emit: Emit,
    ) -> None:
        self._mounts = mounts
        self._resource_server = resource_server
        self._admission = admission
        self._issuer = issuer
        self._emit = emit

    async def answer(self, request: HttpRequest) -> Answer:
        """The answer to a request below PATH."""
        if request.path == PATH:
            return (
                json_answer(200, SERVICES)
                if request.method == "GET"
                else _refused(405, "method", "GET is expected")
            )
        if request.path != f"{PATH}/{HOOK}":
            return _refused(404, "not_found", f"the service here is {HOOK}")
        if request.method != "POST":
            return _refused(405, "method", "POST is expected")
        audience = frozenset(base for upstream, _ in self._mounts for base in upstream.bases)
        try:
            found = await self._resource_server.authenticate(request, audience=audience)
        except OAuthError as error:
            self._emit(Refused("cds-services", str(error.code), None, error.description))
            challenge = self._resource_server.challenge(error, request)
            return json_answer(
                error.status, {"error": str(error.code), "message": error.description}, challenge
            )
        held = await self._admission.of_caller(found.caller, "cds-services")
        try:
            answer = await self._consulted(request, found.caller)
        except RequestError as error:
            answer = _refused(error.status, "bad_request", str(error))
        except ConsultError as error:
            answer = _refused(400, "bad_request", str(error))
        except Refusal as refusal:
            answer = _refused(refusal.status, refusal.error, str(refusal))
        finally:
            held.release()
        return replace(answer, headers=(*answer.headers, *found.headers))

    async def _consulted(self, request: HttpRequest, caller: Caller) -> Answer:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(415, "unsupported_media_type", "application/json is expected")
        raw = await request.body.read(_MAX_BYTES)
        try:
            consult = read_consult(strict_json(raw, max_bytes=_MAX_BYTES, max_depth=_MAX_DEPTH))
        except ValueError as error:
            raise ConsultError("the body is not JSON") from error
        upstream, passage = self._mount(consult, caller)
        asking = _Asking(request, caller, upstream, passage)
        patient = await asking.patient(consult)
        answers = (
            []
            if patient is None
            else [
                [await asking.decision(patient, consult, scope, type_) for type_ in consult.types]
                for scope in consult.scopes
            ]
        )
        base = upstream.identifier
        told = card(answers, base=base, label="Securus consent decisions", url=self._issuer)
        return json_answer(200, {"cards": [told]})

    def _mount(self, consult: Consult, caller: Caller) -> tuple[Upstream, Passing]:
        """The mount that is asked: the one of the token that fhirServer names, or its only one."""
        own = [pair for pair in self._mounts if not pair[0].bases.isdisjoint(caller.audience)]
        if consult.server:
            own = [pair for pair in own if consult.server in pair[0].bases]
        if len(own) != 1:
            raise ConsultError("fhirServer must be a base URL that the access token is for")
        return own[0]


class _Asking:
    """Requests of one caller at one mount."""

    def __init__(self, request: HttpRequest, caller: Caller, upstream: Upstream, passage: Passing) -> None:
        self._request = request
        self._caller = caller
        self._upstream = upstream
        self._passage = passage

    async def patient(self, consult: Consult) -> str | None:
        """The id of the patient; None where the caller finds nobody. Raises Refusal, ConsultError."""
        found: set[str] = set()
        for system, value in consult.patients:
            if not system or system in self._upstream.bases:
                id_ = value.removeprefix("Patient/")
                if not is_id(id_):
                    raise ConsultError("context.patientId is not the id of a patient")
                found.add(id_)
            else:
                text = "|".join(each.translate(_ESCAPED) for each in (system, value))
                form = urlencode([("identifier", text), ("_count", "3")])
                bundle = await self._ask("/Patient/_search", _FORM, form.encode("ascii")) or {}
                # Not every store keeps to its criteria, and a decision about another patient is worse than none.
                found |= set(_ids(bundle, {"system": system, "value": value}))
        if len(found) > 1:
            raise ConsultError("context.patientId must name one patient, not several")
        return next(iter(found), None)

    async def decision(
        self, patient: str, consult: Consult, scope: tuple[str, str], type_: str | None
    ) -> ConsentAnswer:
        """What the consents of a patient say: nothing, where the caller finds no such patient. Raises Refusal."""
        said: list[dict[str, Any]] = [
            {"name": "scope", "valueCoding": {"system": scope[0], "code": scope[1]}},
            *(
                {
                    "name": "actor",
                    "valueIdentifier": {**({"system": system} if system else {}), "value": value},
                }
                for system, value in consult.actors
            ),
            *({"name": "purpose", "valueCode": code} for code in consult.purposes),
            *([] if type_ is None else [{"name": "type", "valueCode": type_}]),
        ]
        body = json.dumps({"resourceType": "Parameters", "parameter": said}).encode()
        found = await self._ask(f"/Patient/{patient}/${NAME}", _JSON, body)
        if found is None:
            return ConsentAnswer(Said.NONE)
        try:
            return read_answer(found)
        except (KeyError, ValueError, TypeError) as error:
            raise Refusal(502, "bad_gateway", "the decision could not be read") from error

    async def _ask(self, path: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
        """The resource of an answer with 200, None of one with 404. Of the call itself only the peer goes on.

        Whoever is not there and whoever the caller may not ask about are 404 alike. Raises Refusal.
        """
        at = self._upstream.at + path
        http = replace(
            self._request,
            method="POST",
            path=at,
            query="",
            url=self._request.origin + at,
            headers=headers,
            certificate=None,
            chain=(),
            body=BytesBody(body),
        )
        answer = await self._passage.handle(http, self._caller)
        try:
            content = await whole_body(answer, max_bytes=_MAX_ANSWER_BYTES)
        except TooLong as error:
            raise Refusal(502, "bad_gateway", "the answer is too long") from error
        except BrokenOff as error:
            raise Refusal(502, "bad_gateway", "the answer broke off") from error
        if answer.status == 400:
            raise Refusal(400, "bad_request", "the decision cannot be asked for with these values")
        if answer.status in (429, 503):
            raise Refusal(503, "unavailable", "the consents could not be had: ask again")
        if answer.status == 404:
            return None
        if answer.status != 200:
            status = answer.status if answer.status < 500 else 502
            raise Refusal(status, "refused", "no policy lets this caller ask for decisions")
        try:
            found = json.loads(content)
        except ValueError as error:
            raise Refusal(502, "bad_gateway", "the answer could not be read") from error
        if not isinstance(found, dict):
            raise Refusal(502, "bad_gateway", "the answer could not be read")
        return found


def _ids(bundle: Mapping[str, Any], identifier: Mapping[str, str]) -> Iterator[str]:
    """The patients of a searchset who have this identifier."""
    for entry in objects(bundle.get("entry")):
        patient = entry.get("resource")
        if not isinstance(patient, Mapping) or patient.get("resourceType") != "Patient":
            continue
        for each in objects(patient.get("identifier")):
            if all(each.get(name) == value for name, value in identifier.items()):
                yield str(patient.get("id"))


def _refused(status: int, error: str, message: str) -> Answer:
    return json_answer(status, {"error": error, "message": message})


_ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\,|$"})
