"""The questions behind an explanation: engines of one rule, one condition or one scope, asked about one request."""

from collections.abc import Iterable
from dataclasses import replace

from authz.protocol.scopes import clinical
from authz.protocol.tokens import Caller, caller_of
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import Reason
from gateway.fhir.search import OPENABLE
from gateway.fhir.told_by_search import needs_search
from gateway.policy import by_list, scope_layer
from gateway.policy.decision import Decision, Deny, Environment, Permit, Resource
from gateway.policy.engine import Engine
from gateway.policy.index import RuleIndex
from gateway.policy.inquiries.explanation_parts import Outcome, Part, RuleExplanation, ScopeExplanation, Truth
from gateway.policy.inquiries.plain import blank, conditions, plain
from gateway.policy.inquiries.request_conditions import asked_of_it
from gateway.policy.query import EVERYTHING_SIMPLE, Query
from gateway.policy.rules import Dimension, Effect, OperationAccess, Rule, Where
from gateway.policy.scope_layer import ScopeRefusal
from gateway.policy.write_rules import SAYS_NOTHING
from gateway.yaml_source import Place

_NOWHERE = Place("", 0, 0)
_LOOK_AT_IT = ("where", "unless")
"""Conditions of a rule that may look at the resource."""
_OF_OPERATIONS = frozenset(
    {
        Interaction.OPERATION,
        Interaction.READ,
        Interaction.SEARCH,
        Interaction.CREATE,
        Interaction.UPDATE,
        Interaction.DELETE,
    }
)


