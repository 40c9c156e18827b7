"""Consents as one caller asks them beside the plain reading: what is kept for likenesses is what each resource is told.

The plain reading asks every provision in all of its elements, for every resource. The worlds are hostile on purpose:
labels without a system, concepts in words, visits in words, people who cannot be told, periods that meet at an end,
exceptions to exceptions, what nobody understands, and resources nested deeper than anybody reads.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import pytest

from gateway.consents import asking, elements, provisions
from gateway.consents import consents as consents_module
from gateway.consents.asking import Asking, finished
from gateway.consents.consent import SCOPES, ConsentAnswer, ConsentQuestion, ConsentReading, Said
from gateway.consents.consents import PatientConsents
from gateway.consents.given import Given, read_consent
from gateway.consents.provisions import Provision
from gateway.consents.resource_facts import ResourceFacts, facts_of
from gateway.fhir.labels import ACT_CODE, CONFIDENTIALITY, ORDER
from tests.model.seeds import over_seeds

NOW = int(datetime(2027, 6, 1, tzinfo=UTC).timestamp())
PRIVACY = (SCOPES, "patient-privacy")
READING = ConsentReading(unlabelled=ORDER.index("N"))
READINGS = (READING, replace(READING, opt_out=frozenset({PRIVACY})), ConsentReading())
TYPES = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
Json = dict[str, Any]


class Plain(PatientConsents):
    """Every provision of every consent is asked for each resource, in all of its elements."""

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        own = [each for each in self.given if question.scope in each.scopes]
        told = [(each, each.spoken(question, now, self._reading)) for each in own]
        return finished(self._combined(question, now, told))


class Draw:
    """Consents and resources of a small world in which names meet often."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def maybe(self, share: float) -> bool:
        return self.random.random() < share

    def some(self, choices: Sequence[Any], most: int = 3) -> list[Any]:
        return self.random.sample(choices, self.random.randint(1, min(most, len(choices))))

    def date(self) -> str:
        year = self.random.randint(2020, 2023)
        return self.random.choice(
            [str(year), f"{year}-06", f"{year}-06-15", f"{year}-06-15T10:00:00Z", "soon"]
        )

    def period(self) -> Json:
        found: Json = {"start": self.date(), "end": self.date(), "id": "x"}
        return {name: value for name, value in found.items() if self.maybe(0.85)}

    def label(self) -> Json:
        system = self.random.choice([CONFIDENTIALITY, ACT_CODE, ACT_CODE, "", "urn:other"])
        codes = ["X", "Y"] if system == "urn:other" else [*"UNRV", "PSY", "HIV", "ETH", "ETHUD", "BH", "SUD"]
        code = self.random.choice(codes)
        return {"system": system, "code": code} if system or self.maybe(0.5) else {"code": code}

    def coding(self) -> Json:
        system = self.random.choice([LOINC, LOINC, "urn:own", None])
        return {"code": self.random.choice("1234")} | ({} if system is None else {"system": system})

    def concept(self) -> Json:
        return (
            {"text": "words"}
            if self.maybe(0.15)
            else {"coding": [self.coding() for _ in range(1 if self.maybe(0.7) else 2)]}
        )

    def place(self) -> str:
        return self.random.choice(
            ["Observation/o", "Observation/p", "Encounter/e", "Encounter/f", "EpisodeOfCare/c", "CarePlan/c",
             "Practitioner/p", "Organization/h", "PractitionerRole/r", "Condition/o"]
        )  # fmt: skip

    def element(self, name: str) -> Any:
        if name == "dataPeriod":
            return self.period()
        found: list[Any]
        if name == "actor":
            people = ["Practitioner/p", "Practitioner/q", "Organization/h", "Group/g"]
            found = [{"reference": {"reference": each}} for each in self.some(people)]
        elif name == "class":
            pairs = [(TYPES, "Observation"), (TYPES, "Composition"), (LOINC, "1"), (LOINC, "2"), ("x", "1")]
            found = [{"system": system, "code": code} for system, code in self.some(pairs)]
        elif name == "data":
            meanings = ["instance", "related", "dependents", "authoredby"]
            found = [
                {"meaning": self.random.choice(meanings), "reference": {"reference": self.place()}}
                for _ in range(self.random.randint(1, 3))
            ]
        elif name == "securityLabel":
            found = [self.label() for _ in range(self.random.randint(1, 3))]
        elif name == "code":
            found = [self.concept() for _ in range(self.random.randint(1, 3))]
        elif name == "action":
            found = [{"coding": [{"code": each}]} for each in self.some(["access", "correct"], 2)]
        else:
            found = [{"code": each} for each in self.some(["TREAT", "HRESCH"], 2)]
        return [*found, {"display": "broken"}] if self.maybe(0.08) else found

    def provision(self, depth: int = 0) -> Json:
        found: Json = {"type": self.random.choice(["permit", "deny"])}
        names = ["securityLabel", "data", "code", "class", "dataPeriod", "securityLabel", "data"]
        names = [*names, "actor", "purpose", "action"]
        for name in self.random.sample(names, self.random.choice([0, 1, 1, 2, 3])):
            found[name] = self.element(name)
        if self.maybe(0.2):
            found["period"] = {
                "start": str(self.random.randint(2025, 2028)),
                "end": str(self.random.randint(2027, 2029)),
            }
        if self.maybe(0.05):
            found["modifierExtension"] = [{"url": "urn:odd"}]
        for _ in range(
            self.random.choice([0, 1, 2, 5])
            if depth == 0
            else self.random.choice([0, 0, 1])
            if depth < 4
            else 0
        ):
            found.setdefault("provision", []).append(self.provision(depth + 1))
        return found

    def consents(self) -> list[Json]:
        return [self.consent(f"c{number}") for number in range(self.random.choice([1, 2, 4, 8]))]

    def consent(self, id_: str) -> Json:
        found: Json = {
            "id": id_,
            "status": self.random.choice(["active"] * 6 + ["inactive"]),
            "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
            "provision": self.provision(),
        }
        if self.maybe(0.7):
            found["dateTime"] = str(self.random.randint(2023, 2028))
            found["performer"] = [{"reference": "Patient/A"}]
            found["policy"] = [{"uri": self.random.choice(["urn:one", "urn:two"])}]
        if self.maybe(0.2):
            found["policyRule"] = {"coding": [{"code": self.random.choice(["OPTIN", "OPTOUT"])}]}
        return found

    def resource(self) -> Json:
        found: Json = {"resourceType": self.random.choice(["Observation"] * 3 + ["Composition", "Patient"])}
        if self.maybe(0.9):
            found["id"] = self.random.choice("op")
        if self.maybe(0.7):
            found["meta"] = {"security": [self.label() for _ in range(self.random.randint(0, 3))]}
        if self.maybe(0.05):
            found["meta"] = {"security": ["unreadable"]}
        if self.maybe(0.8):
            found["effectiveDateTime"] = self.date()
        if self.maybe(0.3):
            found["effectivePeriod"] = self.period()
        if self.maybe(0.6):
            count = self.random.randint(1, 2)
            people = [
                {"reference": self.place()} if self.maybe(0.8) else {"display": "Dr"} for _ in range(count)
            ]
            found["performer"] = people
        if self.maybe(0.6):
            found["encounter"] = {"reference": self.place()} if self.maybe(0.7) else {"display": "a visit"}
        if self.maybe(0.2):
            found["focus"] = [{"identifier": {"value": "1"}}]
        if self.maybe(0.8):
            found["code"] = self.concept()
        if self.maybe(0.4):
            found["component"] = [{"code": self.concept()}]
        if self.maybe(0.02):
            for _ in range(70):
                found = {**found, "extension": [{"url": "urn:x", "extension": found.get("extension", [])}]}
        return found

    def question(self) -> ConsentQuestion:
        names = ["Practitioner/p", "Practitioner/q", "Organization/h"]
        actors = None if self.maybe(0.1) else frozenset(self.some(names))
        purposes = frozenset(["TREAT"] if self.maybe(0.8) else [])
        type_ = self.random.choice(["Observation"] * 3 + ["Composition", "Patient"])
        return ConsentQuestion(PRIVACY, actors, purposes, type_, None, self.maybe(0.2))


