"""Everything that reads what strangers send, under a fuzzer: tokens, keys, proofs, assertions, request objects, HTTP.

What is not refused by the documented exception is taken; what is taken means the same to others: the signature is
right for PyJWT and jwcrypto too, and the JSON has one reading.

SECURUS_FUZZ_SECONDS says how long all targets together may take (10), SECURUS_FUZZ_SEED repeats a run: a failure
names its seed.
"""

import base64
import ipaddress
import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import quote

import jwcrypto.jwk
import orjson
import pytest

from authz.http import ListenerFace, read
from authz.protocol import authorization, client_authentication, dpop
from authz.protocol.clients import AuthenticationMethod, Client, GrantType
from authz.protocol.encoding import parse_form, parse_query
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.granting import ServerBits
from authz.protocol.jose import JoseError, import_public_jwk, thumbprint, verify
from authz.protocol.request import RequestError
from authz.protocol.request_objects import check_request_object
from authz.protocol.scopes import covered
from authz.protocol.tokens import TokenError, caller_of
from tests.support.authorization_server import FHIR, ISSUER, NOW, REDIRECT_URI, challenge
from tests.support.fuzzing import Target, fuzz, mutated, text, tree
from tests.support.jose import b64, private_jwk, public_jwk, rsa_key
from tests.support.jose_libraries import is_signed, public_members
from tests.support.signed_samples import IMPORTED, JWKS, KEYS, Sample, mutate, samples

SECONDS = float(os.environ.get("SECURUS_FUZZ_SECONDS", "10"))
SEED = int(os.environ.get("SECURUS_FUZZ_SEED", secrets.randbelow(2**32)))
PORTAL = Client(
    client_id="portal",
    name="Portal",
    authentication_method=AuthenticationMethod.PRIVATE_KEY_JWT,
    scope=("openid", "fhirUser", "patient/*.rs"),
    grant_types=frozenset({GrantType.AUTHORIZATION_CODE}),
    redirect_uris=(REDIRECT_URI,),
    jwks=tuple(JWKS.values()),
)
SERVER = ServerBits(issuer=ISSUER, resources={FHIR: FHIR}, grantable=lambda scope: True)
NONCES = dpop.Nonces(b"n" * 32, "fuzz", 300)
URL = f"{ISSUER}/token"


def has_one_reading(token: str, claims: Mapping[str, Any]) -> None:
    """Every part is canonical, and another parser reads the same payload."""
    header, payload, signature = token.split(".")
    for part in (header, payload, signature):
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        assert b64(content) == part
    content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    assert json.loads(json.dumps(claims)) == claims
    if all(abs(number) < 2**63 for number in _integers(claims)):
        assert orjson.loads(content) == claims


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [found for each in value.values() for found in _integers(each)]
    if isinstance(value, list):
        return [found for each in value for found in _integers(each)]
    return [value] if isinstance(value, int) else []


def key_of(token: str) -> Mapping[str, Any]:
    """The registered key that fits the algorithm of a token."""
    alg = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))["alg"]
    return JWKS["EdDSA" if alg == "Ed25519" else alg]


# Targets


def read_token(sample: Sample) -> bool:
    token = sample.token()
    try:
        _, claims = verify(token, IMPORTED)
    except JoseError as error:
        return refused(error)
    has_one_reading(token, claims)
    assert is_signed(token, key_of(token))
    with suppress(TokenError):
        caller_of(claims, issuer=ISSUER)
    return True


def refused(error: JoseError | OAuthError | RequestError, *codes: object) -> bool:
    """False, once the refusal is shown to be one of those that are documented, in words that may be sent."""
    if isinstance(error, JoseError):
        OAuthError(ErrorCode.INVALID_REQUEST, str(error))  # raises ValueError for what RFC 6749 5.2 forbids
    elif isinstance(error, OAuthError):
        assert error.code in codes
    else:
        assert error.status in codes
        assert error.description.isascii()
    return False


