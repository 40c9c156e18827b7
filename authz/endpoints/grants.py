"""Grants at the token endpoint: code, refresh token, client credentials (RFC 6749 4.1.3, 6, 4.4).

Each takes a Turn, the token request whose client and proof were found right, and gives what is issued. What the
client may send again stands before spend(); what must burn a code stands after it was redeemed.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from authz.endpoints.client_authentication import Proven
from authz.endpoints.pickers import Pickers
from authz.endpoints.spending import Spending
from authz.events import Emit, GrantRevoked
from authz.grant_endings import NODES_SECONDS
from authz.handles import digest, new_grant_id, new_handle
from authz.login.finding import FinderUnavailable
from authz.login.launch import is_patients_own, records
from authz.login.relations import Relations
from authz.login.represented import claims_for
from authz.protocol import administration, granting, pkce
from authz.protocol.client_profiles import UNBOUND_SECONDS, may_have_unbound_tokens, may_refresh
from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType, ProfileName
from authz.protocol.dpop import Proof
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.request import HttpRequest
from authz.protocol.scopes import covered
from authz.protocol.tokens import Binding, Caller, Grant
from authz.revocations import Revocations
from authz.settings import Account, Lifetimes
from authz.storage.store import AuthorizationCode, GrantUntil, Redemption, RefreshToken, Store


@dataclass(frozen=True, slots=True)
class Turn:
    """A token request: its form, its client and its proof, nothing spent yet."""

    form: Mapping[str, str]
    proven: Proven
    proof: Proof | None
    now: int
    request: HttpRequest

    @property
    def client(self) -> Client:
        """The authenticated client."""
        return self.proven.authenticated.client


@dataclass(frozen=True, slots=True)
class Issue:
    """What is to be issued: an access token for grant, bound to binding, and perhaps a refresh token."""

    grant: Grant
    scope: tuple[str, ...]
    binding: Binding
    refresh_token: str | None
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What the grants work with. accounts are by subject."""

    store: Store
    spending: Spending
    server: ServerBits
    accounts: Mapping[str, Account]
    lifetimes: Lifetimes
    revocations: Revocations
    read_token: Callable[[str], Caller | None]
    pickers: Pickers
    relations: Relations
    emit: Emit
    rotates: bool = False
    profiles: frozenset[ProfileName] = frozenset({ProfileName.FAPI2})

    def access_token_seconds(self, kind: GrantType, binding: Binding) -> int:
        """How long an access token lives: those of backends and those that are bound to no key five minutes at most."""
        most = self.lifetimes.access_token
        short = kind is GrantType.CLIENT_CREDENTIALS or binding.kind is BindingKind.NONE
        return min(most, UNBOUND_SECONDS) if short else most


