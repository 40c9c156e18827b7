"""Which rules the tests of a policy set show, and from both sides: where a rule opens, and where it refuses.

For a permit: a test that it opens, and a request about its resources that stays closed because the permit does not
match. For a deny or a require: a test that it refuses, and one that it lets pass.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from authz.protocol.tokens import TokenError
from gateway.fhir.outcome import FhirError
from gateway.policy.decision import Resource
from gateway.policy.engine import Engine
from gateway.policy.inquiries.explanation import Explanation, explain
from gateway.policy.inquiries.explanation_parts import Outcome, RuleExplanation, Truth
from gateway.policy.inquiries.plain import conditions
from gateway.policy.rules import Effect, PolicySet, PolicyTest
from gateway.policy.selftests import asked as selftest_asked
from gateway.policy.selftests import selftest


@dataclass(frozen=True, slots=True)
class RuleCoverage:
    """The tests that show a rule: those that pass by it, and those that are refused by it or for want of it.

    is_absolute: a deny without any condition, which lets nothing pass.
    """

    rule: str
    effect: Effect
    permits: tuple[str, ...]
    refuses: tuple[str, ...]
    is_absolute: bool = False

    @property
    def gaps(self) -> tuple[str, ...]:
        """What no test shows, in words."""
        found = []
        if not self.permits and not self.is_absolute:
            opens = self.effect is Effect.PERMIT
            found.append("no test shows what it opens" if opens else "no test shows what it lets pass")
        if not self.refuses:
            found.append(
                "no test shows what it leaves closed"
                if self.effect is Effect.PERMIT
                else "no test shows what it refuses"
            )
        return tuple(found)


def coverage(policies: PolicySet) -> tuple[RuleCoverage, ...]:
    """The coverage of every rule by the tests of its set. Tests that cannot be played show nothing."""
    engines: dict[str, Engine] = {}
    permits: dict[str, dict[str, None]] = {rule.id: {} for rule in policies.every_rule}
    refuses: dict[str, dict[str, None]] = {rule.id: {} for rule in policies.every_rule}
    for test in policies.tests:
        if test.policy not in engines:
            engines[test.policy] = Engine(policies.enforcing(test.policy), bases=frozenset())
        engine = engines[test.policy]
        for explanation in _explained(engine, engine.policies, test):
            for each in explanation.rules:
                if _opens(explanation, each):
                    permits[each.rule.id][test.name] = None
                if _closes(explanation, each):
                    refuses[each.rule.id][test.name] = None
    return tuple(
        RuleCoverage(
            rule.id,
            rule.effect,
            tuple(permits[rule.id]),
            tuple(refuses[rule.id]),
            is_absolute=rule.effect is Effect.DENY and not rule.who and not conditions(rule),
        )
        for rule in policies.every_rule
    )


def _opens(explanation: Explanation, each: RuleExplanation) -> bool:
    if each.rule.effect is Effect.PERMIT:
        return explanation.allowed is not Truth.FALSE and each.outcome in (Outcome.PERMITS, Outcome.OPEN)
    # A guardrail may be about what nobody opens today: that it was not this rule which refused is enough.
    others = any(o.outcome in (Outcome.REFUSES, Outcome.STEP_UP) for o in explanation.rules)
    return not others and each.outcome in (Outcome.KEPT, Outcome.UNMATCHED, Outcome.OPEN)


def _closes(explanation: Explanation, each: RuleExplanation) -> bool:
    if each.outcome is Outcome.HIDES:
        return True
    if explanation.allowed is not Truth.FALSE:
        return False
    if each.rule.effect is Effect.PERMIT:
        return each.outcome in (Outcome.UNMATCHED, Outcome.STEP_UP)
    return each.outcome in (Outcome.REFUSES, Outcome.STEP_UP)


def _explained(engine: Engine, policies: PolicySet, test: PolicyTest) -> Iterator[Explanation]:
    try:
        asked = selftest_asked.what_is_asked(test)
        caller, environment = selftest_asked.who_asks(policies, test, asked)
    except (selftest_asked.Unplayable, TokenError, FhirError):
        return
    for resource in resources_of(test) or (None,):
        yield explain(engine, asked, caller, environment, resource=resource)


def resources_of(test: PolicyTest) -> tuple[Resource, ...]:
    """The resources that a test gives: its body, and what the store has."""
    found: list[object] = [test.body.get("body")]
    given = test.body.get("given")
    if isinstance(given, Mapping):
        for value in given.values():
            found.extend(value if isinstance(value, list) else [value])
    return tuple(
        selftest.typed(each) for each in found if isinstance(each, Mapping) and "resourceType" in each
    )