def read_proof(sample: Sample) -> bool:
    token = sample.token()
    try:
        proof = dpop.check(
            token, method="POST", url=URL, now=NOW, nonces=NONCES, nonce_required=False, max_age_seconds=60
        )
    except OAuthError as error:
        return refused(error, ErrorCode.INVALID_DPOP_PROOF)
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert proof.thumbprint == jwcrypto.jwk.JWK(**public_members(header["jwk"])).thumbprint()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (proof.jti, proof.issued_at) == (claims["jti"], int(claims["iat"]))
    assert (claims["htm"], abs(NOW - proof.issued_at) <= 60) == ("POST", True)
    has_one_reading(token, claims)
    assert is_signed(token, header["jwk"])
    return True


def read_assertion(sample: Sample) -> bool:
    token = sample.token()
    try:
        read = client_authentication.read_assertion(token)
        assertion = client_authentication.check_assertion(
            read, client=PORTAL, keys=IMPORTED, issuer=ISSUER, token_urls=(URL,), now=NOW
        )
    except OAuthError as error:
        return refused(error, ErrorCode.INVALID_CLIENT)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert read.client_id == claims["iss"] == claims["sub"] == "portal"
    assert claims["aud"] == ISSUER
    assert NOW < claims["exp"] <= NOW + 311
    assert assertion.jti == claims["jti"]
    has_one_reading(token, claims)
    assert is_signed(token, key_of(token))
    return True


def read_request_object(sample: Sample) -> bool:
    token = sample.token()
    try:
        taken = check_request_object(token, client=PORTAL, keys=IMPORTED, issuer=ISSUER, now=NOW)
        parameters = taken.parameters
    except OAuthError as error:
        return refused(error, ErrorCode.INVALID_REQUEST_OBJECT)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    has_one_reading(token, claims)
    assert is_signed(token, key_of(token))
    assert claims["iss"] == "portal"
    assert not {"request", "request_uri"} & parameters.keys()
    assert all(isinstance(value, str) for value in parameters.values())
    try:
        asked = authorization.check(parameters, PORTAL, SERVER)
    except OAuthError as error:
        refused(error, *ErrorCode)
        return True
    assert asked.redirect_uri == claims["redirect_uri"] == REDIRECT_URI
    assert claims["response_type"] == "code"
    assert all(covered(each, PORTAL.scope) for each in asked.scope)
    return True


def read_key(sample: Any) -> bool:
    try:
        jwk = json.loads(text(sample))
    except (ValueError, RecursionError):
        return False
    if not isinstance(jwk, dict):
        return False
    try:
        key = import_public_jwk(jwk)
    except JoseError as error:
        return refused(error)
    other = jwcrypto.jwk.JWK(**public_members(jwk))
    assert key.thumbprint == other.thumbprint() == thumbprint(jwk)
    assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & jwk.keys()
    again = import_public_jwk(public_members(jwk))
    assert again.thumbprint == key.thumbprint
    assert key.algorithms <= again.algorithms
    return True


