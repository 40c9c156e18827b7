"""Consents out of our own store, of patients who have very many: what is read of them, and in which portions."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from authz.storage.consents import ConsentVersion
from authz.storage.sqlite.store import SqliteStore, open_store
from authz.storage.store import Store
from gateway.consents import provisions
from gateway.consents.consent import ConsentQuestion, ConsentReading, ConsentSource, Said, Why
from gateway.consents.consents import AS_IT_STANDS, PatientConsents, answer
from gateway.consents.given import Given, read_consent
from gateway.consents.resource_facts import facts_of
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Deny, Permit
from gateway.policy.known import Known
from gateway.proxy.lookups.knowledge import Knowledge, Lookups
from gateway.proxy.lookups.stored_consents import StoredConsents
from gateway.proxy.lookups.turns import Turns
from tests.support.consent_desk import SCOPES, consent

BASE = "https://fhir.example"
NOW = 1_790_000_000
RESEARCH = (SCOPES, "research")
QUESTION = ConsentQuestion(RESEARCH, frozenset({"urn:study:dm2"}), frozenset(), "Condition")
SILENCE_IS_A_YES = ConsentReading(opt_out=frozenset({RESEARCH}))
MANY = 450
DENIAL = consent(provision={"type": "deny"})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "securus.db")
    yield opened
    await opened.close()


def version(id: str, value: dict[str, Any], number: int = 1, patient: str = "A") -> ConsentVersion:
    value = value | {"id": id, "patient": {"reference": f"Patient/{patient}"}}
    raw = json.dumps(value).encode()
    return ConsentVersion(BASE, id, number, patient, value["status"], raw, NOW, "somebody")


async def withdrawn(store: Store, id: str, value: dict[str, Any], status: str = "inactive") -> None:
    assert await store.add_consent(version(id, value))
    assert await store.add_consent(version(id, value | {"status": status}, 2))


async def as_they_are(store: Store, versions: Sequence[ConsentVersion], now: int) -> Sequence[ConsentVersion]:
    return versions


class Watched:
    """A store that notes how many versions it gave at once."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.given: list[int] = []

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._store, name)

        async def called(*said: Any, **named: Any) -> Any:
            found = await method(*said, **named)
            if name.startswith("consents"):
                self.given.append(len(found))
            return found

        return called


def kept(store: Any, reading: ConsentReading = AS_IT_STANDS) -> StoredConsents:
    return StoredConsents(
        store, BASE, ConsentSource(verified=False), lambda: NOW,
        reading=reading, settle=as_they_are, count=lambda _: None,
    )  # fmt: skip


async def test_of_very_many_that_are_over_none_is_read_where_silence_is_a_no(store: SqliteStore) -> None:
    for number in range(MANY):
        await withdrawn(store, f"w{number}", consent())
    await store.add_consent(version("standing", consent()))
    watched = Watched(store)
    found = await kept(watched).of(["A"])
    assert found["A"](QUESTION).said is Said.PERMIT
    assert watched.given == [1]


async def test_where_silence_is_a_yes_those_that_are_over_are_read_in_small_portions(
    store: SqliteStore,
) -> None:
    for number in range(MANY):
        await withdrawn(store, f"w{number:03}", DENIAL, "inactive" if number % 2 else "rejected")
    watched = Watched(store)
    consents = kept(watched, SILENCE_IS_A_YES)
    answered = (await consents.of(["A"]))["A"](QUESTION)
    assert (answered.said, answered.why) == (Said.PERMIT, Why.OPT_OUT)
    assert max(watched.given) <= 300
    assert sum(watched.given[2:]) == MANY
    # The last of them was no denial: whoever withdrew that has said something.
    await withdrawn(store, "w999", consent())
    assert (await consents.of(["A"]))["A"](QUESTION).said is Said.NONE


async def test_what_matters_is_found_before_all_of_them_are_read(store: SqliteStore) -> None:
    await withdrawn(store, "a", consent())
    for number in range(MANY):
        await withdrawn(store, f"w{number:03}", DENIAL)
    watched = Watched(store)
    assert (await kept(watched, SILENCE_IS_A_YES).of(["A"]))["A"](QUESTION).said is Said.NONE
    assert watched.given[2:] == [100]


