"""The doors of the gateway: what every request passes before it is anybody's, and whose it is then."""

import logging
from collections.abc import Callable, Sequence

from authz.http import error_answer, json_answer
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.server import AuthorizationServer
from authz.storage.store import StoreUnavailable
from gateway.admission import Admission, Limited
from gateway.audit.log import AuditLog, AuditUnavailable
from gateway.cds_services import PATH as CDS_SERVICES
from gateway.cds_services import CdsServices
from gateway.consent_service.rest import ConsentApi
from gateway.cors import CrossOrigin
from gateway.fhir.outcome import REASONS, Reason
from gateway.mounts import Mount
from gateway.officer.pages import OfficerPages
from gateway.proxy.answers import formats
from gateway.telemetry import Metrics

PAGES = (
    "/authorize",
    "/sign-in",
    "/patient",
    "/encounter",
    "/consent",
    "/logout",
    "/account",
    "/officer",
    "/assets/",
    "/admin/",
)
"""Paths of pages for people, which no other origin reads."""
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_NOTHING = {"error": "not_found", "error_description": "nothing is at this path"}
_log = logging.getLogger("securus.doors")


class Doors:
    """Leads requests to the authorization server or to a mount; the longest path that fits wins."""

    def __init__(
        self,
        *,
        authorization: AuthorizationServer,
        officer: OfficerPages,
        mounts: Sequence[Mount],
        services: CdsServices,
        cors: CrossOrigin,
        admission: Admission,
        audit: AuditLog,
        metrics: Metrics,
        at_once: int,
        make_room: Callable[[], bool],
        consents: ConsentApi,
    ) -> None:
        """at_once is how many requests are answered at once; make_room ends one that only waits for its body, if any."""
        self._authorization = authorization
        self._officer = officer
        self._consents = consents
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.upstream.at))
        self._services = services
        self._cors = cors
        self._admission = admission
        self._audit = audit
        self._metrics = metrics
        self._at_once = at_once
        self._make_room = make_room
        self._inflight = 0
        metrics.inflight.set_function(lambda: self._inflight)

    @property
    def inflight(self) -> int:
        """How many requests are being answered."""
        return self._inflight

    async def handle(self, request: HttpRequest) -> Answer:
        """Dispatch: the authorization server's paths, then the mounts, else nothing is here."""
        if self._inflight >= self._at_once and not self._make_room():
            return self._turned_away(request, Reason.OVERLOADED, "1")
        self._inflight += 1
        try:
            if self._admission.limits_doors:
                await self._admission.at_door(request)
            answer = await self._dispatch(request)
        except Limited as limited:
            return self._turned_away(request, Reason.TOO_MANY_REQUESTS, str(limited.seconds))
        except StoreUnavailable as error:  # of a limit that is counted there
            _log.error("the store does not answer", extra={"cause": str(error)})
            return self._turned_away(request, Reason.STORE_UNAVAILABLE, "2")
        finally:
            self._inflight -= 1
        return self._cors.on(request, answer)

    def _turned_away(self, request: HttpRequest, reason: Reason, retry_after: str) -> Answer:
        """The answer to a request that nobody looked at: cheap, and of no record but the metric."""
        self._metrics.refusals.labels(str(reason)).inc()
        status, _, sentence = REASONS[reason]
        if self._authorization.serves(request.path):
            said = {"error": str(ErrorCode.TEMPORARILY_UNAVAILABLE), "error_description": sentence}
            answer = json_answer(status, said, (("Retry-After", retry_after),))
        else:
            answer = formats.outcome(request, reason, ("Retry-After", retry_after))
        return self._cors.on(request, answer)

    async def _dispatch(self, request: HttpRequest) -> Answer:
        if request.likeness is not None and request.likeness.precedent is not None:
            return await request.likeness.precedent.answer(request)
        if self._officer.serves(request.path):
            return await self._officer.handle(request)
        if not self._authorization.serves(request.path):
            for mount in self._mounts:
                at = mount.upstream.at
                if request.path == at or request.path.startswith(at + "/"):
                    if request.method == "OPTIONS":
                        return self._cors.preflight(request, _METHODS)
                    if mount.signed is not None:
                        return await mount.signed.answer(request, mount.passage.handle)
                    return await mount.passage.handle(request)
            if request.path == CDS_SERVICES or request.path.startswith(CDS_SERVICES + "/"):
                if request.method == "OPTIONS":
                    return self._cors.preflight(request, "GET, POST")
                return await self._services.answer(request)
            if self._consents.serves(request.path):
                if request.method == "OPTIONS":
                    return self._cors.preflight(request, _METHODS)
                return await self._consents.handle(request)
            return json_answer(404, _NOTHING)
        if request.method == "OPTIONS" and not request.path.startswith(PAGES):
            return self._cors.preflight(request, "GET, POST")
        answer = await self._authorization.handle(request)
        try:
            await self._audit.settled()
        except AuditUnavailable:
            self._metrics.refusals.labels(str(Reason.AUDIT_UNAVAILABLE)).inc()
            answer = error_answer(
                OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, "the event could not be recorded")
            )
        return answer or json_answer(404, _NOTHING)