@pytest.fixture(autouse=True)
def always_by_likeness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asking, "few", 0)


class EveryCombination(Given):
    """Whatever of what hangs on the resource is met is looked at, one combination after the other."""

    def _may(self, sure: Sequence[Provision], hanging: Sequence[Provision]) -> frozenset[Said]:
        some = (chosen for count in range(len(hanging) + 1) for chosen in combinations(hanging, count))
        return frozenset(self._said([*sure, *chosen]) for chosen in some)


@over_seeds(1500)
def test_what_may_be_said_is_what_some_combination_says(seed: int) -> None:
    """Without a resource, of which it then is not known what is met; exceptions may go round in a circle."""
    draw = Draw(seed)
    value = draw.consent("c")
    value["provision"]["provision"] = [draw.provision(1) for _ in range(draw.random.randint(1, 4))]
    given = read_consent(value | {"status": "active"}, READING)
    every = EveryCombination(**{f.name: getattr(given, f.name) for f in fields(Given)})
    for _ in range(4):
        provisions = list(given.provisions)
        draw.random.shuffle(provisions)
        at = draw.random.randint(0, len(provisions))
        sure, hanging = provisions[:at], provisions[at : at + 8]
        assert given._may(sure, hanging) == every._may(sure, hanging), (seed, sure, hanging)


