"""Grant → claims → Caller: what was granted, the access token that says so, and the caller read back from it.

RFC 9068 (JWT access tokens), RFC 7800 (cnf), SMART App Launch 2.2 (launch context).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from authz.protocol.clients import BindingKind

_NOT_THE_PERSONS = frozenset(
    {
        "nbf", "act", "may_act", "auth_time", "acr", "amr", "patient", "encounter", "authorization_details", "unbound",
        "fhirContext", "need_patient_banner", "intent", "smart_style_url", "tenant",
    }
)  # fmt: skip
"""Claims that only a grant gives. Configured for an account or a client by mistake they would widen every token."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The key that a token is bound to: cnf.jkt (RFC 9449 6) or cnf.x5t#S256 (RFC 8705 3.1).

    A token that is bound to none says so by a claim of its own, unbound: that cnf is missing is never enough.
    """

    kind: BindingKind
    thumbprint: str  # base64url SHA-256; empty for a token that is bound to no key


@dataclass(frozen=True, slots=True)
class Grant:
    """What a person, or a client for itself, was granted. Stored; tokens are made from it.

    scope     scope strings as asked and granted, byte for byte, in the order asked
    audience  resource identifiers that its tokens are for (RFC 8707)
    context   launch context of the token response and the token: patient, encounter … (SMART App Launch 2.2)
    claims    claims of the person that tokens carry: fhirUser, roles, organisation …
    claims_request         what the app asked for by name, for id_token and userinfo (OpenID Connect Core 5.5)
    authorization_details  what was granted in detail (RFC 9396)
    launched               a record system told the context (EHR launch)
    picked                 the person found the patient by a picker: whether it may be seen is asked again
    session_id             the browser session that it ends with (online_access); None when it outlives that
    managed                the client asked to be told the grant's id (Grant Management for OAuth 2.0)
    used_at                when its last access token was issued; None before the first
    ends_at                when the client cannot get another one any more; None before the first
    """

    grant_id: str
    client_id: str
    subject: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    context: Mapping[str, object] = field(default_factory=dict)
    claims: Mapping[str, object] = field(default_factory=dict)
    authenticated_at: int | None = None  # seconds since 1970; None without a person
    acr: str | None = None
    amr: tuple[str, ...] = ()
    created_at: int = 0
    claims_request: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    authorization_details: tuple[Mapping[str, object], ...] = ()
    managed: bool = False
    launched: bool = False
    picked: bool = False
    session_id: str | None = None
    used_at: int | None = None
    ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls the gateway: a valid token whose key the caller holds. Only caller_of() makes one.

    claims is the whole token, for policies; nothing in it was said by the caller.
    """

    issuer: str
    subject: str
    client_id: str
    scope: tuple[str, ...]
    audience: tuple[str, ...]
    binding: Binding
    token_id: str
    grant_id: str | None
    issued_at: int
    expires_at: int
    claims: Mapping[str, object]


def access_token_claims(
    grant: Grant,
    *,
    issuer: str,
    token_id: str,
    binding: Binding,
    now: int,
    lifetime_seconds: int,
    scope: tuple[str, ...] | None = None,
    subject: str | None = None,
) -> dict[str, object]:
    """The claims of an access token (RFC 9068 2.2) for grant, bound to binding.

    scope narrows the grant's own (RFC 6749 6); None keeps it. subject is how the client may know the
    person. The grant's id is carried as 'grant_id', so
    that the gateway can see a revoked grant without asking anybody.
    """
    claims: dict[str, object] = {
        name: value for name, value in grant.claims.items() if name not in _NOT_THE_PERSONS
    }
    claims.update(grant.context)
    claims.update(
        {
            "iss": issuer,
            "sub": grant.subject if subject is None else subject,
            "aud": list(grant.audience) if len(grant.audience) != 1 else grant.audience[0],
            "client_id": grant.client_id,
            "iat": now,
            "exp": now + lifetime_seconds,
            "jti": token_id,
            "scope": " ".join(grant.scope if scope is None else scope),
            **_confirmation(binding),
            "grant_id": grant.grant_id,
        }
    )
    if grant.authenticated_at is not None:
        claims["auth_time"] = grant.authenticated_at
    if grant.acr is not None:
        claims["acr"] = grant.acr
    if grant.amr:
        claims["amr"] = list(grant.amr)
    if grant.authorization_details:
        claims["authorization_details"] = list(grant.authorization_details)
    return claims


def _confirmation(binding: Binding) -> dict[str, object]:
    if binding.kind is BindingKind.NONE:
        return {"unbound": True}
    return {"cnf": {"jkt" if binding.kind is BindingKind.DPOP else "x5t#S256": binding.thumbprint}}


class TokenError(Exception):
    """The claims are not those of an access token of ours. The text is for the caller's developer."""


def caller_of(claims: Mapping[str, object], *, issuer: str) -> Caller:
    """Read the caller back from the verified claims of an access token (RFC 9068 4).

    Checks types, presence and issuer only: signature, time, audience and revocation are checked by
    resource_server. Raises TokenError naming the claim that is missing or of a wrong type.
    """
    if claims.get("iss") != issuer:
        raise TokenError("iss of the access token is not this issuer")
    audience = claims.get("aud")
    audiences = (audience,) if isinstance(audience, str) else audience
    if not isinstance(audiences, list | tuple) or not audiences:
        raise TokenError("aud of the access token is missing")
    if not all(isinstance(a, str) for a in audiences):
        raise TokenError("aud of the access token must be strings")
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise TokenError("scope of the access token must be a string")
    grant_id = claims.get("grant_id")
    if grant_id is not None and not isinstance(grant_id, str):
        raise TokenError("grant_id of the access token must be a string")
    return Caller(
        issuer=issuer,
        subject=_text(claims, "sub"),
        client_id=_text(claims, "client_id"),
        scope=tuple(scope.split(" ")) if scope else (),
        audience=tuple(audiences),
        binding=_binding(claims),
        token_id=_text(claims, "jti"),
        grant_id=grant_id,
        issued_at=_seconds(claims, "iat"),
        expires_at=_seconds(claims, "exp"),
        claims=claims,
    )


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenError(f"{name} of the access token must be a string that is not empty")
    return value


def _seconds(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TokenError(f"{name} of the access token must be whole seconds")
    return value


def _binding(claims: Mapping[str, object]) -> Binding:
    """The binding in cnf. A token without exactly one of the two is refused, unless it says of itself that it has none."""
    confirmation = claims.get("cnf")
    if "unbound" in claims:
        if claims["unbound"] is True and "cnf" not in claims:
            return Binding(BindingKind.NONE, "")
        raise TokenError("unbound of the access token must be true, and goes with no cnf")
    if isinstance(confirmation, dict) and len(confirmation) == 1:
        for member, kind in (("jkt", BindingKind.DPOP), ("x5t#S256", BindingKind.MTLS)):
            thumbprint = confirmation.get(member)
            if isinstance(thumbprint, str) and len(thumbprint) == 43:
                return Binding(kind, thumbprint)
    raise TokenError("cnf of the access token must hold exactly one of jkt and x5t#S256")
