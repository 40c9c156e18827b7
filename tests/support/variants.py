"""The variants of FAPI 2.0: how a client authenticates, binds its tokens, asks and is answered, each with a client.

One server serves them all at once. A test over variants runs for each in which its claim has a meaning.
"""

import hmac
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography import x509

from authz.login.browser import COOKIE
from authz.protocol.clients import AuthenticationMethod, BindingKind, CertificateSubject, Client, GrantType
from authz.protocol.errors import OAuthError
from authz.settings import Account
from authz.storage.interactions import BrowserSession
from authz.storage.settings import StoreSettings
from tests.support.authorization_server import (
    ANNA,
    FHIR,
    ISSUER,
    REDIRECT_URI,
    App,
    Person,
    Reply,
    World,
    open_world,
)
from tests.support.jose import (
    ABSENT,
    PrivateKey,
    b64,
    ec_key,
    ed_key,
    issue_certificate,
    public_jwk,
    rsa_key,
    self_signed_certificate,
)

REDIRECT_URI_WITH_QUERY = f"{REDIRECT_URI}?tenant=a%20b"
METHODS = (
    AuthenticationMethod.PRIVATE_KEY_JWT,
    AuthenticationMethod.TLS_CLIENT_AUTH,
    AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
)
BY_KEY, BY_AUTHORITY, BY_SELF_SIGNED = METHODS
DPOP, MTLS = BindingKind.DPOP, BindingKind.MTLS


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to be a FAPI 2.0 client.

    openid  it asks for an ID token too      signed  it must sign its requests      jarm  its answers are signed
    """

    authentication: AuthenticationMethod
    binding: BindingKind
    openid: bool
    signed: bool
    jarm: bool

    @property
    def name(self) -> str:
        """As it stands in the names of tests, and the client_id of its client."""
        return "-".join(
            (
                self.authentication,
                self.binding,
                "openid" if self.openid else "oauth",
                "signed" if self.signed else "unsigned",
                "jarm" if self.jarm else "plain",
            )
        )

    @property
    def number(self) -> int:
        """Its place among all variants."""
        return VARIANTS.index(self)


VARIANTS = tuple(
    Variant(*parts)
    for parts in itertools.product(METHODS, (DPOP, MTLS), (False, True), (False, True), (False, True))
)


def over(**wanted: object) -> pytest.MarkDecorator:
    """Run the test for every variant that has these properties; a tuple means one of several."""
    found = [
        variant
        for variant in VARIANTS
        if all(
            getattr(variant, name) in (value if isinstance(value, tuple) else (value,))
            for name, value in wanted.items()
        )
    ]
    return pytest.mark.parametrize("variant", [pytest.param(variant, id=variant.name) for variant in found])


class VariantApp(App):
    """The software of a variant's client."""

    def __init__(self, world: World, variant: Variant) -> None:
        super().__init__(world, variant.name)
        self.variant = variant

    @property
    def is_dpop(self) -> bool:
        return self.variant.binding is DPOP

    def asking(self, **changes: Any) -> dict[str, str]:
        """The parameters of an authorization request of this variant."""
        asked: dict[str, Any] = {
            "aud": ABSENT,
            "resource": FHIR,
            "scope": "fhirUser offline_access launch/patient patient/*.rs",
        }
        if self.variant.openid:
            asked |= {"scope": f"openid {asked['scope']}", "nonce": "n-1"}
        if self.variant.jarm:
            asked["response_mode"] = "jwt"
        return super().asking(**asked | changes)

    def form(self, **changes: Any) -> dict[str, str]:
        """What is pushed: the parameters, or the request object that holds them."""
        return {"request": self.request_object(**changes)} if self.variant.signed else self.asking(**changes)

    async def push(self, *, proof: str | None = None, **changes: Any) -> Reply:
        """Push an authorization request as this variant does. changes are made before it is signed."""
        return await self.push_form(self.form(**changes), proof=proof)

    async def request(self, **changes: Any) -> Reply:
        """Push an authorization request that must be taken."""
        pushed = await self.push(**changes)
        assert pushed.status == 201, pushed.text
        return pushed

    async def authorize(self, pushed: Reply, action: str = "allow") -> dict[str, str]:
        """The answer of a person who is signed in and allows, or does not."""
        person = await signed_in(self.world)
        page = await person.sign_in(pushed, self.client_id)
        return self.answer(await person.consent(page, action))

    def answer(self, reply: Reply, redirect_uri: str = REDIRECT_URI) -> dict[str, str]:
        """The members of an answer, out of the signed response where this variant has one."""
        location = reply.header("location") or ""
        assert reply.status == 303, reply.text
        start = redirect_uri + ("&" if "?" in redirect_uri else "?")
        assert location.startswith(start)
        assert not urlsplit(location).fragment
        pairs = parse_qsl(location.removeprefix(start), keep_blank_values=True, strict_parsing=True)
        found = dict(pairs)
        assert len(found) == len(pairs)
        if not self.variant.jarm:
            return found
        assert found.keys() == {"response"}, "a plain answer to a client that must have signed ones"
        claims = self.claims(found["response"])
        assert claims.pop("aud") == self.client_id
        assert 10 <= claims.pop("exp") - self.world.clock.now <= 600
        return claims

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a JWT that a published key of the server signed, by a library of somebody else."""
        header = jwt.get_unverified_header(token)
        assert header["alg"] in ("ES256", "PS256", "EdDSA")
        jwk = next(key for key in self.world.keys.jwks()["keys"] if key["kid"] == header["kid"])
        unchecked = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        found: dict[str, Any] = jwt.decode(
            token, jwt.PyJWK(jwk).key, algorithms=[header["alg"]], issuer=ISSUER, options=unchecked
        )
        return found

    async def code(self, *, subject: str = ANNA.subject, pushed: Reply | None = None, **changes: Any) -> str:
        """A code, earned at the pages."""
        assert subject == ANNA.subject
        return (await self.authorize(pushed or await self.request(**changes)))["code"]

    async def tokens(self, **changes: Any) -> dict[str, Any]:
        """The token response to a code."""
        reply = await self.redeem(await self.code(**changes))
        assert reply.status == 200, reply.text
        return reply.json

    def renewed(self) -> "VariantApp":
        """The same client with a new DPoP key, or a new certificate of the same name or key."""
        other = VariantApp(self.world, self.variant)
        other.certificate = certificate_of(self.world, self.variant)
        return other

    def neighbour(self) -> "VariantApp":
        """Another client that authenticates and binds in the same way."""
        ways = (self.variant.authentication, self.variant.binding)
        others = [each for each in VARIANTS if (each.authentication, each.binding) == ways]
        return VariantApp(self.world, next(each for each in others if each != self.variant))

    async def is_refused_at_the_gateway(self, token: str, **overrides: Any) -> bool:
        """Whether a request with the token is refused with 400 or 401. Raises Failed when it is not refused."""
        with pytest.raises(OAuthError) as refused:
            await self.read(token, **overrides)
        return refused.value.status in (400, 401)


async def signed_in(world: World, account: Account = ANNA) -> Person:
    """A person who signed in just now, without the second that a password costs."""
    handle = secrets.token_urlsafe(32)
    now = world.clock.now
    await world.store.put_session(
        BrowserSession(
            id=b64(sha256(handle.encode()).digest()),
            csrf_key=secrets.token_urlsafe(32),
            subject=account.subject,
            authenticated_at=now,
            amr=("pwd",),
            expires_at=now + 3600,
        )
    )
    person = Person(world, account)
    person.cookie = f"{COOKIE}={handle}"
    return person


_CERTIFICATE_KEYS = {variant: ec_key() for variant in VARIANTS}


def signing_keys(variant: Variant) -> dict[str, PrivateKey]:
    """The registered keys of a variant's client by algorithm."""
    return _SIGNING_KEYS[variant]


