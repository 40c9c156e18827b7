"""What is asked of a patient's consents (FHIR R4 Consent), what they answer, and which of them count."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.consents.resource_facts import ResourceFacts
from gateway.fhir.labels import ABOVE_ALL

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
ACTIONS = frozenset({"access", "use", "disclose"})
_MOST_RECORDED = 200
GIVEN = frozenset({"active", "inactive", "rejected"})
"""Status of what a patient once said: active is in force, the others are not any more."""


class Said(StrEnum):
    """What consents say."""

    PERMIT = "permit"
    DENY = "deny"
    NONE = "none"


class Why(StrEnum):
    """By what consents say it."""

    PROVISION = "provision"  # the base provision
    EXCEPTION = "exception"  # a provision within another
    POLICY_RULE = "policy-rule"  # Consent.policyRule, where no provision says it
    DOUBT = "doubt"  # a denial of which an element cannot be told
    OPT_OUT = "opt-out"  # nobody asked the patient, and the configuration says yes
    SILENT = "silent"  # no consent speaks of it


@dataclass(frozen=True, slots=True)
class ConsentCondition:
    """What a rule asks of a patient's consents: their scope, what they say, and for whom.

    actors   the names of one caller; none asks for everybody
    inherit  elements by which the labels of other resources count too
    """

    scope: tuple[str, str]
    decision: Said
    actors: tuple["ActorName", ...] = ()
    inherit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActorName:
    """One name of the caller: a text, a claim of the token, or the client itself."""

    text: str = ""
    claim: str | None = None
    is_client: bool = False


@dataclass(frozen=True, slots=True)
class ConsentQuestion:
    """What is asked of consents.

    scope      system and code of Consent.scope
    actors     for whom: references and values of identifiers, all of one caller; None asks for everybody
    purposes   purposes of use of the caller, as codes
    type       the resource type that is to be used; None where it is not said
    resource   what is known of the resource itself; None where it is not at hand
    is_partial whether the caller may have further names, which cannot be told
    """

    scope: tuple[str, str]
    actors: frozenset[str] | None
    purposes: frozenset[str]
    type: str | None
    resource: ResourceFacts | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class ConsentReading:
    """How the consents of a store are read, by its configuration.

    bases       URLs by which references are the store's own
    opt_out     scopes, as system and code, of which who never said anything has agreed
    unlabelled  what the confidentiality of a resource without labels is taken for; ABOVE_ALL for what nobody may know
    """

    bases: frozenset[str] = frozenset()
    opt_out: frozenset[tuple[str, str]] = frozenset()
    unlabelled: int = ABOVE_ALL


@dataclass(frozen=True, slots=True)
class Basis:
    """A provision that decides: the consent's id and version ('' without one), and the path of the provision."""

    consent: str
    version: str
    provision: str
    said: Said
    why: Why

    def as_record(self) -> dict[str, object]:
        """What the audit record says of it."""
        return {
            "consent": self.consent,
            "version": self.version,
            "provision": self.provision,
            "decision": str(self.said),
            "why": str(self.why),
        }


def bases_record(bases: Iterable[Basis]) -> list[dict[str, object]]:
    """What the audit record says of provisions that decided; at most 200 of them."""
    found = sorted(bases, key=lambda each: (each.consent, each.version, each.provision, each.said))
    return [each.as_record() for each in found[:_MOST_RECORDED]]


@dataclass(frozen=True, slots=True)
class Obligation:
    """What of a permit hangs on the resource: what must be hidden, or what alone may be shown.

    limits are the elements of the provision, as the consent has them.
    """

    hides: bool
    basis: Basis
    limits: Mapping[str, object] = field(hash=False)


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """What consents say.

    bases        the provisions that made it so
    why          by what
    depends      whether it hangs on the resource, which was not at hand: PERMIT then is for some resources alone
    obligations  of a PERMIT that depends, on what
    """

    said: Said
    bases: tuple[Basis, ...] = ()
    why: Why = Why.SILENT
    depends: bool = False
    obligations: tuple[Obligation, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the consents that made it so."""
        return frozenset(basis.consent for basis in self.bases)


@dataclass(frozen=True, slots=True)
class ConsentSource:
    """Which consents count: those of these organizations or with one of these tags, all where neither is given.

    verified is whether a consent must be verified (Consent.verification).
    """

    organizations: frozenset[str] = frozenset()
    tags: frozenset[tuple[str, str]] = frozenset()
    verified: bool = True

    def takes(self, consent: Mapping[str, Any], patient: str) -> bool:
        """Whether this patient said it, in the source, verified where that is asked; in force or withdrawn since."""
        if consent.get("resourceType") != "Consent" or consent.get("status") not in GIVEN:
            return False
        subject = consent.get("patient")
        named = subject.get("reference") if isinstance(subject, Mapping) else None
        if not isinstance(named, str) or named.partition("/_history/")[0] != f"Patient/{patient}":
            return False
        return self._is_of(consent) and (not self.verified or _is_verified(consent))

    def _is_of(self, consent: Mapping[str, Any]) -> bool:
        if not self.organizations and not self.tags:
            return True
        named = {each.get("reference") for each in objects(consent.get("organization"))}
        meta = consent.get("meta")
        tags = {
            (tag.get("system"), tag.get("code"))
            for tag in objects(meta.get("tag") if isinstance(meta, Mapping) else None)
        }
        return not self.organizations.isdisjoint(named) or not self.tags.isdisjoint(tags)


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of an element that may repeat, without what is none."""
    return [each for each in listed(value) if isinstance(each, Mapping)]


def listed(value: object) -> list[Any]:
    """The values of an element that may repeat."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_verified(consent: Mapping[str, Any]) -> bool:
    found = [each.get("verified") for each in objects(consent.get("verification"))]
    return bool(found) and all(each is True for each in found)
