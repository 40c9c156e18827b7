"""A naive reading of the policy language: the YAML as a dict, every rule in turn, no index, no narrowing, no cache.

It is meant to be obviously right, not fast, and shares no code with gateway.policy or gateway.fhir. It knows the
vocabulary that the generated worlds use: the types, parameters and references named below, and nothing else.

    shows(world, asker, resource)   may this resource be seen
    result = some scope ∧ some permit ∧ no deny ∧ every require
    a condition is True, False or None (it cannot be told): a permit needs True, a deny is escaped by False only
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.model.hours_model import is_time

Truth = bool | None
Resource = dict[str, Any]

PATIENT_TYPES = ("Patient", "Observation", "Condition", "Account")
SHARED_TYPES = ("Organization",)
TYPES = (*PATIENT_TYPES, *SHARED_TYPES)
LETTER = {"read": "r", "vread": "r", "history-instance": "r", "search": "s", "create": "c"}
OPENED = {"_filter": "_id%20pr%20true", "_list": "everything"}
OWN_BASE = "http://upstream:8080/fhir/"

# Which elements of a type name patients: of whom it is, and who else had a part in it (CompartmentDefinition, R4).
SUBJECT = {"Observation": ("subject",), "Condition": ("subject",), "Account": ("subject",)}
PARTS = {
    "Observation": ("subject", "performer"),
    "Condition": ("subject", "asserter"),
    "Account": ("subject",),
}
# What a resource of the type must have (R4), by the member that stands for it where it is hidden.
MANDATORY = {
    "Observation": {"status": "_status"},
    "Condition": {"subject": "subject"},
    "Account": {"status": "_status"},
}
CLAIM_PATHS = {"patient": ("patient",), "roles": ("groups",), "org": ("organization",), "team": ("team",)}
CLAIM_TYPES = {"patient": "id", "roles": "codes", "org": "string", "team": "codes"}
WHO_CLAIMS = {"role": "roles", "org": "org", "team": "team"}


@dataclass(frozen=True)
class Asker:
    """Who asks for what: context and letters of each scope, claims as in the token, client, binding, address."""

    context: str
    scopes: tuple[tuple[str, str, str], ...]  # type or '*', letters, filter
    claims: dict[str, Any]
    client: str
    bound: str
    peer: str
    interaction: str
    type: str
    id: str | None
    facts: tuple[tuple[str, tuple[str, ...] | None], ...] = ()  # values by name; None: it could not be had
    consents: tuple[tuple[str, str | None], ...] = ()  # by patient: permit, deny or none; None: not to be had
    now: int = 1_800_000_000
    words: tuple[str, ...] = ()  # of _filter and _list, what a search uses


def shows(policies: list[dict[str, Any]], asker: Asker, resource: Resource) -> bool:
    """Whether this resource may be seen by this question."""
    if resource.get("resourceType") != asker.type:
        return False
    if asker.id is not None and resource.get("id") != asker.id:
        return False
    if asker.context == "patient" and not isinstance(asker.claims.get("patient"), str):
        return False
    rules = in_force(policies, asker.now)
    about = [rule for rule in rules if _is_about(rule, asker)]
    permits = [r for r in about if r["effect"] == "permit" and _permits(r, asker, resource)]
    denies = [r for r in about if r["effect"] == "deny" and "fields" not in r and _denies(r, asker, resource)]
    broken = [r for r in about if r["effect"] == "require" and not _is_kept(r, asker, resource)]
    opened = any(_is_opened(permit, about, asker, resource) for permit in permits)
    return opened and not denies and not broken


def _is_opened(permit: dict[str, Any], about: list[dict[str, Any]], asker: Asker, resource: Resource) -> bool:
    return any(
        _scope_holds(scope, asker, resource) and not _asks_of_hidden(scope, permit, about, asker)
        for scope in asker.scopes
    )


def _asks_of_hidden(
    scope: tuple[str, str, str], permit: dict[str, Any], about: list[dict[str, Any]], asker: Asker
) -> bool:
    """Whether the filter of a scope looks at what this permit, or some deny, does not let its holder see."""
    asked = {f"{asker.type}.{part.partition('=')[0]}" for part in scope[2].split("&") if part}
    view = permit.get("return", {})
    hidden = set(view.get("hide", [])) | (asked - set(view["only"]) if "only" in view else set())
    for rule in about:
        if "fields" in rule and _who(rule, asker) is not False and _when(rule, asker) is not False:
            hidden |= {
                path if path.startswith(f"{asker.type}.") else f"{asker.type}.{path}"
                for path in rule["fields"]
            }
    return not asked.isdisjoint(hidden)


def sees(policies: list[dict[str, Any]], asker: Asker, resource: Resource) -> set[str]:
    """Which members of the resource are seen, once it may be: those of any permit that holds, less what denies take."""
    rules = in_force(policies, asker.now)
    about = [rule for rule in rules if _is_about(rule, asker)]
    found: set[str] = set()
    for rule in about:
        if (
            rule["effect"] == "permit"
            and _permits(rule, asker, resource)
            and _is_opened(rule, about, asker, resource)
        ):
            view = rule.get("return", {})
            only = view.get("only", [f"{asker.type}.{name}" for name in resource])
            found |= {
                name for name in resource if f"{asker.type}.{name}" in set(only) - set(view.get("hide", []))
            }
    for rule in about:
        if "fields" in rule and _denies(rule, asker, resource):
            found -= {path.removeprefix(f"{asker.type}.") for path in rule["fields"]}
    return found | {"resourceType", "id"}


def marks(resource: Resource, seen: set[str]) -> set[str]:
    """The members that say 'masked' in place of what must be there, is there and is not seen."""
    must = MANDATORY.get(resource["resourceType"], {})
    return {mark for name, mark in must.items() if name in resource and name not in seen}


def _scope_holds(scope: tuple[str, str, str], asker: Asker, resource: Resource) -> bool:
    type_, letters, query = scope
    if type_ not in ("*", asker.type) or LETTER[asker.interaction] not in letters:
        return False
    if query and not _matches(resource, query, asker):
        return False
    limited = asker.context == "patient" and asker.type in PATIENT_TYPES
    reading = "all" if LETTER[asker.interaction] in "cud" else "spec"
    return not limited or _is_of(resource, {asker.claims["patient"]}, reading, doubt=False) is True


def _is_about(rule: dict[str, Any], asker: Asker) -> bool:
    may, resources = rule.get("may", ["any"]), rule.get("resources", ["any"])
    return (asker.interaction in may or "any" in may) and (asker.type in resources or "any" in resources)


def _permits(rule: dict[str, Any], asker: Asker, resource: Resource) -> bool:
    if asker.context == "patient" and asker.type in SHARED_TYPES and not rule.get("shared"):
        return False
    if (
        asker.interaction == "create"
        and asker.type == "Patient"
        and "Patient" not in rule.get("resources", [])
    ):
        return False  # a new person is a right of its own, which 'any' does not give
    if asker.interaction == "search" and not set(asker.words) <= set(rule.get("query", {}).get("open", [])):
        return False  # a permit carries a search only when it opens all that it uses
    parts = (_who(rule, asker), _when(rule, asker), _where(rule, asker, resource, doubt=False))
    return all(part is True for part in parts)


def _denies(rule: dict[str, Any], asker: Asker, resource: Resource) -> bool:
    parts = (_who(rule, asker), _when(rule, asker), _where(rule, asker, resource, doubt=True))
    return all(part is not False for part in parts)


def _is_kept(rule: dict[str, Any], asker: Asker, resource: Resource) -> bool:
    if _who(rule, asker) is False:
        return True  # the guard is about somebody else
    return _when(rule, asker) is True and _where(rule, asker, resource, doubt=False) is True


def _who(rule: dict[str, Any], asker: Asker) -> Truth:
    found: list[Truth] = []
    for key, wanted in rule.get("who", {}).items():
        negated = isinstance(wanted, dict)
        words = set(wanted["not"] if isinstance(wanted, dict) else wanted)
        fixed = {"context": asker.context, "client": asker.client, "bound": asker.bound}
        if key in fixed:
            met: Truth = fixed[key] in words
        else:
            met = _claim_meets(WHO_CLAIMS[key], words, asker, negated=negated)
        found.append(met if met is None else met is not negated)
    return False if False in found else None if None in found else True


def _claim_meets(name: str, words: set[str], asker: Asker, *, negated: bool) -> Truth:
    raw = asker.claims.get(CLAIM_PATHS[name][0])
    if raw is None:
        # Nobody is in a group that the token does not name; whether one is outside of it is not known.
        return None if negated else False
    values = _typed(name, raw)
    return None if values is None else bool(values & words)


def _typed(name: str, raw: Any) -> set[str] | None:
    if CLAIM_TYPES[name] == "codes":
        return set(raw) if isinstance(raw, list) and all(isinstance(v, str) and v for v in raw) else None
    return {raw} if isinstance(raw, str) and raw else None


def _when(rule: dict[str, Any], asker: Asker) -> Truth:
    when = rule.get("when", {})
    peer = ipaddress.ip_address(asker.peer)
    networks = when.get("network", ["0.0.0.0/0"])
    return any(peer in ipaddress.ip_network(text) for text in networks) and is_time(when, asker.now)


def in_force(policies: list[dict[str, Any]], now: int) -> list[dict[str, Any]]:
    """The rules of the policies that are enforced and valid on this day of UTC."""
    today = datetime.fromtimestamp(now, UTC).date().isoformat()
    return [
        rule
        for policy in policies
        if policy["status"] == "enforce"
        and policy.get("valid", {}).get("from", "") <= today <= policy.get("valid", {}).get("until", "9")
        for rule in policy["rules"]
    ]


def _where(rule: dict[str, Any], asker: Asker, resource: Resource, *, doubt: bool) -> Truth:
    where, found = rule.get("where", {}), []
    if "compartment" in where:
        patients = _patients(where["compartment"]["patient"], asker)
        membership = where["compartment"].get("membership", "subject")
        found.append(None if patients is None else _is_of(resource, patients, membership, doubt=doubt))
    if "match" in where:
        query = where["match"].get(asker.type)
        found.append(None if query is None else _matches(resource, query, asker))
    if "fhirpath" in where:
        text = where["fhirpath"].get(asker.type)
        if text is None:
            return None  # it says nothing about this type, for no resource of it
        # What cannot be told of one resource is told by the side that the rule stands on.
        truth = _states(resource, text, asker)
        found.append(doubt if truth is None else truth)
    if "ids" in where:
        found.append(resource.get("id") in where["ids"])
    if "consent" in where:
        found.append(_agreed(where["consent"], asker, resource, doubt=doubt))
    # What cannot be said for this caller at all is not made false by another part.
    return None if None in found else all(found)


def _agreed(wanted: dict[str, Any], asker: Asker, resource: Resource, *, doubt: bool) -> bool:
    """Whether everybody whom the resource is about said so; to close, one of them. doubt where that cannot be told."""
    if resource["resourceType"] == "Patient":
        patients = [resource.get("id")]
    elif resource["resourceType"] in SUBJECT:
        names = SUBJECT[resource["resourceType"]]
        references = [r for name in names for r in _listed(resource.get(name))]
        kinds = [_kind(reference, set()) for reference in references]
        if "unclear" in kinds:
            return doubt
        texts = [r["reference"].removeprefix(OWN_BASE) for r in references]
        patients = [text.partition("/")[2] for text in texts if text.startswith("Patient/")]
    else:
        return doubt
    said = [dict(asker.consents).get(str(patient)) for patient in patients]
    if not said:
        return doubt
    met = [doubt if word is None else word == wanted["decision"] for word in said]
    return any(met) if doubt else all(met)


def _patients(wanted: Any, asker: Asker) -> set[str] | None:
    if isinstance(wanted, dict):
        values = dict(asker.facts).get(wanted["in"].removeprefix("$facts."))
        return None if values is None else {value.removeprefix("Patient/") for value in values}
    if isinstance(wanted, list):
        return set(wanted)
    name = wanted.removeprefix("{token.").removesuffix("}")
    raw = asker.claims.get(CLAIM_PATHS[name][0])
    return None if raw is None else _typed(name, raw)


def _is_of(resource: Resource, patients: set[str], membership: str, *, doubt: bool) -> Truth:
    """Whether the resource is of one of these patients; doubt is the answer when a reference cannot be told."""
    if resource["resourceType"] == "Patient":
        return resource.get("id") in patients
    elements = (SUBJECT if membership == "subject" else PARTS)[resource["resourceType"]]
    references = [r for element in elements for r in _listed(resource.get(element))]
    kinds = {_kind(reference, patients) for reference in references}
    if doubt:
        return bool(kinds & {"own", "unclear"})
    return "own" in kinds and (membership == "spec" or not kinds & {"foreign", "unclear"})


def _kind(reference: dict[str, Any], patients: set[str]) -> str:
    text = reference["reference"].removeprefix(OWN_BASE)
    type_, _, id_ = text.partition("/")
    if text.startswith(("urn:", "http:")):
        return "unclear"
    if type_ != "Patient":
        return "nobody"
    return "own" if id_ in patients else "foreign"


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _matches(resource: Resource, query: str, asker: Asker) -> Truth:
    """Criteria of the vocabulary: code tokens, subject references and claims in their place."""
    answers: list[Truth] = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if value == "{token.org}":
            raw = asker.claims.get("organization")
            if not isinstance(raw, str) or not raw:
                return None
            value = raw
        wanted = set(value.split(","))
        if name == "any" or query == "any":
            answers.append(True)
        elif name == "status":
            answers.append(resource.get("status") in wanted)
        elif name == "category":
            codes = {coding["code"] for each in resource.get("category", []) for coding in each["coding"]}
            answers.append(bool(codes & wanted))
        elif name == "identifier":
            answers.append(bool({each["value"] for each in resource.get("identifier", [])} & wanted))
        elif name == "subject":
            references = [r["reference"].removeprefix(OWN_BASE) for r in _listed(resource.get("subject"))]
            answers.append(bool(set(references) & wanted))
        else:
            raise AssertionError(f"the model does not know {name}")
    return all(answers)


def _states(resource: Resource, text: str, asker: Asker) -> Truth:
    """Statements of the vocabulary: 'status = …', '!=', 'status in …', exists() and empty(), joined by and or or."""
    if " or " in text:
        parts = [_states(resource, part, asker) for part in text.split(" or ")]
        return True if True in parts else None if None in parts else False
    if " and " in text:
        parts = [_states(resource, part, asker) for part in text.split(" and ")]
        return False if False in parts else None if None in parts else True
    if text.endswith("()"):
        name, _, function = text.removesuffix("()").partition(".")
        return bool(resource.get(name)) is (function == "exists")
    left, operator, right = text.split(" ")
    one, other = _said(resource, left, asker), _said(resource, right, asker)
    if not one or not other:
        return None
    if operator == "in":
        return one[0] in other if len(one) == 1 else None
    equal = len(one) == len(other) == 1 and one == other
    return equal if operator == "=" else not equal


def _said(resource: Resource, text: str, asker: Asker) -> list[Any]:
    if text.startswith("'"):
        return [text.strip("'")]
    if text.startswith("%token."):
        name = text.removeprefix("%token.")
        raw = asker.claims.get(CLAIM_PATHS[name][0])
        typed = None if raw is None else _typed(name, raw)
        return sorted(typed or ())
    return _listed(resource.get(text))


def finds(resource: Resource, terms: tuple[str, ...]) -> bool:
    """What a store does with a search: every term must hold, of a term one of its alternatives."""
    return all(_found_by(resource, *term.partition("=")[::2]) for term in terms)


def _found_by(resource: Resource, name: str, value: str) -> bool:
    wanted = set(value.split(","))
    if name in OPENED:
        return True  # of those that are asked here: everything is in the List, and has an id
    if name == "_id":
        return resource.get("id") in wanted
    if name in ("subject", "patient"):
        references = {r["reference"].removeprefix(OWN_BASE) for r in _listed(resource.get("subject"))}
        return bool(references & {w if "/" in w else f"Patient/{w}" for w in wanted})
    nobody = Asker("", (), {}, "", "", "", "", "", None)
    return _matches(resource, f"{name}={value}", nobody) is True
