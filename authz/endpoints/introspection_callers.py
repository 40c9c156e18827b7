"""Who asks about a token by showing one of its own, in place of client credentials (SMART App Launch 2.2 @282).

A resource server shows an access token with the scope securus/introspect, which gateway.yaml gives to clients with
`introspection: all`. Any other client that authenticates may show an access token of its own, and learns of its own
tokens, as it does by its credentials. The token is held to its key as everywhere: DPoP with a proof, or Bearer with
the certificate; a token that is bound to no key is Bearer alone.
"""

from collections.abc import Mapping

from authz.protocol.clients import AuthenticationMethod, Client
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import HttpRequest
from authz.protocol.scopes import INTROSPECTION_SCOPE
from authz.resource_server import ResourceServer

_CREDENTIALS = frozenset({"client_assertion", "client_assertion_type", "client_secret"})


def shows_token(request: HttpRequest) -> bool:
    """Whether the caller shows an access token in the Authorization header."""
    return request.headers.get("authorization", "").partition(" ")[0].lower() in ("bearer", "dpop")


class IntrospectionCallers:
    """Finds the client of the token that is shown. audience is whatever tokens of this server are for."""

    def __init__(
        self, resource_server: ResourceServer, clients: Mapping[str, Client], audience: frozenset[str]
    ) -> None:
        self._resource_server = resource_server
        self._clients = clients
        self._audience = audience

    async def admit(
        self, request: HttpRequest, form: Mapping[str, str]
    ) -> tuple[Client, tuple[tuple[str, str], ...]]:
        """The client, and headers for the answer.

        Raises OAuthError: what ResourceServer.authenticate() raises; INVALID_REQUEST for a second way to say who asks;
        INSUFFICIENT_SCOPE for a public client, and for a resource server whose token has not the scope.
        """
        if not _CREDENTIALS.isdisjoint(form):
            raise OAuthError(
                ErrorCode.INVALID_REQUEST,
                "a caller authenticates by one method: the token in the Authorization header, and nothing beside it",
            )
        found = await self._resource_server.authenticate(request, audience=self._audience)
        client = self._clients.get(found.caller.client_id)
        if client is None:
            raise OAuthError(
                ErrorCode.INVALID_TOKEN, "the client of the access token is not known here any more"
            )
        if client.authentication_method is AuthenticationMethod.NONE:
            raise _insufficient("introspection is for clients that authenticate, not for public ones")
        if client.may_introspect and INTROSPECTION_SCOPE not in found.caller.scope:
            raise _insufficient("the token has no scope securus/introspect: ask for it by client_credentials")
        if INTROSPECTION_SCOPE in found.caller.scope and not client.may_introspect:
            # What was taken from the registration ends now, not with the token.
            raise _insufficient("the client is not registered for securus/introspect any more")
        return client, found.headers


def _insufficient(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INSUFFICIENT_SCOPE, description, fields={"scope": INTROSPECTION_SCOPE})
