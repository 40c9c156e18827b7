"""What speaks about a request: scopes, authorization details and the rules that match the caller, as layers.

Nothing is decided about a resource here. A rule whose condition cannot be said for a caller opens nothing, and closes
what it is about.
"""

from dataclasses import replace
from functools import partial

from authz.protocol.tokens import Caller
from gateway.fhir.definitions import is_resource_type
from gateway.fhir.held_resources import HOLDERS, held_resources
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import Reason
from gateway.policy import details_layer, hidden_filters, infrastructure, scope_layer
from gateway.policy.acquaintances import Acquaintance, place_of
from gateway.policy.break_glass import Glasses
from gateway.policy.conditions import ALWAYS, Condition
from gateway.policy.conditions_in_force import is_in_time_and_place
from gateway.policy.decision import Deny, Environment, Judge, Resource, Verdict
from gateway.policy.details_layer import DetailsRefusal
from gateway.policy.held_sight import cut
from gateway.policy.known import Known
from gateway.policy.layers import Held, Layers, Named, WriteTest, judge, judge_change
from gateway.policy.query import allows, page_at_most
from gateway.policy.rules import Effect, Rule
from gateway.policy.scope_layer import Standing
from gateway.policy.search_opening import opened, opened_to_nobody, refused_by_query
from gateway.policy.sight import Taken
from gateway.policy.sight_in_force import SightInForce
from gateway.policy.sources import WRITING
from gateway.policy.step_up import easiest, is_met

_WRITTEN_OVER = frozenset({Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})
_LEVELS = ("basic", "standard", "full")


