"""Grants at the token endpoint: code, refresh token, client credentials (RFC 6749 4.1.3, 6, 4.4).

Each takes a Turn, the token request whose client and proof were found right, and gives what is issued. What the
client may send again stands before spend(); what must burn a code is judged as it is redeemed.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from authz.endpoints.code_exchange import authorization_code
from authz.endpoints.turns import Desk, Issue, Turn, binding_of, end_grant, invalid, narrowed, required
from authz.events import GrantRevoked
from authz.grant_endings import NODES_SECONDS
from authz.handles import digest, new_grant_id, new_handle
from authz.login.finding import FinderUnavailable
from authz.login.launch import is_patients_own, records
from authz.login.represented import claims_for
from authz.protocol import administration, granting
from authz.protocol.client_profiles import may_refresh
from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.scopes import covered
from authz.protocol.tokens import Binding, Grant
from authz.settings import Lifetimes
from authz.storage.grants import GrantUntil, RefreshToken


async def refresh_token(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 6: the same refresh token stays good; the new access token is bound to the key of this request (K3)."""
    handle = required(turn, "refresh_token")
    binding = binding_of(turn, desk)
    record = await desk.store.refresh_token(digest(handle), now=turn.now)
    if record is None or record.client_id != turn.client.client_id:
        raise invalid(
            "the refresh token is not known here, has expired or was revoked: begin a new authorization request"
        )
    if is_spent(record, desk.lifetimes, turn.now):
        # The client has its successor: whoever comes with this one now stole it, or from whom it was stolen.
        await end_grant(desk, record.grant_id, record.client_id, turn.now, "refresh-token-replayed")
        raise invalid(
            "the refresh token was replaced before; the grant is revoked: begin a new authorization request"
        )
    if record.jkt is not None and record.jkt != binding.thumbprint:
        raise invalid("the refresh token is bound to another key: use the one that it was issued to")
    if not may_refresh(turn.client, bound=_is_held(record, turn.client), rotates=desk.rotates):
        raise invalid("the refresh token is held to no key: begin a new authorization request")
    grant = await desk.store.grant(record.grant_id, now=turn.now)
    if grant is None:
        raise invalid("the grant of this refresh token was revoked: begin a new authorization request")
    if grant.session_id is not None and await desk.store.session(grant.session_id, now=turn.now) is None:
        raise invalid(
            "the person signed out, with whom online_access ends: begin a new authorization request"
        )
    # What was taken from the client's registration since then is not given any more.
    left = tuple(text for text in record.scope if covered(text, turn.client.scope))
    scope = granting.narrowed_scope(turn.form, left, desk.server)
    aimed = narrowed(turn, desk, await _of_today(grant, turn, desk, binding))
    if not scope:
        said = "the client is not registered any more for anything that was granted"
        raise invalid(f"{said}: ask for scopes that it has")
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
        raise invalid("the refresh token was replaced before: use its successor")
    return handle


async def _of_today(grant: Grant, turn: Turn, desk: Desk, binding: Binding) -> Grant:
    """The grant with what the person's account says now: a role or record taken away ends with the access token."""
    account = desk.accounts.get(grant.subject)
    if account is None:
        raise invalid("the account of this grant has ended: somebody else must sign in")
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
        raise invalid(said)
    return replace(grant, claims=claims_for(account, patient, turn.now))


async def _look_again(grant: Grant, patient: str, turn: Turn, desk: Desk, binding: Binding) -> None:
    """Raise OAuthError unless the person may see the picked patient today: INVALID_GRANT, TEMPORARILY_UNAVAILABLE."""
    person = desk.pickers.for_grant(grant, turn.client, binding, turn.request)
    try:
        found = None if person is None else await desk.pickers.patient(person, patient)
    except FinderUnavailable as error:
        raise _unavailable() from error
    if found is None:
        raise invalid(
            "the person may not see the record of this grant now: begin a new authorization request"
        )


def _unavailable() -> OAuthError:
    said = "the records cannot be reached now: try again in a moment"
    return OAuthError(ErrorCode.TEMPORARILY_UNAVAILABLE, said)


async def client_credentials(turn: Turn, desk: Desk) -> Issue:
    """RFC 6749 4.4: a client for itself; system scopes only, no refresh token (K6)."""
    binding = binding_of(turn, desk)
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


def _is_held(record: RefreshToken, client: Client) -> bool:
    """Whether a refresh token is of no use without a key: its own, or for who authenticates that of its access tokens."""
    public = client.authentication_method is AuthenticationMethod.NONE
    return record.jkt is not None if public else client.binding is not BindingKind.NONE


async def revoke(turn: Turn, desk: Desk) -> None:
    """RFC 7009 2.1: a refresh token ends its grant, an access token itself.

    A token that is unknown or another client's changes nothing and is answered alike (RFC 7009 2.2).
    """
    token = required(turn, "token")
    record = await desk.store.refresh_token(digest(token), now=turn.now)
    caller = desk.read_token(token)
    owner = record.client_id if record is not None else None if caller is None else caller.client_id
    if owner != turn.client.client_id and turn.client.authentication_method is AuthenticationMethod.NONE:
        return  # nothing happens, and the proof of somebody who may be anybody leaves no row
    await _spend(turn, desk)
    if owner != turn.client.client_id:
        return
    if record is not None:
        await end_grant(desk, record.grant_id, record.client_id, turn.now, "revoked")
    elif caller is not None:
        await desk.store.revoke_token(
            caller.token_id, now=turn.now, keep_until=caller.expires_at + NODES_SECONDS
        )
        desk.revocations.add(caller.token_id)
        desk.emit(GrantRevoked(caller.grant_id or "", caller.client_id, "token-revoked"))
