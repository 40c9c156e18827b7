"""Every way in which a client may be registered, one client each, in front of a gateway that runs as a process.

Client authentication × what tokens are bound to × OAuth or OpenID Connect × unsigned or signed requests × plain or
signed answers; and client credentials for each authentication × binding.
"""

import asyncio
import datetime
import json
import sys
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authz.protocol.encoding import base64url
from authz.protocol.jwk import PrivateKey, public_jwk
from gateway.demo import world
from gateway.demo.authority import Authority
from tests.support.processes import GatewayProcess, start_process

AUTHENTICATIONS = (
    ("private_key_jwt", "ES256"),
    ("private_key_jwt", "PS256"),
    ("private_key_jwt", "EdDSA"),
    ("tls_client_auth", "ES256"),
    ("self_signed_tls_client_auth", "ES256"),
)
"""Each with the algorithm of the client's signing key, which signs request objects where certificates authenticate."""
SIGNED_OUT_URI = "https://localhost.example/signed-out"
_CODE_SCOPE = "offline_access launch/patient patient/*.rs"
_OWN_SCOPE = "system/Observation.rs"
_LABORATORY = {"organization": "laboratory", "purpose_of_use": ["TREAT"]}


@dataclass(frozen=True, slots=True)
class Cell:
    """One client of the matrix. own: it uses client credentials, and the last three say nothing."""

    authentication: str
    algorithm: str
    binding: str
    own: bool = False
    openid: bool = False
    signed_requests: bool = False
    signed_responses: bool = False

    @property
    def name(self) -> str:
        """What the client, and the test of it, is called."""
        words = [self.authentication]
        if self.authentication == "private_key_jwt":
            words.append(self.algorithm)
        words.append(self.binding)
        if self.own:
            return "-".join([*words, "own"])
        words.append("openid" if self.openid else "oauth")
        words.append("jar" if self.signed_requests else "plain")
        words.append("jarm" if self.signed_responses else "query")
        return "-".join(words)

    @property
    def has_certificate(self) -> bool:
        """Whether it connects with a certificate, to authenticate by it or to bind tokens to it."""
        return self.authentication != "private_key_jwt" or self.binding == "mtls"

    @property
    def scope(self) -> str:
        """All that it may ask for."""
        if self.own:
            return _OWN_SCOPE
        return f"openid profile fhirUser {_CODE_SCOPE}" if self.openid else _CODE_SCOPE


_CHOICE = (False, True)
CODE_CELLS = tuple(
    Cell(authentication, algorithm, binding, False, openid, requests, responses)
    for (authentication, algorithm), binding, openid, requests, responses in product(
        AUTHENTICATIONS, ("dpop", "mtls"), _CHOICE, _CHOICE, _CHOICE
    )
)
OWN_CELLS = tuple(
    Cell(authentication, algorithm, binding, own=True)
    for (authentication, algorithm), binding in product(AUTHENTICATIONS, ("dpop", "mtls"))
)
CELLS = (*CODE_CELLS, *OWN_CELLS)


@dataclass
class Matrix:
    """The running gateway, its store, and the file that tells client programs all they need."""

    gateway: GatewayProcess
    store: asyncio.subprocess.Process
    file: Path

    async def stop(self) -> None:
        """End both processes."""
        await self.gateway.stop()
        with suppress(ProcessLookupError):
            self.store.terminate()
        await self.store.wait()


async def start_matrix(folder: Path, cells: tuple[Cell, ...] = CELLS, *, algorithm: str = "ES256") -> Matrix:
    """A gateway that signs with algorithm and knows a client for every cell; matrix.json tells their keys."""
    port = world.free_port()
    store = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.demo.fhir_server", str(port),
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert store.stdout is not None
    assert await store.stdout.readline() == b"ready\n"
    told: list[dict[str, Any]] = []

    def change(document: dict[str, Any]) -> None:
        authority = Authority.new("Certificates of the matrix's clients")
        (folder / "clients-ca.pem").write_bytes(authority.pem)
        document["listen"]["mtls"]["client_certificate_anchors"] = {"file": "clients-ca.pem"}
        document["upstreams"]["fhir"]["base"] = f"http://127.0.0.1:{port}/fhir"
        document["keys"]["algorithm"] = algorithm
        document["authorization"]["sign_in_attempts"] = "1000/min"
        for cell in cells:
            entry, facts = _client(folder, authority, cell)
            document["clients"].append(entry)
            told.append(facts)

    try:
        gateway = await start_process(folder, change=change)
    except BaseException:
        store.terminate()
        await store.wait()
        raise
    file = folder / "matrix.json"
    file.write_text(json.dumps({**_common(gateway.facts, algorithm), "cells": told}, indent=1))
    return Matrix(gateway, store, file)


