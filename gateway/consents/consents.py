"""What the consents of one patient say to a question, computed as HL7 FHIR R4 and IHE PCF describe.

Of the provisions of one consent that speak of what is asked the most specific ones decide, and among them a denial
wins. Of several consents a denial wins, unless a later one of the same persons about the same policy speaks of it. What
is permitted is so until it is withdrawn.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.consents.asking import Asking
from gateway.consents.consent import (
    GIVEN,
    Basis,
    ConsentAnswer,
    ConsentQuestion,
    ConsentReading,
    Obligation,
    Said,
    Why,
)
from gateway.consents.given import Given, Scope, Spoken, read_consent
from gateway.consents.provisions import microseconds

AS_IT_STANDS = ConsentReading()
"""Consents read without any configuration."""
_MOST_ASKING = 8  # callers and types for whom it is kept what is left
_NOTHING, _DENIES, _PERMITS = (frozenset({said}) for said in (Said.NONE, Said.DENY, Said.PERMIT))


class PatientConsents:
    """The consents of one patient, read once and asked many times. They are from a source that is trusted.

    Those that are not in force say nothing, but that the patient was asked: of these only the scopes are kept.
    """

    def __init__(
        self,
        consents: Iterable[Mapping[str, Any] | Given],
        reading: ConsentReading,
        *,
        recorded: Collection[Scope] = (),
    ) -> None:
        """Consents as resources, or as read_consent() gave them by the same reading; given are those in force.

        recorded are further scopes of which something was recorded once that was no denial.
        """
        self._reading = reading
        given = [
            each if isinstance(each, Given) else read_consent(each, reading)
            for each in consents
            if isinstance(each, Given) or each.get("status") in GIVEN
        ]
        self.given = tuple(each for each in given if each.is_active)
        self._asking: dict[ConsentQuestion, Asking] = {}
        self._recorded = frozenset(recorded).union(*(each.recorded for each in given))

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        """What they say. now is seconds since 1970."""
        asking = self._of(question, now)
        likeness = asking.likeness(question.resource)
        if likeness is None:
            return self._combined(question, now, asking.plainly(question, now))
        found = asking.answers.get(likeness)
        if found is None:
            told = asking.told(likeness, question, now)
            found = asking.keep(likeness, self._combined(question, now, told))
        return found

    def _of(self, question: ConsentQuestion, now: int) -> Asking:
        """What is left of the consents for this caller, who asks entry after entry of an answer."""
        asked = replace(question, resource=None)
        found = self._asking.get(asked)
        if found is None or not found.is_good(now):
            if len(self._asking) >= _MOST_ASKING:
                self._asking.pop(next(iter(self._asking)))
            own = [each for each in self.given if question.scope in each.scopes]
            found = self._asking[asked] = Asking(own, asked, now, self._reading)
        return found

    def _combined(
        self, question: ConsentQuestion, now: int, told: Iterable[tuple[Given, Spoken]]
    ) -> ConsentAnswer:
        """What consents say together. Who says nothing is no part of it, and stands in nobody's place."""
        pairs = [(one, spoken) for one, spoken in told if spoken.may != _NOTHING]
        lines = _lines(pairs, now)
        found = [(one, _beside(one, mine, lines.get(one.line, ()))) for one, mine in pairs]
        is_open = any(len(spoken.may) > 1 for _, spoken in found)
        if any(spoken.may == _DENIES for _, spoken in found):
            return _answer(Said.DENY, [pair for pair in found if pair[1].may == _DENIES])
        permitting = [pair for pair in found if Said.PERMIT in pair[1].may]
        denying = [pair for pair in found if Said.DENY in pair[1].may]
        if permitting:
            answer = _answer(Said.PERMIT, permitting)
            is_sure = any(spoken.may == _PERMITS for _, spoken in found) and not denying
            return answer if is_sure else replace(answer, depends=True, obligations=_obligations(found))
        if question.scope in self._reading.opt_out and question.scope not in self._recorded:
            answer = ConsentAnswer(Said.PERMIT, why=Why.OPT_OUT)
            return replace(answer, depends=True, obligations=_obligations(found)) if denying else answer
        if denying:
            return replace(_answer(Said.DENY, denying), depends=True)
        return ConsentAnswer(Said.NONE, depends=is_open)


def answer(
    consents: Iterable[Mapping[str, Any]],
    question: ConsentQuestion,
    now: int,
    reading: ConsentReading = AS_IT_STANDS,
) -> ConsentAnswer:
    """What these consents of one patient say, all of them from a source that is trusted. now: seconds since 1970."""
    return PatientConsents(consents, reading).answer(question, now)


_Line = tuple[frozenset[str], frozenset[str]] | None


def _lines(
    pairs: Iterable[tuple[Given, Spoken]], now: int
) -> dict[_Line, list[tuple[Given, frozenset[Said]]]]:
    """By who agreed to which policy, the consents that may stand in place of earlier ones.

    Who writes a day that is still to come has not agreed after anybody: it would silence every denial until that day.
    """
    found: dict[_Line, list[tuple[Given, frozenset[Said]]]] = {}
    for each, their in pairs:
        if each.line is not None and each.moment is not None and each.moment[0] <= microseconds(now):
            found.setdefault(each.line, []).append((each, their.may))
    return found


def _beside(one: Given, spoken: Spoken, line: Sequence[tuple[Given, frozenset[Said]]]) -> Spoken:
    """What is left of what a consent may say beside the later ones of the same persons about the same policy."""
    if Said.DENY not in spoken.may:
        return spoken
    later = [may for each, may in line if each.is_later_than(one)]
    if not later:
        return spoken
    found = {*spoken.may, Said.NONE}
    if any(Said.NONE not in may for may in later):
        found.discard(Said.DENY)
    return replace(spoken, may=frozenset(found))


def _answer(said: Said, pairs: Sequence[tuple[Given, Spoken]]) -> ConsentAnswer:
    found = {one.basis(spoken, said) for one, spoken in pairs}
    bases = tuple(sorted(found, key=lambda each: (each.consent, each.version, each.provision)))
    return ConsentAnswer(said, bases, bases[0].why)


def _obligations(found: Sequence[tuple[Given, Spoken]]) -> tuple[Obligation, ...]:
    """What hangs on the resource: what is hidden, and what alone is shown where nothing is permitted as a whole."""
    sure = any(
        each.type is Said.PERMIT
        for _, spoken in found
        if Said.PERMIT in spoken.may
        for each, _ in spoken.holding
    )
    said = []
    for one, spoken in found:
        for each in spoken.open:
            if each.type not in spoken.may or (each.type is Said.PERMIT and sure):
                continue
            why = Why.EXCEPTION if each.above else Why.PROVISION
            basis = Basis(one.id, one.version, each.path, each.type, why)
            limits = {name: e.written for name, e in each.elements.items() if name in _OF_DATA}
            said.append(Obligation(each.type is Said.DENY, basis, limits))
    return tuple(
        sorted(said, key=lambda each: (each.basis.consent, each.basis.version, each.basis.provision))
    )


_OF_DATA = ("class", "code", "data", "dataPeriod", "securityLabel")
