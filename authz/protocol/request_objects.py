"""Signed authorization requests: the rules for a request object at the PAR endpoint (RFC 9101, RFC 9126 3,
FAPI 2.0 Message Signing 5.3.1)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authz.protocol import jose
from authz.protocol.authorization import KNOWN
from authz.protocol.client_profiles import FAPI_ALGORITHMS, algorithms_of
from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.jose import JoseError, PublicKey

_MAX_BYTES = 32 * 1024
_MAX_LIFETIME_SECONDS = 3600
_MAX_AGE_SECONDS = 3600
_AHEAD_SECONDS = 10  # clocks differ: so far into the future nbf and iat may lie
_TYPES = frozenset({"jwt", "oauth-authz-req+jwt"})
_NOT_PARAMETERS = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti", "sub"})
_STRUCTURED = frozenset({"claims", "authorization_details"})  # JSON values; elsewhere their text


@dataclass(frozen=True, slots=True)
class RequestObject:
    """A request object that passed check_request_object().

    client_time is its iat, else its nbf: what the clock of the client said.
    """

    parameters: Mapping[str, str]
    client_time: int


def check_request_object(
    token: str, *, client: Client, keys: Sequence[PublicKey], issuer: str, now: int
) -> RequestObject:
    """The authorization request in a request object (S1), as parameters; nothing outside of it counts (S2).

    keys are the client's own. Signature by an algorithm of the client's profile; iss the client; aud holds the issuer,
    an array too; nbf at most an hour old and at most 10 s ahead; exp at most an hour after nbf. Structured values, such
    as claims, come as their JSON text. Raises OAuthError(INVALID_REQUEST_OBJECT).
    """
    algorithms = algorithms_of(client, client.request_object_algorithm) & FAPI_ALGORITHMS
    try:
        header, claims = jose.verify(token, keys, algorithms=algorithms, max_bytes=_MAX_BYTES)
    except JoseError as error:
        raise _refused(f"the request object is refused: {error}") from error
    typ = header.get("typ", "jwt")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise _refused("typ of the request object must be absent, JWT or oauth-authz-req+jwt")
    if claims.get("iss") != client.client_id:
        raise _refused("iss of the request object must be the client_id")
    if claims.get("client_id", client.client_id) != client.client_id:
        raise _refused("client_id in the request object is not the client that authenticated")
    if claims.get("sub") == client.client_id:
        # A request object that could pass as a client assertion is one (RFC 9101 10.8).
        raise _refused("sub of a request object must not be the client_id")
    audience = claims.get("aud")
    if issuer not in (audience if isinstance(audience, list) else [audience]):
        raise _refused(f"aud of the request object must hold {speakable(issuer, at_most=200)}")
    client_time = _check_times(claims, now)
    for name in ("request", "request_uri"):
        if name in claims:
            raise _refused(f"{name} is not allowed inside a request object")
    # As in a form, empty text is a parameter that was not sent, and one that is not known is ignored, of whatever type
    # (RFC 6749 3.1, RFC 9101 6.3).
    asked = {
        name: _text(name, value)
        for name, value in claims.items()
        if name in KNOWN and name not in _NOT_PARAMETERS and value != ""
    }
    return RequestObject(asked, client_time)


def _check_times(claims: Mapping[str, object], now: int) -> int:
    """The client's time: iat, else nbf."""
    not_before, expires_at = _seconds(claims, "nbf"), _seconds(claims, "exp")
    if not_before is None or expires_at is None:
        raise _refused("nbf and exp of the request object are required")
    issued_at = _seconds(claims, "iat")
    client_time = not_before if issued_at is None else issued_at
    skew = client_time - now
    if not_before > now + _AHEAD_SECONDS:
        raise _refused(
            f"nbf is {not_before - now} s in the future, at most {_AHEAD_SECONDS} s is accepted",
            skew_seconds=skew,
        )
    if now - not_before > _MAX_AGE_SECONDS:
        raise _refused(
            f"nbf is {now - not_before} s old, at most {_MAX_AGE_SECONDS} s is accepted", skew_seconds=skew
        )
    if expires_at <= now:
        raise _refused(f"the request object expired {now - expires_at} s ago", skew_seconds=skew)
    if expires_at - not_before > _MAX_LIFETIME_SECONDS:
        raise _refused(
            f"exp is {expires_at - not_before} s after nbf, at most {_MAX_LIFETIME_SECONDS} s is accepted"
        )
    if client_time > now + _AHEAD_SECONDS:
        raise _refused(
            f"iat is {client_time - now} s in the future, at most {_AHEAD_SECONDS} s is accepted",
            skew_seconds=skew,
        )
    return client_time


def _seconds(claims: Mapping[str, object], name: str) -> int | None:
    """A NumericDate in whole seconds (RFC 7519 2)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise _refused(f"{name} of the request object must be seconds since 1970")
    return int(value)


def _text(name: str, value: object) -> str:
    """The value as the parameter that it is outside of a request object."""
    if isinstance(value, str):
        return _text(name, [value]) if name == "resource" else value
    if name in _STRUCTURED and isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if name == "resource" and isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        if any(not uri or any(c.isspace() for c in uri) for uri in value):
            raise _refused("resource in the request object must be one URI, or an array of URIs")
        return " ".join(value)
    if name == "max_age" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _refused(f"{speakable(name, at_most=60)} in the request object has a value of a wrong type")


def _refused(description: str, *, skew_seconds: int | None = None) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST_OBJECT, description, skew_seconds=skew_seconds)
