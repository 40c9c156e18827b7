"""What a request to our own endpoints uses up: the jti of its assertion, then that of its proof (RFC 7523 3, RFC 9449 11.1).

Both are claimed in one step of the store, in this order, after everything that the client may repeat was found right.
What hangs on nothing else goes along in that step: a record that is stored, a code that is redeemed.
"""

import time

from authz.clock import Clock
from authz.endpoints.client_authentication import Proven
from authz.events import Emit, ProofChecked
from authz.protocol import dpop
from authz.protocol.dpop import Proof
from authz.protocol.errors import ErrorCode, OAuthError
from authz.storage.claims import Namespace, SingleUse, Then
from authz.storage.store import Store

_PURPOSE = "authorization-server"


class Spending:
    """Claims what requests use up."""

    def __init__(self, store: Store, emit: Emit, clock: Clock) -> None:
        self._store = store
        self._emit = emit
        self._clock = clock

    async def spend(self, proven: Proven, proof: Proof | None, *, then: Then | None = None) -> None:
        """Claim the jti of the assertion (C6) and of the proof (D5, D9), and do `then`.

        Raises OAuthError for one that was used before, and does nothing more: INVALID_CLIENT for the assertion, whose proof
        stays good, INVALID_DPOP_PROOF for the proof.
        """
        use = proven.use
        uses = [] if use is None else [use]
        if proof is not None:
            key = dpop.replay_key(proof, _PURPOSE)
            uses.append(SingleUse(Namespace.DPOP_PROOF, key, proof.accept_until))
        started = time.perf_counter()
        won = await self._store.claim_in_order(uses, now=self._clock(), then=then)
        took = time.perf_counter() - started
        lost = uses[won] if won < len(uses) else None
        if lost is not None and lost.namespace is Namespace.CLIENT_ASSERTION:
            said = "jti of the client_assertion was used before: make a new assertion"
            raise OAuthError(ErrorCode.INVALID_CLIENT, said)
        if proof is not None:
            self._emit(ProofChecked("accepted" if lost is None else "replayed", None, claim_seconds=took))
        if lost is not None:
            raise OAuthError(ErrorCode.INVALID_DPOP_PROOF, "jti was used before: make a new proof")
