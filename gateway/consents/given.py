"""One consent, read once: what it may say to a question, by which of its provisions.

Of the provisions of one consent that speak of what is asked the most specific ones decide, and among them a denial
wins.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from gateway.consents.consent import Basis, ConsentQuestion, ConsentReading, Said, Why, objects
from gateway.consents.elements import ELEMENTS, Element, Met, local_name
from gateway.consents.provisions import (
    Provision,
    codings,
    exceptions_to,
    microseconds,
    read_provisions,
    type_of,
)
from gateway.fhir.dates import Interval, interval

Scope = tuple[object, object]
"""System and code of Consent.scope."""
_MOST_OPEN = 8  # provisions that hang on the resource, of which every combination is looked at
_ANYTHING = frozenset(Said)
_MOST_KEPT = 8  # callers and types for whom it is kept what is left of a consent
_MOST_SPOKEN = 256  # kinds of resources of which it is kept what is said to one of them

Asked = tuple[Provision, Provision]
"""A provision as it stands, and as it is asked: with those elements alone that nobody has asked yet."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one consent may say to a question: one word where all is told, several where it hangs on the resource."""

    may: frozenset[Said]
    holding: tuple[tuple[Provision, bool], ...]  # with whether every element was told
    open: tuple[Provision, ...]
    bases: dict[Said, Basis] = field(default_factory=dict, compare=False)  # as far as somebody asked


@dataclass(frozen=True, slots=True)
class Left:
    """What of a consent may speak of what one caller asks, whatever the resource is.

    It holds from since to until, in microseconds, which the periods of the provisions and the consent's moment set.
    spoken is what it said already, by what its elements can tell apart in a resource.
    """

    asked: tuple[Asked, ...]
    says_nothing: bool
    since: float
    until: float
    spoken: dict[Hashable, Spoken] = field(default_factory=dict, compare=False)

    def open_elements(self) -> Iterator[Element]:
        """The elements that hang on the resource."""
        for _, rest in self.asked:
            yield from rest.elements.values()

    def keep(self, key: Hashable, spoken: Spoken) -> Spoken:
        """Keep what was said of a resource of this likeness."""
        if len(self.spoken) >= _MOST_SPOKEN:
            self.spoken.clear()
        self.spoken[key] = spoken
        return spoken


