"""Settings → Facts: certificates read, TLS contexts built, metadata made, hashes taken apart. Nothing secret is kept."""

import base64
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.endpoints.discovery import Discovery
from authz.endpoints.grants import GRANTS
from authz.protocol.client_profiles import PROFILES
from authz.protocol.clients import Client
from authz.protocol.jwk import JoseError, import_public_jwk
from gateway import tls
from gateway.report.rules.facts import (
    CertificateFacts,
    ClientFacts,
    Facts,
    KeyFacts,
    ListenerFacts,
    PasswordFacts,
    UpstreamFacts,
)
from gateway.report.rules.network import is_loopback
from gateway.settings import GatewaySettings, Listener

_VERSIONS = {
    ssl.TLSVersion.TLSv1: "TLSv1",
    ssl.TLSVersion.TLSv1_1: "TLSv1_1",
    ssl.TLSVersion.TLSv1_2: "TLSv1_2",
    ssl.TLSVersion.TLSv1_3: "TLSv1_3",
}


class _Unpublished:
    """No keys: of the metadata only the algorithms depend on them, and these are those of the settings."""

    def __init__(self, algorithms: Sequence[str], id_token_algorithms: Sequence[str]) -> None:
        self.algorithms = algorithms
        self.id_token_algorithms = [*algorithms, *id_token_algorithms]

    def jwks(self) -> Mapping[str, object]:
        return {"keys": []}


def gather(
    settings: GatewaySettings,
    *,
    now: int,
    jwks: Mapping[str, object] | None = None,
    registered: Iterable[Client] = (),
) -> Facts:
    """The facts of these settings at now. jwks is the running server's, None where none runs.

    registered are clients of the registry, which are looked at as those of gateway.yaml are.

    Reads the files of the listeners; what cannot be read is a fact, not an error.
    """
    authorization = settings.authorization
    published, clients = _published(jwks), (*settings.clients, *registered)
    return Facts(
        now=now,
        settings=authorization,
        metadata=Discovery(
            authorization,
            _Unpublished(authorization.signing_algorithms, authorization.id_token_algorithms),
        ).server_metadata(),
        grants=frozenset(map(str, GRANTS)),
        listeners=tuple(_listener(listener, clients) for listener in settings.listeners),
        operations_address=settings.operations.address,
        synchronous=(
            "postgresql"
            if settings.storage.postgresql is not None
            else settings.storage.options.get("synchronous", "normal")
        ),
        upstreams=tuple(
            UpstreamFacts(u.name, u.base, is_loopback(urlsplit(u.base).hostname or ""))
            for u in settings.upstreams
        ),
        passwords=tuple(
            _password(f"users[{number}].password", account.password_hash)
            for number, account in enumerate(settings.accounts, start=1)
        ),
        subjects=frozenset(account.subject for account in settings.accounts),
        clients=tuple(map(_client, clients)),
        jwks=None if jwks is None else tuple(map(_jwk, published)),
        jwks_members=frozenset(name for jwk in published for name in jwk),
    )


def _published(jwks: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    keys = None if jwks is None else jwks.get("keys")
    return [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list | tuple) else []


def _listener(listener: Listener, clients: Iterable[Client]) -> ListenerFacts:
    place = f"listen.{listener.name}"
    proxies = () if listener.proxies is None else listener.proxies.networks
    passed_on = listener.proxies is not None and listener.proxies.certificate_header is not None
    anchors = _certificates(f"{place}.client_certificate_anchors", listener.client_certificate_anchors)
    found = ListenerFacts(
        name=listener.name,
        origin=listener.origin,
        tls=listener.tls is not None,
        anchors=anchors,
        sees_client_certificates=listener.client_certificates or passed_on,
        proxies=proxies,
    )
    if listener.tls is None:
        return found
    certificates = _certificates(f"{place}.tls.certificate", listener.tls.certificate)
    try:
        context = tls.server_context(listener, clients)
    except (OSError, ssl.SSLError, ValueError):
        return _with(found, certificates, (), (), "its certificate and key cannot be used")
    if context is None:
        return found
    lowest = context.minimum_version
    versions = tuple(name for version, name in _VERSIONS.items() if version >= lowest)
    ciphers = tuple(str(c["name"]) for c in context.get_ciphers() if c["protocol"] != "TLSv1.3")
    return _with(found, certificates, versions, ciphers, "")


def _with(
    found: ListenerFacts,
    certificates: tuple[CertificateFacts, ...],
    versions: tuple[str, ...],
    ciphers: tuple[str, ...],
    problem: str,
) -> ListenerFacts:
    return ListenerFacts(
        name=found.name,
        origin=found.origin,
        tls=True,
        versions=versions,
        ciphers=ciphers,
        certificates=certificates,
        anchors=found.anchors,
        sees_client_certificates=found.sees_client_certificates,
        proxies=found.proxies,
        problem=problem,
    )


def _certificates(place: str, path: Path | None) -> tuple[CertificateFacts, ...]:
    if path is None:
        return ()
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return ()
    return tuple(_certificate(place, certificate) for certificate in found)


def _certificate(place: str, certificate: x509.Certificate) -> CertificateFacts:
    hashed = certificate.signature_hash_algorithm
    return CertificateFacts(
        place=place,
        key=_key(certificate.public_key()),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        signature_hash=None if hashed is None else hashed.name,
    )


def _key(key: object) -> KeyFacts:
    if isinstance(key, rsa.RSAPublicKey):
        return KeyFacts("RSA", key.key_size)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return KeyFacts("EC", key.curve.key_size)
    return KeyFacts("OKP", 256) if isinstance(key, ed25519.Ed25519PublicKey) else KeyFacts("?", 0)


def _jwk(jwk: Mapping[str, object], also: frozenset[str] = frozenset()) -> KeyFacts:
    kid, use = jwk.get("kid"), jwk.get("use")
    try:
        found = import_public_jwk(jwk, also=also)
    except JoseError:
        return KeyFacts(str(jwk.get("kty", "?")), _modulus_bits(jwk))
    plain = _key(found.key)
    return KeyFacts(
        plain.kind,
        plain.bits,
        kid=kid if isinstance(kid, str) else None,
        use=use if isinstance(use, str) else None,
        algorithms=tuple(sorted(found.algorithms)),
    )


def _modulus_bits(jwk: Mapping[str, object]) -> int:
    """The bits of a key that is refused: of RSA those of n, else none that count."""
    modulus = jwk.get("n")
    return len(modulus) * 6 // 8 * 8 if isinstance(modulus, str) else 0


def _client(client: Client) -> ClientFacts:
    place = f"clients[{client.client_id}].jwks"
    chains = [jwk.get("x5c") for jwk in client.jwks]
    first = [chain[0] for chain in chains if isinstance(chain, list) and chain and isinstance(chain[0], str)]
    certificates = []
    for text in first:
        try:
            certificate = x509.load_der_x509_certificate(base64.b64decode(text))
        except ValueError:
            continue
        certificates.append(_certificate(place, certificate))
    also = PROFILES[client.profile].signing_algorithms
    return ClientFacts(client, tuple(_jwk(jwk, also) for jwk in client.jwks), tuple(certificates))


def _password(place: str, hashed: str) -> PasswordFacts:
    try:
        found = extract_parameters(hashed)
    except InvalidHashError:
        return PasswordFacts(place, 0, 0)
    return PasswordFacts(place, found.memory_cost, found.time_cost)
