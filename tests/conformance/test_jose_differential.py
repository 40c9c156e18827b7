"""Our JWS and JWK reader beside PyJWT, joserfc and jwcrypto: RFC 7515, 7517, 7518, 7519, 8037, 8725.

What we accept, all three accept and read alike. What we refuse although one of them accepts it stands in the table
with the reason why we are stricter; a reason that no library needs any more fails too.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import jwcrypto.jwk
import jwcrypto.jws
import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwk as joserfc_jwk

from authz.protocol.encoding import base64url_decode
from authz.protocol.jose import JoseError, import_public_jwk, verify
from tests.support.jose import (
    PrivateKey,
    algorithm,
    b64,
    ec_key,
    ed_key,
    private_jwk,
    public_jwk,
    raw_signature,
    rsa_key,
)
from tests.support.jose_libraries import LIBRARIES, NAMES, Claims, by_library

EC, RSA, ED = ec_key(), rsa_key(), ed_key()
KEYS: dict[str, PrivateKey] = {"ES256": EC, "PS256": RSA, "EdDSA": ED}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def by_us(token: str, jwk: Claims) -> Claims | None:
    """The claims that we read; None for a refusal. Anything but JoseError passes through and fails the test."""
    try:
        return verify(token, (import_public_jwk(jwk),))[1]
    except JoseError:
        return None


# The table of tokens


@dataclass(frozen=True)
class Case:
    """A token and the key that its receiver trusts. stricter says why we refuse what a library accepts."""

    name: str
    token: str
    jwk: Claims
    stricter: str = ""


def compact(header: bytes, payload: bytes, key: PrivateKey) -> str:
    """Exactly these bytes, signed."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    return f"{signing_input}.{b64(raw_signature(key, signing_input.encode()))}"


def head(key: PrivateKey, more: str = "") -> bytes:
    return f'{{"alg":"{algorithm(key)}"{more}}}'.encode()


def hmac_token(secret: bytes, header: bytes = b'{"alg":"HS256"}') -> str:
    signing_input = f"{b64(header)}.{b64(CLAIMS)}"
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(signing_input.encode())
    return f"{signing_input}.{b64(mac.finalize())}"


def resigned(key: PrivateKey, signature: Callable[[bytes], bytes], header: bytes | None = None) -> str:
    signing_input = f"{b64(head(key) if header is None else header)}.{b64(CLAIMS)}"
    return f"{signing_input}.{b64(signature(signing_input.encode()))}"


