"""PyPI requests-oauth2client over the client matrix; beside it only what it lacks, each named where it stands.

usage: python requests_oauth2client_cells.py MATRIX_JSON [NAME…] ; prints one JSON line a cell: {cell, seen} or
{cell, failed}.
"""

import asyncio
import json
import secrets
import ssl
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import requests
from jwskate import Jwk, SignedJwt
from requests_oauth2client import (
    AuthorizationRequest,
    AuthorizationResponse,
    BearerToken,
    DPoPToken,
    OAuth2Client,
    PrivateKeyJwt,
    PublicApp,
)
from requests_oauth2client.dpop import DPoPKey, RepeatedDPoPNonce

from gateway.demo.client import Person

MATRIX: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
CONCURRENT = 4
SIGNED_INTROSPECTION = "application/token-introspection+jwt"


@dataclass
class SignedRequest:
    """What pushed_authorization_request() reads of a request. The library's own signed request cannot be pushed."""

    args: dict[str, str]
    dpop_key: DPoPKey | None


class Pages:
    """People at browsers, played on an event loop of their own, for programs that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._http = asyncio.run_coroutine_threadsafe(self._session(), self._loop).result()

    async def _session(self) -> aiohttp.ClientSession:
        context = ssl.create_default_context(cafile=MATRIX["ca_certificate"])
        connector = aiohttp.TCPConnector(ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    def close(self) -> None:
        """End what the browsers hold open."""
        asyncio.run_coroutine_threadsafe(self._http.close(), self._loop).result()

    def person(self) -> Person:
        """Somebody with a fresh browser."""
        return Person(self._http)

    def authorize(self, person: Person, url: str, *, press: str) -> str:
        """Where the browser is sent in the end."""
        who = MATRIX["person"]
        asked = person.authorize(url, who["username"], who["password"], press=press)
        answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        return f"https://localhost.example/callback?{urlencode(answer)}"


PAGES = Pages()


def session_of(cell: dict[str, Any] | None) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a CA bundle of the environment would be taken before ours
    session.verify = MATRIX["ca_certificate"]
    if cell is not None and cell["certificate"] is not None:
        session.cert = (cell["certificate"], cell["certificate_key"])
    return session


def client_of(cell: dict[str, Any]) -> OAuth2Client:
    """The library's client, made of the metadata."""
    session = session_of(cell)
    metadata = session.get(f"{MATRIX['issuer']}/.well-known/oauth-authorization-server", timeout=10).json()
    if cell["certificate"] is not None:
        metadata |= metadata["mtls_endpoint_aliases"]  # the library knows no aliases
    by_key = cell["authentication"] == "private_key_jwt"
    return OAuth2Client.from_discovery_document(
        metadata,
        issuer=MATRIX["issuer"],
        authorization_server_jwks=session.get(metadata["jwks_uri"], timeout=10).json(),
        # aud: FAPI 2.0 takes the issuer, the library's default is the endpoint. PublicApp sends the client_id, which
        # is all that a client says who authenticates by certificate.
        auth=PrivateKeyJwt(cell["client_id"], Jwk(cell["jwk"]), aud=MATRIX["issuer"])
        if by_key
        else PublicApp(cell["client_id"]),
        redirect_uri=cell.get("redirect_uri"),
        session=session,
        dpop_bound_access_tokens=cell["binding"] == "dpop",
        id_token_signed_response_alg=MATRIX["signing_algorithm"],
    )


ASKING = client_of(
    {**MATRIX["resource_server"], "certificate": None, "authentication": "private_key_jwt", "binding": ""}
)


def introspected(token: str, *, signed: bool = False) -> dict[str, Any]:
    if signed:
        # RFC 9701 is not the library's: it always asks for JSON.
        answer = ASKING.session.post(
            ASKING.introspection_endpoint, data={"token": token}, auth=ASKING.auth,
            headers={"Accept": SIGNED_INTROSPECTION}, timeout=10,
        )  # fmt: skip
        assert answer.headers["Content-Type"] == SIGNED_INTROSPECTION
        claims = verified(ASKING, answer.text, typ="token-introspection+jwt")
        said = claims["token_introspection"]
    else:
        said = ASKING.introspect_token(token)
    seen = {name: said[name] for name in ("active", "client_id", "patient") if name in said}
    return seen | {"bound_by": next(iter(said["cnf"]))} if "cnf" in said else seen


