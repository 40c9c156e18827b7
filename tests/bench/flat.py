"""Whether a request costs the same whatever is registered and granted: tokens with ten and with a hundred thousand
registered clients, refreshed tokens with one and with a million live grants, reads beside both.

Rules are in in_process.py. Rows are written into the database as the program writes them, before it starts.
"""

import asyncio
import http.client
import json
import random
import secrets
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from authz.handles import digest
from authz.protocol.tokens import Grant
from authz.storage.grants import RefreshToken
from authz.storage.records import encode
from authz.storage.registrations import Registration, RegistrationStatus
from authz.storage.sqlite.store import open_store
from gateway.demo import world
from gateway.demo.client import Key
from tests.bench import keys
from tests.bench.cases import Contender, Load, alternate, get, post
from tests.bench.keys import Caller
from tests.bench.reads import nonce_of
from tests.bench.servers import PATIENT_PATH, Place, Securus, securus

_CLIENTS, _GRANTS = (10, 100_000), (1, 1_000_000)
_AT_WORK = 1_000
_SCOPE = "system/Observation.rs"
_OWNER = "portal-dpop"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_A_DAY = 86_400


def rows(place: Place, load: Load) -> list[dict[str, Any]]:
    """The rows: the small and the large one of each alternate."""
    return [*_of_clients(place, load), *_of_grants(place, load)]


def _of_clients(place: Place, load: Load) -> list[dict[str, Any]]:
    key = Key.new("registered-1")
    found, contenders, reading = [], [], []
    for count in _CLIENTS:
        name = f"clients-{count}"
        began = time.perf_counter()
        gateway = securus(place, name, fill=partial(_register, key, count))
        took, subject = time.perf_counter() - began, gateway.subject
        note = f"{count} clients are registered, {min(count, _AT_WORK)} of them at work; filled and ready in {took:.0f} s"
        contenders.append(Contender(subject, partial(_tokens, gateway, key, count), 4_000, note))
        reading.append(_reading(gateway, note))
    for case, asked in (("token", contenders), ("read", reading)):
        found += _named(f"flat-{case}", alternate(case, asked, load, place.folder, 0))
    return found


def _of_grants(place: Place, load: Load) -> list[dict[str, Any]]:
    contenders, reading = [], []
    for count in _GRANTS:
        filled = _Grants(count)
        gateway = securus(place, f"grants-{count}", fill=filled.write)
        note = f"{count} live grants with a refresh token each; {min(count, _AT_WORK)} of them are used"
        contenders.append(Contender(gateway.subject, partial(_refreshes, gateway, filled), 4_000, note))
        reading.append(_reading(gateway, note))
    return [
        *_named("flat-refresh", alternate("refresh", contenders, load, place.folder, 0)),
        *_named("flat-read", alternate("read", reading, load, place.folder, 0)),
    ]


