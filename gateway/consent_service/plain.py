"""A Consent as plain JSON, for systems that speak no FHIR: a translation, and nothing that decides.

    {patient, decision, scope, actors, purposes, types, labels, period, data_period, exceptions, policy, given_at, …}

What FHIR says beyond that is not shown here, and an amendment leaves it as it is.
"""

from collections.abc import Mapping
from typing import Any

from gateway.consent_service.versions import reason_of
from gateway.consents.codes import LOINC, PARTICIPATIONS, PURPOSES, RESOURCE_TYPES
from gateway.consents.consent import SCOPES

_OF_PROVISIONS = ("decision", "actors", "purposes", "types", "labels", "period", "data_period", "exceptions")
_TEXTS = ("patient", "status", "scope", "given_at")
_LISTS = ("policy", "performers", "organizations")
_KNOWN = frozenset({*_OF_PROVISIONS, *_TEXTS, *_LISTS})
_DECISIONS = ("permit", "deny")
_MAX_DEPTH = 8


class PlainError(Exception):
    """A member that cannot be translated; the text is for the caller."""


def consent_from(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The new Consent that this says. Raises PlainError."""
    for name in ("patient", "decision", "policy"):
        if name not in plain:
            raise PlainError(f"{name} is missing")
    value = {
        "resourceType": "Consent",
        "status": "active",
        "scope": _concept("patient-privacy", SCOPES),
        "category": [_concept("59284-0", LOINC)],
    }
    return amended(value, plain)


def amended(value: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The Consent with what plain names in place of what it says of that. Raises PlainError."""
    unknown = sorted(plain.keys() - _KNOWN)
    if unknown:
        raise PlainError(f"'{unknown[0][:40]}' is not known: expected one of {', '.join(sorted(_KNOWN))}")
    after = dict(value)
    for name in _TEXTS:
        if name in plain and not isinstance(plain[name], str):
            raise PlainError(f"{name} must be text")
    if "patient" in plain:
        after["patient"] = {"reference": _reference(plain["patient"], "Patient")}
    if "status" in plain:
        after["status"] = plain["status"]
    if "scope" in plain:
        after["scope"] = _concept(plain["scope"], SCOPES)
    if "given_at" in plain:
        after["dateTime"] = plain["given_at"]
    if "policy" in plain:
        after["policy"] = [{"uri": text} for text in _texts(plain, "policy")]
    for name, member in (("performers", "performer"), ("organizations", "organization")):
        if name in plain:
            after[member] = [{"reference": text} for text in _texts(plain, name)]
    of_provision = {name: plain[name] for name in _OF_PROVISIONS if name in plain}
    if of_provision:
        before = value.get("provision")
        after["provision"] = _provision(
            before if isinstance(before, Mapping) else {}, of_provision, _MAX_DEPTH
        )
    return {name: inner for name, inner in after.items() if inner != []}


def as_plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a Consent says, as far as plain JSON says it."""
    meta = value.get("meta", {})
    said: dict[str, Any] = {
        "id": value.get("id"),
        "version": int(meta["versionId"]) if str(meta.get("versionId", "")).isdigit() else None,
        "updated_at": meta.get("lastUpdated"),
        "status": value.get("status"),
        "patient": _last(value.get("patient", {}).get("reference", "")),
        "scope": _code(value.get("scope"), SCOPES),
        "given_at": value.get("dateTime"),
        "policy": [each.get("uri") or each.get("authority") for each in value.get("policy", [])],
        "performers": [each.get("reference") for each in value.get("performer", [])],
        "organizations": [each.get("reference") for each in value.get("organization", [])],
        "reason": reason_of(value),
        **_said(value.get("provision", {})),
    }
    return {name: inner for name, inner in said.items() if inner not in (None, [], "", {})}


def _said(provision: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        "decision": provision.get("type"),
        "actors": [_actor_text(each) for each in provision.get("actor", [])],
        "purposes": [_coded(each, PURPOSES) for each in provision.get("purpose", [])],
        "types": [_coded(each, RESOURCE_TYPES) for each in provision.get("class", [])],
        "labels": [_coded(each, "") for each in provision.get("securityLabel", [])],
        "period": provision.get("period"),
        "data_period": provision.get("dataPeriod"),
        "exceptions": [_said(each) for each in provision.get("provision", [])],
    }
    return {name: inner for name, inner in said.items() if inner not in (None, [], {})}


def _provision(before: Mapping[str, Any], plain: Mapping[str, Any], depth: int) -> dict[str, Any]:
    unknown = sorted(plain.keys() - set(_OF_PROVISIONS))
    if unknown or depth == 0:
        raise PlainError(
            f"'{unknown[0][:40]}' is not known here" if unknown else "exceptions are nested too deep"
        )
    after = dict(before)
    if "decision" in plain:
        if plain["decision"] not in _DECISIONS:
            raise PlainError("decision must be permit or deny")
        after["type"] = plain["decision"]
    if "actors" in plain:
        after["actor"] = [_actor(text) for text in _texts(plain, "actors")]
    for name, member, system in (
        ("purposes", "purpose", PURPOSES),
        ("types", "class", RESOURCE_TYPES),
        ("labels", "securityLabel", ""),
    ):
        if name in plain:
            after[member] = [_coding(text, system) for text in _texts(plain, name)]
    for name, member in (("period", "period"), ("data_period", "dataPeriod")):
        if name in plain:
            period = plain[name]
            if not isinstance(period, Mapping) or not {"start", "end"} >= set(period):
                raise PlainError(f"{name} must have start, end, or both")
            after[member] = dict(period)
    if "exceptions" in plain:
        inner = plain["exceptions"]
        if not isinstance(inner, list) or not all(isinstance(each, Mapping) for each in inner):
            raise PlainError("exceptions must be an array of objects")
        after["provision"] = [_provision({}, each, depth - 1) for each in inner]
    return {name: inner for name, inner in after.items() if inner not in ([], {})}


def _texts(plain: Mapping[str, Any], name: str) -> list[str]:
    found = plain[name]
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise PlainError(f"{name} must be an array of texts")
    return found


def _actor(text: str) -> dict[str, Any]:
    system, bar, value = text.rpartition("|")
    if bar:
        reference: dict[str, Any] = {"identifier": {"system": system, "value": value}}
    elif "/" in text and text[:1].isupper():
        reference = {"reference": text}
    else:
        reference = {"identifier": {"value": text}}
    return {"role": _concept("IRCP", PARTICIPATIONS), "reference": reference}


def _actor_text(actor: Mapping[str, Any]) -> str:
    reference = actor.get("reference", {})
    identifier = reference.get("identifier", {})
    value = str(identifier.get("value", ""))
    named = f"{identifier['system']}|{value}" if identifier.get("system") else value
    return str(reference.get("reference") or named)


def _reference(text: str, kind: str) -> str:
    return text if "/" in text else f"{kind}/{text}"


def _last(reference: object) -> str:
    return str(reference).rpartition("/")[2]


def _concept(text: str, system: str) -> dict[str, Any]:
    return {"coding": [_coding(text, system)]}


def _coding(text: str, default: str) -> dict[str, str]:
    system, bar, code = text.rpartition("|")
    known = system if bar else default
    return {"system": known, "code": code} if known else {"code": code}


def _code(concept: object, default: str) -> str:
    codings = concept.get("coding", []) if isinstance(concept, Mapping) else []
    return _coded(codings[0], default) if codings else ""


def _coded(coding: Mapping[str, Any], default: str) -> str:
    system, code = str(coding.get("system", "")), str(coding.get("code", ""))
    return code if system in ("", default) else f"{system}|{code}"
