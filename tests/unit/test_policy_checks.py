"""Warnings at load: rules that can never match, permits that a deny covers; and that only such rules are named."""

import pytest

from gateway.policy import language
from gateway.policy.engine import Engine
from tests.model.test_policy_model import answer_of, questions, texts
from tests.model.worlds import World
from tests.support.policies import BASES, load, policy

PERMIT = "effect: permit, may: [read], shared: true"
OPEN = f"rule: a, {PERMIT}, resources: [Observation], who: {{context: user, role: [nurse]}}"
DENY = "rule: d, effect: deny, may: [any]"


def warned(*rules: str) -> list[str]:
    return [w.message for w in load(policy(*rules)).warnings]


@pytest.mark.parametrize(
    ("deny", "is_covered"),
    [
        ("resources: any", True),
        ("resources: [Observation, Patient]", True),
        ("resources: [Patient]", False),
        ("resources: any, who: {context: user}", True),
        ("resources: any, who: {context: [user, system]}", True),
        ("resources: any, who: {context: {not: [patient]}}", True),
        ("resources: any, who: {context: {not: [user]}}", False),
        ("resources: any, who: {context: patient}", False),
        ("resources: any, who: {role: [nurse, guest]}", True),
        ("resources: any, who: {role: {not: [guest]}}", False),  # a caller may be nurse and guest
        ("resources: any, who: {client: app}", False),
        ("resources: any, where: {ids: [x]}", False),
        ("resources: [Observation], fields: [Observation.note]", False),
        ("resources: any, when: {network: [0.0.0.0/0]}", False),
    ],
)
def test_a_permit_that_a_deny_covers_whole_is_named(deny: str, is_covered: bool) -> None:
    said = ["permit 'a' opens nothing: the deny 'd' covers all of it"]
    assert warned(OPEN, f"{DENY}, {deny}") == (said if is_covered else [])


def test_a_deny_of_other_interactions_or_of_a_part_of_the_networks_covers_nothing() -> None:
    assert warned(OPEN, f"{DENY}, resources: any".replace("[any]", "[search]")) == []
    inside = f"{OPEN}, when: {{network: [10.1.0.0/16]}}"
    assert warned(inside, f"{DENY}, resources: any, when: {{network: [10.2.0.0/16]}}") == []
    assert warned(inside, f"{DENY}, resources: any, when: {{network: [10.0.0.0/8]}}") != []


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (
            "effect: permit, may: [read], resources: [Organization], who: {context: patient}, where: {ids: [x]}",
            "'shared: true'",
        ),
        (
            'effect: permit, may: [read], resources: [Observation], where: {match: {Condition: "category=x"}}',
            "'match' speaks of other resource types than 'resources'",
        ),
    ],
)
def test_a_rule_that_can_never_match_says_why(rule: str, why: str) -> None:
    assert any(
        said.startswith("rule 'r' can never match: ") and why in said for said in warned(f"rule: r, {rule}")
    )


def test_what_is_named_opens_nothing_in_any_world() -> None:
    named = 0
    for seed in range(400):
        world = World(seed)
        files = world.policies()
        for body in files:
            if world.one_in(2):
                deny = world.rule("deny")
                deny.pop("where", None)
                body["rules"].append(deny)
        policies = language.load(texts(files))
        places = {
            (w.file, w.line, w.column)
            for w in policies.warnings
            if "opens nothing" in w.message or "never" in w.message
        }
        dead = {r.id for r in policies.rules if (r.place.file, r.place.line, r.place.column) in places}
        named += len(dead)
        engine = Engine(policies, bases=BASES)
        for asker, _ in questions(world):
            decision = answer_of(engine, asker)
            if type(decision).__name__ != "Deny":
                assert not dead & set(decision.rules)
    assert named >= 20
