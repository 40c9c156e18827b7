"""The tests inside policy files: run when policies are checked, and again whenever they are to be put in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from authz.protocol.tokens import Caller, TokenError
from gateway.fhir import request_target
from gateway.fhir.fhirpath_patch import fhirpath_patch
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.json_patch import json_patch
from gateway.fhir.outcome import REASONS, FhirError, Reason
from gateway.policy import by_list
from gateway.policy.attachments import SeenBinary
from gateway.policy.decision import Decision, Deny, Environment, Judge, Nothing, Permit, Resource, Verdict
from gateway.policy.engine import Engine
from gateway.policy.rules import Effect, PolicySet, PolicyTest
from gateway.policy.selftests.asked import Unplayable, what_is_asked, who_asks
from gateway.policy.selftests.bundles import UnplayableBundle, play_bundle
from gateway.policy.selftests.documents import UnplayableDocument, speaks_of_documents, with_binary
from gateway.policy.selftests.expected import Outcome, differences_of
from gateway.policy.selftests.known import UnplayableKnown
from gateway.yaml_source import Problem

_CHANGES = (Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE)


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """What running the tests found. untested names rules that no test permits by, or refuses by."""

    passed: int
    failures: tuple[Problem, ...]
    untested: tuple[str, ...]


def run(policies: PolicySet) -> SelfTestReport:
    """Run every test of the set against an engine of the whole set, and of its own policy as if that were enforced."""
    engines: dict[str, Engine] = {}
    failures: list[Problem] = []
    permitted: set[str] = set()
    refused: set[str] = set()
    passed = 0
    for test in policies.tests:
        try:
            if test.policy not in engines:
                engines[test.policy] = Engine(policies.enforcing(test.policy), bases=frozenset())
            engine = engines[test.policy]
            outcome = play(engine, engine.policies, test)
            differences = differences_of(test, outcome)
        except (
            Unplayable,
            UnplayableBundle,
            UnplayableKnown,
            UnplayableDocument,
            TokenError,
            FhirError,
        ) as error:
            failures.append(test.place.problem(f"test '{test.name}': {error}"))
            continue
        if differences:
            failures.append(test.place.problem(f"test '{test.name}': {'; '.join(differences)}"))
            continue
        passed += 1
        if outcome.decision == "permit":
            permitted.update(outcome.rules)
        else:
            refused.update(outcome.rules)
        if outcome.hidden or outcome.is_cut:
            refused.update(outcome.rules)
    untested = tuple(
        rule.id
        for rule in policies.every_rule
        if (rule.id not in permitted and rule.effect is Effect.PERMIT)
        or (rule.id not in refused and rule.effect is not Effect.PERMIT)
    )
    return SelfTestReport(passed, tuple(failures), untested)


def play(engine: Engine, policies: PolicySet, test: PolicyTest) -> Outcome:
    """What this test sees. Raises Unplayable and its like, TokenError, FhirError."""
    try:
        asked = what_is_asked(test)
    except FhirError as error:
        return _closed(test, error)
    caller, environment = who_asks(policies, test, asked)
    if asked.sealed is not None:  # a test begins no export: whatever it names is somebody else's job
        return Outcome("deny", 404, Reason.NOT_FOUND, (), [], [], [])
    if asked.interaction is Interaction.BATCH:
        outcome = Outcome("permit", 200, None, (), [], [], [])
        play_bundle(
            test,
            outcome,
            lambda entry, kind, count: engine.enveloping(entry, kind, count, caller, environment),
            lambda entry: play(engine, policies, entry),
        )
        return outcome
    decision = engine.decide(asked, caller, environment)
    if asked.type == "Binary" and speaks_of_documents(test):

        def reading(type_: str) -> Judge | None:
            found = engine.decide(FhirRequest("GET", Interaction.READ, type_), caller, environment)
            if asked.interaction is Interaction.CREATE and not isinstance(found, Permit):
                # A service of documents files by what the header makes, which the caller must be allowed to create.
                found = engine.decide(FhirRequest("POST", Interaction.CREATE, type_), caller, environment)
            return found.judge if isinstance(found, Permit) else None

        test = with_binary(test, policies, asked, reading)
    outcome = Outcome("permit", 200, None, _rules(decision), [], [], [])
    match decision:
        case Deny():
            outcome.decision, outcome.reason = "deny", decision.reason
            outcome.step_up = decision.step_up
            outcome.status = 404 if decision.conceal else REASONS[decision.reason][0]
            _open(environment, outcome, lambda: isinstance(engine.decide(asked, caller, environment), Permit))
        case Nothing():
            pass
        case Permit() if asked.interaction in _CHANGES:
            _change(test, asked, decision, outcome)
        case Permit() if asked.interaction is Interaction.CREATE and not _may_store(test, decision, outcome):
            pass
        case Permit():
            opened = _opened_list(test, engine, decision, caller, environment)
            if opened is not None:  # else it finds nothing, as if there were no such List
                outcome.upstream = [f"{asked.method} /{request_target.upstream_target(decision.request)}"]
                _show(test, asked, opened, outcome, environment)
    return outcome


def _closed(test: PolicyTest, error: FhirError) -> Outcome:
    """What is closed to everybody is refused before any policy. A request that is written wrong raises FhirError.

    Unless the test expects just that: it names the reason.
    """
    expect = test.body.get("expect")
    expected = [expect.get("reason"), expect.get("code")] if isinstance(expect, Mapping) else []
    if error.status != 403 and str(error.reason) not in expected:
        raise error
    return Outcome("deny", error.status, error.reason, (), [], [], [])


def _may_store(test: PolicyTest, permit: Permit, outcome: Outcome) -> bool:
    """Whether the body of a create may be stored; a test without one asks about content that nobody can read."""
    body = test.body.get("body")
    if body is None:
        verdict = Verdict(permit.unconditional, permit.rules, Reason.POLICY_DENIED)
    elif isinstance(body, Mapping) and permit.judge is not None:
        verdict = permit.judge(typed(body))
    else:
        raise Unplayable("'body' must be a resource")
    outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
    if not verdict.shown:
        outcome.decision, outcome.reason, outcome.status = "deny", verdict.reason, 403
    return verdict.shown


def _change(test: PolicyTest, asked: FhirRequest, permit: Permit, outcome: Outcome) -> None:
    """Hand the stored version of `given` and the one of `body` to the judge, as a write would come.

    Without a stored version the resource is not there. body is a resource; a list of operations (JSON Patch) or
    Parameters (FHIRPath Patch) for a patch.
    """
    given, body = test.body.get("given") or {}, test.body.get("body")
    before = given.get(f"{asked.type}/{asked.id}") if isinstance(given, Mapping) else None
    if permit.judge is None or permit.judge_change is None:
        raise Unplayable("the request cannot be judged")
    if not isinstance(before, Mapping):
        outcome.decision, outcome.reason, outcome.status = "deny", Reason.NOT_FOUND, 404
        return
    verdict = permit.judge(typed(before))
    status = 404 if permit.conceal else 403
    if verdict.shown:
        status = 403
        verdict = permit.judge_change(typed(before), _after(asked, before, body))
    outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
    if not verdict.shown:
        outcome.decision, outcome.reason, outcome.status = "deny", verdict.reason, status
        if asked.interaction is Interaction.PATCH:  # it cannot be judged before the stored version is read
            outcome.upstream = [f"GET /{asked.type}/{asked.id}"]
        return
    method = "DELETE" if asked.interaction is Interaction.DELETE else "PUT"
    outcome.upstream = [f"{method} /{asked.type}/{asked.id}"]


def _after(asked: FhirRequest, before: Mapping[str, object], body: object) -> Resource | None:
    if asked.interaction is Interaction.DELETE:
        return None
    if asked.interaction is Interaction.PATCH and isinstance(body, list):
        return json_patch(before, body)
    if not isinstance(body, Mapping):
        raise Unplayable("'body' must be a resource, or a patch")
    return fhirpath_patch(before, body) if asked.interaction is Interaction.PATCH else typed(body)


def _open(environment: Environment, outcome: Outcome, allows: Callable[[], bool]) -> None:
    """Where nothing refuses but what could not be had, the answer says so, and nothing about the resource."""
    reason = environment.known.refused_for(allows)
    if reason is not None:
        outcome.decision, outcome.reason, outcome.status = "deny", reason, REASONS[reason][0]


def _opened_list(
    test: PolicyTest, engine: Engine, permit: Permit, caller: Caller, environment: Environment
) -> Permit | None:
    """The permit of a search once the List that it is about, if any, was read; None where a read shows none."""
    if permit.by_list is None:
        return permit
    given = test.body.get("given")
    found = given.get(f"List/{permit.by_list.id}") if isinstance(given, Mapping) else None
    reading = engine.decide(
        FhirRequest("GET", Interaction.READ, "List", id=permit.by_list.id), caller, environment
    )
    if not isinstance(found, Mapping) or not isinstance(reading, Permit) or reading.judge is None:
        return None
    verdict = reading.judge(typed(found))
    seen = found if verdict.seen is None else verdict.seen
    return by_list.read(permit, by_list.members_of(typed(seen), engine.bases)) if verdict.shown else None


def _show(
    test: PolicyTest, asked: FhirRequest, permit: Permit, outcome: Outcome, environment: Environment
) -> None:
    """Hand the given resources to the judge, as the store would have answered."""
    outcome.has_total = permit.exact
    given = test.body.get("given") or {}
    if permit.by_search is not None:  # what is given is what the search finds
        permit = replace(permit, judge=permit.by_search.judge)
    if not isinstance(given, Mapping) or permit.judge is None:
        raise Unplayable("'given' must be a mapping of 'Type/id' to a resource, or 'search' to a list")
    given = {key: value for key, value in given.items() if key != "consent"}
    is_list = asked.interaction in (Interaction.SEARCH, Interaction.OPERATION)
    instance: object = given.get(f"{asked.type}/{asked.id}")
    if asked.interaction is Interaction.OPERATION and isinstance(instance, Mapping):
        verdict = permit.judge(typed(instance))
        outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
        if not verdict.shown:
            outcome.decision, outcome.reason, outcome.upstream = "deny", verdict.reason, []
            outcome.status = 404 if permit.conceal else 403
            _open(environment, outcome, partial(_is_shown, permit.judge, typed(instance)))
            return
    if is_list:
        found = given.get("search", [])
        if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
            raise Unplayable("'search' of given must be a list of resources")
        resources = found
        environment.known.found_by = frozenset(permit.added)
    else:
        one: object = given.get(f"{asked.type}/{asked.id}")
        if not isinstance(one, Mapping):
            if given:
                raise Unplayable(f"given holds no '{asked.type}/{asked.id}', which the request asks for")
            return
        resources = [one]
    for resource in resources:
        judge = permit.judge if is_list is False else _judge(permit, asked, str(resource.get("resourceType")))
        verdict = judge(typed(resource)) if judge is not None else Verdict(False, (), Reason.NO_PERMIT)
        name = f"{resource.get('resourceType')}/{resource.get('id')}"
        (outcome.shown if verdict.shown else outcome.hidden).append(name)
        if verdict.shown:
            outcome.seen.append(typed(resource) if verdict.seen is None else verdict.seen)
            outcome.is_cut |= verdict.seen is not None
        outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
        if not is_list and not verdict.shown:
            outcome.decision, outcome.reason = "deny", verdict.reason
            outcome.status = 404 if permit.conceal else 403
        if not verdict.shown and judge is not None:
            _open(environment, outcome, partial(_is_shown, judge, typed(resource)))


def _is_shown(judge: Judge, resource: Resource) -> bool:
    return judge(resource).shown


def _judge(permit: Permit, asked: FhirRequest, type_: str) -> Judge | None:
    """The judge of an entry: of a match, of what a search includes, of what an operation returns."""
    if asked.interaction is Interaction.OPERATION:
        return permit.judges.get(type_)
    if type_ == asked.type or permit.included is None:
        return permit.judge
    return permit.included.judges.get(type_)


def typed(resource: Mapping[str, object]) -> Resource:
    """The resource that a test gives."""
    return resource if isinstance(resource, SeenBinary) else dict(resource)


def _rules(decision: Decision) -> tuple[str, ...]:
    return decision.rules
