"""Emergency access (`break_glass`): which patient a request names, and whether its reason is one.

A rule with break_glass opens nothing by itself: the request must be a reading one, name exactly one patient, and give
a reason, or the same access must be under way. What it opens is of that one patient.
"""

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from gateway.fhir.compartment import in_compartment, subject_parameter
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import Reason
from gateway.policy.conditions import Condition, all_of, compartment_condition
from gateway.policy.decision import Deny, Resource
from gateway.policy.obligations import READING, BreakGlass, Emergency, EmergencyAccess, Obligations, united
from gateway.policy.rules import Rule

# Control characters, invisible and reversing ones, line and paragraph separators, halves of surrogates, and what no
# version of Unicode has given a meaning: none of them has a place in a sentence, and each could forge a line of a log.
_NO_TEXT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(slots=True)
class Glasses:
    """The rules of emergency access that match one request: those that it opens, and what it lacks for the others."""

    asked: FhirRequest
    emergency: Emergency | None
    bases: frozenset[str]
    opened: dict[str, EmergencyAccess] = field(default_factory=dict)
    sealed: list[tuple[Rule, Reason]] = field(default_factory=list)

    def condition(self, rule: Rule, type_: str, condition: Condition) -> Condition | None:
        """The condition of a permit: of emergency access that of one patient besides; None where it stays closed."""
        if rule.break_glass is None:
            return condition
        if self.emergency is None:
            return None
        found = opens(rule.id, rule.break_glass, self.asked, self.emergency, self.bases)
        if isinstance(found, Reason):
            self.sealed.append((rule, found))
            return None
        self.opened[rule.id] = found
        own = compartment_condition(type_, frozenset({found.patient}), "subject", self.bases)
        return all_of([condition, own])

    def shows(self, rule: Rule) -> bool:
        """Whether a permit has a say in what is seen: emergency access only where it was opened."""
        return rule.break_glass is None or rule.id in self.opened

    def refusal(self) -> Deny | None:
        """What the request lacks; None where no rule of emergency access is about it."""
        if not self.sealed:
            return None
        reason = min((reason for _, reason in self.sealed), key=list(Reason).index)
        named = tuple(rule.id for rule, _ in self.sealed)
        return Deny(reason, named, "; ".join(f"{rule.id}: {rule.because}" for rule, _ in self.sealed))

    def obligations(self, permits: Iterable[Rule]) -> Obligations:
        """What these permits oblige to."""
        rules = list(permits)
        opened = tuple(self.opened[rule.id] for rule in rules if rule.id in self.opened)
        return united(((rule.id, rule.then) for rule in rules), opened)


def opens(
    rule: str, glass: BreakGlass, asked: FhirRequest, emergency: Emergency, bases: Collection[str]
) -> EmergencyAccess | Reason:
    """The access that a rule gives, or what the request lacks."""
    patient = one_patient(asked, bases)
    if patient is None:
        return Reason.BREAK_GLASS_NEEDS_ONE_PATIENT
    if (rule, patient) in emergency.under_way:
        return EmergencyAccess(rule, patient, glass.lasts_seconds, None)
    if emergency.reason is None or not is_reason(emergency.reason, glass):
        return Reason.BREAK_GLASS_NEEDS_REASON
    return EmergencyAccess(rule, patient, glass.lasts_seconds, emergency.reason)


def has_opened(
    rule: Rule,
    asked: FhirRequest,
    resource: Resource | None,
    emergency: Emergency | None,
    bases: frozenset[str],
) -> bool | None:
    """Whether a rule gives emergency access to what is stored; None where that takes a resource. For explanations."""
    if rule.break_glass is None or emergency is None:
        return False
    found = opens(rule.id, rule.break_glass, asked, emergency, bases)
    if isinstance(found, Reason):
        return False
    if resource is None:
        return None
    return in_compartment(resource, frozenset({found.patient}), membership="subject", bases=bases)


def is_reason(text: str, glass: BreakGlass) -> bool:
    """Whether a text may stand as the reason: of the right length, letters and signs only, no blanks around it."""
    return (
        glass.reason_at_least <= len(text) <= glass.reason_at_most
        and text == text.strip()
        and not any(unicodedata.category(character) in _NO_TEXT for character in text)
    )


def one_patient(asked: FhirRequest, bases: Collection[str]) -> str | None:
    """The patient whom a request names, alone: itself by id, its compartment, or one value of a search for its own.

    None where there is none, or where it cannot be said who.
    """
    if asked.interaction not in READING or asked.type is None:
        return None
    if asked.interaction is not Interaction.SEARCH:
        return asked.id if asked.type == "Patient" else None
    named: set[str | None] = set()
    if asked.compartment is not None:
        named.add(asked.compartment[1] if asked.compartment[0] == "Patient" else None)
    own = {"_id"} if asked.type == "Patient" else {subject_parameter(asked.type), "patient"}
    named |= {_patient(term, bases) for term in asked.terms if term.code in own}
    return named.pop() if len(named) == 1 else None


def _patient(term: SearchTerm, bases: Collection[str]) -> str | None:
    """The one patient of a term; None for several, for another modifier, and for what may be somebody else."""
    if term.chain is not None or len(term.values) != 1:
        return None
    (value,) = term.values
    if term.code == "_id":
        return value if term.modifier is None and is_id(value) else None
    if term.modifier not in (None, "Patient"):
        return None
    if is_id(value):
        # A bare id is the patient's only where the parameter takes nobody else.
        return value if term.code == "patient" or term.modifier == "Patient" else None
    found = local_reference(value, bases)
    if found is None or found.type != "Patient" or found.version is not None:
        return None
    return found.id
