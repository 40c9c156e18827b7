"""Tokens: client credentials with private_key_jwt and DPoP, beside npm oidc-provider."""

import http.client
import json
import secrets
import time
from functools import partial
from typing import Any
from urllib.parse import urlencode

from gateway.demo import world
from gateway.demo.client import Key
from tests.bench.cases import Contender, Load, alternate, post
from tests.bench.peers import node
from tests.bench.processes import Subject
from tests.bench.servers import Place, Securus

_NOTE = "private_key_jwt and DPoP with nonce checked, both jti claimed, JWT signed, event recorded durably"
_CLIENT, _SCOPE = "lab-backend", "system/Observation.rs"


def rows(place: Place, gateway: Securus, load: Load) -> list[dict[str, Any]]:
    """The rows of token requests."""
    demo = json.loads((gateway.folder / "demo.json").read_text())
    private = next(each["jwks"]["keys"][0] for each in demo["clients"] if each["client_id"] == _CLIENT)
    key = Key.of_jwk(private)
    subject = gateway.subject
    url = f"{gateway.issuer}/token"
    contenders = [
        Contender(subject, partial(_requests, subject, gateway.issuer, url, key, True), 5_000, _NOTE)
    ]
    if node.is_here():
        port = world.free_port()
        issuer = f"http://127.0.0.1:{port}"
        command = node.issuing(place.folder, "oidc-provider", port, _CLIENT, key, world.REDIRECT_URI)
        peer = place.start("oidc-provider", command, port)
        make = partial(_requests, peer, issuer, f"{issuer}/token", key, False)
        contenders.append(Contender(peer, make, 3_000, node.OF_TOKENS))
    return alternate("token", contenders, load, place.folder, 0)


def _requests(
    subject: Subject, issuer: str, url: str, key: Key, takes_nonce: bool, count: int
) -> list[bytes]:
    nonce = {"nonce": _nonce(subject, issuer, url, key)} if takes_nonce else {}
    proof_key = Key.new()
    found = []
    now = int(time.time())
    for _ in range(count):
        proof = proof_key.sign(
            {"htm": "POST", "htu": url, "iat": now, "jti": secrets.token_urlsafe(16), **nonce},
            {"typ": "dpop+jwt", "jwk": proof_key.public},
        )
        found.append(post(subject.port, "/token", _form(issuer, key, now), [f"DPoP: {proof}"]))
    return found


def _form(issuer: str, key: Key, now: int) -> str:
    assertion = key.sign(
        {
            "iss": _CLIENT, "sub": _CLIENT, "aud": issuer, "iat": now, "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
        },
        {"kid": key.kid},
    )  # fmt: skip
    return urlencode(
        {
            "grant_type": "client_credentials",
            "scope": _SCOPE,
            "client_id": _CLIENT,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }
    )


def _nonce(subject: Subject, issuer: str, url: str, key: Key) -> str:
    """The nonce of the authorization server, which a first request without one is told."""

    proof_key = Key.new()
    now = int(time.time())
    proof = proof_key.sign(
        {"htm": "POST", "htu": url, "iat": now, "jti": secrets.token_urlsafe(16)},
        {"typ": "dpop+jwt", "jwk": proof_key.public},
    )
    connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=10)
    headers = {"DPoP": proof, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/token", body=_form(issuer, key, now), headers=headers)
    answer = connection.getresponse()
    nonce = answer.getheader("DPoP-Nonce")
    said = answer.read()
    connection.close()
    if nonce is None:
        raise RuntimeError(f"the authorization server gave no nonce: {said!r}")
    return nonce