@dataclass(frozen=True, slots=True)
class Given:
    """One consent, read once.

    line        who agreed to which policy, None where one of both is not said
    moment      when, None where it is not said
    rule        what its policyRule says
    provisions  none of a consent that is not in force: nobody asks them
    exceptions  by number of a provision, those that are exceptions to it, as far as somebody asked
    lefts       what is left of it, by what was asked, as far as somebody asked
    """

    id: str
    version: str
    is_active: bool
    scopes: frozenset[Scope]
    line: tuple[frozenset[str], frozenset[str]] | None
    moment: Interval | None
    base: Said
    rule: Said
    is_modified: bool
    has_provision: bool
    provisions: tuple[Provision, ...]
    exceptions: dict[int, frozenset[int]]
    lefts: dict[ConsentQuestion, Left]

    @property
    def recorded(self) -> frozenset[Scope]:
        """The scopes of which it records something that is no denial, whether it is in force or not any more."""
        return frozenset() if self.base is Said.DENY else self.scopes

    def is_later_than(self, other: "Given") -> bool:
        """Whether the same persons gave it after the other one, about the same policy."""
        if self.line is None or self.line != other.line or self.moment is None or other.moment is None:
            return False
        return self.moment[0] >= other.moment[1]

    def left(self, question: ConsentQuestion, now: int, reading: ConsentReading) -> Left:
        """What of it may speak of what is asked, whatever the resource is.

        question is without a resource: what hangs on one is open then, what fails then fails for each, and what holds
        or cannot be told then is so for each.
        """
        moment = microseconds(now)
        found = self.lefts.get(question)
        if found is None or not found.since <= moment < found.until:
            if len(self.lefts) >= _MOST_KEPT:
                self.lefts.pop(next(iter(self.lefts)))
            found = self.lefts[question] = self._left(question, now, moment, reading)
        return found

    def _left(self, question: ConsentQuestion, now: int, moment: int, reading: ConsentReading) -> Left:
        asked = tuple(
            (each, rest)
            for each in self.provisions
            if (rest := each.left(question, now, reading)) is not None
        )
        turns = {end for each in self.provisions for period in each.periods if period for end in period}
        if self.moment is not None:
            turns.add(self.moment[0])
        since = max((turn for turn in turns if turn <= moment), default=float("-inf"))
        until = min((turn for turn in turns if turn > moment), default=float("inf"))
        return Left(asked, not asked and self._said(()) is Said.NONE, since, until)

    def spoken(
        self,
        question: ConsentQuestion,
        now: int,
        reading: ConsentReading,
        asked: Sequence[Asked] | None = None,
    ) -> Spoken:
        """What it may say, whatever other consents say; by what was left of it, where all else was looked at."""
        if not self.is_active:
            return Spoken(frozenset({Said.NONE}), (), ())
        holding, hanging = [], []
        for each, rest in ((each, each) for each in self.provisions) if asked is None else asked:
            found, is_clear = rest.met(question, now, reading)
            if found is Met.HOLDS:
                holding.append((each, is_clear))
            elif found is Met.OPEN:
                hanging.append(each)
        sure = [each for each, _ in holding]
        may = _ANYTHING if len(hanging) > _MOST_OPEN else self._may(sure, hanging)
        return Spoken(may, tuple(holding), tuple(hanging))

    def _may(self, sure: Sequence[Provision], hanging: Sequence[Provision]) -> frozenset[Said]:
        """What is said by those that are sure and some of those that hang on the resource, whichever these are.

        The few are looked at first, until all is found that can be: a denial that is sure and has no exception stands
        beside any of them, and one that has an exception which is sure beside none. What is said where nobody speaks is
        said by no others, as long as exceptions do not go round in a circle.
        """
        found = {self._said(sure)}
        if not hanging:
            return frozenset(found)
        speaking = [each for each in (*sure, *hanging) if each.type is not Said.NONE]
        numbers, of_sure = {each.number for each in speaking}, {each.number for each in sure}
        denials = [each for each in speaking if each.type is Said.DENY]
        if any(each.number in of_sure and self._exceptions_to(each).isdisjoint(numbers) for each in denials):
            return frozenset({Said.DENY})
        possible = set()
        if any(self._exceptions_to(each).isdisjoint(of_sure) for each in denials):
            possible.add(Said.DENY)
        if any(each.type is Said.PERMIT for each in speaking):
            possible.add(Said.NONE if self.is_modified else Said.PERMIT)
        if all(each.type is Said.NONE for each in sure) or self._goes_round(speaking):
            possible.add(self._said(()))
        if not found >= possible:
            for said in self._with_each_combination(sure, hanging):
                found.add(said)
                if found >= possible:
                    break
        return frozenset(found)

    def _with_each_combination(
        self, sure: Sequence[Provision], hanging: Sequence[Provision]
    ) -> Iterator[Said]:
        """What is said by those that are sure and each combination of the others, the few first.

        A combination is a number with a bit for each that is in it. A hundred that are sure differ in little: in what
        they say, and in which of the others are exceptions to them.
        """
        bits = {each.number: 1 << at for at, each in enumerate(hanging) if each.type is not Said.NONE}
        of_sure = {each.number for each in sure if each.type is not Said.NONE}
        kinds = {
            (
                each.type,
                bits.get(each.number, 0),
                sum(bits[of] for of in self._exceptions_to(each) if of in bits),
            )
            for each in (*sure, *hanging)
            if each.type is not Said.NONE and self._exceptions_to(each).isdisjoint(of_sure)
        }
        for count in range(1, len(hanging) + 1):
            for some in combinations([1 << at for at in range(len(hanging))], count):
                there = sum(some)
                yield self._saying(
                    {type_ for type_, own, over in kinds if own & there == own and not over & there}
                )

    def _goes_round(self, speaking: Sequence[Provision]) -> bool:
        """Whether some of them are exceptions to each other in a circle, so that none of these decides."""
        left = {each.number: each for each in speaking}
        while left:
            free = [each for each in left.values() if self._exceptions_to(each).isdisjoint(left)]
            if not free:
                return True
            for each in free:
                del left[each.number]
        return False

    def _said(self, speaking: Sequence[Provision]) -> Said:
        return self._saying({each.type for each in self._deciding(speaking)})

    def _saying(self, said: AbstractSet[Said]) -> Said:
        """What it says where the provisions that decide say these."""
        if Said.DENY in said:
            return Said.DENY
        if Said.PERMIT in said:
            # An extension that changes the meaning is not understood: it may take a permit back.
            return Said.NONE if self.is_modified else Said.PERMIT
        if not self.has_provision:
            return Said.NONE if self.is_modified and self.rule is Said.PERMIT else self.rule
        # Who opted out and permits something permits nothing else.
        return Said.DENY if self.base is Said.PERMIT and self.rule is Said.DENY else Said.NONE

    def _deciding(self, speaking: Sequence[Provision]) -> list[Provision]:
        """The provisions among these to which none of the others is an exception."""
        spoken = [each for each in speaking if each.type is not Said.NONE]
        numbers = {each.number for each in spoken}
        return [each for each in spoken if self._exceptions_to(each).isdisjoint(numbers)]

    def compiling(self) -> Iterator[None]:
        """Find out which provisions are exceptions to which, a step a provision: of a hundred it takes milliseconds.

        Whoever does not go through it finds the same out when it is asked.
        """
        for each in self.provisions:
            self._exceptions_to(each)
            yield

    def _exceptions_to(self, provision: Provision) -> frozenset[int]:
        found = self.exceptions.get(provision.number)
        if found is None:
            found = self.exceptions[provision.number] = exceptions_to(provision, self.provisions)
        return found

    def basis(self, spoken: Spoken, said: Said) -> Basis:
        """The provision by which it says this: the first of those that decide."""
        found = spoken.bases.get(said)
        if found is None:
            found = spoken.bases[said] = self._basis(spoken, said)
        return found

    def _basis(self, spoken: Spoken, said: Said) -> Basis:
        speaking = [*(each for each, _ in spoken.holding), *spoken.open]
        clear = {each.number for each, is_clear in spoken.holding if is_clear}
        found = next((each for each in self._deciding(speaking) if each.type is said), None)
        if found is None:  # what decides it all together may be what hangs on the resource
            found = next((each for each in speaking if each.type is said), None)
        if found is None:
            return Basis(self.id, self.version, "policyRule", said, Why.POLICY_RULE)
        is_told = found.number in clear or found in spoken.open
        why = Why.DOUBT if not is_told else Why.EXCEPTION if found.above else Why.PROVISION
        return Basis(self.id, self.version, found.path, said, why)