def last_bits(text: str) -> str:
    """The text with set bits behind its last byte: other text, same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    assert len(text) % 4
    return changed


def psychic(r: int, s: int) -> str:
    return resigned(EC, lambda data: r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def high_s(data: bytes) -> bytes:
    raw = raw_signature(EC, data)
    return raw[:32] + (ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")


def added_order() -> tuple[str, Claims]:
    """(r, s + n) where (r, s) is valid: the same number modulo the order, and no signature (FIPS 186-5 6.4.2 step 1).

    s + n fits in 32 bytes for a tiny s only, so the key is made for the signature: d = (s k - z) / r.
    """
    signing_input = f"{b64(head(EC))}.{b64(CLAIMS)}"
    digest = int.from_bytes(sha256(signing_input.encode()).digest(), "big")
    nonce = ec_key().private_numbers()
    r, s = nonce.public_numbers.x % ORDER, 7
    key = ec.derive_private_key(
        (s * nonce.private_value - digest) * pow(r, -1, ORDER) % ORDER, ec.SECP256R1()
    )
    valid = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert by_us(f"{signing_input}.{b64(valid)}", public_jwk(key)) is not None
    return f"{signing_input}.{b64(valid[:32] + (s + ORDER).to_bytes(32, 'big'))}", public_jwk(key)


def ed_added_order(data: bytes) -> bytes:
    """S + L on Ed25519: the malleability that RFC 8032 5.1.7 forbids."""
    raw = raw_signature(ED, data)
    order = 2**252 + 27742317777372353535851937790883648493
    return raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")


def der(data: bytes) -> bytes:
    return EC.sign(data, ec.ECDSA(hashes.SHA256()))


def rsa_signature(
    scheme: padding.AsymmetricPadding, digest: hashes.HashAlgorithm
) -> Callable[[bytes], bytes]:
    return lambda data: RSA.sign(data, scheme, digest)


def pss(salt: int, digest: hashes.HashAlgorithm, mask: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    return rsa_signature(padding.PSS(padding.MGF1(mask), salt_length=salt), digest)


def of_curve(key: ec.EllipticCurvePrivateKey, name: str, more: bytes = b"") -> Callable[[bytes], bytes]:
    size = (key.curve.key_size + 7) // 8
    digest = {"ES384": hashes.SHA384(), "ES512": hashes.SHA512()}.get(name, hashes.SHA256())

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big") + more

    return sign


def pem_of(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


CLAIMS = b'{"iss":"x","n":1,"text":"S\xc3\xbcd"}'
TWICE = "which of the two counts differs between readers; one reading or none (RFC 8725 2.4, RFC 7493 2.3)"
NUMBER = "not JSON (RFC 8259 6); other readers stop here, and comparisons with NaN are never true"
CANONICAL = "one value has one text, so that a token and its digest mean the same (RFC 4648 3.5, RFC 7515 2)"
STRICT_TEXT = (
    "JSON between systems is UTF-8 without a mark and without lone surrogates (RFC 8259 8.1, RFC 7493 2.1)"
)
SIZE = "tokens are bounded before they are read"
PURPOSE = "use, key_ops and alg of a key bound what it verifies (RFC 7517 4.2 to 4.4)"
PRIVATE = "whoever sends a private key has lost it and must learn of it"
CRITICAL = (
    "no extension is understood, so none may be critical, and an empty list is malformed (RFC 7515 4.1.11)"
)
WEAK = "FAPI 2.0 5.4.1 and RFC 8725 3.5: too weak, or of a form that no sound generator makes"
SPELLING = "one key has one text, or its thumbprint would have several (RFC 7638 7)"
B64 = "with b64 the payload is no base64url; nobody here sends such a token (RFC 7797 6)"


def jwk_of(name: str, **more: object) -> dict[str, Any]:
    return public_jwk(KEYS[name], **more)


def valid_cases() -> list[Case]:
    found = []
    for name, key in KEYS.items():
        jwk = public_jwk(key)
        found += [
            Case(f"{name} plain", compact(head(key), CLAIMS, key), jwk),
            Case(f"{name} spaces", compact(head(key).replace(b":", b" :\n "), b" " + CLAIMS + b"\r\n", key), jwk),
            Case(f"{name} kid and typ", compact(head(key, ',"kid":"1","typ":"JWT"'), CLAIMS, key), {**jwk, "kid": "1"}),
            Case(f"{name} unknown header members", compact(head(key, ',"zz":[{"a":null}]'), CLAIMS, key), jwk),
            Case(f"{name} escapes", compact(head(key), rb'{"\u0069ss":"\ud83d\ude00","n":1e2}', key), jwk),
            Case(f"{name} no claims", compact(head(key), b"{}", key), jwk),
            Case(f"{name} alg escaped", compact(head(key).replace(b'"alg"', rb'"\u0061lg"'), CLAIMS, key), jwk),
            Case(f"{name} key for signatures", compact(head(key), CLAIMS, key), {**jwk, "use": "sig", "alg": name}),
            Case(f"{name} unknown key members", compact(head(key), CLAIMS, key), {**jwk, "zz": 1, "x5t": "AAAA"}),
        ]  # fmt: skip
    found.append(Case("ES256 with s of the upper half", resigned(EC, high_s), public_jwk(EC)))
    return found


def hostile_cases() -> list[Case]:
    found = []
    for name, key in KEYS.items():
        jwk = public_jwk(key)
        good = compact(head(key), CLAIMS, key)
        header, payload, signature = good.split(".")

        def signed(header_bytes: bytes, claims: bytes = CLAIMS, key: PrivateKey = key) -> str:
            return compact(header_bytes, claims, key)

        def as_text(changed: str, key: PrivateKey = key) -> str:
            return f"{changed}.{b64(raw_signature(key, changed.encode()))}"

        found += [
            Case(f"{name} claim twice", signed(head(key), b'{"sub":"a","sub":"b"}'), jwk, TWICE),
            Case(f"{name} claim twice, inside", signed(head(key), b'{"cnf":{"jkt":"a","jkt":"b"}}'), jwk, TWICE),
            Case(f"{name} claim twice, escaped", signed(head(key), rb'{"sub":"a","\u0073ub":"b"}'), jwk, TWICE),
            Case(f"{name} header twice", signed(head(key, f',"alg":"{name}"')), jwk, TWICE),
            Case(f"{name} alg none first", signed(b'{"alg":"none",' + head(key)[1:]), jwk, TWICE),
            Case(f"{name} alg none last", signed(head(key, ',"alg":"none"')), jwk),
            Case(f"{name} NaN", signed(head(key), b'{"exp":NaN}'), jwk, NUMBER),
            Case(f"{name} Infinity", signed(head(key), b'{"exp":Infinity}'), jwk, NUMBER),
            Case(f"{name} NaN in header", signed(head(key, ',"x":NaN')), jwk, NUMBER),
            Case(f"{name} number without end", signed(head(key), b'{"n":1e999}'), jwk, NUMBER),
            Case(f"{name} crit of a known name", signed(head(key, ',"crit":["exp"],"exp":1')), jwk),
            Case(f"{name} crit of an unknown name", signed(head(key, ',"crit":["zz"],"zz":1')), jwk),
            Case(f"{name} crit empty", signed(head(key, ',"crit":[]')), jwk, CRITICAL),
            Case(f"{name} crit null", signed(head(key, ',"crit":null')), jwk),
            Case(f"{name} crit of b64", signed(head(key, ',"crit":["b64"],"b64":true')), jwk, B64),
            Case(f"{name} b64 without crit", signed(head(key, ',"b64":true')), jwk, B64),
            Case(f"{name} b64 false without crit", signed(head(key, ',"b64":false')), jwk),
            Case(f"{name} b64 false", as_text(b64(head(key, ',"crit":["b64"],"b64":false')) + ".{}"), jwk, B64),
            Case(f"{name} padding on the signature", good + "=" * (-len(signature) % 4), jwk, CANONICAL),
            Case(f"{name} padding on the payload", as_text(f"{header}.{payload}" + "=" * (-len(payload) % 4)), jwk,
                 CANONICAL),
            Case(f"{name} bits behind the signature", f"{header}.{payload}.{last_bits(signature)}", jwk, CANONICAL),
            Case(f"{name} line end behind it", good + "\n", jwk),
            Case(f"{name} space before it", " " + good, jwk),
            Case(f"{name} space in the signature", good[:-5] + " " + good[-5:], jwk),
            Case(f"{name} space in the payload", as_text(f"{header}.{payload[:4]} {payload[4:]}"), jwk),
            Case(f"{name} foreign characters in the signature", good[:-5] + "!" + good[-5:], jwk),
            Case(f"{name} plain base64", as_text(f"{header}.{payload[:4]}+/{payload[4:]}"), jwk),
            Case(f"{name} plain base64 of the signature", f"{header}.{payload}." + (
                b64(raw_signature(key, f"{header}.{payload}".encode())).replace("-", "+").replace("_", "/") + "+"), jwk),
            Case(f"{name} a fourth part", good + ".", jwk),
            Case(f"{name} two parts", f"{header}.{payload}", jwk),
            Case(f"{name} no signature", f"{header}.{payload}.", jwk),
            Case(f"{name} no payload", as_text(f"{header}."), jwk),
            Case(f"{name} JSON serialization", json.dumps({"payload": payload, "protected": header,
                 "signature": signature}), jwk, "only the compact form is a JWT (RFC 7519 1)"),
            Case(f"{name} JSON serialization of several", json.dumps({"payload": payload,
                 "signatures": [{"protected": header, "signature": signature}]}), jwk,
                 "only the compact form is a JWT (RFC 7519 1)"),
            Case(f"{name} signature of another payload", f"{header}.{b64(b'{}')}.{signature}", jwk),
            Case(f"{name} alg none", b64(b'{"alg":"none"}') + f".{payload}.", jwk),
            Case(f"{name} alg None", b64(b'{"alg":"None"}') + f".{payload}.", jwk),
            Case(f"{name} alg none, signed", signed(b'{"alg":"none"}'), jwk),
            Case(f"{name} alg in lower case", signed(head(key).lower()), jwk),
            Case(f"{name} alg with a NUL", signed(head(key).replace(name.encode(), name.encode() + rb"\u0000")), jwk),
            Case(f"{name} alg as a list", signed(f'{{"alg":["{name}"]}}'.encode()), jwk),
            Case(f"{name} no alg", signed(b"{}"), jwk),
            Case(f"{name} header no object", signed(b'["alg"]'), jwk),
            Case(f"{name} header empty", signed(b""), jwk),
            Case(f"{name} header in UTF-16", signed(head(key).decode().encode("utf-16")), jwk, STRICT_TEXT),
            Case(f"{name} payload in UTF-16", signed(head(key), CLAIMS.decode().encode("utf-16")), jwk, STRICT_TEXT),
            Case(f"{name} payload with a mark", signed(head(key), b"\xef\xbb\xbf" + CLAIMS), jwk, STRICT_TEXT),
            Case(f"{name} payload in Latin-1", signed(head(key), b'{"iss":"S\xfcd"}'), jwk),
            Case(f"{name} lone surrogate", signed(head(key), rb'{"sub":"\ud800"}'), jwk, STRICT_TEXT),
            Case(f"{name} payload a list", signed(head(key), b"[1]"), jwk),
            Case(f"{name} payload a number", signed(head(key), b"1"), jwk),
            Case(f"{name} payload with a tail", signed(head(key), CLAIMS + b"{}"), jwk),
            Case(f"{name} nested deep", signed(head(key), b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"), jwk, SIZE),
            Case(f"{name} nested without end", signed(head(key), b'{"a":' + b"[" * 100_000), jwk),
            Case(f"{name} long", signed(head(key), json.dumps({"a": "x" * 20_000}).encode()), jwk, SIZE),
            Case(f"{name} long header", signed(head(key, ',"a":"' + "x" * 20_000 + '"')), jwk, SIZE),
            Case(f"{name} huge", signed(head(key), b'{"a":"' + b"x" * 2_000_000 + b'"}'), jwk, SIZE),
            Case(f"{name} own key in the header", compact(head(key, ',"jwk":' + json.dumps(public_jwk(key))),
                 CLAIMS, key), public_jwk(other_of(key))),
            Case(f"{name} signed by another", compact(head(key), CLAIMS, other_of(key)), jwk),
            Case(f"{name} kid of nobody", signed(head(key, ',"kid":"2"')), {**jwk, "kid": "1"},
                 "a kid names its key; another key is another key (RFC 7515 4.1.4)"),
            Case(f"{name} kid no text", signed(head(key, ',"kid":1')), {**jwk, "kid": "1"},
                 "kid is a string (RFC 7515 4.1.4)"),
            Case(f"{name} kid no text, any key", signed(head(key, ',"kid":1')), jwk, "kid is a string (RFC 7515 4.1.4)"),
            Case(f"{name} typ no text", signed(head(key, ',"typ":null')), jwk, "typ is a string (RFC 7515 4.1.9)"),
            Case(f"{name} private jwk", good, private_jwk(key), PRIVATE),
            Case(f"{name} key for encryption", good, {**jwk, "use": "enc"}, PURPOSE),
            Case(f"{name} key to sign only", good, {**jwk, "key_ops": ["sign"]}, PURPOSE),
            Case(f"{name} key of another alg", good, {**jwk, "alg": "HS256"}, PURPOSE),
            Case(f"{name} compressed", signed(head(key, ',"zip":"DEF"'), b"x\x9c\x03\x00"), jwk),
        ]  # fmt: skip
        for confused in NAMES:
            if confused != name:
                found.append(
                    Case(f"{name} called {confused}", signed(f'{{"alg":"{confused}"}}'.encode()), jwk)
                )
        secret = public_jwk(key)
        for what, octets in {
            "the public key as PEM": pem_of(key),
            "the public key as JWK": json.dumps(secret).encode(),
            "the public number": base64url_decode(secret.get("x") or secret["n"]),
            "nothing": b"\0",
        }.items():
            found.append(Case(f"{name} HS256 with {what}", hmac_token(octets), jwk))
    return found + ec_cases() + rsa_cases()


def other_of(key: PrivateKey) -> PrivateKey:
    """Another key of the same kind."""
    made: dict[str, Callable[[], PrivateKey]] = {
        "ES256": ec_key,
        "PS256": lambda: rsa_key(1),
        "EdDSA": ed_key,
    }
    return made[algorithm(key)]()


def ec_cases() -> list[Case]:
    jwk = public_jwk(EC)
    p384, k256, p521 = (
        ec.generate_private_key(curve()) for curve in (ec.SECP384R1, ec.SECP256K1, ec.SECP521R1)
    )
    special = {0, 1, 2, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1, 2**255 - 19}
    found = [Case(f"ES256 psychic {r:x} {s:x}", psychic(r, s), jwk) for r in special for s in special]
    found += [
        Case("ES256 with s + n", *added_order()),
        Case("ES256 as DER", resigned(EC, der), jwk),
        Case("ES256 a byte more", resigned(EC, of_curve(EC, "ES256", b"\0")), jwk),
        Case("ES256 r alone", resigned(EC, lambda data: raw_signature(EC, data)[:32]), jwk),
        Case("ES256 of 96 bytes", resigned(EC, of_curve(p384, "ES384")), jwk),
        Case("ES384", resigned(EC, of_curve(p384, "ES384"), b'{"alg":"ES384"}'), curve_jwk(p384, "P-384")),
        Case("ES512", resigned(EC, of_curve(p521, "ES512"), b'{"alg":"ES512"}'), curve_jwk(p521, "P-521")),
        Case("ES256K", resigned(EC, of_curve(k256, "ES256K"), b'{"alg":"ES256K"}'), curve_jwk(k256, "secp256k1")),
        Case("ES256 with a key of P-384", resigned(EC, of_curve(p384, "ES256")), curve_jwk(p384, "P-384")),
        Case("ES256 with a key of secp256k1", resigned(EC, of_curve(k256, "ES256")), curve_jwk(k256, "secp256k1")),
        Case("ES256 called P-256 on secp256k1", resigned(EC, of_curve(k256, "ES256")), curve_jwk(k256, "P-256")),
        Case("EdDSA with S + L", resigned(ED, ed_added_order), public_jwk(ED)),
        Case("EdDSA of zeros", resigned(ED, lambda data: bytes(64)), public_jwk(ED)),
        Case("EdDSA neutral point", resigned(ED, lambda data: b"\1" + bytes(63)), public_jwk(ED)),
        Case("EdDSA neutral key", resigned(ED, lambda data: b"\1" + bytes(63)),
             {"kty": "OKP", "crv": "Ed25519", "x": b64(b"\1" + bytes(31))}, "under a key of small order one "
             "signature fits every message (RFC 8725 3.4)"),
    ]  # fmt: skip
    return found


def curve_jwk(key: ec.EllipticCurvePrivateKey, crv: str) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    x, y = (b64(number.to_bytes(size, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": crv, "x": x, "y": y}


def rsa_cases() -> list[Case]:
    jwk = public_jwk(RSA)
    full, sha1 = hashes.SHA256(), hashes.SHA1()
    short = rsa_key(bits=1024)
    return [
        Case("RS256", resigned(RSA, rsa_signature(padding.PKCS1v15(), full), b'{"alg":"RS256"}'), jwk),
        Case("RS256 called PS256", resigned(RSA, rsa_signature(padding.PKCS1v15(), full)), jwk),
        Case("PS256 without salt", resigned(RSA, pss(0, full, full)), jwk),
        Case("PS256 with a salt of 20", resigned(RSA, pss(20, full, full)), jwk),
        Case("PS256 with the longest salt", resigned(RSA, pss(222, full, full)), jwk),
        Case("PS256 with SHA-1", resigned(RSA, pss(20, sha1, sha1)), jwk),
        Case("PS256 masked with SHA-1", resigned(RSA, pss(32, full, sha1)), jwk),
        Case("PS384 called PS256", resigned(RSA, pss(48, hashes.SHA384(), hashes.SHA384())), jwk),
        Case("PS256 of zeros", resigned(RSA, lambda data: bytes(256)), jwk),
        Case("PS256 of one", resigned(RSA, lambda data: bytes(255) + b"\1"), jwk),
        Case("PS256 a byte more", resigned(RSA, lambda data: b"\0" + raw_signature(RSA, data)), jwk),
        Case("PS256 of 1024 bits", compact(head(short), CLAIMS, short), public_jwk(short), WEAK),
    ]


VALID, HOSTILE = valid_cases(), hostile_cases()


@pytest.mark.parametrize("case", VALID, ids=[case.name for case in VALID])
def test_a_valid_token_is_read_alike_by_all(case: Case) -> None:
    found = by_us(case.token, case.jwk)
    assert found is not None
    seen = {name: by_library(name, case.token, case.jwk) for name in LIBRARIES}
    assert seen == dict.fromkeys(LIBRARIES, found)


@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
def test_a_hostile_token_is_refused_and_where_a_library_takes_it_we_say_why(case: Case) -> None:
    assert by_us(case.token, case.jwk) is None
    taken = [name for name in LIBRARIES if by_library(name, case.token, case.jwk) is not None]
    assert bool(taken) == bool(case.stricter), f"taken by {taken or 'nobody'}"


def test_RFC_9864_Ed25519_is_read_like_EdDSA_by_those_who_know_the_name() -> None:
    token = compact(b'{"alg":"Ed25519"}', CLAIMS, ED)
    found = by_us(token, public_jwk(ED))
    assert found == by_us(compact(head(ED), CLAIMS, ED), public_jwk(ED))
    assert (
        by_library("joserfc", token, public_jwk(ED)) == by_library("jwcrypto", token, public_jwk(ED)) == found
    )


# The published examples. RFC 7515 A and RFC 8037 A (IETF Trust, Revised BSD License for code components).

RFC_7515_CLAIMS = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
RFC_7515_A_1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
RFC_7515_A_1 = (
    f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{RFC_7515_CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)
RFC_7515_A_3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_7515_A_3 = (
    f"eyJhbGciOiJFUzI1NiJ9.{RFC_7515_CLAIMS}"
    ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_7515_A_5 = f"eyJhbGciOiJub25lIn0.{RFC_7515_CLAIMS}."
RFC_8037_A_2_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


def test_RFC_7515_A_3_is_read_alike_by_all() -> None:
    found = by_us(RFC_7515_A_3, RFC_7515_A_3_KEY)
    assert found == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    assert [by_library(name, RFC_7515_A_3, RFC_7515_A_3_KEY) for name in LIBRARIES] == [found] * 3


def test_RFC_7515_A_1_with_a_shared_secret_and_A_5_without_signature_are_refused() -> None:
    secret = base64url_decode(RFC_7515_A_1_KEY)
    assert jwt.decode(RFC_7515_A_1, secret, ["HS256"], options={"verify_exp": False})["iss"] == "joe"
    for jwk in (RFC_7515_A_3_KEY, RFC_8037_A_2_KEY, {"kty": "oct", "k": RFC_7515_A_1_KEY}):
        assert by_us(RFC_7515_A_1, jwk) is None
        assert by_us(RFC_7515_A_5, jwk) is None


# The table of keys


def key_by_library(name: str, jwk: Claims) -> bool:
    """Whether a library imports the key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "PyJWT":
                jwt.PyJWK(dict(jwk))
            elif name == "joserfc":
                found = joserfc_jwk.import_key(dict(jwk))
                assert found.thumbprint()
            else:
                assert jwcrypto.jwk.JWK(**jwk).get_op_key("verify")
    except Exception:
        return False
    return True


