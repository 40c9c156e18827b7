"""P3 for searches: what a chain, `_has` or include answers hangs on nothing that a single read would not show.

Random worlds of patients and what is about them. The same search is put to two stores that differ in one resource
which the caller may not read; the answers must be the same, entry by entry. The store honours every criterion, chains
and includes too, and is written here by brute force: it shares no code with the gateway.
"""

import random
from typing import Any

from gateway.policy.decision import Permit
from gateway.policy.engine import Engine
from gateway.proxy.answers.connections import Connections
from tests.model.seeds import over_seeds
from tests.support.policies import BASES, HERE, ask, caller, load, policy

Resource = dict[str, Any]
WORLDS = over_seeds(400)
PATIENTS = ("A", "B", "C")
REFERENCES = {  # type → parameter → element, and the types that it may refer to
    "Observation": {
        "subject": ("subject", ("Patient",)),
        "patient": ("subject", ("Patient",)),
        "performer": ("performer", ("Patient", "Practitioner")),
        "encounter": ("encounter", ("Encounter",)),
        "focus": ("focus", ("Patient", "Practitioner")),
    },
    "Encounter": {"patient": ("subject", ("Patient",)), "participant": ("_participant", ("Practitioner",))},
    "Patient": {"general-practitioner": ("generalPractitioner", ("Practitioner",)), "link": ("_link", ("Patient",))},
    "Practitioner": {},
}  # fmt: skip
PLAIN = {"Observation": "status", "Encounter": "status", "Patient": "gender", "Practitioner": "gender"}
WORDS = {"status": ("final", "finished"), "gender": ("male", "female")}
RULES = (
    "rule: own{n}, effect: permit, may: [read, search], resources: [{types}], where: {{compartment: "
    '{{patient: "{{token.patient}}", membership: {membership}}}}}, {query}',
    "rule: all{n}, effect: permit, may: [read, search], resources: [{types}], shared: true, {query}",
    "rule: some{n}, effect: permit, may: [read, search], resources: [{types}], where: {{ids: [{ids}]}}, {query}",
    "rule: read{n}, effect: permit, may: [read], resources: [{types}], shared: true",
    "rule: filter{n}, effect: permit, may: [read, search], resources: [Observation], "
    "where: {{match: {{Observation: status=final}}}}, {query}",
    "rule: deny{n}, effect: deny, may: [{may}], resources: [{types}], where: {{ids: [{ids}]}}",
)  # fmt: skip


