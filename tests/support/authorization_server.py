"""An authorization server in this process, with a real store and real keys, a clock that stands still, and clients.

Requests go through authz.http.read(), so what a test sends is read as strictly as what comes over a wire. Nothing of
the clients' side uses the code under test: keys, proofs, assertions and certificates come from tests.support.jose.
"""

import base64
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography import x509

from authz.account.own_records import OwnRecords
from authz.client_keys import Fetch
from authz.endpoints.client_authentication import Admit
from authz.events import Event
from authz.http import ListenerFace, read
from authz.keys import KeyRing
from authz.login.accounts import hash_password
from authz.login.finding import Finder
from authz.login.given_consents import GivenConsents
from authz.protocol.clients import AuthenticationMethod, BindingKind, CertificateSubject, Client, GrantType
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, BytesBody, HttpRequest
from authz.protocol.tokens import Grant
from authz.resource_server import Authenticated
from authz.server import AuthorizationServer
from authz.settings import Account, AuthorizationSettings, Protected
from authz.storage.grants import AuthorizationCode
from authz.storage.opening import open_storage
from authz.storage.settings import StoreSettings
from authz.storage.store import Store
from tests.support.jose import (
    ABSENT,
    Authority,
    PrivateKey,
    algorithm,
    b64,
    certificate_authority,
    ec_key,
    issue_certificate,
    make_assertion,
    make_jws,
    make_proof,
    public_jwk,
    self_signed_certificate,
    thumbprint,
)

NOW = 1_800_000_000
ISSUER = "https://as.example"
MTLS_ORIGIN = "https://mtls.as.example:8444"
FHIR = f"{ISSUER}/fhir/r4"
FHIR_MTLS = f"{MTLS_ORIGIN}/fhir/r4"
CDA = f"{ISSUER}/cda"
REDIRECT_URI = "https://portal.example/callback"
VERIFIER = "v" * 43
PASSWORD = "correct horse battery staple"
_PASSWORD_HASH = hash_password(PASSWORD)
_FORM = "application/x-www-form-urlencoded"
_numbers = itertools.count(1)
_PREFIX = "urn:ietf:params:oauth:request_uri:"

ANNA = Account(
    username="anna",
    subject="3c9ae2f0",
    password_hash=_PASSWORD_HASH,
    name="Anna Own",
    claims={"fhirUser": "Patient/A", "roles": ["patient"]},
    patient="A",
)
_CODE = frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN})
_SCOPE = ("openid", "fhirUser", "offline_access", "launch/patient", "patient/*.rs", "user/Observation.rs")


