"""Two policy sets compared: rules added, removed and changed field by field, and the decisions that differ.

Decisions are compared on requests that the sets themselves suggest: their own tests, and for each type, interaction and
kind of caller that a rule of either speaks of, one request. What is not found here may still differ; what is found does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from authz.protocol.tokens import TokenError
from gateway.fhir.outcome import FhirError
from gateway.policy.decision import Deny, Nothing, Resource
from gateway.policy.engine import Engine
from gateway.policy.inquiries.coverage import resources_of
from gateway.policy.inquiries.explanation import Explanation, explain
from gateway.policy.inquiries.explanation_parts import Truth
from gateway.policy.inquiries.plain import plain
from gateway.policy.rules import Dimension, PolicySet, PolicyTest, Rule
from gateway.policy.selftests import asked as selftest_asked
from gateway.yaml_source import Place

_FORMS = {
    "read": "GET /{type}/x",
    "vread": "GET /{type}/x/_history/1",
    "history-instance": "GET /{type}/x/_history",
    "search": "GET /{type}",
    "create": "POST /{type}",
    "update": "PUT /{type}/x",
    "patch": "PATCH /{type}/x",
    "delete": "DELETE /{type}/x",
}
_MOST_REQUESTS = 20_000
_PLACE = Place("generated", 1, 1)


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule that was added, removed or changed; fields gives the old and the new value of each that differs."""

    rule: str
    what: str  # added | removed | changed
    fields: Mapping[str, tuple[object, object]]


@dataclass(frozen=True, slots=True)
class DecisionChange:
    """A request that is decided in another way. test names the test that asks it, '' for a generated one."""

    who: str
    request: str
    before: str
    after: str
    test: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs; asked is how many requests were compared, is_whole whether all that were suggested."""

    rules: tuple[RuleChange, ...]
    decisions: tuple[DecisionChange, ...]
    asked: int
    is_whole: bool


def compare(before: PolicySet, after: PolicySet) -> Difference:
    """The difference between two sets."""
    engines = (Engine(before, bases=frozenset()), Engine(after, bases=frozenset()))
    suggested = _suggested(before, after)
    found: dict[tuple[str, str, str, str], DecisionChange] = {}
    asked = 0
    for test in islice(suggested, _MOST_REQUESTS):
        for resource in resources_of(test) or (None,):
            answers = [_answer(engine, test, resource) for engine in engines]
            if None in answers:
                continue
            asked += 1
            old, new = (answer or "" for answer in answers)
            if old != new:
                named = "" if test.place == _PLACE else test.name
                who, request = _one_line(test.body.get("as")), str(test.body.get("request"))
                found.setdefault((who, request, old, new), DecisionChange(who, request, old, new, named))
    return Difference(
        rule_changes(before, after), tuple(found.values()), asked, next(suggested, None) is None
    )


def rule_changes(before: PolicySet, after: PolicySet) -> tuple[RuleChange, ...]:
    """The rules that differ, in the order of their names. Where a rule stands in its file makes no difference."""
    old, new = ({rule.id: rule for rule in policies.rules} for policies in (before, after))
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found.append(RuleChange(name, "removed", {}))
        elif name not in old:
            found.append(RuleChange(name, "added", {}))
        elif fields := _changed(old[name], new[name]):
            found.append(RuleChange(name, "changed", fields))
    return tuple(found)


def _changed(old: Rule, new: Rule) -> dict[str, tuple[object, object]]:
    one, other = _fields(old), _fields(new)
    return {
        key: (one.get(key), other.get(key))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    }


def _fields(rule: Rule) -> dict[str, object]:
    found = plain(rule)
    return {k: v for k, v in found.items() if k != "place"} if isinstance(found, dict) else {}


def _answer(engine: Engine, test: PolicyTest, resource: Resource | None) -> str | None:
    """The decision in words; None when the request or its caller cannot be said in this set."""
    try:
        asked = selftest_asked.what_is_asked(test)
        caller, environment = selftest_asked.who_asks(engine.policies, test, asked)
    except (selftest_asked.Unplayable, TokenError, FhirError):
        return None
    return in_words(explain(engine, asked, caller, environment, resource=resource))


def in_words(explanation: Explanation) -> str:
    """The decision as far as a caller would notice it."""
    decision = explanation.decision
    if isinstance(decision, Deny):
        return f"deny {decision.reason}"
    if isinstance(decision, Nothing):
        return "nothing found"
    if explanation.allowed is Truth.FALSE:
        return f"deny {explanation.reason}"
    added = f" with {'&'.join(decision.added)}" if decision.added else ""
    return f"permit{', depending on the resource' if explanation.allowed is Truth.OPEN else ''}{added}"


def _suggested(before: PolicySet, after: PolicySet) -> Iterator[PolicyTest]:
    """The tests of both sets, then a request of every kind of caller about every type and interaction."""
    for policies in (before, after):
        yield from policies.tests
    rules = (*before.rules, *after.rules)
    callers = {_one_line(said): said for rule in rules for said in _callers(rule)}
    subjects = {
        (str(interaction), type_): None
        for rule in rules
        for interaction in sorted(rule.may)
        for type_ in sorted(rule.resources or ("Patient", "Observation"))
        if str(interaction) in _FORMS
    }
    for said in callers.values():
        for interaction, type_ in subjects:
            request = _FORMS[interaction].format(type=type_)
            yield PolicyTest("generated", "", {"as": said, "request": request}, _PLACE)


def _callers(rule: Rule) -> Iterator[dict[str, object]]:
    """Callers whom the rule is about, one for each context that it takes, and inside its first network."""
    spoken = {dimension.name: dimension for dimension in rule.who}
    contexts = spoken.pop("context", Dimension("context", frozenset({"patient", "user", "system"})))
    for context in ("patient", "user", "system"):
        if (context in contexts.values) is contexts.negated:
            continue
        said: dict[str, object] = {"context": context}
        if context == "patient":
            said["patient"] = "x"
        for name, dimension in spoken.items():
            if dimension.negated or not dimension.values or name == "issuer":
                continue
            said[name] = min(dimension.values)
        if rule.networks:
            said["network"] = str(rule.networks[0].network_address)
        yield said


def _one_line(said: object) -> str:
    if not isinstance(said, Mapping):
        return "nobody"
    return ", ".join(f"{key}: {value}" for key, value in said.items())