def verified(client: OAuth2Client, token: str, *, typ: str = "JWT") -> dict[str, Any]:
    """The claims of a JWT of the server's, checked by jwskate."""
    jwt = SignedJwt(token)
    assert jwt.typ == typ
    key = client.authorization_server_jwks.get_jwk_by_kid(jwt.kid)
    jwt.verify(key, alg=MATRIX["signing_algorithm"])
    if jwt.issuer != MATRIX["issuer"] or jwt.audiences != [client.client_id]:
        raise ValueError("iss or aud is another's")
    return dict(jwt.claims)


def refusal(act: Any, *args: Any, **options: Any) -> str:
    try:
        act(*args, **options)
    except Exception as error:
        return str(getattr(error, "error", None) or type(error).__name__)
    return "accepted"


class Play:
    """One cell."""

    def __init__(self, cell: dict[str, Any]) -> None:
        self.cell = cell
        self.client = client_of(cell)
        self.base = MATRIX["fhir_base" if cell["binding"] == "dpop" else "fhir_base_mtls"]
        self.api = session_of(cell)

    def status(self, path: str, token: BearerToken) -> int:
        try:
            return self.api.get(self.base + path, auth=token, timeout=10).status_code
        except RepeatedDPoPNonce as error:
            # The library takes every 401 of a DPoP resource for a demand of a nonce.
            return int(error.response.status_code)

    def seen(self) -> dict[str, Any]:
        return self.own() if self.cell["own"] else self.of_a_person()

    def own(self) -> dict[str, Any]:
        token = self.client.client_credentials(scope=self.cell["scope"])
        seen: dict[str, Any] = {"token_type": token.token_type.lower(), "scope": token.scope}
        seen["own"] = self.status("/Observation?category=laboratory&_count=2", token)
        seen["other"] = self.status(f"/Patient/{MATRIX['person']['patient']}", token)
        seen["introspected"] = introspected(token.access_token)
        seen["introspected_signed"] = introspected(token.access_token, signed=True)
        assert self.client.revoke_access_token(token)
        seen["revoked"] = self.revoked("/Observation", token)
        return seen

    def revoked(self, path: str, token: BearerToken) -> dict[str, Any]:
        return {"read": self.status(path, token), "active": introspected(token.access_token)["active"]}

    def ask(self, person: Person, *, press: str = "allow") -> tuple[AuthorizationRequest, str]:
        """The request and the address that the browser was sent to."""
        cell = self.cell
        more: dict[str, Any] = {"response_mode": "jwt"} if cell["signed_responses"] else {}
        if cell["openid"]:
            more["max_age"] = 300
        asked = self.client.authorization_request(
            scope=cell["scope"], authorization_response_iss_parameter_supported=True, **more
        )
        pushed: Any = asked
        if cell["signed_requests"]:
            now = int(time.time())
            claims = {
                **asked.args,
                "iss": cell["client_id"],
                "aud": MATRIX["issuer"],
                "nbf": now,
                "exp": now + 60,
            }
            signed = SignedJwt.sign(
                claims, Jwk(cell["jwk"]), alg=cell["algorithm"], typ="oauth-authz-req+jwt"
            )
            pushed = SignedRequest({"client_id": cell["client_id"], "request": str(signed)}, asked.dpop_key)
        url = self.client.pushed_authorization_request(pushed).uri
        return asked, PAGES.authorize(person, url, press=press)

    def validated(self, asked: AuthorizationRequest, answer: str) -> AuthorizationResponse:
        if not self.cell["signed_responses"]:
            return asked.validate_callback(answer)
        # JARM is not the library's: the signed answer is checked here, what it says goes the library's way.
        (response,) = parse_qs(urlsplit(answer).query, strict_parsing=True)["response"]
        claims = verified(self.client, response)
        return asked.validate_callback(f"{asked.redirect_uri}?{urlencode(claims)}")

    def of_a_person(self) -> dict[str, Any]:
        cell, client = self.cell, self.client
        seen: dict[str, Any] = {}
        person = PAGES.person()
        asked, answer = self.ask(person, press="deny")
        seen["denied"] = refusal(self.validated, asked, answer)
        asked, answer = self.ask(person)
        seen["answer_parameters"] = sorted(parse_qs(urlsplit(answer).query))
        seen["forged"] = {name: refusal(self.validated, asked, url) for name, url in self.forgeries(answer)}
        valid = self.validated(asked, answer)
        token = client.authorization_code(valid, dpop=cell["binding"] == "dpop", validate=False)
        assert isinstance(token, DPoPToken) == (cell["binding"] == "dpop")
        seen |= {"token_type": token.token_type.lower(), "scope": token.scope, "patient": token.patient}
        if cell["openid"]:
            # The library checks signature, aud, exp, nonce, at_hash and auth_time, not iss; and it cannot make the DPoP
            # token again that it has checked, so a twin of it without a key is checked.
            twin = BearerToken(token.access_token, id_token=str(token.id_token))
            claims = twin.validate_id_token(client, valid).id_token.claims
            names = ("iss", "aud", "fhirUser", "acr")
            seen["id_token"] = {name: claims[name] for name in names} | {"at_hash": "at_hash" in claims}
            told = dict(client.userinfo(token))
            assert told.pop("sub") == claims["sub"]
            seen["userinfo"] = told
        own = f"/Patient/{MATRIX['person']['patient']}"
        seen["own"] = self.status(own, token)
        seen["other"] = self.status(f"/Patient/{MATRIX['other_patient']}", token)
        refreshed = client.refresh_token(token)
        seen["refreshed"] = self.status(own, refreshed)
        seen["introspected"] = introspected(refreshed.access_token)
        seen["introspected_signed"] = introspected(refreshed.access_token, signed=True)
        assert client.revoke_access_token(refreshed)
        seen["revoked"] = self.revoked(own, refreshed)
        assert client.revoke_refresh_token(token)
        seen["grant_ended"] = {
            "read": self.status(own, token),
            "refresh": refusal(client.refresh_token, token),
        }
        return seen

    def forgeries(self, answer: str) -> list[tuple[str, str]]:
        """Answers that a client must refuse."""
        given = {name: values[0] for name, values in parse_qs(urlsplit(answer).query).items()}
        address = answer.partition("?")[0]
        if "response" not in given:
            made: dict[str, dict[str, str]] = {
                "other_issuer": given | {"iss": "https://attacker.example"},
                "no_issuer": {name: value for name, value in given.items() if name != "iss"},
                "other_state": given | {"state": secrets.token_urlsafe()},
            }
        else:
            honest = SignedJwt(given["response"])
            key = Jwk.generate(alg=honest.alg)
            made = {}
            for name, changed in (
                ("other_issuer", {"iss": "https://attacker.example"}),
                ("other_client", {"aud": "another"}),
                ("other_key", {}),
            ):
                headers = {"kid": honest.kid}
                forged = SignedJwt.sign({**honest.claims, **changed}, key, typ="JWT", extra_headers=headers)
                made[name] = {"response": str(forged)}
        return [(name, f"{address}?{urlencode(changed)}") for name, changed in made.items()]


def play(cell: dict[str, Any]) -> str:
    try:
        return json.dumps({"cell": cell["name"], "seen": Play(cell).seen()})
    except Exception:
        return json.dumps({"cell": cell["name"], "failed": traceback.format_exc()})


def main() -> None:
    names = sys.argv[2:]
    cells = [cell for cell in MATRIX["cells"] if not names or cell["name"] in names]
    with ThreadPoolExecutor(CONCURRENT) as pool:
        for line in pool.map(play, cells):
            print(line, flush=True)
    PAGES.close()


if __name__ == "__main__":
    main()
