"""Compact JWS in the making, for the fuzzer: trees of header and payload, ways to sign them and to spoil the text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from authz.protocol.jwk import import_jwks
from tests.support.authorization_server import NOW
from tests.support.fuzzing import Members, mutated, text, tree
from tests.support.jose import (
    PrivateKey,
    b64,
    ec_key,
    ed_key,
    pem,
    public_jwk,
    raw_signature,
    rsa_key,
    self_signed_certificate,
)
from tests.support.variants import hmac_signature

KEYS: dict[str, PrivateKey] = {"ES256": ec_key(), "EdDSA": ed_key(), "PS256": rsa_key()}
JWKS = {name: public_jwk(key, kid=name) for name, key in KEYS.items()}
IMPORTED = import_jwks(JWKS.values())
STRANGER = ec_key()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def _rs256(data: bytes) -> bytes:
    key = KEYS["PS256"]
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _der(data: bytes) -> bytes:
    key = KEYS["ES256"]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _numbers(r: int, s: int) -> Callable[[bytes], bytes]:
    return lambda data: r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _half(second: bool, value: int) -> Callable[[bytes], bytes]:
    def signature(data: bytes) -> bytes:
        right = raw_signature(KEYS["ES256"], data)
        other = value.to_bytes(32, "big")
        return right[:32] + other if second else other + right[32:]

    return signature


_PUBLIC_PEM = pem(self_signed_certificate(rsa_key())).encode()
SIGNATURES: Mapping[str, Callable[[bytes], bytes]] = {
    **{name: lambda data, key=key: raw_signature(key, data) for name, key in KEYS.items()},  # type: ignore[misc]
    "stranger": lambda data: raw_signature(STRANGER, data),
    "RS256": _rs256,
    "DER": _der,
    "none": lambda data: b"",
    "HS256 with the public key": lambda data: hmac_signature(_PUBLIC_PEM, data),
    "HS256 with nothing": lambda data: hmac_signature(b"", data),
    "0, 0": _numbers(0, 0),
    "1, 1": _numbers(1, 1),
    "order, order": _numbers(ORDER, ORDER),
    "r = 0": _half(False, 0),
    "s = 0": _half(True, 0),
    "s = order": _half(True, ORDER),
    "too long": lambda data: raw_signature(KEYS["ES256"], data) + b"\0",
}
FINISHES: Mapping[str, Callable[[str], str]] = {
    "": lambda token: token,
    "padded": lambda token: token + "=",
    "padded inside": lambda token: token.replace(".", "=.", 1),
    "fourth part": lambda token: token + ".",
    "two parts": lambda token: token.rpartition(".")[0],
    "line end": lambda token: token + "\n",
    "space inside": lambda token: token.replace(".", " .", 1),
    # The sign that is not of base64url stands in front too: a text may hold none that could be replaced.
    "plain base64": lambda token: "+" + token.replace("-", "+").replace("_", "/"),
    "other last bits": lambda token: token[:-1] + ("B" if token[-1:] in "Ag" else "h"),
    "not ASCII": lambda token: token + "\u00e9",
    "surrogate": lambda token: token + "\ud800",
    "two tokens": lambda token: f"{token}, {token}",
    "huge": lambda token: token.replace(".", "." + "A" * 40000, 1),
    "empty": lambda token: "",
}


@dataclass(frozen=True)
class Sample:
    """A compact JWS in the making. insert puts bytes into the payload at a place."""

    header: Any
    payload: Any
    signature: str = "ES256"
    finish: str = ""
    insert: tuple[int, bytes] = (0, b"")

    def token(self) -> str:
        content = text(self.payload).encode("utf-8", "surrogatepass")
        place = self.insert[0] % (len(content) + 1)
        content = content[:place] + self.insert[1] + content[place:]
        header = text(self.header).encode("utf-8", "surrogatepass")
        signing_input = f"{b64(header)}.{b64(content)}"
        signature = SIGNATURES[self.signature](signing_input.encode())
        return FINISHES[self.finish](f"{signing_input}.{b64(signature)}")


_INSERTED = (
    b"",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xff",
    b" ",
    b"\n",
    b"NaN",
    b'"a":1,',
    b"{",
    b"}",
    b"/**/",
    b"\xed\xa0\x80",
)


def mutate(one: Sample, other: Sample, random: Random) -> Sample:
    found = one
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        deed = random.randrange(10)
        if deed < 3:
            found = replace(found, header=mutated(found.header, random))
        elif deed < 7:
            found = replace(found, payload=mutated(found.payload, random))
        elif deed == 7:
            found = replace(found, signature=random.choice(list(SIGNATURES)))
        elif deed == 8:
            found = replace(found, finish=random.choice(list(FINISHES)))
        elif random.random() < 0.5:
            found = replace(found, insert=(random.randrange(400), random.choice(_INSERTED)))
        else:
            found = replace(found, header=other.header)
    return found


def samples(header: Mapping[str, Any], payload: Mapping[str, Any]) -> list[tuple[Sample, bool]]:
    """Valid ones of each algorithm, and hostile ones."""
    right = Sample(tree(header | {"alg": "ES256"}), tree(payload))
    members = Members(right.payload)
    first = members[0]
    wrong = [
        *(replace(right, signature=name) for name in SIGNATURES if name != "ES256"),
        *(replace(right, finish=name) for name in FINISHES if name),
        *(
            replace(right, header=tree(header | {"alg": name}))
            for name in ("none", "HS256", "RS256", "ES384")
        ),
        replace(right, header=tree(header | {"alg": "ES256", "crit": ["exp"], "exp": NOW})),
        replace(right, header=tree(header | {"alg": "ES256", "b64": False})),
        replace(right, payload=Members([*members, first])),
        replace(right, payload=[]),
        replace(right, insert=(0, b"\xef\xbb\xbf")),
        replace(right, insert=(1, b'"a":NaN,')),
        replace(right, insert=(1, b'"a":1e999,')),
        replace(right, insert=(1, b'"a":"\\ud800",')),
        replace(right, insert=(1, b'"a":' + b"[" * 40 + b"]" * 40 + b",")),
        replace(right, insert=(1, b'"a":"' + b"x" * 40000 + b'",')),
    ]
    return [(right, True), *((each, False) for each in wrong)]