class Inquiry:
    """Asks engines of one rule or none about one request; resource is what is stored, or what is to be stored."""

    def __init__(
        self,
        engine: Engine,
        asked: FhirRequest,
        caller: Caller,
        environment: Environment,
        resource: Resource | None,
    ) -> None:
        self._engine = engine
        self._asked = asked
        self._caller = caller
        self._environment = environment
        self._resource = resource

    # Scopes

    def scopes(self) -> tuple[ScopeExplanation, ...]:
        """Each scope of the token as if it stood alone."""
        found = []
        for text in self._caller.scope:
            if not clinical((text,)):
                found.append(ScopeExplanation(text, Truth.FALSE, "it is not a scope for health data"))
                continue
            holds, why = self.opens(_with_scope(self._caller, text))
            found.append(ScopeExplanation(text, holds, why))
        return tuple(found)

    def opens(self, caller: Caller) -> tuple[Truth, str]:
        """What a caller could do if policies permitted everything."""
        asked, resource = self._asked, self._resource
        if asked.type is None and asked.interaction is not Interaction.OPERATION:
            return Truth.FALSE, "a request to the whole system is closed"
        engine = self._engine.with_rules((self._everything(asked.interaction),))
        decision = engine.decide(asked, caller, self._environment)
        if isinstance(decision, Deny):
            return Truth.FALSE, decision.explanation
        if isinstance(decision, Permit):
            decision = by_list.read(decision)
        if isinstance(decision, Permit) and decision.judge is not None and resource is not None:
            shown = decision.judge(resource).shown
            why = "it opens the resource" if shown else "it does not open the resource"
            return (Truth.TRUE if shown else Truth.FALSE), why
        if isinstance(decision, Permit) and decision.unconditional:
            return Truth.TRUE, "it opens the request"
        if self._is_plain(caller):
            return Truth.TRUE, "it opens the request"
        return (
            Truth.OPEN,
            "it opens the request as far as the resource is of the patient or matches the filter",
        )

    def _is_plain(self, caller: Caller) -> bool:
        try:
            who = self._engine.standing_of(caller)
        except ScopeRefusal:
            return False
        found = scope_layer.conditions(who, self._asked.interaction, self._asked.type or "", frozenset())
        return any(condition.patients is None and not condition.terms for _, condition in found)

    # Rules

    def rules(self, rules: Iterable[Rule]) -> tuple[RuleExplanation, ...]:
        """Every rule about this type and interaction; none where no rule is asked."""
        type_, interaction = self._asked.type, self._asked.interaction
        try:
            values, doubtful = self._engine.known_of(self._caller)
            context = self._engine.standing_of(self._caller).context
        except ScopeRefusal:
            return ()
        if type_ is None:
            return ()
        claims = {
            name: value for name, value in self._caller.claims.items() if name != "authorization_details"
        }
        self._wide = caller_of({**claims, "scope": f"{context}/*.cruds"}, issuer=self._caller.issuer)
        found = []
        for rule in rules:
            if interaction not in rule.may or (rule.resources is not None and type_ not in rule.resources):
                continue
            # Whom and what a deny of elements is about is asked as of one that is about the whole.
            about = replace(
                rule,
                fields=None,
                may=frozenset({Interaction.READ}),
                resources=frozenset({type_}),
                query=EVERYTHING_SIMPLE,
                write=SAYS_NOTHING,
                conditional=None,
                break_glass=None,
            )
            parts = []
            for dimension in rule.who:
                index = RuleIndex([replace(about, who=(dimension,))], ())
                met = bool(index.candidates(type_, Interaction.READ, values, doubtful))
                known = "not of its type" if dimension.name in doubtful else plain(values.get(dimension.name))
                parts.append(Part(f"who.{dimension.name}", _words(dimension), known, _truth(met)))
            if about.effect is Effect.PERMIT and not about.shared and self._refuses(_alone(about, "shared")):
                parts.append(Part("shared", True, False, Truth.FALSE))
            for name in conditions(about):
                parts.append(Part(name, plain(getattr(rule, name)), None, self._part(about, name)))
            if about.effect is Effect.PERMIT and self._hides_what_scopes_ask_of(about):
                said = "it hides what the filters of the scopes ask of"
                parts.append(Part("return", plain(rule.returned), said, Truth.FALSE))
            parts += [
                Part(name, plain(getattr(rule, name)), None, Truth.OPEN if holds is None else _truth(holds))
                for name, holds in asked_of_it(
                    rule,
                    self._asked,
                    self._resource,
                    self._engine.claims_of(self._caller),
                    self._environment.emergency,
                    self._engine.bases,
                )
            ]
            outcome = self._outcome(about, parts)
            if rule.fields is not None and outcome is Outcome.REFUSES:
                outcome = Outcome.HIDES
            found.append(RuleExplanation(rule, tuple(parts), outcome))
        return tuple(found)

    def _hides_what_scopes_ask_of(self, rule: Rule) -> bool:
        """Whether a permit opens nothing by these scopes, since their filters ask for what it does not show."""
        taking = tuple(each for each in self._engine.policies.rules if each.fields is not None)
        if rule.returned is None and not taking:
            return False
        asked = replace(self._asked, terms=(), compartment=None, posted=False)
        about = replace(rule, may=frozenset({asked.interaction}))
        decision = self._engine.with_rules((about, *taking)).decide(asked, self._caller, self._environment)
        if isinstance(decision, Permit) and decision.judge is not None and self._resource is not None:
            return decision.judge(self._resource).reason is Reason.SCOPE_INSUFFICIENT
        return isinstance(decision, Deny) and decision.reason is Reason.SCOPE_INSUFFICIENT

    def _part(self, rule: Rule, name: str) -> Truth:
        """One condition, as a rule with nothing else would have it."""
        alone = _alone(rule, name)
        if rule.effect is Effect.DENY:
            if self._refuses(alone):
                return Truth.TRUE
            return self._on_resource(alone) if name in _LOOK_AT_IT else Truth.FALSE
        if self._refuses(alone):
            return Truth.FALSE
        return self._on_resource(alone) if name in _LOOK_AT_IT else Truth.TRUE

    def _outcome(self, rule: Rule, parts: list[Part]) -> Outcome:
        """What the whole rule does."""
        if any(part.holds is Truth.FALSE and part.name.startswith("who.") for part in parts):
            return Outcome.UNMATCHED
        whole = replace(rule, who=())
        decision = self._decide(whole)
        if isinstance(decision, Deny) and decision.reason is Reason.STEP_UP_REQUIRED:
            return Outcome.STEP_UP
        write = next((part.holds for part in parts if part.name == "write"), Truth.TRUE)
        if write is Truth.FALSE:
            return Outcome.UNMATCHED
        if write is Truth.OPEN and rule.effect is Effect.DENY and self._refuses(whole):
            return Outcome.OPEN
        if self._refuses(whole):
            return Outcome.UNMATCHED if rule.effect is Effect.PERMIT else Outcome.REFUSES
        if any(part.holds is Truth.FALSE and part.name not in _LOOK_AT_IT for part in parts):
            return Outcome.UNMATCHED
        holds = self._on_resource(whole)
        if holds is Truth.TRUE and write is Truth.OPEN:
            return Outcome.OPEN
        match rule.effect:
            case Effect.PERMIT:
                found = {Truth.TRUE: Outcome.PERMITS, Truth.FALSE: Outcome.UNMATCHED}
            case Effect.DENY:
                found = {Truth.TRUE: Outcome.REFUSES, Truth.FALSE: Outcome.UNMATCHED}
            case Effect.REQUIRE:
                found = {Truth.TRUE: Outcome.KEPT, Truth.FALSE: Outcome.REFUSES}
        return found.get(holds, Outcome.OPEN)

    def _on_resource(self, rule: Rule) -> Truth:
        """Whether what the rule asks of the resource holds. A permit is asked as a require: they hold alike."""
        if rule.where.is_empty and rule.unless is None:
            return Truth.TRUE
        resource = self._resource
        if resource is None or resource.get("resourceType") != self._asked.type:
            return Truth.OPEN
        if needs_search(rule.where.match.get(self._asked.type or "", "")):
            return Truth.OPEN  # no resource tells it
        closing = rule if rule.effect is not Effect.PERMIT else replace(rule, effect=Effect.REQUIRE)
        decision = self._decide(closing)
        if not isinstance(decision, Permit) or decision.judge is None:
            return Truth.OPEN
        verdict = decision.judge(resource)
        refused = verdict.reason is Reason.POLICY_DENIED and rule.id in verdict.rules
        return _truth(refused if rule.effect is Effect.DENY else not refused)

    def _refuses(self, rule: Rule) -> bool:
        """Whether a rule that closes refuses, or one that opens does not open, whatever is stored."""
        decision = self._decide(rule)
        wanted = {Reason.NO_PERMIT} if rule.effect is Effect.PERMIT else {Reason.POLICY_DENIED}
        return isinstance(decision, Deny) and decision.reason in wanted | {Reason.STEP_UP_REQUIRED}

    def _decide(self, rule: Rule) -> Decision:
        """The decision on a read of this type by a caller with every scope, where there is this rule alone."""
        asked = replace(
            self._asked,
            method="GET", interaction=Interaction.READ, id=None, version=None, compartment=None, terms=(), posted=False,
        )  # fmt: skip
        rules = (rule,) if rule.effect is Effect.PERMIT else (self._everything(Interaction.READ), rule)
        return self._engine.with_rules(rules).decide(asked, self._wide, self._environment)

    def _everything(self, interaction: Interaction) -> Rule:
        """A permit for all of this type; with an operation for all that it returns or takes as well."""
        is_operation = interaction is Interaction.OPERATION
        return Rule(
            id="everything", effect=Effect.PERMIT, who=(), networks=None,
            may=_OF_OPERATIONS if is_operation else frozenset({interaction}),
            resources=None if is_operation else frozenset({self._asked.type or ""}),
            operation=OperationAccess(names=None), where=Where(), shared=True, conceal=False, audit="basic",
            because="", place=_NOWHERE, named=frozenset({self._asked.type or ""}), query=Query(open=OPENABLE),
        )  # fmt: skip


def _alone(rule: Rule, name: str) -> Rule:
    """The rule with this one field of it, and nothing else."""
    changes: dict[str, object] = {name: getattr(rule, name)}
    return replace(blank(rule, rule.effect), **changes)  # type: ignore[arg-type]


def _with_scope(caller: Caller, scope: str) -> Caller:
    return caller_of({**caller.claims, "scope": scope}, issuer=caller.issuer)


def _truth(holds: bool) -> Truth:
    return Truth.TRUE if holds else Truth.FALSE


def _words(dimension: Dimension) -> object:
    words = plain(dimension.values)
    return {"not": words} if dimension.negated else words
