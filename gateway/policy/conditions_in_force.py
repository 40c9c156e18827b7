"""What the conditions of rules mean for one caller: the claims, and each condition compiled with them.

A condition that cannot be said for a caller is None: whoever asks decides whether that opens or closes.
"""

from collections.abc import Mapping

from authz.protocol.authorization_details import DetailType
from authz.protocol.tokens import Caller
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.policy import scope_layer
from gateway.policy.acquaintances import Acquaintance, Acquaintances, looks_at_the_moment
from gateway.policy.asking import Unsayable
from gateway.policy.claims import claim_values, is_said
from gateway.policy.conditions import Condition
from gateway.policy.decision import Deny, Environment
from gateway.policy.details_layer import FHIR_ACCESS
from gateway.policy.exceptions import NotExcepted, applies
from gateway.policy.hours import in_hours
from gateway.policy.index import RuleIndex
from gateway.policy.networks import in_networks
from gateway.policy.rules import Effect, PolicySet, Rule, Where
from gateway.policy.scope_layer import ScopeRefusal, Standing
from gateway.policy.sources import Sources
from gateway.policy.where import compile_where


class ConditionsInForce:
    """The part of Engine that compiles the conditions of rules for the caller."""

    def __init__(
        self,
        policies: PolicySet,
        *,
        bases: frozenset[str],
        detail_types: tuple[DetailType, ...] = (FHIR_ACCESS,),
    ) -> None:
        self._detail_types = {kind.name: kind for kind in detail_types}
        self.policies = policies
        self.policy_hash = policies.hash
        self._claims = policies.claims
        self._bases = bases
        self._index = RuleIndex(policies.rules, RESOURCE_TYPES)
        self.has_emergencies = any(rule.break_glass is not None for rule in policies.rules)
        self._has_views = any(rule.returned or rule.fields is not None for rule in policies.rules)
        self._rules = {rule.id: rule for rule in policies.rules}
        self._acquaintances = Acquaintances()
        timed = [rule for rule in policies.rules if looks_at_the_moment(rule)]
        self._of_the_moment = frozenset(rule.id for rule in timed)
        self._types_of_the_moment = frozenset[str]().union(
            *(RESOURCE_TYPES if rule.resources is None else rule.resources for rule in timed)
        )
        self._sources = Sources(policies.rules, policies.facts, policies.claims)

    def claims_of(self, caller: Caller) -> dict[str, list[str]]:
        """The claims that policies and their statements see of a caller, as far as they are of their types."""
        return self._acquainted(caller).claims

    def _condition(
        self, rule: Rule, type_: str, caller: Caller, environment: Environment
    ) -> Condition | None:
        try:
            return self._compiled(rule.where, type_, caller, environment, in_doubt=rule.effect is Effect.DENY)
        except Unsayable:
            return None

    def _compiled(
        self, where: Where, type_: str, caller: Caller, environment: Environment, *, in_doubt: bool
    ) -> Condition:
        return compile_where(
            where,
            type_,
            caller,
            self._claims,
            self._bases,
            in_doubt=in_doubt,
            known=environment.known,
            facts=self.policies.facts,
        )

    def _closing(self, rule: Rule, type_: str, caller: Caller, environment: Environment) -> Condition | None:
        """The condition of a deny; None where it closes every resource."""
        return None if rule.where.is_empty else self._condition(rule, type_, caller, environment)

    def _applies(
        self,
        rule: Rule,
        type_: str,
        caller: Caller,
        environment: Environment,
        values: Mapping[str, frozenset[str]],
    ) -> NotExcepted | None:
        return applies(
            rule.unless,
            values,
            lambda where: self._compiled(where, type_, caller, environment, in_doubt=False),
        )

    def _acquainted(self, caller: Caller) -> Acquaintance:
        """What is known of a caller that does not change from request to request."""
        found = self._acquaintances.find(caller)
        return found if found is not None else self._acquaintances.keep(self._introduced(caller))

    def _introduced(self, caller: Caller) -> Acquaintance:
        standing: Standing | Deny
        try:
            standing = scope_layer.standing(caller, self._bases)
        except ScopeRefusal as refusal:
            standing = Deny(refusal.reason, (), refusal.explanation)
        values: dict[str, frozenset[str]] = {}
        doubtful: set[str] = set()
        for name, claim in self._claims.items():
            found = claim_values(caller.claims, claim)
            if found is not None:
                values[name] = found
            elif is_said(caller.claims, claim):
                doubtful.add(name)
        claims = {name: sorted(found) for name, found in values.items()}
        if isinstance(standing, Standing):
            values["context"] = frozenset({standing.context})
        values["client"] = frozenset({caller.client_id})
        values["bound"] = frozenset({str(caller.binding.kind)})
        values["issuer"] = frozenset({caller.issuer})
        values["scope"] = frozenset(caller.scope)
        return Acquaintance(caller, standing, values, frozenset(doubtful), claims)


def is_in_time_and_place(rule: Rule, environment: Environment) -> bool:
    """Whether the request comes from where and when the rule says; what cannot be told closes."""
    closes = rule.effect is Effect.DENY
    return (rule.networks is None or in_networks(environment.peer, rule.networks, unknown=closes)) and (
        rule.hours is None or in_hours(environment.now, rule.hours, unknown=closes)
    )