_SIGNING_KEYS: dict[Variant, dict[str, PrivateKey]] = {
    variant: {"ES256": ec_key(), "EdDSA": ed_key(), "PS256": rsa_key()} for variant in VARIANTS
}


def certificate_of(world: World, variant: Variant) -> bytes | None:
    """A new certificate of the variant's client; None for one that needs none."""
    if variant.authentication is BY_AUTHORITY:
        return issue_certificate(world.authority, names=[x509.DNSName(_host(variant))])
    if variant.authentication is BY_SELF_SIGNED:
        return self_signed_certificate(_CERTIFICATE_KEYS[variant])
    return self_signed_certificate(ec_key()) if variant.binding is MTLS else None


def _host(variant: Variant) -> str:
    return f"portal-{variant.number}.example"


def _client(variant: Variant, like: Client) -> Client:
    jwks = [public_jwk(key, kid=name) for name, key in signing_keys(variant).items()]
    if variant.authentication is BY_SELF_SIGNED:
        jwks.append(public_jwk(_CERTIFICATE_KEYS[variant], kid="certificate"))
    return replace(
        like,
        client_id=variant.name,
        authentication_method=variant.authentication,
        certificate_subject=(
            CertificateSubject("san_dns", _host(variant)) if variant.authentication is BY_AUTHORITY else None
        ),
        jwks=tuple(jwks),
        binding=variant.binding,
        scope=(*like.scope, "system/Observation.rs"),
        grant_types=like.grant_types | {GrantType.CLIENT_CREDENTIALS},
        redirect_uris=(REDIRECT_URI, REDIRECT_URI_WITH_QUERY),
        signed_requests_required=variant.signed,
        signed_responses_required=variant.jarm,
    )


@asynccontextmanager
async def open_variants(
    folder: Path, storage: StoreSettings | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A server with a client of every variant beside the usual ones."""
    async with open_world(folder, storage, **settings) as world:
        world.private = {
            **world.private,
            **{variant.name: signing_keys(variant)["ES256"] for variant in VARIANTS},
        }
        certificates = {variant.name: certificate_of(world, variant) for variant in VARIANTS}
        world.certificates = {
            **world.certificates,
            **{name: der for name, der in certificates.items() if der is not None},
        }
        clients = {variant.name: _client(variant, world.clients["portal"]) for variant in VARIANTS}
        yield await world.reopen(clients=world.clients | clients, **settings)


def at_hash(access_token: str) -> str:
    """The at_hash of an access token for an ID token by ES256 (OpenID Connect Core 3.1.3.6)."""
    return b64(sha256(access_token.encode()).digest()[:16])


def hmac_signature(secret: bytes, data: bytes) -> bytes:
    """HS256, for those who confuse algorithms."""
    return hmac.digest(secret, data, "sha256")
