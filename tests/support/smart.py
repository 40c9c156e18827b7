"""Apps of SMART App Launch as they are written: no pushed requests, keys of RSA or P-384, secrets, or neither."""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from authz.protocol.clients import AuthenticationMethod, BindingKind, Client, GrantType, ProfileName
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    NOW,
    REDIRECT_URI,
    VERIFIER,
    Person,
    Reply,
    World,
    answer_of,
    challenge,
    claims_of,
    http_request,
)
from tests.support.jose import ABSENT, b64, ec_key, make_proof, public_jwk, rsa_key

EVERY = frozenset(ProfileName)
SECRET = "S-" + "s" * 40
SCOPE = (
    "openid", "fhirUser", "launch", "launch/patient", "launch/encounter", "offline_access", "online_access",
    "patient/*.rs", "patient/Observation.read", "user/Observation.rs",
)  # fmt: skip
P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa_key()
Key384 = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_APP = Client(
    client_id="smart-app",
    name="Growth chart",
    authentication_method=AuthenticationMethod.NONE,
    scope=SCOPE,
    grant_types=frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN}),
    redirect_uris=(REDIRECT_URI,),
    binding=BindingKind.NONE,
    profile=ProfileName.SMART_PUBLIC,
)


def algorithm_384(key: Key384) -> str:
    """ES384 or RS384."""
    return "RS384" if isinstance(key, rsa.RSAPrivateKey) else "ES384"


def jwk_384(key: Key384, kid: str) -> dict[str, object]:
    """The public JWK of a key for ES384 or RS384."""
    return public_jwk(key, kid=kid, alg=algorithm_384(key))


def signed_384(key: Key384, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    """A compact JWS by RS384 or ES384."""
    parts = (b64(json.dumps(part).encode()) for part in (header, claims))
    text = ".".join(parts)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(text.encode(), padding.PKCS1v15(), SHA384())
    else:
        r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(SHA384())))
        signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return f"{text}.{b64(signature)}"


def assertion_384(key: Key384, client_id: str, *, kid: str, now: int = NOW, **changes: Any) -> str:
    """A client assertion as SMART clients make them: for the token endpoint, good for 5 minutes, without iat."""
    header: dict[str, Any] = {"alg": algorithm_384(key), "kid": kid, "typ": "JWT"}
    header |= changes.pop("header", {})
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": f"{ISSUER}/token",
        "exp": now + 300,
        "jti": secrets.token_urlsafe(16),
    }
    return signed_384(key, header, {n: v for n, v in (claims | changes).items() if v is not ABSENT})


def clients() -> dict[str, Client]:
    """A client of each profile of SMART."""
    asymmetric = replace(
        _APP,
        client_id="smart-keys",
        authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
        profile=ProfileName.SMART_ASYMMETRIC,
        jwks=(jwk_384(P384, "p384"), jwk_384(RSA, "rsa")),
    )
    backend = replace(
        asymmetric,
        client_id="smart-backend",
        scope=("system/Patient.rs",),
        grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
        redirect_uris=(),
    )
    symmetric = replace(
        _APP,
        client_id="smart-secret",
        authentication_method=AuthenticationMethod.CLIENT_SECRET_BASIC,
        profile=ProfileName.SMART_SYMMETRIC,
        secret_digest=sha256(SECRET.encode()).digest(),
    )
    held = replace(_APP, client_id="smart-held", binding=BindingKind.DPOP)
    return {client.client_id: client for client in (_APP, asymmetric, backend, symmetric, held)}


