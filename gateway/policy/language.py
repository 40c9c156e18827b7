"""The policy language: files → a PolicySet with every name resolved, or every mistake at its line and column.

What a later version of the language knows and this one does not is refused by name: a condition that is silently
skipped is an opening.
"""

import ipaddress
import re
from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.definitions import RESOURCE_TYPES, patient_compartment, search_parameter, search_parameters
from gateway.fhir.interaction import Interaction
from gateway.fhir.matching import CriteriaError, compile_criteria
from gateway.fhir.request import is_id
from gateway.policy.reading import Reader
from gateway.policy.rules import (
    Claim,
    CompartmentCondition,
    Dimension,
    Effect,
    Network,
    PolicySet,
    PolicyTest,
    Rule,
    Status,
    Value,
    Where,
)
from gateway.yaml_source import Entry, Mapping, Node, Place, Problem, Sequence, YamlError, did_you_mean, parse

__all__ = ["PolicyErrors", "PolicySet", "load"]

_POLICY_KEYS = ("policy", "version", "owner", "status", "text", "rules", "tests")
_RULE_KEYS = (
    "rule",
    "effect",
    "who",
    "when",
    "may",
    "resources",
    "where",
    "shared",
    "conceal",
    "then",
    "because",
)
_RULE_LATER = (
    "query", "write", "return", "fields", "changes", "unless", "break_glass", "operation", "conditional",
    "transaction", "name",
)  # fmt: skip
_THEN_LATER = ("rate", "notify", "answer", "headers", "answer_headers", "header_to_client")
_WHERE_KEYS = ("compartment", "match", "ids")
_WHERE_LATER = ("fhirpath", "labels", "consent", "binary", "cda", "any_of")
_WHO = {"context": "", "client": "", "bound": "", "issuer": "", "scope": ""}
_WHO_CLAIMS = {"org": "org", "role": "roles", "user": "user", "purpose": "purpose", "acr": "acr"}
_CONTEXTS = ("patient", "user", "system")
_MEMBERSHIPS = ("subject", "spec", "all")
_CLAIM_TYPES = ("id", "reference", "string", "codes")
_PLACEHOLDER = re.compile(r"\{token\.([A-Za-z_][A-Za-z0-9_]*)\}")
_STANDING_CLAIMS = {
    "acr": Claim("acr", ("acr",), "string"),
    "patient": Claim("patient", ("patient",), "id"),
    "user": Claim("user", ("fhirUser",), "reference"),
}
_ANY_INTERACTION = frozenset(Interaction) - {Interaction.CAPABILITIES}


