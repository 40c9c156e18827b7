"""The tests inside policy files: run when policies are checked, and again whenever they are to be put in force."""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.protocol.openid import SIGN_INS
from authz.protocol.tokens import Caller, TokenError, caller_of
from gateway.fhir import request
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import REASONS, FhirError, Reason
from gateway.fhir.search import query_pairs
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
from gateway.policy.sign_in_reading import seconds_of
from gateway.yaml_source import Problem, did_you_mean

_ISSUER = "https://issuer.test"
_NOW = 1_800_000_000
_AS_WORDS = {
    "role": "roles",
    "user": "user",
    "org": "org",
    "purpose": "purpose",
    "acr": "acr",
    "patient": "patient",
}
_AS_KEYS = ("context", "client", "bound", "network", "scope", "signed_in")
_EXPECT_KEYS = (
    "decision", "rule", "status", "upstream", "entries", "shows", "hides", "reason",
    "acr_values", "max_age",
)  # fmt: skip
_SCOPES = "{context}/*.cruds"


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """What running the tests found. untested names rules that no test permits by, or refuses by."""

    passed: int
    failures: tuple[Problem, ...]
    untested: tuple[str, ...]


@dataclass(slots=True)
class _Outcome:
    """What a test saw."""

    decision: str
    status: int
    reason: Reason | None
    rules: tuple[str, ...]
    upstream: list[str]
    shown: list[str]
    hidden: list[str]
    step_up: StepUp | None = None


def run(policies: PolicySet) -> SelfTestReport:
    """Run every test of the set against an engine of the whole set."""
    engine = Engine(policies, bases=frozenset())
    failures: list[Problem] = []
    permitted: set[str] = set()
    refused: set[str] = set()
    passed = 0
    for test in policies.tests:
        try:
            outcome = _play(engine, policies, test)
            differences = _compare(test, outcome)
        except (_Unplayable, TokenError, FhirError) as error:
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
        if outcome.hidden:
            refused.update(outcome.rules)
    untested = tuple(
        rule.id
        for rule in policies.rules
        if (rule.id not in permitted and rule.effect is Effect.PERMIT)
        or (rule.id not in refused and rule.effect is not Effect.PERMIT)
    )
    return SelfTestReport(passed, tuple(failures), untested)


class _Unplayable(Exception):
    """A test that is not written right."""


def _play(engine: Engine, policies: PolicySet, test: PolicyTest) -> _Outcome:
    try:
        asked = _asked(test)
    except FhirError as error:
        return _closed(test, error)
    caller, environment = _who(policies, test, asked)
    decision = engine.decide(asked, caller, environment)
    outcome = _Outcome("permit", 200, None, _rules(decision), [], [], [])
    match decision:
        case Deny():
            outcome.decision, outcome.reason = "deny", decision.reason
            outcome.step_up = decision.step_up
            outcome.status = 404 if decision.conceal else REASONS[decision.reason][0]
        case Nothing():
            pass
        case Permit() if asked.interaction is Interaction.CREATE and not _may_store(test, decision, outcome):
            pass
        case Permit():
            outcome.upstream = [f"{asked.method} /{request.upstream_target(decision.request)}"]
            _show(test, asked, decision, outcome)
    return outcome


def _closed(test: PolicyTest, error: FhirError) -> _Outcome:
    """What is closed to everybody is refused before any policy. A request that is written wrong raises FhirError.

    Unless the test expects just that: it names the reason.
    """
    expect = test.body.get("expect")
    expected = expect.get("reason") if isinstance(expect, Mapping) else None
    if error.status != 403 and expected != str(error.reason):
        raise error
    return _Outcome("deny", error.status, error.reason, (), [], [], [])


def _may_store(test: PolicyTest, permit: Permit, outcome: _Outcome) -> bool:
    """Whether the body of a create may be stored; a test without one asks about content that nobody can read."""
    body = test.body.get("body")
    if body is None:
        verdict = Verdict(permit.unconditional, permit.rules, Reason.POLICY_DENIED)
    elif isinstance(body, Mapping) and permit.judge is not None:
        verdict = permit.judge(_typed(body))
    else:
        raise _Unplayable("'body' must be a resource")
    outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
    if not verdict.shown:
        outcome.decision, outcome.reason, outcome.status = "deny", verdict.reason, 403
    return verdict.shown


def _show(test: PolicyTest, asked: FhirRequest, permit: Permit, outcome: _Outcome) -> None:
    """Hand the given resources to the judge, as the store would have answered."""
    given = test.body.get("given") or {}
    if not isinstance(given, Mapping) or permit.judge is None:
        raise _Unplayable("'given' must be a mapping of 'Type/id' to a resource, or 'search' to a list")
    if asked.interaction is Interaction.SEARCH:
        found = given.get("search", [])
        if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
            raise _Unplayable("'search' of given must be a list of resources")
        resources = found
    else:
        one: object = given.get(f"{asked.type}/{asked.id}")
        if not isinstance(one, Mapping):
            if given:
                raise _Unplayable(f"given holds no '{asked.type}/{asked.id}', which the request asks for")
            return
        resources = [one]
    for resource in resources:
        verdict = _judge(permit, asked, resource)(_typed(resource))
        name = f"{resource.get('resourceType')}/{resource.get('id')}"
        (outcome.shown if verdict.shown else outcome.hidden).append(name)
        outcome.rules = tuple(dict.fromkeys((*outcome.rules, *verdict.rules)))
        if asked.interaction is not Interaction.SEARCH and not verdict.shown:
            outcome.decision, outcome.reason = "deny", verdict.reason
            outcome.status = 404 if permit.conceal else 403


