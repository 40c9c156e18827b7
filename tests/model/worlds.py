"""Random small worlds: policy sets, callers with their questions, and resources, in which nearly everything touches.

Four patients, five types, claims that are missing or of a wrong type, references that cannot be told. A world is
drawn from a seed, so that a failure names the world that it happened in.
"""

import random
from typing import Any

from gateway.consents.consent import ConsentAnswer, Said
from gateway.fhir.outcome import Reason
from gateway.policy.facts import FactValues
from gateway.policy.known import ConsentsOf, Known
from tests.model import policy_model as model
from tests.model.hours_model import DAYS

PATIENTS = ("A", "B", "C", "VIP")
CODES = ("lab", "psy")
NETWORKS = (["10.0.0.0/8"], ["192.0.2.0/24", "10.1.0.0/16"])
HOURS = (["08:00-18:00"], ["22:00-06:00"], ["01:00-03:00", "23:30-24:00"], ["12:00-12:01", "00:00-24:00"])
ZONES = ("Europe/Amsterdam", "America/New_York", "Asia/Kathmandu", "UTC")
VALID = (
    {"from": "2027-01-15"}, {"until": "2027-01-15"}, {"from": "2027-01-16"}, {"from": "2020-01-01", "until": "2027-01-14"},
)  # fmt: skip
# A Friday, its end in UTC, a Saturday night, and the hours when European clocks are put forward and back.
TIMES = (
    1_800_000_000,
    1_800_057_599,
    1_800_057_600,
    1_800_140_400,
    1_806_195_599,
    1_806_195_600,
    1_824_944_400,
)
FILTERS: dict[str, list[str]] = {
    "Patient": ["any", "identifier=o1"],
    "Observation": [
        "category=lab", "category=lab,psy", "category=psy&status=final", "status=final", "subject=Patient/A",
    ],
    "Condition": ["category=lab", "subject=Patient/B,Patient/A", "any"],
    "Account": ["status=final", "any"],
    "Organization": ["identifier={token.org}", "any", "identifier=o1"],
}  # fmt: skip
ELEMENTS = {
    "Patient": ("identifier",),
    "Observation": ("category", "performer", "status", "subject"),
    "Condition": ("asserter", "category", "subject"),
    "Account": ("status", "subject"),
    "Organization": ("identifier",),
}
_OF_STATUS = (
    "status = 'final'", "status != 'final'", "status.empty()", "status in %token.roles", "status = %token.org",
    "status = 'final' and subject.exists()", "status = 'final' or category.exists()",
)  # fmt: skip
STATEMENTS: dict[str, tuple[str, ...]] = {
    "Patient": ("id = %token.patient", "identifier.exists()", "id in %token.team"),
    "Observation": _OF_STATUS,
    "Condition": ("asserter.exists()", "category.empty()", "id != %token.patient"),
    "Account": (*_OF_STATUS[:4], "subject.exists() and status = 'other'"),
    "Organization": ("identifier.exists()", "id = %token.org"),
}
SCOPE_FILTERS = ("category=lab", "category=psy&status=final")
WORDS = {
    "context": ("patient", "user", "system"),
    "client": ("portal", "ehr"),
    "bound": ("dpop", "mtls"),
    "role": ("nurse", "guest"),
    "org": ("o1", "o2"),
    "team": ("A", "B"),
}
CLAIMS: dict[str, list[Any]] = {
    "groups": [["nurse"], ["nurse"], ["guest", "nurse"], [], "nurse", ["guest", 1], None],
    "organization": ["o1", "o1", "o2", "", 5, ["o1"]],
    "team": [["A"], ["A"], ["A", "B"], [], "A", {"A": 1}],
}
REFERENCES = [
    *(f"Patient/{id_}" for id_ in (*PATIENTS, "A", "B")),
    f"{model.OWN_BASE}Patient/A",
    f"{model.OWN_BASE}Patient/VIP",
    "http://elsewhere/fhir/Patient/A",
    "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
    "Group/A",
    "Practitioner/A",
]
DEFINITIONS: dict[str, Any] = {
    "definitions": "model",
    "version": 1,
    "facts": {
        "mine": {"ask": "CareTeam?status=active", "take": "CareTeam.subject", "keep": "60s", "at_most": 9},
        "none": {"ask": "CareTeam?status=active", "take": "CareTeam.subject", "keep": "60s", "at_most": 9},
    },
    "claims": {
        name: {"path": path[0], "type": model.CLAIM_TYPES[name]} for name, path in model.CLAIM_PATHS.items()
    },
}


