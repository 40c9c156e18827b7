"""DPoP: the checks of a proof, server nonces derived from the clock, and the key of its replay claim (RFC 9449).

A proof is accepted in this order: structure → algorithm and key → claims → target → key binding → freshness by
nonce or iat → signature. The claim of its jti is not made here: the caller makes it last, by replay_key(), after
everything else that the client may repeat has been found right.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from authz.protocol import jose
from authz.protocol.encoding import base64url, base64url_decode
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.jose import JoseError, PublicKey

_MAX_PROOF_BYTES = 4096
_MAX_JTI = 128
_AHEAD_SECONDS = 10  # clocks differ: an iat this far ahead is accepted without a nonce
_NONCE_IAT_SECONDS = 300  # with a valid nonce the nonce decides freshness; iat may be this far off
_DEFAULT_PORTS = {"https": 443, "http": 80}
_TARGET = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Proof:
    """A DPoP proof that passed RFC 9449 4.3. Only check() makes one.

    accept_until is the last second at which this proof could be accepted again: a replay claim lives so long.
    """

    thumbprint: str
    jti: str
    issued_at: int
    accept_until: int
    nonce: str | None


class Nonces:
    """Nonces that any process with the same secret makes and checks, without a store (RFC 9449 8).

    A nonce is the number of its time step and an HMAC over it. Steps are a tenth of the lifetime; a nonce is
    good for the whole lifetime, and ageing once half of it has gone.
    """

    def __init__(self, secret: bytes, purpose: str, lifetime_seconds: int) -> None:
        self._key = hmac.digest(secret, b"dpop-nonce:" + purpose.encode(), "sha256")
        self._step_seconds = max(1, lifetime_seconds // 10)
        self.lifetime_seconds = lifetime_seconds
        self._made: tuple[int, str] = (-1, "")

    def current(self, now: int) -> str:
        """The nonce to hand out at now."""
        step = now // self._step_seconds
        if self._made[0] != step:
            self._made = (step, self._nonce(step))
        return self._made[1]

    def check(self, nonce: str, now: int) -> bool:
        """Whether nonce is one of ours that has not expired."""
        step = self._step(nonce)
        if step is None or not 0 <= self._age(step, now) < self.lifetime_seconds:
            return False
        return hmac.compare_digest(nonce, self._nonce(step))

    def is_ageing(self, nonce: str, now: int) -> bool:
        """Whether more than half of the nonce's life has gone, so that a fresh one should ride along."""
        step = self._step(nonce)
        return step is None or self._age(step, now) >= self.lifetime_seconds // 2

    def expires_at(self, nonce: str, now: int) -> int:
        """The second from which this nonce is refused."""
        step = self._step(nonce)
        return now if step is None else step * self._step_seconds + self.lifetime_seconds

    def _age(self, step: int, now: int) -> int:
        # A step just ahead of us was made by a node whose clock is a little faster.
        age = now - step * self._step_seconds
        return 0 if -self._step_seconds <= age < 0 else age

    def _nonce(self, step: int) -> str:
        content = step.to_bytes(5)
        return base64url(content + hmac.digest(self._key, content, "sha256")[:16])

    @staticmethod
    def _step(nonce: str) -> int | None:
        if len(nonce) != 28:
            return None
        try:
            return int.from_bytes(base64url_decode(nonce)[:5])
        except ValueError:
            return None


class _Headers:
    """Header bytes → algorithm and imported key. A client's header is the same in all its proofs."""

    def __init__(self, at_most: int) -> None:
        self._known: dict[str, tuple[str, PublicKey]] = {}
        self._at_most = at_most

    def read(self, encoded: str) -> tuple[str, PublicKey]:
        found = self._known.get(encoded)
        if found is None:
            found = _read_header(encoded)
            if len(self._known) >= self._at_most:
                self._known.pop(next(iter(self._known)))
            self._known[encoded] = found
        return found


_HEADERS = _Headers(at_most=10_000)


