"""A client of the gateway as an app vendor would write it, in one file: metadata, PAR, PKCE, DPoP with nonces, forms.

Knows nothing of the server but the addresses in its metadata and the form ids of its pages. Not used by the server.
"""

import json
import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from authz.protocol.encoding import base64url

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; {} when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class Key:
    """A key pair that signs assertions or proofs."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, kid: str | None = None) -> None:
        self.private = private
        self.kid = kid
        numbers = private.public_key().public_numbers()
        self.public = {
            "kty": "EC",
            "crv": "P-256",
            "x": base64url(numbers.x.to_bytes(32)),
            "y": base64url(numbers.y.to_bytes(32)),
        }

    @classmethod
    def new(cls, kid: str | None = None) -> "Key":
        """A fresh ES256 key."""
        return cls(ec.generate_private_key(ec.SECP256R1()), kid)

    @classmethod
    def of_jwk(cls, jwk: dict[str, Any]) -> "Key":
        """The key of a private JWK."""
        private = jwt.PyJWK(jwk, "ES256").key
        return cls(private, jwk.get("kid"))

    def private_jwk(self) -> dict[str, Any]:
        """The private JWK."""
        number = self.private.private_numbers().private_value
        jwk = {**self.public, "d": base64url(number.to_bytes(32)), "alg": "ES256", "use": "sig"}
        return jwk if self.kid is None else {**jwk, "kid": self.kid}

    def sign(self, claims: dict[str, object], headers: dict[str, Any]) -> str:
        """A JWT."""
        return jwt.encode(claims, self.private, algorithm="ES256", headers=headers)


@dataclass(slots=True)
class Session:
    """One app with its keys, talking to one gateway. Use as an async context manager."""

    http: aiohttp.ClientSession
    issuer: str
    client_id: str
    assertion_key: Key | None = None
    proof_key: Key | None = None
    nonces: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    challenged: int = 0

    async def __aenter__(self) -> "Session":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.http.close()

    async def discover(self) -> dict[str, Any]:
        """Read the server's metadata; everything else is found from it (RFC 8414)."""
        self.metadata = (await self.send("GET", f"{self.issuer}/.well-known/oauth-authorization-server")).json
        return self.metadata

    def endpoint(self, name: str) -> str:
        """An endpoint by its metadata name; the mutual-TLS alias when this app authenticates by certificate."""
        aliases = self.metadata.get("mtls_endpoint_aliases", {}) if self.assertion_key is None else {}
        return str(aliases.get(name) or self.metadata[name])

    def proof(self, method: str, url: str, access_token: str | None = None) -> str:
        """A DPoP proof (RFC 9449 4.2)."""
        if self.proof_key is None:
            raise ValueError("this app has no proof key")
        target = url.partition("?")[0]
        claims: dict[str, object] = {
            "htm": method,
            "htu": target,
            "iat": int(time.time()),
            "jti": base64url(secrets.token_bytes(16)),
        }
        nonce = self.nonces.get(_place(url, access_token))
        if nonce is not None:
            claims["nonce"] = nonce
        if access_token is not None:
            claims["ath"] = base64url(sha256(access_token.encode()).digest())
        return self.proof_key.sign(claims, {"typ": "dpop+jwt", "jwk": self.proof_key.public})

    async def post(self, url: str, form: dict[str, str]) -> Reply:
        """A form to an endpoint, authenticated, with a proof; once again when the server asks for its nonce."""
        sent = dict(form)
        if self.assertion_key is None:
            sent["client_id"] = self.client_id
        else:
            sent |= {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": self._assertion()}
        return await self._with_nonce("POST", url, None, data=sent)

    async def get(self, url: str, access_token: str) -> Reply:
        """A FHIR request with the token."""
        return await self._with_nonce("GET", url, access_token)

    async def file(self, url: str, access_token: str, content: bytes, media_type: str) -> Reply:
        """A document for a mount of documents."""
        return await self._with_nonce("POST", url, access_token, content, media_type)

    async def _with_nonce(
        self,
        method: str,
        url: str,
        access_token: str | None,
        data: dict[str, str] | bytes | None = None,
        media_type: str | None = None,
    ) -> Reply:
        for last in (False, True):
            headers = {} if media_type is None else {"Content-Type": media_type}
            if self.proof_key is not None:
                headers["DPoP"] = self.proof(method, url, access_token)
            if access_token is not None:
                scheme = "Bearer" if self.proof_key is None else "DPoP"
                headers["Authorization"] = f"{scheme} {access_token}"
            reply = await self.send(method, url, headers, data)
            if "dpop-nonce" in reply.headers:
                self.nonces[_place(url, access_token)] = reply.headers["dpop-nonce"]
            asks = "use_dpop_nonce" in reply.headers.get("www-authenticate", "") + str(
                reply.json.get("error", "")
            )
            if last or not asks:
                return reply
            self.challenged += 1
        raise AssertionError("unreachable")

    async def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: dict[str, str] | bytes | None = None,
    ) -> Reply:
        """One request as it is; redirects are not followed."""
        async with self.http.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        ) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, names, await response.read())

    def _assertion(self) -> str:
        if self.assertion_key is None:
            raise ValueError("this app has no assertion key")
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.issuer,
            "iat": now,
            "exp": now + 60,
            "jti": base64url(secrets.token_bytes(16)),
        }
        return self.assertion_key.sign(claims, {"kid": self.assertion_key.kid})

    # The authorization code flow

    async def push(self, redirect_uri: str, scope: str, **more: str) -> tuple[Reply, str, str]:
        """PAR (RFC 9126), with more parameters: the reply, the code verifier and the state."""
        verifier, state = base64url(secrets.token_bytes(32)), base64url(secrets.token_bytes(16))
        form = {
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": base64url(sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            **more,
        }
        reply = await self.post(self.endpoint("pushed_authorization_request_endpoint"), form)
        return reply, verifier, state

    def authorization_url(self, request_uri: str) -> str:
        """Where the person's browser goes."""
        query = urlencode({"client_id": self.client_id, "request_uri": request_uri})
        return f"{self.metadata['authorization_endpoint']}?{query}"

    async def redeem(self, code: str, verifier: str, redirect_uri: str) -> Reply:
        """The code for tokens."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        return await self.post(self.endpoint("token_endpoint"), form)


def _place(url: str, access_token: str | None) -> str:
    """Nonces of the authorization server and of the gateway are different ones."""
    return "gateway" if access_token is not None else "authorization server"


class _Forms(HTMLParser):
    """The form of a page: its action, its fields, its buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: list[tuple[str, str]] = []
        self.buttons: dict[str, tuple[str, str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "button":
            self.buttons[given.get("id", "")] = (given.get("name", ""), given.get("value", ""))
        elif tag == "input" and "name" in given:
            kind = given.get("type", "text")
            if kind not in ("checkbox", "radio") or "checked" in given:
                self.fields.append((given["name"], given.get("value", "")))


class Person:
    """A person at a browser: keeps cookies, reads pages, presses buttons."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._cookies: dict[str, str] = {}
        self.pages: list[str] = []

    async def authorize(
        self, url: str, username: str, password: str, *, press: str = "allow"
    ) -> dict[str, str]:
        """From the authorization URL to the parameters of the answer: signs in, then presses allow or deny."""
        location, page = await self._open("GET", url, None)
        for _ in range(8):
            if location is not None:
                return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
            form = _Forms()
            form.feed(page)
            button = next((b for b in ("login", "select", press) if b in form.buttons), None)
            if button is None:
                raise RuntimeError("the page has no button that this person knows")
            self.pages.append(button)
            filled = {"username": username, "password": password}
            fields = [(name, filled.get(name, value)) for name, value in form.fields]
            fields.append(form.buttons[button])
            location, page = await self._open("POST", urljoin(url, form.action), fields)
        raise RuntimeError("the pages never led back to the app")

    async def _open(
        self, method: str, url: str, fields: list[tuple[str, str]] | None
    ) -> tuple[str | None, str]:
        """The redirect that leaves the site, or the page that was reached."""
        origin = urlsplit(url).netloc
        while True:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
            data = None if fields is None else aiohttp.FormData(fields)
            async with self._http.request(
                method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
            ) as response:
                for cookie in response.headers.getall("Set-Cookie", []):
                    name, _, value = cookie.partition(";")[0].partition("=")
                    self._cookies[name] = value
                if response.status != 303:
                    return None, await response.text()
                target = urljoin(url, response.headers["Location"])
            if urlsplit(target).netloc != origin:
                return target, ""
            method, url, fields = "GET", target, None