def _named(case: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A case for each size, with the gateway as its subject."""
    return [{**row, "case": f"{case}-{row['subject']}", "subject": "securus"} for row in rows]


def _reading(gateway: Securus, note: str) -> Contender:
    key = Key.new()
    claims = keys.claims_of(gateway.settings, {"jkt": keys.thumbprint(key)})
    caller = Caller(key, asyncio.run(keys.token_of_the_server(gateway.settings, claims)))
    port, url = gateway.subject.port, gateway.issuer + PATIENT_PATH

    def prepare(count: int) -> list[bytes]:
        nonce = nonce_of(port, PATIENT_PATH)
        return [get(port, PATIENT_PATH, caller.headers("GET", url, nonce)) for _ in range(count)]

    return Contender(gateway.subject, prepare, 6_000, f"a read of 2 KB; {note}")


# Registered clients, all with one key


def _client_id(number: int) -> str:
    return f"registered-{number:06}"


def _register(key: Key, count: int, database: Path) -> None:
    metadata = {
        "client_name": "Registered system",
        "grant_types": ["client_credentials"],
        "response_types": [],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [{**key.public, "kid": key.kid, "alg": "ES256", "use": "sig"}]},
        "dpop_bound_access_tokens": True,
        "scope": _SCOPE,
    }
    now = int(time.time())
    one = Registration("", RegistrationStatus.APPROVED, 1, metadata, now, now, scope_ceiling=(_SCOPE,))

    def written() -> Iterator[tuple[str, int, bytes]]:
        for number in range(count):
            name = _client_id(number)
            yield name, number + 1, encode(replace(one, client_id=name))

    asyncio.run(_prepare(database))
    with sqlite3.connect(database) as connection:
        connection.executemany("INSERT INTO registration VALUES (?, 1, ?, ?, NULL)", written())
        connection.execute("INSERT INTO sqlite_sequence VALUES ('registration_change', ?)", (count,))
    connection.close()


async def _prepare(database: Path) -> None:
    await (await open_store(database)).close()


def _tokens(gateway: Securus, key: Key, count: int, wanted: int) -> list[bytes]:
    pick = random.Random(count)
    at_work = [_client_id(pick.randrange(count)) for _ in range(min(count, _AT_WORK))]
    form = {"grant_type": "client_credentials", "scope": _SCOPE}
    return _posted(gateway, key, ((pick.choice(at_work), form) for _ in range(wanted + 1)))


def _posted(gateway: Securus, key: Key, forms: Iterator[tuple[str, dict[str, str]]]) -> list[bytes]:
    """Token requests of these clients, which all have this key; each with a proof and an assertion of its own."""
    proof_key = Key.new()
    client_id, form = next(forms)
    nonce = _nonce(gateway, _signed(gateway, key, proof_key, client_id, form, {}))
    return [_signed(gateway, key, proof_key, *each, {"nonce": nonce}) for each in forms]


def _signed(
    gateway: Securus,
    key: Key,
    proof_key: Key,
    client_id: str,
    form: dict[str, str],
    more: dict[str, str],
) -> bytes:
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": client_id, "sub": client_id, "aud": gateway.issuer, "iat": now, "exp": now + 60,
        "jti": secrets.token_urlsafe(16),
    }  # fmt: skip
    assertion = key.sign(claims, {"kid": key.kid})
    proved: dict[str, object] = {
        "htm": "POST", "htu": f"{gateway.issuer}/token", "iat": now, "jti": secrets.token_urlsafe(16), **more
    }  # fmt: skip
    proof = proof_key.sign(proved, {"typ": "dpop+jwt", "jwk": proof_key.public})
    sent = {
        "client_id": client_id, "client_assertion_type": _ASSERTION, "client_assertion": assertion, **form,
    }  # fmt: skip
    return post(gateway.subject.port, "/token", urlencode(sent), [f"DPoP: {proof}"])


def _nonce(gateway: Securus, request: bytes) -> str:
    """The nonce of the authorization server, which a request without one is told."""
    with socket.create_connection(("127.0.0.1", gateway.subject.port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        said = answer.read()
    nonce = answer.getheader("DPoP-Nonce")
    if nonce is None:
        raise RuntimeError(f"the authorization server gave no nonce: {said!r}")
    return nonce


# Live grants, all of one app


@dataclass
class _Grants:
    """So many. Whose they are is not asked by the one that is refreshed."""

    count: int

    @staticmethod
    def handle(number: int) -> str:
        """The refresh token of a grant."""
        return f"refresh-token-of-the-benchmark-{number:012}"

    def write(self, database: Path) -> None:
        """Write grants and refresh tokens."""
        asyncio.run(_prepare(database))
        now = int(time.time())
        scope = ("offline_access", "launch/patient", "patient/*.rs")
        grant = Grant(
            grant_id="GRANT", client_id=_OWNER, subject=_subject(database), scope=scope,
            audience=(_audience(database),), context={"patient": world.PATIENT},
            claims={"fhirUser": f"Patient/{world.PATIENT}", "roles": ["patient"]}, authenticated_at=now,
            amr=("pwd",), created_at=now,
        )  # fmt: skip
        refresh = RefreshToken("TOKEN", "GRANT", _OWNER, scope, None, now + _A_DAY)
        of_grant, of_token, ends = encode(grant), encode(refresh), now + _A_DAY
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            for first in range(0, self.count, 10_000):
                numbers = range(first, min(first + 10_000, self.count))
                # In the order of their ids: pages fill up, as they do over the years.
                connection.executemany(
                    "INSERT INTO grant_record VALUES (?, ?, ?, ?, NULL, ?)",
                    (
                        (
                            f"g{n:012}", _OWNER, grant.subject,
                            of_grant.replace(b"GRANT", b"g%012d" % n), ends,
                        )
                        for n in numbers
                    ),
                )  # fmt: skip
                connection.executemany(
                    "INSERT INTO refresh_token VALUES (?, ?, ?, ?, NULL)",
                    (
                        (
                            id := digest(self.handle(n)), f"g{n:012}",
                            of_token.replace(b"TOKEN", id.encode()).replace(b"GRANT", b"g%012d" % n), ends,
                        )
                        for n in numbers
                    ),
                )  # fmt: skip
        connection.close()


def _audience(database: Path) -> str:
    demo: dict[str, Any] = json.loads((database.parent / "demo.json").read_text())
    return str(demo["fhir_base"])


def _subject(database: Path) -> str:
    document: dict[str, Any] = yaml.safe_load((database.parent / "gateway.yaml").read_text())
    return str(document["users"][0]["subject"])


def _refreshes(gateway: Securus, grants: _Grants, wanted: int) -> list[bytes]:
    demo = json.loads((gateway.folder / "demo.json").read_text())
    private = next(each["jwks"]["keys"][0] for each in demo["clients"] if each["client_id"] == _OWNER)
    pick = random.Random(grants.count)
    used = [pick.randrange(grants.count) for _ in range(min(grants.count, _AT_WORK))]
    forms = (
        (_OWNER, {"grant_type": "refresh_token", "refresh_token": grants.handle(pick.choice(used))})
        for _ in range(wanted + 1)
    )
    return _posted(gateway, Key.of_jwk(private), forms)
