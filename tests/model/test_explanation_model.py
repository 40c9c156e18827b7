"""What an explanation says is what the engine decides, over random worlds."""

from collections import Counter
from typing import Any

from gateway.policy import language
from gateway.policy.decision import Deny, Environment, Nothing, Permit
from gateway.policy.engine import Engine
from gateway.policy.inquiries.explanation import Explanation, explain
from gateway.policy.inquiries.explanation_parts import Outcome, Truth
from gateway.policy.rules import Effect
from tests.model.test_policy_model import WORLDS, judged, questions, texts, words_of
from tests.model.worlds import World, known_of
from tests.support.policies import BASES


def explained(world: World) -> list[tuple[Explanation, Engine, dict[str, Any] | None]]:
    """Questions of this world, each explained with a resource and without."""
    engine = Engine(language.load(texts(world.policies())), bases=BASES)
    found = []
    for asker, resources in questions(world):
        asked, who = words_of(asker)
        for resource in (None, *resources[:2]):
            explanation = explain(
                engine,
                asked,
                who,
                Environment(asker.now, asker.peer, known=known_of(asker)),
                resource=resource,
            )
            found.append((explanation, engine, resource))
    return found


@WORLDS
def test_what_is_said_of_each_rule_adds_up_to_the_decision(seed: int) -> None:
    for explanation, _, resource in explained(World(seed)):
        decision, outcomes = explanation.decision, {each.outcome for each in explanation.rules}
        opening = {Outcome.PERMITS, Outcome.OPEN}
        by_request = {
            each.rule.id
            for each in explanation.rules
            if each.rule.effect is Effect.PERMIT and each.outcome in opening
        }
        if resource is None:
            if isinstance(decision, Permit):
                assert set(decision.rules) == by_request
                assert Outcome.REFUSES not in outcomes
            elif isinstance(decision, Deny) and decision.reason == "policy-denied":
                refusing = {each.rule.id for each in explanation.rules if each.outcome is Outcome.REFUSES}
                assert set(decision.rules) == refusing
            elif isinstance(decision, Deny) and decision.reason == "no-permit":
                assert not by_request
        elif isinstance(decision, Nothing):
            # A search for nobody's records: what somebody else only had a part in is found by reading.
            assert not judged(decision, resource)
        elif resource["resourceType"] == explanation.asked.type:
            allowed = explanation.opens is Truth.TRUE
            allowed &= Outcome.PERMITS in outcomes
            allowed &= Outcome.REFUSES not in outcomes
            assert judged(decision, resource) is allowed
            assert Outcome.OPEN not in outcomes


@WORLDS
def test_what_is_allowed_for_certain_is_shown_whatever_is_stored(seed: int) -> None:
    world = World(seed)
    for explanation, _, resource in explained(world):
        if (
            resource is None
            and explanation.allowed is Truth.TRUE
            and isinstance(explanation.decision, Permit)
        ):
            asked = explanation.asked
            if asked.interaction != "search":
                stored = {"resourceType": asked.type, "id": asked.id or "x"}
                assert judged(explanation.decision, stored)


def test_explanations_reach_every_outcome_that_the_worlds_have() -> None:
    seen: Counter[str] = Counter()
    for seed in range(20):
        for explanation, _, _ in explained(World(seed)):
            seen.update(str(each.outcome) for each in explanation.rules)
            seen[f"allowed {explanation.allowed}"] += 1
    wanted = {str(o) for o in Outcome} - {str(Outcome.STEP_UP), str(Outcome.HIDES)} | {
        f"allowed {t}" for t in Truth
    }
    assert wanted <= {name for name, count in seen.items() if count >= 5}