class RulesInForce(SightInForce):
    """The part of Engine that finds the rules about a request and brings them into layers."""

    def _speaking(
        self,
        asked: FhirRequest,
        type_: str,
        caller: Caller,
        environment: Environment,
        criteria: tuple[SearchTerm, ...] = (),
    ) -> Layers | Deny:
        """What speaks about a request on a type, or why there is nothing that opens it."""
        if (closed := opened_to_nobody(asked, type_, self.policies.rules)) is not None:
            return closed
        acquaintance = self._acquainted(caller)
        place = None if criteria else place_of(asked, type_, environment)
        if place is None:
            return self._spoken(asked, type_, acquaintance, environment, criteria)
        if place in acquaintance.layers:
            found = acquaintance.layers[place]
        else:
            found = self._lasting(asked, type_, acquaintance, environment)
            self._acquaintances.keep_layers(acquaintance, place, found)
        return found if found is not None else self._spoken(asked, type_, acquaintance, environment)

    def _lasting(
        self, asked: FhirRequest, type_: str, acquaintance: Acquaintance, environment: Environment
    ) -> Layers | Deny | None:
        """What speaks about every such request of this caller, now and later; None where that may change."""
        rules = self._index.candidates(type_, asked.interaction, acquaintance.values, acquaintance.doubtful)
        if any(rule.id in self._of_the_moment for rule in rules):
            return None
        # Nothing of this one request is kept: what is known at it is not looked at, and not held.
        found = self._spoken(asked, type_, acquaintance, replace(environment, known=Known()))
        sees_others = isinstance(found, Layers) and found.sight is not None
        return None if sees_others and self._is_of_the_moment(asked.interaction, acquaintance) else found

    def _is_of_the_moment(self, interaction: Interaction, acquaintance: Acquaintance) -> bool:
        """Whether some rule about some type speaks of this caller that looks at more than caller and resource."""
        found = acquaintance.of_the_moment.get(interaction)
        if found is None:
            found = acquaintance.of_the_moment[interaction] = any(
                rule.id in self._of_the_moment
                for type_ in self._types_of_the_moment
                for rule in self._index.candidates(
                    type_, interaction, acquaintance.values, acquaintance.doubtful
                )
            )
        return found

    def _spoken(
        self,
        asked: FhirRequest,
        type_: str,
        acquaintance: Acquaintance,
        environment: Environment,
        criteria: tuple[SearchTerm, ...] = (),
    ) -> Layers | Deny:
        who, caller = acquaintance.standing, acquaintance.caller
        if isinstance(who, Deny):
            return who
        try:
            types = details_layer.open_types(
                caller, self._detail_types, location=environment.location, interaction=asked.interaction
            )
        except DetailsRefusal as refusal:
            return Deny(refusal.reason, (), refusal.explanation)
        scopes = scope_layer.conditions(who, asked.interaction, type_, self._bases)
        if not scopes and asked.interaction in scope_layer.LETTERS:
            letter = scope_layer.LETTERS[asked.interaction]
            return Deny(Reason.SCOPE_INSUFFICIENT, (), f"no scope of the token gives {type_}.{letter}")
        if types is not None and type_ not in types:
            said = f"no authorization detail gives {asked.interaction} of {type_} at this resource"
            return Deny(Reason.DETAILS_INSUFFICIENT, (), said)
        if type_ in infrastructure.SENDING and asked.interaction in WRITING:
            said = f"a {type_} makes the store send data past every judge: writes of it are closed"
            return Deny(Reason.INTERACTION_CLOSED, (), said)
        return self._layers(asked, type_, who, tuple(scopes), caller, environment, types, criteria)

    def _layers(
        self,
        asked: FhirRequest,
        type_: str,
        who: Standing,
        scopes: tuple[Named, ...],
        caller: Caller,
        environment: Environment,
        types: frozenset[str] | None,
        criteria: tuple[SearchTerm, ...] = (),
        also: tuple[tuple[Rule, Condition], ...] = (),
    ) -> Layers | Deny:
        acquaintance = self._acquainted(caller)
        values, doubtful = acquaintance.values, acquaintance.doubtful
        writes: dict[str, WriteTest] = {}
        permits = list(also)
        denies: list[Named] = []
        requires: list[Named] = []
        closing: list[Rule] = []  # what refuses the request, whatever is stored
        guards: list[Rule] = []  # requires that ask for a sign-in, met or not
        taken: list[Taken] = [*infrastructure.secrets(type_)]  # denies of fields
        unmet: list[Rule] = []  # those of them that this one does not meet
        ways: list[Rule] = []  # permits that another sign-in would open
        narrower: list[Rule] = []  # permits that do not open this form of search
        glasses = Glasses(asked, environment.emergency, self._bases)
        conceal = who.patient is not None
        for rule in self._index.candidates(type_, asked.interaction, values, doubtful):
            if rule.valid is not None and not rule.valid.holds(environment.now):
                continue
            is_operation = asked.interaction is Interaction.OPERATION
            if is_operation and not rule.operation.speaks_of(asked.type, asked.operation):
                continue
            in_time_and_place = is_in_time_and_place(rule, environment)
            match rule.effect:
                case Effect.PERMIT:
                    if not in_time_and_place or (
                        scope_layer.needs_shared(who, type_)
                        and not rule.shared
                        and (type_ != "Binary" or rule.where.binary is None)  # it goes by what leads to it
                    ):
                        continue
                    if criteria and (rule.conditional is None or not rule.conditional.takes(criteria)):
                        continue
                    if self._sources.closes(rule, type_, asked.interaction, values):
                        continue
                    if not infrastructure.opens(rule, type_, asked.interaction):
                        continue
                    condition = self._condition(rule, type_, caller, environment)
                    condition = None if condition is None else glasses.condition(rule, type_, condition)
                    if condition is None:
                        continue
                    if not allows(rule.query, asked):
                        narrower.append(rule)
                        continue
                    if not rule.write.is_empty:
                        writes[rule.id] = partial(rule.write.allows, type_, claims=self.claims_of(caller))
                    if is_met(rule.sign_in, caller, self._claims, environment.now):
                        permits.append((rule, condition))
                    else:
                        ways.append(rule)
                case Effect.DENY:
                    if not in_time_and_place:
                        continue
                    standing = self._applies(rule, type_, caller, environment, values)
                    if standing is None:
                        continue
                    # A deny whose condition cannot be said for this caller is a deny.
                    condition = standing.closes(self._closing(rule, type_, caller, environment))
                    if rule.fields is not None:
                        taken.append((rule.id, condition or ALWAYS, rule.fields))
                        continue
                    if not rule.write.is_empty:
                        writes[rule.id] = partial(rule.write.touches, type_)
                        condition = condition or ALWAYS
                    elif condition is None:
                        closing.append(rule)
                        continue
                    denies.append((rule.id, condition))
                    conceal = conceal or rule.conceal
                case Effect.REQUIRE:
                    standing = self._applies(rule, type_, caller, environment, values)
                    if standing is None:
                        continue
                    condition = (
                        self._condition(rule, type_, caller, environment) if in_time_and_place else None
                    )
                    condition = standing.asks(condition)
                    if condition is None:
                        closing.append(rule)
                        continue
                    if not rule.sign_in.is_empty:
                        guards.append(rule)
                    if not is_met(rule.sign_in, caller, self._claims, environment.now):
                        unmet.append(rule)
                    if condition is not ALWAYS or not rule.where.is_empty:
                        requires.append((rule.id, condition))
                        conceal = conceal or rule.conceal
        if closing:
            # All of them, so that neither answer nor record hangs on the order of rules.
            return Deny(
                Reason.POLICY_DENIED,
                tuple(rule.id for rule in closing),
                "; ".join(f"{rule.id}: {rule.because}" for rule in closing),
                any(rule.conceal for rule in closing),
            )
        if not permits and not ways and (lacking := glasses.refusal()) is not None:
            return lacking
        if not permits and not ways and narrower:
            return refused_by_query(asked, narrower)
        if not permits and not ways:
            return Deny(Reason.NO_PERMIT, (), f"no permit for {type_}.{asked.interaction}")
        if unmet or not permits:
            return _another_sign_in(who, guards, unmet, [] if permits else ways)
        seen_by = (tuple(taken), caller, environment, values, doubtful, glasses)
        sight, sighted = None, None
        if asked.interaction in (Interaction.SEARCH, Interaction.HISTORY_INSTANCE):
            sight, sighted = self._sight(asked, type_, permits, *seen_by), permits
            opening = opened(asked, type_, permits, taken, sight)
            if isinstance(opening, Deny):
                return opening
            permits = opening
        if asked.interaction in _WRITTEN_OVER:
            reading = self._index.candidates(type_, Interaction.READ, values, doubtful)
            scopes = hidden_filters.shown_to_readers(type_, scopes, reading)
            if not scopes and asked.interaction in scope_layer.LETTERS:
                said = "the filters of its scopes ask for elements that a read hides"
                return Deny(Reason.SCOPE_INSUFFICIENT, (), said)
        blind = hidden_filters.blinded(type_, scopes, permits, taken)
        every = frozenset(rule.id for rule, _ in permits)
        if blind and all(blind.get(name) == every for name, _ in scopes):
            said = "the filters of its scopes ask for elements that are hidden"
            return Deny(Reason.SCOPE_INSUFFICIENT, tuple(sorted(every)), said)
        if blind:
            permits = [each for each in permits if any(each[0].id not in blind.get(n, ()) for n, _ in scopes)]
        return Layers(
            scopes=tuple(scope for scope in scopes if blind.get(scope[0]) != every),
            blind=blind,
            permits=tuple((rule.id, condition) for rule, condition in permits),
            denies=tuple(denies),
            requires=tuple(requires),
            conceal=conceal or any(rule.conceal or _conceals(rule, type_) for rule, _ in permits),
            audit=max((rule.audit for rule, _ in permits), key=_LEVELS.index),
            types=types,
            page=page_at_most(rule.query for rule, _ in permits),
            total=all(rule.query.total for rule, _ in permits),
            obligations=glasses.obligations(rule for rule, _ in permits),
            writes=writes,
            held=self._held_by(type_, asked.interaction, caller, environment),
            sight=sight if permits == sighted else self._sight(asked, type_, permits, *seen_by),
        )

    def _held_by(
        self, type_: str, interaction: Interaction, caller: Caller, environment: Environment
    ) -> Held | None:
        """What judges the resources that a Bundle or Parameters holds, each as if it came alone; None for other types.

        Shown are all of them, or nothing (attack case 234); of each, what a read of it shows. Written are whole ones only.
        """
        if type_ not in HOLDERS:
            return None
        environment.known.judges_ask = True
        alone = replace(environment, emergency=None)
        alike = _AS_ALONE.get(interaction, Interaction.READ)

        def judged(holder: Resource) -> Verdict:
            judges: dict[str, Judge] = {}
            seen: dict[int, Resource] = {}
            rules: dict[str, None] = {}
            for inner in held_resources(holder):
                other = inner.get("resourceType")
                if not isinstance(other, str) or not is_resource_type(other):
                    return _HOLDS_TOO_MUCH
                if other not in judges:
                    layers = self._speaking(FhirRequest("GET", alike, other), other, caller, alone)
                    if isinstance(layers, Deny):
                        return _HOLDS_TOO_MUCH
                    is_made = alike is Interaction.CREATE
                    judges[other] = _made(layers, other) if is_made else judge(layers, other, None)
                verdict = judges[other](inner)
                if not verdict.shown:
                    return verdict
                if verdict.seen is not None and alike is not Interaction.READ:
                    return _HOLDS_TOO_MUCH
                if verdict.seen is not None:
                    seen[id(inner)] = verdict.seen
                    rules.update(dict.fromkeys(verdict.rules))
            if not seen:
                return _HOLDS_NOTHING_HIDDEN
            return Verdict(True, tuple(rules), seen=cut(holder, seen))

        return judged


