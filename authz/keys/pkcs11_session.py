"""One session with a PKCS#11 token (OASIS PKCS#11 3.1): make, find, use and delete key pairs. For one thread only.

The label of a key is that of the configuration, a dot, and its kid; its CKA_ID is drawn at random by whoever makes it,
so that two nodes that make the same kid at once do not meet each other's. Needs python-pkcs11: pkcs11_keys imports
this file when a token is configured.
"""

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256

import pkcs11
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11.types import SignMixin
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pkcs11.util.rsa import encode_rsa_public_key

from authz.keys.encryption_key import KeyRingError
from authz.protocol.jose import public_jwk_of

__all__ = ["PKCS11Error", "TokenSession"]

_RSA_BITS = 3072
_HIDDEN: Mapping[Attribute, object] = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
# RFC 8017 9.2, note 1: what stands before a SHA-256 digest in RSASSA-PKCS1-v1_5.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
# RFC 7518 3.5: the salt is as long as the hash.
_PSS = (Mechanism.SHA256, MGF.SHA256, 32)


class TokenSession:
    """A session, logged in. Every method raises PKCS11Error when the token does not do as it is asked."""

    def __init__(self, *, module: str, token: str, pin: str, label: str, begin_anew: bool) -> None:
        """begin_anew ends and begins the library first: one whose token was away answers nothing any more."""
        library = pkcs11.lib(module)
        if begin_anew:
            library.reinitialize()
        found = library.get_token(token_label=token)
        try:
            self._session = found.open(rw=True, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # by another session of this process: it holds for all
            self._session = found.open(rw=True)
        self._label = label
        self._private: dict[tuple[str, bytes], SignMixin] = {}

    def generate(self, kid: str, id: bytes, algorithm: str) -> None:
        """Make a key pair in the token, its private half sensitive and not extractable."""
        named = {"store": True, "label": self._name(kid), "id": id, "private_template": dict(_HIDDEN)}
        if algorithm == "ES256":
            curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
            parameters = self._session.create_domain_parameters(KeyType.EC, curve, local=True)
            parameters.generate_keypair(**named)  # type: ignore[arg-type]
        else:
            self._session.generate_keypair(KeyType.RSA, _RSA_BITS, **named)

    def public_jwk(self, kid: str, id: bytes, algorithm: str) -> dict[str, object]:
        """The public JWK of a key for an algorithm, read from the token. Raises KeyRingError for one of another kind."""
        key = self._session.get_key(object_class=ObjectClass.PUBLIC_KEY, label=self._name(kid), id=id)
        if not isinstance(key, pkcs11.PublicKey):
            raise KeyRingError(f"the key '{kid}' of the PKCS#11 token has no public half")
        try:
            if key.key_type is KeyType.EC:
                public = load_der_public_key(encode_ec_public_key(key))
            else:
                public = load_der_public_key(encode_rsa_public_key(key))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyRingError(f"the key '{kid}' of the PKCS#11 token cannot be read") from error
        if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
            return public_jwk_of(public, kid=kid)
        if isinstance(public, rsa.RSAPublicKey):
            return public_jwk_of(public, kid=kid, algorithm=algorithm)
        raise KeyRingError(f"the key '{kid}' of the PKCS#11 token is neither P-256 nor RSA")

    def has(self, kid: str, id: bytes) -> None:
        """Find the private half of a key, now, in the token."""
        self._find(kid, id)

    def sign(self, kid: str, id: bytes, algorithm: str, data: bytes) -> bytes:
        """The JWS signature over data: r and s, 32 bytes each, or RSASSA (RFC 7518 3.3 to 3.5)."""
        digest = sha256(data).digest()  # only the digest goes to the token: every one can sign that
        key = self._private.get((kid, id))
        if key is None:
            key = self._private[kid, id] = self._find(kid, id)
        if algorithm == "ES256":
            return key.sign(digest, mechanism=Mechanism.ECDSA)
        if algorithm == "RS256":
            return key.sign(_DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS)
        return key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS)

    def destroy(self, kid: str, id: bytes) -> None:
        """Delete both halves of a key; nothing happens when they are gone."""
        self._private.pop((kid, id), None)
        for found in list(self._session.get_objects({Attribute.LABEL: self._name(kid), Attribute.ID: id})):
            found.destroy()

    def close(self) -> None:
        """Log out."""
        with suppress(PKCS11Error):
            self._session.close()

    def _name(self, kid: str) -> str:
        return f"{self._label}.{kid}"

    def _find(self, kid: str, id: bytes) -> SignMixin:
        key = self._session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=self._name(kid), id=id)
        if not isinstance(key, SignMixin):
            raise KeyRingError(f"the key '{kid}' of the PKCS#11 token does not sign")
        return key
