"""What the consents of one patient say to a question, computed as HL7 FHIR R4 and IHE PCF describe.

Of the provisions of one consent that speak of what is asked the most specific ones decide, and among them a denial
wins. Of several consents a denial wins, unless a later one of the same persons about the same policy speaks of it. What
is permitted is so until it is withdrawn.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from gateway.consents.asking import Asking, Steps, asking_in_steps, finished
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
from gateway.consents.likeness import Likeness
from gateway.consents.provisions import microseconds

AS_IT_STANDS = ConsentReading()
"""Consents read without any configuration."""
_MOST_ASKING = 16  # callers and types for whom it is kept what is left
_PORTION = 150
_AT_ONCE = 15  # consents that are compared or sorted in the time in which one provision is asked
_FEW = 100  # so many consents and provisions are asked at once: of all together it takes no millisecond
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
        self.is_long = sum(1 + len(each.provisions) for each in self.given) > _FEW
        self._asking: dict[ConsentQuestion, Asking] = {}
        self._recorded = frozenset(recorded).union(*(each.recorded for each in given))

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        """What they say. now is seconds since 1970."""
        asked = _without_resource(question)
        asking = self._kept(asked, now) or finished(self._made(asked, now))
        likeness = asking.likeness(question.resource)
        found = _answered(asking, likeness, question)
        return found or finished(self._answering(asking, likeness, question, now))

    def finding(self, question: ConsentQuestion, now: int) -> Steps[None] | None:
        """Steps after which answer() has what it needs to answer at once; None where it has, or where it takes no time.

        What the steps find is kept for a while, and answer() finds out by itself what is not kept any more.
        """
        if not self.is_long:
            return None
        asking = self._kept(_without_resource(question), now)
        if asking is not None:
            likeness = asking.likeness(question.resource)
            if _answered(asking, likeness, question) or (likeness is None and question.resource is not None):
                return None
        return self._finding(question, now)

    def preparing(self, question: ConsentQuestion, now: int) -> Steps[None]:
        """Steps that find out what is left of the consents for a question without a resource."""
        if self._kept(question, now) is None:
            yield from self._made(question, now)

    def _finding(self, question: ConsentQuestion, now: int) -> Steps[None]:
        asked = _without_resource(question)
        asking = self._kept(asked, now) or (yield from self._made(asked, now))
        likeness = asking.likeness(question.resource)
        is_kept = likeness is not None or question.resource is None
        if is_kept and asking.answers.get(likeness) is None:  # others may have asked meanwhile
            yield from self._answering(asking, likeness, question, now)

    def _kept(self, asked: ConsentQuestion, now: int) -> Asking | None:
        """What is left of the consents for this caller, who asks entry after entry of an answer; None where it is not."""
        found = self._asking.get(asked)
        return found if found is not None and found.is_good(now) else None

    def _made(self, asked: ConsentQuestion, now: int) -> Steps[Asking]:
        own = [each for each in self.given if asked.scope in each.scopes]
        made = yield from asking_in_steps(own, asked, now, self._reading)
        if asked not in self._asking and len(self._asking) >= _MOST_ASKING:
            self._asking.pop(next(iter(self._asking)))
        self._asking[asked] = made
        return made

    def _answering(
        self, asking: Asking, likeness: Likeness | None, question: ConsentQuestion, now: int
    ) -> Steps[ConsentAnswer]:
        """What they say to a resource of this likeness, or to a question without one."""
        pairs: list[_Pair] = []
        for one, spoken, looked in asking.told(likeness, question, now):
            pairs.append((one, spoken))
            yield looked
        found = yield from self._combined(question, now, pairs)
        if likeness is not None or question.resource is None:
            asking.keep(likeness, found)
        return found

    def _combined(
        self, question: ConsentQuestion, now: int, told: Iterable[tuple[Given, Spoken]]
    ) -> Steps[ConsentAnswer]:
        """What consents say together. Who says nothing is no part of it, and stands in nobody's place."""
        pairs = [pair for pair in told if pair[1].may != _NOTHING]
        lines: dict[_Line, _Latest] = {}
        for some in _portions(pairs):
            _note_lines(lines, some, now)
            yield _PORTION // _AT_ONCE
        found: list[tuple[Given, Spoken]] = []
        for some in _portions(pairs):
            found += [(one, _beside(one, mine, lines.get(one.line))) for one, mine in some]
            yield _PORTION // _AT_ONCE
        permitting = [pair for pair in found if Said.PERMIT in pair[1].may]
        denying = [pair for pair in found if Said.DENY in pair[1].may]
        sure = [pair for pair in denying if pair[1].may == _DENIES]
        yield len(pairs) // _AT_ONCE
        if sure:
            return (yield from _answer(Said.DENY, sure))
        if permitting:
            answer = yield from _answer(Said.PERMIT, permitting)
            if not denying and any(spoken.may == _PERMITS for _, spoken in permitting):
                return answer
            return replace(answer, depends=True, obligations=(yield from _obligations(found)))
        if question.scope in self._reading.opt_out and question.scope not in self._recorded:
            answer = ConsentAnswer(Said.PERMIT, why=Why.OPT_OUT)
            if not denying:
                return answer
            return replace(answer, depends=True, obligations=(yield from _obligations(found)))
        if denying:
            return replace((yield from _answer(Said.DENY, denying)), depends=True)
        return ConsentAnswer(Said.NONE, depends=any(len(spoken.may) > 1 for _, spoken in found))