def key_by_us(jwk: Claims) -> str | None:
    """The thumbprint; None for a refusal or a key that may verify nothing."""
    try:
        key = import_public_jwk(jwk)
    except JoseError:
        return None
    return key.thumbprint if key.algorithms else None


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


MODULUS = RSA.public_key().public_numbers().n
SHORT = rsa_key(bits=1024)
P384 = curve_jwk(ec.generate_private_key(ec.SECP384R1()), "P-384")
SMALL_ORDER = (
    "a point of small order or not in canonical form: one signature fits every message (RFC 8725 3.4)"
)
NOT_OURS = "not of the algorithms of FAPI 2.0 5.4.1"

KEYS_ACCEPTED: dict[str, Claims] = {
    **{name: jwk_of(name) for name in NAMES},
    **{
        f"{name} with metadata": jwk_of(name, kid="1", use="sig", alg=name, key_ops=["verify"])
        for name in NAMES
    },
    **{f"{name} with unknown members": jwk_of(name, ext=True, zz={"a": 1}) for name in NAMES},
    "RSA of 4096 bits": public_jwk(rsa_key(bits=4096)),
}
KEYS_REFUSED: dict[str, tuple[Claims, str]] = {
    **{f"{name} private": (private_jwk(KEYS[name]), PRIVATE) for name in NAMES},
    **{f"{name} for encryption": (jwk_of(name, use="enc"), PURPOSE) for name in NAMES},
    **{f"{name} of another kty": (jwk_of(name, kty="oct"), "") for name in NAMES},
    **{f"{name} with a number as kid": (jwk_of(name, kid=1), "kid is a string (RFC 7517 4.5)") for name in NAMES},
    "EC off the curve": ({**jwk_of("ES256"), "y": number(5, 32)}, ""),
    "EC at the origin": ({**jwk_of("ES256"), "x": b64(bytes(32)), "y": b64(bytes(32))}, ""),
    "EC x too large": ({**jwk_of("ES256"), "x": b64(b"\xff" * 32)}, ""),
    "EC x with padding": ({**jwk_of("ES256"), "x": jwk_of("ES256")["x"] + "="}, SPELLING),
    "EC x with set bits behind": ({**jwk_of("ES256"), "x": last_bits(jwk_of("ES256")["x"])}, SPELLING),
    "EC x with a zero before": ({**jwk_of("ES256"), "x": b64(b"\0" + base64url_decode(jwk_of("ES256")["x"]))}, SPELLING),
    "EC without y": ({"kty": "EC", "crv": "P-256", "x": jwk_of("ES256")["x"]}, ""),
    "EC P-384": (P384, NOT_OURS),
    "EC P-384 called P-256": ({**P384, "crv": "P-256"}, ""),
    "EC of no curve": ({**jwk_of("ES256"), "crv": "P-257"}, ""),
    "oct": ({"kty": "oct", "k": b64(bytes(32))}, "no shared secret ever verifies a signature here"),
    "OKP Ed448": ({"kty": "OKP", "crv": "Ed448", "x": b64(
        ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw())}, NOT_OURS),
    "OKP X25519": ({"kty": "OKP", "crv": "X25519", "x": jwk_of("EdDSA")["x"]}, "a key for key agreement signs nothing"),
    "OKP of 31 bytes": ({**jwk_of("EdDSA"), "x": b64(bytes(31))}, ""),
    "OKP of small order": ({**jwk_of("EdDSA"), "x": b64(b"\1" + bytes(31))}, SMALL_ORDER),
    "OKP not canonical": ({**jwk_of("EdDSA"), "x": b64(b"\xee" + b"\xff" * 30 + b"\x7f")}, SMALL_ORDER),
    "RSA of 1024 bits": (public_jwk(SHORT), WEAK),
    "RSA of 16384 bits": ({"kty": "RSA", "e": "AQAB", "n": b64(b"\xff" * 2048)}, "its owner sets what a check costs us"),
    "RSA with e = 1": ({**jwk_of("PS256"), "e": "AQ"}, ""),
    "RSA with e = 3": ({**jwk_of("PS256"), "e": "Aw"}, WEAK),
    "RSA with an even e": ({**jwk_of("PS256"), "e": number(65538)}, ""),
    "RSA with a long e": ({**jwk_of("PS256"), "e": number(MODULUS - 2)}, "its owner sets what a check costs us"),
    "RSA with an even n": ({**jwk_of("PS256"), "n": number(MODULUS - 1)}, WEAK),
    "RSA n with a zero before": ({**jwk_of("PS256"), "n": b64(b"\0" + base64url_decode(jwk_of("PS256")["n"]))}, SPELLING),
    "RSA e with a zero before": ({**jwk_of("PS256"), "e": "AAEAAQ"}, SPELLING),
    "RSA without n": ({"kty": "RSA", "e": "AQAB"}, ""),
    "no kty": ({"crv": "P-256"}, ""),
    "kty as a list": (jwk_of("ES256", kty=["EC"]), ""),
    "nothing": ({}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS_ACCEPTED)
def test_a_key_that_we_take_is_taken_by_all_with_one_thumbprint(name: str) -> None:
    jwk = KEYS_ACCEPTED[name]
    assert all(key_by_library(library, jwk) for library in LIBRARIES)
    others = {joserfc_jwk.import_key(dict(jwk)).thumbprint(), jwcrypto.jwk.JWK(**jwk).thumbprint()}
    assert others == {key_by_us(jwk)}


@pytest.mark.parametrize("name", KEYS_REFUSED)
def test_a_key_that_we_refuse_though_a_library_takes_it_has_a_reason(name: str) -> None:
    jwk, stricter = KEYS_REFUSED[name]
    assert key_by_us(jwk) is None
    taken = [library for library in LIBRARIES if key_by_library(library, jwk)]
    assert bool(taken) == bool(stricter), f"taken by {taken or 'nobody'}"


# Everything between the rows of the tables

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
# jwk, jku, x5u and x5c are not among them: we do not look at them, and some libraries do.
MEMBERS = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "cty", "crit", "b64", "zz"]), JSON_VALUES, max_size=3
)
CUTS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 2), st.text("AZaz09-_.=+/ \n\0{}é", max_size=2)), max_size=3
)


