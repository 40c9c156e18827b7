"""A person's wish as a FHIR R4 Consent of the shape of IHE PCF, and back.

What a wish says fits into one base provision with exceptions for labels, one level deep. Who agreed in somebody's stead
is a RelatedPerson within the consent, with the relationship. A consent that says more than a wish can is read as none:
half of what it says in plain words would be wrong words.
"""

from base64 import b64encode
from collections.abc import Mapping
from datetime import date
from typing import Any

from authz.account.own_records import Actor, ActorKind, Author, What, Wish
from gateway.consent_service.versions import instant
from gateway.fhir.dates import interval

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
PARTICIPATIONS = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SENSITIVITY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
LOINC = "http://loinc.org"
SENSITIVE: tuple[tuple[str, str], ...] = (
    (CONFIDENTIALITY, "R"),
    (CONFIDENTIALITY, "V"),
    *((SENSITIVITY, code) for code in ("ETH", "ETHUD", "OPIOIDUD", "PSY", "SEX", "SDV", "HIV", "STD")),
)
"""Labels of what a person means who leaves out what is sensitive: restricted, very restricted, and what stigmatizes."""
_BY_REFERENCE = {"Organization": ActorKind.ORGANIZATION, "Practitioner": ActorKind.PRACTITIONER}
_ORGANIZATION = "organization"  # the type of a reference that has an identifier alone
_KNOWN = frozenset({"type", "period", "actor", "purpose", "class", "provision"})


def consent_of(
    wish: Wish,
    *,
    patient: str,
    author: Author,
    issuer: str,
    policy: str,
    custodian: Mapping[str, Any],
    words: str,
    now: int,
) -> dict[str, Any]:
    """The Consent, active, without id and meta. words is what the person read; custodian a reference."""
    provision: dict[str, Any] = {"type": "permit" if wish.permits else "deny"}
    provision["period"] = {"start": instant(now)}
    if wish.until is not None:
        provision["period"]["end"] = wish.until.isoformat()
    if wish.actor is not None:
        provision["actor"] = [
            {"role": _concept(PARTICIPATIONS, "IRCP"), "reference": _reference(wish.actor, issuer)}
        ]
    if wish.purposes:
        provision["purpose"] = [{"system": PURPOSES, "code": code} for code in wish.purposes]
    if wish.what is What.CLASSES:
        provision["class"] = [{"system": RESOURCE_TYPES, "code": code} for code in wish.classes]
    if wish.what is What.NORMAL:
        provision["provision"] = [
            {"type": "deny", "securityLabel": [{"system": system, "code": code}]}
            for system, code in SENSITIVE
        ]
    performer: dict[str, Any] = {"reference": f"Patient/{patient}"}
    contained: dict[str, Any] = {}
    if author.relationship:
        performer = {"reference": "#performer", "display": author.name}
        contained = {
            "contained": [
                {
                    "resourceType": "RelatedPerson",
                    "id": "performer",
                    "identifier": [{"system": issuer, "value": author.subject}],
                    "patient": {"reference": f"Patient/{patient}"},
                    "relationship": [_concept(ROLES, author.relationship)],
                    "name": [{"text": author.name}],
                }
            ]
        }
    return {
        "resourceType": "Consent",
        **contained,
        "status": "active",
        "scope": _concept(SCOPES, "patient-privacy"),
        "category": [_concept(LOINC, "59284-0")],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": instant(now),
        "performer": [performer],
        "organization": [dict(custodian)],
        "sourceAttachment": {
            "contentType": "text/plain; charset=utf-8",
            "data": b64encode(words.encode()).decode("ascii"),
        },
        "policy": [{"uri": policy}],
        "provision": provision,
    }


