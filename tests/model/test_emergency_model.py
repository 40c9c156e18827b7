"""Emergency access against the naive model (P7): it opens what a permit of the one patient would, and closes nothing."""

import json
from dataclasses import replace
from typing import Any

from gateway.policy import language
from gateway.policy.decision import Environment, Permit
from gateway.policy.engine import Engine
from gateway.policy.obligations import Emergency
from tests.model import policy_model as model
from tests.model.test_policy_model import WORLDS, Files, judged, questions, words_of
from tests.model.worlds import DEFINITIONS, PATIENTS, World, known_of
from tests.support.policies import BASES, ask

TYPES = ["Patient", "Observation", "Condition", "Account"]
REASONS = ("unconscious in bay 4", "too short", None)


def plain_permit(world: World) -> dict[str, Any]:
    """A permit with the conditions of any other, for nurses."""
    where = world._where(TYPES)
    rule = {k: v for k, v in world.rule("permit").items() if k in ("rule", "effect", "because", "when")}
    return {
        **rule,
        "who": {"context": ["user"], "role": ["nurse"]},
        "may": world.some(("read", "vread", "search"), 3),
        "resources": TYPES,
        **({"where": where} if where else {}),
    }


def without_views(files: Files) -> Files:
    """The files without rules about elements: who names a patient must see whose a resource is."""
    found = []
    for body in files:
        rules = [
            {k: v for k, v in rule.items() if k != "return"} for rule in body["rules"] if "fields" not in rule
        ]
        found += [{**body, "rules": rules}] if rules else []
    return found


def engine_with_glass(files: Files, world: World, rule: dict[str, Any]) -> Engine:
    """The engine of these files, and of the rule as emergency access."""
    glass = {"who": rule["who"] | {"purpose": ["BTG"]}, "break_glass": {"one_patient": True, "lasts": "60m"}}
    policy = {**world.policy([rule | glass]), "policy": "glass"}
    policy.pop("valid", None)
    claims = DEFINITIONS["claims"] | {"purpose": {"path": "purpose", "type": "codes"}}
    bodies = [DEFINITIONS | {"claims": claims}, *files, policy]
    texts = {f"{number}.yaml": json.dumps(body) for number, body in enumerate(bodies)}
    return Engine(language.load(texts), bases=BASES)


@WORLDS
def test_P7_emergency_access_is_the_permit_of_one_patient_for_a_reason(seed: int) -> None:
    world = World(seed)
    files = without_views(world.policies())
    rule = plain_permit(world)
    judge = engine_with_glass(files, world, rule)
    name = f"glass/{rule['rule']}"
    plain = [*files, {"status": "enforce", "rules": [rule]}]
    for drawn, found in questions(world):
        claims = drawn.claims | {"groups": ["nurse"], "purpose": ["BTG"]}
        type_, patient = world.pick(TYPES), world.pick(PATIENTS)
        interaction = world.pick(["read", "vread"]) if type_ == "Patient" else "search"
        asker = replace(
            drawn,
            context="user",
            claims=claims,
            type=type_,
            interaction=interaction,
            words=(),  # what is asked here has none
            id=patient if type_ == "Patient" else None,
        )
        asked, who = words_of(asker)
        if type_ != "Patient":
            asked = ask(f"GET /Patient/{patient}/{type_}")
        reason = world.pick(REASONS)
        under_way = frozenset({(name, world.pick(PATIENTS))})
        emergency = world.pick([None, Emergency(reason), Emergency(reason, under_way)])
        is_open = emergency is not None and (reason == REASONS[0] or (name, patient) in emergency.under_way)
        environment = Environment(asker.now, asker.peer, known=known_of(asker), emergency=emergency)
        answer = judge.decide(asked, who, environment)
        for _ in range(4):
            resource = world.resource(asker)
            resource = {k: v for k, v in resource.items() if k not in ("performer", "asserter")}
            if type_ != "Patient":
                one = {"reference": f"Patient/{patient}"}
                resource = {**resource, "subject": [one] if type_ == "Account" else one}
            expected = model.shows(plain if is_open else files, asker, resource)
            assert judged(answer, resource) is expected
        if isinstance(answer, Permit):
            by = {access.rule for access in answer.obligations.emergency}
            assert by <= ({name} if is_open else set())
        for resource in found:
            own = resource["resourceType"] in TYPES and model._is_of(
                resource, {patient}, "subject", doubt=False
            )
            if not own and judged(answer, resource):
                assert model.shows(files, asker, resource)  # of nobody else by emergency access
