"""Rules as they stand after loading: every name resolved, nothing left to parse at a request."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.cda.section_condition import SectionCondition
from gateway.consents.consent import ConsentCondition
from gateway.fhir.interaction import Interaction
from gateway.fhir.labels import LabelCondition
from gateway.policy.attachments import BinaryCondition, CdaCondition
from gateway.policy.facts import Fact
from gateway.policy.hours import Hours, Validity
from gateway.policy.obligations import NOTHING_MORE, BreakGlass, Then
from gateway.policy.query import EVERYTHING_SIMPLE, Query
from gateway.policy.statements import ResourceStatement
from gateway.policy.view import Precision
from gateway.policy.write_rules import SAYS_NOTHING, Conditional, WriteRule
from gateway.yaml_source import Place, Problem

FACT = re.compile(r"\{facts\.([A-Za-z][A-Za-z0-9_-]*)\}")
"""A fact in criteria: its values as alternatives."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ENVELOPES = frozenset({Interaction.BATCH, Interaction.TRANSACTION})
"""What holds requests and is none itself."""


class Effect(StrEnum):
    """What a rule does when it matches."""

    PERMIT = "permit"
    DENY = "deny"
    REQUIRE = "require"


class Status(StrEnum):
    """Whether a policy is in force."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that policies may speak of: where it stands in the token, and its type."""

    name: str
    path: tuple[str, ...]
    type: str  # id | reference | string | codes
    of: tuple[str, ...] = ()
    # Resource types that it is made of, closed for writing as those of facts.
    source: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One condition of `who`: the caller's values of this dimension must meet `values`, or must not."""

    name: str  # context | client | bound | issuer | scope, or the name of a claim
    values: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a permit or require asks of the person's sign-in: how (one of acr, any without), and how long ago at most."""

    acr: tuple[str, ...] = ()
    within_seconds: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether any sign-in will do, and none."""
        return not self.acr and self.within_seconds is None


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a condition: words of the file, a claim of the token or a fact, whole, never pasted into text."""

    words: tuple[str, ...] = ()
    claim: str | None = None
    fact: str | None = None


@dataclass(frozen=True, slots=True)
class CompartmentCondition:
    """The resource belongs to one of these patients. membership: subject | spec | all."""

    patient: Value
    membership: str


@dataclass(frozen=True, slots=True)
class Where:
    """Conditions on the resource; all that are given must hold. An empty Where always holds."""

    compartment: CompartmentCondition | None = None
    match: Mapping[str, str] = field(default_factory=dict)  # type → search criteria, '' for any
    ids: frozenset[str] | None = None
    labels: LabelCondition | None = None
    any_of: tuple["Where", ...] = ()  # one of them must hold, where any is given
    consent: ConsentCondition | None = None
    fhirpath: Mapping[str, ResourceStatement] = field(default_factory=dict)  # by type
    binary: BinaryCondition | None = None  # with it, all the others are about what leads to a Binary
    cda: CdaCondition | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at on the resource."""
        return self == Where()

    @property
    def facts(self) -> frozenset[str]:
        """The facts that its own conditions look at, not those of any_of."""
        found = {name for query in self.match.values() for name in FACT.findall(query)}
        if self.compartment is not None and self.compartment.patient.fact is not None:
            found.add(self.compartment.patient.fact)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Unless:
    """An exception of a rule that closes: caller and resource are as said, and, where any is given, one of any_of."""

    who: tuple[Dimension, ...] = ()
    where: Where = Where()
    any_of: tuple["Unless", ...] = ()

    @property
    def looks_at_resource(self) -> bool:
        """Whether it depends on more than the caller."""
        return not self.where.is_empty or any(each.looks_at_resource for each in self.any_of)


@dataclass(frozen=True, slots=True)
class Returned:
    """What a permit shows of resources: elements with their type in front. only is None where it is not limited.

    sections is what it shows of clinical documents; None for all of them.
    """

    only: tuple[str, ...] | None = None
    hide: tuple[str, ...] = ()
    rounded: tuple[tuple[str, Precision], ...] = ()
    sections: SectionCondition | None = None


JOB_STEPS = ("export-status", "export-file", "export-cancel")
"""What follows the kick-off of an export: status, files, end (Bulk Data Access 2.0)."""


@dataclass(frozen=True, slots=True)
class OperationAccess:
    """What a rule says of operations.

    names         'Type/$name' or '$name'; None is every operation, which only a deny or a require says
    types         types that may be returned; None says nothing of types
    type_filter   search criteria by type, of what an export may hold
    jobs_at_once  exports of one client that may run at the same time
    follows       what its client may do with a job that it began, of JOB_STEPS; None is all of it
    """

    names: frozenset[str] | None = frozenset()
    types: frozenset[str] | None = None
    type_filter: Mapping[str, str] = field(default_factory=dict)
    jobs_at_once: int = 1
    follows: frozenset[str] | None = None

    @property
    def exports(self) -> bool:
        """Whether an export is among its names."""
        return self.names is not None and any(name.endswith("$export") for name in self.names)

    def speaks_of(self, type_: str | None, operation: str | None) -> bool:
        """Whether this operation is one of its names."""
        return self.names is None or not self.names.isdisjoint({f"${operation}", f"{type_}/${operation}"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. id is 'policy/rule', as audit and explanations name it. resources: None means any type.

    at_most is how many entries a transaction may have that it opens; None for as many as the mount takes.
    """

    id: str
    effect: Effect
    who: tuple[Dimension, ...]
    networks: tuple[Network, ...] | None
    may: frozenset[Interaction]
    resources: frozenset[str] | None
    where: Where
    shared: bool
    conceal: bool
    audit: str
    because: str
    place: Place
    sign_in: SignIn = SignIn()
    query: Query = EVERYTHING_SIMPLE
    write: WriteRule = SAYS_NOTHING
    conditional: Conditional | None = None
    returned: Returned | None = None
    unless: Unless | None = None
    # What a deny takes away; without it the deny is about the whole resource.
    fields: tuple[str, ...] | None = None
    operation: OperationAccess = OperationAccess()
    at_most: int | None = None
    named: frozenset[str] = frozenset()  # the types that stand in its resources by their own name
    hours: tuple[Hours, ...] | None = None
    valid: Validity | None = None  # of its policy
    then: Then = NOTHING_MORE
    break_glass: BreakGlass | None = None

    @property
    def policy(self) -> str:
        """The name of its policy."""
        return self.id.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """A test inside a policy file, as read; gateway.policy.selftests.selftest runs it."""

    name: str
    policy: str
    body: Mapping[str, object]
    place: Place


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Everything that was loaded together. hash names exactly these files.

    rules are those in force, shadow and off those of policies that are not, tests those of all policies.
    """

    hash: str
    claims: Mapping[str, Claim]
    rules: tuple[Rule, ...]
    tests: tuple[PolicyTest, ...]
    warnings: tuple[Problem, ...] = ()
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)  # of tests, by the name of their file
    shadow: tuple[Rule, ...] = ()
    off: tuple[Rule, ...] = ()

    @property
    def every_rule(self) -> tuple[Rule, ...]:
        """The rules of all policies, in force or not."""
        return (*self.rules, *self.shadow, *self.off)

    def enforcing(self, policy: str) -> "PolicySet":
        """The set as it would be if this policy, in shadow or off, were enforced too."""
        waiting = tuple(rule for rule in (*self.shadow, *self.off) if rule.policy == policy)
        return replace(self, rules=(*self.rules, *waiting), shadow=(), off=()) if waiting else self
