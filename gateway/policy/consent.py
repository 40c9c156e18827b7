"""What a patient's consents say to a question: FHIR R4 Consent, evaluated without asking anybody.

The provision of a consent is its rule, provisions inside it are exceptions. What is not understood permits nothing:
a permit with such a condition does not hold, a denial with one does. Of several consents a denial wins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from gateway.fhir.dates import value_interval

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
ACTIONS = frozenset({"access", "use", "disclose"})
_RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
_UNDERSTOOD = frozenset(
    {"id", "extension", "type", "period", "actor", "action", "purpose", "class", "provision"}
)
_MAX_DEPTH = 8
_SECOND = 1_000_000
_EPOCH = date(1970, 1, 1).toordinal() * 86400 * _SECOND


class Said(StrEnum):
    """What consents say."""

    PERMIT = "permit"
    DENY = "deny"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ConsentCondition:
    """What a rule asks of a patient's consents: their scope, what they say, and for whom, as text or by a claim."""

    scope: tuple[str, str]
    decision: Said
    actor: str | None = None
    actor_claim: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentQuestion:
    """What is asked of consents.

    scope     system and code of Consent.scope
    actor     for whom: a reference, or the value of an identifier; None asks for everybody
    purposes  purposes of use of the caller, as codes
    type      the resource type that is to be used
    """

    scope: tuple[str, str]
    actor: str | None
    purposes: frozenset[str]
    type: str


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """What consents say, and the ids of those that made it so."""

    said: Said
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ConsentSource:
    """Which consents count: those of these organizations or with one of these tags, all where neither is given.

    verified is whether a consent must be verified (Consent.verification).
    """

    organizations: frozenset[str] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()
    verified: bool = True

    def takes(self, consent: Mapping[str, Any], patient: str) -> bool:
        """Whether it is an active consent of this patient, from the source, verified where that is asked."""
        if consent.get("resourceType") != "Consent" or consent.get("status") != "active":
            return False
        subject = consent.get("patient")
        named = subject.get("reference") if isinstance(subject, Mapping) else None
        if not isinstance(named, str) or named.partition("/_history/")[0] != f"Patient/{patient}":
            return False
        return self._is_of(consent) and (not self.verified or _is_verified(consent))

    def _is_of(self, consent: Mapping[str, Any]) -> bool:
        if not self.organizations and not self.tags:
            return True
        named = {each.get("reference") for each in _objects(consent.get("organization"))}
        meta = consent.get("meta")
        tags = {
            (tag.get("system"), tag.get("code"))
            for tag in _objects(meta.get("tag") if isinstance(meta, Mapping) else None)
        }
        return not self.organizations.isdisjoint(named) or not self.tags.isdisjoint(tags)


def answer(consents: Iterable[Mapping[str, Any]], question: ConsentQuestion, now: int) -> ConsentAnswer:
    """What these consents of one patient say, all of them from a source that is trusted. now: seconds since 1970."""
    found: dict[Said, set[str]] = {said: set() for said in Said}
    for consent in consents:
        if question.scope in _codings(consent.get("scope")):
            found[_said(consent, question, now)].add(str(consent.get("id", "")))
    for said in (Said.DENY, Said.PERMIT):
        if found[said]:
            return ConsentAnswer(said, frozenset(found[said]))
    return ConsentAnswer(Said.NONE)


def _said(consent: Mapping[str, Any], question: ConsentQuestion, now: int) -> Said:
    said = _read(consent, question, now)
    # An extension that changes the meaning is not understood: it may take a permit back, and a denial stays one.
    return Said.NONE if "modifierExtension" in consent and said is Said.PERMIT else said


def _read(consent: Mapping[str, Any], question: ConsentQuestion, now: int) -> Said:
    provision = consent.get("provision")
    if provision is None:
        return _of_rule(consent)
    if not isinstance(provision, Mapping):
        return Said.NONE
    rule = _of_rule(consent)
    base = _type(provision) if "type" in provision else rule
    said = _provided(provision, base, question, now, _MAX_DEPTH)
    # Who opted out and permits something permits nothing else.
    return Said.DENY if said is Said.NONE and base is Said.PERMIT and rule is Said.DENY else said