class SmartApp:
    """A SMART app: asks in the browser's address, redeems at the token endpoint."""

    def __init__(self, world: World, client_id: str = "smart-app") -> None:
        self.world = world
        self.client_id = client_id
        self.key = ec_key()
        self.nonce: str | None = None

    def asking(self, **changes: Any) -> dict[str, str]:
        """The parameters of a standalone launch; ABSENT leaves one out."""
        parameters: dict[str, Any] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "launch/patient patient/*.rs",
            "state": "s-1",
            "aud": FHIR,
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (parameters | changes).items() if value is not ABSENT}

    async def ask(self, person: Person, **changes: Any) -> Reply:
        """What the browser sees at the authorization endpoint."""
        return await person.visit(f"/authorize?{urlencode(self.asking(**changes), doseq=True)}")

    async def launch(self, person: Person, **changes: Any) -> str:
        """The code of a launch that the person allows."""
        page = await self.ask(person, **changes)
        if 'name="password"' in page.text:
            page = await person.submit(
                page, username=person.account.username, password="correct horse battery staple"
            )
        answer = answer_of(await person.consent(page))
        assert answer["state"] == "s-1"
        return answer["code"]

    def credentials(self) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """Form parameters and headers that say who asks."""
        if self.client_id == "smart-secret":
            return {}, [("authorization", basic(self.client_id, SECRET))]
        if self.client_id in ("smart-keys", "smart-backend"):
            assertion = assertion_384(P384, self.client_id, kid="p384", now=self.world.clock.now)
            kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            return {"client_assertion_type": kind, "client_assertion": assertion}, []
        return {"client_id": self.client_id}, []

    async def post(self, path: str, form: Mapping[str, str], *, proof: bool = False) -> Reply:
        """POST a form as this app, with a DPoP proof where it has one."""
        said, headers = self.credentials()
        if proof:
            headers.append(
                ("dpop", make_proof(self.key, "POST", ISSUER + path, self.world.clock.now, nonce=self.nonce))
            )
        reply = await self.world.post(path, said | dict(form), headers=headers)
        if proof and self.nonce is None:
            self.nonce = reply.header("dpop-nonce")
            return await self.post(path, form, proof=True)
        return reply

    async def redeem(self, code: str, *, proof: bool = False, **changes: Any) -> Reply:
        """Redeem a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        }
        form = {n: v for n, v in (form | changes).items() if v is not ABSENT}
        return await self.post("/token", form, proof=proof)

    async def refresh(self, token: str, **changes: str) -> Reply:
        """Use a refresh token."""
        return await self.post("/token", {"grant_type": "refresh_token", "refresh_token": token} | changes)

    async def read(self, token: str, *, scheme: str = "Bearer") -> Any:
        """Whom the resource server sees. Raises OAuthError."""
        request = http_request("GET", "/fhir/r4/Patient/A", headers=[("authorization", f"{scheme} {token}")])
        return await self.world.authenticate(request)


class Ehr:
    """A record system: it launches apps with a token of its own."""

    def __init__(self, world: World, client_id: str = "ehr") -> None:
        self.app = world.app(client_id)
        self.world = world

    async def token(self, scope: str = "securus/launch") -> str:
        """Its access token."""
        answer = await self.app.own_token(scope=scope)
        assert answer.status == 200, answer.text
        return str(answer.json["access_token"])

    async def launch(self, *, token: str | None = None, **changes: Any) -> Reply:
        """POST /launch for the app smart-app and Anna; ABSENT leaves a member out."""
        token = await self.token() if token is None else token
        members: dict[str, Any] = {
            "client_id": "smart-app",
            "aud": FHIR,
            "user": ANNA.subject,
            "patient": "A",
        }
        body = json.dumps({n: v for n, v in (members | changes).items() if v is not ABSENT}).encode()
        reading = self.app.reading(token, "/launch")
        nonce = claims_of(reading.headers["dpop"])["nonce"]
        proof = self.app.proof("/launch", nonce=nonce, access_token=token)
        headers = [("authorization", f"DPoP {token}"), ("dpop", proof), ("content-type", "application/json")]
        return await self.world.send(http_request("POST", "/launch", headers=headers, body=body))


def basic(client_id: str, secret: str) -> str:
    """The Authorization header of client_secret_basic."""
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


async def smart_world(world: World, *, launches: bool = False, **settings: Any) -> World:
    """The same store with every profile on and the clients of SMART beside those of FAPI; launches adds record systems."""
    settings.setdefault("profiles", EVERY)
    own = {
        name: replace(world.clients["lab"], client_id=name, scope=("securus/launch", "system/Patient.r"))
        for name in ("ehr", "ehr-without")
    }
    own["ehr-without"] = replace(own["ehr-without"], scope=("system/Patient.r",))
    for name in own:
        dict.__setitem__(cast("dict[str, Any]", world.private), name, world.private["lab"])
    found = {**world.clients, **clients(), **(own if launches else {}), **settings.pop("more", {})}
    return await world.reopen(clients=found, **settings)
