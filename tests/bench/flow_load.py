"""The load of the case code-flow: people who are signed in use an app, again and again, each in a lane of its own.

usage: python -m tests.bench.flow_load SETTINGS_JSON SECONDS; prints `ready`, waits for a line, runs, prints how many
flows there were, in how many seconds, p50 and p99 in ms. A flow is a pushed request, the authorization request with the
browser's cookies, whatever page comes, and the code for tokens by a proof.
"""

import asyncio
import json
import secrets
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import aiohttp
import uvloop
from yarl import URL

from authz.protocol.encoding import base64url
from gateway.demo.client import Key, _Forms

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MOST_STEPS = 12


class Lane:
    """People with a browser of their own each, one after the other, and the app.

    settings: port, issuer, paths, client, key, redirect_uri, scope.
    """

    def __init__(
        self, http: aiohttp.ClientSession, settings: dict[str, Any], people: list[dict[str, str]]
    ) -> None:
        self._http = http
        self._settings = settings
        self._key = Key.of_jwk(settings["key"])
        self._proof_key = Key.new()
        self._origin = f"http://127.0.0.1:{settings['port']}"
        self._browsers: list[tuple[dict[str, str], dict[str, str]]] = [(person, {}) for person in people]
        self._person, self._cookies = self._browsers[0]
        self._nonce: str | None = None

    async def flow(self) -> None:
        """From the pushed request to tokens, of the next of the people. Raises RuntimeError."""
        said = self._settings
        self._browsers.append(self._browsers.pop(0))
        self._person, self._cookies = self._browsers[-1]
        verifier = base64url(secrets.token_bytes(32))
        pushed = {
            "response_type": "code",
            "redirect_uri": said["redirect_uri"],
            "scope": said["scope"],
            "state": base64url(secrets.token_bytes(16)),
            "code_challenge": base64url(sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        answer = await self._post(said["paths"]["par"], pushed, 201)
        query = {"client_id": said["client"], "request_uri": answer["request_uri"]}
        code = await self._authorize(f"{self._origin}{said['paths']['authorize']}?{urlencode(query)}")
        redeemed = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": said["redirect_uri"],
        }
        answer = await self._post(said["paths"]["token"], redeemed, 200)
        if answer["token_type"] != "DPoP" or "id_token" not in answer:
            raise RuntimeError(f"not what was asked for: {sorted(answer)}")

    async def _post(self, path: str, form: dict[str, str], status: int) -> dict[str, Any]:
        """A form to the server by the app, with a proof where there are tokens; again where a nonce is asked for."""
        said, now = self._settings, int(time.time())
        for _ in range(2):
            claims: dict[str, object] = {
                "iss": said["client"], "sub": said["client"], "aud": said["issuer"], "iat": now, "exp": now + 60,
                "jti": secrets.token_urlsafe(16),
            }  # fmt: skip
            assertion = self._key.sign(claims, {"kid": self._key.kid})
            sent = {
                "client_id": said["client"], "client_assertion_type": _ASSERTION, "client_assertion": assertion, **form,
            }  # fmt: skip
            headers = {"DPoP": self._proof(said["issuer"] + path)} if status == 200 else {}
            async with self._http.post(self._origin + path, data=sent, headers=headers) as response:
                self._nonce = response.headers.get("DPoP-Nonce", self._nonce)
                answer: dict[str, Any] = await response.json()
                if response.status == status:
                    return answer
                if answer.get("error") != "use_dpop_nonce":
                    raise RuntimeError(f"{path}: {response.status} {answer}")
        raise RuntimeError(f"{path}: a nonce is asked for again and again")

    def _proof(self, url: str) -> str:
        claims: dict[str, object] = {
            "htm": "POST", "htu": url, "iat": int(time.time()), "jti": secrets.token_urlsafe(16)
        }  # fmt: skip
        if self._nonce is not None:
            claims["nonce"] = self._nonce
        return self._proof_key.sign(claims, {"typ": "dpop+jwt", "jwk": self._proof_key.public})

    async def _authorize(self, url: str) -> str:
        """The code, through every page on the way."""
        fields: list[tuple[str, str]] | None = None
        for _ in range(_MOST_STEPS):
            location, page = await self._open(url, fields)
            if location is None:
                form = _Forms()
                form.feed(page)
                button = next(
                    (form.buttons[name] for name in ("login", "allow") if name in form.buttons), None
                )
                fields = [(name, self._person.get(name, value)) for name, value in form.fields]
                fields += [button] if button is not None else []
                url = self._here(urljoin(url, form.action))
            elif location.startswith(self._settings["redirect_uri"]):
                found = parse_qs(urlsplit(location).query)
                if "code" not in found:
                    raise RuntimeError(f"no code: {found}")
                return found["code"][0]
            else:
                url, fields = self._here(urljoin(url, location)), None
        raise RuntimeError("the pages never led back to the app")

    def _here(self, url: str) -> str:
        """The address at the plain listener that is measured."""
        return self._origin + url.removeprefix(self._settings["issuer"]).removeprefix(self._origin)

    async def _open(self, url: str, fields: list[tuple[str, str]] | None) -> tuple[str | None, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        method, data = ("GET", None) if fields is None else ("POST", aiohttp.FormData(fields))
        async with self._http.request(
            method, URL(url, encoded=True), data=data, headers={"Cookie": cookies}, allow_redirects=False
        ) as response:
            for cookie in response.headers.getall("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                self._cookies[name] = value
                if not value:
                    del self._cookies[name]
            page = await response.text()
            if response.status not in (200, 302, 303):
                raise RuntimeError(f"{url}: {response.status} {page}")
            return response.headers.get("Location"), page


async def main(settings: dict[str, Any], seconds: float) -> None:
    """Sign everybody in, wait for the word, run, print."""
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
    ) as http:
        people, count = settings["people"], settings["lanes"]
        lanes = [Lane(http, settings, people[number::count]) for number in range(count)]
        for _ in range(len(people) // count):
            for lane in lanes:
                await lane.flow()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        times: list[float] = []
        began = time.perf_counter()

        async def run(lane: Lane) -> None:
            while (started := time.perf_counter()) - began < seconds:
                await lane.flow()
                times.append(time.perf_counter() - started)

        await asyncio.gather(*map(run, lanes))
        took = time.perf_counter() - began
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.99))
    print(len(times), took, p50, p99)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(Path(sys.argv[1]).read_text()), float(sys.argv[2])))
