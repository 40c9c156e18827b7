"""What a test in a policy file says to be known: `facts` by name, and the consents of `given`, patient by patient."""

from collections.abc import Mapping

from gateway.consents.consent import ConsentAnswer, ConsentQuestion, Said
from gateway.consents.consents import AS_IT_STANDS, PatientConsents
from gateway.fhir.ids import is_id
from gateway.fhir.outcome import Reason
from gateway.policy.facts import FactValues
from gateway.policy.inherited_labels import UNKNOWN, Labelled, labelled
from gateway.policy.known import ConsentsOf, Known
from gateway.policy.rules import PolicySet, PolicyTest
from gateway.yaml_source import did_you_mean

_UNAVAILABLE = "unavailable"


class UnplayableKnown(Exception):
    """What a test says to be known is not written right."""


class GivenKnown(Known):
    """What a test gives. Who is not named has no consents; a fact that is not named cannot be had."""

    def consent(self, patient: str, question: ConsentQuestion) -> ConsentAnswer | None:
        """What the consents of a patient say."""
        self.consents.setdefault(patient, lambda asked: ConsentAnswer(Said.NONE))
        return super().consent(patient, question)

    def labels_at(self, place: str) -> Labelled | None:
        """The labels of another resource of `given`."""
        self.labels.setdefault(place, UNKNOWN)
        return super().labels_at(place)


def known_of(test: PolicyTest, policies: PolicySet, now: int) -> Known:
    """What this test gives, at its time. Raises UnplayableKnown."""
    known = GivenKnown()
    facts = test.body.get("facts", {})
    if not isinstance(facts, Mapping):
        raise UnplayableKnown("'facts' must give values by name: {my-patients: [Patient/A]}")
    for name, values in facts.items():
        fact = policies.facts.get(str(name))
        if fact is None:
            raise UnplayableKnown(f"no fact named '{name}'.{did_you_mean(str(name), policies.facts)}")
        known.facts[fact.name] = _values(fact.name, values, fact.at_most)
    given = test.body.get("given")
    consents = given.get("consent", {}) if isinstance(given, Mapping) else {}
    if not isinstance(consents, Mapping):
        raise UnplayableKnown("'consent' of given must say what patients agreed to: {Patient/A: permit}")
    for name, word in consents.items():
        type_, _, patient = str(name).partition("/")
        words = (*Said, _UNAVAILABLE)
        if type_ != "Patient" or not is_id(patient):
            raise UnplayableKnown(f"'{name}' is no patient: write Patient/A")
        if isinstance(word, list) and all(isinstance(each, Mapping) for each in word):
            known.consents[patient] = _computed(PatientConsents(word, AS_IT_STANDS), now)
            continue
        if word not in words:
            said = f"expected {', '.join(words)}, or a list of Consent resources"
            raise UnplayableKnown(f"consent is '{word}', {said}")
        known.consents[patient] = None if word == _UNAVAILABLE else _always(Said(str(word)))
    for place, value in given.items() if isinstance(given, Mapping) else ():
        if "/" in str(place) and isinstance(value, Mapping):
            known.labels[str(place)] = labelled(value, frozenset())
    return known


def _values(name: str, values: object, at_most: int) -> FactValues | Reason:
    if values == _UNAVAILABLE:
        return Reason.FACTS_UNAVAILABLE
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise UnplayableKnown(f"the fact {name} must be a list of values such as Patient/A, or unavailable")
    return Reason.FACTS_TOO_MANY if len(set(values)) > at_most else FactValues(frozenset(values))


def _computed(consents: PatientConsents, now: int) -> ConsentsOf:
    return lambda question: consents.answer(question, now)


def _always(said: Said) -> ConsentsOf:
    return lambda question: ConsentAnswer(said)