@dataclass(frozen=True)
class Http:
    """A request as a parser of HTTP hands it over."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""


_PIECES = (
    "/", "//", "/..", "/.", "%2e", "%2F", "%00", "%zz", "%", "?", "#", ";", "\\", "|", "é", "\x00", "\n", " ", "\ud800",
    "https://x.example/", "*", "&", "=", "+", "%F0%9F%98%80", "%C3", "a=1&a=2", "x" * 9000,
)  # fmt: skip
_NAMES_SENT = (
    b"dpop", b"DPoP", b"authorization", b"Authorization", b"content-length", b"transfer-encoding", b"host", b"cookie",
    b"X_Under", b"x y", b"", b"x\xff", b"user-agent", b"x-forwarded-for", b"client-cert", b"client-cert-chain", b"accept",
)  # fmt: skip
_VALUES_SENT = (
    b"", b"x", b"1, 2", b"\x00", b"a\r\nb: c", b"\xff", b"chunked", b"10", b"192.0.2.7", b"[2001:db8::1]:4711, x",
    b":" + b"A" * 40 + b":", b"x" * 17000, b"\t a \t", b"::::", b"1" * 5000,
)  # fmt: skip
_FACE = ListenerFace(
    ISSUER,
    trusted=(ipaddress.ip_network("192.0.2.0/24"),),
    certificate_header="client-cert",
    certificate_form="rfc9440",
)


def mutate_http(one: Http, other: Http, random: Random) -> Http:
    deed = random.randrange(6)
    if deed == 0:
        return replace(
            one, method=random.choice((one.method.lower(), "", "PO ST", "X" * 40, "GET\x00", other.method))
        )
    if deed == 1:
        place = random.randrange(len(one.target) + 1)
        return replace(one, target=one.target[:place] + random.choice(_PIECES) + one.target[place:])
    if deed == 2:
        added = (random.choice(_NAMES_SENT), random.choice(_VALUES_SENT))
        return replace(one, headers=(*one.headers, added))
    if deed == 3:
        return replace(one, headers=(*one.headers, *random.choices(other.headers or ((b"a", b"b"),), k=1)))
    if deed == 4:
        place = random.randrange(len(one.body) + 1)
        piece = random.choice(_PIECES).encode("utf-8", "surrogatepass")[:200]
        return replace(one, body=one.body[:place] + piece + one.body[place:])
    place = random.randrange(len(one.headers) + 1)
    return replace(one, headers=one.headers[:place] + one.headers[place + 1 :])


def read_http(sample: Http) -> bool:
    try:
        form = parse_form(sample.body)
        assert all(form.values())
    except OAuthError as error:
        refused(error, ErrorCode.INVALID_REQUEST)
    try:
        found = read(sample.method, sample.target, sample.headers, peer_address="192.0.2.7", face=_FACE)
    except RequestError as error:
        return refused(error, 400, 414, 431)
    assert found.url == ISSUER + found.path
    assert found.path.isascii()
    assert found.path.startswith("/")
    assert all(name == name.lower() and "_" not in name for name in found.headers)
    # Read again, as it was understood, it is the same request.
    target = f"{found.path}?{found.query}" if "?" in sample.target else found.path
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.headers.items()]
    again = read(found.method, target, headers, peer_address="192.0.2.7", face=_FACE)
    assert replace(again, body=found.body) == found
    try:
        pairs = parse_query(found.query)
    except ValueError:
        return True
    encoded = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    assert parse_query(encoded) == pairs
    return True


CLAIMS = {"iss": ISSUER, "sub": "person", "aud": FHIR, "client_id": "portal", "jti": "j", "iat": NOW, "exp": NOW + 300,
          "scope": "patient/*.rs", "cnf": {"jkt": "t" * 43}}  # fmt: skip
ASSERTION = {"iss": "portal", "sub": "portal", "aud": ISSUER, "jti": "j", "iat": NOW, "exp": NOW + 60}
OBJECT = {
    "iss": "portal", "aud": ISSUER, "nbf": NOW, "exp": NOW + 300, "client_id": "portal", "response_type": "code",
    "redirect_uri": REDIRECT_URI, "scope": "openid patient/*.rs", "state": "s", "nonce": "n", "code_challenge": challenge(),
    "code_challenge_method": "S256", "claims": {"id_token": {"acr": None}}, "max_age": 60, "resource": FHIR,
}  # fmt: skip
PROOF = {"jti": "j", "htm": "POST", "htu": URL, "iat": NOW}


def with_each_key(
    seeds: list[tuple[Sample, bool]], header: Callable[[str], Mapping[str, Any]]
) -> list[tuple[Sample, bool]]:
    """The seeds, and the right one by each of the other keys."""
    right = seeds[0][0]
    others = [
        (replace(right, header=tree(header(name)), signature=name), True) for name in ("EdDSA", "PS256")
    ]
    return [*seeds, *others]


def proof_header(name: str) -> dict[str, Any]:
    return {"typ": "dpop+jwt", "alg": name, "jwk": public_members(JWKS[name])}


TARGETS: list[Target[Any]] = [
    Target("tokens", with_each_key(samples({}, CLAIMS), lambda name: {"alg": name, "kid": name}), mutate, read_token),
    Target(
        "proofs",
        [
            *with_each_key(samples(proof_header("ES256"), PROOF), proof_header),
            (Sample(tree(proof_header("ES256") | {"jwk": private_jwk(KEYS["ES256"])}), tree(PROOF)), False),
        ],
        mutate,
        read_proof,
    ),
    Target("assertions", with_each_key(samples({}, ASSERTION), lambda name: {"alg": name}), mutate, read_assertion),
    Target("request objects", with_each_key(samples({}, OBJECT), lambda name: {"alg": name}), mutate, read_request_object),
    Target(
        "keys",
        [
            *((tree(jwk), True) for jwk in JWKS.values()),
            *((tree(private_jwk(key)), False) for key in KEYS.values()),
            (tree({"kty": "oct", "k": "c2VjcmV0"}), False),
            (tree({"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32))}), False),
            (tree({"kty": "OKP", "crv": "Ed448", "x": b64(bytes(57))}), False),
            (tree({"kty": "EC", "crv": "P-256", "x": b64(bytes(32)), "y": b64(bytes(32))}), False),
            (tree(public_jwk(rsa_key(bits=1024))), False),
            (tree({**public_jwk(rsa_key()), "e": "AQ"}), False),
        ],
        lambda one, other, random: mutated(random.choice((one, one, one, other)), random),
        read_key,
    ),
    Target(
        "HTTP",
        [
            (Http("GET", "/authorize?client_id=a&request_uri=urn%3Ax", ((b"cookie", b"a=b"), (b"accept", b"*/*"))), True),
            (Http("POST", "/token", ((b"dpop", b"a.b.c"), (b"content-length", b"3")), b"a=b&c=%C3%A9"), True),
            (Http("POST", "/token", ((b"dpop", b"a"), (b"dpop", b"a"))), False),
            (Http("POST", "/token", ((b"content-length", b"3"), (b"transfer-encoding", b"chunked"))), False),
            (Http("GET", "https://x.example/", ()), False),
            (Http("GET", "/a\\b", ()), False),
            (Http("GET", "/%zz", ()), False),
            (Http("get", "/", ()), False),
            (Http("GET", "/", ((b"x", b"a\r\nb"),)), False),
            (Http("GET", "/" + "x" * 9000, ()), False),
        ],
        mutate_http,
        read_http,
    ),
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_what_strangers_send_is_refused_as_documented_or_means_the_same_to_all(target: Target[Any]) -> None:
    print(f"SECURUS_FUZZ_SEED={SEED}")  # pytest shows it when the test fails
    outcome = fuzz(target, seed=SEED, code="/authz/", seconds=SECONDS / len(TARGETS))
    assert outcome.tried > len(target.seeds)
    assert outcome.kept >= len(target.seeds)
    assert outcome.accepted


def planted(sample: Any) -> bool:
    """A reader with a mistake three conditions deep."""
    found = json.loads(text(sample))
    if isinstance(found, dict) and "crit" in found:
        value = found["crit"]
        if isinstance(value, list):
            inner = value[0] if value else 1
            if inner is None:
                raise KeyError("the planted mistake")
    return True


def test_the_fuzzer_finds_a_mistake_behind_several_conditions_and_names_the_sample() -> None:
    def change(one: Any, other: Any, random: Random) -> Any:
        return mutated(one, random)

    target = Target(
        "planted", [(tree({"alg": "ES256"}), True)], change, lambda sample: quiet(planted, sample)
    )
    with pytest.raises(AssertionError, match=r"planted, seed 7, sample [0-9]+: KeyError"):
        fuzz(target, seed=7, code="test_fuzz_readers", at_most=20_000)


def quiet(reader: Callable[[Any], bool], sample: Any) -> bool:
    """Whether the reader takes it; text that is no JSON is refused."""
    try:
        return reader(sample)
    except (ValueError, RecursionError):
        return False


def test_a_seed_repeats_a_run() -> None:
    target = TARGETS[4]
    runs = [fuzz(target, seed=3, code="/authz/", at_most=300) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_seed_that_is_read_otherwise_than_said_fails() -> None:
    said = replace(TARGETS[4], seeds=[(tree({"kty": "oct"}), True)])
    with pytest.raises(AssertionError, match="seed 0 was refused"):
        fuzz(said, seed=1, code="/authz/")