def _judge(permit: Permit, asked: FhirRequest, resource: Mapping[str, object]) -> Judge:
    """The judge of a match, or of what a search includes."""
    beside = {} if permit.included is None else permit.included.judges
    found = beside.get(str(resource.get("resourceType")))
    if permit.judge is None or (found is not None and resource.get("resourceType") != asked.type):
        return found or (lambda _: Verdict(False, ()))
    return permit.judge


def _typed(resource: Mapping[str, object]) -> Resource:
    return dict(resource)


def _rules(decision: Decision) -> tuple[str, ...]:
    return decision.rules


def _asked(test: PolicyTest) -> FhirRequest:
    text = test.body.get("request")
    if not isinstance(text, str) or " " not in text:
        raise _Unplayable("'request' must be a method and a path, such as 'GET /Observation?code=x'")
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    return request.parse(method, path, query)


def _who(policies: PolicySet, test: PolicyTest, asked: FhirRequest) -> tuple[Caller, Environment]:
    said = test.body.get("as")
    if not isinstance(said, Mapping):
        raise _Unplayable("'as' must say who calls: {context: patient, patient: A, client: portal}")
    context = _word(said, "context", ("user", "patient", "system"))
    bound = _word(said, "bound", ("dpop", "mtls"))
    peer = said.get("network", "192.0.2.1")
    if in_networks(str(peer), (), unknown=True):  # it lies in no network, unless it has no address
        raise _Unplayable(f"network is '{peer}', expected an address such as 10.20.1.4")
    claims: dict[str, object] = {}
    for key, value in said.items():
        if key in _AS_KEYS:
            continue
        claim = policies.claims.get(_AS_WORDS.get(str(key), str(key)))
        if claim is None:
            raise _Unplayable(
                f"no claim named '{key}'.{did_you_mean(str(key), [*_AS_WORDS, *policies.claims])}"
            )
        _place(claims, claim.path, value if claim.type != "codes" or isinstance(value, list) else [value])
    if context != "system":
        _sign_in(claims, said, policies)
    default = _SCOPES.format(context=context) if asked.interaction in LETTERS else ""
    scope = said.get("scope", default)
    member = "x5t#S256" if bound == "mtls" else "jkt"
    claims.update(
        {
            "iss": _ISSUER,
            "sub": "test",
            "aud": "https://gateway.test",
            "client_id": said.get("client", "test-client"),
            "iat": _NOW,
            "exp": _NOW + 300,
            "jti": "test",
            "scope": scope,
            "cnf": {member: "x" * 43},
        }
    )
    return caller_of(claims, issuer=_ISSUER), Environment(_NOW, str(peer))


def _sign_in(claims: dict[str, object], said: Mapping[object, object], policies: PolicySet) -> None:
    """When and how the person of a test signed in: just now and as people do here, unless it says otherwise."""
    ago = str(said.get("signed_in", "just now"))
    seconds = 0 if ago == "just now" else seconds_of(ago)
    if ago == "never":
        return
    if seconds is None:
        raise _Unplayable("'signed_in' must say how long ago, such as 5m, or never")
    claims["auth_time"] = _NOW - seconds
    if "acr" not in said and policies.claims["acr"].type == "string":
        _place(claims, policies.claims["acr"].path, next(iter(SIGN_INS)))


def _word(said: Mapping[str, object], key: str, words: tuple[str, ...]) -> str:
    """The word of a key of 'as', the first of words without one."""
    found = str(said.get(key, words[0]))
    if found not in words:
        raise _Unplayable(f"{key} is '{found}', expected {' or '.join(words)}.{did_you_mean(found, words)}")
    return found


def _place(claims: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for step in path[:-1]:
        inner = claims.setdefault(step, {})
        if not isinstance(inner, dict):
            raise _Unplayable(f"the claim at '{'.'.join(path)}' stands in another's way")
        claims = inner
    claims[path[-1]] = value


def _compare(test: PolicyTest, outcome: _Outcome) -> list[str]:
    expect = test.body.get("expect")
    if not isinstance(expect, Mapping) or not expect:
        raise _Unplayable("'expect' must say what comes of it: {decision: permit}")
    differences = []
    for key, wanted in expect.items():
        match key:
            case "decision":
                found: object = outcome.decision
            case "status":
                found = outcome.status
            case "reason":
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
                seen = outcome.shown if key == "shows" else outcome.hidden
                if not isinstance(wanted, list) or not wanted:
                    raise _Unplayable(f"{key} must be a list of 'Type/id'")
                missing = [name for name in wanted if name not in seen]
                if missing:
                    differences.append(f"{', '.join(missing)} expected among what it {key}, found {seen}")
                continue
            case _:
                raise _Unplayable(f"expect has no key '{key}'.{did_you_mean(str(key), _EXPECT_KEYS)}")
        if found != wanted:
            differences.append(f"{key} is {found}, expected {wanted}")
    return differences


def _compare_upstream(wanted: object, seen: list[str]) -> list[str]:
    expected = [] if wanted == "none" else [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(expected, list):
        raise _Unplayable("upstream must be none, a request, or a list of requests")
    if [_plain(text) for text in seen] != [_plain(str(text)) for text in expected]:
        return [f"upstream is {seen or 'none'}, expected {expected or 'none'}"]
    return []


def _plain(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A request with its query decoded, so that a test may write it as people do."""
    path, _, query = text.partition("?")
    return path, query_pairs(query) if query else []
