"""Node: oauth4webapi's checks of a resource server before an undici proxy, and oidc-provider as authorization server."""

import json
from pathlib import Path
from typing import Any

from gateway.demo.client import Key

NEEDS = ("node",)
OF_READS = "access token (verified each time), DPoP proof, a Set of jtis; no nonce, policy, record"
OF_TOKENS = "opaque tokens kept in memory, lost with the process; no record"
OF_FLOWS = (
    "PAR, cookies of a person who is signed in, no page (it asks for consent once), code, tokens by DPoP;"
    " all of it in memory, lost with the process; no record"
)
_FOLDER = Path(__file__).parent
_MODULES = _FOLDER.parents[1] / "interop" / "node_modules"


def is_here() -> bool:
    """Whether the packages are installed (`npm ci` in tests/interop)."""
    return (_MODULES / "oauth4webapi").exists() and (_MODULES / "oidc-provider").exists()


def reading(
    folder: Path, name: str, port: int, store: int, issuer: str, audience: str, signer: Key
) -> list[str]:
    """The command of the proxy that checks."""
    jwk = {**signer.public, "kid": signer.kid, "alg": "ES256", "use": "sig"}
    return _command(
        folder,
        name,
        "node_reads.mjs",
        {"port": port, "store": store, "issuer": issuer, "audience": audience, "jwks": {"keys": [jwk]}},
    )


def issuing(folder: Path, name: str, port: int, client: str, key: Key, redirect_uri: str) -> list[str]:
    """The command of the authorization server that knows one client."""
    jwk = {**key.public, "kid": key.kid, "alg": "ES256", "use": "sig"}
    return _command(
        folder,
        name,
        "oidc_provider.mjs",
        {
            "port": port,
            "client": client,
            "jwks": {"keys": [jwk]},
            "redirect_uri": redirect_uri,
            "own_jwks": {"keys": [Key.new("provider-1").private_jwk()]},
        },
    )


def _command(folder: Path, name: str, script: str, settings: dict[str, Any]) -> list[str]:
    home = folder / name
    home.mkdir()
    file = home / "settings.json"
    file.write_text(json.dumps(settings))
    return ["node", str(_FOLDER / script), str(file), str(_MODULES)]
