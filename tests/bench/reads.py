"""Reads and searches by DPoP: 2 KB, 100 KB, and a narrowed search of a 1 MB Bundle, beside peers."""

import asyncio
import http.client
import os
import secrets
from functools import partial
from typing import Any

from gateway.demo import world
from gateway.demo.client import Key
from tests.bench import half_load, keys
from tests.bench.cases import Contender, Load, alternate, get
from tests.bench.keys import Caller
from tests.bench.peers import apache, haproxy, node
from tests.bench.processes import Subject
from tests.bench.servers import (
    LARGE_PATH,
    PATIENT_PATH,
    SEARCH_PATH,
    Place,
    Securus,
    nginx_without_checks,
    securus,
)

CHECKS = "access token, DPoP proof with nonce, replay claim, scopes, policies, durable audit record"
_WITH_PROOFS = ("securus", "mod_oauth2", "node")
_HOP = "proxy_pass with upstream keep-alive, no checks"
_ISSUER = "https://issuer.example"
_AUDIENCE = "https://gateway.example/fhir/r4"


def rows(place: Place, gateway: Securus, load: Load) -> list[dict[str, Any]]:
    """The rows of reads and searches."""
    caller = _caller(gateway)
    nginx = nginx_without_checks(place)
    found = []
    for case, path, divisor in (
        ("dpop-read-2k", PATIENT_PATH, 1.0),
        ("dpop-read-100k", LARGE_PATH, 1.0),
        ("search-1m", SEARCH_PATH, 4.0),
    ):
        checked = partial(_of_the_gateway, gateway, caller, path)
        plain = partial(_plain, nginx, path)
        contenders = [
            Contender(gateway.subject, checked, 12_000 if path == PATIENT_PATH else 4_000, CHECKS),
            Contender(nginx, plain, 0, _HOP, again=True),
        ]
        if case == "dpop-read-2k":
            contenders += [_two_workers(place, path), *_peers(place)]
        expected = len(place.bodies[path]) if path != SEARCH_PATH else 1_000_000
        measured = alternate(case, contenders, load, place.folder, expected, divisor=divisor)
        found += measured
        if case == "dpop-read-2k":
            at_most = {each["subject"]: each["requests_per_second"] for each in measured}
            checking = [each for each in contenders if each.subject.name in _WITH_PROOFS]
            found += half_load.rows(place, checking, at_most, load)
    return found


def _two_workers(place: Place, path: str) -> Contender:
    """The gateway with two workers on one store, each free to take either core."""
    gateway = securus(place, "securus-2-workers", workers=2)
    checked = partial(_of_the_gateway, gateway, _caller(gateway), path)
    shared = "" if (os.cpu_count() or 1) > 3 else ", which share their cores with store and load here"
    note = f"{CHECKS}; two workers, as many connections to each{shared}"
    return Contender(gateway.subject, checked, 16_000, note, workers=2)


def _peers(place: Place) -> list[Contender]:
    """The others that check a token at the same work, as far as they are installed."""
    signer = Key.new("peer-1")
    key = Key.new()
    claims = {
        "iss": _ISSUER,
        "sub": "bench",
        "aud": _AUDIENCE,
        "client_id": "bench",
        "scope": "patient/*.rs",
        "jti": secrets.token_urlsafe(16),
        "patient": world.PATIENT,
    }

    def token(**confirmation: object) -> str:
        times = {"iat": keys.system_clock(), "exp": keys.system_clock() + 3600}
        return keys.token_of(signer, {**claims, **times, **confirmation})

    bound = Caller(key, token(cnf={"jkt": keys.thumbprint(key)}))
    found = []
    if apache.is_here():
        # Of 20,000 entries the cache needs 160 MB; a window of five minutes at a thousand a second would need 300,000.
        for name, entries, note in (
            ("mod_oauth2", None, apache.OF_DEFAULT),
            ("mod_oauth2-20k", 20_000, apache.OF_LARGE),
        ):
            port = world.free_port()
            command = apache.command(place.folder, name, port, place.store, signer, entries)
            subject = place.start(name, command, port)
            found.append(Contender(subject, partial(_proven, subject, bound), 4_000, note))
    if node.is_here():
        port = world.free_port()
        command = node.reading(place.folder, "node", port, place.store, _ISSUER, _AUDIENCE, signer)
        subject = place.start("node", command, port)
        found.append(Contender(subject, partial(_proven, subject, bound), 4_000, node.OF_READS))
    port = world.free_port()
    command = haproxy.command(place.folder, "haproxy", port, place.store, signer)
    subject = place.start("haproxy", command, port)
    bearer = partial(_plain, subject, PATIENT_PATH, headers=[f"Authorization: Bearer {token()}"])
    found.append(Contender(subject, bearer, 0, haproxy.LEAVES_OUT, again=True))
    return found


def _caller(gateway: Securus) -> Caller:
    key = Key.new()
    claims = keys.claims_of(gateway.settings, {"jkt": keys.thumbprint(key)})
    return Caller(key, asyncio.run(keys.token_of_the_server(gateway.settings, claims)))


def _of_the_gateway(gateway: Securus, caller: Caller, path: str, count: int) -> list[bytes]:
    nonce = nonce_of(gateway.subject.port, path)
    url = gateway.issuer + path
    port = gateway.subject.port
    return [get(port, path, caller.headers("GET", url, nonce)) for _ in range(count)]


def _proven(subject: Subject, caller: Caller, count: int) -> list[bytes]:
    url = f"http://127.0.0.1:{subject.port}{PATIENT_PATH}"
    return [get(subject.port, PATIENT_PATH, caller.headers("GET", url)) for _ in range(count)]


def _plain(subject: Subject, path: str, count: int, headers: list[str] | None = None) -> list[bytes]:
    return [get(subject.port, path, headers or [])] * count


def nonce_of(port: int, path: str) -> str:
    """The nonce that the gateway hands out now. Raises RuntimeError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Authorization": "DPoP x"})
    nonce = connection.getresponse().getheader("DPoP-Nonce")
    connection.close()
    if nonce is None:
        raise RuntimeError("the gateway gave no nonce")
    return nonce