class Draw:
    """A world, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def some(self, values: Any, most: int = 3) -> str:
        return ", ".join(self.random.sample(list(values), self.random.randint(1, min(most, len(values)))))

    def engine(self) -> Engine:
        query = "query: {include: any-permitted, chain_depth: 3}"
        rules = []
        for n in range(self.random.randint(2, 5)):
            form = self.pick(RULES[:2] if n < 2 else RULES)
            outside = "own" in form
            types = self.some(sorted(REFERENCES.keys() - ({"Practitioner"} if outside else set())), 4)
            if outside and self.random.random() < 0.5:
                types = "Patient, Observation, Encounter"
            rules.append(form.format(
                n=n, types=types, ids=self.some(("A", "B", "x1", "x2", "x3")), query=query,
                may=self.pick(["any", "read", "search"]), membership=self.pick(["subject", "subject", "spec", "all"]),
            ))  # fmt: skip
        return Engine(load(policy(*rules)), bases=BASES)

    def resource(self, type_: str, id_: str) -> Resource:
        found: Resource = {"resourceType": type_, "id": id_, PLAIN[type_]: self.pick(WORDS[PLAIN[type_]])}
        for element, targets in set(REFERENCES[type_].values()):
            if self.random.random() < 0.7:
                self._refer(found, element, self.pick(targets))
        return found

    def _refer(self, found: Resource, element: str, target: str) -> None:
        id_ = self.pick(PATIENTS if target == "Patient" else ("x1", "x2"))
        reference = {"reference": f"{target}/{id_}"}
        if element == "_participant":
            found["participant"] = [{"individual": reference}]
        elif element == "_link":
            found["link"] = [{"other": reference, "type": "seealso"}]
        else:
            found[element] = reference if element in ("subject", "encounter") else [reference]

    def store(self) -> list[Resource]:
        world = [self.resource("Patient", id_) for id_ in PATIENTS]
        for type_ in ("Observation", "Encounter", "Practitioner"):
            world += [self.resource(type_, f"x{n}") for n in (1, 2, 3)]
        return world

    def chain(self, type_: str, depth: int) -> str:
        """A criterion on a type that follows up to depth references."""
        if not depth or not (REFERENCES[type_] or self.random.random() < 0.5):
            return PLAIN[type_]
        if self.random.random() < 0.5 or not REFERENCES[type_]:
            naming = [
                (source, code)
                for source, codes in REFERENCES.items()
                for code, (_, targets) in codes.items()
                if type_ in targets
            ]
            if naming:
                source, code = self.pick(naming)
                return f"_has:{source}:{code}:{self.chain(source, depth - 1)}"
        if not REFERENCES[type_]:
            return PLAIN[type_]
        code = self.pick(sorted(REFERENCES[type_]))
        target = self.pick(REFERENCES[type_][code][1])
        return f"{code}:{target}.{self.chain(target, depth - 1)}"

    def search(self) -> str:
        type_ = self.pick(sorted(REFERENCES))
        if self.random.random() < 0.3:
            naming = [f"_include={type_}:{code}" for code in REFERENCES[type_]]
            naming += [
                f"_revinclude={source}:{code}"
                for source, codes in REFERENCES.items()
                for code, (_, targets) in codes.items()
                if type_ in targets
            ]
            return f"GET /{type_}?{self.pick(sorted(naming))}"
        name = self.chain(type_, self.pick([1, 1, 1, 2]))
        word = self.pick(WORDS["gender" if name.endswith("gender") else "status"])
        return f"GET /{type_}?{name}={word}"


def referred(resource: Resource, code: str) -> list[str]:
    element = REFERENCES[resource["resourceType"]][code][0]
    if element == "_participant":
        return [each["individual"]["reference"] for each in resource.get("participant", [])]
    if element == "_link":
        return [each["other"]["reference"] for each in resource.get("link", [])]
    value = resource.get(element, [])
    return [each["reference"] for each in (value if isinstance(value, list) else [value])]


def key(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def meets(resource: Resource, name: str, value: str, world: list[Resource]) -> bool:
    """One criterion, by brute force."""
    type_ = resource["resourceType"]
    if name.startswith("_has:"):
        _, source, code, rest = name.split(":", 3)
        return any(
            r["resourceType"] == source
            and key(resource) in referred(r, code)
            and meets(r, rest, value, world)
            for r in world
        )
    head, dot, rest = name.partition(".")
    if dot:
        code, _, target = head.partition(":")
        return any(
            r["resourceType"] == target
            and key(r) in referred(resource, code)
            and meets(r, rest, value, world)
            for r in world
        )
    wanted = value.split(",")
    if name == "_id":
        return resource["id"] in wanted
    if name in REFERENCES[type_]:
        return any(each in referred(resource, name) for each in wanted)
    return resource.get(name) in wanted


def answer(permit: Permit, world: list[Resource]) -> list[str]:
    """What reaches the caller from a store that holds this world."""
    assert permit.judge is not None
    terms = [t for t in permit.request.terms if t.code not in ("_include", "_revinclude")]
    matches = [
        r
        for r in world
        if r["resourceType"] == permit.request.type and all(meets(r, t.name, t.text, world) for t in terms)
    ]
    shown = [r for r in matches if permit.judge(r).shown]
    out = [f"{key(r)} {r}" for r in shown]
    if permit.included is not None:
        connections = Connections(permit.included.includes, BASES)
        for r in shown:
            connections.shown(r, depth=0)
        # The store includes what its matches lead to, the hidden ones among them.
        for r in found_beside(permit, matches, world):
            judge = permit.included.judges.get(r["resourceType"])
            if judge is not None and judge(r).shown and connections.depth(r) is not None:
                out.append(f"include {key(r)} {r}")
    return out


def found_beside(permit: Permit, matches: list[Resource], world: list[Resource]) -> list[Resource]:
    """What a store includes, by brute force."""
    assert permit.included is not None
    found = []
    for include in permit.included.includes:
        for match in matches:
            if include.reverse:
                naming = [r for r in world if r["resourceType"] == include.source]
                found += [r for r in naming if key(match) in referred(r, include.code)]
            else:
                found += [r for r in world if key(r) in referred(match, include.code)]
    return [r for r in world if r in found]


def sees(engine: Engine, who: Any, resource: Resource) -> bool:
    """Whether a plain read or a plain search shows the resource: a rule may permit either without the other."""
    return reads(engine, who, resource, f"GET /{key(resource)}") or reads(
        engine, who, resource, f"GET /{resource['resourceType']}"
    )


def reads(engine: Engine, who: Any, resource: Resource, by: str) -> bool:
    found = engine.decide(ask(by), who, HERE)
    return isinstance(found, Permit) and found.judge is not None and found.judge(resource).shown


_seen = {"permitted": 0, "compared": 0}


@WORLDS
def test_P3_a_search_tells_nothing_of_what_a_read_would_hide(seed: int) -> None:
    draw = Draw(seed)
    engine = draw.engine()
    context = draw.pick(["patient", "patient", "user"])
    who = caller(context, patient="A")
    for _ in range(12):
        found = engine.decide(ask(draw.search()), who, HERE)
        if not isinstance(found, Permit):
            continue
        _seen["permitted"] += 1
        world = draw.store()
        before = answer(found, world)
        for line in before:
            name = line.removeprefix("include ").partition(" ")[0]
            (shown,) = [r for r in world if key(r) == name]
            if line.startswith("include "):
                assert reads(engine, who, shown, f"GET /{name}"), (seed, name)
            assert sees(engine, who, shown), (seed, name)
        for number, old in enumerate(world):
            new = draw.resource(old["resourceType"], old["id"])
            if sees(engine, who, old) or sees(engine, who, new):
                continue
            _seen["compared"] += 1
            changed = [*world[:number], new, *world[number + 1 :]]
            assert answer(found, changed) == before, (seed, key(old))
            removed = [*world[:number], *world[number + 1 :]]
            assert answer(found, removed) == before, (seed, key(old))


def test_the_worlds_hold_permitted_joins_and_hidden_resources() -> None:
    if not _seen["permitted"]:  # in a process that has not played it
        test_P3_a_search_tells_nothing_of_what_a_read_would_hide()
    assert _seen["permitted"] > 200
    assert _seen["compared"] > 500
