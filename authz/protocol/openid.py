"""OpenID Connect: the claims parameter, subjects, and what an ID token and userinfo say (OpenID Connect Core 2, 5, 8).

Nothing personal is told that no scope and no claims request asked for.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256, sha512

from authz.protocol.clients import Client, SubjectType
from authz.protocol.encoding import base64url, strict_json
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.redirect_uris import hosts_of, is_of_a_device
from authz.protocol.tokens import Grant

PERSONAL_CLAIMS: Mapping[str, str] = {"name": "profile", "fhirUser": "fhirUser"}
"""Claims of a person that can be had, each with the scope that asks for it."""
ACR_PASSWORD = "urn:securus:acr:password"
SIGN_INS: Mapping[str, frozenset[str]] = {ACR_PASSWORD: frozenset({"pwd"})}
"""acr → amr of the ways to sign in that exist, from the weakest to the strongest: what a person can reach here."""
PROTOCOL_CLAIMS = ("iss", "sub", "aud", "exp", "iat", "auth_time", "acr", "amr", "nonce", "at_hash")
_MAX_CLAIMS_REQUEST = 4096
_ID_TOKEN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Subjects:
    """Names people to clients: by their own identifier, or by one that no two sectors share (OpenID Connect Core 8)."""

    secret: bytes

    def of(self, client: Client, subject: str) -> str:
        """The sub that this client sees."""
        if client.subject_type is SubjectType.PUBLIC:
            return subject
        named = f"{sector(client)}\n{subject}".encode()
        return base64url(hmac.digest(self.secret, named, "sha256"))


def sector(client: Client) -> str:
    """The sector of a client: the one host of its redirect URIs, else the client itself (OpenID Connect Core 8.1).

    The address of a device is nobody's: apps that have nothing in common are all there.
    """
    hosts = hosts_of(client.redirect_uris)
    if len(hosts) != 1 or any(is_of_a_device(uri) for uri in client.redirect_uris):
        return client.client_id
    return hosts.pop()


def read_claims_request(text: str, acr_values: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """The claims parameter (OpenID Connect Core 5.5) as {'id_token': …, 'userinfo': …}; names that nobody knows stay.

    Raises OAuthError: INVALID_REQUEST when it cannot be read, UNMET_AUTHENTICATION_REQUIREMENTS when an acr is essential
    that nobody can reach here.
    """
    if text == "{}":  # of most requests, several times
        return {}
    try:
        value = strict_json(text.encode("utf-8"), max_bytes=_MAX_CLAIMS_REQUEST)
    except ValueError as error:
        raise _unreadable("claims must be one JSON object, of at most 4096 bytes") from error
    if not isinstance(value, dict):
        raise _unreadable("claims must be a JSON object")
    found: dict[str, dict[str, object]] = {}
    for place in ("id_token", "userinfo"):
        asked = value.get(place, {})
        if not isinstance(asked, dict) or not all(_is_request(request) for request in asked.values()):
            raise _unreadable(f"claims.{place} must be an object of null or objects")
        if asked:
            found[place] = asked
    acr = found.get("id_token", {}).get("acr")
    if isinstance(acr, dict) and acr.get("essential") is True:
        wanted = acr.get("values", [acr["value"]] if "value" in acr else list(acr_values))
        if not isinstance(wanted, list) or not set(map(str, wanted)) & set(acr_values):
            raise OAuthError(
                ErrorCode.UNMET_AUTHENTICATION_REQUIREMENTS,
                f"none of the acr values can be reached here, only {', '.join(acr_values)}",
            )
    return found


def acr_of(amr: Iterable[str]) -> str | None:
    """The authentication context of a sign-in by these methods: the strongest whose methods were all used."""
    used = set(amr)
    return next((acr for acr, methods in reversed(list(SIGN_INS.items())) if methods <= used), None)


def wanted_acr(parameters: Mapping[str, str], acr_values: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The reachable contexts that a request asks for, the preferred one first, and whether one of them is essential.

    acr_values is voluntary (OpenID Connect Core 3.1.2.1, RFC 9470 4); acr of the claims parameter may be essential.
    Empty where nothing that can be reached was asked for. Raises what read_claims_request() raises.
    """
    asked = read_claims_request(parameters.get("claims", "{}"), acr_values)
    acr = asked.get("id_token", {}).get("acr")
    if isinstance(acr, dict) and ("values" in acr or "value" in acr):
        values = acr.get("values", [acr.get("value")])
        listed = [str(value) for value in values] if isinstance(values, list) else []
        return tuple(value for value in listed if value in acr_values), acr.get("essential") is True
    return tuple(value for value in parameters.get("acr_values", "").split() if value in acr_values), False