def _common(facts: dict[str, Any], algorithm: str) -> dict[str, Any]:
    """What is the same for every client: addresses, the person, a resource server that may introspect."""
    person = next(user for user in facts["users"] if user["username"] == "stephen")
    asking = next(client for client in facts["clients"] if client["name"] == "resource-server")
    return {
        "issuer": facts["issuer"],
        "ca_certificate": facts["ca_certificate"],
        "fhir_base": facts["fhir_base"],
        "fhir_base_mtls": facts["fhir_base_mtls"],
        "signing_algorithm": algorithm,
        "person": person,
        "other_patient": world.OTHER_PATIENT,
        "resource_server": {"client_id": asking["client_id"], "jwk": asking["jwks"]["keys"][0]},
    }


def _client(folder: Path, authority: Authority, cell: Cell) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its entry in gateway.yaml, and what its own developer knows."""
    key = new_key(cell.algorithm)
    kid = f"{cell.name}-1"
    certificate, certificate_key = folder / f"{cell.name}.pem", folder / f"{cell.name}.key"
    keys = [public_jwk(key, kid=kid)]
    entry: dict[str, Any] = {
        "client_id": cell.name,
        "name": cell.name,
        "contact": "support@vendor.example",
        "authentication": cell.authentication,
        "binding": cell.binding,
        "grants": ["client_credentials"] if cell.own else ["authorization_code", "refresh_token"],
        "scope": cell.scope,
        "jwks": {"file": f"{cell.name}.jwks.json"},
        "signed_requests": "required" if cell.signed_requests else "optional",
        "signed_responses": "required" if cell.signed_responses else "optional",
    }
    if cell.own:
        entry["claims"] = _LABORATORY
    else:
        entry["redirect_uris"] = [world.REDIRECT_URI]
        entry["post_logout_redirect_uris"] = [SIGNED_OUT_URI]
    if cell.authentication == "self_signed_tls_client_auth":
        keys.append(self_signed(certificate, certificate_key, cell.name))
    elif cell.has_certificate:
        dns = f"{cell.name.replace('_', '-')}.vendor.example"
        authority.issue(certificate, certificate_key, dns, server=False)
        if cell.authentication == "tls_client_auth":
            entry["certificate_subject"] = {"san_dns": dns}
    (folder / f"{cell.name}.jwks.json").write_text(json.dumps({"keys": keys}))
    told = {
        "name": cell.name,
        "client_id": cell.name,
        "authentication": cell.authentication,
        "algorithm": cell.algorithm,
        "binding": cell.binding,
        "own": cell.own,
        "openid": cell.openid,
        "signed_requests": cell.signed_requests,
        "signed_responses": cell.signed_responses,
        "scope": cell.scope,
        "jwk": private_jwk(key, kid),
        "certificate": str(certificate) if cell.has_certificate else None,
        "certificate_key": str(certificate_key) if cell.has_certificate else None,
        "redirect_uri": world.REDIRECT_URI,
        "signed_out_uri": SIGNED_OUT_URI,
    }
    return entry, told


def new_key(algorithm: str) -> PrivateKey:
    """A fresh key that signs with algorithm."""
    if algorithm == "PS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm == "EdDSA"
        else ec.generate_private_key(ec.SECP256R1())
    )


def private_jwk(key: PrivateKey, kid: str) -> dict[str, object]:
    """The private JWK that a client library reads (RFC 7517, RFC 7518 6, RFC 8037 2)."""
    jwk = public_jwk(key, kid=kid)
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.private_numbers()
        members = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
        members |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
        return jwk | {name: _number(value, (value.bit_length() + 7) // 8) for name, value in members.items()}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return jwk | {"d": _number(key.private_numbers().private_value, 32)}
    return jwk | {"d": base64url(key.private_bytes_raw())}


def _number(value: int, size: int) -> str:
    return base64url(value.to_bytes(size, "big"))


def self_signed(certificate: Path, key_file: Path, name: str) -> dict[str, object]:
    """A certificate of nobody's but its own, written as files; the JWK with x5c that registers it (RFC 8705 2.2.2)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(built.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    encoded = b64encode(built.public_bytes(Encoding.DER)).decode()
    return public_jwk(key, kid=f"{name}-certificate") | {"x5c": [encoded]}
