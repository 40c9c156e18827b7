"""What the consents of one patient say to a question, computed as HL7 FHIR R4 and IHE PCF describe.

Of the provisions of one consent that speak of what is asked the most specific ones decide, and among them a denial
wins. Of several consents a denial wins, unless a later one of the same persons about the same policy speaks of it. What
is permitted is so until it is withdrawn.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from gateway.consents.provisions import (
    Provision,
    microseconds,
)

AS_IT_STANDS = ConsentReading()
"""Consents read without any configuration."""


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
        """Consents as resources, or as read_consent() gave them by the same reading.

        recorded are further scopes of which something was recorded once that was no denial.
        """
        self._reading = reading
        given = [
            each if isinstance(each, Given) else read_consent(each, reading)
            for each in consents
            if isinstance(each, Given) or each.get("status") in GIVEN
        ]
        self._given = tuple(each for each in given if each.is_active)
        self._asked: tuple[ConsentQuestion, int] | None = None
        self._found: Sequence[tuple[Given, tuple[Provision, ...]]] = ()
        self._recorded = frozenset(recorded).union(*(each.recorded for each in given))

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        """What they say. now is seconds since 1970."""
        left = self._left(question, now)
        given = [each for each, _ in left]
        own = [each.spoken(question, now, self._reading, provisions) for each, provisions in left]
        lines = _lines(given, own, now)
        spoken = [
            replace(mine, may=_standing(one, mine, lines.get(one.line, ())))
            for one, mine in zip(given, own, strict=True)
        ]
        found = list(zip(given, spoken, strict=True))
        is_open = any(len(each.may) > 1 for each in spoken)
        if any(each.may == {Said.DENY} for each in spoken):
            return _answer(Said.DENY, [pair for pair in found if pair[1].may == {Said.DENY}])
        permitting = [pair for pair in found if Said.PERMIT in pair[1].may]
        denying = [pair for pair in found if Said.DENY in pair[1].may]
        if permitting:
            answer = _answer(Said.PERMIT, permitting)
            is_sure = any(each.may == {Said.PERMIT} for each in spoken) and not denying
            return answer if is_sure else replace(answer, depends=True, obligations=_obligations(found))
        if question.scope in self._reading.opt_out and question.scope not in self._recorded:
            answer = ConsentAnswer(Said.PERMIT, why=Why.OPT_OUT)
            return replace(answer, depends=True, obligations=_obligations(found)) if denying else answer
        if denying:
            return replace(_answer(Said.DENY, denying), depends=True)
        return ConsentAnswer(Said.NONE, depends=is_open)

    def _left(self, question: ConsentQuestion, now: int) -> Sequence[tuple[Given, tuple[Provision, ...]]]:
        """The consents that may say something to this question, each with those of its provisions that may.

        Entry after entry of an answer is asked about for the same caller: what does not hang on the resource is found
        out once. A consent that says nothing for any resource is no part of an answer, and stands in nobody's place.
        """
        asked = replace(question, resource=None), now
        if self._asked != asked:
            found = [
                (each, each.left(asked[0], now, self._reading))
                for each in self._given
                if question.scope in each.scopes
            ]
            self._found = [(each, left) for each, left in found if left is not None]
            self._asked = asked
        return self._found


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
    given: Sequence[Given], own: Sequence[Spoken], now: int
) -> dict[_Line, list[tuple[Given, frozenset[Said]]]]:
    """By who agreed to which policy, the consents that say something and may stand in place of earlier ones.

    Who writes a day that is still to come has not agreed after anybody: it would silence every denial until that day.
    """
    found: dict[_Line, list[tuple[Given, frozenset[Said]]]] = {}
    for each, their in zip(given, own, strict=True):
        is_dated = each.line is not None and each.moment is not None and each.moment[0] <= microseconds(now)
        if is_dated and their.may != {Said.NONE}:
            found.setdefault(each.line, []).append((each, their.may))
    return found


def _standing(one: Given, spoken: Spoken, line: Sequence[tuple[Given, frozenset[Said]]]) -> frozenset[Said]:
    """What is left of what a consent may say beside the later ones of the same persons about the same policy."""
    if Said.DENY not in spoken.may:
        return spoken.may
    later = [may for each, may in line if each.is_later_than(one)]
    if not later:
        return spoken.may
    found = {*spoken.may, Said.NONE}
    if any(Said.NONE not in may for may in later):
        found.discard(Said.DENY)
    return frozenset(found)


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
