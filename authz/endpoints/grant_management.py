"""Grants, seen and ended by the client that holds them (OAuth 2.0 Grant Management for FAPI)."""

from authz.clock import Clock
from authz.endpoints.turns import Desk, end_grant
from authz.events import Refused
from authz.http import NO_STORE, json_answer
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Grant
from authz.resource_server import ResourceServer

PATH = "/grants/"
QUERY, REVOKE = "grant_management_query", "grant_management_revoke"


class GrantManagement:
    """GET and DELETE /grants/{grant_id}, with a token that the client has for itself."""

    def __init__(
        self, desk: Desk, resource_server: ResourceServer, audience: frozenset[str], clock: Clock
    ) -> None:
        self._desk = desk
        self._resource_server = resource_server
        self._audience = audience
        self._clock = clock

    async def query(self, request: HttpRequest) -> Answer:
        """200 with what was granted."""
        try:
            grant, headers = await self._own(request, QUERY)
        except OAuthError as error:
            return self._refused(error, request)
        value: dict[str, object] = {
            "scopes": [{"scope": " ".join(grant.scope), "resources": list(grant.audience)}],
            "authorization_details": list(grant.authorization_details),
        }
        return json_answer(200, value, headers)

    async def revoke(self, request: HttpRequest) -> Answer:
        """204: the grant and all its tokens have ended, at the gateway too."""
        try:
            grant, headers = await self._own(request, REVOKE)
        except OAuthError as error:
            return self._refused(error, request)
        await end_grant(self._desk, grant.grant_id, grant.client_id, self._clock(), "client")
        return Answer(204, (*NO_STORE, *headers))

    async def _own(self, request: HttpRequest, scope: str) -> tuple[Grant, tuple[tuple[str, str], ...]]:
        """The grant of this path. Another client's is not there for the caller (403 would tell that it is)."""
        found = await self._resource_server.authenticate(request, audience=self._audience)
        if scope not in found.caller.scope:
            raise OAuthError(
                ErrorCode.INSUFFICIENT_SCOPE,
                f"the token has no scope {scope}: ask for it by client_credentials",
                fields={"scope": scope},
            )
        grant_id = request.path.removeprefix(PATH)
        grant = await self._desk.store.grant(grant_id, now=self._clock())
        if grant is None or grant.client_id != found.caller.client_id:
            raise OAuthError(
                ErrorCode.INVALID_GRANT,
                "there is no such grant of this client: use the grant_id of a token response",
                status=404,
            )
        return grant, found.headers

    def _refused(self, error: OAuthError, request: HttpRequest) -> Answer:
        # Without the id of the grant, which a stranger may have made up.
        self._desk.emit(Refused(PATH, str(error.code), None, error.detail or error.description, request.peer))
        value = {"error": str(error.code), "error_description": error.description}
        if error.status == 404:
            return json_answer(404, value)
        told = error if "authorization" in request.headers else None
        return json_answer(error.status, value, self._resource_server.challenge(told, request))