class WithoutLikenesses(PatientConsents):
    """Every provision that is left for the caller is asked for each resource."""

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        asking = finished(self._made(replace(question, resource=None), now))
        told = [(one, spoken) for one, spoken, _ in asking._plainly(question, now)]
        return finished(self._combined(question, now, told))


def outcome(consents: PatientConsents, question: ConsentQuestion, now: int) -> ConsentAnswer | None:
    """The answer; None where the resource is nested too deep for one of the elements that are asked."""
    try:
        return consents.answer(question, now)
    except ValueError:
        return None


def outcome_in_steps(consents: PatientConsents, question: ConsentQuestion, now: int) -> ConsentAnswer | None:
    """The same, where what takes long is found in steps first."""
    for _ in consents.finding(question, now) or ():
        pass
    return outcome(consents, question, now)


@over_seeds(300)
def test_of_a_thousand_resources_each_is_told_what_the_plain_reading_tells(seed: int) -> None:
    draw = Draw(seed)
    values = draw.consents()
    for reading in READINGS:
        kept, plain = PatientConsents(values, reading), Plain(values, reading)
        one_by_one = WithoutLikenesses(values, reading)
        in_steps = PatientConsents(values, reading)
        in_steps.is_long = True
        for _ in range(3):
            question = draw.question()
            for now in (NOW, NOW + 300 * 86400, NOW):
                for _ in range(6):
                    facts = facts_of(draw.resource(), frozenset())
                    put = replace(question, resource=facts)
                    expected = outcome(plain, put, now)
                    if expected is None:  # by an element that says nothing beside one that is not met
                        expected = outcome(one_by_one, put, now)
                    assert outcome(kept, put, now) == expected, (seed, put, facts.resource)
                    assert outcome_in_steps(in_steps, put, now) == expected, (seed, put, facts.resource)
                for put in (question, replace(question, type=None)):
                    assert outcome(kept, put, now) == outcome(plain, put, now), (seed, put)
                    assert outcome_in_steps(in_steps, put, now) == outcome(plain, put, now), (seed, put)


def test_the_worlds_say_every_word_and_meet_likenesses_again() -> None:
    seen: Counter[str] = Counter()
    likenesses = resources = 0
    for seed in range(200):
        draw = Draw(seed)
        kept, question = PatientConsents(draw.consents(), READING), draw.question()
        for _ in range(40):
            found = outcome(kept, replace(question, resource=facts_of(draw.resource(), frozenset())), NOW)
            seen["too deep" if found is None else f"{found.said} {found.why}"] += 1
        resources += 40
        likenesses += sum(len(each.answers) for each in kept._asking.values())
    assert seen.keys() >= {
        "permit provision",
        "permit exception",
        "deny doubt",
        "deny exception",
        "none silent",
    }
    assert min(seen.values()) > 20, seen
    assert 500 < likenesses < 0.8 * resources


# What it costs: counted are the elements that are asked, and never a time.


def large(count: int, **makers: Any) -> list[Json]:
    """A hundred provisions a consent, all of them about the caller, with what the number of each makes of elements."""
    inner = [
        {"type": "deny", **{name: make(number) for name, make in makers.items()}} for number in range(count)
    ]
    return [
        {
            "id": f"c{start}", "status": "active", "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
            "provision": {
                "type": "permit", "actor": [{"reference": {"reference": "Practitioner/p"}}],
                "provision": inner[start : start + 90],
            },
        }
        for start in range(0, count, 90)
    ]  # fmt: skip


