"""DPoP: the checks of a proof, server nonces derived from the clock, and the key of its replay claim (RFC 9449).

A proof is checked in this order: structure → algorithm and key → claims → target → token and key binding → dates →
signature → nonce. What costs nothing comes before the signature; the nonce comes last, so that use_dpop_nonce says
that all the rest is right. The claim of the jti is not made here: the caller makes it by replay_key(), after
everything else that the client may repeat has been found right.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from authz.protocol import jose
from authz.protocol.encoding import base64url
from authz.protocol.errors import ErrorCode, OAuthError, speakable
from authz.protocol.jose import JoseError, PublicKey

_MAX_PROOF_BYTES = 4096
_MAX_JTI_CHARACTERS = 128
_MAX_HEADERS = 4096  # remembered headers of clients
_MIN_SECRET_BYTES = 16
_NODES_SECONDS = 30  # clocks of our own nodes differ by no more: a replay claim outlives the proof by this
_AHEAD_SECONDS = 10  # clocks differ: an iat this far ahead is accepted without a nonce
_NONCE_IAT_SECONDS = 300  # with a valid nonce the nonce decides freshness; iat may be this far off
_DEFAULT_PORTS = {"https": 443, "http": 80}
_TARGET = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Proof:
    """A DPoP proof that passed RFC 9449 4.3. Only check() makes one.

    accept_until is the second from which no node, its clock behind ours or not, accepts this proof again: the claim
    of its jti must live so long.
    """

    thumbprint: str
    jti: str
    issued_at: int
    accept_until: int
    nonce: str | None


class Nonces:
    """Nonces that any process with the same secret makes and checks, without a store (RFC 9449 8).

    A nonce is the number of its time step and an HMAC over it, by a key derived from secret for one purpose. Steps
    are a tenth of the lifetime, counted from the beginning of a step: the current step and the nine before it are
    accepted, and the next one, because another node's clock may be a little ahead. Raises ValueError for a secret of
    less than 16 bytes or a lifetime of less than a second.
    """

    def __init__(self, secret: bytes, purpose: str, lifetime_seconds: int) -> None:
        if len(secret) < _MIN_SECRET_BYTES or lifetime_seconds < 1:
            raise ValueError(
                f"nonces need a secret of {_MIN_SECRET_BYTES} bytes and a lifetime of 1 s at least"
            )
        self._key = hmac.digest(secret, b"dpop-nonce:" + purpose.encode(), "sha256")
        self._step_seconds = max(1, lifetime_seconds // 10)
        self.lifetime_seconds = lifetime_seconds
        self._step_now = -1
        self._accepted: dict[int, str] = {}
        # The same by their texts: looked up by a hash that nobody outside can tell.
        self._known: dict[str, int] = {}

    def current(self, now: int) -> str:
        """The nonce to hand out at now."""
        return self._steps(now)[now // self._step_seconds]

    def check(self, nonce: str, now: int) -> bool:
        """Whether nonce is one of ours that has not expired."""
        return self.expires_at(nonce, now) is not None

    def expires_at(self, nonce: str, now: int) -> int | None:
        """The second from which this nonce is refused; None when it is refused now."""
        self._steps(now)
        step = self._known.get(nonce)
        if step is None or not 0 <= self._age(step, now) < self.lifetime_seconds:
            return None
        return step * self._step_seconds + self.lifetime_seconds

    def is_ageing(self, nonce: str, now: int) -> bool:
        """Whether half of the nonce's life or more has gone, so that a fresh one should ride along."""
        self._steps(now)
        step = self._known.get(nonce)
        return step is None or self._age(step, now) >= self.lifetime_seconds // 2

    def _steps(self, now: int) -> Mapping[int, str]:
        """The nonces that may be accepted now, by their steps."""
        step_now = now // self._step_seconds
        if step_now != self._step_now:
            first = step_now - self.lifetime_seconds // self._step_seconds
            self._accepted = {step: self._nonce(step) for step in range(max(first, 0), step_now + 2)}
            self._known = {nonce: step for step, nonce in self._accepted.items()}
            self._step_now = step_now
        return self._accepted

    def _age(self, step: int, now: int) -> int:
        # A step just ahead of us was made by a node whose clock is a little faster.
        age = now - step * self._step_seconds
        return 0 if -self._step_seconds <= age < 0 else age

    def _nonce(self, step: int) -> str:
        content = step.to_bytes(5)
        return base64url(content + hmac.digest(self._key, content, "sha256")[:16])


class _Headers:
    """Header bytes → algorithm and imported key. A client's header is the same in all its proofs.

    Only headers of proofs whose signature was right are kept, the oldest goes first.
    """

    def __init__(self, at_most: int) -> None:
        self._known: dict[str, tuple[str, PublicKey]] = {}
        self._at_most = at_most

    def read(self, encoded: str) -> tuple[str, PublicKey]:
        return self._known.get(encoded) or _read_header(encoded)

    def keep(self, encoded: str, found: tuple[str, PublicKey]) -> None:
        if encoded not in self._known:
            if len(self._known) >= self._at_most:
                del self._known[next(iter(self._known))]
            self._known[encoded] = found


_HEADERS = _Headers(_MAX_HEADERS)


