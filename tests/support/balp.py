"""The constraints of IHE BALP on AuditEvent as a table, by the names of its profiles, and R4's own, checked by themselves.

Written down anew from the profiles as they are published (IHE ITI BALP); no text of theirs. A slice is found by a
Coding among those of its type. What a profile leaves open is not looked at.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]
DCM = "http://dicom.nema.org/resources/ontology/DCM"
HL7 = "http://terminology.hl7.org/CodeSystem/"
BALP = "https://profiles.ihe.net/ITI/BALP/"
REST = "http://hl7.org/fhir/restful-interaction"
PARTICIPATION = HL7 + "v3-ParticipationType"
AGENTS = BALP + "CodeSystem/UserAgentTypes"


@dataclass(frozen=True)
class Slice:
    """One slice: any of these (system, code), how often, which elements must and must not be there, and values."""

    codes: tuple[tuple[str, str], ...]
    least: int = 1
    most: int | None = 1
    needs: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    requestor: bool | None = None
    roles: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Profile:
    """What a profile fixes."""

    type: tuple[str, str] | None = None
    subtypes: tuple[tuple[str, str], ...] = ()
    one_subtype: bool = False
    action: str | None = None
    outcome: str | None = None
    has_outcome: bool = True
    agents: dict[str, Slice] = field(default_factory=dict)
    entities: dict[str, Slice] = field(default_factory=dict)
    least_agents: int = 1
    most_agents: int | None = None
    least_entities: int = 0
    most_entities: int | None = None
    closed_agents: bool = False
    closed_entities: bool = False
    observer_is: str | None = None  # the agent who must be source.observer


def dcm(code: str) -> tuple[tuple[str, str], ...]:
    return ((DCM, code),)


CLIENT = {"needs": ("who", "network"), "never": ("media",)}
USER = {"least": 0, "needs": ("who",), "never": ("media", "network"), "requestor": True}
IRCP = ((PARTICIPATION, "IRCP"),)
AUTHORS = tuple((PARTICIPATION, code) for code in ("AUT", "INF", "CST"))
OBJECT = ((HL7 + "audit-entity-type", "2"),)
ROLES = tuple((HL7 + "object-role", code) for code in ("4", "3", "20"))
TRANSACTION = Slice(
    ((BALP + "CodeSystem/BasicAuditEntityType", "XrequestId"),), 0, needs=("what.identifier.value",)
)
DATA = Slice(OBJECT, needs=("what",), roles=ROLES)
QUERY = Slice(
    OBJECT, needs=("query",), never=("what", "lifecycle", "detail"), roles=((HL7 + "object-role", "24"),)
)
PATIENT = Slice(
    ((HL7 + "audit-entity-type", "1"),), needs=("what", "role"), roles=((HL7 + "object-role", "1"),)
)


def rest(
    action: str,
    subtypes: str,
    *,
    client: str,
    server: tuple[tuple[str, str], ...],
    user: tuple[tuple[str, str], ...],
    entity: Slice,
    is_patients: bool,
) -> Profile:
    name = "query" if action == "E" else "data"
    return Profile(
        type=(HL7 + "audit-event-type", "rest"),
        subtypes=tuple((REST, each) for each in subtypes.split()),
        action=action,
        outcome="0",
        agents={
            "client": Slice(dcm(client), **CLIENT),  # type: ignore[arg-type]
            "server": Slice(server, **CLIENT),  # type: ignore[arg-type]
            "user": Slice(user, **USER),  # type: ignore[arg-type]
        },
        entities={"transaction": TRANSACTION, name: entity, **({"patient": PATIENT} if is_patients else {})},
        least_agents=2,
        least_entities=2 if is_patients else 1,
    )


CUSTODIAN = ((HL7 + "provenance-participant-type", "custodian"),)
PROFILES: dict[str, Profile] = {}
for _prefix, _is in (("", False), ("Patient", True)):
    for _name, _action, _subtypes, _client, _server, _user, _entity in (
        ("Read", "R", "read vread", "110152", dcm("110153"), IRCP, DATA),
        ("Query", "E", "search search-type search-system", "110153", dcm("110152"), IRCP, QUERY),
        ("Create", "C", "create", "110153", dcm("110152"), AUTHORS, DATA),
        ("Update", "U", "update patch", "110153", dcm("110152"), AUTHORS, DATA),
        ("Delete", "D", "delete", "110150", CUSTODIAN, AUTHORS, DATA),
    ):
        PROFILES[f"IHE.BasicAudit.{_prefix}{_name}"] = rest(
            _action,
            _subtypes,
            client=_client,
            server=_server,
            user=_user,
            entity=_entity,
            is_patients=_is,
        )
PROFILES["IHE.BasicAudit.OAUTHaccessTokenUse.Minimal"] = Profile(
    has_outcome=False,
    agents={
        "oUser": Slice(
            ((AGENTS, "UserOauthAgent"),), 1, None, ("policy",), ("media", "network"), requestor=True
        )
    },
)
PROFILES["IHE.BasicAudit.OAUTHaccessTokenUse.Comprehensive"] = Profile(
    has_outcome=False,
    agents={
        "oClient": Slice(dcm("110150"), needs=("who.identifier.value",), never=("media",)),
        "oUser": Slice(IRCP, 0, 1, ("who.identifier", "policy"), ("media", "network"), requestor=True),
    },
)
PROFILES["IHE.IUA.71"] = Profile(
    type=(DCM, "110114"),
    subtypes=(("urn:ihe:event-type-code", "ITI-71"),),
    one_subtype=True,
    action="E",
    outcome="0",
    agents={
        "client": Slice(dcm("110150"), **CLIENT),  # type: ignore[arg-type]
        "auth-server": Slice(((AGENTS, "AuthzOauthService"),), **CLIENT),  # type: ignore[arg-type]
        "user": Slice(IRCP, 0, needs=("who",), never=("altId", "media", "network"), requestor=True),
    },
    entities={
        "token-request": Slice(
            OBJECT, needs=("query",), never=("what",), roles=((HL7 + "object-role", "24"),)
        )
    },
    least_agents=2,
    most_agents=3,
    least_entities=1,
    most_entities=1,
    closed_agents=True,
    closed_entities=True,
)
_NEVER = ("role", "altId", "name", "location", "media")
PROFILES["IHE.BasicAudit.AuthZconsent"] = Profile(
    type=(DCM, "110113"),
    subtypes=tuple((BALP + "CodeSystem/AuthZsubType", each) for each in ("AuthZ-Consent", "AuthZ-Role")),
    action="E",
    agents={
        "client": Slice(dcm("110150"), needs=("who", "network"), never=(*_NEVER, "purposeOfUse")),
        "user": Slice(
            IRCP, needs=("who",), never=("altId", "location", "media", "network"), requestor=True
        ),
        "userorg": Slice(
            ((HL7 + "v3-RoleClass", "PROV"),), needs=("who",), never=(*_NEVER, "policy", "network"),
            requestor=False,
        ),
        "authorizer": Slice(
            ((HL7 + "extra-security-role-type", "authserver"),),
            needs=("who",),
            never=(*_NEVER, "policy", "network", "purposeOfUse"),
            requestor=False,
        ),
    },
    entities={
        "patient": PATIENT,
        "consent": Slice((("http://hl7.org/fhir/resource-types", "Consent"),), 1, None, ("what",)),
        "token": Slice(((AGENTS, "UserOauthAgent"),), 0, needs=("what.identifier.value",)),
    },
    least_agents=2,
    least_entities=2,
    closed_entities=True,
    observer_is="authorizer",
)  # fmt: skip
for _name, _type, _action, _own in (
    ("Source", "110106", "R", "source"),
    ("Recipient", "110107", "C", "recipient"),
):
    PROFILES[f"IHE.BasicAudit.PrivacyDisclosure.{_name}"] = Profile(
        type=(DCM, _type),
        subtypes=((HL7 + "iso-21089-lifecycle", "disclose"),),
        action=_action,
        agents={
            "source": Slice(dcm("110153"), needs=("who", "network")),
            "recipient": Slice(dcm("110152"), needs=("who", "network")),
            "custodian": Slice((("http://snomed.info/sct", "159541003"),), 0, needs=("who",)),
            "authorizer": Slice((("http://snomed.info/sct", "429577009"),), 0, needs=("who",)),
        },
        entities={"patient": PATIENT},
        least_agents=2,
        least_entities=2,
        observer_is=_own,
    )


def faults(event: Json) -> list[str]:
    """What R4 or a profile that the event names does not allow."""
    found = r4_faults(event)
    for url in event.get("meta", {}).get("profile", []):
        name = url.removeprefix(f"{BALP}StructureDefinition/")
        if name not in PROFILES:
            found.append(f"there is no profile {name}")
        else:
            found += [f"{name}: {each}" for each in profile_faults(event, PROFILES[name])]
    return found


def profile_faults(event: Json, profile: Profile) -> list[str]:
    """What this profile does not allow."""
    found = []
    if profile.type is not None and _pair(event["type"]) != profile.type:
        found.append(f"type is {event['type']}")
    subtypes = [_pair(each) for each in event.get("subtype", [])]
    if profile.subtypes and len([each for each in subtypes if each in profile.subtypes]) != 1:
        found.append(f"subtype is {subtypes}")
    if profile.one_subtype and len(subtypes) != 1:
        found.append(f"{len(subtypes)} subtypes")
    for name, wanted in (("action", profile.action), ("outcome", profile.outcome)):
        if wanted is not None and event.get(name) != wanted:
            found.append(f"{name} is {event.get(name)}")
    if profile.has_outcome and "outcome" not in event:
        found.append("no outcome")
    agents, entities = event.get("agent", []), event.get("entity", [])
    found += _bounds("agent", agents, profile.least_agents, profile.most_agents)
    found += _bounds("entity", entities, profile.least_entities, profile.most_entities)
    for name, part in profile.agents.items():
        chosen = [each for each in agents if _of(each.get("type", {}).get("coding", []), part)]
        found += _slice_faults(f"agent {name}", chosen, part)
        if name == profile.observer_is and any(
            each.get("who") != event["source"]["observer"] for each in chosen
        ):
            found.append(f"agent {name} is not the observer")
    for name, part in profile.entities.items():
        chosen = [each for each in entities if _of([each.get("type", {})], part)]
        found += _slice_faults(f"entity {name}", chosen, part)
    if profile.closed_agents:
        found += [
            "an agent of no slice" for each in agents
            if not any(_of(each.get("type", {}).get("coding", []), part) for part in profile.agents.values())
        ]  # fmt: skip
    if profile.closed_entities:
        found += [
            "an entity of no slice" for each in entities
            if not any(_of([each.get("type", {})], part) for part in profile.entities.values())
        ]  # fmt: skip
    return found


def _slice_faults(name: str, chosen: list[Json], part: Slice) -> list[str]:
    found = _bounds(name, chosen, part.least, part.most)
    for each in chosen:
        found += [f"{name} has no {path}" for path in part.needs if not _has(each, path.split("."))]
        found += [f"{name} has {path}" for path in part.never if path in each]
        if part.requestor is not None and each.get("requestor") is not part.requestor:
            found.append(f"{name}: requestor is {each.get('requestor')}")
        if part.roles and _pair(each.get("role", {})) not in part.roles:
            found.append(f"{name}: role is {each.get('role')}")
    return found


def _bounds(name: str, values: list[Any], least: int, most: int | None) -> list[str]:
    is_wrong = len(values) < least or (most is not None and len(values) > most)
    return [f"{len(values)} of {name}, expected {least} to {most}"] if is_wrong else []


def _of(codings: list[Json], part: Slice) -> bool:
    return any(_pair(each) in part.codes for each in codings)


def _pair(coding: Json) -> tuple[str, str]:
    return coding.get("system", ""), coding.get("code", "")


def _has(value: Any, path: list[str]) -> bool:
    return not path or (isinstance(value, dict) and path[0] in value and _has(value[path[0]], path[1:]))


# R4 itself

_ELEMENTS = json.loads(
    (Path(__file__).parents[1] / "data" / "audit-event-elements.json").read_text(encoding="utf-8")
)
_FORMS: dict[str, re.Pattern[str]] = {
    "code": re.compile(r"[^\s]+(\s[^\s]+)*"),
    "id": re.compile(r"[A-Za-z0-9\-.]{1,64}"),
    "uri": re.compile(r"\S+"),
    "canonical": re.compile(r"\S+"),
    "string": re.compile(r"[ \r\n\t\S]+"),
    "base64Binary": re.compile(r"[A-Za-z0-9+/]+={0,2}"),
}
_BOUND = {
    "AuditEvent.action": set("CRUDE"),
    "AuditEvent.outcome": {"0", "4", "8", "12"},
    "AuditEvent.agent.network.type": set("12345"),
}


def r4_faults(event: Json) -> list[str]:
    """What the definition of AuditEvent in R4 does not allow: elements, cardinality, primitives, bindings, sev-1."""
    if event.get("resourceType") != "AuditEvent":
        return ["it is no AuditEvent"]
    value = {name: member for name, member in event.items() if name != "resourceType"}
    found = _element_faults(value, "AuditEvent", _ELEMENTS["AuditEvent"])
    found += ["sev-1: name and query" for each in event.get("entity", []) if {"name", "query"} <= each.keys()]
    return found


def _element_faults(value: Any, path: str, elements: Json) -> list[str]:
    if not isinstance(value, dict) or not value:
        return [f"{path} is empty or no object"]
    found = [f"{path}.{name} is not known" for name in value if name not in elements]
    for name, element in elements.items():
        at = f"{path}.{name}"
        if name not in value:
            found += [f"{at} is missing"] if element["min"] else []
            continue
        inner = value[name]
        if isinstance(inner, list) != (element["max"] == "*"):
            found.append(f"{at} repeats or does not")
            continue
        items = inner if isinstance(inner, list) else [inner]
        if not items:
            found.append(f"{at} is empty")
        for item in items:
            found += _value_faults(item, at, element["type"])
    return found


def _value_faults(value: Any, path: str, type: str) -> list[str]:
    if path in _BOUND and value not in _BOUND[path]:
        return [f"{path} is {value}"]
    if type in _ELEMENTS:
        return _element_faults(value, path, _ELEMENTS[type])
    if type == "boolean":
        return [] if isinstance(value, bool) else [f"{path} is no boolean"]
    if not isinstance(value, str):
        return [f"{path} is no text"]
    if type == "instant":
        return [] if datetime.fromisoformat(value).tzinfo is not None else [f"{path} has no time zone"]
    if not _FORMS[type].fullmatch(value) or value != value.strip():
        return [f"{path} is no {type}: {value!r}"]
    if type == "base64Binary":
        base64.b64decode(value, validate=True)
    return []