def observation(number: int) -> ResourceFacts:
    return facts_of(
        {
            "resourceType": "Observation", "id": f"o{number}",
            "code": {"coding": [{"system": LOINC, "code": f"{number}-1"}]},
            "encounter": {"reference": f"Encounter/e{number}"}, "effectiveDateTime": "2026-01-01",
            "meta": {"security": [{"system": ACT_CODE, "code": "PSY"}]},
        },
        frozenset(),
    )  # fmt: skip


NAMING: dict[str, dict[str, Any]] = {
    "the caller alone": {},
    "labels": {"securityLabel": lambda number: [{"system": ACT_CODE, "code": f"S{number}"}]},
    "data": {"data": lambda number: [{"meaning": "instance", "reference": {"reference": f"Observation/o{number}"}}]},
    "visits": {"data": lambda number: [{"meaning": "related", "reference": {"reference": f"Encounter/e{number}"}}]},
    "codes": {"code": lambda number: [{"coding": [{"system": LOINC, "code": f"{number}-1"}]}]},
    "periods": {"dataPeriod": lambda number: {"start": str(1000 + number), "end": str(1000 + number)}},
}  # fmt: skip
QUESTION = ConsentQuestion(PRIVACY, frozenset({"Practitioner/p"}), frozenset({"TREAT"}), "Observation")


