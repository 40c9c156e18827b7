"""The pushed authorization request endpoint (RFC 9126, FAPI 2.0 Security Profile 5.3.2.2)."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from authz.clock import Clock
from authz.endpoints.client_authentication import ClientAuthentication
from authz.endpoints.launches import Launches
from authz.endpoints.own_id_tokens import read_hint
from authz.endpoints.proofs import Proofs
from authz.endpoints.spending import Spending
from authz.endpoints.unproven_requests import may_ask
from authz.events import ClockCompared, Emit
from authz.handles import new_handle
from authz.http import json_answer, read_form
from authz.keys import KeyRing
from authz.protocol import authorization
from authz.protocol.clients import AuthenticationMethod, Client
from authz.protocol.encoding import base64url, parse_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.request_objects import check_request_object
from authz.storage.interactions import PushedRequest
from authz.storage.store import Store

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"


class PushedAuthorization:
    """POST /par."""

    def __init__(
        self,
        *,
        store: Store,
        clients: ClientAuthentication,
        proofs: Proofs,
        spending: Spending,
        launches: Launches,
        server: ServerBits,
        keys: KeyRing,
        lifetime_seconds: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._store = store
        self._clients = clients
        self._proofs = proofs
        self._spending = spending
        self._launches = launches
        self._server = server
        self._keys = keys
        self._lifetime_seconds = lifetime_seconds
        self._emit = emit
        self._clock = clock

    async def push(self, request: HttpRequest) -> Answer:
        """201 with a request_uri for an authorization request that passed every rule."""
        proof = self._proofs.check(request)
        form = parse_form(await read_form(request), repeatable=authorization.REPEATABLE)
        proven = await self._clients.prove(request, form)
        with proven.named():
            client = proven.authenticated.client
            asked = authorization.check(
                await self._parameters(form, client),
                client,
                self._server,
                proof_thumbprint=None if proof is None else proof.thumbprint,
            )
            hint = asked.parameters.get("id_token_hint")
            if hint is not None and read_hint(hint, self._keys, self._server.issuer) is None:
                raise OAuthError(
                    ErrorCode.INVALID_REQUEST,
                    "id_token_hint is not an ID token of this server: send one that it issued, or none",
                )
            await self._admit_unproven(client, request)
            handle = new_handle()
            pushed = PushedRequest(
                id=request_id(handle),
                client_id=asked.client_id,
                parameters=asked.parameters,
                dpop_jkt=asked.dpop_jkt,
                expires_at=self._clock() + self._lifetime_seconds,
            )
            if "launch" in asked.parameters:
                await self._spending.spend(proven, proof)
                # Uses the launch up: after all that may be repeated.
                parameters = await self._launches.resolve(asked)
                await self._store.put_pushed_request(replace(pushed, parameters=parameters))
            else:
                await self._spending.spend(proven, proof, then=pushed)
        value = {"request_uri": REQUEST_URI_PREFIX + handle, "expires_in": self._lifetime_seconds}
        return json_answer(201, value)

    async def _admit_unproven(self, client: Client, request: HttpRequest) -> None:
        """Raise OAuthError (429) where somebody who only says to be a client has too many requests kept."""
        proves_nothing = client.authentication_method is AuthenticationMethod.NONE
        if proves_nothing and not await may_ask(self._store, request.peer, now=self._clock()):
            raise OAuthError(
                ErrorCode.TEMPORARILY_UNAVAILABLE,
                "too many requests come from this address: wait as long as Retry-After says",
                status=429,
                retry_after_seconds=60,
            )

    async def _parameters(self, form: Mapping[str, str], client: Client) -> Mapping[str, str]:
        """The request that counts: that of the form, or of the signed request object in it and nothing else (S2)."""
        if "request" not in form:
            if client.signed_requests_required:
                raise OAuthError(
                    ErrorCode.INVALID_REQUEST, "this client must sign its requests: send a request object"
                )
            return form
        if "request_uri" in form:
            raise OAuthError(
                ErrorCode.INVALID_REQUEST,
                "request_uri is not a parameter of a pushed request: push the parameters themselves",
            )
        now = self._clock()
        try:
            found = check_request_object(
                form["request"],
                client=client,
                keys=await self._clients.keys_for(client, form["request"]),
                issuer=self._server.issuer,
                now=now,
            )
        except OAuthError as error:
            if error.skew_seconds is not None:
                self._emit(ClockCompared("request_object", error.skew_seconds))
            raise
        self._emit(ClockCompared("request_object", found.client_time - now))
        return found.parameters


def request_id(handle: str) -> str:
    """The store's id of a pushed request, from the part of request_uri behind the prefix."""
    return base64url(sha256(handle.encode()).digest())
