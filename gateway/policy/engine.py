"""The engine: request, caller and environment in; Permit, Deny or Nothing out.

Result = scopes ∧ policies. Scopes and permits deny by default, a deny wins over every permit, a require must hold.
What depends on the stored resource becomes the judge of the Permit, which decides on each resource before a byte of
it goes out; what a search can say of it is added to the search, where it can only narrow.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from authz.protocol.authorization_details import DetailType
from authz.protocol.tokens import Caller
from gateway.cda.section_condition import SectionCondition
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import Reason
from gateway.policy import by_search, operations
from gateway.policy.attachments import NOTHING_NEEDED, Needs, needs_of
from gateway.policy.conditions import ALWAYS, compartment_condition
from gateway.policy.decision import Decision, Deny, Environment, Permit
from gateway.policy.details_layer import FHIR_ACCESS
from gateway.policy.index import WHOLE_SYSTEM
from gateway.policy.layers import Layers, ids, judge, judge_change, limit
from gateway.policy.reads import CompiledReads
from gateway.policy.rules import PolicySet, Rule
from gateway.policy.scope_layer import ScopeRefusal, Standing
from gateway.policy.searches import criteria_added, decide_search
from gateway.policy.sight_in_force import JUDGED
from gateway.policy.step_up import as_signed_in, together

_WRITTEN = frozenset({Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})


class Engine(CompiledReads):
    """Decides by one policy set.

    bases are the URLs, public and upstream, by which resources are our own. detail_types are the authorization
    details that are enforced.
    """

    def __init__(
        self,
        policies: PolicySet,
        *,
        bases: frozenset[str],
        detail_types: tuple[DetailType, ...] = (FHIR_ACCESS,),
    ) -> None:
        super().__init__(policies, bases=bases, detail_types=detail_types)
        self.shadows: Mapping[str, Engine] = {
            name: Engine(policies.enforcing(name), bases=bases, detail_types=detail_types)
            for name in dict.fromkeys(rule.policy for rule in policies.shadow)
        }
        """By policy in shadow the engine that would decide if it were enforced."""

    def decide(
        self,
        asked: FhirRequest,
        caller: Caller,
        environment: Environment,
        *,
        criteria: tuple[SearchTerm, ...] = (),
    ) -> Decision:
        """The decision on a request. Never raises for what a caller can send.

        criteria are those of a conditional write: only permits that let a resource be found by them count.
        """
        # Emergency access is for what names its patient itself, never for what an operation or a join goes on to read.
        others = environment if environment.emergency is None else replace(environment, emergency=None)
        if asked.interaction is Interaction.OPERATION:
            return operations.decide(self, asked, caller, others)
        if asked.type is None:
            return Deny(Reason.INTERACTION_CLOSED, (), f"{asked.interaction} on the whole system is closed")
        layers = self._speaking(asked, asked.type, caller, environment, criteria)
        if isinstance(layers, Deny):
            return layers
        apart = by_search.parted(layers, asked.interaction)
        if isinstance(apart, Deny):
            return apart
        layers, needs_proof = apart
        if asked.interaction is Interaction.CREATE:
            return self._create(asked, asked.type, layers)
        if asked.interaction in _WRITTEN:
            return self._write(asked, asked.type, layers, is_conditional=bool(criteria))
        if asked.interaction not in JUDGED:
            return Deny(Reason.INTERACTION_CLOSED, (), f"{asked.interaction} is not decided by this version")
        if asked.interaction is not Interaction.SEARCH:
            found = self._instance(asked, asked.type, layers)
            return self._by_search(asked, asked.type, layers, found) if needs_proof else found

        wanting: list[Deny] = []  # what another sign-in would open on the way of a join

        def right(type_: str, interaction: Interaction, terms: tuple[SearchTerm, ...]) -> Layers | Deny:
            touching = FhirRequest("GET", interaction, type_, terms=terms)
            found = self._speaking(touching, type_, caller, others)
            if isinstance(found, Deny) and found.step_up is not None:
                wanting.append(found)
            return found

        decision = decide_search(asked, asked.type, layers, right, self._rules)
        if isinstance(decision, Deny) and decision.reason is Reason.JOIN_CLOSED and wanting:
            return self._after_sign_in(decision, wanting[0], asked, caller, environment)
        return by_search.proven(decision) if needs_proof and isinstance(decision, Permit) else decision

    def _after_sign_in(
        self, refused: Deny, wanting: Deny, asked: FhirRequest, caller: Caller, environment: Environment
    ) -> Deny:
        """The challenge for a join that would be open after a sign-in; the refusal where even that opens nothing."""
        if wanting.step_up is None:
            return refused
        signed_in = as_signed_in(caller, wanting.step_up, self._claims, environment.now)
        if signed_in.claims == caller.claims:
            return refused
        then = self.decide(asked, signed_in, environment)
        if not isinstance(then, Deny):
            return wanting
        both = None if then.step_up is None else together((wanting.step_up, then.step_up))
        return refused if both is None else replace(wanting, step_up=both)

    @property
    def bases(self) -> frozenset[str]:
        """The URLs by which resources are our own."""
        return self._bases

    def with_rules(self, rules: tuple[Rule, ...]) -> "Engine":
        """The same engine with these rules alone: for questions about one rule."""
        policies = replace(self.policies, rules=rules, tests=(), shadow=(), off=())
        return Engine(policies, bases=self._bases, detail_types=tuple(self._detail_types.values()))

    def standing_of(self, caller: Caller) -> Standing:
        """On whose behalf a caller speaks. Raises ScopeRefusal for one of no standing, whom no rule is asked about."""
        standing = self._acquainted(caller).standing
        if isinstance(standing, Deny):
            raise ScopeRefusal(standing.reason, standing.explanation)
        return standing

    def known_of(self, caller: Caller) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
        """What rules know of a caller, by dimension of `who`, and the dimensions whose value is not of their type.

        Raises ScopeRefusal for a caller of no standing, whom no rule is asked about.
        """
        self.standing_of(caller)
        acquaintance = self._acquainted(caller)
        return acquaintance.values, acquaintance.doubtful

    # Bundles

    def enveloping(
        self, asked: FhirRequest, kind: Interaction, entries: int, caller: Caller, environment: Environment
    ) -> Permit | Deny:
        """Whether asked may come as an entry of a Bundle of this kind that has so many entries; nothing else of it.

        kind is BATCH or TRANSACTION. The Permit shows nothing: the entry is decided by decide(), as if it came alone.
        """
        letting_in = self._letting_in(asked, kind, entries, caller, environment)
        if isinstance(letting_in, Deny):
            return letting_in
        return Permit(request=asked, judge=None, added=(), conceal=False, rules=letting_in, exact=False)

    # Instances

    def _instance(self, asked: FhirRequest, type_: str, layers: Layers) -> Decision:
        permits = ids(layers.permits)
        if type_ == "Patient" and asked.id is not None:
            # A patient is known by id alone: a stranger's is refused before the store hears of it.
            limits = limit(layers)
            if limits is not None and asked.id not in limits:
                return Deny(Reason.NOT_FOUND, permits, "the patient is not one that the caller may see", True)
        return Permit(
            request=asked,
            judge=judge(layers, type_, asked.id),
            added=(),
            conceal=layers.conceal,
            rules=permits,
            exact=False,
            audit=layers.audit,
            obligations=layers.obligations,
            needs=self._needs(type_, layers),
            sections=self._sections(type_, layers),
        )

    @cached_property
    def ways_to_binaries(self) -> frozenset[str]:
        """The types that lead to Binaries by some rule: an attachment in one of them opens something."""
        wheres = (rule.where for rule in self.policies.rules)
        return needs_of((where.binary, where.cda) for where in wheres).through

    def _needs(self, type_: str, layers: Layers) -> Needs:
        if type_ != "Binary":
            return NOTHING_NEEDED
        names = (*ids(layers.permits), *ids(layers.denies), *ids(layers.requires))
        wheres = [self._rules[name].where for name in names if name in self._rules]
        return needs_of((where.binary, where.cda) for where in wheres)

    def _sections(self, type_: str, layers: Layers) -> Mapping[str, SectionCondition | None] | None:
        """By permit, what of the sections of a document it shows; None where all show all."""
        if type_ != "Binary":
            return None
        rules = {name: self._rules[name].returned for name in ids(layers.permits) if name in self._rules}
        found = {name: None if returned is None else returned.sections for name, returned in rules.items()}
        return found if any(found.values()) else None

    def _by_search(self, asked: FhirRequest, type_: str, layers: Layers, decision: Decision) -> Decision:
        """A read that goes as a search, since only a search can tell the condition."""
        added = criteria_added(type_, layers, limit(layers))
        if not isinstance(decision, Permit):
            return decision
        if added is None:
            return Deny(Reason.TOLD_BY_SEARCH, decision.rules, f"{type_} cannot be narrowed in a search")
        return by_search.as_search(decision, asked, added)

    # Operations

    def opening(self, asked: FhirRequest, caller: Caller, environment: Environment) -> Decision:
        """Whether the rules open the operation itself; what it returns or takes is for decide() to say, type by type.

        The judge of the Permit is that of the instance which the operation is asked at.
        """
        who = self._acquainted(caller).standing
        if isinstance(who, Deny):
            return who
        own = ALWAYS
        if who.patient is not None and asked.type == "Patient":
            own = compartment_condition("Patient", frozenset({who.patient}), "spec", self._bases)
        type_ = asked.type or WHOLE_SYSTEM
        layers = self._layers(asked, type_, who, (("scope/operation", own),), caller, environment, None)
        if isinstance(layers, Deny):
            # What nobody opened is closed, as an operation is that is not known here.
            is_closed = layers.reason is Reason.NO_PERMIT and layers.step_up is None
            return replace(layers, reason=Reason.INTERACTION_CLOSED) if is_closed else layers
        decision = self._instance(asked, type_, layers)
        return (
            replace(decision, unconditional=_is_plain(layers)) if isinstance(decision, Permit) else decision
        )

    # Creates

    def _create(self, asked: FhirRequest, type_: str, layers: Layers) -> Decision:
        """The judge looks at the resource that is to be stored. It has no id yet: what asks for one does not hold."""
        change = judge_change(layers, type_, None)
        return Permit(
            request=asked,
            judge=lambda resource: change(None, resource),
            added=(),
            conceal=False,
            rules=ids(layers.permits),
            exact=False,
            audit=layers.audit,
            obligations=layers.obligations,
            judge_change=change,
            needs=replace(self._needs(type_, layers), whole=bool(layers.writes)),
            unconditional=_is_plain(layers),
        )

    # Updates, patches, deletes

    def _write(self, asked: FhirRequest, type_: str, layers: Layers, *, is_conditional: bool) -> Decision:
        """As for an instance that is read, and a judge of the change besides."""
        if asked.id is None and not is_conditional:
            return Deny(Reason.INTERACTION_CLOSED, ids(layers.permits), "a conditional write is closed here")
        decision = self._instance(asked, type_, layers)
        if not isinstance(decision, Permit):
            return decision
        return replace(decision, judge_change=judge_change(layers, type_, asked.id))


def _is_plain(layers: Layers) -> bool:
    """Whether some scope and some permit hold for any resource, and nothing else looks at it."""
    plain = any(condition is ALWAYS for _, condition in layers.scopes) and any(
        condition is ALWAYS for _, condition in layers.permits
    )
    closing = layers.denies or layers.requires or layers.writes or layers.held is not None
    return plain and not closing