def challenge(verifier: str = VERIFIER) -> str:
    """The S256 challenge of a verifier."""
    return b64(sha256(verifier.encode()).digest())


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@dataclass(frozen=True)
class Reply:
    """An answer with what tests ask of it."""

    answer: Answer

    @property
    def status(self) -> int:
        return self.answer.status

    @property
    def text(self) -> str:
        assert isinstance(self.answer.body, bytes)
        return self.answer.body.decode()

    @property
    def json(self) -> dict[str, Any]:
        assert self.header("content-type") == "application/json"
        value = json.loads(self.text)
        assert isinstance(value, dict)
        return value

    def headers(self, name: str) -> list[str]:
        return [value for n, value in self.answer.headers if n.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.headers(name)
        assert len(values) < 2, f"{name} is sent {len(values)} times"
        return values[0] if values else None

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and error code, once the body is shown to be as RFC 6749 5.2 wants it."""
        assert re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", self.json["error_description"])
        assert self.header("cache-control") == "no-store"
        return self.status, self.json["error"]


def http_request(
    method: str,
    path: str,
    *,
    query: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    origin: str = ISSUER,
    certificate: bytes | None = None,
    chain: tuple[bytes, ...] = (),
) -> HttpRequest:
    """The request as a listener of that origin reads it."""
    return read(
        method,
        f"{path}?{query}" if query else path,
        [(name.encode(), value.encode()) for name, value in headers],
        peer_address="192.0.2.7",
        face=ListenerFace(origin),
        certificate=certificate,
        chain=chain,
        body=BytesBody(body),
    )


class World:
    """The server with its store, keys and clock, and everything that it emitted."""

    def __init__(
        self,
        server: AuthorizationServer,
        store: Store,
        keys: KeyRing,
        clock: Clock,
        events: list[Event],
        authority: Authority,
        private: Mapping[str, PrivateKey],
        certificates: Mapping[str, bytes],
        clients: dict[str, Client],
        accounts: dict[str, Account],
        storage: StoreSettings,
    ) -> None:
        self.storage = storage
        self.server = server
        self.store = store
        self.keys = keys
        self.clock = clock
        self.events = events
        self.authority = authority
        self.private = private
        self.certificates = certificates
        self.clients = clients
        self.accounts = accounts

    def app(self, client_id: str = "portal") -> "App":
        """The software of a registered client, with a DPoP key of its own."""
        return App(self, client_id)

    async def send(self, request: HttpRequest) -> Reply:
        """The server's answer."""
        answer = await self.server.handle(request)
        assert answer is not None, f"no door at {request.path}"
        return Reply(answer)

    async def authenticate(self, request: HttpRequest) -> Authenticated:
        """Whom the resource server sees, for the FHIR mount. Raises OAuthError."""
        audience = frozenset({FHIR, FHIR_MTLS})
        return await self.server.resource_server.authenticate(request, audience=audience)

    async def get(
        self, path: str, *, query: str = "", headers: Iterable[tuple[str, str]] = (), **more: Any
    ) -> Reply:
        """GET path."""
        return await self.send(http_request("GET", path, query=query, headers=headers, **more))

    async def post(
        self,
        path: str,
        form: Mapping[str, str] | bytes,
        *,
        headers: Iterable[tuple[str, str]] = (),
        **more: Any,
    ) -> Reply:
        """POST a form."""
        body = form if isinstance(form, bytes) else urlencode(form).encode()
        said = [("content-type", _FORM), *headers]
        return await self.send(http_request("POST", path, headers=said, body=body, **more))

    async def reopen(self, **changed: Any) -> "World":
        """Another process over the same store: a restart, a second node, or a changed configuration."""
        clients = changed.pop("clients", self.clients)
        accounts = changed.pop("accounts", self.accounts)
        fetch = changed.pop("fetch", None)
        server, keys = await _serve(
            self.store, self.clock, self.events, self.authority, clients, accounts, fetch, **changed
        )
        return World(
            server, self.store, keys, self.clock, self.events, self.authority, self.private, self.certificates,
            clients, accounts, self.storage,
        )  # fmt: skip


class App:
    """A client application: authenticates as it is registered and keeps the nonce that it was told."""

    def __init__(self, world: World, client_id: str) -> None:
        self.world = world
        self.client_id = client_id
        self.registered = world.clients[client_id]
        self.dpop_key: PrivateKey = ec_key()
        self.nonce: str | None = None
        self.certificate = world.certificates.get(client_id)

    @property
    def jkt(self) -> str:
        return thumbprint(self.dpop_key)

    @property
    def origin(self) -> str:
        """Where it calls the token endpoint: the alias where a certificate is needed."""
        return MTLS_ORIGIN if self.registered.binding is BindingKind.MTLS else self.pushing_origin

    @property
    def pushing_origin(self) -> str:
        """Where it pushes requests: the alias where it authenticates by certificate."""
        by_key = self.registered.authentication_method is AuthenticationMethod.PRIVATE_KEY_JWT
        return ISSUER if by_key else MTLS_ORIGIN

    def assertion(self, **overrides: Any) -> str:
        """A fresh client assertion. overrides replace claims; ABSENT leaves one out."""
        audience = overrides.pop("aud", ISSUER)
        return make_assertion(
            overrides.pop("key", self.world.private[self.client_id]),
            self.client_id,
            audience,
            self.world.clock.now,
            **overrides,
        )

    def credentials(self) -> dict[str, str]:
        """The form parameters that authenticate it."""
        if self.registered.authentication_method is not AuthenticationMethod.PRIVATE_KEY_JWT:
            return {"client_id": self.client_id}
        return {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": self.assertion(),
        }

    def proof(self, path: str = "/token", *, origin: str | None = None, **overrides: Any) -> str:
        """A fresh proof for POST to path, with the nonce that it knows."""
        overrides.setdefault("nonce", self.nonce)
        return make_proof(
            overrides.pop("key", self.dpop_key),
            overrides.pop("method", "POST"),
            f"{origin or self.origin}{path}",
            overrides.pop("now", self.world.clock.now),
            **overrides,
        )

    def asking(self, **changes: Any) -> dict[str, str]:
        """The parameters of an authorization request; ABSENT leaves one out."""
        parameters: dict[str, Any] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "fhirUser offline_access launch/patient patient/*.rs",
            "state": "s-1",
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            "aud": FHIR,
        }
        return {name: value for name, value in (parameters | changes).items() if value is not ABSENT}

    def request_object(self, **overrides: Any) -> str:
        """A signed authorization request. key signs; header replaces header members; the rest replaces claims."""
        now = self.world.clock.now
        key = overrides.pop("key", self.world.private[self.client_id])
        header = {"alg": algorithm(key), "typ": "oauth-authz-req+jwt"} | overrides.pop("header", {})
        claims = self.asking() | {"iss": self.client_id, "aud": ISSUER, "nbf": now, "exp": now + 300}
        return make_jws(
            key,
            {name: value for name, value in header.items() if value is not ABSENT},
            {name: value for name, value in (claims | overrides).items() if value is not ABSENT},
        )

    async def push_signed(self, **overrides: Any) -> Reply:
        """Push a signed request and nothing beside it."""
        return await self.push_form({"request": self.request_object(**overrides)})

    async def push(self, *, proof: str | None = None, **changes: Any) -> Reply:
        """Push an authorization request."""
        return await self.push_form(self.asking(**changes), proof=proof)

    async def push_form(self, form: Mapping[str, str], *, proof: str | None = None) -> Reply:
        """Push exactly this form, authenticated as this client."""
        origin = self.pushing_origin
        return await self.world.post(
            "/par",
            dict(form) | self.credentials(),
            headers=[] if proof is None else [("dpop", proof)],
            origin=origin,
            certificate=self.certificate if origin == MTLS_ORIGIN else None,
        )

    async def code(self, *, subject: str = ANNA.subject, pushed: Reply | None = None, **changes: Any) -> str:
        """A code, as the consent page would have made it of a pushed request."""
        pushed = pushed or await self.push(**changes)
        assert pushed.status == 201, pushed.text
        world, now = self.world, self.world.clock.now
        handle = pushed.json["request_uri"].removeprefix(_PREFIX)
        record = await world.store.pushed_request(b64(sha256(handle.encode()).digest()), now=now)
        assert record is not None
        number = next(_numbers)
        secret = f"code-{number}"
        scope = tuple(record.parameters["scope"].split())
        grant = Grant(
            grant_id=f"grant-{number}",
            client_id=self.client_id,
            subject=subject,
            scope=scope,
            audience=(FHIR,) if "aud" in record.parameters else (FHIR, CDA),
            context={"patient": "A"},
            claims=dict(ANNA.claims),
            authenticated_at=now,
            acr="urn:securus:acr:password",
            amr=("pwd",),
            created_at=now,
        )
        code = AuthorizationCode(
            id=b64(sha256(secret.encode()).digest()),
            grant_id=grant.grant_id,
            client_id=self.client_id,
            redirect_uri=record.parameters["redirect_uri"],
            code_challenge=record.parameters["code_challenge"],
            dpop_jkt=record.dpop_jkt,
            nonce=record.parameters.get("nonce"),
            expires_at=now + 60,
        )
        assert await world.store.complete_authorization(
            request_id=record.id, interaction_id="none", grant=grant, code=code, now=now
        )
        return secret

    async def learn_nonce(self) -> None:
        """Ask for a nonce as a client does: by being refused for want of one."""
        if self.registered.binding is BindingKind.DPOP:
            headers = [("dpop", self.proof(nonce=None))]
            refused = await self.world.post("/token", {}, headers=headers, origin=self.origin)
            assert refused.refusal == (400, "use_dpop_nonce")
            self.nonce = refused.header("dpop-nonce")

    async def post(self, path: str, form: Mapping[str, str], *, proof: str | None = "", **more: Any) -> Reply:
        """POST a form as this client. proof None sends none, '' a good one."""
        if proof == "":
            proof = None
            if self.registered.binding is BindingKind.DPOP:
                if self.nonce is None:
                    await self.learn_nonce()
                proof = self.proof(path)
        headers = [] if proof is None else [("dpop", proof)]
        more.setdefault("origin", self.origin)
        more.setdefault("certificate", self.certificate)
        return await self.world.post(path, self.credentials() | dict(form), headers=headers, **more)

    async def redeem(self, code: str, **changes: Any) -> Reply:
        """Redeem a code; changes replace form parameters, ABSENT leaves one out."""
        more = {name: changes.pop(name) for name in ("proof", "origin", "certificate") if name in changes}
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": VERIFIER,
        } | changes
        return await self.post("/token", {n: v for n, v in form.items() if v is not ABSENT}, **more)

    async def refresh(self, token: str, **changes: Any) -> Reply:
        """Use a refresh token."""
        more = {name: changes.pop(name) for name in ("proof", "origin", "certificate") if name in changes}
        return await self.post(
            "/token", {"grant_type": "refresh_token", "refresh_token": token} | changes, **more
        )

    async def own_token(self, **changes: Any) -> Reply:
        """Ask for a token of its own by client credentials."""
        more = {name: changes.pop(name) for name in ("proof", "origin", "certificate") if name in changes}
        return await self.post("/token", {"grant_type": "client_credentials"} | changes, **more)

    def reading(
        self, token: str, path: str = "/fhir/r4/Patient/A", *, scheme: str | None = None, **overrides: Any
    ) -> HttpRequest:
        """GET of a protected resource with the token and, for a DPoP client, a fresh proof that overrides change."""
        dpop = self.registered.binding is BindingKind.DPOP
        origin = overrides.pop("origin", self.origin)
        certificate = overrides.pop("certificate", self.certificate)
        headers = [("authorization", f"{scheme or ('DPoP' if dpop else 'Bearer')} {token}")]
        if dpop:
            nonces = self.world.server.resource_server
            refusal = OAuthError(ErrorCode.USE_DPOP_NONCE, "as if refused")
            challenged = dict(nonces.challenge(refusal, http_request("GET", path)))
            overrides.setdefault("nonce", challenged["DPoP-Nonce"])
            overrides.setdefault("access_token", token)
            headers.append(("dpop", self.proof(path, origin=origin, method="GET", **overrides)))
        return http_request("GET", path, headers=headers, origin=origin, certificate=certificate)

    async def read(self, token: str, path: str = "/fhir/r4/Patient/A", **overrides: Any) -> Authenticated:
        """What the resource server makes of reading(). Raises OAuthError."""
        return await self.world.authenticate(self.reading(token, path, **overrides))