def check(
    proof: str | None,
    *,
    method: str,
    url: str,
    now: int,
    nonces: Nonces,
    nonce_required: bool,
    max_age_seconds: int = 60,
    access_token: str | None = None,
    expected_thumbprint: str | None = None,
) -> Proof:
    """Check a proof (RFC 9449 4.3). url is the URL that was called, by configuration and path, without query.

    access_token asks for ath (check 10) and expected_thumbprint for the key that the token is bound to
    (check 11). Raises OAuthError(INVALID_DPOP_PROOF), or OAuthError(USE_DPOP_NONCE) when everything that can be
    said without a nonce is right and a valid nonce is missing. Does not spend the jti.
    """
    if proof is None:
        raise _refused("a DPoP proof is required: send one DPoP header")
    if len(proof) > _MAX_PROOF_BYTES:
        raise _refused(f"the proof is longer than {_MAX_PROOF_BYTES} bytes")
    parts = proof.split(".")
    if len(parts) != 3:
        raise _refused("the proof must be one compact JWS of three parts")
    try:
        algorithm, key = _HEADERS.read(parts[0])
        claims = jose.json_object(_decode(parts[1]), "payload of the proof")
        signature = _decode(parts[2])
    except JoseError as error:
        raise _refused(str(error)) from error
    jti = _text(claims, "jti")
    if len(jti) > _MAX_JTI:
        raise _refused(f"jti must have at most {_MAX_JTI} characters")
    issued_at = _seconds(claims, "iat")
    if issued_at is None:
        raise _refused("iat is required")
    nonce = claims.get("nonce")
    if nonce is not None and not isinstance(nonce, str):
        raise _refused("nonce must be a string")
    if _text(claims, "htm") != method:
        raise _refused(f"htm is {speakable(str(claims['htm']))}, expected {method}")
    _check_target(_text(claims, "htu"), url)
    if access_token is not None:
        expected = base64url(sha256(access_token.encode("ascii", "replace")).digest())
        if not hmac.compare_digest(_text(claims, "ath").encode(), expected.encode()):
            raise _refused("ath is not the SHA-256 of the access token that was sent")
    if expected_thumbprint is not None and not hmac.compare_digest(key.thumbprint, expected_thumbprint):
        raise _refused("the key of the proof is not the key that is expected here")
    _check_lifetime(claims, now)
    has_nonce = nonce is not None and nonces.check(nonce, now)
    _check_age(issued_at, now, max_age_seconds, by_nonce=has_nonce or nonce_required)
    try:
        key.verify(signature, proof[: len(parts[0]) + 1 + len(parts[1])].encode("ascii"), algorithm)
    except JoseError as error:
        raise _refused("the signature of the proof is not right") from error
    if nonce_required and not has_nonce:
        said = "a nonce is required" if nonce is None else "the nonce is not one of ours or has expired"
        raise OAuthError(ErrorCode.USE_DPOP_NONCE, f"{said}: use the one in the DPoP-Nonce header")
    if has_nonce and nonce is not None:
        accept_until = max(nonces.expires_at(nonce, now), issued_at + max_age_seconds) + 1
    else:
        accept_until = issued_at + max_age_seconds + 1
    return Proof(key.thumbprint, jti, issued_at, max(accept_until, now + 1), nonce if has_nonce else None)


def replay_key(proof: Proof, purpose: str) -> bytes:
    """16 bytes that stand for this proof among those of one purpose: scoped by key, of fixed size."""
    return sha256(f"{purpose}\n{proof.thumbprint}\n{proof.jti}".encode()).digest()[:16]


def _read_header(encoded: str) -> tuple[str, PublicKey]:
    header = jose.parse_header(encoded)
    typ, algorithm, jwk = header.get("typ"), header["alg"], header.get("jwk")
    if not isinstance(typ, str) or typ.lower() not in ("dpop+jwt", "application/dpop+jwt"):
        raise JoseError("typ of the proof must be dpop+jwt")
    if not isinstance(algorithm, str) or algorithm not in jose.ALGORITHMS:
        raise JoseError("alg of the proof must be PS256, ES256 or EdDSA")
    if not isinstance(jwk, dict):
        raise JoseError("the header of the proof must hold the public key as jwk")
    key = jose.import_public_jwk(jwk)
    if algorithm not in key.algorithms:
        raise JoseError("alg of the proof does not fit its key")
    return algorithm, key


def _decode(part: str) -> bytes:
    try:
        return base64url_decode(part)
    except ValueError as error:
        raise JoseError("the proof is not base64url without padding") from error


def _check_target(htu: str, url: str) -> None:
    """Check 9: equal without query and fragment, scheme and host without case, default port as none."""
    target = htu.partition("#")[0].partition("?")[0]
    if target == url or _target(target) == _target(url):
        return
    raise _refused(f"htu is {speakable(htu)}, expected {speakable(url)}")


def _target(url: str) -> tuple[str, str, int | None, str]:
    if not _TARGET.fullmatch(url):
        raise _refused("htu must be an absolute URL in ASCII")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused("htu must be an absolute URL") from error
    if parts.username is not None or not parts.hostname:
        raise _refused("htu must be an absolute URL without user information")
    scheme = parts.scheme.lower()
    default = _DEFAULT_PORTS.get(scheme)
    # RFC 3986 6.2.3: an empty path is '/'. Nothing else of the path is touched: ids differ by case and by dots.
    return scheme, parts.hostname, default if port is None else port, parts.path or "/"


def _check_lifetime(claims: Mapping[str, object], now: int) -> None:
    """nbf and exp are not DPoP's own, but who sends them means them."""
    expires_at, not_before = _seconds(claims, "exp"), _seconds(claims, "nbf")
    if expires_at is not None and expires_at <= now:
        raise _refused(f"exp of the proof passed {now - expires_at} s ago")
    if not_before is not None and not_before > now + _AHEAD_SECONDS:
        raise _refused(
            f"nbf is {not_before - now} s in the future, at most {_AHEAD_SECONDS} s is accepted"
        )


def _check_age(issued_at: int, now: int, max_age_seconds: int, *, by_nonce: bool) -> None:
    """Check 11 of RFC 9449 4.3: fresh by iat, or, where a nonce decides, at least not absurd.

    Without a nonce an iat 10 to 60 s ahead is refused as well: FAPI leaves that range to the server.
    """
    behind, ahead = (
        (_NONCE_IAT_SECONDS, _NONCE_IAT_SECONDS) if by_nonce else (max_age_seconds, _AHEAD_SECONDS)
    )
    if now - issued_at > behind:
        raise _refused(f"iat is {now - issued_at} s in the past, at most {behind} s is accepted")
    if issued_at - now > ahead:
        raise _refused(f"iat is {issued_at - now} s in the future, at most {ahead} s is accepted")


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise _refused(f"{name} is required, as a string")
    return value


def _seconds(claims: Mapping[str, object], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        raise _refused(f"{name} must be a number of seconds")
    return int(value)


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_DPOP_PROOF, description)