@pytest.mark.parametrize("reading", [ConsentReading(), SILENCE_IS_A_YES], ids=["no", "yes"])
@pytest.mark.parametrize("few", [True, False])
async def test_what_the_store_gives_in_portions_says_what_all_of_it_says(
    store: SqliteStore, reading: ConsentReading, few: bool
) -> None:
    other = {"coding": [{"system": SCOPES, "code": "treatment"}]}
    said = {
        "A": [consent(status="inactive")],
        "B": [DENIAL | {"status": "rejected"}],
        "C": [consent(status="entered-in-error")],
        "D": [consent(status="inactive", scope=other), DENIAL | {"status": "inactive"}],
        "E": [consent(status="draft"), consent()],
        "F": [],
    }
    for patient, values in said.items():
        for number, value in enumerate(values):
            await store.add_consent(version(f"{patient}{number}", value, patient=patient))
    for number in range(0 if few else MANY):
        await store.add_consent(
            version(f"x{number}", DENIAL | {"status": "inactive"}, patient="BD"[number % 2])
        )
    found = await kept(store, reading).of(said)
    for patient, values in said.items():
        of_all = [value | {"id": f"{patient}{number}"} for number, value in enumerate(values)]
        assert found[patient](QUESTION) == answer(of_all, QUESTION, NOW, reading), patient


async def test_a_hundred_provisions_are_compared_while_others_have_their_turn(store: SqliteStore) -> None:
    many = [{"type": "deny", "class": [{"system": "urn:x", "code": f"T{number}"}]} for number in range(99)]
    await store.add_consent(version("big", consent(provision={"type": "permit", "provision": many})))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    consents = kept(store)
    await consents.of(["A"])
    task.cancel()
    assert turns > 10
    (read,) = consents._read.values()
    assert read is not None
    assert read.exceptions.keys() == {each.number for each in read.provisions}


