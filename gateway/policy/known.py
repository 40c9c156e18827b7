"""What is known at one request beside itself and its token: facts, consents.

The engine asks nobody. It looks here, and what is not here it decides without: a permit is false, a deny true. What
it looked for is written down, so that whoever handed this in can find it out and have it decided again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.consents.asking import Steps
from gateway.consents.consent import Basis, ConsentAnswer, ConsentQuestion
from gateway.consents.consents import ConsentsAt
from gateway.fhir.outcome import Reason
from gateway.policy.facts import FactQuestion, FactValues
from gateway.policy.inherited_labels import Labelled

ConsentsOf = Callable[[ConsentQuestion], ConsentAnswer]
"""What the consents of one patient say to a question."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was looked for and not found: facts, patients whose consents are not known, resources by 'Type/id'.

    questions are those to the consents, each without a resource. finding are steps that are to be taken before consents
    can answer at once.
    """

    facts: tuple[FactQuestion, ...]
    patients: frozenset[str]
    places: frozenset[str]
    questions: frozenset[ConsentQuestion] = frozenset()
    finding: tuple[Steps[None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.facts or self.patients or self.places or self.finding)


_NOTHING_WANTED = Wanted((), frozenset(), frozenset())


class Known:
    """Facts, consents and labels of one request, and a note of what was looked for.

    facts     by name; a Reason stands for a fact that could not be had
    consents  by patient; None stands for consents that could not be had
    labels    of other resources than the one that is judged, by 'Type/id'; None stands for what could not be had
    """

    def __init__(self) -> None:
        self.facts: dict[str, FactValues | Reason] = {}
        self.consents: dict[str, ConsentsOf | None] = {}
        self.labels: dict[str, Labelled | None] = {}
        self.found_by: frozenset[str] = frozenset()
        """Of a test that gives what a search found: the criteria that the store was sent. Nothing at a request."""
        self.judges_ask = False
        """Whether a judge may look for more than the decision did."""
        self.takes_turns = False
        """Whether who asks comes again, once what takes long was found in turns; else all is found at once."""
        self.consulted: dict[str, int] = {}
        """The facts that were used, with their age in seconds."""
        self.deciding: set[str] = set()
        """The ids of the consents that answered."""
        self.deciding_by: set[Basis] = set()
        """The provisions that made the answers so."""
        self._noted: dict[int, ConsentAnswer] = {}  # by identity, which lasts as long as they are kept here
        self._facts: dict[str, FactQuestion] = {}
        self._patients: set[str] = set()
        self._questions: set[ConsentQuestion] = set()
        self._finding: list[Steps[None]] = []
        self._places: set[str] = set()
        self._gaps: set[Reason] = set()
        self._supposes = False

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has looked for anything here, or may."""
        return not (
            self.judges_ask or self._gaps or self.consulted or self.deciding or self.facts or self.labels
        )

    @property
    def supposes(self) -> bool:
        """Whether what could not be had is taken to speak for the caller, as refused_for() supposes for a moment."""
        return self._supposes

    def fact(self, name: str, question: FactQuestion | None) -> FactValues | None:
        """The values of a fact; None when they are not known. question asks for it, where it is not there."""
        found = self.facts.get(name)
        if isinstance(found, FactValues):
            self.consulted[name] = found.age
            return found
        if found is None and question is not None:
            self._facts[name] = question
        self._gaps.add(found or Reason.FACTS_UNAVAILABLE)
        return None

    def consent(self, patient: str, question: ConsentQuestion) -> ConsentAnswer | None:
        """What the consents of a patient say; None when they are not known."""
        if patient not in self.consents:
            self._patients.add(patient)
            self._questions.add(replace(question, resource=None))
        consents = self.consents.get(patient)
        if consents is None:
            self._gaps.add(Reason.CONSENT_UNAVAILABLE)
            return None
        if self.takes_turns and isinstance(consents, ConsentsAt):
            finding = consents.finding(question)
            if finding is not None:
                self._finding.append(finding)
                self._gaps.add(Reason.CONSENT_UNAVAILABLE)
                return None
        answer = consents(question)
        if id(answer) not in self._noted:  # entry after entry is told the same, by as many provisions
            self._noted[id(answer)] = answer
            self.deciding.update(answer.ids)
            self.deciding_by.update(answer.bases)
        return answer

    def forget_deciding_by(self) -> None:
        """Begin anew to note which provisions decide: what is asked next is about something else."""
        self.deciding_by.clear()
        self._noted.clear()

    def labels_at(self, place: str) -> Labelled | None:
        """The labels of another resource; None when they are not known."""
        if place not in self.labels:
            self._places.add(place)
        found = self.labels.get(place)
        if found is None:
            self._gaps.add(Reason.LABELS_UNAVAILABLE)
        return found

    def wanted(self) -> Wanted:
        """What was looked for in vain since this was asked last."""
        if not (self._facts or self._patients or self._places or self._finding):
            return _NOTHING_WANTED
        found = Wanted(
            tuple(self._facts.values()),
            frozenset(self._patients),
            frozenset(self._places),
            frozenset(self._questions),
            tuple(self._finding),
        )
        self._finding.clear()
        self._places.clear()
        self._facts.clear()
        self._patients.clear()
        self._questions.clear()
        return found

    def refused_for(self, allows: Callable[[], bool]) -> Reason | None:
        """Why allows() is false, where nothing but what could not be had makes it so; else None."""
        self._gaps.clear()
        if allows() or not self._gaps:
            return None
        gaps = set(self._gaps)
        self._supposes = True
        try:
            would = allows()
        finally:
            self._supposes = False
        return min(gaps, key=_GAPS.index) if would else None


_GAPS = (
    Reason.FACTS_TOO_MANY,
    Reason.FACTS_UNAVAILABLE,
    Reason.CONSENT_UNAVAILABLE,
    Reason.LABELS_UNAVAILABLE,
)
