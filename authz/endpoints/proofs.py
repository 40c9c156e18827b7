"""DPoP proofs at the authorization server: checked early, spent last, by spending.py (RFC 9449 5, 8, 10)."""

from dataclasses import dataclass

from authz.clock import Clock
from authz.events import ClockCompared, Emit, ProofChecked
from authz.protocol import dpop
from authz.protocol.dpop import Nonces, Proof
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.request import Answer, HttpRequest

_OF_TOKENS = ("dpop", "bearer")


@dataclass(frozen=True, slots=True)
class Proofs:
    """Checks the proofs of requests to our own endpoints."""

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
        now = self.clock()
        try:
            proof = dpop.check(
                header,
                method=request.method,
                url=request.url,
                now=now,
                nonces=self.nonces,
                nonce_required=self.nonce_required,
                max_age_seconds=self.max_age_seconds,
            )
        except OAuthError as error:
            outcome = "nonce" if error.code is ErrorCode.USE_DPOP_NONCE else "refused"
            self.emit(ProofChecked(outcome, None, error.description))
            if error.skew_seconds is not None:
                self.emit(ClockCompared("dpop", error.skew_seconds))
            raise
        self.emit(ClockCompared("dpop", proof.issued_at - now))
        return proof

    def with_nonce(self, answer: Answer, request: HttpRequest) -> Answer:
        """The answer to a request that used DPoP, with a nonce for the next one.

        Authorization with a token says that the request is for a protected resource, such as userinfo: its nonces are
        those of the resource server and stand in the answer already (RFC 9449 9); ours would be refused there.
        """
        headers = request.headers
        if "dpop" not in headers:
            return answer
        if "authorization" in headers and headers["authorization"].partition(" ")[0].lower() in _OF_TOKENS:
            return answer
        return answer.with_headers((("DPoP-Nonce", self.nonces.current(self.clock())),))