class Person:
    """A browser with a person before it: follows the pages, keeps the cookie."""

    def __init__(self, world: World, account: Account = ANNA) -> None:
        self.world = world
        self.account = account
        self.cookie: str | None = None

    async def visit(self, url: str) -> Reply:
        """GET a page and every page that it leads to on this server."""
        parts = urlsplit(url)
        return await self._follow(
            await self.world.get(parts.path, query=parts.query, headers=self._headers())
        )

    async def submit(self, page: Reply, **fields: str) -> Reply:
        """Send the form of a page with its hidden fields and these."""
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert action, page.text
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        form = {name: unescape(value) for name, value in hidden.items()} | fields
        return await self._follow(await self.world.post(unescape(action[1]), form, headers=self._headers()))

    async def sign_in(self, pushed: Reply, client_id: str = "portal") -> Reply:
        """Go to the authorization endpoint and sign in, as far as the consent page."""
        query = urlencode({"client_id": client_id, "request_uri": pushed.json["request_uri"]})
        page = await self.visit(f"/authorize?{query}")
        if 'name="password"' in page.text:
            page = await self.submit(page, username=self.account.username, password=PASSWORD)
        return page

    async def consent(self, page: Reply, action: str = "allow") -> Reply:
        """Answer the consent page, every scope ticked; the redirect to the client."""
        return await self._follow(await self.world.send(self.consent_request(page, action)))

    def consent_request(self, page: Reply, action: str = "allow") -> HttpRequest:
        """What the browser sends for consent()."""
        scopes = re.findall(r'<input[^>]* name="scope"[^>]* value="([^"]*)"', page.text)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        body = urlencode([*hidden.items(), *(("scope", unescape(s)) for s in scopes), ("action", action)])
        headers = [("content-type", _FORM), *self._headers()]
        return http_request("POST", "/consent", headers=headers, body=body.encode())

    def _headers(self) -> list[tuple[str, str]]:
        return [] if self.cookie is None else [("cookie", self.cookie)]

    async def _follow(self, reply: Reply) -> Reply:
        for _ in range(8):
            for cookie in reply.headers("set-cookie"):
                self.cookie = cookie.partition(";")[0]
            location = reply.header("location") or ""
            if reply.status != 303 or not location.startswith("/"):
                return reply
            parts = urlsplit(location)
            reply = await self.world.get(parts.path, query=parts.query, headers=self._headers())
        raise AssertionError("the pages go round in a circle")