class World:
    """Draws from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._rules = 0

    def policies(self) -> list[dict[str, Any]]:
        """One or two policies, now and then one that is off."""
        return [
            self.policy([self.rule() for _ in range(self.random.randint(1, 4))], off=self.one_in(5))
            for _ in range(self.random.randint(1, 3))
        ]

    def policy(self, rules: list[dict[str, Any]], *, off: bool = False) -> dict[str, Any]:
        """A policy of these rules."""
        status = "off" if off else "enforce"
        self._rules += 1
        found: dict[str, Any] = {
            "policy": f"p{self._rules}", "version": 1, "owner": "o", "status": status, "text": "t", "rules": rules,
        }  # fmt: skip
        return {**found, "valid": self.pick(VALID)} if self.one_in(6) else found

    def rule(self, effect: str = "") -> dict[str, Any]:
        """A rule; of those that close, most look at the resource."""
        self._rules += 1
        rule: dict[str, Any] = {"rule": f"r{self._rules}", "because": "x"}
        rule["effect"] = effect or self.pick(["permit"] * 5 + ["deny", "require"])
        if self.one_in(3):
            rule["who"] = self._who()
        if self.one_in(6):
            rule["when"] = self.pick([{"network": self.pick(NETWORKS)}, self._hours(), self._hours()])
        rule["may"] = self.pick([["any"], ["any"], self.some(("read", "search", "create", "vread"), 3)])
        rule["resources"] = self.pick([list(model.PATIENT_TYPES), self.some(model.TYPES, 4)])
        where = self._where(rule["resources"])
        if where or (rule["effect"] != "permit" and self.one_in(6)):
            rule["where"] = where
        elif rule["effect"] != "permit":
            rule["where"] = {"ids": self.some(PATIENTS, 2)}
        if rule["effect"] == "permit" and (not where or self.one_in(2)):
            rule["shared"] = True
        if self.one_in(4):
            rule["conceal"] = True
        is_searched = rule["effect"] == "permit" and {"any", "search"} & set(rule["may"])
        if is_searched and self.one_in(3):
            rule["query"] = {"open": self.some([*model.OPENED, "_text"], 3)}
        if rule["may"] != ["create"] and self.one_in(3):
            self._limit_view(rule)
        return rule

    def asker(self) -> model.Asker:
        """Somebody with a question."""
        context = self.pick(["patient", "user", "user", "system"])
        claims = {name: self.pick(values) for name, values in CLAIMS.items() if not self.one_in(5)}
        if context == "patient":
            claims["patient"] = self.pick(PATIENTS)
        interaction = self.pick(["read", "search", "search", "vread", "create"])
        return model.Asker(
            context=context,
            scopes=tuple(self._scope() for _ in range(self.random.randint(1, 2))),
            claims=claims,
            client=self.pick(WORDS["client"]),
            bound=self.pick(WORDS["bound"]),
            peer=self.pick(["10.1.2.3", "10.2.0.1", "192.0.2.7"]),
            interaction=interaction,
            type=self.pick([*model.TYPES, "Observation", "Observation"]),
            id=self.pick(PATIENTS) if interaction in ("read", "vread") else None,
            facts=tuple((name, self._fact()) for name in ("mine", "none") if not self.one_in(6)),
            consents=tuple((id_, self.pick(["permit", "deny", "none", None])) for id_ in PATIENTS),
            now=self.pick(TIMES),
            words=tuple(self.some(model.OPENED, 2)) if interaction == "search" and self.one_in(4) else (),
        )

    def resource(self, asker: model.Asker) -> dict[str, Any]:
        """A resource that may be an answer to the question, or nearly."""
        type_ = self.pick(model.TYPES) if self.one_in(10) else asker.type
        id_ = self.pick(PATIENTS) if asker.id is None or self.one_in(10) else asker.id
        found: dict[str, Any] = {"resourceType": type_, "id": id_}
        if type_ in model.SUBJECT and not self.one_in(6):
            found["subject"] = self._references(2) if type_ == "Account" else self._reference()
        if type_ == "Observation" and self.one_in(2):
            found["performer"] = self._references(2)
        if type_ == "Condition" and self.one_in(4):
            found["asserter"] = self._reference()
        if type_ in ("Observation", "Condition") and not self.one_in(4):
            found["category"] = [{"coding": [{"code": code}]} for code in self.some(CODES, 2)]
        if type_ in ("Observation", "Account") and not self.one_in(3):
            found["status"] = self.pick(["final", "other"])
        if type_ in ("Organization", "Patient") and not self.one_in(3):
            found["identifier"] = [{"value": self.pick(["o1", "o2"])}]
        return found

    def pick(self, values: Any) -> Any:
        """One of values."""
        return self.random.choice(values)

    def some(self, values: Any, most: int) -> list[Any]:
        """One to most of values."""
        return self.random.sample(list(values), self.random.randint(1, min(most, len(values))))

    def one_in(self, number: int) -> bool:
        """True once in so many."""
        return self.random.randrange(number) == 0

    def _limit_view(self, rule: dict[str, Any]) -> None:
        """A view for a permit; a deny takes elements away in place of whole resources."""
        elements = [f"{type_}.{name}" for type_ in rule["resources"] for name in ELEMENTS[type_]]
        if rule["effect"] == "deny":
            own = [path.partition(".")[2] for path in elements] if len(rule["resources"]) == 1 else elements
            rule["fields"] = self.some(own, 3)
        elif rule["effect"] == "permit":
            kept = [f"{type_}.{self.pick(ELEMENTS[type_])}" for type_ in rule["resources"]]
            rule["return"] = self.pick(
                [
                    {"hide": self.some(elements, 3)},
                    {"only": kept},
                    {"only": kept, "hide": self.some(elements, 2)},
                ]
            )

    def _hours(self) -> dict[str, Any]:
        """Hours, days, or both, and now and then a network besides."""
        when: dict[str, Any] = {"zone": self.pick(ZONES)}
        if not self.one_in(4):
            when["hours"] = self.pick(HOURS)
        if "hours" not in when or self.one_in(2):
            when["days"] = self.some(DAYS, 5)
        return {**when, "network": self.pick(NETWORKS)} if self.one_in(5) else when

    def _who(self) -> dict[str, Any]:
        who: dict[str, Any] = {}
        for key in self.some(WORDS, 2):
            words = self.some(WORDS[key], 2)
            who[key] = {"not": words} if self.one_in(3) else words
        return who

    def _where(self, types: list[str]) -> dict[str, Any]:
        where: dict[str, Any] = {}
        if "Organization" not in types and self.one_in(2):
            patient = self.pick(
                [
                    self.some(PATIENTS, 3),
                    "{token.patient}",
                    "{token.patient}",
                    "{token.team}",
                    {"in": "$facts.mine"},
                    {"in": "$facts.none"},
                ]
            )
            where["compartment"] = {
                "patient": patient,
                "membership": self.pick(["subject", "subject", "spec", "all"]),
            }
        if self.one_in(3):
            named = types if self.one_in(2) else self.some(types, 4)
            where["match"] = {type_: self.pick(FILTERS[type_]) for type_ in named}
        if self.one_in(6):
            named = types if self.one_in(2) else self.some(types, 4)
            where["fhirpath"] = {type_: self.pick(STATEMENTS[type_]) for type_ in named}
        if self.one_in(6):
            where["ids"] = self.some(PATIENTS, 3)
        if self.one_in(6):
            where["consent"] = {"scope": "research", "decision": self.pick(["permit", "permit", "deny"])}
        return where

    def _fact(self) -> tuple[str, ...] | None:
        if self.one_in(4):
            return self.pick([None, ()])
        return tuple(f"Patient/{id_}" for id_ in self.some(PATIENTS, 3))

    def _scope(self) -> tuple[str, str, str]:
        if self.one_in(5):
            return "Observation", "rs", self.pick(SCOPE_FILTERS)
        type_ = "*" if self.one_in(2) else self.pick(["Observation", *model.TYPES])
        return type_, "cruds" if self.one_in(2) else self.pick(["cruds", "rs", "r", "s", "c"]), ""

    def _reference(self) -> dict[str, str]:
        return {"reference": self.pick(REFERENCES)}

    def _references(self, most: int) -> list[dict[str, str]]:
        return [self._reference() for _ in range(self.random.randint(1, most))]


def known_of(asker: model.Asker) -> Known:
    """The facts and consents of a question as the engine takes them."""
    known = Known()
    for name, values in asker.facts:
        known.facts[name] = Reason.FACTS_UNAVAILABLE if values is None else FactValues(frozenset(values))
    for patient, word in asker.consents:
        known.consents[patient] = None if word is None else _always(ConsentAnswer(Said(word)))
    return known


def _always(answer: ConsentAnswer) -> ConsentsOf:
    return lambda question: answer
