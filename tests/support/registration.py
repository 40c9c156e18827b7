"""Applications that register themselves at the server of tests.support.authorization_server."""

import json
from collections.abc import Mapping
from typing import Any

from authz.registry import Registry
from authz.settings import RegistrationSettings
from tests.support.authorization_server import NOW, REDIRECT_URI, App, Reply, World, http_request
from tests.support.jose import ABSENT, PrivateKey, ec_key, make_jws, public_jwk

STATEMENTS = "https://directory.example"
STATEMENT_KEY = ec_key()
ENABLED = RegistrationSettings(
    enabled=True, statement_issuers={STATEMENTS: (public_jwk(STATEMENT_KEY, kid="d1"),)}
)
AUTOMATIC = RegistrationSettings(enabled=True, automatic=True, statement_issuers=ENABLED.statement_issuers)
WHO = {"who": "alice", "why": "asked for in a ticket"}


def metadata(key: PrivateKey, **changes: Any) -> dict[str, Any]:
    """The document of a portal with this key; ABSENT leaves a member out."""
    value: dict[str, Any] = {
        "client_name": "New portal",
        "redirect_uris": [REDIRECT_URI],
        "token_endpoint_auth_method": "private_key_jwt",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid fhirUser offline_access launch/patient patient/*.rs",
        "jwks": {"keys": [public_jwk(key, kid="n1")]},
        "dpop_bound_access_tokens": True,
    }
    return {name: member for name, member in (value | changes).items() if member is not ABSENT}


def statement(
    key: PrivateKey = STATEMENT_KEY, *, header: Mapping[str, object] | None = None, **claims: Any
) -> str:
    """A software statement; claims replace its claims, ABSENT leaves one out."""
    said: dict[str, Any] = {"iss": STATEMENTS, "iat": NOW, "exp": NOW + 600, "software_id": "s-1"} | claims
    return make_jws(
        key,
        {"alg": "ES256", "kid": "d1"} if header is None else header,
        {name: value for name, value in said.items() if value is not ABSENT},
    )


async def initial_access_token(world: World, **changes: Any) -> str:
    """A new initial access token, for one use unless changes say more."""
    made = await world.server.registry.new_initial_access_token(**{**WHO, "lifetime_seconds": 3600} | changes)
    return made.token


async def send(
    world: World, method: str, path: str, document: object = None, *, token: str | None = None, **more: Any
) -> Reply:
    """A request to the doors of the registry."""
    headers = [("authorization", f"Bearer {token}")] if token is not None else []
    body = b""
    if document is not None:
        headers.append(("content-type", more.pop("content_type", "application/json")))
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await world.send(http_request(method, path, headers=headers, body=body, **more))


class Newcomer:
    """An application with what it was told when it registered."""

    def __init__(self, world: World, key: PrivateKey, told: Mapping[str, Any]) -> None:
        self.world = world
        self.key = key
        self.client_id = str(told["client_id"])
        self.token = str(told["registration_access_token"])
        self.path = f"/register/{self.client_id}"

    async def read(self) -> Reply:
        """What is registered."""
        return await send(self.world, "GET", self.path, token=self.token)

    async def update(self, document: Mapping[str, Any]) -> Reply:
        """Put another document in the place of the registered one."""
        return await send(
            self.world, "PUT", self.path, {"client_id": self.client_id, **document}, token=self.token
        )

    async def delete(self) -> Reply:
        """Delete the registration."""
        return await send(self.world, "DELETE", self.path, token=self.token)

    def app(self) -> App:
        """The software of an approved newcomer."""
        self.world.private = {**self.world.private, self.client_id: self.key}
        made = App.__new__(App)
        made.world, made.client_id, made.registered = (
            self.world,
            self.client_id,
            self.world.server.clients[self.client_id],
        )
        made.dpop_key, made.nonce, made.certificate = ec_key(), None, None
        return made


async def newcomer(world: World, **changes: Any) -> Newcomer:
    """An application that has just registered, and waits where approval is needed."""
    key = ec_key()
    told = await send(
        world, "POST", "/register", metadata(key, **changes), token=await initial_access_token(world)
    )
    assert told.status == 201, told.text
    return Newcomer(world, key, told.json)


async def approved(world: World, **changes: Any) -> Newcomer:
    """An application that somebody approved."""
    found = await newcomer(world, **changes)
    await world.server.registry.approve(found.client_id, **WHO)
    return found


def registry_of(world: World) -> Registry:
    """The operations on this node."""
    return world.server.registry
