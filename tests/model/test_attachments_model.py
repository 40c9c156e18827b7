"""P7 for Binaries: the engine decides as a naive reading of `binary`, `cda` and "cda:ClinicalDocument" does.

The reading knows three truths: True, False and None (it cannot be told). A permit needs True, a require True, a deny is
escaped by False only.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cda.header import Code, Header, InstanceIdentifier
from gateway.policy.attachments import Content, SeenBinary
from gateway.policy.decision import Permit
from gateway.policy.engine import Engine
from tests.support.policies import BASES, HERE, ask, caller, load, policy, resource

ORDER = "ULMNRV"
NORMAL = "2.16.840.1.113883.5.25"
Truth = bool | None


@dataclass(frozen=True)
class Rule:
    """What a rule about Binaries asks."""

    effect: str
    through: bool
    patients: tuple[str, ...] | None
    status: str | None
    cda: bool
    of_patient: bool
    at_most: str | None
    unlabelled: str | None


@dataclass(frozen=True)
class World:
    """What was found out about one Binary. content: None unknown, 'other' no document, else label and patients."""

    known: bool
    via: tuple[tuple[str | None, str], ...]  # patient and status of each resource that leads to it
    content: Any


def written(number: int, rule: Rule) -> str:
    """The rule in the policy language."""
    where = []
    if rule.through:
        where.append("binary: {through: [DocumentReference]}")
    if rule.patients is not None:
        where.append(f"compartment: {{patient: {{in: [{', '.join(rule.patients)}]}}}}")
    if rule.status is not None:
        where.append(f"match: {{DocumentReference: 'status={rule.status}'}}")
    said = ["patient_from: recordTarget"] if rule.of_patient else []
    if rule.at_most is not None:
        said.append(f"confidentiality_at_most: {rule.at_most}")
        said.extend([f"unlabelled: {rule.unlabelled}"] if rule.unlabelled else [])
    if said:
        where.append(f"cda: {{{', '.join(said)}}}")
    named = ["'cda:ClinicalDocument'"] if rule.cda else []
    named += ["Binary"] if not rule.cda or rule.effect != "deny" else []
    kept = f", where: {{{', '.join(where)}}}" if where else ""
    shared = ", shared: true" if rule.effect == "permit" else ""
    return (
        f"rule: r{number}, effect: {rule.effect}, may: [read], resources: [{', '.join(named)}]{kept}{shared}"
    )


def naive(rules: list[Rule], world: World) -> bool:
    """Whether the Binary is shown."""
    truths = [(rule.effect, holds(rule, world)) for rule in rules]
    return (
        any(truth is True for effect, truth in truths if effect == "permit")
        and all(truth is True for effect, truth in truths if effect == "require")
        and all(truth is False for effect, truth in truths if effect == "deny")
    )


def holds(rule: Rule, world: World) -> Truth:
    looks_inside = rule.of_patient or rule.at_most is not None or (rule.cda and rule.effect == "deny")
    if not looks_inside and not rule.through:
        return True
    if not world.known or (looks_inside and world.content is None):
        return None
    label, patients = (None, ()) if world.content in (None, "other") else world.content
    if looks_inside and world.content == "other":
        return False
    if rule.at_most is not None:
        level = ORDER.index(label) if label in ORDER else 99
        if label == "":
            level = ORDER.index(rule.unlabelled) if rule.unlabelled else 99
        if level > ORDER.index(rule.at_most):
            return False
    if not rule.through:
        return True
    return any(
        (rule.patients is None or patient in rule.patients)
        and (rule.status is None or status == rule.status)
        and (not rule.of_patient or (patient is not None and patient in patients))
        for patient, status in world.via
    )


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    effect = draw(st.sampled_from(["permit", "permit", "require", "deny"]))
    if effect == "deny":
        return Rule("deny", False, None, None, True, False, None, None)
    through = draw(st.booleans())
    cda = draw(st.booleans())
    at_most = draw(st.sampled_from([None, "L", "N", "V"])) if cda else None
    of_patient = cda and through and draw(st.booleans())
    return Rule(
        effect,
        through,
        draw(st.sampled_from([None, ("A",), ("A", "B")])) if through else None,
        draw(st.sampled_from([None, "current", "superseded"])) if through else None,
        cda,
        of_patient,
        at_most,
        draw(st.sampled_from([None, "L", "N", "R"])) if at_most else None,
    )


worlds = st.builds(
    World,
    known=st.sampled_from([True, True, True, False]),
    via=st.lists(
        st.tuples(st.sampled_from(["A", "B", None]), st.sampled_from(["current", "superseded"])), max_size=3
    ).map(tuple),
    content=st.one_of(
        st.sampled_from([None, "other"]),
        st.tuples(
            st.sampled_from([*ORDER, "", "X"]),
            st.sampled_from([(), ("A",), ("B",), ("A", "B")]),
        ),
    ),
)


def binary(world: World) -> dict[str, Any]:
    """The Binary of a world as the judge gets it."""
    members = resource("Binary")
    if not world.known:
        return members
    via = [
        resource(
            "DocumentReference", f"d{number}", status=status, subject=patient or {"reference": "Group/g"}
        )
        for number, (patient, status) in enumerate(world.via)
    ]
    if world.content is None:
        return SeenBinary(members, via)
    if world.content == "other":
        return SeenBinary(members, via, Content(None))
    label, patients = world.content
    code = Code(label, NORMAL) if label else None
    header = Header(((InstanceIdentifier("1.2", "x"),),), code)
    return SeenBinary(members, via, Content(header, frozenset(patients)))


@settings(max_examples=400, deadline=None)
@given(st.lists(rules(), min_size=1, max_size=4), worlds)
def test_P7_the_engine_decides_as_the_naive_reading(given_rules: list[Rule], world: World) -> None:
    text = policy(*(written(number, rule) for number, rule in enumerate(given_rules)))
    engine = Engine(load(text), bases=BASES)
    decision = engine.decide(ask("GET /Binary/x"), caller("user"), HERE)
    shown = (
        isinstance(decision, Permit) and decision.judge is not None and decision.judge(binary(world)).shown
    )
    assert shown is naive(given_rules, world)
