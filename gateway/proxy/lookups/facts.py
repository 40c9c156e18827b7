"""The facts of policies, asked of the store behind the mount and kept for as long as the definitions say.

An answer belongs to one caller: policies, issuer, subject, client and the claims that stand in the question.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from authz.clock import Clock
from authz.protocol.tokens import Caller
from gateway.fhir.matching import CriteriaError
from gateway.fhir.outcome import Reason
from gateway.policy.facts import FactQuestion, FactValues, taken
from gateway.proxy.lookups.preflight import Preflight, TooMany, Unavailable

_MAX_KEPT = 10_000  # answers
_MAX_VALUES = 1_000_000  # in all of them
_PAGE = 200
_Key = tuple[str, str, str, str, str, str]
_Answer = FactValues | Reason


class Facts:
    """The facts at one store. count is told how each question was answered: fact, outcome."""

    def __init__(self, preflight: Preflight, clock: Clock, count: Callable[[str, str], None]) -> None:
        self._preflight = preflight
        self._clock = clock
        self._count = count
        self._kept: OrderedDict[_Key, tuple[FactValues, int]] = OrderedDict()
        self._values = 0
        self._asking: dict[_Key, asyncio.Task[_Answer]] = {}

    async def answer(self, question: FactQuestion, caller: Caller, policy_hash: str) -> _Answer:
        """The values, or why there are none. Raises nothing; an answer as old as max_stale serves in an outage."""
        fact = question.fact
        key = (policy_hash, fact.name, question.query, caller.issuer, caller.subject, caller.client_id)
        found = self._kept_for(key, fact.keep)
        if found is not None:
            self._count(fact.name, "kept")
            return found
        task = self._asking.get(key)
        if task is None:
            # A task of its own: who asked first may go away, the others wait on.
            task = asyncio.create_task(self._asked(key, question))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        answer = await asyncio.shield(task)
        if answer is Reason.FACTS_UNAVAILABLE:
            stale = self._kept_for(key, fact.max_stale)
            if stale is not None:
                self._count(fact.name, "stale")
                return stale
        self._count(fact.name, _OUTCOMES[answer] if isinstance(answer, Reason) else "asked")
        return answer

    async def _asked(self, key: _Key, question: FactQuestion) -> _Answer:
        fact, bases, began = question.fact, self._preflight.bases, self._clock()
        try:
            target = f"{question.target(bases)}&_count={min(_PAGE, fact.at_most + 1)}"
            # Several resources may name one value: a few more than values are read.
            resources = await self._preflight.search(target, at_most=4 * fact.at_most + _PAGE)
            found = taken(question, resources, bases)
        except (Unavailable, CriteriaError):
            return Reason.FACTS_UNAVAILABLE
        except TooMany:
            found = None
        self._forget(key)
        if found is None or len(found.values) > fact.at_most:
            return Reason.FACTS_TOO_MANY
        self._kept[key] = (found, began)
        self._values += len(found.values)
        while len(self._kept) > _MAX_KEPT or self._values > _MAX_VALUES:
            self._forget(next(iter(self._kept)))
        return found

    def _kept_for(self, key: _Key, seconds: int) -> FactValues | None:
        """The answer that is kept, where it is not older than so many seconds."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        values, at = kept
        age = max(0, self._clock() - at)
        if age >= seconds:
            return None
        self._kept.move_to_end(key)
        return FactValues(values.values, values.is_whole, age)

    def _forget(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._values -= len(kept[0].values)


_OUTCOMES = {Reason.FACTS_UNAVAILABLE: "unavailable", Reason.FACTS_TOO_MANY: "too-many"}
