"""What a test inside a policy file saw, held against what it says it expects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.fhirpath import ExpressionError, compile_expression
from gateway.fhir.outcome import Reason
from gateway.fhir.search import query_pairs
from gateway.policy.decision import Resource, StepUp
from gateway.policy.rules import PolicyTest
from gateway.policy.selftests.asked import Unplayable
from gateway.yaml_source import did_you_mean

_EXPECT_KEYS = (
    "decision", "rule", "status", "upstream", "entries", "shows", "hides", "reason", "code",
    "acr_values", "max_age",
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What a test saw."""

    decision: str
    status: int
    reason: Reason | None
    rules: tuple[str, ...]
    upstream: list[str]
    shown: list[str]
    hidden: list[str]
    step_up: StepUp | None = None
    seen: list[Resource] = field(default_factory=list)
    has_total: bool = False
    is_cut: bool = False  # something was taken out of what is shown


def differences_of(test: PolicyTest, outcome: Outcome) -> list[str]:
    """Where an outcome is not what the test expects, in words; nothing where it is. Raises Unplayable."""
    expect = test.body.get("expect")
    if not isinstance(expect, Mapping) or not expect:
        raise Unplayable("'expect' must say what comes of it: {decision: permit}")
    differences = []
    for key, wanted in expect.items():
        match key:
            case "decision":
                found: object = outcome.decision
            case "status":
                found = outcome.status
            case "reason" | "code":
                found = None if outcome.reason is None else str(outcome.reason)
            case "acr_values":
                found = None if outcome.step_up is None else list(outcome.step_up.acr_values)
            case "max_age":
                found = None if outcome.step_up is None else outcome.step_up.max_age
            case "entries":
                found = len(outcome.shown)
            case "rule":
                if not any(name.rpartition("/")[2] == wanted for name in outcome.rules):
                    differences.append(f"rule {wanted} had no part, {', '.join(outcome.rules) or 'none'} had")
                continue
            case "upstream":
                differences.extend(_compare_upstream(wanted, outcome.upstream))
                continue
            case "shows" | "hides":
                differences.extend(_compare_seen(key, wanted, outcome))
                continue
            case _:
                raise Unplayable(f"expect has no key '{key}'.{did_you_mean(str(key), _EXPECT_KEYS)}")
        if found != wanted:
            differences.append(f"{key} is {found}, expected {wanted}")
    return differences


def _compare_seen(key: str, wanted: object, outcome: Outcome) -> list[str]:
    """What is shown or hidden: resources by 'Type/id', the total, elements such as Patient.name or meta.security."""
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        raise Unplayable(f"{key} must be a list of 'Type/id', total, and elements such as Patient.name")
    found = outcome.shown if key == "shows" else outcome.hidden
    missing = []
    for name in wanted:
        if "/" in name:
            met = name in found
        elif name == "total":
            met = outcome.has_total is (key == "shows")
        else:
            met = any(_has(resource, name) for resource in outcome.seen) is (key == "shows")
        if not met:
            missing.append(name)
    return [f"{', '.join(missing)} expected among what it {key}, found {found}"] if missing else []


def _has(resource: Resource, element: str) -> bool:
    """Whether an element, with its type in front or without, is in what was shown of a resource."""
    type_ = str(resource.get("resourceType"))
    named, dot, _ = element.partition(".")
    if dot and is_resource_type(named) and named != type_:
        return False
    path = element if dot and named == type_ else f"{type_}.{element}"
    try:
        return bool(compile_expression(path).values(resource))
    except ExpressionError as error:
        raise Unplayable(f"{type_} has no element '{element}'") from error


def _compare_upstream(wanted: object, seen: list[str]) -> list[str]:
    expected = [] if wanted == "none" else [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(expected, list):
        raise Unplayable("upstream must be none, a request, or a list of requests")
    if not any("_count=" in str(text) for text in expected):
        # How long pages are is compared where a test speaks of it.
        seen = [_without_count(text) for text in seen]
    if [_plain(text) for text in seen] != [_plain(str(text)) for text in expected]:
        return [f"upstream is {seen or 'none'}, expected {expected or 'none'}"]
    return []


def _without_count(text: str) -> str:
    path, _, query = text.partition("?")
    return path + "?" * bool(query) + "&".join(p for p in query.split("&") if not p.startswith("_count="))


def _plain(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A request with its query decoded, so that a test may write it as people do."""
    path, _, query = text.partition("?")
    return path, query_pairs(query) if query else []
