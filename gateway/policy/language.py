"""The policy language: files → a PolicySet with every name resolved, or every mistake at its line and column.

What a later version of the language knows and this one does not is refused by name: a condition that is silently
skipped is an opening.
"""

from collections.abc import Mapping as Table
from dataclasses import dataclass, replace
from hashlib import sha256

from gateway.policy import infrastructure, sources
from gateway.policy.hospital_consent import read_hospital_consent
from gateway.policy.presets import shipped_name, text_of
from gateway.policy.reading import checks, hidden_elements
from gateway.policy.reading.definitions import Definitions, read_definitions
from gateway.policy.reading.facts import read_facts
from gateway.policy.reading.reader import Reader
from gateway.policy.reading.rule import read_rule
from gateway.policy.reading.when import read_valid
from gateway.policy.rules import (
    PolicySet,
    PolicyTest,
    Rule,
    Status,
)
from gateway.yaml_source import Mapping, Problem, YamlError, parse

__all__ = ["PolicyErrors", "PolicySet", "load"]

MOST = 8
"""Policies that may be in shadow at a time."""
_POLICY_KEYS = ("policy", "version", "owner", "status", "valid", "text", "rules", "tests")


_DOCUMENT = ".xml"  # files that tests speak of


class PolicyErrors(Exception):
    """The files cannot be put in force. problems names every mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(files: Table[str, str]) -> PolicySet:
    """The policy set of these files (name → text). All or nothing: raises PolicyErrors with every problem."""
    reader = Reader()
    documents: list[Mapping] = []
    for name in sorted(files):
        if name.endswith(_DOCUMENT):
            continue
        try:
            root = reader.mapping(parse(files[name], name), "a policy file")
        except YamlError as error:
            reader.problems.extend(error.problems)
            continue
        if root is not None:
            documents.append(root)
    definitions = Definitions()
    for document in documents:
        if "definitions" in document:
            read_definitions(reader, document, definitions)
    if definitions.preset is not None:
        name = shipped_name(definitions.preset)
        files = {**files, name: text_of(definitions.preset)}
        shipped = reader.mapping(parse(files[name], name), "a policy file")
        documents += [] if shipped is None else [shipped]
    for document in documents:  # facts are asked by claims, which may be defined in another file
        if "definitions" in document:
            read_facts(reader, document, definitions)
    rules: list[Rule] = []
    for document in documents:
        if "definitions" in document:
            of_all = read_hospital_consent(reader, document, definitions)
            rules.extend([] if of_all is None else [of_all])
    by_status: dict[Status, list[Rule]] = {}
    tests: list[PolicyTest] = []
    seen: dict[str, int] = {}
    for document in documents:
        if "definitions" not in document:
            own = _read_policy(reader, document, definitions, seen)
            by_status.setdefault(own.status, []).extend(own.rules)
            tests.extend(own.tests)
    rules.extend(by_status.get(Status.ENFORCE, []))
    shadow = by_status.get(Status.SHADOW, [])
    if len({rule.policy for rule in shadow}) > MOST:
        last = next(rule for rule in reversed(shadow))
        said = f"at most {MOST} policies can be in shadow at a time: each is decided beside every request"
        reader.problems.append(last.place.problem(said))
    if errors := [problem for problem in reader.problems if not problem.warning]:
        raise PolicyErrors(errors)
    digest = sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()[:32]
    return PolicySet(
        hash=digest,
        claims=definitions.claims,
        rules=tuple(rules),
        tests=tuple(tests),
        warnings=(
            *reader.problems,
            *checks.warnings(rules),
            *(problem for rule in rules for problem in hidden_elements.warnings(rule)),
            *checks.of_their_own([*shadow, *by_status.get(Status.OFF, [])]),
            *sources.warnings(rules, definitions.facts, definitions.claims),
            *infrastructure.warnings(rules),
        ),
        networks=definitions.networks,
        facts=definitions.facts,
        documents={name.rpartition("/")[2]: files[name] for name in files if name.endswith(_DOCUMENT)},
        shadow=tuple(shadow),
        off=tuple(by_status.get(Status.OFF, [])),
    )


@dataclass(frozen=True, slots=True)
class _Policy:
    status: Status
    rules: list[Rule]
    tests: list[PolicyTest]


def _read_policy(
    reader: Reader, document: Mapping, definitions: Definitions, seen: dict[str, int]
) -> _Policy:
    reader.keys(document, "a policy", _POLICY_KEYS)
    policy = reader.text(document.node("policy"), "policy")
    if not policy:
        reader.problem(document, "a file must begin with 'policy: name' or 'definitions: name'")
    for key in ("version", "owner", "status", "text"):
        if key not in document:
            reader.problem(document, f"policy '{policy}' has no '{key}'")
    status = reader.word(document.node("status"), "status", [s.value for s in Status])
    valid = read_valid(reader, document)
    own: list[Rule] = []
    for node in reader.items(document.node("rules"), "rules"):
        body = reader.mapping(node, "a rule")
        if body is not None:
            own.append(replace(read_rule(reader, body, policy, definitions, seen), valid=valid))
    if not own:
        reader.problem(document, f"policy '{policy}' has no rules")
    own_tests = []
    for node in reader.items(document.node("tests"), "tests"):
        body = reader.mapping(node, "a test")
        if body is not None:
            reader.keys(
                body,
                "a test",
                ("test", "as", "request", "headers", "body", "given", "expect", "facts"),
            )
            name = reader.text(body.node("test"), "test")
            own_tests.append(PolicyTest(name, policy, body.plain(), body.place))
    if not own_tests and document.place.file != shipped_name(definitions.preset or ""):
        reader.problem(document, f"policy '{policy}' has no tests", warning=True)
    return _Policy(Status(status) if status else Status.ENFORCE, own, own_tests)
