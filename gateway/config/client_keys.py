"""The keys of clients in gateway.yaml, by value or by URL, and the subjects of their certificates."""

import json
from collections.abc import Mapping
from pathlib import Path

from authz.protocol import jose
from authz.protocol.addresses import NotFetched, read_url
from authz.protocol.client_keys import ClientKeysError, check_self_signed
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import AuthenticationMethod, CertificateSubject, ProfileName
from authz.protocol.jose import JoseError
from gateway.config.schema import Section

_SUBJECTS = ("subject_dn", "san_dns", "san_uri", "san_ip", "san_email")


def read_jwks(
    section: Section, method: AuthenticationMethod, profile: ProfileName
) -> tuple[tuple[Mapping[str, object], ...], str | None]:
    """The keys, or the URL that they are fetched from."""
    needed = method in (
        AuthenticationMethod.PRIVATE_KEY_JWT,
        AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
    )
    if not section.has("jwks"):
        if needed:
            section.report(
                section.node.place, f"{section.path}.jwks is missing, expected {{file: …}} or {{url: …}}"
            )
        return (), None
    inner = section.section("jwks")
    if inner is None:
        return (), None
    inner.known("file", "url")
    if inner.has("file") == inner.has("url"):
        section.report(inner.node.place, f"{inner.path} must have one of 'file' and 'url'")
        return (), None
    if inner.has("file"):
        return _jwks_by_value(section, method, profile), None
    url = inner.text("url", expected="an https URL")
    try:
        if url:
            read_url(url)
    except NotFetched as error:
        section.report(inner.place("url"), f"{inner.path}.url cannot be fetched: {error}")
    return (), url


def _jwks_by_value(
    section: Section, method: AuthenticationMethod, profile: ProfileName
) -> tuple[Mapping[str, object], ...]:
    path = section.file("jwks")
    if path is None or not path.is_file():
        return ()
    allowed = PROFILES[profile].signing_algorithms
    found = read_jwks_file(section, "jwks", path, also=allowed)
    if method is AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH:
        try:
            # Behind a proxy keys may come without their certificates: nothing here must know them beforehand.
            check_self_signed([key for key in found if "x5c" in key])
        except ClientKeysError as error:
            section.report(section.place("jwks"), f"'{path}': {error}")
    return found


def read_jwks_file(
    section: Section, key: str, path: Path, *, also: frozenset[str] = frozenset()
) -> tuple[Mapping[str, object], ...]:
    """The public keys in a file that a key of the section names; empty when they cannot be used, which is reported."""
    place = section.place(key)
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
        found = tuple(dict(jwk) for jwk in keys)
    except (OSError, ValueError, KeyError, TypeError):
        section.report(place, f"'{path}' does not hold a JWK Set: {{\"keys\": [...]}}")
        return ()
    if not found:
        section.report(place, f"'{path}' holds no key")
    for number, jwk in enumerate(found):
        try:
            jose.import_public_jwk(jwk, also=also)
        except JoseError as error:
            section.report(place, f"key {number} of '{path}': {error}")
    return found


def read_certificate_subject(section: Section, method: AuthenticationMethod) -> CertificateSubject | None:
    """The one expected subject of a tls_client_auth client."""
    inner = section.section("certificate_subject", required=method is AuthenticationMethod.TLS_CLIENT_AUTH)
    if inner is None:
        return None
    inner.known(*_SUBJECTS)
    given = [entry.key for entry in inner.node if entry.key in _SUBJECTS]
    if len(given) != 1:
        inner.report(inner.node.place, f"certificate_subject must have exactly one of {', '.join(_SUBJECTS)}")
        return None
    return CertificateSubject(given[0], inner.text(given[0]))
