"""What the consents of one patient say to a question, computed as HL7 FHIR R4 and IHE PCF describe.

Of the provisions of one consent that speak of what is asked the most specific ones decide, and among them a denial
wins. Of several consents a denial wins, unless a later one of the same persons about the same policy speaks of it. What
is permitted is so until it is withdrawn.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
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
    objects,
)
from gateway.consents.elements import ELEMENTS, Met, local_name
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
AS_IT_STANDS = ConsentReading()
"""Consents read without any configuration."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What one consent may say to a question: one word where all is told, several where it hangs on the resource."""

    may: frozenset[Said]
    holding: tuple[tuple[Provision, bool], ...]  # with whether every element was told
    open: tuple[Provision, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """One consent, read once.

    line        who agreed to which policy, None where one of both is not said
    moment      when, None where it is not said
    rule        what its policyRule says
    provisions  none of a consent that is not in force: nobody asks them
    exceptions  by number of a provision, those that are exceptions to it, as far as somebody asked
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

    @property
    def recorded(self) -> frozenset[Scope]:
        """The scopes of which it records something that is no denial, whether it is in force or not any more."""
        return frozenset() if self.base is Said.DENY else self.scopes

    def is_later_than(self, other: "Given") -> bool:
        """Whether the same persons gave it after the other one, about the same policy."""
        if self.line is None or self.line != other.line or self.moment is None or other.moment is None:
            return False
        return self.moment[0] >= other.moment[1]

    def spoken(self, question: ConsentQuestion, now: int, reading: ConsentReading) -> Spoken:
        """What it may say, whatever other consents say."""
        if not self.is_active:
            return Spoken(frozenset({Said.NONE}), (), ())
        holding, hanging = [], []
        for each in self.provisions:
            found, is_clear = each.met(question, now, reading)
            if found is Met.HOLDS:
                holding.append((each, is_clear))
            elif found is Met.OPEN:
                hanging.append(each)
        sure = [each for each, _ in holding]
        if len(hanging) > _MOST_OPEN:
            may = _ANYTHING
        else:
            chosen = (some for count in range(len(hanging) + 1) for some in combinations(hanging, count))
            may = frozenset(self._said([*sure, *some]) for some in chosen)
        return Spoken(may, tuple(holding), tuple(hanging))

    def _said(self, speaking: Sequence[Provision]) -> Said:
        said = {each.type for each in self._deciding(speaking)}
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
        self._recorded = frozenset(recorded).union(*(each.recorded for each in given))

    def answer(self, question: ConsentQuestion, now: int) -> ConsentAnswer:
        """What they say. now is seconds since 1970."""
        given = [each for each in self._given if question.scope in each.scopes]
        own = [each.spoken(question, now, self._reading) for each in given]
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


def answer(
    consents: Iterable[Mapping[str, Any]],
    question: ConsentQuestion,
    now: int,
    reading: ConsentReading = AS_IT_STANDS,
) -> ConsentAnswer:
    """What these consents of one patient say, all of them from a source that is trusted. now: seconds since 1970."""
    return PatientConsents(consents, reading).answer(question, now)


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