def _provided(
    provision: Mapping[str, Any], own: Said, question: ConsentQuestion, now: int, depth: int
) -> Said:
    """What a provision says with its exceptions; a denial anywhere among those that apply wins."""
    met = _is_met(provision, question, now)
    if met is False:
        return Said.NONE
    inner = {
        _provided(each, _type(each), question, now, depth - 1) if depth else Said.DENY
        for each in _objects(provision.get("provision"))
    }
    if len(_objects(provision.get("provision"))) != len(_listed(provision.get("provision"))):
        inner.add(Said.DENY)  # an exception that cannot be read may forbid
    if Said.DENY in inner:
        return Said.DENY
    if met is None:
        return Said.DENY if own is Said.DENY else Said.NONE
    return Said.PERMIT if Said.PERMIT in inner else own


def _is_met(provision: Mapping[str, Any], question: ConsentQuestion, now: int) -> bool | None:
    """Whether the conditions of a provision hold; None where one is not understood and none surely fails."""
    found: list[bool | None] = [True if set(provision) <= _UNDERSTOOD else None]
    if "period" in provision:
        found.append(_is_within(provision["period"], now))
    if "actor" in provision:
        found.append(_names(provision["actor"], question.actor))
    for key, wanted in (("action", ACTIONS), ("purpose", question.purposes)):
        if key in provision:
            # Whoever says no purpose may have any: what a patient forbids for one is forbidden.
            found.append(_is_one_of(provision[key], wanted) if wanted else None)
    if "class" in provision:
        found.append(_is_class(provision["class"], question.type))
    return False if False in found else None if None in found else True


def _is_within(period: object, now: int) -> bool | None:
    if not isinstance(period, Mapping) or not {"start", "end", "id"} >= set(period):
        return None
    found = value_interval(period)
    return None if found is None else found[0] <= _EPOCH + now * _SECOND < found[1]


def _names(actors: object, wanted: str | None) -> bool | None:
    """Whether one of the actors is the one that is asked for."""
    if wanted is None:
        return None
    names: set[object] = set()
    is_readable = len(_objects(actors)) == len(_listed(actors))
    for actor in _objects(actors):
        reference = actor.get("reference")
        if not isinstance(reference, Mapping):
            return None
        identifier = reference.get("identifier")
        value = identifier.get("value") if isinstance(identifier, Mapping) else None
        names |= {reference.get("reference"), value}
        if isinstance(identifier, Mapping):
            names.add(f"{identifier.get('system')}|{value}")
        if not isinstance(value, str) and not isinstance(reference.get("reference"), str):
            is_readable = False
    return True if wanted in names else False if is_readable else None


def _is_class(classes: object, type_: str) -> bool | None:
    found = _objects(classes)
    if any(each.get("system") != _RESOURCE_TYPES for each in found) or len(found) != len(_listed(classes)):
        return None
    return any(each.get("code") == type_ for each in found)


def _of_rule(consent: Mapping[str, Any]) -> Said:
    """What the policy rule says where no provision does: OPTIN and OPTOUT are understood."""
    codes = {code for _, code in _codings(consent.get("policyRule"))}
    if codes & {"OPTOUT", "OPTOUTE"}:
        return Said.DENY
    return Said.PERMIT if codes & {"OPTIN", "OPTINR"} == {"OPTIN"} else Said.NONE


def _type(provision: Mapping[str, Any]) -> Said:
    kind = provision.get("type")
    return Said.PERMIT if kind == "permit" else Said.DENY  # what is neither may forbid


def _is_verified(consent: Mapping[str, Any]) -> bool:
    found = [each.get("verified") for each in _objects(consent.get("verification"))]
    return bool(found) and all(each is True for each in found)


def _is_one_of(value: object, wanted: frozenset[str]) -> bool | None:
    """Whether a code of codings or concepts is one of these; None where it is not, and one cannot be read."""
    found: set[object] = set()
    for each in _listed(value):
        codings = _objects(each.get("coding", each)) if isinstance(each, Mapping) else []
        codes = {code for coding in codings if isinstance(code := coding.get("code"), str)}
        found |= codes or {None}
    return True if not found.isdisjoint(wanted) else None if None in found else False


def _codings(concept: object) -> set[tuple[object, object]]:
    codings = concept.get("coding") if isinstance(concept, Mapping) else None
    return {(coding.get("system"), coding.get("code")) for coding in _objects(codings)}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [each for each in _listed(value) if isinstance(each, Mapping)]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
