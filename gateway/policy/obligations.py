"""What a permit obliges to beside the decision: `then` and `break_glass` of its rules, united over those that match.

The engine only says what is owed; gateway.proxy.obligations meets it before anything goes out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.fhir.interaction import Interaction

# The interactions that emergency access opens.
READING = frozenset({Interaction.READ, Interaction.VREAD, Interaction.HISTORY_INSTANCE, Interaction.SEARCH})


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many requests of one principal within seconds."""

    at_most: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Then:
    """`then` of one rule, its audit level apart.

    rate     how often one principal may use the rule
    notify   receivers of the configuration
    minimal  writes are answered without a body
    headers  of the answer, in the order written
    """

    rate: Rate | None = None
    notify: tuple[str, ...] = ()
    minimal: bool = False
    headers: tuple[tuple[str, str], ...] = ()


NOTHING_MORE = Then()


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """Emergency access that a rule gives: for so long, to one patient, for a reason of so many characters."""

    lasts_seconds: int
    reason_at_least: int
    reason_at_most: int


@dataclass(frozen=True, slots=True)
class Emergency:
    """What the gateway knows of an emergency: the reason that the request gives, and what is under way.

    under_way holds (rule, patient) of this principal's emergency access that is not over.
    """

    reason: str | None = None
    under_way: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class EmergencyAccess:
    """The chart that the request opens under one rule. reason is None where that is under way already."""

    rule: str
    patient: str
    lasts_seconds: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Obligations:
    """What must be done for one permit.

    rates     by rule: every one of them holds, so the lowest decides
    notify    for each receiver the rules that name it
    minimal   a write is answered without a body
    headers   of the answer
    emergency the charts that the request opens
    """

    rates: tuple[tuple[str, Rate], ...] = ()
    notify: tuple[tuple[str, tuple[str, ...]], ...] = ()
    minimal: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    emergency: tuple[EmergencyAccess, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed."""
        return self == NO_OBLIGATIONS

    def and_those_of(self, other: "Obligations") -> "Obligations":
        """Those of two permits that one request needs together."""
        notify: dict[str, dict[str, None]] = {}
        for receiver, rules in (*self.notify, *other.notify):
            notify.setdefault(receiver, {}).update(dict.fromkeys(rules))
        return Obligations(
            rates=tuple(dict.fromkeys((*self.rates, *other.rates))),
            notify=tuple((receiver, tuple(rules)) for receiver, rules in notify.items()),
            minimal=self.minimal or other.minimal,
            headers=_one_of_each((*self.headers, *other.headers)),
            emergency=tuple(dict.fromkeys((*self.emergency, *other.emergency))),
        )


NO_OBLIGATIONS = Obligations()


def united(thens: Iterable[tuple[str, Then]], emergency: tuple[EmergencyAccess, ...] = ()) -> Obligations:
    """Those of the rules (by id) that may permit a request: most careful of all, whatever the order of the files."""
    found = sorted((pair for pair in thens if pair[1] != NOTHING_MORE), key=lambda pair: pair[0])
    if not found and not emergency:
        return NO_OBLIGATIONS
    notify: dict[str, list[str]] = {}
    for rule, then in found:
        for receiver in then.notify:
            notify.setdefault(receiver, []).append(rule)
    return Obligations(
        rates=tuple((rule, then.rate) for rule, then in found if then.rate is not None),
        notify=tuple((receiver, tuple(rules)) for receiver, rules in sorted(notify.items())),
        minimal=any(then.minimal for _, then in found),
        headers=_one_of_each(header for _, then in found for header in then.headers),
        emergency=emergency,
    )


def _one_of_each(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A header of each name: of several rules that give one, the first by name of the rule."""
    kept: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        kept.setdefault(name.lower(), (name, value))
    return tuple(kept.values())
