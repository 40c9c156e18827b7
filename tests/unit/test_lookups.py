"""Look-ups beside a request: asked once for all who wait, kept as long as they are good, bounded, and never half of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.fhir.outcome import FhirError, Reason
from gateway.policy.decision import Verdict
from gateway.policy.facts import Fact, FactQuestion, FactValues
from gateway.proxy.answers.ndjson_filter import NdjsonFilter
from gateway.proxy.answers.tally import Tally
from gateway.proxy.lookups import facts as facts_of_a_store
from gateway.proxy.lookups.facts import Facts
from gateway.proxy.lookups.kept import Kept
from gateway.proxy.lookups.preflight import TooMany, Unavailable
from tests.support.policies import BASES, caller

pytestmark = pytest.mark.asyncio
FACT = Fact("mine", "CareTeam", "status={token.org}", "CareTeam.subject", keep=60, max_stale=120, at_most=3)
QUESTION = FactQuestion(FACT, "status=active")
DOCTOR = caller()


class Asked:
    """A store that answers when it is let, and counts."""

    def __init__(self, *patients: str) -> None:
        self.bases = BASES
        self.patients = patients
        self.targets: list[str] = []
        self.released = asyncio.Event()
        self.released.set()
        self.error: type[Exception] | None = None

    async def search(self, target: str, *, at_most: int) -> list[dict[str, Any]]:
        self.targets.append(target)
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return [
            {"resourceType": "CareTeam", "status": "active", "subject": {"reference": f"Patient/{id_}"}}
            for id_ in self.patients
        ]


class Now:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000

    def __call__(self) -> int:
        return self.now


def facts(store: Asked, now: Now, counted: list[str] | None = None) -> Facts:
    told = [] if counted is None else counted
    return Facts(store, now, lambda fact, outcome: told.append(outcome))  # type: ignore[arg-type]


async def test_a_fact_is_asked_once_for_all_who_wait_and_one_who_leaves_spoils_nothing() -> None:
    store, counted = Asked("A"), list[str]()
    found = facts(store, Now(), counted)
    store.released.clear()
    first, second = (asyncio.create_task(found.answer(QUESTION, DOCTOR, "p")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    store.released.set()
    assert await second == FactValues(frozenset({"Patient/A"}))
    assert len(store.targets) == 1
    assert (await found.answer(QUESTION, DOCTOR, "p")) == FactValues(frozenset({"Patient/A"}))
    assert len(store.targets) == 1
    assert counted == ["asked", "kept"]


async def test_a_fact_is_kept_for_its_time_and_by_whom_it_is_about() -> None:
    store, now = Asked("A"), Now()
    found = facts(store, now)
    await found.answer(QUESTION, DOCTOR, "p")
    now.now += 59
    assert (await found.answer(QUESTION, DOCTOR, "p")) == FactValues(frozenset({"Patient/A"}), age=59)
    now.now += 1
    await found.answer(QUESTION, DOCTOR, "p")
    assert len(store.targets) == 2
    for other in (
        found.answer(QUESTION, DOCTOR, "q"),
        found.answer(QUESTION, caller(sub="t"), "p"),
        found.answer(QUESTION, caller(client="other"), "p"),
        found.answer(FactQuestion(FACT, "status=inactive"), DOCTOR, "p"),
    ):
        await other
    assert len(store.targets) == 6


async def test_an_old_answer_serves_in_an_outage_until_it_is_too_old() -> None:
    store, now, counted = Asked("A"), Now(), list[str]()
    found = facts(store, now, counted)
    await found.answer(QUESTION, DOCTOR, "p")
    store.error = Unavailable
    now.now += 119
    assert (await found.answer(QUESTION, DOCTOR, "p")) == FactValues(frozenset({"Patient/A"}), age=119)
    now.now += 1
    assert (await found.answer(QUESTION, DOCTOR, "p")) is Reason.FACTS_UNAVAILABLE
    assert counted == ["asked", "stale", "unavailable"]


@pytest.mark.parametrize("error", [TooMany, None])
async def test_a_list_that_became_too_long_is_none_however_short_it_was(
    error: type[Exception] | None,
) -> None:
    store, now = Asked("A"), Now()
    found = facts(store, now)
    await found.answer(QUESTION, DOCTOR, "p")
    store.error, store.patients = error, ("A", "B", "C", "D")
    now.now += 61
    assert (await found.answer(QUESTION, DOCTOR, "p")) is Reason.FACTS_TOO_MANY
    store.error = Unavailable
    assert (await found.answer(QUESTION, DOCTOR, "p")) is Reason.FACTS_UNAVAILABLE


async def test_what_is_kept_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_of_a_store, "_MAX_VALUES", 4)
    store = Asked("A", "B")
    found = facts(store, Now())
    for subject in ("s1", "s2", "s3"):
        await found.answer(QUESTION, caller(sub=subject), "p")
    await found.answer(QUESTION, caller(sub="s3"), "p")
    assert len(store.targets) == 3
    await found.answer(QUESTION, caller(sub="s1"), "p")
    assert len(store.targets) == 4


async def test_many_are_asked_together_each_once_and_those_that_are_missing_again() -> None:
    asked: list[list[str]] = []
    fails = False

    async def ask(names: list[str]) -> dict[str, str] | None:
        asked.append(names)
        await asyncio.sleep(0)
        return None if fails else {name: name.upper() for name in names if name != "gone"}

    counted: list[str] = []
    kept = Kept(ask, Now(), at_once=2, keep=30, count=counted.append)
    one, other = await asyncio.gather(kept.of(["a", "b", "gone"]), kept.of(["b", "c"]))
    assert one == {"a": "A", "b": "B"}
    assert other == {"b": "B", "c": "C"}
    assert sorted(asked) == [["a", "b"], ["c"], ["gone"]]
    assert await kept.of(["a", "gone"]) == {"a": "A"}
    assert asked[3:] == [["gone"]]
    fails = True
    assert await kept.of(["a", "d"]) == {"a": "A"}
    assert counted.count("unavailable") == 1


async def test_lines_of_a_file_are_judged_once_what_their_judge_needs_is_known() -> None:
    settled: list[int] = []
    known: set[str] = set()

    async def settle(judges: Any) -> None:
        settled.append(len(judges))
        for judge in judges:
            judge()
        known.update(("A", "B"))

    def judge(resource: Any) -> Verdict:
        return Verdict(resource["id"] in known, ())

    async def chunks() -> AsyncIterator[bytes]:
        for ids in (("A", "C"), ("B",)):
            lines = ({"resourceType": "Patient", "id": id_} for id_ in ids)
            yield "".join(json.dumps(line) + "\n" for line in lines).encode()

    tally = Tally()
    filtered = NdjsonFilter(judge, "http://up", "https://gw", tally, settle=settle)
    out = b"".join([piece async for piece in filtered.run(chunks())])
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["A", "B"]
    assert (settled, tally.shown, tally.dropped) == ([2, 1], 2, 1)

    async def unavailable(judges: Any) -> None:
        raise FhirError(Reason.CONSENT_UNAVAILABLE)

    filtered = NdjsonFilter(judge, "http://up", "https://gw", tally, settle=unavailable)
    with pytest.raises(FhirError):
        [piece async for piece in filtered.run(chunks())]
