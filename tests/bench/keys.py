"""Keys, tokens and proofs of the load: made before the clock runs, each proof with a jti of its own."""

import json
import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from authz.clock import system_clock
from authz.protocol.encoding import base64url
from authz.storage.sqlite.store import open_store
from gateway.demo import world
from gateway.demo.client import Key
from gateway.settings import GatewaySettings
from gateway.signing_keys import open_key_ring

CLIENT = "portal-dpop"
_BASE = "/fhir/r4"  # of the demonstration's store, which all cases read from


@dataclass(frozen=True)
class Caller:
    """An app with its key, and a token that is bound to it."""

    key: Key
    token: str

    def headers(self, method: str, url: str, nonce: str | None = None) -> list[str]:
        """Authorization and a fresh proof for one request."""
        claims: dict[str, object] = {
            "htm": method,
            "htu": url,
            "ath": base64url(sha256(self.token.encode()).digest()),
            "iat": int(time.time()),
            "jti": secrets.token_urlsafe(16),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        proof = self.key.sign(claims, {"typ": "dpop+jwt", "jwk": self.key.public})
        return [f"Authorization: DPoP {self.token}", f"DPoP: {proof}"]


def thumbprint(key: Key) -> str:
    """RFC 7638."""
    canonical = json.dumps(dict(sorted(key.public.items())), separators=(",", ":")).encode()
    return base64url(sha256(canonical).digest())


def claims_of(
    settings: GatewaySettings, confirmation: dict[str, str], client: str = CLIENT
) -> dict[str, Any]:
    """The claims of a token, as the token endpoint would give them to a patient's portal."""
    now = system_clock()
    return {
        "iss": settings.authorization.issuer,
        "sub": "bench",
        "aud": next(each.identifier for each in settings.upstreams if each.at == _BASE),
        "client_id": client,
        "iat": now,
        "exp": now + 3600,
        "jti": secrets.token_urlsafe(24),
        "grant_id": "bench",
        "scope": "patient/*.rs",
        "patient": world.PATIENT,
        "fhirUser": f"Patient/{world.PATIENT}",
        "cnf": confirmation,
    }


async def token_of_the_server(settings: GatewaySettings, claims: dict[str, Any]) -> str:
    """A token of the server's own key."""
    store = await open_store(Path(settings.storage.path), settings.storage.options)
    try:
        keys = await open_key_ring(settings, store, clock=system_clock, emit=lambda event: None)
        return await keys.sign(claims, typ="at+jwt")
    finally:
        await store.close()


def token_of(signer: Key, claims: dict[str, Any]) -> str:
    """The same of another key, for peers that verify tokens of an issuer they know by its key."""
    return signer.sign(claims, {"typ": "at+jwt", "kid": signer.kid})