async def authorization_code(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 4.1.3 with PKCE, bound to the key that PAR named (A2, A3, A4, P11)."""
    handle = _required(turn, "code")
    binding = _binding(turn, desk)
    await _spend(turn, desk)
    # From here on the code is burnt, whatever else is wrong: who guesses a verifier has one try.
    redeemed = await desk.store.redeem_code(digest(handle), now=turn.now)
    if redeemed is None:
        raise _invalid("the code is not known here or has expired: begin a new authorization request")
    code = redeemed.code
    if redeemed.redemption is Redemption.AGAIN:
        await end_grant(desk, code.grant_id, code.client_id, turn.now, "code-replayed")
        raise _invalid("the code was used before; the tokens that came of it are revoked: use a code once")
    _check_code(turn, code, binding)
    grant = await desk.store.grant(code.grant_id, now=turn.now)
    if grant is None:
        raise _invalid("the grant of this code is gone: begin a new authorization request")
    aimed = _narrowed(turn, desk, grant)
    refresh_token = None
    # A client that may leave out proofs is told by its request, not by this one, what the person read of its stay.
    bound = turn.client.binding is not BindingKind.NONE or code.dpop_jkt is not None
    if _stays_connected(turn.client, grant) and may_refresh(turn.client, bound=bound, rotates=desk.rotates):
        refresh_token = new_handle()
    access = desk.access_token_seconds(GrantType.AUTHORIZATION_CODE, binding)
    stays = access if refresh_token is None else desk.lifetimes.refresh_token
    used = replace(grant, used_at=turn.now, ends_at=turn.now + stays)
    await desk.store.put_grant(
        used,
        expires_at=turn.now + desk.lifetimes.access_token,
        refresh_token=None
        if refresh_token is None
        else _refresh_token(refresh_token, turn, desk, grant, binding),
    )
    return Issue(aimed, grant.scope, binding, refresh_token, code.nonce)


def _check_code(turn: Turn, code: AuthorizationCode, binding: Binding) -> None:
    if code.client_id != turn.client.client_id:
        raise _invalid("the code was issued to another client: the one that asked for it redeems it")
    if "redirect_uri" in turn.form and turn.form["redirect_uri"] != code.redirect_uri:
        raise _invalid("redirect_uri is not the one of the authorization request")
    pkce.verify(turn.form.get("code_verifier"), code.code_challenge)
    if code.dpop_jkt is not None and (
        binding.kind is not BindingKind.DPOP or binding.thumbprint != code.dpop_jkt
    ):
        raise _invalid("the code is bound to another DPoP key: use the one that the pushed request named")


async def refresh_token(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 6: the same refresh token stays good; the new access token is bound to the key of this request (K3)."""
    handle = _required(turn, "refresh_token")
    binding = _binding(turn, desk)
    record = await desk.store.refresh_token(digest(handle), now=turn.now)
    if record is None or record.client_id != turn.client.client_id:
        raise _invalid(
            "the refresh token is not known here, has expired or was revoked: begin a new authorization request"
        )
    if is_spent(record, desk.lifetimes, turn.now):
        # The client has its successor: whoever comes with this one now stole it, or from whom it was stolen.
        await end_grant(desk, record.grant_id, record.client_id, turn.now, "refresh-token-replayed")
        raise _invalid(
            "the refresh token was replaced before; the grant is revoked: begin a new authorization request"
        )
    if record.jkt is not None and record.jkt != binding.thumbprint:
        raise _invalid("the refresh token is bound to another key: use the one that it was issued to")
    if not may_refresh(turn.client, bound=_is_held(record, turn.client), rotates=desk.rotates):
        raise _invalid("the refresh token is held to no key: begin a new authorization request")
    grant = await desk.store.grant(record.grant_id, now=turn.now)
    if grant is None:
        raise _invalid("the grant of this refresh token was revoked: begin a new authorization request")
    if grant.session_id is not None and await desk.store.session(grant.session_id, now=turn.now) is None:
        raise _invalid(
            "the person signed out, with whom online_access ends: begin a new authorization request"
        )
    # What was taken from the client's registration since then is not given any more.
    left = tuple(text for text in record.scope if covered(text, turn.client.scope))
    scope = granting.narrowed_scope(turn.form, left, desk.server)
    aimed = _narrowed(turn, desk, await _of_today(grant, turn, desk, binding))
    if not scope:
        said = "the client is not registered any more for anything that was granted"
        raise _invalid(f"{said}: ask for scopes that it has")
    used = GrantUntil(replace(grant, used_at=turn.now), turn.now + desk.lifetimes.access_token)
    if not desk.rotates:
        await _spend(turn, desk, then=used)
        return Issue(aimed, scope, binding, None)
    await _spend(turn, desk)
    successor = await _replace(turn, desk, record)
    await desk.store.put_grant(used.grant, expires_at=used.expires_at)
    return Issue(aimed, scope, binding, successor)


def is_spent(record: RefreshToken, lifetimes: Lifetimes, now: int) -> bool:
    """Whether a refresh token was replaced so long ago that its successor must have arrived."""
    return record.replaced_at is not None and record.replaced_at + lifetimes.refresh_grace <= now


async def _replace(turn: Turn, desk: Desk, record: RefreshToken) -> str:
    """The successor of a refresh token (K3, RFC 9700 4.14.2); it lives as long as the first one would have."""
    handle = new_handle()
    successor = replace(record, id=digest(handle), replaced_at=None)
    grace = desk.lifetimes.refresh_grace
    if not await desk.store.replace_refresh_token(record.id, by=successor, now=turn.now, grace_seconds=grace):
        raise _invalid("the refresh token was replaced before: use its successor")
    return handle


async def _of_today(grant: Grant, turn: Turn, desk: Desk, binding: Binding) -> Grant:
    """The grant with what the person's account says now: a role or record taken away ends with the access token."""
    account = desk.accounts.get(grant.subject)
    if account is None:
        raise _invalid("the account of this grant has ended: somebody else must sign in")
    try:
        account = await desk.relations.with_related(account, turn.request)
    except FinderUnavailable as error:
        raise _unavailable() from error
    patient = grant.context.get("patient")
    vouched = grant.launched and not is_patients_own(account)
    if grant.picked and patient is not None:
        vouched = not is_patients_own(account)
        today = replace(grant, claims=dict(account.claims))
        await _look_again(today, str(patient), turn, desk, binding)
    if patient is not None and not vouched and patient not in {id for id, _ in records(account, turn.now)}:
        said = "the account may not see the record of this grant any more: begin a new authorization request"
        raise _invalid(said)
    return replace(grant, claims=claims_for(account, patient, turn.now))


async def _look_again(grant: Grant, patient: str, turn: Turn, desk: Desk, binding: Binding) -> None:
    """Raise OAuthError unless the person may see the picked patient today: INVALID_GRANT, TEMPORARILY_UNAVAILABLE."""
    person = desk.pickers.for_grant(grant, turn.client, binding, turn.request)
    try:
        found = None if person is None else await desk.pickers.patient(person, patient)
    except FinderUnavailable as error:
        raise _unavailable() from error
    if found is None:
        raise _invalid(
            "the person may not see the record of this grant now: begin a new authorization request"
        )


def _unavailable() -> OAuthError:
    said = "the records cannot be reached now: try again in a moment"
    return OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, said)