@pytest.mark.parametrize("name", ["ES256", "EdDSA"])
@given(members=MEMBERS, claims=JSON_VALUES, cuts=CUTS)
@settings(max_examples=150, deadline=None)
def test_no_library_refuses_what_we_take(name: str, members: Claims, claims: object, cuts: Any) -> None:
    key = KEYS[name]
    token = compact(json.dumps({"alg": name, **members}).encode(), json.dumps(claims).encode(), key)
    for place, length, text in cuts:
        token = token[:place] + text + token[place + length :]
    found = by_us(token, public_jwk(key))
    if found is None:
        return
    others = {library: by_library(library, token, public_jwk(key)) for library in LIBRARIES}
    if members.get("alg") == "Ed25519":
        del others["PyJWT"]  # does not know the name of RFC 9864
    assert all(other is not None and repr(other) == repr(found) for other in others.values()), others


@given(
    name=st.sampled_from(NAMES),
    changed=st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "alg", "key_ops", "kid"]),
        JSON_VALUES
        | st.binary(min_size=31, max_size=33).map(b64)
        | st.sampled_from([*NAMES, "sig", ["verify"]]),
        max_size=2,
    ),
)
@settings(max_examples=200, deadline=None)
def test_no_library_refuses_a_key_that_we_take(name: str, changed: Claims) -> None:
    own = jwk_of(name)
    foreign = {"crv", "x", "y", "n", "e"} - own.keys()  # of another kty; not looked at (RFC 7517 4)
    jwk = {**own, **{member: value for member, value in changed.items() if member not in foreign}}
    if key_by_us(jwk) is not None:
        taken = {library: key_by_library(library, jwk) for library in LIBRARIES}
        assert all(taken.values()), taken
