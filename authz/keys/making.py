"""Private keys: new ones, and those that come in a file, which must be as strong as those that we make."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.keys.encryption_key import KeyRingError
from authz.protocol.encoding import strict_json
from authz.protocol.jose import OF_ID_TOKENS, JoseError, PrivateKey
from authz.protocol.private_jwk import import_private_jwk

ALGORITHMS = ("ES256", "PS256", "EdDSA")
"""What the server's own keys may be for."""

_MAX_FILE_BYTES = 64 * 1024
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096
# A random one is shorter once in 2**64 times: it was made by hand or by a broken generator.
_MIN_SCALAR_BITS = 192
_ROCA_GENERATOR = 65537
_ROCA_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def generate_private_key(algorithm: str) -> PrivateKey:
    """A new private key for ES256, PS256, RS256 (3072 bits) or EdDSA."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if algorithm == "PS256" or algorithm in OF_ID_TOKENS:
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    if algorithm in ("EdDSA", "Ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    raise KeyRingError(f"algorithm {algorithm} is not supported: ES256, PS256 or EdDSA is expected")


def algorithm_of(private: PrivateKey) -> str:
    """The algorithm that a private key signs with."""
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return "ES256"
    return "PS256" if isinstance(private, rsa.RSAPrivateKey) else "EdDSA"


def read_private_key(content: bytes, where: str) -> PrivateKey:
    """The private key in a file: PEM of PKCS#8 (RFC 5958) without a password, or one private JWK (RFC 7517).

    Raises KeyRingError when it is something else, or not strong enough to sign with.
    """
    if len(content) > _MAX_FILE_BYTES:
        raise KeyRingError(f"{where} is longer than {_MAX_FILE_BYTES} bytes, a private key is shorter")
    private = _read_jwk(content, where) if content.lstrip()[:1] == b"{" else _read_pem(content, where)
    _check_strength(private, where)
    return private


def _read_pem(content: bytes, where: str) -> PrivateKey:
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in content:
        raise KeyRingError(
            f"{where} is encrypted with a password: decrypt it with 'openssl pkcs8', it is sealed by us"
        )
    if content.count(b"-----BEGIN ") != 1 or b"-----BEGIN PRIVATE KEY-----" not in content:
        raise KeyRingError(
            f"{where} is neither one private JWK nor one PEM block 'PRIVATE KEY' (PKCS#8); 'openssl pkcs8 -topk8"
            " -nocrypt' makes one"
        )
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The text of the library is not repeated: it may quote what is secret.
        raise KeyRingError(f"{where} does not hold a private key that fits together") from error
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return private
    if isinstance(private, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        return private
    raise KeyRingError(f"{where} holds a key of another kind: P-256, RSA or Ed25519 is expected")


def _read_jwk(content: bytes, where: str) -> PrivateKey:
    try:
        jwk = strict_json(content, max_bytes=_MAX_FILE_BYTES)
    except ValueError as error:
        raise KeyRingError(f"{where} is not JSON with one reading") from error
    if not isinstance(jwk, dict) or "keys" in jwk:
        raise KeyRingError(f"{where} holds a JWK Set: one private JWK is expected")
    try:
        return import_private_jwk(jwk)
    except JoseError as error:
        raise KeyRingError(f"{where}: {error}") from error


def _check_strength(private: PrivateKey, where: str) -> None:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        order_bits = private.private_numbers().private_value.bit_length()
        if order_bits < _MIN_SCALAR_BITS:
            raise KeyRingError(
                f"{where} holds a private value of {order_bits} bits: it was not drawn at random"
            )
    elif isinstance(private, rsa.RSAPrivateKey):
        _check_rsa(private.private_numbers(), where)


def _check_rsa(numbers: rsa.RSAPrivateNumbers, where: str) -> None:
    modulus, exponent = numbers.public_numbers.n, numbers.public_numbers.e
    bits = modulus.bit_length()
    if not _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS:
        raise KeyRingError(
            f"{where} holds an RSA key of {bits} bits, expected {_MIN_RSA_BITS} to {_MAX_RSA_BITS}"
        )
    if not (65537 <= exponent < 2**32 and exponent % 2):  # FIPS 186-5 A.1.1
        raise KeyRingError(f"{where} holds an RSA key with e {exponent}, expected odd and from 65537 on")
    # FIPS 186-5 A.1.3: factors far apart (else Fermat finds them), and a large d (else Wiener finds it).
    if abs(numbers.p - numbers.q).bit_length() < bits // 2 - 100 or numbers.d.bit_length() <= bits // 2:
        raise KeyRingError(f"{where} holds an RSA key whose factors or exponent are easily found")
    if all(modulus % prime in _powers(prime) for prime in _ROCA_PRIMES):
        raise KeyRingError(f"{where} holds an RSA key of a chip that makes weak ones (ROCA, CVE-2017-15361)")


def _powers(prime: int) -> set[int]:
    return {pow(_ROCA_GENERATOR, power, prime) for power in range(prime - 1)}
