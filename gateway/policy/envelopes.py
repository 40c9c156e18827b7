"""Whether an entry may come in a batch or a transaction at all. What the entry itself asks is decided as if it came alone.

A permit opens a Bundle for what it is about: for its types, and for the interactions that it names; one that names
batch and transaction only, for every entry about its types. Scopes have no letter for it (SMART App Launch 2.2,
batches and transactions: a Bundle is validated by the requests in it).
"""

from dataclasses import replace

from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.fhir.outcome import Reason
from gateway.policy.decision import Deny, Environment
from gateway.policy.index import WHOLE_SYSTEM
from gateway.policy.layers import ids
from gateway.policy.rules import ENVELOPES, Rule
from gateway.policy.rules_in_force import RulesInForce


class Envelopes(RulesInForce):
    """The part of Engine that decides about Bundles as such."""

    def _letting_in(
        self, asked: FhirRequest, kind: Interaction, entries: int, caller: Caller, environment: Environment
    ) -> tuple[str, ...] | Deny:
        """The permits that let asked come as an entry of a Bundle of this kind that has so many entries.

        kind is BATCH or TRANSACTION. Denies and requires that look at a resource are left to the entry itself.
        """
        type_ = asked.type or WHOLE_SYSTEM
        who = self._acquainted(caller).standing
        if isinstance(who, Deny):
            return who
        around = FhirRequest("POST", kind, asked.type)
        layers = self._layers(around, type_, who, (), caller, environment, None)
        if isinstance(layers, Deny):
            is_closed = layers.reason is Reason.NO_PERMIT and layers.step_up is None
            return replace(layers, reason=Reason.INTERACTION_CLOSED) if is_closed else layers
        permits = [self._rules[name] for name in ids(layers.permits)]
        opening = [rule for rule in permits if _is_about(rule, asked.interaction)]
        if not opening:
            said = f"no permit lets {type_}.{asked.interaction} come in a {kind}"
            return Deny(Reason.INTERACTION_CLOSED, (), said)
        wide = tuple(rule.id for rule in opening if rule.at_most is None or rule.at_most >= entries)
        if not wide:
            named = tuple(rule.id for rule in opening)
            return Deny(
                Reason.POLICY_DENIED, named, f"the {kind} has {entries} entries, more than they allow"
            )
        return wide


def _is_about(rule: Rule, interaction: Interaction) -> bool:
    return interaction in rule.may or rule.may <= ENVELOPES
