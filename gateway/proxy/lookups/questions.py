"""What is known to questions that are no requests, of several callers: asked as at a request, with one budget for all."""

from authz.protocol.tokens import Caller
from gateway.proxy.lookups.knowledge import ROUNDS, Knowledge, Lookups


class KnownToQuestions:
    """The knowledge of each caller that is asked about, at one mount under one set of policies."""

    def __init__(self, lookups: Lookups, policy_hash: str) -> None:
        self._lookups = lookups
        self._policy_hash = policy_hash
        self._of: dict[str, Knowledge] = {}
        self._rounds = 0

    def of(self, caller: Caller) -> Knowledge:
        """What is known for a caller so far; callers of the same claims share it."""
        name = repr((caller.issuer, sorted(caller.claims.items())))
        if name not in self._of:
            known = Knowledge(self._lookups, caller, self._policy_hash)
            others = next(iter(self._of.values()), None)
            self._of[name] = known if others is None else known.at_the_cost_of(others)
        self._of[name].takes_turns = self._rounds < ROUNDS
        return self._of[name]

    async def found(self) -> bool:
        """Whether more is known than before, since something was looked for in vain and then asked for."""
        self._rounds += 1
        if self._rounds > ROUNDS:
            return False
        return any([await known.found() for known in self._of.values()])