def answer_of(reply: Reply) -> dict[str, str]:
    """The parameters of a redirect to the client, each of which must be there once."""
    assert reply.status == 303
    pairs = parse_qsl(urlsplit(reply.header("location") or "").query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    part = token.split(".")[1]
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(value, dict)
    return value


def _clients(authority: Authority) -> tuple[dict[str, Client], dict[str, PrivateKey], dict[str, bytes]]:
    names = (
        "portal",
        "portal-2",
        "portal-mtls",
        "portal-self-signed",
        "lab",
        "exchange",
        "key-and-certificate",
        "portal-signed",
        "resource-server",
    )
    private: dict[str, PrivateKey] = {name: ec_key() for name in names}
    portal = Client(
        client_id="portal",
        name="Patient portal",
        authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
        scope=_SCOPE,
        grant_types=_CODE,
        redirect_uris=(REDIRECT_URI, f"{REDIRECT_URI}?tenant=a%20b"),
        jwks=(public_jwk(private["portal"], kid="p1"),),
    )
    by_certificate = replace(
        portal,
        client_id="portal-mtls",
        authentication_method=AuthenticationMethod.TLS_CLIENT_AUTH,
        certificate_subject=CertificateSubject("san_dns", "portal.example"),
        binding=BindingKind.MTLS,
        jwks=(),
    )
    lab = Client(
        client_id="lab",
        name="Laboratory",
        authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
        scope=("system/Observation.rs", "system/Patient.r", "fhirUser"),
        grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
        jwks=(public_jwk(private["lab"]),),
        claims={"organisation": "lab-1"},
    )
    clients = [
        portal,
        replace(portal, client_id="portal-2", jwks=(public_jwk(private["portal-2"]),)),
        by_certificate,
        replace(
            by_certificate,
            client_id="portal-self-signed",
            authentication_method=AuthenticationMethod.SELF_SIGNED_TLS_CLIENT_AUTH,
            certificate_subject=None,
            jwks=(public_jwk(private["portal-self-signed"]),),
        ),
        replace(portal, client_id="key-and-certificate", binding=BindingKind.MTLS,
                jwks=(public_jwk(private["key-and-certificate"]),)),
        lab,
        replace(portal, client_id="portal-signed", jwks=(public_jwk(private["portal-signed"]),),
                signed_requests_required=True, signed_responses_required=True),
        replace(lab, client_id="resource-server", jwks=(public_jwk(private["resource-server"]),),
                may_introspect=True),
        replace(
            by_certificate,
            client_id="exchange",
            scope=("system/DocumentReference.rs",),
            grant_types=frozenset({GrantType.CLIENT_CREDENTIALS}),
            redirect_uris=(),
            certificate_subject=CertificateSubject("san_dns", "exchange.example"),
        ),
    ]  # fmt: skip
    certificates = {
        "portal-mtls": issue_certificate(authority, names=[x509.DNSName("portal.example")]),
        "exchange": issue_certificate(authority, names=[x509.DNSName("exchange.example")]),
        "portal-self-signed": self_signed_certificate(private["portal-self-signed"]),
        "key-and-certificate": self_signed_certificate(ec_key()),
    }
    return {client.client_id: client for client in clients}, private, certificates


SETTINGS = AuthorizationSettings(
    issuer=ISSUER,
    mtls_origin=MTLS_ORIGIN,
    resources=(
        Protected(identifier=FHIR, path="/fhir/r4", kind="fhir-r4", aliases=(FHIR_MTLS,)),
        Protected(identifier=CDA, path="/cda", kind="cda-rest", aliases=(f"{MTLS_ORIGIN}/cda",)),
    ),
    scopes_supported=_SCOPE,
    sign_in_attempts_per_minute=1000,
)


async def _serve(
    store: Store,
    clock: Clock,
    events: list[Event],
    authority: Authority,
    clients: Mapping[str, Client],
    accounts: Mapping[str, Account],
    fetch: Fetch | None = None,
    finders: Mapping[str, Finder] | None = None,
    given: Mapping[str, GivenConsents] | None = None,
    admit: Admit | None = None,
    own: OwnRecords | None = None,
    **settings: Any,
) -> tuple[AuthorizationServer, KeyRing]:
    algorithms = settings.get("signing_algorithms", SETTINGS.signing_algorithms)
    id_token_algorithms = settings.get("id_token_algorithms", ())
    keys = await KeyRing.open(
        store,
        encryption_key=b"k" * 32,
        algorithms=algorithms,
        id_token_algorithms=id_token_algorithms,
        clock=clock,
        emit=events.append,
    )
    server = await AuthorizationServer.open(
        settings=replace(SETTINGS, certificate_anchors=(authority.der,), **settings),
        store=store,
        keys=keys,
        clients=clients,
        accounts=accounts,
        emit=events.append,
        clock=clock,
        grantable=lambda text: "nonsense" not in text,
        fetch=fetch,
        finders=finders,
        admit=admit,
        own=own,
        given=given,
    )
    return server, keys


@asynccontextmanager
async def open_world(
    folder: Path, storage: StoreSettings | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A server over a new store in folder, or over storage; settings replace those of SETTINGS."""
    storage = storage or StoreSettings(path=str(folder / "securus.db"))
    store = await open_storage(storage)
    try:
        clock, events, authority = Clock(), list[Event](), certificate_authority()
        clients, private, certificates = _clients(authority)
        accounts = {ANNA.username: ANNA}
        server, keys = await _serve(store, clock, events, authority, clients, accounts, **settings)
        yield World(
            server, store, keys, clock, events, authority, private, certificates, clients, accounts, storage
        )  # fmt: skip
    finally:
        await store.close()
