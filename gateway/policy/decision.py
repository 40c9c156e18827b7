"""Permit, Deny, Nothing: the three answers to a request, and the verdict on one resource."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.cda.section_condition import SectionCondition
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.joins import Include
from gateway.fhir.outcome import Reason
from gateway.policy.attachments import NOTHING_NEEDED, Needs
from gateway.policy.known import Known
from gateway.policy.obligations import NO_OBLIGATIONS, Emergency, Obligations

Resource = Mapping[str, Any]  # a parsed FHIR resource


@dataclass(frozen=True, slots=True)
class Environment:
    """What a decision may depend on beside request and caller.

    now is seconds since 1970. location is the identifier of the mount that is asked; '' is none that a detail names.
    known is what was found out for this request; where nothing was, what policies ask of facts and consents is not met.
    emergency is what is known of one; None where emergency access opens nothing, whatever is said.
    """

    now: int
    peer: str
    location: str = ""
    known: Known = field(default_factory=Known, compare=False)
    emergency: Emergency | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one resource may be shown, and under which rules ('scope' rules included).

    seen is what of it goes out, None for all of it as it is.
    """

    shown: bool
    rules: tuple[str, ...]
    reason: Reason | None = None
    seen: Resource | None = None


Judge = Callable[[Resource], Verdict]


@dataclass(frozen=True, slots=True)
class LookingJudge:
    """A judge that looks at these members alone of a resource in which no other is contained: those alike have one verdict.

    What it shows of such a resource it shows whole. Whatever stands around it is a judge of which nothing is known.
    """

    verdict: Judge
    looks_at: frozenset[str]

    def __call__(self, resource: Resource) -> Verdict:
        """The verdict on a resource."""
        return self.verdict(resource)


# The stored version, the version to be stored.
ChangeJudge = Callable[[Resource | None, Resource | None], Verdict]


@dataclass(frozen=True, slots=True)
class Included:
    """What a search may bring beside its matches: what was asked for, the judge of each type of it, what all oblige to."""

    includes: tuple[Include, ...]
    judges: Mapping[str, Judge]
    obligations: Obligations = NO_OBLIGATIONS


@dataclass(frozen=True, slots=True)
class BySearch:
    """What holds only where a search proves that it was narrowed.

    proof    'name=value' of the criteria that the store's self link must name before anything is shown
    judge    the judge that counts then
    unwraps  the request was a read: the one resource that is found goes out by itself
    """

    proof: tuple[str, ...]
    judge: Judge
    unwraps: bool


@dataclass(frozen=True, slots=True)
class ByList:
    """A search of the members of a List: nothing is shown before the caller's own read of it has shown it."""

    id: str
    judge: Judge


@dataclass(frozen=True, slots=True)
class Permit:
    """The request may go upstream, as `request`. Only the engine makes one.

    request   narrowed: own criteria added as further AND parameters
    judge     decides on each returned resource before a byte of it goes out, and on a new one before the store
              hears of it; None where nothing is shown
    added     the terms that the gateway added, to be found again in the self link (proof of narrowing); with opened,
              those parameters of the search as well
    needed    of a search: parameters of the caller's that the permits take part by; a self link without one means that
              the store found more than they open
    conceal   a resource that the judge refuses is answered 404, as if it did not exist
    rules     names of the rules that may permit it, for audit
    exact     narrowing says all that the judge checks: Bundle.total may be passed on
    audit     audit level: basic | standard | full
    unconditional  no condition looks at the resource: what nobody can read may pass too
    included  what a search may bring beside its matches; None: nothing
    judge_change  of a write: decides on the stored version (None: there is none) and on the version that is to be
              stored (None: it is deleted), both at once; judge decides on either alone
    judges    of an operation: a judge for each type that it may return; a type without one is refused
    needs     of a Binary: what has to be found out about it before it is judged
    sections  of a Binary: by permit, what of the sections of a clinical document is shown, None for all; None: all
    jobs_at_once  of an export: how many of one client's may run at the same time
    leaves_to_judge  of a search: the judge may leave out what the search finds, since not all could be said in it
    by_search     set where only a search can tell a condition; judge then shows nothing
    by_list       set where a List must be read first; judge then shows nothing
    opened        of a search: which of _filter, _list, _text, _content it uses. The store must be known to carry them
                  out, and nothing is shown before its self link has named all of added
    obligations   what must be done before anything goes out
    """

    request: FhirRequest
    judge: Judge | None
    added: tuple[str, ...]
    conceal: bool
    rules: tuple[str, ...]
    exact: bool
    audit: str = "standard"
    unconditional: bool = False
    included: Included | None = None
    judge_change: ChangeJudge | None = None
    judges: Mapping[str, Judge] = field(default_factory=dict)
    jobs_at_once: int = 1
    obligations: Obligations = NO_OBLIGATIONS
    needs: Needs = NOTHING_NEEDED
    by_search: BySearch | None = None
    sections: Mapping[str, SectionCondition | None] | None = None
    leaves_to_judge: bool = False
    by_list: ByList | None = None
    opened: frozenset[str] = frozenset()
    needed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StepUp:
    """The sign-in that would open what is refused: by one of acr_values (any without), at most max_age seconds ago."""

    acr_values: tuple[str, ...]
    max_age: int | None


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused. explanation is for the operator; the caller gets the reason only, and step_up."""

    reason: Reason
    rules: tuple[str, ...]
    explanation: str
    conceal: bool = False
    step_up: StepUp | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """The request is allowed and finds nothing: answered with an empty searchset, nobody is asked."""

    rules: tuple[str, ...]
    explanation: str


Decision = Permit | Deny | Nothing