class PolicyErrors(Exception):
    """The files cannot be put in force. problems names every mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class _Definitions:
    """What the definitions files define. places says where each claim and set was first defined."""

    places: dict[str, Place] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=lambda: dict(_STANDING_CLAIMS))
    types: dict[str, frozenset[str]] = field(default_factory=dict)
    clients: dict[str, frozenset[str]] = field(default_factory=dict)
    networks: dict[str, tuple[Network, ...]] = field(default_factory=dict)


def load(files: Table[str, str]) -> PolicySet:
    """The policy set of these files (name → text). All or nothing: raises PolicyErrors with every problem."""
    reader = Reader()
    documents: list[Mapping] = []
    for name in sorted(files):
        try:
            root = reader.mapping(parse(files[name], name), "a policy file")
        except YamlError as error:
            reader.problems.extend(error.problems)
            continue
        if root is not None:
            documents.append(root)
    definitions = _Definitions()
    for document in documents:
        if "definitions" in document:
            _read_definitions(reader, document, definitions)
    rules: list[Rule] = []
    tests: list[PolicyTest] = []
    seen: dict[str, int] = {}
    for document in documents:
        if "definitions" not in document:
            _read_policy(reader, document, definitions, rules, tests, seen)
    if errors := [problem for problem in reader.problems if not problem.warning]:
        raise PolicyErrors(errors)
    digest = sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()[:32]
    return PolicySet(
        hash=digest,
        claims=definitions.claims,
        rules=tuple(rules),
        tests=tuple(tests),
        warnings=tuple(reader.problems),
        networks=definitions.networks,
    )


# Definitions


def _read_definitions(reader: Reader, document: Mapping, found: _Definitions) -> None:
    reader.keys(
        document, "a definitions file", ("definitions", "version", "fhir", "claims", "sets"), ("facts",)
    )
    fhir = document.node("fhir")
    if fhir is not None:
        reader.word(fhir, "FHIR version", ("R4",))
    claims = reader.mapping(document.node("claims"), "claims")
    for entry in claims or ():
        _check_new(reader, "claim", entry, found)
        if entry.key in _WHO:
            reader.problem(entry, f"'{entry.key}' is not a claim: policies know it by that name already")
        body = reader.mapping(entry.value, f"claim '{entry.key}'")
        if body is None:
            continue
        reader.keys(body, f"claim '{entry.key}'", ("path", "type", "of"))
        path = reader.text(body.node("path"), "path")
        kind = reader.word(body.node("type"), "claim type", _CLAIM_TYPES)
        of = tuple(reader.text(node, "of") for node in reader.items(body.node("of"), "of"))
        if not path or not kind:
            reader.problem(entry, f"claim '{entry.key}' must have path and type")
            continue
        found.claims[entry.key] = Claim(entry.key, tuple(path.split(".")), kind, of)
    sets = reader.mapping(document.node("sets"), "sets")
    for entry in sets or ():
        _check_new(reader, "set", entry, found)
        _read_set(reader, entry.key, entry.value, found)


def _check_new(reader: Reader, what: str, entry: Entry, found: _Definitions) -> None:
    """Note a second definition: which of the two holds would hang on the order of files."""
    first = found.places.setdefault(f"{what} {entry.key}", entry.place)
    if first is not entry.place:
        reader.problem(
            entry, f"{what} '{entry.key}' is defined twice (first in {first.file}, line {first.line})"
        )


def _read_set(reader: Reader, name: str, node: Node, found: _Definitions) -> None:
    body = reader.mapping(node, f"set '{name}'")
    if body is None:
        return
    reader.keys(body, f"set '{name}'", ("types", "clients", "networks"), ("hours", "days", "zone", "labels"))
    types = body.node("types")
    if types is not None:
        found.types[name] = frozenset(_type(reader, item) for item in reader.items(types, "types")) - {""}
    clients = body.node("clients")
    if clients is not None:
        found.clients[name] = frozenset(
            reader.text(item, "client") for item in reader.items(clients, "clients")
        )
    networks = body.node("networks")
    if networks is not None:
        found.networks[name] = _networks(reader, networks)


def _type(reader: Reader, node: Node) -> str:
    name = reader.text(node, "resource type")
    if name and name not in RESOURCE_TYPES:
        reader.problem(node, f"unknown resource type '{name}'.{did_you_mean(name, RESOURCE_TYPES)}")
        return ""
    return name


def _networks(reader: Reader, node: Node) -> tuple[Network, ...]:
    found: list[Network] = []
    for item in reader.items(node, "networks"):
        text = reader.text(item, "network")
        if not text:
            continue
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            reader.problem(item, f"'{text}' is not a network: write it as 10.20.0.0/16 or 2001:db8::/48")
            continue
        if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            reader.problem(item, f"'{text}' is IPv4 inside IPv6: write the IPv4 network")
            continue
        found.append(network)
    return tuple(found)


# Policies


def _read_policy(
    reader: Reader,
    document: Mapping,
    definitions: _Definitions,
    rules: list[Rule],
    tests: list[PolicyTest],
    seen: dict[str, int],
) -> None:
    reader.keys(document, "a policy", _POLICY_KEYS, ("valid",))
    policy = reader.text(document.node("policy"), "policy")
    if not policy:
        reader.problem(document, "a file must begin with 'policy: name' or 'definitions: name'")
    for key in ("version", "owner", "status", "text"):
        if key not in document:
            reader.problem(document, f"policy '{policy}' has no '{key}'")
    status = reader.word(document.node("status"), "status", [s.value for s in Status])
    if status == Status.SHADOW:
        node = document.node("status")
        if node is not None:
            reader.problem(node, "status 'shadow' is not supported by this version")
    own: list[Rule] = []
    for node in reader.items(document.node("rules"), "rules"):
        body = reader.mapping(node, "a rule")
        if body is not None:
            rule = _read_rule(reader, body, policy, definitions, seen)
            if rule is not None:
                own.append(rule)
    if not own:
        reader.problem(document, f"policy '{policy}' has no rules")
    own_tests = []
    for node in reader.items(document.node("tests"), "tests"):
        body = reader.mapping(node, "a test")
        if body is not None:
            reader.keys(
                body, "a test", ("test", "as", "request", "body", "given", "expect"), ("headers", "facts")
            )
            name = reader.text(body.node("test"), "test")
            own_tests.append(PolicyTest(name, policy, body.plain(), body.place))
    if not own_tests:
        reader.problem(document, f"policy '{policy}' has no tests", warning=True)
    if status != Status.OFF:
        rules.extend(own)
        tests.extend(own_tests)


def _read_rule(
    reader: Reader, body: Mapping, policy: str, definitions: _Definitions, seen: dict[str, int]
) -> Rule | None:
    reader.keys(body, "a rule", _RULE_KEYS, _RULE_LATER)
    name_node = body.node("rule")
    name = reader.text(name_node, "rule")
    if name_node is None:
        reader.problem(body, "a rule must have a name: 'rule: …'")
    elif name in seen:
        reader.problem(name_node, f"rule name '{name}' is used twice (first in line {seen[name]})")
    else:
        seen[name] = name_node.place.line
    effect_text = reader.word(body.node("effect"), "effect", [e.value for e in Effect])
    if "effect" not in body:
        reader.problem(body, f"rule '{name}' has no 'effect': permit, deny or require")
    if "because" not in body:
        reader.problem(body, f"rule '{name}' does not say because of what ('because: …')", warning=True)
    effect = Effect(effect_text) if effect_text else Effect.DENY
    resources = _resources(reader, body, definitions, effect)
    shared = reader.flag(body.node("shared"), "shared")
    may = _may(reader, body, effect)
    where = _where(reader, body, resources, may, definitions)
    if effect is Effect.PERMIT:
        _check_permit(reader, body, where, shared, resources)
    then = reader.mapping(body.node("then"), "then")
    audit = "standard"
    if then is not None:
        reader.keys(
            then,
            "then",
            ("audit",),
            ("rate", "notify", "answer", "headers", "answer_headers", "header_to_client"),
        )
        audit = reader.word(then.node("audit"), "audit level", ("basic", "standard", "full")) or audit
    return Rule(
        id=f"{policy}/{name}",
        effect=effect,
        who=_who(reader, body, definitions),
        networks=_when(reader, body, definitions),
        may=may,
        resources=resources,
        where=where,
        shared=shared,
        conceal=reader.flag(body.node("conceal"), "conceal"),
        audit=audit,
        because=reader.text(body.node("because"), "because"),
        place=body.place,
    )


def _named(reader: Reader, node: Node, what: str) -> list[Node]:
    """The items of a list that must name something: a rule about nothing is a mistake, and a denial disarmed."""
    items = reader.items(node, what)
    if not items and isinstance(node, Sequence):
        reader.problem(node, f"'{what}' names nothing: the rule could never match")
    return items


def _may(reader: Reader, body: Mapping, effect: Effect) -> frozenset[Interaction]:
    node = body.node("may")
    if node is None:
        if effect is not Effect.REQUIRE:
            reader.problem(body, "a rule must say what it is about: 'may: [read, search]'")
        return _ANY_INTERACTION
    words = [i.value for i in Interaction if i is not Interaction.CAPABILITIES]
    found: set[Interaction] = set()
    for item in _named(reader, node, "may"):
        text = reader.text(item, "interaction")
        if text == "any":
            found |= _ANY_INTERACTION
        elif text.startswith("operation:"):
            reader.problem(item, "operations are not supported by this version")
        elif text in words:
            found.add(Interaction(text))
        elif text:
            reader.problem(item, f"unknown interaction '{text}'.{did_you_mean(text, words)}")
    return frozenset(found)


def _resources(
    reader: Reader, body: Mapping, definitions: _Definitions, effect: Effect
) -> frozenset[str] | None:
    node = body.node("resources")
    if node is None:
        if effect is not Effect.REQUIRE:
            reader.problem(body, "a rule must say which resources it is about: 'resources: [Patient]'")
        return None
    found: set[str] = set()
    for item in _named(reader, node, "resources"):
        text = reader.text(item, "resource type")
        if text == "any":
            return None
        if text.startswith("cda:"):
            reader.problem(item, f"'{text}' is not supported by this version")
        elif text.startswith("$"):
            types = definitions.types.get(text[1:])
            if types is None:
                reader.problem(
                    item, f"no set of types named '{text}'.{did_you_mean(text[1:], definitions.types)}"
                )
            else:
                found |= types
        elif text:
            found.add(_type(reader, item))
    return frozenset(found - {""})


def _check_permit(
    reader: Reader, body: Mapping, where: Where, shared: bool, resources: frozenset[str] | None
) -> None:
    entry = body.entry("where") or body.entry("rule")
    place: Node | Mapping = body if entry is None else entry.value
    if where.is_empty and not shared:
        reader.problem(
            place,
            "a permit must say whose data it opens: give 'where:', or 'shared: true' for data of no one patient",
        )
    if resources is None and where.compartment is not None:
        reader.problem(place, "'resources: any' goes beyond the Patient compartment: name the types")


def _who(reader: Reader, body: Mapping, definitions: _Definitions) -> tuple[Dimension, ...]:
    who = reader.mapping(body.node("who"), "who")
    if who is None:
        return ()
    known = [*_WHO, *_WHO_CLAIMS, *definitions.claims]
    found = []
    spoken: dict[str, Entry] = {}
    for entry in who:
        if entry.key not in known:
            reader.problem(entry, f"who has no key '{entry.key}'.{did_you_mean(entry.key, known)}")
            continue
        name = _WHO_CLAIMS.get(entry.key, entry.key)
        if name not in _WHO and name not in definitions.claims:
            reader.problem(
                entry, f"no claim named '{name}' is defined: add it under claims in the definitions file"
            )
            continue
        if name in spoken:
            reader.problem(entry, f"'{entry.key}' is the same as '{spoken[name].key}': give one of them")
            continue
        spoken[name] = entry
        node, negated = entry.value, False
        if isinstance(node, Mapping):
            reader.keys(node, entry.key, ("not",))
            node, negated = node.node("not") or node, True
        values: set[str] = set()
        for item in _named(reader, node, entry.key):
            text = reader.text(item, entry.key)
            if text.startswith("$"):
                values |= _client_set(reader, item, text, definitions)
            elif entry.key == "context" and text not in _CONTEXTS:
                reader.problem(item, f"unknown context '{text}'.{did_you_mean(text, _CONTEXTS)}")
            elif entry.key == "bound" and text not in ("dpop", "mtls"):
                reader.problem(item, f"unknown binding '{text}'.{did_you_mean(text, ('dpop', 'mtls'))}")
            elif entry.key == "acr" and text.startswith("at-least-"):
                reader.problem(item, "'at-least-' is not supported by this version: list the values")
            elif text:
                values.add(text)
        found.append(Dimension(name, frozenset(values), negated))
    return tuple(found)


def _client_set(reader: Reader, node: Node, text: str, definitions: _Definitions) -> frozenset[str]:
    clients = definitions.clients.get(text[1:])
    if clients is None:
        reader.problem(
            node, f"no set of clients named '{text}'.{did_you_mean(text[1:], definitions.clients)}"
        )
        return frozenset()
    return clients


def _when(reader: Reader, body: Mapping, definitions: _Definitions) -> tuple[Network, ...] | None:
    when = reader.mapping(body.node("when"), "when")
    if when is None:
        return None
    reader.keys(when, "when", ("network",), ("hours", "zone", "signed_in_within", "days"))
    node = when.node("network")
    if node is None:
        return None
    found: list[Network] = []
    for item in _named(reader, node, "network"):
        text = reader.text(item, "network")
        if text.startswith("$"):
            networks = definitions.networks.get(text[1:])
            if networks is None:
                suggestion = did_you_mean(text[1:], definitions.networks)
                reader.problem(item, f"no set of networks named '{text}'.{suggestion}")
            found.extend(networks or ())
        else:
            found.extend(_networks(reader, item))
    return tuple(found)


# Where


def _where(
    reader: Reader,
    body: Mapping,
    resources: frozenset[str] | None,
    may: frozenset[Interaction],
    definitions: _Definitions,
) -> Where:
    where = reader.mapping(body.node("where"), "where")
    if where is None:
        return Where()
    reader.keys(where, "where", _WHERE_KEYS, _WHERE_LATER)
    compartment = None
    node = where.node("compartment")
    if node is not None:
        compartment = _compartment(reader, node, definitions)
        _check_membership(reader, node, compartment.membership, resources, may)
        outside = sorted(t for t in resources or () if t != "Patient" and not patient_compartment(t))
        if outside:
            said = "give 'match:' or, in a rule of its own, 'shared: true'"
            reader.problem(node, f"{outside[0]} is not in the Patient compartment: {said}")
    ids = None
    ids_node = where.node("ids")
    if ids_node is not None:
        ids = frozenset(_id(reader, item) for item in _named(reader, ids_node, "ids"))
    return Where(compartment, _match(reader, where, resources, definitions), ids)


def _id(reader: Reader, node: Node) -> str:
    text = reader.text(node, "id")
    if text and not is_id(text):
        reader.problem(node, f"'{text}' is not an id: write 'a1', without the type")
    return text


def _check_membership(
    reader: Reader, node: Node, membership: str, resources: frozenset[str] | None, may: frozenset[Interaction]
) -> None:
    """Note what a membership cannot say of these types, and where a search says less than it."""
    if membership == "subject":
        without = sorted(
            t for t in resources or () if patient_compartment(t) and subject_parameter(t) is None
        )
        if without:
            reader.problem(node, f"{without[0]} has no subject: say 'membership: spec' or 'membership: all'")
    elif Interaction.SEARCH in may:
        wider = sorted(
            t for t in resources or () if len(patient_compartment(t)) > 1 and subject_parameter(t) is not None
        )
        if wider:
            said = f"a search finds only what is about the patient, of {', '.join(wider)}"
            reader.problem(node, f"membership '{membership}' is for reading: {said}", warning=True)


def _compartment(reader: Reader, node: Node, definitions: _Definitions) -> CompartmentCondition:
    body = reader.mapping(node, "compartment")
    if body is None:
        return CompartmentCondition(Value(), "all")
    reader.keys(body, "compartment", ("patient", "membership"), ("link",))
    membership = "subject"
    if "membership" in body:
        membership = reader.word(body.node("membership"), "membership", _MEMBERSHIPS) or "all"
    patient = body.node("patient")
    if patient is None:
        reader.problem(body, "compartment must say whose: 'patient: \"{token.patient}\"'")
        return CompartmentCondition(Value(), membership)
    if isinstance(patient, Mapping):
        reader.keys(patient, "patient", ("in",))
        within = patient.node("in")
        if within is None:
            reader.problem(patient, "patient must say whose: '{in: [...]}'")
            return CompartmentCondition(Value(), membership)
        items = _named(reader, within, "in")
    else:
        items = _named(reader, patient, "patient")
    words: list[str] = []
    for item in items:
        text = reader.text(item, "patient")
        match = _PLACEHOLDER.fullmatch(text)
        if match is not None:
            claim = definitions.claims.get(match[1])
            if claim is None:
                reader.problem(
                    item, f"no claim named '{match[1]}'.{did_you_mean(match[1], definitions.claims)}"
                )
            elif claim.type not in ("id", "codes", "reference"):
                reader.problem(item, f"claim '{match[1]}' is {claim.type}: an id or a reference is expected")
            elif len(items) > 1:
                reader.problem(item, "a claim stands alone: it is not mixed with other values")
            return CompartmentCondition(Value(claim=match[1]), membership)
        if text.startswith("$facts."):
            reader.problem(item, "facts are not supported by this version")
        elif text and not is_id(text.removeprefix("Patient/")):
            reader.problem(item, f"'{text}' is neither an id nor a claim such as '{{token.patient}}'")
        elif text:
            words.append(text.removeprefix("Patient/"))
    return CompartmentCondition(Value(words=tuple(words)), membership)


def _match(
    reader: Reader, where: Mapping, resources: frozenset[str] | None, definitions: _Definitions
) -> dict[str, str]:
    body = reader.mapping(where.node("match"), "match")
    found: dict[str, str] = {}
    if body is None:
        return found
    for entry in body:
        if entry.key not in RESOURCE_TYPES:
            reader.problem(
                entry, f"unknown resource type '{entry.key}'.{did_you_mean(entry.key, RESOURCE_TYPES)}"
            )
            continue
        text = reader.text(entry.value, "criteria")
        found[entry.key] = _criteria(reader, entry.key, entry.value, text, definitions)
    if resources is not None and found:
        for type_ in sorted(resources - found.keys()):
            reader.problem(
                body,
                f"match says nothing about {type_}: a permit opens nothing of it, any other rule closes all of it",
                warning=True,
            )
    return found


def _criteria(reader: Reader, type_: str, node: Node, text: str, definitions: _Definitions) -> str:
    if text in ("any", ""):
        return ""
    query = text.removeprefix(f"{type_}?")
    for part in query.split("&"):
        code = re.split(r"[:.=]", part, maxsplit=1)[0]
        if search_parameter(type_, code) is None:
            said = f"{type_} has no search parameter '{code}'.{did_you_mean(code, search_parameters(type_))}"
            reader.problem(node, said)
            return query
    for claim in _PLACEHOLDER.findall(query):
        if claim not in definitions.claims:
            reader.problem(node, f"no claim named '{claim}'.{did_you_mean(claim, definitions.claims)}")
            return query
    try:
        compile_criteria(type_, _PLACEHOLDER.sub("x", query))
    except CriteriaError as error:
        reader.problem(node, f"criteria cannot be evaluated: {error}")
    return query