async def client_credentials(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 4.4: a client for itself; system scopes only, no refresh token (K6)."""
    binding = _binding(turn, desk)
    scope = granting.own_scope(turn.form, turn.client, desk.server)
    details = granting.details(turn.form, turn.client, desk.server)
    audience = administration.own_audience(turn.form, scope, desk.server)
    grant = Grant(
        grant_id=new_grant_id(),
        client_id=turn.client.client_id,
        subject=turn.client.client_id,
        scope=scope,
        audience=audience,
        claims=dict(turn.client.claims),
        created_at=turn.now,
        authorization_details=details,
    )
    await _spend(turn, desk, then=GrantUntil(grant, turn.now + desk.lifetimes.access_token))
    return Issue(grant, scope, binding, None)


GrantDoor = Callable[[Turn, Desk], Awaitable[Issue]]
GRANTS: Mapping[GrantType, GrantDoor] = {
    GrantType.AUTHORIZATION_CODE: authorization_code,
    GrantType.REFRESH_TOKEN: refresh_token,
    GrantType.CLIENT_CREDENTIALS: client_credentials,
}
"""grant_type → what it does. A grant that is not here does not exist."""


async def _spend(turn: Turn, desk: Desk, *, then: GrantUntil | None = None) -> None:
    await desk.spending.spend(turn.proven, turn.proof, then=then)


def _binding(turn: Turn, desk: Desk) -> Binding:
    """The key that the tokens will be bound to (K1): as the client is registered, from this very request."""
    if turn.client.binding is not BindingKind.MTLS and turn.proof is not None:
        return Binding(BindingKind.DPOP, turn.proof.thumbprint)
    if turn.client.binding is BindingKind.DPOP:
        raise OAuthError(ErrorCode.INVALID_DPOP_PROOF, "a DPoP proof is required: send one DPoP header")
    if may_have_unbound_tokens(turn.client, desk.profiles):
        return Binding(BindingKind.NONE, "")
    thumbprint = turn.proven.authenticated.certificate_thumbprint
    if thumbprint is None:
        raise OAuthError(
            ErrorCode.INVALID_REQUEST,
            "a certificate is required: use the token_endpoint of mtls_endpoint_aliases",
        )
    return Binding(BindingKind.MTLS, thumbprint)


def _narrowed(turn: Turn, desk: Desk, grant: Grant) -> Grant:
    """The grant as this request narrows it: to resources (RFC 8707 2.2) and details (RFC 9396 6); whole without them.

    Details are never left out for the resources that are named: a token without details is a wider one.
    """
    details = granting.narrowed_details(turn.form, grant.authorization_details, turn.client, desk.server)
    grant = replace(grant, authorization_details=details)
    if "resource" not in turn.form:
        return grant
    wanted = granting.audience({"resource": turn.form["resource"]}, desk.server)
    if not set(wanted) <= set(grant.audience):
        granted = ", ".join(grant.audience)
        raise OAuthError(
            ErrorCode.INVALID_TARGET, f"the resource is not one of those that were granted: {granted}"
        )
    return replace(grant, audience=wanted)


def _stays_connected(client: Client, grant: Grant) -> bool:
    """Whether a refresh token is due: SMART clients ask for it by scope, others by being registered for it."""
    if GrantType.REFRESH_TOKEN not in client.grant_types:
        return False
    asking = {"offline_access", "online_access"}
    return bool(asking & set(grant.scope)) or not asking & set(client.scope)


def _is_held(record: RefreshToken, client: Client) -> bool:
    """Whether a refresh token is of no use without a key: its own, or for who authenticates that of its access tokens."""
    public = client.authentication_method is AuthenticationMethod.NONE
    return record.jkt is not None if public else client.binding is not BindingKind.NONE


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


async def end_grant(desk: Desk, grant_id: str, client_id: str, now: int, reason: str) -> None:
    """Revoke a grant with all its tokens, here at once and on every node within a second (I2)."""
    keep_until = now + desk.lifetimes.access_token + NODES_SECONDS
    await desk.store.revoke_grant(grant_id, now=now, keep_until=keep_until)
    desk.revocations.add(grant_id)
    desk.emit(GrantRevoked(grant_id, client_id, reason))


async def revoke(turn: Turn, desk: Desk) -> None:
    """RFC 7009 2.1: a refresh token ends its grant, an access token itself.

    A token that is unknown or another client's changes nothing and is answered alike (RFC 7009 2.2).
    """
    token = _required(turn, "token")
    record = await desk.store.refresh_token(digest(token), now=turn.now)
    caller = desk.read_token(token)
    await _spend(turn, desk)
    if record is not None and record.client_id == turn.client.client_id:
        await end_grant(desk, record.grant_id, record.client_id, turn.now, "revoked")
    elif caller is not None and caller.client_id == turn.client.client_id:
        await desk.store.revoke_token(
            caller.token_id, now=turn.now, keep_until=caller.expires_at + NODES_SECONDS
        )
        desk.revocations.add(caller.token_id)
        desk.emit(GrantRevoked(caller.grant_id or "", caller.client_id, "token-revoked"))


def _required(turn: Turn, name: str) -> str:
    value = turn.form.get(name)
    if value is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"{name} is required")
    return value


def _invalid(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_GRANT, description)
