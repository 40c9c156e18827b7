"""Random small hospitals: charts that refer across each other, policies that look at everything, callers, questions.

Every permit opens reads with whatever else it opens, and what closes closes everything: who searches was meant to
read. A chart is drawn from a seed, so that a failure names the one that it happened in.
"""

import json
import random
from typing import Any
from urllib.parse import quote

from authz.protocol.tokens import Caller
from gateway.policy import language
from gateway.policy.engine import Engine
from tests.model.brute_store import REFERENCES, Resource, key
from tests.support.policies import BASES, DEFINITIONS, caller

IDS = {
    "Patient": ("A", "B", "C"),
    "Practitioner": ("d1", "d2"),
    "Encounter": ("e1", "e2", "e3"),
    "Observation": ("o1", "o2", "o3", "o4", "o5"),
    "Condition": ("c1", "c2", "c3"),
    "List": ("l1", "l2", "l3"),
}
OF_PATIENTS = ("Patient", "Encounter", "Observation", "Condition", "List")
LABELS = (
    {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"},
    {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"},
    {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"},
)
ONLY = {
    "Patient": ["Patient.gender", "Patient.name"],
    "Observation": ["Observation.status", "Observation.subject"],
    "Condition": ["Condition.subject"],
    "List": ["List.status", "List.subject", "List.entry"],
    "Encounter": ["Encounter.status"],
    "Practitioner": ["Practitioner.gender"],
}
HIDE = {
    "Patient": ["Patient.name", "Patient.identifier"],
    "Observation": ["Observation.note", "Observation.performer"],
    "Condition": ["Condition.subject"],
    "List": ["List.note"],
    "Encounter": ["Encounter.text"],
    "Practitioner": ["Practitioner.name"],
}
OPERATIONS = {"operation:Patient/$everything": "Patient", "operation:Observation/$lastn": "Observation"}
SCOPES = (
    "{c}/*.rs",
    "{c}/*.cruds",
    "{c}/*.read",
    "{c}/Observation.rs {c}/Patient.rs",
    "{c}/Observation.rs?category=lab {c}/Patient.read",
)
NOONS = (1_800_003_600, 1_800_057_600)


class Chart:
    """Draws from one seed. even: every permit opens reading and searching alike, and shows whole resources."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice
        self.even = self.one_in(2)
        self.now = self.pick(NOONS)
        self.exported = self.some(OF_PATIENTS, 3)

    def one_in(self, number: int) -> bool:
        """True once in so many."""
        return self.random.randrange(number) == 0

    def some(self, values: Any, most: int) -> list[Any]:
        """One to most of values."""
        return self.random.sample(list(values), self.random.randint(1, min(most, len(values))))

    # What there is

    def versions(self) -> dict[str, list[Resource]]:
        """Everything, each with one to three versions, the newest last."""
        found: dict[str, list[Resource]] = {}
        for type_, ids in IDS.items():
            for id_ in ids:
                count = self.pick([1, 1, 2, 3])
                found[f"{type_}/{id_}"] = [self.drawn(type_, id_, n) for n in range(1, count + 1)]
        return found

    def drawn(self, type_: str, id_: str, version: int) -> Resource:
        """A version of a resource of this id."""
        meta: dict[str, Any] = {"versionId": str(version)}
        if self.one_in(3):
            meta["security"] = self.some(LABELS, 2)
        said = f"{type_}-{id_}-{version}"
        found: Resource = {"resourceType": type_, "id": id_, "meta": meta}
        if type_ in ("Patient", "Practitioner"):
            found |= {"gender": self.pick(["male", "female"]), "name": [{"family": f"name-{said}"}]}
            found["identifier"] = [{"system": "urn:mrn", "value": f"number-{said}"}]
        else:
            if type_ != "Condition":
                found["status"] = self.pick(["final", "finished"])
            found["category"] = [{"coding": [{"code": code}]} for code in self.some(("lab", "psy"), 2)]
            found["note"] = [{"text": f"note-{said}"}]
            if type_ == "List":
                found |= {"status": "current", "mode": "working", "entry": self._entries()}
                found.pop("category")
                if self.one_in(2):
                    found.pop("note")
            if type_ == "Encounter":
                del found["note"], found["category"]
                found["text"] = {"status": "generated", "div": f"<div>text-{said}</div>"}
        for element, targets in sorted(set(REFERENCES[type_].values())):
            if self.random.random() < 0.8:
                target = self.pick(targets)
                reference = {"reference": f"{target}/{self.pick(IDS[target])}"}
                if self.one_in(3):
                    reference["display"] = f"name-{target}-shown-in-{said}"
                found[element] = reference if element in ("subject", "encounter", "asserter") else [reference]
        return found

    def _entries(self) -> list[dict[str, Any]]:
        places = [f"{type_}/{id_}" for type_, ids in IDS.items() if type_ != "List" for id_ in ids]
        return [{"item": {"reference": place}} for place in self.some(places, 12)]

    # Who may see what

    def rules(self) -> list[dict[str, Any]]:
        """Rules that the language takes."""
        for _ in range(50):
            rules = [self.permit(n) for n in range(self.random.randint(2, 5))]
            rules += [self.closing(n) for n in range(self.pick([0, 0, 1, 1, 2]))]
            if self.one_in(2):
                rules.append(self._export())
            if engine_of(rules, or_none=True) is not None:
                return rules
        raise AssertionError("no policy could be drawn")

    def as_export(self, rules: list[dict[str, Any]]) -> Engine:
        """An engine under whose policies reads show what an export may hold."""
        read = {"rule": "as-export", "effect": "permit", "who": {"context": ["system"]}, "may": ["read"]}
        return engine_of([*rules, {**read, "resources": self.exported, "shared": True, "because": "x"}])

    def caller(self) -> Caller:
        """Somebody."""
        context = self.pick(["patient", "patient", "user", "user", "system"])
        claims: dict[str, Any] = {"roles": self.some(("nurse", "guest"), 2), "team": self.some(("A", "B"), 2)}
        if context == "patient" or self.one_in(3):
            claims["patient"] = self.pick(["A", "A", "B"])
        return caller(context, scope=self.pick(SCOPES).format(c=context), **claims)

    def permit(self, number: int) -> dict[str, Any]:
        """A rule that opens."""
        types = self.some(IDS, 5) if number % 2 else list(OF_PATIENTS)
        ways = ["search"] if self.even else []
        rule: dict[str, Any] = {"rule": f"p{number}", "effect": "permit", "because": "x"}
        if self.one_in(4):
            rule["who"] = self._who()
        if self.one_in(6):
            rule["when"] = self._when()
        rule["may"] = ["read", *sorted({*ways, *self.some(ways_to(types), 5)})]
        rule["resources"] = types
        where = self._where(types)
        rule |= {"where": where} if where else {"shared": True}
        if self.one_in(3):
            rule["shared"] = True
        rule["query"] = {"include": "any-permitted", "chain_depth": 2}
        if not self.one_in(3):
            rule["query"]["open"] = self.some(("_filter", "_list", "_text", "_content"), 4)
        if not self.even and self.one_in(2):
            view = self.pick([{"hide": HIDE}, {"only": ONLY}, {"only": ONLY, "hide": HIDE}])
            rule["return"] = {word: [path for t in types for path in of[t]] for word, of in view.items()}
        if "search" not in rule["may"]:
            del rule["query"]
        return rule

    def closing(self, number: int) -> dict[str, Any]:
        """A rule that closes."""
        rule: dict[str, Any] = {"rule": f"d{number}", "effect": self.pick(["deny", "deny", "require"])}
        types = self.some(IDS, 3)
        if rule["effect"] == "deny" and not self.even and self.one_in(3):
            rule |= {"fields": [self.pick(["note", "status"])], "may": ["any"], "resources": ["Observation"]}
            return {**rule, "because": "x"}
        rule |= {"may": ["any"], "resources": types, "where": self._where(types) or {"ids": ["A", "o1"]}}
        if self.one_in(3):
            rule["unless"] = self._who()
        return {**rule, "because": "x"}

    def _export(self) -> dict[str, Any]:
        return {
            "rule": "take", "effect": "permit", "who": {"context": ["system"]}, "may": ["operation:$export"],
            "resources": ["any"], "shared": True, "operation": {"types": self.exported}, "because": "x",
        }  # fmt: skip

    def _who(self) -> dict[str, Any]:
        return self.pick([{"context": ["user"]}, {"role": ["nurse"]}, {"context": ["patient", "system"]}])

    def _when(self) -> dict[str, Any]:
        return self.pick(
            [{"hours": ["08:00-18:00"], "zone": "Europe/Amsterdam"}, {"days": ["sat"], "zone": "UTC"},
             {"network": ["10.0.0.0/8"]}]
        )  # fmt: skip

    def _where(self, types: list[str]) -> dict[str, Any]:
        where: dict[str, Any] = {}
        if "Practitioner" not in types and self.one_in(2):
            patient = self.pick(["{token.patient}", "{token.patient}", "{token.team}", ["A"], ["B", "C"]])
            membership = self.pick(["subject", "subject", "spec", "all"])
            where["compartment"] = {"patient": patient, "membership": membership}
        if "Observation" in types and self.one_in(5):
            where["match"] = {
                "Observation": self.pick(["category=lab", "status=final", "category=psy&status=final"])
            }
        if self.one_in(6):
            where["ids"] = self.some([id_ for type_ in types for id_ in IDS[type_]], 4)
        if self.one_in(5):
            where["labels"] = self.pick(_LABEL_CONDITIONS)
        if self.one_in(6):
            where["any_of"] = [{"labels": self.pick(_LABEL_CONDITIONS)}, {"ids": ["A", "o2", "c1", "e1"]}]
        if "Condition" in types and self.one_in(6):
            where["fhirpath"] = {"Condition": self.pick(["asserter.exists()", "asserter.empty()"])}
        return where

    # What is asked

    def opened_search(self) -> str:
        """The target of a search by what a permit opens by name, now and then with a plain criterion beside it."""
        type_ = self.pick(sorted(IDS))
        kind = self.random.randrange(3)
        if kind == 0:
            asked = f"_filter={quote(self._filter(type_, 2))}"
        elif kind == 1:
            asked = f"_list={self.pick(IDS['List'])}"
        else:
            asked = f"{self.pick(['_text', '_content'])}={self.pick(_WORDS)}"
        return f"/{type_}?{asked}{'&_id=' + ','.join(self.some(IDS[type_], 3)) if self.one_in(4) else ''}"

    def _filter(self, type_: str, depth: int) -> str:
        kind = self.random.randrange(5) if depth else 4
        if kind < 2:
            word = self.pick([" and ", " or "])
            return word.join(f"({self._filter(type_, depth - 1)})" for _ in range(self.random.randint(2, 3)))
        if kind == 2:
            return f"not ({self._filter(type_, depth - 1)})"
        plain = (
            ["gender eq male"]
            if type_ in ("Patient", "Practitioner")
            else ["status ne final", "status eq final"]
        )
        plain += [f"_id eq {self.pick(IDS[type_])}"]
        if type_ in ("Observation", "Condition"):
            plain += ["category eq lab", "category ne psy", "category pr true"]
        if type_ == "Condition":
            plain = [each for each in plain if not each.startswith("status")]
        for code, (_, targets) in REFERENCES[type_].items():
            target = self.pick(targets)
            if code != "patient":
                plain.append(f"{code} {self.pick(['eq', 're', 'ne'])} {target}/{self.pick(IDS[target])}")
        return str(self.pick(plain))

    def search(self) -> tuple[str, bool]:
        """The target of a search, and whether it is of the plain kind: no joins, nothing left out of the answer."""
        type_ = self.pick(sorted(IDS))
        codes = sorted(REFERENCES[type_])
        kind = self.random.randrange(6)
        if kind == 0 and codes:
            return f"/{type_}?_include={type_}:{self.pick(codes)}", False
        naming = [f"{s}:{c}" for s, t in REFERENCES.items() for c, (_, of) in t.items() if type_ in of]
        if kind == 1 and naming:
            return f"/{type_}?_revinclude={self.pick(naming)}", False
        if kind == 2 and codes:
            code = self.pick(codes)
            target = self.pick(REFERENCES[type_][code][1])
            words = {"Patient": "gender=male", "Practitioner": "gender=male", "Encounter": "status=final"}
            word = words[target]
            return f"/{type_}?{code}:{target}.{word}", False
        if kind == 3:
            return f"/{type_}?_elements={self.pick(['id', 'status', 'name', 'subject'])}", False
        asked = [f"_id={','.join(self.some(IDS[type_], 3))}"] if self.one_in(4) else []
        if type_ in ("Observation", "Encounter") and self.one_in(3):
            asked.append("status=final")
        if codes and type_ != "Patient" and self.one_in(3):
            asked.append(f"patient={self.pick(IDS['Patient'])}")
        return f"/{type_}?{'&'.join(asked)}".rstrip("?"), True

    def one(self, versions: dict[str, list[Resource]]) -> str:
        """A question about one resource, or an operation."""
        found = self.pick(sorted(versions))
        version = self.pick(versions[found])["meta"]["versionId"]
        patient = self.pick(IDS["Patient"])
        return str(
            self.pick(
                [f"/{found}/_history/{version}", f"/{found}/_history", f"/Patient/{patient}/$everything",
                 f"/Patient/{patient}/Observation", "/Observation/$lastn?category=lab", f"/{found}"]
            )
        )  # fmt: skip


_WORDS = (
    "psy",
    "PSY",
    "female",
    "name",
    "note-Observation",
    "text-Encounter",
    "Patient/B",
    "shown-in",
    "d1",
    "final",
)
_LABEL_CONDITIONS = (
    {"at_most": "N", "unlabelled": "N"},
    {"at_most": "N", "unlabelled": "deny"},
    {"any_of": ["v3-ActCode|PSY"]},
    {"without": ["v3-ActCode|PSY"]},
)


def ways_to(types: list[str]) -> list[str]:
    """What else than reading a permit may open."""
    operations = [name for name, of in OPERATIONS.items() if of in types]
    return ["vread", "history-instance", "search", "batch", "batch", *operations]


def engine_of(rules: list[dict[str, Any]], *, or_none: bool = False) -> Any:
    """The engine of one policy with these rules; None, if so wished, where the language refuses them as senseless."""
    body = {"policy": "p", "version": 1, "owner": "o", "status": "enforce", "text": "t", "rules": rules}
    try:
        return Engine(language.load({"0.yaml": DEFINITIONS, "1.yaml": json.dumps(body)}), bases=BASES)
    except language.PolicyErrors:
        if or_none:
            return None
        raise


def names_one_patient(resource: Resource) -> bool:
    """Whether nobody but its subject has a part in it: who else had one is found by reading, not by searching."""
    of = [r["reference"] for e in ("performer", "focus", "asserter") for r in _listed(resource.get(e))]
    return not any(place.startswith("Patient/") for place in of) or key(resource).startswith("Patient/")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
