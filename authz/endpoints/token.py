"""The token endpoint and the revocation endpoint (RFC 6749 3.2, RFC 9449 5, RFC 8705 3, RFC 7009)."""

import secrets

from authz.clock import Clock
from authz.endpoints.client_authentication import ClientAuthentication
from authz.endpoints.grants import GRANTS, Desk, Issue, Turn, revoke
from authz.endpoints.proofs import Proofs
from authz.events import TokenIssued
from authz.http import json_answer, read_form
from authz.keys import KeyRing
from authz.protocol.clients import BindingKind, GrantType
from authz.protocol.encoding import base64url, parse_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import access_token_claims


class TokenEndpoint:
    """POST /token and POST /revoke."""

    def __init__(
        self,
        *,
        issuer: str,
        desk: Desk,
        clients: ClientAuthentication,
        proofs: Proofs,
        keys: KeyRing,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._desk = desk
        self._clients = clients
        self._proofs = proofs
        self._keys = keys
        self._clock = clock

    async def token(self, request: HttpRequest) -> Answer:
        """200 with an access token bound to the key of this request."""
        turn = await self._turn(request)
        with turn.proven.named():
            kind = _kind(turn)
            issue = await GRANTS[kind](turn, self._desk)
        return await self._issue(issue, kind, turn.now)

    async def revocation(self, request: HttpRequest) -> Answer:
        """200 and nothing more, whether there was something to revoke or not (RFC 7009 2.2)."""
        turn = await self._turn(request)
        with turn.proven.named():
            await revoke(turn, self._desk)
        return json_answer(200, {})

    async def _turn(self, request: HttpRequest) -> Turn:
        # The proof stands in a header: a missing nonce is said before the body is read (D6).
        proof = self._proofs.check(request)
        form = parse_form(await read_form(request))
        return Turn(form, self._clients.prove(request, form), proof, self._clock())

    async def _issue(self, issue: Issue, kind: GrantType, now: int) -> Answer:
        lifetime = self._desk.lifetimes.access_token
        token_id = base64url(secrets.token_bytes(32))
        claims = access_token_claims(
            issue.grant,
            issuer=self._issuer,
            token_id=token_id,
            binding=issue.binding,
            now=now,
            lifetime_seconds=lifetime,
            scope=issue.scope,
        )
        value: dict[str, object] = {
            **issue.grant.context,  # SMART App Launch 2.2: patient and the like stand beside the token
            "access_token": await self._keys.sign(claims, typ="at+jwt"),
            "token_type": "DPoP" if issue.binding.kind is BindingKind.DPOP else "Bearer",
            "expires_in": lifetime,
            "scope": " ".join(issue.scope),
        }
        if issue.refresh_token is not None:
            value["refresh_token"] = issue.refresh_token
        grant = issue.grant
        self._desk.emit(
            TokenIssued(
                str(kind), grant.client_id, grant.subject, grant.grant_id, token_id, str(issue.binding.kind)
            )
        )
        return json_answer(200, value)


def _kind(turn: Turn) -> GrantType:
    """The grant that is asked for, when it exists and the client may use it."""
    grant_type = turn.form.get("grant_type")
    if grant_type is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "grant_type is required")
    kind = next((kind for kind in GRANTS if kind == grant_type), None)
    if kind is None:
        raise OAuthError(ErrorCode.UNSUPPORTED_GRANT_TYPE, f"grant_type must be one of {', '.join(GRANTS)}")
    if kind not in turn.client.grant_types:
        raise OAuthError(ErrorCode.UNAUTHORIZED_CLIENT, f"the client is not registered for {kind}")
    return kind
