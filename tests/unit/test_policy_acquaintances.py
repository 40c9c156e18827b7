"""What is kept of a caller between two requests, and what never is."""

from datetime import datetime
from typing import Any

import pytest

from authz.protocol.tokens import Caller
from gateway.policy import acquaintances
from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.obligations import Emergency
from tests.support.policies import BASES, HERE, ask, caller, load, policy

PLAIN = "rule: all, effect: permit, may: [read], resources: [Observation], shared: true"
PATIENTS = "rule: patients, effect: permit, may: [read], resources: [Patient], shared: true"
SETS = """\
definitions: hours
version: 1
sets:
  night: {hours: ["22:00-24:00", "00:00-06:00"], zone: Europe/Amsterdam}
"""
NOON = int(datetime.fromisoformat("2026-03-02T12:00:00+01:00").timestamp())
MIDNIGHT = NOON + 12 * 3600


def engine(*rules: str) -> Engine:
    return Engine(load(SETS, policy(*rules)), bases=BASES)


def read(judge: Engine, who: Caller, now: int = NOON, peer: str = HERE.peer, **more: Any) -> Decision:
    return judge.decide(ask("GET /Observation/x"), who, Environment(now, peer, **more))


def display(decision: Decision) -> str | None:
    """What goes out as the name of the patient of an observation."""
    assert isinstance(decision, Permit)
    assert decision.judge is not None
    subject = {"reference": "Patient/A", "display": "Ada"}
    resource = {"resourceType": "Observation", "id": "x", "subject": subject}
    verdict = decision.judge(resource)
    seen = (resource if verdict.seen is None else verdict.seen)["subject"]
    assert isinstance(seen, dict)
    return seen.get("display")


def test_the_second_read_of_a_token_works_nothing_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, who = engine(PLAIN), caller(roles=["physician"])
    first = read(judge, who)
    monkeypatch.setattr(Engine, "_spoken", lambda *_: pytest.fail("worked out again"))
    second = read(judge, who, now=MIDNIGHT, peer="198.51.100.7")
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    assert first.rules == second.rules == ("p/all",)


def test_a_token_with_the_same_claims_is_somebody_else() -> None:
    judge = engine(PLAIN + ", who: {roles: [physician]}")
    assert isinstance(read(judge, caller(roles=["physician"])), Permit)
    assert isinstance(read(judge, caller(roles=["porter"])), Deny)


@pytest.mark.parametrize(
    ("when", "elsewhere"),
    [
        ("{hours: $night}", {"now": MIDNIGHT}),
        ('{network: ["198.51.100.0/24"]}', {"peer": "198.51.100.7"}),
    ],
)
def test_time_and_place_are_looked_at_every_time(when: str, elsewhere: dict[str, Any]) -> None:
    judge, who = engine(f"{PLAIN}, when: {when}"), caller()
    for _ in range(2):
        assert isinstance(read(judge, who), Deny)
        assert isinstance(read(judge, who, **elsewhere), Permit)


def test_a_name_that_is_hidden_at_night_is_hidden_in_other_types_too() -> None:
    closing = "rule: names, effect: deny, may: [read], resources: [Patient], fields: [Patient.name], when: {hours: $night}"
    judge, who = engine(PLAIN, PATIENTS, closing), caller()
    for _ in range(2):
        assert display(read(judge, who)) == "Ada"
        assert display(read(judge, who, now=MIDNIGHT)) is None


def test_an_emergency_is_looked_at_every_time() -> None:
    who_may = "who: {context: user, role: [physician], purpose: [BTG]}"
    lasts = "break_glass: {one_patient: true, lasts: 60m, reason: {at_least: 10, at_most: 40}}"
    judge = engine(
        f"rule: glass, effect: permit, may: [read], resources: [Patient], shared: true, {who_may}, {lasts}"
    )
    who = caller(roles=["physician"], purpose_of_use=["BTG"])
    for reason, opens in [(None, False), ("unconscious in the emergency room", True), (None, False)]:
        here = Environment(NOON, HERE.peer, emergency=Emergency(reason))
        assert isinstance(judge.decide(ask("GET /Patient/A"), who, here), Permit) is opens
        assert isinstance(judge.decide(ask("GET /Patient/A"), who, HERE), Deny)


def test_so_many_callers_are_known_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquaintances, "_AT_MOST", 2)
    judge = engine(PLAIN)
    callers = [caller(sub=str(number)) for number in range(5)]
    for who in callers:
        assert isinstance(read(judge, who), Permit)
    known = [who for who in callers if judge._acquaintances.find(who) is not None]
    assert known == callers[-2:]


def test_so_many_layers_are_kept_of_all_callers_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquaintances, "_LAYERS_AT_MOST", 3)
    judge = engine(PLAIN, PATIENTS)
    callers = [caller(sub=str(number)) for number in range(3)]
    for _ in range(2):
        for who in callers:
            for place in ("Observation/x", "Observation/x/_history", "Patient/A", "Encounter/e"):
                decision = judge.decide(ask(f"GET /{place}"), who, HERE)
                assert isinstance(decision, Permit) is (place in ("Observation/x", "Patient/A"))
                known = [judge._acquaintances.find(each) for each in callers]
                assert sum(len(each.layers) for each in known if each is not None) <= 3
