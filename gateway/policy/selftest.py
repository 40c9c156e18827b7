"""The tests inside policy files: run when policies are checked, and again whenever they are to be put in force."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from authz.protocol.openid import SIGN_INS
from authz.protocol.tokens import Caller, TokenError, caller_of
from gateway.fhir import request
from gateway.fhir.definitions import is_resource_type
from gateway.fhir.fhirpath import ExpressionError, compile_expression
from gateway.fhir.fhirpath_patch import fhirpath_patch
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.json_patch import json_patch
from gateway.fhir.outcome import REASONS, FhirError, Reason
from gateway.fhir.search import query_pairs
from gateway.policy.attachments import SeenBinary
from gateway.policy.conditions import in_networks
from gateway.policy.decision import (
    Decision,
    Deny,
    Environment,
    Judge,
    Nothing,
    Permit,
    Resource,
    StepUp,
    Verdict,
)
from gateway.policy.engine import Engine
from gateway.policy.rules import Effect, PolicySet, PolicyTest
from gateway.policy.scope_layer import LETTERS
from gateway.policy.selftest_bundles import UnplayableBundle, play_bundle
from gateway.policy.selftest_documents import UnplayableDocument, speaks_of_documents, with_binary
from gateway.policy.selftest_effects import emergency_of
from gateway.policy.selftest_known import UnplayableKnown, known_of
from gateway.policy.selftest_time import time_of
from gateway.policy.sign_in_reading import seconds_of
from gateway.yaml_source import Problem, did_you_mean

_ISSUER = "https://issuer.test"
_AS_WORDS = {
    "role": "roles",
    "user": "user",
    "org": "org",
    "purpose": "purpose",
    "acr": "acr",
    "patient": "patient",
}
_AS_KEYS = ("context", "client", "bound", "network", "scope", "signed_in", "time", "reason")
_EXPECT_KEYS = (
    "decision", "rule", "status", "upstream", "entries", "shows", "hides", "reason", "code",
    "acr_values", "max_age",
)  # fmt: skip
_CHANGES = (Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE)
_SCOPES = "{context}/*.cruds"


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """What running the tests found. untested names rules that no test permits by, or refuses by."""

    passed: int
    failures: tuple[Problem, ...]
    untested: tuple[str, ...]


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
            differences = _compare(test, outcome)
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


class Unplayable(Exception):
    """A test that is not written right."""


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
            outcome.upstream = [f"{asked.method} /{request.upstream_target(decision.request)}"]
            _show(test, asked, decision, outcome, environment)
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


def what_is_asked(test: PolicyTest) -> FhirRequest:
    """The request of a test. Raises Unplayable, FhirError."""
    text = test.body.get("request")
    if not isinstance(text, str) or " " not in text:
        raise Unplayable("'request' must be a method and a path, such as 'GET /Observation?code=x'")
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    return request.parse(method, path, query)


def who_asks(policies: PolicySet, test: PolicyTest, asked: FhirRequest) -> tuple[Caller, Environment]:
    """The caller of a test and the circumstances, as `as` says them. Raises Unplayable, TokenError."""
    said = test.body.get("as")
    if not isinstance(said, Mapping):
        raise Unplayable("'as' must say who calls: {context: patient, patient: A, client: portal}")
    context = _word(said, "context", ("user", "patient", "system"))
    bound = _word(said, "bound", ("dpop", "mtls"))
    peer = said.get("network", "192.0.2.1")
    if in_networks(str(peer), (), unknown=True):  # it lies in no network, unless it has no address
        raise Unplayable(f"network is '{peer}', expected an address such as 10.20.1.4")
    try:
        now = time_of(said.get("time"), (r for r in policies.rules if r.id.startswith(f"{test.policy}/")))
    except ValueError as error:
        raise Unplayable(str(error)) from error
    claims: dict[str, object] = {}
    for key, value in said.items():
        if key in _AS_KEYS:
            continue
        claim = policies.claims.get(_AS_WORDS.get(str(key), str(key)))
        if claim is None:
            raise Unplayable(
                f"no claim named '{key}'.{did_you_mean(str(key), [*_AS_WORDS, *policies.claims])}"
            )
        _place(claims, claim.path, value if claim.type != "codes" or isinstance(value, list) else [value])
    if context != "system":
        _sign_in(claims, said, policies, now)
    others = (Interaction.OPERATION, Interaction.BATCH)
    is_clinical = asked.interaction in LETTERS or asked.interaction in others
    default = _SCOPES.format(context=context) if is_clinical else ""
    scope = said.get("scope", default)
    member = "x5t#S256" if bound == "mtls" else "jkt"
    claims.update(
        {
            "iss": _ISSUER,
            "sub": "test",
            "aud": "https://gateway.test",
            "client_id": said.get("client", "test-client"),
            "iat": now,
            "exp": now + 300,
            "jti": "test",
            "scope": scope,
            "cnf": {member: "x" * 43},
        }
    )
    try:
        emergency = emergency_of(test.body, said)
    except ValueError as error:
        raise Unplayable(str(error)) from error
    known = known_of(test, policies)
    environment = Environment(now, str(peer), known=known, emergency=emergency)
    return caller_of(claims, issuer=_ISSUER), environment


def _sign_in(claims: dict[str, object], said: Mapping[object, object], policies: PolicySet, now: int) -> None:
    """When and how the person of a test signed in: just now and as people do here, unless it says otherwise."""
    ago = str(said.get("signed_in", "just now"))
    seconds = 0 if ago == "just now" else seconds_of(ago)
    if ago == "never":
        return
    if seconds is None:
        raise Unplayable("'signed_in' must say how long ago, such as 5m, or never")
    claims["auth_time"] = now - seconds
    if "acr" not in said and policies.claims["acr"].type == "string":
        _place(claims, policies.claims["acr"].path, next(iter(SIGN_INS)))


def _word(said: Mapping[str, object], key: str, words: tuple[str, ...]) -> str:
    """The word of a key of 'as', the first of words without one."""
    found = str(said.get(key, words[0]))
    if found not in words:
        raise Unplayable(f"{key} is '{found}', expected {' or '.join(words)}.{did_you_mean(found, words)}")
    return found


def _place(claims: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for step in path[:-1]:
        inner = claims.setdefault(step, {})
        if not isinstance(inner, dict):
            raise Unplayable(f"the claim at '{'.'.join(path)}' stands in another's way")
        claims = inner
    claims[path[-1]] = value


def _compare(test: PolicyTest, outcome: Outcome) -> list[str]:
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
        seen = [
            _without_count(text) for text in seen
        ]  # how long pages are is compared where a test speaks of it
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