def read_consent(consent: Mapping[str, Any], reading: ConsentReading) -> Given:
    """A consent, ready to be asked."""
    rule = _of_rule(consent)
    provision = consent.get("provision")
    has_provision = "provision" in consent
    base = rule
    if isinstance(provision, Mapping):
        base = type_of(provision) if "type" in provision else _of_untyped(provision, rule)
    elif has_provision and not isinstance(provision, Mapping):
        base = Said.NONE
    is_active = consent.get("status") == "active"
    is_asked = is_active and isinstance(provision, Mapping)
    provisions = read_provisions(provision, base, reading) if is_asked else ()
    meta = consent.get("meta")
    version = meta.get("versionId") if isinstance(meta, Mapping) else None
    moment = consent.get("dateTime")
    return Given(
        id=str(consent.get("id", "")),
        version=version if isinstance(version, str) else "",
        is_active=is_active,
        scopes=frozenset(codings(consent.get("scope"))),
        line=_line(consent, reading),
        moment=interval(moment) if isinstance(moment, str) else None,
        base=base,
        rule=rule,
        is_modified="modifierExtension" in consent,
        has_provision=has_provision and provision is not None,
        provisions=provisions,
        exceptions={},
        lefts={},
    )


def _line(
    consent: Mapping[str, Any], reading: ConsentReading
) -> tuple[frozenset[str], frozenset[str]] | None:
    """Who agreed, and to which policy; None where one of them cannot be told."""
    performers, policies = set(), set()
    for each in objects(consent.get("performer")):
        text = each.get("reference")
        if not isinstance(text, str):
            return None
        performers.add(local_name(text.partition("/_history/")[0], reading.bases))
    for each in objects(consent.get("policy")):
        uri = each.get("uri")
        if not isinstance(uri, str):
            return None
        policies.add(uri)
    policies |= {f"{system}|{code}" for system, code in codings(consent.get("policyRule"))}
    return (frozenset(performers), frozenset(policies)) if performers and policies else None


def _of_untyped(provision: Mapping[str, Any], rule: Said) -> Said:
    """What a first provision says that has no type (FHIR R4: it is an exception to the policy rule).

    Who opts in and names somebody or something may mean to withhold it, as HL7's own examples do; who only says until
    when, or what is permitted within, permits no more than that.
    """
    if rule is not Said.PERMIT:
        return rule
    if "provision" in provision:
        return Said.NONE
    return rule if provision.keys().isdisjoint(ELEMENTS) else Said.DENY


def _of_rule(consent: Mapping[str, Any]) -> Said:
    """What the policy rule says where no provision does: OPTIN and OPTOUT are understood."""
    codes = {code for _, code in codings(consent.get("policyRule"))}
    if codes & {"OPTOUT", "OPTOUTE"}:
        return Said.DENY
    return Said.PERMIT if codes & {"OPTIN", "OPTINR"} == {"OPTIN"} else Said.NONE
