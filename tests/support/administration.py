"""An administrator's software, against a server in this process: a client of gateway.yaml with the scope securus/admin."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from authz.protocol.clients import AuthenticationMethod, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from tests.support.authorization_server import ISSUER, App, Reply, World, http_request, open_world
from tests.support.jose import ec_key, public_jwk

ADMIN = f"{ISSUER}/admin"
SCOPE = "securus/admin"


class Administrator:
    """Calls doors below /admin with a token and a fresh proof for each call."""

    def __init__(self, app: App, token: str) -> None:
        self.app = app
        self.token = token

    @classmethod
    async def of(cls, world: World, client_id: str = "operations", **asked: str) -> "Administrator":
        """With a token of the client's own."""
        app = world.app(client_id)
        issued = await app.own_token(**({"scope": SCOPE} | asked))
        assert issued.status == 200, issued.text
        return cls(app, issued.json["access_token"])

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        proof: str | None = None,
        content_type: str = "application/json",
        raw: bytes | None = None,
    ) -> Reply:
        """The answer of a door; path is below /admin."""
        path = f"/admin{path}"
        headers = [("authorization", f"DPoP {self.token}"), ("dpop", proof or self.proof(method, path))]
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        if content:
            headers.append(("content-type", content_type))
        return await self.app.world.send(
            http_request(method, path, query=urlencode(query or {}), headers=headers, body=content)
        )

    def proof(self, method: str, path: str, **overrides: Any) -> str:
        """A fresh proof for a call, with a nonce of the resource server."""
        refusal = OAuthError(ErrorCode.USE_DPOP_NONCE, "as if refused")
        challenged = dict(
            self.app.world.server.resource_server.challenge(refusal, http_request(method, path))
        )
        overrides.setdefault("nonce", challenged["DPoP-Nonce"])
        return self.app.proof(path, method=method, access_token=self.token, **overrides)


@asynccontextmanager
async def administered_world(folder: Path) -> AsyncIterator[World]:
    """A server whose gateway.yaml has the client 'operations', which administers it."""
    async with open_world(folder) as plain:
        key = ec_key()
        operations = Client(
            client_id="operations",
            name="Operations",
            authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
            scope=(SCOPE,),
            grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
            jwks=(public_jwk(key),),
        )
        plain.private = {**plain.private, "operations": key, "mixed": key}
        mixed = replace(operations, client_id="mixed", scope=(SCOPE, "system/Patient.r"))
        yield await plain.reopen(clients=plain.clients | {"operations": operations, "mixed": mixed})


def metadata(**changes: object) -> dict[str, object]:
    """Client metadata that is acceptable."""
    return {
        "client_name": "New app",
        "redirect_uris": ["https://new.example/callback"],
        "grant_types": ["authorization_code"],
        "token_endpoint_auth_method": "private_key_jwt",
        "dpop_bound_access_tokens": True,
        "scope": "patient/*.rs",
        "jwks": {"keys": [public_jwk(ec_key(), kid="1")]},
    } | changes