def wish_of(consent: Mapping[str, Any], issuer: str) -> Wish | None:
    """The wish that a Consent says; None for one that says more, less or other than a wish can."""
    provision = consent.get("provision")
    if not isinstance(provision, Mapping) or not set(provision) <= _KNOWN or "policyRule" in consent:
        return None
    if "modifierExtension" in consent or provision.get("type") not in ("permit", "deny"):
        return None
    if set(_codings([consent.get("scope")])) != {(SCOPES, "patient-privacy")}:
        return None  # of research, say: it neither permits nor denies what the words of the pages do
    try:
        permits = provision["type"] == "permit"
        actors = [_actor(each, issuer) for each in provision.get("actor", [])]
        purposes = tuple(
            str(each["code"]) for each in provision.get("purpose", []) if each["system"] == PURPOSES
        )
        classes = tuple(
            str(each["code"]) for each in provision.get("class", []) if each["system"] == RESOURCE_TYPES
        )
        has_begun = _has_begun(provision.get("period", {}), consent["meta"]["lastUpdated"])
        until = _last_day(provision.get("period", {}), is_active=consent.get("status") == "active")
        labels = _exceptions(provision.get("provision", []))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None
    if len(actors) > 1 or len(classes) != len(provision.get("class", [])) or (classes and labels):
        return None
    if not has_begun or len(purposes) != len(provision.get("purpose", [])):
        return None
    if labels and (labels != set(SENSITIVE) or not permits):
        return None
    what = What.CLASSES if classes else What.NORMAL if labels else What.EVERYTHING
    return Wish(permits, actors[0] if actors else None, what, classes, purposes, until)


def performer_of(consent: Mapping[str, Any]) -> tuple[str, str]:
    """The name of who agreed, and what they are to the patient as a code; '' for what is not said."""
    listed = consent.get("performer")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else {}
    name = first.get("display")
    code = ""
    if first.get("reference") == "#performer":
        for each in consent.get("contained", []):
            if isinstance(each, Mapping) and each.get("id") == "performer":
                code = next((c for s, c in _codings(each.get("relationship")) if s == ROLES), "")
    return (name if isinstance(name, str) else ""), code


def _reference(actor: Actor, issuer: str) -> dict[str, Any]:
    if actor.kind is ActorKind.APP:
        return {"identifier": {"system": issuer, "value": actor.id}, "display": actor.name}
    if "/" in actor.id:
        return {"reference": actor.id, "display": actor.name}
    return {"type": "Organization", "identifier": {"value": actor.id}, "display": actor.name}


def _actor(value: Mapping[str, Any], issuer: str) -> Actor:
    """The actor of a provision. Raises KeyError, ValueError for one that is none of ours."""
    reference = value["reference"]
    if set(value) != {"role", "reference"} or _codings([value["role"]]) != [(PARTICIPATIONS, "IRCP")]:
        raise ValueError("an actor that is not a recipient")
    name = str(reference.get("display", ""))
    if "reference" in reference:
        text = str(reference["reference"])
        return Actor(_BY_REFERENCE[text.split("/")[-2]], text, name or text)
    identifier = reference["identifier"]
    id_ = str(identifier["value"])
    if identifier.get("system") == issuer:
        return Actor(ActorKind.APP, id_, name or id_)
    if str(reference.get("type", "")).lower() != _ORGANIZATION:
        raise ValueError("an actor of another kind")
    return Actor(ActorKind.ORGANIZATION, id_, name or id_)


def _has_begun(period: Mapping[str, Any], written: object) -> bool:
    """Whether it was in force from when it was written on. A beginning that cannot be read has not come."""
    if "start" not in period:
        return True
    start, at = interval(str(period["start"])), interval(str(written))
    return start is not None and at is not None and start[0] < at[1]


def _last_day(period: Mapping[str, Any], *, is_active: bool) -> date | None:
    """The last day. Raises ValueError for an end within a day, of a consent that is in force."""
    end = period.get("end")
    if end is None:
        return None
    return date.fromisoformat(str(end) if is_active else str(end)[:10])


def _exceptions(listed: list[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The labels of exceptions of one label each. Raises ValueError for an exception of another kind."""
    found = set()
    for each in listed:
        if (
            set(each) != {"type", "securityLabel"}
            or each["type"] != "deny"
            or len(each["securityLabel"]) != 1
        ):
            raise ValueError("an exception that is not of a label alone")
        found.add((str(each["securityLabel"][0]["system"]), str(each["securityLabel"][0]["code"])))
    return found


def _codings(concepts: object) -> list[tuple[str, str]]:
    found = []
    for concept in concepts if isinstance(concepts, list) else []:
        for coding in concept.get("coding", []) if isinstance(concept, Mapping) else []:
            found.append((str(coding.get("system", "")), str(coding.get("code", ""))))
    return found


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}
