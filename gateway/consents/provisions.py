"""A consent as it is computed: its provisions in one list, each with the conditions that count for it.

A provision within another is an exception to it. It takes over each element that it does not say itself, so what it
says itself is said instead: under 'treatment, normal data', 'restricted data for this doctor' is about treatment too.
Periods are the one exception: each of those around it must hold as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.consents.consent import ConsentQuestion, ConsentReading, Said, listed, objects
from gateway.consents.elements import ELEMENTS, Element, Met, met, read_element, read_interval
from gateway.fhir.dates import Interval

_UNDERSTOOD = frozenset({"id", "extension", "type", "period", "provision", *ELEMENTS})
_MAX_DEPTH = 8
_MAX_PROVISIONS = 100
_SECOND = 1_000_000
_EPOCH = 719163 * 86400 * _SECOND  # 1970-01-01 in microseconds since year 1


@dataclass(frozen=True, slots=True)
class Provision:
    """One provision. above are the numbers of those around it; is_understood is false where it has more than is known.

    A period of None is one that cannot be read.
    """

    number: int
    path: str
    type: Said
    elements: Mapping[str, Element]
    own: frozenset[str]
    periods: tuple[Interval | None, ...]
    is_understood: bool
    above: frozenset[int]

    def met(self, question: ConsentQuestion, now: int, reading: ConsentReading) -> tuple[Met, bool]:
        """Whether it speaks of what is asked, and whether that was told by every element.

        What cannot be told makes a permit fail and a denial hold.
        """
        found = self._open(question, now, reading)
        if found is None:
            return Met.FAILS, False
        return (Met.OPEN if found[0] else Met.HOLDS), found[1]

    def left(self, question: ConsentQuestion, now: int, reading: ConsentReading) -> "Provision | None":
        """What of it is to be asked of each resource, by a question without one; None where it speaks of none.

        What cannot be told is so for each of them: it makes the rest one that is not understood.
        """
        found = self._open(question, now, reading)
        if found is None:
            return None
        elements, is_clear = found
        return Provision(self.number, self.path, self.type, elements, self.own, (), is_clear, self.above)

    def _open(
        self, question: ConsentQuestion, now: int, reading: ConsentReading
    ) -> tuple[dict[str, Element], bool] | None:
        """The elements that hang on the resource, and whether all others were told; None where one is not met."""
        denies, is_clear = self.type is Said.DENY, self.is_understood
        for each in self.periods:
            told = _holds(each, now)
            if told is Met.FAILS:
                return None
            is_clear = is_clear and told is not Met.UNCLEAR
        elements = {}
        for name, element in self.elements.items():
            if not (is_clear or denies):
                return None
            told = met(element, question, self.type, reading)
            if told is Met.FAILS:
                return None
            if told is Met.OPEN:
                elements[name] = element
            is_clear = is_clear and told is not Met.UNCLEAR
        return (elements, is_clear) if is_clear or denies else None

    def is_exception_to(self, other: "Provision") -> bool:
        """Whether it stands within the other one, or asks for all that the other one asks for and for more."""
        if other.number in self.above:
            return True
        if self.number in other.above or not (self.is_understood and other.is_understood):
            return False
        return self._is_within(other) and not other._is_within(self)

    def _is_within(self, other: "Provision") -> bool:
        return all(
            name in self.elements and self.elements[name].is_within(element)
            for name, element in other.elements.items()
        )


def read_provisions(base: object, type_: Said, reading: ConsentReading) -> tuple[Provision, ...]:
    """The provisions of a consent, those around others before them; type_ is that of the base, where it says none."""
    found: list[Provision] = []
    nothing: dict[str, Element] = {}
    for each in _walk(base, "provision", type_, nothing, (), True, frozenset(), reading, found, _MAX_DEPTH):
        found.append(each)
    return tuple(found)


def _walk(
    value: object,
    path: str,
    type_: Said,
    elements: Mapping[str, Element],
    periods: tuple[Interval | None, ...],
    is_understood: bool,
    above: frozenset[int],
    reading: ConsentReading,
    found: list[Provision],
    depth: int,
) -> Iterator[Provision]:
    number = len(found)
    if not isinstance(value, Mapping) or depth < 0 or number >= _MAX_PROVISIONS:
        # What cannot be read may forbid, whatever it is about.
        yield Provision(number, path, Said.DENY, elements, frozenset(), periods, False, above)
        return
    own = {name: read_element(name, value[name], reading) for name in ELEMENTS if name in value}
    elements = {**elements, **own}
    if "period" in value:
        periods = (*periods, read_interval(value["period"]))
    is_understood = is_understood and set(value) <= _UNDERSTOOD
    yield Provision(number, path, type_, elements, frozenset(own), periods, is_understood, above)
    for index, inner in enumerate(listed(value.get("provision"))):
        if len(found) > _MAX_PROVISIONS:
            return
        kind = type_of(inner) if isinstance(inner, Mapping) else Said.DENY
        at = f"{path}.provision[{index}]"
        within = above | {number}
        yield from _walk(inner, at, kind, elements, periods, is_understood, within, reading, found, depth - 1)


def exceptions_to(provision: Provision, provisions: Sequence[Provision]) -> frozenset[int]:
    """The numbers of those among the provisions of one consent that are exceptions to this one."""
    return frozenset(other.number for other in provisions if other.is_exception_to(provision))


def type_of(provision: Mapping[str, Any]) -> Said:
    """What a provision says; what is neither permit nor deny may forbid."""
    return Said.PERMIT if provision.get("type") == "permit" else Said.DENY


def codings(concept: object) -> set[tuple[object, object]]:
    """System and code of each coding of a concept."""
    found = concept.get("coding") if isinstance(concept, Mapping) else None
    return {(coding.get("system"), coding.get("code")) for coding in objects(found)}


def microseconds(now: int) -> int:
    """A moment in seconds since 1970 as intervals have it."""
    return _EPOCH + now * _SECOND


def _holds(period: Interval | None, now: int) -> Met:
    if period is None:
        return Met.UNCLEAR
    return Met.HOLDS if period[0] <= microseconds(now) < period[1] else Met.FAILS
