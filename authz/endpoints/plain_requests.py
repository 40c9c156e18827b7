"""Authorization requests that were not pushed: in the address or in a form, for profiles that allow it.

SMART App Launch 2.2 2.0.9: the authorization server supports GET and POST. What comes this way is held to the rules of
a pushed request and is then kept as one: from there on nothing differs. Where the client and its address are not
proved there is a page and never a redirect (RFC 6749 4.1.2.1).
"""

from collections.abc import Mapping

from authz.clock import Clock
from authz.endpoints.authorization_response import AuthorizationResponses
from authz.endpoints.launches import Launches
from authz.endpoints.own_id_tokens import read_hint
from authz.endpoints.pushed_authorization import request_id
from authz.endpoints.visits import PageError
from authz.events import Emit, Refused
from authz.handles import new_handle
from authz.http import read_form
from authz.keys import KeyRing
from authz.login.accounts import network_of
from authz.protocol import authorization, authorization_answers
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import Client, ProfileName
from authz.protocol.encoding import parse_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.request import Answer, HttpRequest
from authz.storage.store import PushedRequest, Store

_A_MINUTE = 120  # so many requests from one address: nobody has authenticated yet, and each leaves a row


class PlainRequests:
    """Takes authorization requests that were not pushed."""

    def __init__(
        self,
        *,
        profiles: frozenset[ProfileName],
        store: Store,
        clients: Mapping[str, Client],
        server: ServerBits,
        launches: Launches,
        responses: AuthorizationResponses,
        keys: KeyRing,
        lifetime_seconds: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._profiles = profiles
        self._store = store
        self._clients = clients
        self._server = server
        self._launches = launches
        self._responses = responses
        self._keys = keys
        self._lifetime_seconds = lifetime_seconds
        self._emit = emit
        self._clock = clock

    @property
    def exist(self) -> bool:
        """Whether a profile that is switched on allows them."""
        return any(not PROFILES[name].pushed_requests_required for name in self._profiles)

    async def take(self, request: HttpRequest) -> PushedRequest | Answer | None:
        """The request as a pushed one; the error at the client's address; None for what must have been pushed.

        Raises PageError, and OAuthError for what has no single reading.
        """
        if not self.exist:
            return None
        content = request.query.encode("ascii") if request.method == "GET" else await read_form(request)
        form = parse_form(content, repeatable=authorization.REPEATABLE)
        if "request_uri" in form and request.method == "GET":
            return None
        client = self._clients.get(form.get("client_id", ""))
        if client is None or client.profile not in self._profiles:
            raise PageError("error.client_unnamed")
        if PROFILES[client.profile].pushed_requests_required:
            return None
        target = authorization_answers.locate(form, client)
        if (
            await self._store.count(f"plain:{network_of(request.peer)}", window_seconds=60, now=self._clock())
            > _A_MINUTE
        ):
            raise PageError("error.too_many", status=429)
        try:
            return await self._kept(self._checked(form, client))
        except OAuthError as error:
            self._emit(Refused("/authorize", str(error.code), client.client_id, error.description))
            return await self._responses.failure(target, error)

    def _checked(self, form: Mapping[str, str], client: Client) -> authorization.AuthorizationRequest:
        if "request" in form or client.signed_requests_required:
            raise OAuthError(
                ErrorCode.REQUEST_NOT_SUPPORTED, "a request object is taken by PAR only: push it"
            )
        asked = authorization.check(form, client, self._server)
        hint = asked.parameters.get("id_token_hint")
        if hint is not None and read_hint(hint, self._keys, self._server.issuer) is None:
            raise OAuthError(ErrorCode.INVALID_REQUEST, "id_token_hint is not an ID token of this server")
        return asked

    async def _kept(self, asked: authorization.AuthorizationRequest) -> PushedRequest:
        record = PushedRequest(
            id=request_id(new_handle()),
            client_id=asked.client_id,
            parameters=await self._launches.resolve(asked),
            dpop_jkt=asked.dpop_jkt,
            expires_at=self._clock() + self._lifetime_seconds,
        )
        await self._store.put_pushed_request(record)
        return record
