"""A policy set as a FHIR Permission (R5): one rule for each permit and deny, and in words what it cannot say.

Permission.combining is deny-overrides, as here. A Permission knows no guard ('require'), no condition on time, place or
sign-in, and no order of confidentiality: whatever of a rule is left out stands in an extension of that rule and in the
narrative, so that nobody takes a wider rule for the one in force.
"""

from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.interaction import Interaction
from gateway.policy.inquiries.plain import conditions, plain
from gateway.policy.obligations import NOTHING_MORE
from gateway.policy.rules import Dimension, Effect, PolicySet, Rule, Where

NOT_EXPRESSED = "urn:securus:permission:not-expressed"
"""The URL of the extension that holds, in words, a condition of a rule which a Permission cannot say."""

_ACTIONS = "http://hl7.org/fhir/restful-interaction"
_PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_WORDS = {Interaction.SEARCH: "search-type"}
_ACTORS = {
    "client": ("Device", "urn:securus:client"),
    "org": ("Organization", "urn:securus:organization"),
    "user": ("Practitioner", "urn:securus:user"),
    "roles": ("PractitionerRole", "urn:securus:role"),
}
_SAID_ELSEWHERE = frozenset({"where", "query", "conditional", "operation", "write"})
_XHTML = "http://www.w3.org/1999/xhtml"


def permission(policies: PolicySet) -> dict[str, object]:
    """The Permission resource of the rules in force, as a JSON value (FHIR R5 Permission)."""
    rules = [_rule(rule) for rule in policies.rules if rule.effect is not Effect.REQUIRE]
    return {
        "resourceType": "Permission",
        "text": {"status": "additional", "div": _narrative(policies)},
        "status": "active",
        "combining": "deny-overrides",
        "rule": rules,
    }


def not_said(policies: PolicySet) -> list[str]:
    """What the Permission of this set does not say, one line for each rule."""
    return [f"{name}: {'; '.join(said)}" for name, said in _notes(policies)]


def _notes(policies: PolicySet) -> list[tuple[str, list[str]]]:
    found = []
    for rule in policies.rules:
        lost = list(_not_expressed(rule))
        if rule.effect is Effect.REQUIRE:
            lost.insert(0, "the whole rule: it is a guard that must hold beside every permit")
        if lost:
            found.append((rule.id, lost))
    return found


def _rule(rule: Rule) -> dict[str, object]:
    said: dict[str, object] = {"id": rule.id.replace("/", ".")}
    lost = list(_not_expressed(rule))
    if lost:
        said["extension"] = [{"url": NOT_EXPRESSED, "valueString": each} for each in lost]
    said["type"] = "deny" if rule.effect is Effect.DENY else "permit"
    said["data"] = list(_data(rule))
    activity: dict[str, object] = {}
    actors = [actor for dimension in rule.who for actor in _actors(dimension)]
    if actors:
        activity["actor"] = actors
    activity["action"] = [
        {"coding": [{"system": _ACTIONS, "code": _WORDS.get(each, str(each))}]} for each in sorted(rule.may)
    ]
    purposes = [value for dimension in rule.who for value in _purposes(dimension)]
    if purposes:
        activity["purpose"] = [{"coding": [{"system": _PURPOSES, "code": code}]} for code in purposes]
    said["activity"] = [activity]
    limits = list(_limits(rule))
    if limits:
        said["limit"] = [{"text": text} for text in limits]
    return said


def _data(rule: Rule) -> Iterator[dict[str, object]]:
    """The data of a rule: for each type an expression by which it is found, with its labels."""
    security = []
    labels = rule.where.labels
    if labels is not None:
        security = [
            {"system": each.system, "code": each.code}
            for each in sorted(labels.any_of, key=lambda each: (each.system, each.code))
        ]
    more: dict[str, object] = {"security": security} if security else {}
    if rule.resources is None:
        yield more or {"expression": {"language": "application/x-fhir-query", "expression": "?"}}
        return
    for type_ in sorted(rule.resources):
        if rule.where.ids is not None:
            named = [
                {"meaning": "instance", "reference": {"reference": f"{type_}/{id_}"}}
                for id_ in sorted(rule.where.ids)
            ]
            yield {"resource": named, **more}
            continue
        query = "&".join(_criteria(rule.where, type_))
        text = f"{type_}?{query}" if query else type_
        yield {**more, "expression": {"language": "application/x-fhir-query", "expression": text}}


