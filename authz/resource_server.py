"""Token, key and replay → Caller: the one place where every protected door learns who calls.

RFC 9068 4, RFC 9449 7, RFC 8705 3, RFC 6750 2.1. The order is fixed: structure, signature, claims, times, audience,
revocation, binding, and last of all the claim of the proof's jti. Access tokens are verified once and remembered by
their SHA-256; their times and revocation are looked at again on every request. Proofs are never remembered.
"""

import hmac
import re
import time
from dataclasses import dataclass
from hashlib import sha256

from authz.client_directory import ClientDirectory
from authz.clock import Clock
from authz.events import ClockCompared, Emit, ProofChecked
from authz.keys import KeyRing
from authz.protocol import certificates, dpop, jose
from authz.protocol.client_profiles import may_have_unbound_tokens
from authz.protocol.clients import BindingKind, ProfileName
from authz.protocol.dpop import Nonces
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.jose import JoseError
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller, TokenError, caller_of
from authz.revocations import Revocations
from authz.storage.claims import Namespace
from authz.storage.store import Store

_ALGORITHMS = " ".join(sorted(jose.ALGORITHMS))
_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_MAX_TOKEN_BYTES = 12 * 1024
_MAX_REMEMBERED = 10_000
_AHEAD_SECONDS = 60  # clocks of our own nodes differ: so far into the future a token of ours may be from
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]++=*+")  # RFC 6750 2.1 b64token
_TOKEN_IN_QUERY = re.compile(r"(?:^|&)access_token(?:=|&|$)")


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The caller, and headers for the answer: a fresh DPoP-Nonce when the one in use is ageing."""

    caller: Caller
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Presented:
    """An access token as it was presented and found good: so it is wherever the same bytes are presented again.

    Until generation is not that of the keys any more. Times, revocation, key and proof are looked at each time.
    """

    scheme: str
    token: str
    ath: str
    caller: Caller
    generation: int


class ResourceServer:
    """Authenticates callers of protected resources."""

    def __init__(
        self,
        *,
        issuer: str,
        store: Store,
        keys: KeyRing,
        revocations: Revocations,
        clients: ClientDirectory,
        profiles: frozenset[ProfileName],
        nonces: Nonces,
        nonce_required: bool,
        proof_age_seconds: int,
        emit: Emit,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._store = store
        self._keys = keys
        self._revocations = revocations
        self._clients = clients
        self._profiles = profiles
        self._nonces = nonces
        self._nonce_required = nonce_required
        self._proof_age_seconds = proof_age_seconds
        self._emit = emit
        self._clock = clock
        self._remembered: dict[bytes, Caller] = {}
        self._generation = -1

    async def authenticate(self, request: HttpRequest, *, audience: frozenset[str]) -> Authenticated:
        """The caller of this request, for a resource of which audience are the identifiers.

        Raises OAuthError: INVALID_TOKEN, INVALID_DPOP_PROOF, USE_DPOP_NONCE (all 401 here) or INVALID_REQUEST
        (400). Raises StoreUnavailable when the replay claim cannot be made.
        """
        return (await self.present(request, audience=audience))[1]

    async def present(
        self, request: HttpRequest, *, audience: frozenset[str]
    ) -> tuple[Presented, Authenticated]:
        """The token of this request and its caller, at one moment. Raises as authenticate() does."""
        now = self._clock()
        presented = self._presented(request, audience, now)
        return presented, await self._admitted(request, presented, now)

    def _presented(self, request: HttpRequest, audience: frozenset[str], now: int) -> Presented:
        """The token of this request, as far as its bytes decide, and good at this time."""
        scheme, token = _credentials(request)
        caller = self._verified(token, now)
        if audience.isdisjoint(caller.audience):
            wanted = ", ".join(sorted(audience))
            raise _invalid(f"the access token is for another resource: its aud must hold one of {wanted}")
        return Presented(scheme, token, dpop.ath_of(token), caller, self._generation)

    def is_as_presented(self, presented: Presented) -> bool:
        """Whether present() would still say so of the same bytes, times aside."""
        return presented.generation == self._keys.generation

    async def admit(self, request: HttpRequest, presented: Presented) -> Authenticated:
        """The caller of a request that presents this token again. Raises as authenticate() does."""
        now = self._clock()
        _check_times(presented.caller, now)
        return await self._admitted(request, presented, now)

    async def _admitted(self, request: HttpRequest, presented: Presented, now: int) -> Authenticated:
        """The caller of a request that presents a token whose times are right now."""
        caller, scheme = presented.caller, presented.scheme
        if self._revocations.is_stale(now) or self._clients.is_stale(now):
            await self._be_current(now)
        # Not "is registered": a token outlives its client's line in gateway.yaml by minutes; who stops a client says so.
        if self._clients.is_suspended(caller.client_id):
            raise _invalid("the client is suspended")
        if self._revocations.is_revoked(caller.token_id, caller.grant_id):
            raise _invalid("the access token was revoked: begin a new authorization request")
        if caller.binding.kind is BindingKind.MTLS:
            if scheme != "bearer":
                raise _invalid("the access token is bound to a certificate: send it as Bearer")
            self._check_certificate(request, caller)
            return Authenticated(caller, ())
        if caller.binding.kind is BindingKind.NONE:
            self._check_unbound(scheme, caller)
            return Authenticated(caller, ())
        if scheme != "dpop":
            raise _invalid("the access token is bound to a DPoP key: send it as DPoP, with a proof")
        return Authenticated(caller, await self._check_proof(request, presented, now))

    def challenge(self, error: OAuthError | None, request: HttpRequest) -> tuple[tuple[str, str], ...]:
        """WWW-Authenticate for a refusal, with a nonce where one is due (RFC 9449 7.1, RFC 9728 5.1)."""
        scheme = "Bearer" if _scheme(request) == "bearer" else "DPoP"
        said = [] if scheme == "Bearer" else [f'algs="{_ALGORITHMS}"']
        if error is not None:
            said += [f'error="{error.code}"', f'error_description="{error.description}"']
            said += [f'{name}="{value}"' for name, value in error.fields.items()]
        headers = [("WWW-Authenticate", f"{scheme} {', '.join(said)}" if said else scheme)]
        if scheme == "DPoP":
            headers.append(("DPoP-Nonce", self._nonces.current(self._clock())))
        return tuple(headers)

    def read(self, token: str) -> Caller | None:
        """Whom a token of ours names, whoever shows it; None for any other text. Not an authentication."""
        try:
            return self._verify(token)
        except OAuthError:
            return None

    async def introspect(self, token: str) -> Caller | None:
        """Whom an access token names that would be accepted now, its key aside; None for every other text.

        Raises StoreUnavailable.
        """
        now = self._clock()
        try:
            caller = self._verify(token)
            _check_times(caller, now)
        except OAuthError:
            return None
        await self._be_current(now)
        if self._clients.is_suspended(caller.client_id):
            return None
        if caller.binding.kind is BindingKind.NONE and not may_have_unbound_tokens(
            self._clients.get(caller.client_id), self._profiles
        ):
            return None
        return None if self._revocations.is_revoked(caller.token_id, caller.grant_id) else caller

    async def _be_current(self, now: int) -> None:
        """Whoever should refresh what was revoked and suspended is late: no answer from old knowledge."""
        if self._revocations.is_stale(now):
            await self._revocations.be_current(now=now)
        if self._clients.is_stale(now):
            await self._clients.be_current(now=now)

    def _verified(self, token: str, now: int) -> Caller:
        if self._generation != self._keys.generation:
            self._remembered.clear()
            self._generation = self._keys.generation
        key = sha256(token.encode("ascii")).digest()
        caller = self._remembered.get(key)
        if caller is None:
            caller = self._verify(token)
            _check_times(caller, now)
            self._remember(key, caller, now)
        else:
            _check_times(caller, now)
        return caller

    def _remember(self, key: bytes, caller: Caller, now: int) -> None:
        """Keep a verified token. The oldest go when they are expired, or when there are too many."""
        remembered = self._remembered
        while remembered:
            oldest = next(iter(remembered))
            if len(remembered) < _MAX_REMEMBERED and remembered[oldest].expires_at > now:
                break
            del remembered[oldest]
        remembered[key] = caller

    def _verify(self, token: str) -> Caller:
        try:
            jws = jose.parse_compact(token, max_bytes=_MAX_TOKEN_BYTES)
            kid = jws.header.get("kid")
            key = self._keys.public_key(kid) if isinstance(kid, str) else None
            if key is None:
                raise JoseError("kid names no key of this server")
            if str(jws.header.get("typ")).lower() not in _TYPES:
                raise JoseError("typ must be at+jwt")
            algorithm = jose.algorithm_of(jws.header, jose.ALGORITHMS)
            key.verify(jws.signature, jws.signing_input, algorithm)
            return caller_of(jose.json_object(jws.payload, "payload"), issuer=self._issuer)
        except (JoseError, TokenError) as error:
            raise OAuthError(
                ErrorCode.INVALID_TOKEN,
                "the access token is not one of this server: ask for one at its token endpoint",
                detail=str(error),
            ) from error

    def _check_unbound(self, scheme: str, caller: Caller) -> None:
        """A token that is bound to no key: good while its client may have such tokens, and as Bearer only."""
        if scheme != "bearer":
            raise _invalid("the access token is bound to no key: send it as Bearer")
        if not may_have_unbound_tokens(self._clients.get(caller.client_id), self._profiles):
            raise _invalid("the client may not have tokens that are bound to no key any more")

    def _check_certificate(self, request: HttpRequest, caller: Caller) -> None:
        """RFC 8705 3: the certificate of this connection, on every request."""
        if request.certificate is None:
            raise _invalid(
                "the access token is bound to a certificate and none was presented: call the mutual-TLS address"
            )
        presented = certificates.thumbprint(request.certificate)
        if not hmac.compare_digest(presented, caller.binding.thumbprint):
            raise _invalid("the certificate is not the one that the access token is bound to")

    async def _check_proof(
        self, request: HttpRequest, presented: Presented, now: int
    ) -> tuple[tuple[str, str], ...]:
        caller = presented.caller
        try:
            proof = dpop.check(
                request.headers.get("dpop"),
                method=request.method,
                url=request.url,
                now=now,
                nonces=self._nonces,
                nonce_required=self._nonce_required,
                max_age_seconds=self._proof_age_seconds,
                ath=presented.ath,
                expected_thumbprint=caller.binding.thumbprint,
            )
        except OAuthError as error:
            outcome = "nonce" if error.code is ErrorCode.USE_DPOP_NONCE else "refused"
            self._emit(ProofChecked(outcome, caller.client_id, error.description))
            if error.skew_seconds is not None:
                self._emit(ClockCompared("dpop", error.skew_seconds))
            raise OAuthError(error.code, error.description, detail=error.detail, status=401) from error
        key = dpop.replay_key(proof, "resource")
        started = time.perf_counter()
        fresh = await self._store.claim(Namespace.DPOP_PROOF, key, until=proof.accept_until, now=now)
        taken = time.perf_counter() - started
        outcome, skew = "accepted" if fresh else "replayed", proof.issued_at - now
        self._emit(ProofChecked(outcome, caller.client_id, claim_seconds=taken, skew_seconds=skew))
        if not fresh:
            raise OAuthError(
                ErrorCode.INVALID_DPOP_PROOF, "jti was used before: make a new proof", status=401
            )
        if proof.nonce is None or self._nonces.is_ageing(proof.nonce, now):
            return (("DPoP-Nonce", self._nonces.current(now)),)
        return ()


def _scheme(request: HttpRequest) -> str:
    return request.headers.get("authorization", "").partition(" ")[0].lower()


def _credentials(request: HttpRequest) -> tuple[str, str]:
    """Scheme in lower case, and token. RFC 6750 2.3: a token in the query is refused."""
    if request.query and _TOKEN_IN_QUERY.search(request.query):
        raise OAuthError(ErrorCode.INVALID_REQUEST, "an access token in the query is refused: use the header")
    value = request.headers.get("authorization")
    if not value:
        raise _invalid("an access token is required: send Authorization with DPoP or Bearer")
    scheme, _, token = value.partition(" ")
    scheme, token = scheme.lower(), token.lstrip(" ")  # RFC 9110 11.4: one space or more
    if scheme not in ("dpop", "bearer"):
        raise _invalid("the scheme must be DPoP or Bearer")
    if not _TOKEN.fullmatch(token):
        raise OAuthError(ErrorCode.INVALID_REQUEST, "Authorization must hold one scheme and one token")
    return scheme, token


def _check_times(caller: Caller, now: int) -> None:
    if caller.expires_at <= now:
        raise _invalid(f"the access token expired {now - caller.expires_at} s ago: refresh it")
    if caller.issued_at > now + _AHEAD_SECONDS:
        raise _invalid(f"the access token is from {caller.issued_at - now} s in the future")
    not_before = caller.claims.get("nbf")
    if not_before is not None and (not isinstance(not_before, int) or not_before > now + _AHEAD_SECONDS):
        raise _invalid("the access token is not valid yet")


def _invalid(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_TOKEN, description)
