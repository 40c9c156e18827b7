"""The userinfo endpoint, plain and signed (OpenID Connect Core 5.3)."""

from collections.abc import Mapping

from authz.clock import Clock
from authz.events import Emit, Refused
from authz.http import NO_STORE, json_answer
from authz.keys import KeyRing
from authz.login.accounts import person_of
from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.openid import Subjects, userinfo_claims
from authz.protocol.request import Answer, HttpRequest
from authz.resource_server import ResourceServer
from authz.settings import Account
from authz.storage.store import Store

_SIGNED_TYPE = "application/jwt"


class Userinfo:
    """GET and POST /userinfo, for access tokens with the scope openid, whatever resource they are for."""

    def __init__(
        self,
        *,
        issuer: str,
        store: Store,
        clients: Mapping[str, Client],
        accounts: Mapping[str, Account],
        resource_server: ResourceServer,
        subjects: Subjects,
        keys: KeyRing,
        audience: frozenset[str],
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._store = store
        self._clients = clients
        self._accounts = accounts
        self._resource_server = resource_server
        self._subjects = subjects
        self._keys = keys
        self._audience = audience
        self._emit = emit
        self._clock = clock

    async def tell(self, request: HttpRequest) -> Answer:
        """What the person behind the token allowed to be told; signed where the client registered that or
        accepts application/jwt only."""
        try:
            found = await self._resource_server.authenticate(request, audience=self._audience)
            caller = found.caller
            if "openid" not in caller.scope:
                raise OAuthError(
                    ErrorCode.INSUFFICIENT_SCOPE,
                    "the token has no scope openid: ask for it in the authorization request",
                    fields={"scope": "openid"},
                )
            grant = await self._store.grant(caller.grant_id or "", now=self._clock())
            client = self._clients.get(caller.client_id)
            account = None if grant is None else self._accounts.get(grant.subject)
            if grant is None or client is None or account is None:
                raise OAuthError(
                    ErrorCode.INVALID_TOKEN,
                    "the grant of this token has ended: begin a new authorization request",
                )
        except OAuthError as error:
            return self._refused(error, request)
        said = userinfo_claims(
            grant,
            subject=self._subjects.of(client, grant.subject),
            person=person_of(account),
            scope=caller.scope,
        )
        if not (client.signed_userinfo_required or _wants_signed(request.headers.get("accept", ""))):
            return json_answer(200, said, found.headers)
        claims = {**said, "iss": self._issuer, "aud": client.client_id}
        signed = await self._keys.sign(claims, typ="JWT", algorithm=client.signed_response_algorithm)
        headers = (("Content-Type", _SIGNED_TYPE), *NO_STORE, *found.headers)
        return Answer(200, headers, signed.encode("ascii"))

    def _refused(self, error: OAuthError, request: HttpRequest) -> Answer:
        """A protected resource's refusal: 401 or 403 with WWW-Authenticate (RFC 6750 3, RFC 9449 7.1)."""
        self._emit(
            Refused(request.path, str(error.code), None, error.detail or error.description, request.peer)
        )
        told = error if "authorization" in request.headers else None
        challenge = self._resource_server.challenge(told, request)
        status = 401 if error.status == 400 and error.code is not ErrorCode.INVALID_REQUEST else error.status
        value = {"error": str(error.code), "error_description": error.description}
        return json_answer(status, value, challenge)


def _wants_signed(accept: str) -> bool:
    """Plain JSON is the default (OpenID Connect Core 5.3.2): who takes both, in whatever order, gets that."""
    types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return _SIGNED_TYPE in types and "application/json" not in types
