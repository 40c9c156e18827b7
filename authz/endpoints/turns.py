"""A token request at work: what is known of it, what the grants work with, and what more than one of them does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from authz.endpoints.client_authentication import Proven
from authz.endpoints.pickers import Pickers
from authz.endpoints.spending import Spending
from authz.events import Emit, GrantRevoked
from authz.grant_endings import NODES_SECONDS
from authz.login.relations import Relations
from authz.protocol import granting
from authz.protocol.client_profiles import UNBOUND_SECONDS, may_have_unbound_tokens
from authz.protocol.clients import BindingKind, Client, GrantType, ProfileName
from authz.protocol.dpop import Proof
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Binding, Caller, Grant
from authz.revocations import Revocations
from authz.settings import Account, Lifetimes
from authz.storage.store import Store


class Turn(msgspec.Struct, frozen=True):
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


class Issue(msgspec.Struct, frozen=True):
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


def binding_of(turn: Turn, desk: Desk) -> Binding:
    """The key that the tokens will be bound to (K1): as the client is registered, from this very request.

    Raises OAuthError: INVALID_DPOP_PROOF, INVALID_REQUEST where it cannot be told.
    """
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


def narrowed(turn: Turn, desk: Desk, grant: Grant) -> Grant:
    """The grant as this request narrows it: to resources (RFC 8707 2.2) and details (RFC 9396 6); whole without them.

    Details are never left out for the resources that are named: a token without details is a wider one. Raises
    OAuthError.
    """
    details = granting.narrowed_details(turn.form, grant.authorization_details, turn.client, desk.server)
    if details != grant.authorization_details:
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


async def end_grant(desk: Desk, grant_id: str, client_id: str, now: int, reason: str) -> None:
    """Revoke a grant with all its tokens, here at once and on every node within a second (I2)."""
    keep_until = now + desk.lifetimes.access_token + NODES_SECONDS
    await desk.store.revoke_grant(grant_id, now=now, keep_until=keep_until)
    desk.revocations.add(grant_id)
    desk.emit(GrantRevoked(grant_id, client_id, reason))


def required(turn: Turn, name: str) -> str:
    """The parameter of this name. Raises OAuthError(INVALID_REQUEST) without."""
    value = turn.form.get(name)
    if value is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, f"{name} is required")
    return value


def invalid(description: str) -> OAuthError:
    """What a grant is refused with (RFC 6749 5.2)."""
    return OAuthError(ErrorCode.INVALID_GRANT, description)
