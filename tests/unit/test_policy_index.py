"""The index of rules: of very many, those that cannot be about a request are not looked at (case 328)."""

from gateway.policy.engine import Engine
from tests.support.policies import BASES, HERE, ask, caller, load, policy


def test_T328_of_two_thousand_rules_few_are_looked_at() -> None:
    rules = [
        f"rule: r{number}, effect: permit, who: {{context: user, client: app-{number}}}, may: [read], "
        "resources: [Observation], shared: true"
        for number in range(2_000)
    ]
    engine = Engine(load(policy(*rules)), bases=BASES)
    who, asked = caller(client="app-1999"), ask("GET /Observation/x")
    assert engine.decide(asked, who, HERE).rules == ("p/r1999",)
    found = engine._index.candidates("Observation", asked.interaction, *engine.known_of(who))
    assert [rule.id for rule in found] == ["p/r1999"]
