"""Software statements: what somebody whom the operator trusts says about an application (RFC 7591 2.3, 3.1.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authz.protocol import jose
from authz.protocol.client_metadata import METADATA
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.jose import JoseError, PublicKey

_MAX_BYTES = 16 * 1024
_AHEAD_SECONDS = 60
_TYPES = frozenset({"jwt", "software-statement+jwt"})


@dataclass(frozen=True, slots=True)
class SoftwareStatement:
    """A statement whose signature and times are right. Only check_statement() makes one.

    text      the statement, unmodified: the client is told it again (RFC 7591 3.2.1)
    metadata  its claims that are client metadata; they take precedence over the request's
    """

    issuer: str
    text: str
    metadata: Mapping[str, object]


def check_statement(
    text: str, *, issuers: Mapping[str, Sequence[PublicKey]], server: str, now: int
) -> SoftwareStatement:
    """Check a software statement: signed PS256, ES256 or EdDSA by a known issuer, in its time, and for this server.

    issuers gives the keys of each; server is our own issuer, which aud must hold where there is one (RFC 7519 4.1.3).
    exp is honoured and not required: a statement without end holds until its issuer is taken out of the
    configuration. Raises OAuthError: UNAPPROVED_SOFTWARE_STATEMENT for an issuer that is not known, else
    INVALID_SOFTWARE_STATEMENT.
    """
    try:
        unverified = jose.json_object(jose.parse_compact(text, _MAX_BYTES).payload, "payload")
    except JoseError as error:
        raise _invalid(f"the software statement cannot be read: {error}") from error
    issuer = unverified.get("iss")
    if not isinstance(issuer, str) or issuer not in issuers:
        shown = speakable(issuer, at_most=100) if isinstance(issuer, str) else "missing"
        raise OAuthError(
            ErrorCode.UNAPPROVED_SOFTWARE_STATEMENT,
            f"iss of the software statement is {shown}, which is not an issuer that this server accepts",
        )
    try:
        header, claims = jose.verify(text, issuers[issuer], max_bytes=_MAX_BYTES)
    except JoseError as error:
        raise _invalid(f"the software statement is refused: {error}") from error
    typ = header.get("typ", "jwt")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") not in _TYPES:
        raise _invalid("typ of the software statement must be absent, JWT or software-statement+jwt")
    audience = claims.get("aud", server)
    if server not in (audience if isinstance(audience, list) else [audience]):
        raise _invalid(f"aud of the software statement must hold {speakable(server, at_most=200)}")
    _check_times(claims, now)
    metadata = {name: value for name, value in claims.items() if name in METADATA}
    return SoftwareStatement(issuer, text, metadata)


def _check_times(claims: Mapping[str, object], now: int) -> None:
    for name in ("exp", "nbf", "iat"):
        moment = claims.get(name)
        if moment is None:
            continue
        if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 <= moment < 2**53:
            raise _invalid(f"{name} of the software statement must be seconds since 1970")
        if name == "exp" and moment <= now:
            raise _invalid(f"the software statement expired {now - int(moment)} s ago")
        if name != "exp" and moment > now + _AHEAD_SECONDS:
            raise _invalid(f"{name} of the software statement is {int(moment) - now} s in the future")


def _invalid(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_SOFTWARE_STATEMENT, description)
