"""Private keys from a file: which are taken, and which are not strong enough (RFC 5958, 7517, 7518; FAPI 2.0 5.4)."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from authz.keys import KeyRingError, generate_private_key, making
from authz.keys.making import algorithm_of, read_private_key
from authz.protocol import jose
from authz.protocol.encoding import base64url

KEYS = {name: generate_private_key(name) for name in ("ES256", "PS256", "EdDSA")}


def pem(key: Any, form: str = "PKCS8", password: bytes | None = None) -> bytes:
    protection: Any = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password)
    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), protection
    )
    return content


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key: Any, **more: object) -> dict[str, object]:
    """The private JWK of a key, written independently of the code under test."""
    public = jose.public_jwk(key, kid="given")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        secret = {"d": base64url(key.private_numbers().private_value.to_bytes(32, "big"))}
    elif isinstance(key, rsa.RSAPrivateKey):
        n = key.private_numbers()
        secret = {"d": number(n.d), "p": number(n.p), "q": number(n.q), "dp": number(n.dmp1),
                  "dq": number(n.dmq1), "qi": number(n.iqmp)}  # fmt: skip
    else:
        secret = {"d": base64url(key.private_bytes_raw())}
    return {**public, **secret, **more}


def taken(content: bytes) -> Any:
    return read_private_key(content, "key.pem")


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_key_of_each_algorithm_is_taken_as_PEM_and_as_JWK(algorithm: str) -> None:
    key = KEYS[algorithm]
    for content in (pem(key), b"\n" + pem(key) + b"\n", json.dumps(jwk(key)).encode()):
        found = taken(content)
        assert algorithm_of(found) == algorithm
        assert jose.public_jwk(found, kid="k") == jose.public_jwk(key, kid="k")


NOT_TAKEN = [
    (b"", "neither one private JWK nor one PEM block"),
    (bytes(range(128, 228)), "neither one private JWK nor one PEM block"),
    (b"x" * 70_000, "longer than 65536 bytes"),
    (pem(KEYS["ES256"], "TraditionalOpenSSL"), "openssl pkcs8 -topk8 -nocrypt"),
    (pem(KEYS["ES256"]) * 2, "neither one private JWK nor one PEM block"),
    (pem(KEYS["ES256"], password=b"secret words"), "is encrypted with a password"),
    (pem(KEYS["ES256"]).replace(b"M", b"N", 1), "does not hold a private key that fits together"),
    (pem(ec.generate_private_key(ec.SECP384R1())), "P-256, RSA or Ed25519 is expected"),
    (pem(ec.generate_private_key(ec.SECP256K1())), "P-256, RSA or Ed25519 is expected"),
    (pem(ed448.Ed448PrivateKey.generate()), "P-256, RSA or Ed25519 is expected"),
    (pem(x25519.X25519PrivateKey.generate()), "P-256, RSA or Ed25519 is expected"),
    (pem(rsa.generate_private_key(65537, 1024)), "RSA key of 1024 bits, expected 2048 to 4096"),
    (pem(rsa.generate_private_key(3, 2048)), "with e 3, expected odd and from 65537 on"),
    (
        pem(ec.derive_private_key(1, ec.SECP256R1())),
        "a private value of 1 bits: it was not drawn at random",
    ),
    (b"{", "is not JSON with one reading"),
    (b'{"kty":"EC","kty":"RSA"}', "is not JSON with one reading"),
    (json.dumps({"keys": [jwk(KEYS["ES256"])]}).encode(), "holds a JWK Set: one private JWK is expected"),
    (json.dumps(jose.public_jwk(KEYS["ES256"], kid="k")).encode(), "holds no private key: d is missing"),
    (json.dumps(jwk(KEYS["ES256"], use="enc")).encode(), "say another purpose than to sign"),
    (json.dumps(jwk(KEYS["ES256"], key_ops=["verify"])).encode(), "say another purpose than to sign"),
    (json.dumps(jwk(KEYS["ES256"], alg="PS256")).encode(), "say another purpose than to sign"),
    (json.dumps(jwk(KEYS["ES256"], d="AA")).encode(), "do not fit together"),
    (json.dumps(jwk(KEYS["ES256"], d="A=")).encode(), "d of the jwk is not base64url without padding"),
    (json.dumps(jwk(KEYS["ES256"], d=5)).encode(), "d of the jwk is missing"),
    (json.dumps(jwk(KEYS["EdDSA"], d=base64url(bytes(32)))).encode(), "do not fit together"),
    (json.dumps(jwk(KEYS["EdDSA"], d="AAAA")).encode(), "do not fit together"),
    (json.dumps(jwk(KEYS["PS256"], q="AQAB")).encode(), "do not fit together"),
    (json.dumps(jwk(KEYS["PS256"], oth=[])).encode(), "more than two factors"),
    (
        json.dumps({"kty": "oct", "k": "AAAA", "d": "AA"}).encode(),
        "kty of the jwk must be EC, OKP or RSA",
    ),
]


@pytest.mark.parametrize(
    ("content", "problem"), NOT_TAKEN, ids=[f"{n}: {text}" for n, (_, text) in enumerate(NOT_TAKEN)]
)
def test_what_is_no_strong_private_key_is_refused_by_reason(content: bytes, problem: str) -> None:
    with pytest.raises(KeyRingError, match=f"^key.pem.*{problem}") as refused:
        taken(content)
    assert "PRIVATE KEY-----\nM" not in str(refused.value)


def numbers(p: int, q: int, d: int, e: int = 65537) -> rsa.RSAPrivateNumbers:
    return rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q)
    )


def test_RSA_factors_that_lie_side_by_side_and_a_small_d_are_refused() -> None:
    strong = KEYS["PS256"]
    assert isinstance(strong, rsa.RSAPrivateKey)
    found = strong.private_numbers()
    making._check_rsa(found, "key.pem")
    for weak in (numbers(found.p, found.p + 2**300, found.d), numbers(found.p, found.q, 2**1000 + 1)):
        with pytest.raises(KeyRingError, match="easily found"):
            making._check_rsa(weak, "key.pem")


def test_RSA_keys_of_the_ROCA_form_are_refused() -> None:
    """Such a modulus is a power of 65537 modulo each small prime."""
    product = 1
    for prime in making._ROCA_PRIMES:
        product *= prime
    strong = KEYS["PS256"]
    assert isinstance(strong, rsa.RSAPrivateKey)
    found = strong.private_numbers()
    modulus = (2**3000 // product) * product + pow(65537, 5, product)
    weak = rsa.RSAPrivateNumbers(
        found.p, found.q, found.d, found.dmp1, found.dmq1, found.iqmp, rsa.RSAPublicNumbers(65537, modulus)
    )
    with pytest.raises(KeyRingError, match="ROCA"):
        making._check_rsa(weak, "key.pem")


def test_an_Ed25519_key_is_of_the_kind_that_is_expected() -> None:
    assert isinstance(taken(pem(ed25519.Ed25519PrivateKey.generate())), ed25519.Ed25519PrivateKey)