def wanted_subjects(claims_request: Mapping[str, Mapping[str, object]]) -> frozenset[str] | None:
    """The people of whom one must be meant, by the sub of the claims request; None where anybody may be.

    OpenID Connect Core 3.1.2.2, 5.5.1: no token is for another one than was asked for by value, essential or not.
    """
    asked = claims_request.get("id_token", {}).get("sub")
    if not isinstance(asked, dict) or asked.keys().isdisjoint({"value", "values"}):
        return None
    values = asked.get("values", [])
    listed = [*(values if isinstance(values, list) else []), *([asked["value"]] if "value" in asked else [])]
    return frozenset(value for value in listed if isinstance(value, str))


def personal_claims(
    claims_request: Mapping[str, Mapping[str, object]], scope: Iterable[str]
) -> frozenset[str]:
    """The claims of a person that are told for this request and scope, in an ID token or by userinfo."""
    held = set(scope)
    return frozenset(
        name
        for name, by in PERSONAL_CLAIMS.items()
        if by in held or any(name in place for place in claims_request.values())
    )


def left_of_claims(
    claims_request: Mapping[str, Mapping[str, object]], *, asked: Iterable[str], left: Iterable[str]
) -> dict[str, dict[str, object]]:
    """The claims request of a person who left these of the scopes asked.

    A claim that a scope stands for is shown to the person as that scope: without the one there is not the other.
    """
    taken = personal_claims({}, asked) - personal_claims({}, left)
    return {
        place: {name: request for name, request in requests.items() if name not in taken}
        for place, requests in claims_request.items()
    }


def _is_request(request: object) -> bool:
    return request is None or isinstance(request, dict)


def _unreadable(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST, description)


def id_token_claims(
    grant: Grant,
    *,
    issuer: str,
    subject: str,
    person: Mapping[str, object],
    scope: tuple[str, ...],
    nonce: str | None,
    access_token: str,
    algorithm: str,
    now: int,
) -> dict[str, object]:
    """The claims of an ID token (K5). person is what is known of the person today, by claim name.

    Of a person it says what claims asked for here, and fhirUser where its scope was granted, as SMART App Launch 2.2
    has it; the rest is for userinfo.
    """
    asked = grant.claims_request.get("id_token", {})
    names = {name for name in PERSONAL_CLAIMS if name in asked}
    if "fhirUser" in scope:
        names.add("fhirUser")
    claims: dict[str, object] = {name: person[name] for name in sorted(names) if name in person}
    claims |= {
        "iss": issuer,
        "sub": subject,
        "aud": grant.client_id,
        "iat": now,
        "exp": now + _ID_TOKEN_SECONDS,
        "at_hash": at_hash(access_token, algorithm),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    if grant.authenticated_at is not None:
        claims["auth_time"] = grant.authenticated_at
    if grant.acr is not None:
        claims["acr"] = grant.acr
    if grant.amr:
        claims["amr"] = list(grant.amr)
    return claims


def userinfo_claims(
    grant: Grant, *, subject: str, person: Mapping[str, object], scope: tuple[str, ...]
) -> dict[str, object]:
    """What userinfo says (OpenID Connect Core 5.3, 5.4): sub, and what scopes and claims asked for."""
    asked = grant.claims_request.get("userinfo", {})
    names = [name for name, by in PERSONAL_CLAIMS.items() if by in scope or name in asked]
    return {"sub": subject, **{name: person[name] for name in names if name in person}}


def at_hash(access_token: str, algorithm: str) -> str:
    """The left half of the token's hash (OpenID Connect Core 3.1.3.6); Ed25519 hashes with SHA-512 (RFC 8032)."""
    digest = (sha512 if algorithm in ("EdDSA", "Ed25519") else sha256)(access_token.encode("ascii")).digest()
    return base64url(digest[: len(digest) // 2])
