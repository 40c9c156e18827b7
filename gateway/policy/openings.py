"""What the policies in force open at all, to anybody: for the CapabilityStatement, which does not know who asks.

A permit counts as if its caller, time and resources were right; a permit that a deny covers whole counts for nothing.
So the statement may promise more than one caller gets, and never less than anybody may.
"""

from collections.abc import Iterator
from functools import cached_property

from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.opened_terms import FULL_TEXT
from gateway.fhir.search import OPENABLE
from gateway.policy import infrastructure
from gateway.policy.reading.checks import covers, has_no_way_out, never_matches
from gateway.policy.rules import ENVELOPES, Effect, PolicySet, Rule
from gateway.policy.sight import is_hidden, touched, view_of
from gateway.policy.sources import WRITING


class Openings:
    """What a policy set opens, by resource type; the type '' is the whole system."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies

    @cached_property
    def _permits(self) -> tuple[Rule, ...]:
        rules = self._policies.rules
        denies = [rule for rule in rules if rule.effect is Effect.DENY and has_no_way_out(rule)]
        return tuple(
            rule
            for rule in rules
            if rule.effect is Effect.PERMIT
            and never_matches(rule) is None
            and not any(covers(deny, rule) for deny in denies)
        )

    def interactions(self, type_: str) -> frozenset[Interaction]:
        """The interactions with a type that are opened."""
        found: set[Interaction] = set()
        for rule in self._about(type_):
            found |= {each for each in rule.may if infrastructure.opens(rule, type_, each)}
        return frozenset(found - WRITING) if type_ in infrastructure.SENDING else frozenset(found)

    def envelopes(self) -> frozenset[Interaction]:
        """Batch and transaction, as far as they are opened."""
        return frozenset(each for rule in self._permits for each in rule.may & ENVELOPES)

    def conditional(self, type_: str) -> frozenset[Interaction]:
        """The writes of a type that may find their resource by criteria."""
        found = {each for rule in self._about(type_) if rule.conditional is not None for each in rule.may}
        return frozenset(found) & WRITING & self.interactions(type_)

    def has_operation(self, type_: str, name: str) -> bool:
        """Whether an operation is opened at a type, at its instances, or at the whole system."""
        return any(
            Interaction.OPERATION in rule.may and rule.operation.speaks_of(type_ or None, name)
            for rule in self._about(type_)
        )

    def searches_by(self, type_: str, code: str) -> bool:
        """Whether a search of a type may use this parameter: some permit neither closes it nor hides what it looks at."""
        if code in OPENABLE:
            return any(
                code in rule.query.open
                and code not in rule.query.closed
                and (code not in FULL_TEXT or view_of(rule.returned, type_).is_whole)
                for rule in self._searching(type_)
            )
        term = SearchTerm(code, code, None, None, (), "")
        ways = touched(FhirRequest("GET", Interaction.SEARCH, type_, terms=(term,)))
        return any(
            code not in rule.query.closed and not is_hidden(view_of(rule.returned, type_), ways)
            for rule in self._searching(type_)
        )

    def includes(self, type_: str, source: str, code: str) -> bool:
        """Whether a search of a type may include by this reference of source, and what it brings may be read."""
        parameter = search_parameter(source, code)
        if parameter is None or not any(
            rule.query.include is None or f"{source}:{code}" in rule.query.include
            for rule in self._searching(type_)
        ):
            return False
        brings = {source} if source != type_ else parameter.targets
        return any(Interaction.READ in self.interactions(other) for other in brings)

    def _searching(self, type_: str) -> Iterator[Rule]:
        return (rule for rule in self._about(type_) if Interaction.SEARCH in rule.may)

    def _about(self, type_: str) -> Iterator[Rule]:
        return (rule for rule in self._permits if rule.resources is None or type_ in rule.resources)