def _criteria(where: Where, type_: str) -> Iterator[str]:
    if where.compartment is not None:
        value = where.compartment.patient
        wanted = f"{{{{%token.{value.claim}}}}}" if value.claim is not None else ",".join(sorted(value.words))
        wanted = wanted if value.fact is None else f"{{{{%facts.{value.fact}}}}}"
        yield f"{subject_parameter(type_) or 'patient'}={wanted}"
    if where.match.get(type_):
        yield (
            where.match[type_]
            .replace("{token.", "{{%token.")
            .replace("{facts.", "{{%facts.")
            .replace("}", "}}")
        )


def _actors(dimension: Dimension) -> Iterator[dict[str, object]]:
    if dimension.name in _ACTORS and not dimension.negated:
        kind, system = _ACTORS[dimension.name]
        for value in sorted(dimension.values):
            yield {"type": kind, "identifier": {"system": system, "value": value}}


def _purposes(dimension: Dimension) -> Iterator[str]:
    if dimension.name == "purpose" and not dimension.negated:
        yield from sorted(dimension.values)


def _limits(rule: Rule) -> Iterator[str]:
    """What is taken away from the data, in words."""
    if rule.returned is not None:
        if rule.returned.only is not None:
            yield f"only {', '.join(rule.returned.only)}"
        if rule.returned.hide:
            yield f"without {', '.join(rule.returned.hide)}"
        for element, precision in rule.returned.rounded:
            yield f"{element} to the {precision}"
    if rule.fields is not None:
        yield f"about the elements {', '.join(rule.fields)} and no others"


def _not_expressed(rule: Rule) -> Iterator[str]:
    for dimension in rule.who:
        if dimension.name in _ACTORS and not dimension.negated:
            continue
        if dimension.name != "purpose" or dimension.negated:
            word = "none of" if dimension.negated else "one of"
            yield f"who.{dimension.name}: {word} {', '.join(sorted(dimension.values))}"
    kinds = {d.name for d in rule.who if d.name in _ACTORS and not d.negated}
    if len(kinds) > 1:
        yield f"who: the actors hold together, one of each: {', '.join(sorted(kinds))}"
    yield from _of_where(rule.where)
    for name in conditions(rule):
        if name not in _SAID_ELSEWHERE:
            yield f"{name}: {_text(plain(getattr(rule, name)))}"
    if rule.then != NOTHING_MORE:
        yield f"then: {_text(plain(rule.then))}"
    for name in sorted(_SAID_ELSEWHERE - {"where"}):
        if name in conditions(rule) or (name == "operation" and rule.operation.names):
            yield f"{name}: {_text(plain(getattr(rule, name)))}"


def _of_where(where: Where) -> Iterator[str]:
    if where.compartment is not None and where.compartment.membership != "subject":
        yield f"where.compartment: membership {where.compartment.membership}"
    said = plain(where)
    if not isinstance(said, dict):
        return
    for name, value in said.items():
        if name == "labels" and isinstance(value, dict):
            rest = {key: each for key, each in value.items() if key != "any_of"}
            if rest:
                yield f"where.labels: {_text(rest)}"
        elif name not in ("compartment", "match", "ids"):
            yield f"where.{name}: {_text(value)}"


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return str(value)


def _narrative(policies: PolicySet) -> str:
    items = [
        f"<li><b>{escape(rule.id)}</b> ({rule.effect}): {escape(rule.because)}</li>"
        for rule in policies.rules
    ]
    lost = [f"<li><b>{escape(name)}</b>: {escape('; '.join(said))}</li>" for name, said in _notes(policies)]
    more = f"<p>Not said by this Permission, and in force:</p><ul>{''.join(lost)}</ul>" if lost else ""
    return f'<div xmlns="{_XHTML}"><p>Policy set {policies.hash}</p><ul>{"".join(items)}</ul>{more}</div>'
