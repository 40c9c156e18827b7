"""Client authentication by a signed assertion, private_key_jwt: the rules (RFC 7521, RFC 7523, FAPI 2.0 5.3.2.1).

Authentication by certificate is in certificates.py.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from authz.protocol import jose
from authz.protocol.client_profiles import PROFILES, algorithms_of
from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.jose import JoseError, PublicKey

_MAX_ASSERTION_BYTES = 8192
_MAX_JTI_CHARACTERS = 256
_MAX_LIFETIME_SECONDS = 300
_AHEAD_SECONDS = 10  # clocks differ: so far into the future iat and nbf may lie, and exp beyond its bound
_NODES_SECONDS = 30  # clocks of our own nodes differ by no more
# An assertion needs no typ (RFC 7523 3). One that says it is something else, such as a request object or a DPoP
# proof of the same client, is not an assertion (RFC 8725 3.11).
_TYPES = frozenset({"jwt", "client-authentication+jwt"})


class Assertion(msgspec.Struct, frozen=True):
    """A client assertion that passed check_assertion(). Its jti is still to be claimed, last of all.

    expires_at  the second from which no node accepts it, its clock up to 30 s behind ours or not: a claim of the jti
                must live so long
    issued_at   iat, seconds since 1970; None without one
    """

    jti: str
    expires_at: int
    issued_at: int | None = None


class UnverifiedAssertion(msgspec.Struct, frozen=True):
    """A client assertion as it was read: nothing in it holds yet. Only read_assertion() makes one.

    client_id  its sub, equal to iss: the client whose keys will verify it
    kid        the key that it names; None for one that names none
    """

    client_id: str
    kid: str | None
    jwt: jose.Unverified


def read_assertion(assertion: str) -> UnverifiedAssertion:
    """The assertion with the client that it says it comes from. Raises OAuthError(INVALID_CLIENT)."""
    try:
        jwt = jose.read_unverified(assertion, _MAX_ASSERTION_BYTES)
    except JoseError as error:
        raise _refused(f"client_assertion cannot be read: {error}") from error
    subject = jwt.claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused("sub of the client_assertion must be the client_id")
    if jwt.claims.get("iss") != subject:
        raise _refused("iss and sub of the client_assertion must both be the client_id")
    kid = jwt.jws.header.get("kid")
    return UnverifiedAssertion(subject, kid if isinstance(kid, str) else None, jwt)


def check_assertion(
    assertion: str | UnverifiedAssertion,
    *,
    client: Client,
    keys: Sequence[PublicKey],
    issuer: str,
    token_urls: Collection[str],
    now: int,
) -> Assertion:
    """Check a client assertion (C1 to C5): signature, iss, sub, aud, exp, nbf, iat, jti.

    keys are the client's own. aud must be the issuer as a string, or one of token_urls where the client's profile
    allows that. exp is required, at most 5 minutes ahead (and 10 s for clocks that differ); iat and nbf up to 10 s ahead
    are accepted. Stricter than FAPI 2.0 5.3.2.1: what lies 10 to 60 s ahead is refused too. Spends nothing.
    Raises OAuthError(INVALID_CLIENT).
    """
    profile = PROFILES.get(client.profile)
    if profile is None:
        raise _refused(f"the profile {client.profile} of the client is not known here")
    try:
        header, claims = jose.verify(
            assertion if isinstance(assertion, str) else assertion.jwt,
            keys,
            algorithms=algorithms_of(client, client.assertion_algorithm),
            max_bytes=_MAX_ASSERTION_BYTES,
        )
    except JoseError as error:
        raise _refused(f"client_assertion is refused: {error}") from error
    if profile.key_url_checked and "jku" in header and header["jku"] != client.jwks_uri:
        raise _refused("jku of the client_assertion must be the registered URL of the keys: leave it out")
    typ = header.get("typ", "jwt")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise _refused("typ of the client_assertion must be absent, JWT or client-authentication+jwt")
    for name in ("iss", "sub"):
        if claims.get(name) != client.client_id:
            raise _refused(f"{name} of the client_assertion must be the client_id")
    audiences = (issuer, *token_urls) if profile.token_url_audience_allowed else (issuer,)
    audience = claims.get("aud")
    # Stricter than RFC 7519 4.1.3: an array is refused, even one that holds only the issuer. An assertion for two
    # servers is one that the other server can use here.
    if not isinstance(audience, str) or audience not in audiences:
        raise _refused(f"aud of the client_assertion must be the string {speakable(issuer, at_most=200)}")
    expires_at, issued_at = _check_times(claims, now)
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI_CHARACTERS:
        raise _refused(
            f"jti of the client_assertion must be a string of 1 to {_MAX_JTI_CHARACTERS} characters"
        )
    return Assertion(jti, expires_at + _NODES_SECONDS, issued_at)


def _check_times(claims: Mapping[str, object], now: int) -> tuple[int, int | None]:
    """The second from which the assertion is expired, and its iat."""
    expires_at, issued_at = _seconds(claims, "exp"), _seconds(claims, "iat")
    skew = None if issued_at is None else issued_at - now
    if expires_at is None:
        raise _refused("exp of the client_assertion is required")
    if expires_at <= now:
        raise _refused(f"the client_assertion expired {now - expires_at} s ago", skew_seconds=skew)
    if expires_at - now > _MAX_LIFETIME_SECONDS + _AHEAD_SECONDS:
        raise _refused(
            f"exp is {expires_at - now} s in the future, at most {_MAX_LIFETIME_SECONDS} s is accepted",
            skew_seconds=skew,
        )
    for name, moment in (("iat", issued_at), ("nbf", _seconds(claims, "nbf"))):
        if moment is not None and moment - now > _AHEAD_SECONDS:
            raise _refused(
                f"{name} is {moment - now} s in the future, at most {_AHEAD_SECONDS} s is accepted",
                skew_seconds=skew,
            )
    return expires_at, issued_at


def _seconds(claims: Mapping[str, object], name: str) -> int | None:
    """A NumericDate in whole seconds (RFC 7519 2)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _refused(f"{name} of the client_assertion must be seconds since 1970")
    return int(value)


def _refused(description: str, *, skew_seconds: int | None = None) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT, description, skew_seconds=skew_seconds)