def check(
    proof: str | None,
    *,
    method: str,
    url: str,
    now: int,
    nonces: Nonces,
    nonce_required: bool,
    max_age_seconds: int = 60,
    ath: str | None = None,
    expected_thumbprint: str | None = None,
) -> Proof:
    """Check a proof (RFC 9449 4.3). url is the URL that was called, by configuration and path, without query.

    ath is that of the access token, where one comes with it, and expected_thumbprint the key that the token is bound
    to (check 12). Raises OAuthError(INVALID_DPOP_PROOF), or OAuthError(USE_DPOP_NONCE) when everything
    that can be said without a nonce is right and a valid nonce is missing. Does not spend the jti.

    Freshness: with a valid nonce, or while one is still to be asked for, iat may be 5 minutes off. Where nonces are
    not required and none, or one that is no longer valid, is sent: max_age_seconds back, 10 s ahead. Stricter than
    FAPI 2.0 5.3.2.1, which leaves 10 to 60 s ahead to the server.
    """
    if proof is None:
        raise _refused("a DPoP proof is required: send one DPoP header")
    if len(proof) > _MAX_PROOF_BYTES:
        raise _refused(f"the proof is longer than {_MAX_PROOF_BYTES} bytes")
    parts = proof.split(".")
    if len(parts) != 3:
        raise _refused("the proof must be one compact JWS of three parts")
    try:
        found = algorithm, key = _HEADERS.read(parts[0])
        claims = jose.json_object(jose.decode_part(parts[1], "payload of the proof"), "payload of the proof")
        signature = jose.decode_part(parts[2], "signature of the proof")
    except JoseError as error:
        raise _refused(str(error)) from error
    jti = _text(claims, "jti")
    if len(jti) > _MAX_JTI_CHARACTERS:
        raise _refused(f"jti must have at most {_MAX_JTI_CHARACTERS} characters")
    issued_at = _seconds(claims, "iat")
    if issued_at is None:
        raise _refused("iat is required, as seconds since 1970")
    nonce = claims.get("nonce")
    if nonce is not None and not isinstance(nonce, str):
        raise _refused("nonce must be a string")
    if _text(claims, "htm") != method:
        raise _refused(f"htm is {speakable(str(claims['htm']))}, expected {method}")
    htu = _text(claims, "htu")
    if htu != url:
        _check_target(htu, url)
    if ath is not None and not hmac.compare_digest(_text(claims, "ath").encode(), ath.encode()):
        raise _refused("ath is not the SHA-256 of the access token that was sent")
    if expected_thumbprint is not None and not hmac.compare_digest(key.thumbprint, expected_thumbprint):
        raise _refused("the key of the proof is not the key that the access token is bound to")
    if "exp" in claims or "nbf" in claims:
        _check_lifetime(claims, now)
    nonce_until = None if nonce is None else nonces.expires_at(nonce, now)
    if issued_at != now:
        _check_age(issued_at, now, max_age_seconds, by_nonce=nonce_until is not None or nonce_required)
    try:
        key.verify(signature, proof[: len(parts[0]) + 1 + len(parts[1])].encode("ascii"), algorithm)
    except JoseError as error:
        raise _refused("the signature of the proof is not right: sign with the private key of jwk") from error
    _HEADERS.keep(parts[0], found)
    refused_from = issued_at + max_age_seconds + 1
    if nonce_until is not None:
        # Where nonces are not required the proof may pass by its iat again when its nonce has expired.
        refused_from = max(refused_from, nonce_until)
    elif nonce_required:
        said = "a nonce is required" if nonce is None else "the nonce is not one of ours or has expired"
        raise OAuthError(ErrorCode.USE_DPOP_NONCE, f"{said}: use the one in the DPoP-Nonce header")
    else:
        nonce = None
    return Proof(key.thumbprint, jti, issued_at, refused_from + _NODES_SECONDS, nonce)


def ath_of(access_token: str) -> str:
    """The hash of an access token that a proof must name beside it (RFC 9449 4.2)."""
    return base64url(sha256(access_token.encode("ascii", "replace")).digest())


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


def _check_target(htu: str, url: str) -> None:
    """Check 9: equal without query and fragment, scheme and host without case, default port as none."""
    target = htu.partition("#")[0].partition("?")[0]
    if target == url or _target(target) == _target(url):
        return
    raise _refused(f"htu is {speakable(htu, at_most=250)}, expected {speakable(url, at_most=250)}")


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
        raise _refused(f"nbf is {not_before - now} s in the future, at most {_AHEAD_SECONDS} s is accepted")


def _check_age(issued_at: int, now: int, max_age_seconds: int, *, by_nonce: bool) -> None:
    """Check 11 of RFC 9449 4.3: fresh by iat, or, where a nonce decides, at least not absurd."""
    behind, ahead = (
        (_NONCE_IAT_SECONDS, _NONCE_IAT_SECONDS) if by_nonce else (max_age_seconds, _AHEAD_SECONDS)
    )
    skew = issued_at - now
    if -skew > behind:
        raise _refused(f"iat is {-skew} s in the past, at most {behind} s is accepted", skew_seconds=skew)
    if skew > ahead:
        raise _refused(f"iat is {skew} s in the future, at most {ahead} s is accepted", skew_seconds=skew)


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise _refused(f"{name} is required, as a string")
    return value


def _seconds(claims: Mapping[str, object], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if type(value) is int and 0 <= value < 2**53:  # the usual form
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -(2**53) < value < 2**53:
        raise _refused(f"{name} must be a number of seconds")
    return int(value)


def _refused(description: str, *, skew_seconds: int | None = None) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_DPOP_PROOF, description, skew_seconds=skew_seconds)