@pytest.mark.parametrize("naming", NAMING)
def test_a_resource_is_judged_by_as_many_elements_of_a_thousand_provisions_as_of_a_hundred(
    naming: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    plainly = elements.met

    def met(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return plainly(*args)

    monkeypatch.setattr(provisions, "met", met)
    cost = {}
    for count in (90, 900):
        consents = PatientConsents(large(count, **NAMING[naming]), READING)
        consents.answer(replace(QUESTION, resource=observation(2000)), NOW)  # whom nobody names
        asked = 0
        for number in range(20):
            found = consents.answer(replace(QUESTION, resource=observation(number)), NOW)
            assert found.said is (
                Said.DENY if naming in ("the caller alone", "data", "visits", "codes") else Said.PERMIT
            )
        cost[count] = asked
    assert cost[900] <= cost[90] <= 20 * 91, cost


def test_a_caller_who_comes_back_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for a caller is kept with the reading of the version: another request, another day has it."""
    values = large(90, **NAMING["data"])
    given = PatientConsents(values, READING).given
    PatientConsents(given, READING).answer(replace(QUESTION, resource=observation(1)), NOW)
    monkeypatch.setattr(provisions, "met", lambda *args: pytest.fail("an element was asked again"))
    again = PatientConsents(given, READING)
    assert again.answer(replace(QUESTION, resource=observation(1)), NOW + 86400).said is Said.DENY


def test_what_is_kept_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_MOST_ANSWERS", 5)
    consents = PatientConsents(large(20, **NAMING["data"]), READING)
    for number in range(40):
        for caller in range(3):
            put = replace(
                QUESTION,
                actors=frozenset({f"Practitioner/{caller}", "Practitioner/p"}),
                resource=observation(number),
            )
            assert consents.answer(put, NOW).said is (Said.DENY if number < 20 else Said.PERMIT)
    for caller in range(20):
        consents.answer(replace(QUESTION, actors=frozenset({f"Practitioner/{caller}"})), NOW)
    assert all(len(each.answers) <= 5 for each in consents._asking.values())
    assert len(consents._asking) <= 16
    assert all(len(each.lefts) <= 8 for each in consents.given)


# In turns


MANY = {
    **{naming: large(900, **makers) for naming, makers in NAMING.items()},
    "one by one": [
        {
            **value, "id": f"c{number}", "dateTime": str(2000 + number % 20), "performer": [{"reference": "Patient/A"}],
            "policy": [{"uri": "urn:one"}],
            "provision": value["provision"] | {"provision": value["provision"]["provision"][:1]},
        }
        for number, value in enumerate(large(90, **NAMING["codes"]) * 900)
    ],
    "no provisions": [
        {
            "id": f"c{number}", "status": "active",
            "scope": {"coding": [{"system": SCOPES, "code": "patient-privacy"}]},
            "policyRule": {"coding": [{"code": "OPTOUT"}]}, "dateTime": str(2000 + number % 20),
            "performer": [{"reference": "Patient/A"}],
        }
        for number in range(900)
    ],
}  # fmt: skip
"""Patients of whom a thousand provisions or consents are asked."""


@pytest.mark.parametrize("many", MANY)
def test_of_a_thousand_provisions_no_step_asks_more_than_one_consent_has(
    many: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each step says as how many it counts; who is asked then asks none."""
    done = 0

    def counted(asked: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **more: Any) -> Any:
            nonlocal done
            done += 1
            return asked(*args, **more)

        return counting

    monkeypatch.setattr(Provision, "_open", counted(Provision._open))
    monkeypatch.setattr(Given, "_basis", counted(Given._basis))
    consents = PatientConsents(MANY[many], READING)
    assert consents.is_long
    for put in (
        *(replace(QUESTION, resource=observation(number)) for number in (2000, 1, 2, 2000)),
        QUESTION,
        replace(QUESTION, type=None),
        replace(QUESTION, actors=None),
    ):
        plain = Plain(MANY[many], READING).answer(put, NOW)
        done = 0
        for said in consents.finding(put, NOW) or ():
            assert done <= said <= 101
            done = 0
        assert done <= 1
        assert consents.finding(put, NOW) is None
        done = 0
        assert consents.answer(put, NOW) == plain
        assert done == 0


def test_few_consents_are_asked_at_once() -> None:
    consents = PatientConsents(large(90, **NAMING["codes"]), READING)
    assert not consents.is_long
    assert consents.finding(replace(QUESTION, resource=observation(1)), NOW) is None


@over_seeds(300)
def test_who_has_agreed_since_is_found_as_by_comparing_each_with_each(seed: int) -> None:
    draw = Draw(seed)
    values = [
        draw.consent(f"c{number}") | {"status": "active", "dateTime": draw.date()} for number in range(12)
    ]
    question = draw.question()
    pairs = [
        (each, each.spoken(question, NOW, READING)) for each in (read_consent(v, READING) for v in values)
    ]
    lines: dict[Any, Any] = {}
    consents_module._note_lines(lines, pairs, NOW)
    for one, mine in pairs:
        later = [
            their.may
            for each, their in pairs
            if each.is_later_than(one)
            and each.moment is not None
            and each.moment[0] <= provisions.microseconds(NOW)
        ]
        may = set(mine.may)
        if Said.DENY in may and later:
            may.add(Said.NONE)
            if any(Said.NONE not in their for their in later):
                may.discard(Said.DENY)
        assert consents_module._beside(one, mine, lines.get(one.line)).may == may, seed


def test_of_a_hundred_provisions_with_eight_open_every_combination_costs_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A denial that is sure and has a denial for its exception: no combination permits, and all are looked at."""
    label = [{"system": ACT_CODE, "code": "PSY"}]
    action = [{"coding": [{"code": "access"}]}]
    codes = [{"type": "deny", "code": [{"coding": [{"code": str(number)}]}]} for number in range(7)]
    inner = [
        {"type": "deny", "action": action},
        {"type": "deny", "action": action, "securityLabel": label},
        {"type": "permit", "purpose": [{"code": "TREAT"}]},
        *codes,
        *[{"type": "permit", "actor": [{"reference": {"reference": "Practitioner/p"}}]} for _ in range(85)],
    ]
    value = large(1)[0]
    given = read_consent({**value, "provision": {"type": "permit", "provision": inner}}, READING)
    every = EveryCombination(**{f.name: getattr(given, f.name) for f in fields(Given)})
    left = given.left(QUESTION, NOW, READING)
    asked = 0
    deciding = Given._deciding

    def counting(self: Given, speaking: Sequence[Provision]) -> list[Provision]:
        nonlocal asked
        asked += 1
        return deciding(self, speaking)

    monkeypatch.setattr(Given, "_deciding", counting)
    said = given.spoken(QUESTION, NOW, READING, left.asked)
    assert len(said.open) == 8
    assert asked == 1
    assert said.may == every.spoken(QUESTION, NOW, READING, left.asked).may
    assert asked > 200
