"""P1, P2, P4, P5 and P6 over the whole passage: what is true of its parts is true of them together.

Random charts, as in test_ways_through_the_passage.py: reads, versions, histories, searches, operations and batches.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from authz.protocol.tokens import Caller
from gateway.fhir import request, request_target
from gateway.policy.engine import Engine
from tests.model.brute_store import Answered, BruteStore, Resource, key
from tests.model.charts import Chart, engine_of
from tests.model.passages import Door
from tests.model.seeds import over_seeds
from tests.model.test_ways_through_the_passage import PEER, every_page, within

CHARTS = over_seeds(40)
_seen: Counter[str] = Counter()


class Recording(BruteStore):
    """A store that writes down what it is asked, and answers in pieces of a size."""

    def __init__(self, versions: Mapping[str, list[Resource]], *, piece: int = 997) -> None:
        super().__init__(versions)
        self.asked: list[str] = []
        self._piece = piece

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: Any = None) -> Answered:
        self.asked.append(f"{method} {target}")
        answer = await super().send(method, target, headers, body)
        answer.piece = self._piece
        return answer


class Play:
    """One chart with its caller and questions."""

    def __init__(self, seed: int) -> None:
        self.chart = Chart(seed)
        self.rules = self.chart.rules()
        self.engine = engine_of(self.rules)
        self.who: Caller = self.chart.caller()
        self.versions = self.chart.versions()
        self.targets = [self.chart.search()[0] for _ in range(8)]
        self.targets += [self.chart.one(self.versions) for _ in range(8)]

    def door(self, store: BruteStore, engine: Engine | None = None) -> Door:
        """The caller before a store."""
        return Door(engine or self.engine, self.who, store, now=self.chart.now, peer=PEER)

    async def shown(self, engine: Engine) -> dict[str, list[Resource] | None]:
        """What each question shows, on all its pages; None where it is refused."""
        found: dict[str, list[Resource] | None] = {}
        for target in self.targets:
            door = self.door(BruteStore(self.versions), engine)
            first = await door.ask("GET", target)
            found[target] = (await every_page(door, first))[0] if first.status == 200 else None
        return found


def is_in(less: list[Resource] | None, more: list[Resource] | None) -> bool:
    """Whether everything that one answer shows is shown by the other."""
    return all(any(key(a) == key(b) and within(a, b) for b in more or []) for a in less or [])


@CHARTS
def test_P4_a_rule_that_closes_makes_no_answer_larger(seed: int) -> None:
    play = Play(seed)
    closing = {**play.chart.closing(99), "rule": "one-more"}
    after = engine_of([*play.rules, closing], or_none=True)
    if after is not None:
        one, other = asyncio.run(play.shown(play.engine)), asyncio.run(play.shown(after))
        for target in play.targets:
            _seen["closed"] += one[target] != other[target]
            assert is_in(other[target], one[target]), (seed, target, closing)
            assert one[target] is not None or other[target] is None, (seed, target, closing)


@CHARTS
def test_P5_a_permit_makes_no_answer_smaller(seed: int) -> None:
    play = Play(seed)
    permit = {**play.chart.permit(99), "rule": "one-more"}
    after = engine_of([*play.rules, permit], or_none=True)
    if after is not None:
        one, other = asyncio.run(play.shown(play.engine)), asyncio.run(play.shown(after))
        for target in play.targets:
            _seen["opened"] += one[target] != other[target]
            assert is_in(one[target], other[target]), (seed, target, permit)
            assert other[target] is not None or one[target] is None, (seed, target, permit)


@pytest.mark.parametrize("form", ["application/fhir+json", "application/fhir+xml"])
@CHARTS
def test_P6_the_pieces_of_the_stores_answer_never_change_ours(seed: int, form: str) -> None:
    play = Play(seed)

    async def answers(piece: int) -> list[Any]:
        door = play.door(Recording(play.versions, piece=piece))
        replies = [await door.ask("GET", target, accept=form) for target in play.targets]
        return [(reply.status, _without_tokens(reply.body)) for reply in replies]

    whole = asyncio.run(answers(1_000_000))
    _seen["whole"] += sum(status == 200 for status, _ in whole)
    assert asyncio.run(answers(1)) == asyncio.run(answers(13)) == whole, seed


@CHARTS
def test_P1_P2_an_entry_of_a_batch_asks_the_store_what_the_request_alone_asks(seed: int) -> None:
    play = Play(seed)
    entries = [{"request": {"method": "GET", "url": target.removeprefix("/")}} for target in play.targets]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    alone, together = Recording(play.versions), Recording(play.versions)

    async def ask() -> bool:
        open_to_batches = engine_of([*play.rules, _BATCHES])
        for target in play.targets:
            await play.door(alone, open_to_batches).ask("GET", target)
        return (await play.door(together, open_to_batches).ask("POST", "/", batch)).status == 200

    assert asyncio.run(ask())
    _seen["asked"] += len(alone.asked)
    assert sorted(together.asked) == sorted(alone.asked), seed
    for line in alone.asked:
        method, _, target = line.partition(" ")
        path, _, query = target.partition("?")
        read = request.parse(method, f"/{path}", query)
        assert request_target.upstream_target(read) == target
        text = request_target.canonical_text(read)
        assert request_target.canonical_text(request_target.asked_in(text)) == text


_BATCHES: dict[str, Any] = {
    "rule": "batches", "effect": "permit", "may": ["batch"], "resources": ["any"], "shared": True, "because": "x",
}  # fmt: skip


def _without_tokens(body: bytes) -> bytes:
    """The answer without the sealed tokens of its pages, which are new each time."""
    head, mark, rest = body.partition(b"_page=")
    while mark:
        end = min((at for at in (rest.find(b'"'), rest.find(b"&")) if at >= 0), default=len(rest))
        middle, mark, after = rest[end:].partition(b"_page=")
        head, rest = head + middle, after
    return head


def test_the_laws_met_answers_that_differ() -> None:
    """They would say nothing of answers that are all refusals, or all the same."""
    if not _seen["closed"]:  # in a process that has not played it
        test_P4_a_rule_that_closes_makes_no_answer_larger()
    if not _seen["opened"]:
        test_P5_a_permit_makes_no_answer_smaller()
    assert _seen["closed"] >= 20, _seen
    assert _seen["opened"] >= 20, _seen
