"""The token endpoint and the revocation endpoint (RFC 6749 3.2, RFC 9449 5, RFC 8705 3, RFC 7009)."""

import secrets
from collections.abc import Mapping

from authz.clock import Clock
from authz.endpoints.client_authentication import ClientAuthentication
from authz.endpoints.grants import GRANTS, revoke
from authz.endpoints.proofs import Proofs
from authz.endpoints.turns import Desk, Issue, Turn
from authz.events import TokenIssued
from authz.http import json_answer, read_form
from authz.keys import KeyRing
from authz.login.accounts import person_of
from authz.protocol.authorization import REPEATABLE
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import BindingKind, GrantType
from authz.protocol.encoding import base64url, parse_form
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.openid import Subjects, id_token_claims
from authz.protocol.request import Answer, HttpRequest
from authz.protocol.tokens import access_token_claims

_KINDS = {kind.value: kind for kind in GRANTS}


class TokenEndpoint:
    """POST /token and POST /revoke."""

    def __init__(
        self,
        *,
        issuer: str,
        desk: Desk,
        clients: ClientAuthentication,
        proofs: Proofs,
        subjects: Subjects,
        keys: KeyRing,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._subjects = subjects
        self._desk = desk
        self._clients = clients
        self._proofs = proofs
        self._keys = keys
        self._clock = clock

    async def token(self, request: HttpRequest) -> Answer:
        """200 with an access token bound to the key of this request."""
        turn = await self._turn(request, repeatable=REPEATABLE)
        try:
            kind = _kind(turn)
            issue = await GRANTS[kind](turn, self._desk)
        except OAuthError as error:
            error.client_id = turn.client.client_id
            raise
        return await self._issue(issue, kind, turn)

    async def revocation(self, request: HttpRequest) -> Answer:
        """200 and nothing more, whether there was something to revoke or not (RFC 7009 2.2)."""
        turn = await self._turn(request)
        with turn.proven.named():
            await revoke(turn, self._desk)
        return json_answer(200, {})

    async def _turn(self, request: HttpRequest, *, repeatable: frozenset[str] = frozenset()) -> Turn:
        # The proof stands in a header: a missing nonce is said before the body is read (D6).
        proof = self._proofs.check(request)
        form = parse_form(await read_form(request), repeatable=repeatable)
        return Turn(form, await self._clients.prove(request, form), proof, self._clock(), request)

    async def _issue(self, issue: Issue, kind: GrantType, turn: Turn) -> Answer:
        now, grant = turn.now, issue.grant
        subject = grant.subject
        if kind is not GrantType.CLIENT_CREDENTIALS:
            subject = self._subjects.of(turn.client, subject)
        lifetime = self._desk.access_token_seconds(kind, issue.binding)
        token_id = base64url(secrets.token_bytes(32))
        claims = access_token_claims(
            issue.grant,
            issuer=self._issuer,
            token_id=token_id,
            binding=issue.binding,
            now=now,
            lifetime_seconds=lifetime,
            scope=issue.scope,
            subject=subject,
        )
        access_token = await self._keys.sign(claims, typ="at+jwt")
        value: dict[str, object] = {
            **issue.grant.context,  # SMART App Launch 2.2: patient and the like stand beside the token
            "access_token": access_token,
            "token_type": "DPoP" if issue.binding.kind is BindingKind.DPOP else "Bearer",
            "expires_in": lifetime,
            "scope": " ".join(issue.scope),
        }
        if issue.refresh_token is not None:
            value["refresh_token"] = issue.refresh_token
        if "openid" in issue.scope and kind is not GrantType.CLIENT_CREDENTIALS:
            value["id_token"] = await self._id_token(issue, turn, subject, access_token)
        if grant.authorization_details:
            value["authorization_details"] = list(grant.authorization_details)
        if grant.managed:
            value["grant_id"] = grant.grant_id
        self._desk.emit(
            TokenIssued(
                str(kind),
                grant.client_id,
                grant.subject,
                grant.grant_id,
                token_id,
                str(issue.binding.kind),
                turn.request.peer,
            )
        )
        return json_answer(200, value)

    async def _id_token(self, issue: Issue, turn: Turn, subject: str, access_token: str) -> str:
        """An ID token (K5), after a refresh too: then without nonce (OpenID Connect Core 12.2)."""
        account = self._desk.accounts.get(issue.grant.subject)

        def claims_for(algorithm: str) -> Mapping[str, object]:
            return id_token_claims(
                issue.grant,
                issuer=self._issuer,
                subject=subject,
                person={} if account is None else person_of(account),
                scope=issue.scope,
                nonce=issue.nonce,
                access_token=access_token,
                algorithm=algorithm,
                now=turn.now,
            )

        wanted = turn.client.id_token_algorithm or turn.client.signed_response_algorithm
        return await self._keys.sign_id_token(claims_for, wanted)


def _kind(turn: Turn) -> GrantType:
    """The grant that is asked for, when it exists and the client may use it."""
    grant_type = turn.form.get("grant_type")
    if grant_type is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"grant_type is required: one of {', '.join(GRANTS)}")
    kind = _KINDS.get(grant_type)
    if kind is None:
        raise OAuthError(ErrorCode.UNSUPPORTED_GRANT_TYPE, f"grant_type must be one of {', '.join(GRANTS)}")
    client = turn.client
    if kind not in client.grant_types or kind not in PROFILES[client.profile].grant_types:
        allowed = ", ".join(sorted(client.grant_types))
        raise OAuthError(
            ErrorCode.UNAUTHORIZED_CLIENT, f"the client is not registered for {kind}: it has {allowed}"
        )
    return kind
