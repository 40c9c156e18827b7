"""Token introspection, plain and signed (RFC 7662, RFC 9701, FAPI 2.0 Message Signing 5.5).

Callers authenticate as clients, or show a token of their own (introspection_callers.py).
"""

from collections.abc import Mapping

from authz.clock import Clock
from authz.endpoints.client_authentication import ClientAuthentication
from authz.endpoints.grants import is_spent
from authz.endpoints.introspection_callers import IntrospectionCallers, shows_token
from authz.endpoints.proofs import Proofs
from authz.endpoints.spending import Spending
from authz.events import Emit, Refused
from authz.handles import digest
from authz.http import NO_STORE, error_answer, json_answer, read_form
from authz.keys import KeyRing
from authz.protocol.clients import AuthenticationMethod, BindingKind, Client
from authz.protocol.encoding import parse_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.launch_context import MEMBERS
from authz.protocol.openid import Subjects
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import Caller, Grant
from authz.resource_server import ResourceServer
from authz.settings import Lifetimes
from authz.storage.store import Store

SIGNED_TYPE = "application/token-introspection+jwt"
_TOLD = ("auth_time", "acr", "amr", "fhirUser", "authorization_details", *MEMBERS)
_INACTIVE: Mapping[str, object] = {"active": False}


class Introspection:
    """POST /introspect."""

    def __init__(
        self,
        *,
        issuer: str,
        store: Store,
        clients: ClientAuthentication,
        proofs: Proofs,
        spending: Spending,
        resource_server: ResourceServer,
        callers: IntrospectionCallers,
        registered: Mapping[str, Client],
        subjects: Subjects,
        emit: Emit,
        keys: KeyRing,
        lifetimes: Lifetimes,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._lifetimes = lifetimes
        self._store = store
        self._clients = clients
        self._proofs = proofs
        self._spending = spending
        self._resource_server = resource_server
        self._callers = callers
        self._registered = registered
        self._subjects = subjects
        self._emit = emit
        self._keys = keys
        self._clock = clock

    async def introspect(self, request: HttpRequest) -> Answer:
        """What a token says, to those who may know; {"active": false} and nothing else for every other token (I1)."""
        if shows_token(request):
            return await self._to_bearer(request)
        proof = self._proofs.check(request)
        form = parse_form(await read_form(request))
        proven = await self._clients.prove(request, form)
        with proven.named():
            token = _asked(form)
            client = proven.authenticated.client
            if client.authentication_method is AuthenticationMethod.NONE:
                raise OAuthError(
                    ErrorCode.INVALID_CLIENT,
                    "introspection is for clients that authenticate, not for public ones",
                )
            said = await self._said(token, client)
            await self._spending.spend(proven, proof)
        return await self._answer(request, client, said)

    async def _to_bearer(self, request: HttpRequest) -> Answer:
        """The answer to a caller who shows a token of its own; a refusal tells how to show one (RFC 6750 3)."""
        try:
            form = parse_form(await read_form(request))
            client, headers = await self._callers.admit(request, form)
            await self._clients.admit(client.client_id)
            said = await self._said(_asked(form), client)
        except OAuthError as error:
            self._emit(
                Refused(
                    request.path,
                    str(error.code),
                    error.client_id,
                    error.detail or error.description,
                    request.peer,
                )
            )
            if error.status == 429:
                return error_answer(error)
            value = {"error": str(error.code), "error_description": error.description}
            challenged = error.status in (401, 403)
            challenge = self._resource_server.challenge(error, request) if challenged else ()
            return json_answer(error.status, value, challenge)
        return (await self._answer(request, client, said)).with_headers(headers)

    async def _answer(self, request: HttpRequest, client: Client, said: Mapping[str, object]) -> Answer:
        if SIGNED_TYPE not in request.headers.get("accept", "").lower():
            return json_answer(200, dict(said))
        claims = {
            "iss": self._issuer,
            "aud": client.client_id,
            "iat": self._clock(),
            "token_introspection": dict(said),
        }
        signed = await self._keys.sign(
            claims, typ="token-introspection+jwt", algorithm=client.signed_response_algorithm
        )
        return Answer(200, (("Content-Type", SIGNED_TYPE), *NO_STORE), signed.encode("ascii"))

    async def _said(self, token: str, client: Client) -> Mapping[str, object]:
        caller = await self._resource_server.introspect(token)
        if caller is not None:
            return self._of_access_token(caller, client) if _may_know(client, caller.client_id) else _INACTIVE
        record = await self._store.refresh_token(digest(token), now=self._clock())
        if record is None or not _may_know(client, record.client_id):
            return _INACTIVE
        if is_spent(record, self._lifetimes, self._clock()):
            return _INACTIVE
        grant = await self._store.grant(record.grant_id, now=self._clock())
        owner = self._registered.get(record.client_id)
        if grant is None or owner is None:
            return _INACTIVE
        return {
            "active": True,
            "iss": self._issuer,
            "client_id": record.client_id,
            # As its access tokens name the person: a pairwise subject is the only one that the client may learn.
            "sub": self._subjects.of(owner, grant.subject),
            "scope": " ".join(record.scope),
            "exp": record.expires_at,
            **_told_of_grant(grant),
        }

    def _of_access_token(self, caller: Caller, client: Client) -> Mapping[str, object]:
        told = set(_TOLD)
        if not client.may_introspect and "fhirUser" not in caller.scope:
            told.discard("fhirUser")  # who the person is, an app asks by that scope (SMART App Launch 2.2)
        kind, confirmation = caller.binding.kind, caller.claims.get("cnf")
        return {
            "active": True,
            "iss": caller.issuer,
            "client_id": caller.client_id,
            "sub": caller.subject,
            "aud": list(caller.audience) if len(caller.audience) != 1 else caller.audience[0],
            "scope": " ".join(caller.scope),
            "token_type": "DPoP" if kind is BindingKind.DPOP else "Bearer",
            **({} if confirmation is None else {"cnf": confirmation}),
            "jti": caller.token_id,
            "iat": caller.issued_at,
            "exp": caller.expires_at,
            **{name: caller.claims[name] for name in _TOLD if name in told and name in caller.claims},
        }


def _asked(form: Mapping[str, str]) -> str:
    token = form.get("token")
    if not token:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "token is required")
    return token


def _told_of_grant(grant: Grant) -> Mapping[str, object]:
    """When and how the person signed in, and what was granted in detail (RFC 9470 6.2, RFC 9396 9.2)."""
    said: dict[str, object] = {}
    if grant.authenticated_at is not None:
        said["auth_time"] = grant.authenticated_at
    if grant.acr is not None:
        said["acr"] = grant.acr
    if grant.authorization_details:
        said["authorization_details"] = list(grant.authorization_details)
    return said


def _may_know(client: Client, owner: str) -> bool:
    return client.may_introspect or client.client_id == owner
