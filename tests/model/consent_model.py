"""What consents say, by brute force: docs/consent.md read aloud, on the JSON as it stands. Shares no code with the gateway.

The worlds are small on purpose: dates are whole years, codes are of one system, references are 'Type/id'.
"""

import json
import random
from dataclasses import dataclass, field
from typing import Any

ORDER = "ULMNRV"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
TYPES = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
KNOWN = ("actor", "purpose", "action", "class", "code", "data", "dataPeriod", "securityLabel")
YEAR_NOW = 2027
GROUPS = ("Organization", "CareTeam", "Group", "PractitionerRole")

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A question in words: who asks, for what, of which resource."""

    actors: tuple[str, ...] | None
    purposes: tuple[str, ...]
    resource: Json = field(hash=False)


def says(consents: list[Json], asked: Asked, *, opt_out: bool = False) -> str:
    """permit, deny or none."""
    mine = [each for each in consents if each["status"] in ("active", "inactive", "rejected")]
    mine = [each for each in mine if each["scope"]["coding"][0]["code"] == "patient-privacy"]
    words = [alone(each, asked) for each in mine]
    left = []
    for one, word in zip(mine, words, strict=True):
        later = [w for other, w in zip(mine, words, strict=True) if is_later(other, one)]
        if word == "deny" and any(w != "none" for w in later):
            word = "none"
        left.append(word)
    if "deny" in left:
        return "deny"
    if "permit" in left:
        return "permit"
    if opt_out and all(each.get("provision", {}).get("type") == "deny" for each in mine):
        return "permit"
    return "none"


def is_later(one: Json, other: Json) -> bool:
    lines = []
    for each in (one, other):
        who = sorted(p["reference"] for p in each.get("performer", []))
        what = sorted(p["uri"] for p in each.get("policy", []))
        if not who or not what or "dateTime" not in each:
            return False
        lines.append((who, what))
    return lines[0] == lines[1] and one["dateTime"] > other["dateTime"]


def alone(consent: Json, asked: Asked) -> str:
    if consent["status"] != "active" or "provision" not in consent:
        return "none"
    speaking = [node for node in nodes(consent["provision"], "p", {}, [], False) if speaks(node, asked)]
    top = [a for a in speaking if not any(is_more_special(b, a) for b in speaking)]
    if any(node["type"] == "deny" for node in top):
        return "deny"
    return "permit" if top and "modifierExtension" not in consent else "none"


def nodes(provision: Json, path: str, taken_over: Json, periods: list[Json], odd: bool) -> list[Json]:
    own = {name: provision[name] for name in KNOWN if name in provision}
    all_of_it = {**taken_over, **own}
    periods = periods + ([provision["period"]] if "period" in provision else [])
    odd = odd or bool(set(provision) - {*KNOWN, "type", "period", "provision"})
    node = {"type": provision["type"], "path": path, "says": all_of_it, "periods": periods, "odd": odd}
    found = [node]
    for number, inner in enumerate(provision.get("provision", [])):
        found += nodes(inner, f"{path}/{number}", all_of_it, periods, odd)
    return found


def is_more_special(one: Json, other: Json) -> bool:
    """Within the other one, or asks for all of it and more."""
    if one["path"].startswith(other["path"] + "/"):
        return True
    if other["path"].startswith(one["path"] + "/") or one["odd"] or other["odd"]:
        return False
    return is_part(one["says"], other["says"]) and not is_part(other["says"], one["says"])


def is_part(one: Json, other: Json) -> bool:
    for name, value in other.items():
        if name not in one or is_broken(name, value) or is_broken(name, one[name]):
            return False
        if name == "dataPeriod":
            ours, theirs = years(one[name]), years(value)
            if ours[0] < theirs[0] or ours[1] > theirs[1]:
                return False
        elif not {json.dumps(v) for v in one[name]} <= {json.dumps(v) for v in value}:
            return False
    return True


def is_broken(name: str, value: Any) -> bool:
    return "broken" in json.dumps(value)


def speaks(node: Json, asked: Asked) -> bool:
    """Yes only is enough for a permit; a denial is stopped by a plain no alone."""
    found = [answer(name, value, node["type"], asked) for name, value in node["says"].items()]
    for period in node["periods"]:
        found.append("yes" if years(period)[0] <= YEAR_NOW <= years(period)[1] else "no")
    if node["odd"]:
        found.append("?")
    return "no" not in found if node["type"] == "deny" else all(each == "yes" for each in found)


def answer(name: str, value: Any, type_: str, asked: Asked) -> str:
    found = plainly(name, value, type_, asked)
    return "?" if found == "no" and is_broken(name, value) else found


def plainly(name: str, value: Any, type_: str, asked: Asked) -> str:
    resource = asked.resource
    type_of_it = resource["resourceType"]
    if name == "actor":
        if asked.actors is None:
            return "?"
        named = [each["reference"]["reference"] for each in value if "broken" not in json.dumps(each)]
        if set(named) & set(asked.actors):
            return "yes"
        kinds = {each.split("/")[0] for each in named} & set(GROUPS)
        return "?" if kinds - {each.split("/")[0] for each in asked.actors} else "no"
    if name == "purpose":
        if not asked.purposes:
            return "?"
        return "yes" if {each.get("code") for each in value} & set(asked.purposes) else "no"
    if name == "action":
        codes = {coding.get("code") for each in value for coding in each["coding"]}
        return "yes" if codes & {"access", "use", "disclose"} else "no"
    if name == "class":
        return "yes" if type_of_it in [each.get("code") for each in value] else "no"
    if name == "securityLabel":
        return labelled(value, type_, resource)
    if type_of_it == "Patient" and name in ("code", "dataPeriod"):
        return "no" if name == "code" or "broken" not in json.dumps(value) else "?"
    if name == "code":
        codes = {coding["code"] for each in value for coding in each.get("coding", [])}
        if "code" not in resource:
            return "no"
        if "coding" not in resource["code"]:
            return "?"
        return "yes" if resource["code"]["coding"][0]["code"] in codes else "no"
    if name == "dataPeriod":
        if "broken" in json.dumps(value) or "effectiveDateTime" not in resource:
            return "?"
        first, last = years(value)
        return "yes" if first <= int(resource["effectiveDateTime"]) <= last else "no"
    words = [of_data(each, resource) for each in value if "broken" not in json.dumps(each)]
    return "yes" if "yes" in words else "?" if "?" in words else "no"


def of_data(item: Json, resource: Json) -> str:
    place, meaning = item["reference"]["reference"], item["meaning"]
    if meaning == "authoredby":
        if resource["resourceType"] == "Patient":
            return "no"
        authors = [each["reference"] for each in resource.get("performer", [])]
        if place in authors:
            return "yes"
        return "no" if authors else "?"
    if place == f"{resource['resourceType']}/{resource['id']}":
        return "yes"
    if meaning == "instance" or "encounter" not in resource:
        return "no"
    return "yes" if resource["encounter"]["reference"] == place else "no"


def labelled(value: list[Json], type_: str, resource: Json) -> str:
    carried = resource.get("meta", {}).get("security", [])
    levels = [each["code"] for each in carried if each["system"] == CONFIDENTIALITY]
    kinds = [each["code"] for each in carried if each["system"] == ACT]
    level = max((ORDER.index(each) for each in levels), default=99 if kinds else ORDER.index("N"))
    wanted = [each for each in value if "broken" not in json.dumps(each)]
    wanted_levels = [ORDER.index(each["code"]) for each in wanted if each["system"] == CONFIDENTIALITY]
    wanted_kinds = [each["code"] for each in wanted if each["system"] == ACT]
    if type_ == "deny":
        is_met = any(level >= each for each in wanted_levels) or any(kind in wanted_kinds for kind in kinds)
    else:
        is_met = any(level <= each for each in wanted_levels)
        is_met = is_met or (bool(kinds) and all(kind in wanted_kinds for kind in kinds))
    return "yes" if is_met else "no"


def years(period: Json) -> tuple[int, int]:
    if "broken" in json.dumps(period):
        return (0, 0)
    return int(period.get("start", 0)), int(period.get("end", 9999))


class Draw:
    """Consents and questions, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def maybe(self, share: float) -> bool:
        return self.random.random() < share

    def some(self, values: list[Any], most: int = 2) -> list[Any]:
        return self.random.sample(values, self.random.randint(1, most))

    def period(self) -> Json:
        found = {"start": str(self.random.randint(2020, 2024))} if self.maybe(0.7) else {}
        return found | ({"end": str(self.random.randint(2023, 2028))} if self.maybe(0.7) or not found else {})

    def element(self, name: str) -> Any:
        if name == "dataPeriod":
            return {"start": "broken"} if self.maybe(0.05) else self.period()
        choices: dict[str, list[Any]] = {
            "actor": [actor(f"Practitioner/{each}") for each in "pq"] + [actor("Organization/h")],
            "purpose": [{"code": each} for each in ("TREAT", "HRESCH", "BTG")],
            "action": [{"coding": [{"code": each}]} for each in ("access", "use", "correct")],
            "class": [{"system": TYPES, "code": each} for each in ("Observation", "Condition", "Patient")],
            "code": [{"coding": [{"system": LOINC, "code": each}]} for each in ("1", "2")],
            "data": [
                {"meaning": meaning, "reference": {"reference": place}}
                for meaning, place in (
                    ("instance", "Observation/o"), ("instance", "Condition/o"), ("related", "Encounter/e"),
                    ("related", "Encounter/f"), ("authoredby", "Practitioner/p"), ("authoredby", "Practitioner/q"),
                )
            ],
            "securityLabel": [{"system": CONFIDENTIALITY, "code": each} for each in "NRV"]
            + [{"system": ACT, "code": each} for each in ("PSY", "HIV")],
        }  # fmt: skip
        found = self.some(choices[name])
        if self.maybe(0.04):
            broken: dict[str, Any] = {
                "actor": {"reference": {"display": "broken"}},
                "purpose": {"display": "broken"},
                "action": {"coding": [{"display": "broken"}]},
                "class": {"system": TYPES, "display": "broken"},
                "code": {"text": "broken"},
                "data": {"meaning": "broken", "reference": {"reference": "Observation/o"}},
                "securityLabel": {"system": ACT, "display": "broken"},
            }
            found.append(broken[name])
        return found

    def provision(self, depth: int = 0, type_: str | None = None) -> Json:
        found: Json = {"type": type_ or self.pick(["permit", "deny"])}
        for name in self.random.sample(KNOWN, self.pick([0, 1, 1, 2, 2, 3] if depth else [0, 0, 1, 1, 2])):
            found[name] = self.element(name)
        if self.maybe(0.15):
            found["period"] = self.period()
        if self.maybe(0.03):
            found["modifierExtension"] = [{"url": "urn:odd"}]
        count = self.pick([0, 1, 1, 2, 3]) if depth == 0 else self.pick([0, 0, 1]) if depth < 3 else 0
        if count:
            found["provision"] = [self.provision(depth + 1) for _ in range(count)]
        return found

    def consent(self, id_: str) -> Json:
        found: Json = {
            "resourceType": "Consent",
            "id": id_,
            "status": self.pick(["active"] * 7 + ["inactive", "rejected", "draft", "entered-in-error"]),
            "scope": {
                "coding": [{"system": SCOPE, "code": self.pick(["patient-privacy"] * 6 + ["research"])}]
            },
            "patient": {"reference": "Patient/A"},
            "provision": self.provision(),
        }
        if self.maybe(0.8):
            found["dateTime"] = str(self.random.randint(2020, 2023))
            found["performer"] = [{"reference": self.pick(["Patient/A", "RelatedPerson/m"])}]
            found["policy"] = [{"uri": self.pick(["urn:one", "urn:two"])}]
        if self.maybe(0.04):
            found["modifierExtension"] = [{"url": "urn:odd"}]
        return found

    def consents(self) -> list[Json]:
        return [self.consent(f"c{number}") for number in range(self.pick([0, 1, 1, 1, 2, 2, 3, 4]))]

    def resource(self) -> Json:
        found: Json = {
            "resourceType": self.pick(["Observation", "Observation", "Condition", "Patient"]),
            "id": "o",
        }
        labels = [{"system": CONFIDENTIALITY, "code": self.pick("NNRV")}] if self.maybe(0.7) else []
        labels += [{"system": ACT, "code": each} for each in ("PSY", "HIV") if self.maybe(0.2)]
        if labels:
            found["meta"] = {"security": labels}
        if found["resourceType"] == "Patient":
            return found
        found["subject"] = {"reference": "Patient/A"}
        if self.maybe(0.8):
            found["effectiveDateTime"] = str(self.random.randint(2020, 2026))
        if self.maybe(0.7):
            found["performer"] = [{"reference": f"Practitioner/{self.pick('pq')}"}]
        if self.maybe(0.6):
            found["encounter"] = {"reference": f"Encounter/{self.pick('ef')}"}
        if self.maybe(0.8):
            coding = {"system": LOINC, "code": self.pick("123")}
            found["code"] = {"coding": [coding]} if self.maybe(0.85) else {"text": "words"}
        return found

    def asked(self) -> Asked:
        names = ["Practitioner/p", "Practitioner/q", "Organization/h", "Organization/i"]
        actors = None if self.maybe(0.1) else tuple(self.some(names, 3))
        purposes = () if self.maybe(0.15) else tuple(self.some(["TREAT", "HRESCH", "BTG"], 1))
        return Asked(actors, purposes, self.resource())


def actor(reference: str) -> Json:
    return {"reference": {"reference": reference}}