def _without_resource(question: ConsentQuestion) -> ConsentQuestion:
    return question if question.resource is None else replace(question, resource=None)


def _answered(asking: Asking, likeness: Likeness | None, question: ConsentQuestion) -> ConsentAnswer | None:
    """What they said to a resource of this likeness, or to a question without one, where it is kept."""
    if likeness is None and question.resource is not None:
        return None
    return asking.answers.get(likeness)


class ConsentsAt:
    """The consents of one patient, asked at the time of a clock, which gives seconds since 1970."""

    def __init__(self, consents: PatientConsents, clock: Callable[[], int]) -> None:
        self._consents = consents
        self._clock = clock

    def __call__(self, question: ConsentQuestion) -> ConsentAnswer:
        """What they say, at the time when they are asked."""
        return self._consents.answer(question, self._clock())

    def finding(self, question: ConsentQuestion) -> Steps[None] | None:
        """Steps that are to be taken first, where the answer takes long; None where it does not."""
        return self._consents.finding(question, self._clock())


def answer(
    consents: Iterable[Mapping[str, Any]],
    question: ConsentQuestion,
    now: int,
    reading: ConsentReading = AS_IT_STANDS,
) -> ConsentAnswer:
    """What these consents of one patient say, all of them from a source that is trusted. now: seconds since 1970."""
    return PatientConsents(consents, reading).answer(question, now)


_Line = tuple[frozenset[str], frozenset[str]] | None
_Latest = tuple[float, float]
_Pair = tuple[Given, Spoken]
_NEVER = float("-inf")


def _portions(pairs: Sequence[_Pair]) -> Iterator[Sequence[_Pair]]:
    return (pairs[start : start + _PORTION] for start in range(0, len(pairs), _PORTION))


def _note_lines(lines: dict[_Line, _Latest], pairs: Iterable[_Pair], now: int) -> None:
    """By who agreed to which policy, when the latest consent was given, and the latest of those that surely say something.

    Who writes a day that is still to come has not agreed after anybody: it would silence every denial until that day.
    """
    for each, their in pairs:
        if each.line is not None and each.moment is not None and each.moment[0] <= microseconds(now):
            given = each.moment[0]
            latest, surely = lines.get(each.line, (_NEVER, _NEVER))
            says_something = Said.NONE not in their.may
            lines[each.line] = max(latest, given), max(surely, given) if says_something else surely


def _beside(one: Given, spoken: Spoken, line: _Latest | None) -> Spoken:
    """What is left of what a consent may say beside the later ones of the same persons about the same policy."""
    if line is None or one.moment is None or Said.DENY not in spoken.may:
        return spoken
    latest, surely = line
    if latest < one.moment[1]:
        return spoken
    may = (spoken.may | _NOTHING) - (_DENIES if surely >= one.moment[1] else frozenset())
    return Spoken(may, spoken.holding, spoken.open, spoken.bases)


def _answer(said: Said, pairs: Sequence[tuple[Given, Spoken]]) -> Steps[ConsentAnswer]:
    found = []
    for one, spoken in pairs:
        is_new = said not in spoken.bases
        found.append(one.basis(spoken, said))
        yield 1 if is_new else 0
    found.sort(key=_PLACE)
    yield len(found) // _AT_ONCE
    # The source may have given a consent more than once.
    bases = tuple(each for each, before in zip(found, [None, *found], strict=False) if each != before)
    return ConsentAnswer(said, bases, bases[0].why)


def _obligations(found: Sequence[tuple[Given, Spoken]]) -> Steps[tuple[Obligation, ...]]:
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
        yield len(spoken.open) // 2
    said.sort(key=_PLACE_OF_OBLIGATION)
    return tuple(said)


_OF_DATA = ("class", "code", "data", "dataPeriod", "securityLabel")
_PLACE = attrgetter("consent", "version", "provision", "why")
_PLACE_OF_OBLIGATION = attrgetter("basis.consent", "basis.version", "basis.provision")
