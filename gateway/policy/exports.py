"""What an export may hold of each type: what the rules that open it give, within the scopes and rules of reading."""

from dataclasses import replace

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.policy import details_layer, scope_layer
from gateway.policy.asking import Unsayable
from gateway.policy.conditions import ALWAYS, criteria_condition
from gateway.policy.decision import Deny, Environment, Judge
from gateway.policy.details_layer import DetailsRefusal
from gateway.policy.envelopes import Envelopes
from gateway.policy.layers import judge
from gateway.policy.rules import OperationAccess


class Exports(Envelopes):
    """The part of Engine that judges what an export returns."""

    def exporting(
        self,
        asked: FhirRequest,
        type_: str,
        rules: tuple[str, ...],
        caller: Caller,
        environment: Environment,
        criteria: tuple[SearchTerm, ...],
    ) -> tuple[Judge, ...] | None:
        """The judges of a type that these rules, all of them, open within an export; None when it stays closed.

        criteria are what the caller asks of the type: they may not ask for what is hidden. Scopes, details, denies
        and requires are those of reading and of searching the type.
        """
        who = self._acquainted(caller).standing
        if isinstance(who, Deny):
            return None
        judges = []
        for interaction in (Interaction.READ, Interaction.SEARCH):
            try:
                types = details_layer.open_types(
                    caller, self._detail_types, location=environment.location, interaction=interaction
                )
            except DetailsRefusal:
                return None
            scopes = tuple(scope_layer.conditions(who, interaction, type_, self._bases))
            if not scopes or (types is not None and type_ not in types):
                return None
            terms = criteria if interaction is Interaction.SEARCH else ()
            one = replace(asked, interaction=interaction, type=type_, id=None, operation=None, terms=terms)
            for rule in (self._rules[name] for name in rules):
                query = rule.operation.type_filter.get(type_)
                try:
                    said = ALWAYS if query is None else criteria_condition(type_, query, self._bases)
                except Unsayable:
                    return None
                layers = self._layers(
                    one, type_, who, scopes, caller, environment, types, also=((rule, said),)
                )
                if isinstance(layers, Deny):
                    return None
                judges.append(judge(layers, type_, None))
        return tuple(judges)

    def accesses(self, rules: tuple[str, ...]) -> tuple[OperationAccess, ...]:
        """What these rules say of operations."""
        return tuple(self._rules[name].operation for name in rules if name in self._rules)
