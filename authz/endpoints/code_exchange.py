"""A code for tokens (RFC 6749 4.1.3, 4.1.4): judged in the step of the store that uses the code up."""

from dataclasses import replace

from authz.endpoints.turns import Desk, Issue, Turn, binding_of, end_grant, invalid, narrowed, required
from authz.endpoints.unproven_requests import may_guess, note_guess
from authz.handles import digest, new_handle
from authz.protocol import pkce
from authz.protocol.client_profiles import PROFILES, may_refresh
from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.redirect_uris import is_registered
from authz.protocol.tokens import Binding, Grant
from authz.storage.grants import (
    AuthorizationCode,
    GrantUntil,
    RedeemedCode,
    Redeeming,
    Redemption,
    RefreshToken,
)


async def authorization_code(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 4.1.3 with PKCE, bound to the key that PAR named (A2, A3, A4, P11)."""
    handle = required(turn, "code")
    if PROFILES[turn.client.profile].redirect_uri_repeated:
        required(turn, "redirect_uri")
    exchange = _Exchange(turn, desk, binding_of(turn, desk))
    if exchange.leaves_rows_of_nobody and not await may_guess(desk.store, turn.request.peer, now=turn.now):
        raise OAuthError(
            ErrorCode.TEMPORARILY_UNAVAILABLE,
            "too many unknown codes come from this address: wait as long as Retry-After says",
            status=429,
            retry_after_seconds=60,
        )
    await desk.spending.spend(turn.proven, turn.proof, then=Redeeming(digest(handle), exchange.judge))
    return await exchange.issue()


class _Exchange:
    """One exchange of a code."""

    def __init__(self, turn: Turn, desk: Desk, binding: Binding) -> None:
        self._turn = turn
        self._desk = desk
        self._binding = binding
        self._redeemed: RedeemedCode | None = None
        self._issue: Issue | None = None
        self._refused: Exception | None = None

    @property
    def leaves_rows_of_nobody(self) -> bool:
        """Whether a proof is claimed of a client that proves nothing else: anybody can make one."""
        method = self._turn.client.authentication_method
        return self._turn.proof is not None and method is AuthenticationMethod.NONE

    def judge(self, redeemed: RedeemedCode | None, grant: Grant | None) -> GrantUntil | None:
        """The grant as it goes on; None where there are no tokens.

        The code is burnt, whatever is wrong: who guesses a verifier has one try. So nothing is raised here, which would
        take its use back.
        """
        self._redeemed, self._issue, self._refused = redeemed, None, None
        if redeemed is None or redeemed.redemption is Redemption.AGAIN:
            return None
        try:
            return self._judged(redeemed.code, grant)
        except Exception as error:
            self._refused = error
            return None

    def _judged(self, code: AuthorizationCode, grant: Grant | None) -> GrantUntil:
        turn, desk, binding = self._turn, self._desk, self._binding
        _check_code(turn, code, binding)
        if grant is None:
            raise invalid("the grant of this code is gone: begin a new authorization request")
        aimed = narrowed(turn, desk, grant)
        handle = None
        # A client that may leave out proofs is told by its request, not by this one, what the person read of its stay.
        bound = turn.client.binding is not BindingKind.NONE or code.dpop_jkt is not None
        if _stays_connected(turn.client, grant) and may_refresh(
            turn.client, bound=bound, rotates=desk.rotates
        ):
            handle = new_handle()
        access = desk.access_token_seconds(GrantType.AUTHORIZATION_CODE, binding)
        stays = access if handle is None else desk.lifetimes.refresh_token
        self._issue = Issue(aimed, grant.scope, binding, handle, code.nonce)
        return GrantUntil(
            replace(grant, used_at=turn.now, ends_at=turn.now + stays),
            turn.now + desk.lifetimes.access_token,
            None if handle is None else _refresh_token(handle, turn, desk, grant, binding),
        )

    async def issue(self) -> Issue:
        """What is issued. Raises what was found wrong; of a code that was used before, the grant is ended."""
        if self._refused is not None:
            raise self._refused
        if self._issue is not None:
            return self._issue
        if self._redeemed is None:
            if self.leaves_rows_of_nobody:
                await note_guess(self._desk.store, self._turn.request.peer, now=self._turn.now)
            raise invalid("the code is not known here or has expired: begin a new authorization request")
        code = self._redeemed.code
        await end_grant(self._desk, code.grant_id, code.client_id, self._turn.now, "code-replayed")
        raise invalid("the code was used before; the tokens that came of it are revoked: use a code once")


def _check_code(turn: Turn, code: AuthorizationCode, binding: Binding) -> None:
    if code.client_id != turn.client.client_id:
        raise invalid("the code was issued to another client: the one that asked for it redeems it")
    if "redirect_uri" in turn.form and turn.form["redirect_uri"] != code.redirect_uri:
        raise invalid("redirect_uri is not the one of the authorization request")
    if not is_registered(code.redirect_uri, turn.client.redirect_uris):
        raise invalid("the code went to an address that is not registered for this client any more")
    pkce.verify(turn.form.get("code_verifier"), code.code_challenge)
    if code.dpop_jkt is not None and (
        binding.kind is not BindingKind.DPOP or binding.thumbprint != code.dpop_jkt
    ):
        raise invalid("the code is bound to another DPoP key: use the one that the pushed request named")


def _stays_connected(client: Client, grant: Grant) -> bool:
    """Whether a refresh token is due: SMART clients ask for it by scope, others by being registered for it."""
    if GrantType.REFRESH_TOKEN not in client.grant_types:
        return False
    asking = {"offline_access", "online_access"}
    return bool(asking & set(grant.scope)) or not asking & set(client.scope)


def _refresh_token(handle: str, turn: Turn, desk: Desk, grant: Grant, binding: Binding) -> RefreshToken:
    # Whoever has it is all that a public client proves of itself: it is held to the key, or the certificate (RFC 8705 4).
    public = turn.client.authentication_method is AuthenticationMethod.NONE
    return RefreshToken(
        id=digest(handle),
        grant_id=grant.grant_id,
        client_id=grant.client_id,
        scope=grant.scope,
        jkt=binding.thumbprint if public and binding.kind is not BindingKind.NONE else None,
        expires_at=turn.now + desk.lifetimes.refresh_token,
    )