async def test_what_is_left_for_who_asks_is_found_out_while_others_have_their_turn(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the question that was asked in vain; whoever then asks it looks at no provision that has no open element."""
    many = [{"type": "deny", "purpose": [{"code": f"P{number}"}]} for number in range(90)]
    for number in range(9):
        value = consent(provision={"type": "permit", "provision": many})
        await store.add_consent(version(f"big{number}", value))
    asked = replace(QUESTION, purposes=frozenset({"T"}))
    known = Known()
    assert known.consent("A", asked) is None
    wanted = known.wanted()
    assert wanted.questions == {replace(asked, resource=None)}
    assert not known.wanted().questions
    consents, turns = kept(store), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await consents.of(wanted.patients)
    task = asyncio.create_task(other())
    found = await consents.of(wanted.patients, wanted.questions)
    task.cancel()
    assert turns >= 4
    monkeypatch.setattr(provisions, "met", lambda *_: pytest.fail("an element was asked again"))
    assert found["A"](asked).said is Said.PERMIT


def test_what_was_compared_before_says_what_is_found_out_when_it_is_asked() -> None:
    inner = [
        {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Condition"}]},
        {"type": "permit", "purpose": [{"system": "urn:x", "code": "T"}]},
        {"type": "permit", "purpose": [{"system": "urn:x", "code": "T"}], "action": [{"text": "x"}]},
    ]
    value = consent(provision={"type": "permit", "provision": inner})
    reading = ConsentReading()
    compiled = read_consent(value, reading)
    for _ in compiled.compiling():
        pass
    for asked in (QUESTION, replace(QUESTION, type="Patient"), replace(QUESTION, purposes=frozenset("T"))):
        lazily = PatientConsents([value], reading).answer(asked, NOW)
        assert PatientConsents([compiled], reading).answer(asked, NOW) == lazily


async def test_a_turn_ends_when_enough_was_done() -> None:
    turns, others = Turns(), 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(9):
        await turns.spend(0.25)
    task.cancel()
    assert others == 2


# Very many: found in turns, and kept until one of them changes


async def very_many(store: Store, patient: str = "A", count: int = 12) -> None:
    """Consents of ninety provisions each, each of them about a code of its own."""
    for number in range(count):
        inner = [
            {"type": "deny", "code": [{"coding": [{"system": "urn:x", "code": f"{number}-{each}"}]}]}
            for each in range(90)
        ]
        value = consent(provision={"type": "permit", "provision": inner})
        await store.add_consent(version(f"many-{patient}-{number:02}", value, patient=patient))


def condition(code: str) -> dict[str, Any]:
    return {"resourceType": "Condition", "id": "x", "code": {"coding": [{"system": "urn:x", "code": code}]}}


def of_resource(code: str) -> ConsentQuestion:
    return replace(QUESTION, resource=facts_of(condition(code), frozenset()))


def lookups(consents: StoredConsents) -> Lookups:
    async def close() -> None: ...

    return Lookups(facts=cast(Any, None), consents=consents, labels=cast(Any, None), close=close)


async def test_who_comes_again_has_what_takes_long_found_in_turns(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await very_many(store)
    knowledge = Knowledge(lookups(kept(store)))
    knowledge.judges_ask = True
    asked = [of_resource(code) for code in ("0-1", "none", "3-4", "none")]

    def judge(question: ConsentQuestion) -> bool:
        answer = knowledge.consent("A", question)
        return answer is not None and answer.said is Said.PERMIT

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await knowledge.settle([partial(judge, each) for each in asked])
    task.cancel()
    assert turns > 30
    monkeypatch.setattr(provisions, "met", lambda *_: pytest.fail("an element was asked again"))
    assert [judge(each) for each in asked] == [False, True, False, True]


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_whoever_asks_for_the_last_time_is_answered(
    store: SqliteStore, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few rounds there are, and whatever was forgotten meanwhile: many consents are no reason to refuse."""
    monkeypatch.setattr("gateway.consents.asking._MOST_ANSWERS", 1)
    monkeypatch.setattr("gateway.proxy.lookups.knowledge._ROUNDS_LEFT", range(rounds)[::-1])
    await very_many(store)
    knowledge = Knowledge(lookups(kept(store)))
    knowledge.judges_ask = True
    knowledge.consents |= await kept(store).of(["A"])
    codes = ("none", "0-1", "3-4", "other")
    found: dict[str, Said] = {}

    def decide() -> Permit | Deny:
        found.clear()
        for code in codes:
            answer = knowledge.consent("A", of_resource(code))
            if answer is None:
                return Deny(Reason.CONSENT_UNAVAILABLE, (), "")
            found[code] = answer.said
        return cast(Permit, None)

    assert await knowledge.decided(decide) is None
    assert found == {"none": Said.PERMIT, "0-1": Said.DENY, "3-4": Said.DENY, "other": Said.PERMIT}
    answer = await knowledge.said("A", of_resource("0-1"))
    assert answer is not None
    assert answer.said is Said.DENY
    answer = knowledge.consent("A", of_resource("7-7"))  # and who will not come again
    assert answer is not None
    assert answer.said is Said.DENY


async def test_what_very_many_say_together_is_found_once_until_one_of_them_changes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await very_many(store)
    await store.add_consent(version("last", consent(provision={"type": "permit"})))
    consents = kept(store)
    found = await consents.of(["A"], [QUESTION])
    assert found["A"](of_resource("0-1")).said is Said.DENY
    with monkeypatch.context() as patched:
        patched.setattr(Given, "left", lambda *_: pytest.fail("what is left was looked for again"))
        found = await consents.of(["A"], [QUESTION])
        assert found["A"](of_resource("0-1")).said is Said.DENY
        assert found["A"](of_resource("none")).said is Said.PERMIT
    await store.add_consent(version("last", consent(provision={"type": "deny"}), 2))
    assert found["A"](of_resource("none")).said is Said.PERMIT
    found = await consents.of(["A"], [QUESTION])
    assert found["A"](of_resource("none")).said is Said.DENY


async def test_of_few_patients_it_is_kept_what_very_many_say(store: SqliteStore) -> None:
    consents = kept(store)
    for number in range(20):
        await very_many(store, f"P{number}", count=2)
        await consents.of([f"P{number}"], [QUESTION])
    await consents.of(["nobody"], [QUESTION])
    assert len(consents._compiled) == 16
    assert "nobody" not in consents._compiled
    assert "P19" in consents._compiled
