"""How a caller sees what is read: less what permits do not return, and what denies of elements take away."""

from collections.abc import Mapping

from authz.protocol.tokens import Caller
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.held_resources import holds_others
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy import infrastructure
from gateway.policy.break_glass import Glasses
from gateway.policy.conditions import ALWAYS, Condition
from gateway.policy.conditions_in_force import ConditionsInForce, is_in_time_and_place
from gateway.policy.decision import Environment, Resource
from gateway.policy.rules import Effect, Rule
from gateway.policy.sight import PEOPLE, SAID, Sight, Taken, denied_paths, is_hidden, takes_away, view_of

JUDGED = frozenset({Interaction.READ, Interaction.VREAD, Interaction.HISTORY_INSTANCE, Interaction.SEARCH})
"""The interactions that show a resource, which a judge looks at first."""


class SightInForce(ConditionsInForce):
    """The part of Engine that compiles the sight of a caller."""

    def _sight(
        self,
        asked: FhirRequest,
        type_: str,
        permits: list[tuple[Rule, Condition]],
        taken: tuple[Taken, ...],
        caller: Caller,
        environment: Environment,
        values: Mapping[str, frozenset[str]],
        doubtful: frozenset[str],
        glasses: Glasses,
    ) -> Sight | None:
        """How the caller sees what is read; None for as it is."""
        if not (self._has_views or taken) or asked.interaction not in JUDGED:
            return None

        def about(other: str) -> tuple[list[Rule], tuple[Taken, ...]]:
            """The permits about another type that may hold for this caller, and what denies take from it."""
            found, taking = [], [*infrastructure.secrets(other)]
            for rule in self._index.candidates(other, asked.interaction, values, doubtful):
                if rule.valid is not None and not rule.valid.holds(environment.now):
                    continue
                if not is_in_time_and_place(rule, environment):
                    continue
                if rule.effect is Effect.PERMIT:
                    if glasses.shows(rule):
                        found.append(rule)
                elif rule.fields is not None:
                    standing = self._applies(rule, other, caller, environment, values)
                    if standing is not None:
                        condition = standing.closes(self._closing(rule, other, caller, environment))
                        taking.append((rule.id, condition or ALWAYS, rule.fields))
            return found, tuple(taking)

        people = {person: about(person) for person in PEOPLE}
        unsaid = {
            word: frozenset(
                person
                for person, (_, taking) in people.items()
                if any(takes_away(person, fields, ways) for _, _, fields in taking)
            )
            for word, ways in SAID.items()
        }
        unshown = {
            word: frozenset[str]()
            if any(not is_hidden(view_of(rule.returned, "Patient"), ways) for rule in people["Patient"][0])
            else frozenset({"Patient"})
            for word, ways in SAID.items()
        }

        def contained(resource: Resource) -> Resource | None:
            """A contained resource: less what every permit about its type hides, and what denies take away.

            Of one that holds others, which R4 forbids there, nothing is seen.
            """
            other = resource.get("resourceType")
            if not isinstance(other, str) or other not in RESOURCE_TYPES or holds_others(resource):
                return None
            rules, taking = about(other)
            returned = {rule.id: rule.returned for rule in rules} or {"": None}
            return Sight(other, returned, taking, unshown, unsaid, None).see(resource, tuple(returned))[0]

        def hides_within() -> bool:
            """Whether contained() may leave something out. What is taken from everybody is not asked for here."""
            for other in sorted(RESOURCE_TYPES - infrastructure.SECRETIVE):
                rules, taking = about(other)
                if any(denied_paths(other, fields).below for _, _, fields in taking):
                    return True
                if rules and not any(view_of(rule.returned, other).is_whole for rule in rules):
                    return True
            return False

        shown = {rule.id: rule.returned for rule, _ in permits}
        return Sight(type_, shown, taken, unshown, unsaid, contained, hides_within)