def _made(layers: Layers, type_: str) -> Judge:
    change = judge_change(layers, type_, None)
    return lambda resource: change(None, resource)


_AS_ALONE = {
    Interaction.CREATE: Interaction.CREATE,
    Interaction.UPDATE: Interaction.CREATE,
    Interaction.PATCH: Interaction.CREATE,
    Interaction.DELETE: Interaction.DELETE,
}
"""What is asked of each resource that a holder of others holds, beside reading it."""
_HOLDS_TOO_MUCH = Verdict(False, (), Reason.NO_PERMIT)
_HOLDS_NOTHING_HIDDEN = Verdict(True, ())


def _conceals(rule: Rule, type_: str) -> bool:
    """Whether a refusal would tell that there is something, which only those may know whom it is led to."""
    return type_ == "Binary" and (rule.where.binary is not None or rule.where.cda is not None)


def _another_sign_in(who: Standing, guards: list[Rule], unmet: list[Rule], ways: list[Rule]) -> Deny:
    """The refusal of what another sign-in would open; a plain one where none would, and for a client by itself."""
    found = None if who.context == "system" else easiest(guards, ways)
    if found is None:
        reason = Reason.POLICY_DENIED if unmet else Reason.NO_PERMIT
        rules = tuple(rule.id for rule in unmet)
        return Deny(reason, rules, "no sign-in would meet what the rules ask for")
    step_up, asking = found
    return Deny(
        Reason.STEP_UP_REQUIRED,
        tuple(rule.id for rule in asking),
        "; ".join(f"{rule.id}: {rule.because}" for rule in asking),
        step_up=step_up,
    )
