"""DPoP proofs at the authorization server: checked early, spent last (RFC 9449 5, 8, 10)."""

import time
from dataclasses import dataclass

from authz.clock import Clock
from authz.events import Emit, ProofChecked
from authz.protocol import dpop
from authz.protocol.dpop import Nonces, Proof
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest
from authz.storage.store import Namespace, Store


@dataclass(frozen=True, slots=True)
class Proofs:
    """Checks and spends the proofs of requests to our own endpoints."""

    store: Store
    nonces: Nonces
    nonce_required: bool
    max_age_seconds: int
    emit: Emit
    clock: Clock

    def check(self, request: HttpRequest) -> Proof | None:
        """The proof of this request, None without one. Raises OAuthError; spends nothing."""
        header = request.headers.get("dpop")
        if header is None:
            return None
        try:
            return dpop.check(
                header,
                method=request.method,
                url=request.url,
                now=self.clock(),
                nonces=self.nonces,
                nonce_required=self.nonce_required,
                max_age_seconds=self.max_age_seconds,
            )
        except OAuthError as error:
            outcome = "nonce" if error.code is ErrorCode.USE_DPOP_NONCE else "refused"
            self.emit(ProofChecked(outcome, None, error.description))
            raise

    async def spend(self, proof: Proof | None) -> None:
        """Claim the proof's jti (D5, D9). Raises OAuthError(INVALID_DPOP_PROOF) when it was used before."""
        if proof is None:
            return
        key = dpop.replay_key(proof, "authorization-server")
        started = time.perf_counter()
        fresh = await self.store.claim(Namespace.DPOP_PROOF, key, until=proof.accept_until, now=self.clock())
        outcome = "accepted" if fresh else "replayed"
        self.emit(ProofChecked(outcome, None, claim_seconds=time.perf_counter() - started))
        if not fresh:
            raise OAuthError(ErrorCode.INVALID_DPOP_PROOF, "jti was used before: make a new proof")

    def with_nonce(self, answer: Answer, request: HttpRequest) -> Answer:
        """The answer to a request that used DPoP, with a nonce for the next one.

        A request with an access token came to a protected resource, which has nonces of its own and gives them itself.
        """
        with_token = request.headers.get("authorization", "").lower().startswith("dpop ")
        if "dpop" not in request.headers or with_token:
            return answer
        return answer.with_headers((("DPoP-Nonce", self.nonces.current(self.clock())),))
