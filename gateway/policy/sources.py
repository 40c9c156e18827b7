"""What decisions are made of is not for those to write whom they are about.

The resources that a fact is asked of are closed for writing to the callers whom the rules with that fact govern; those
that a claim says it is made of, and consents where rules ask for them, to everybody. Only a permit that names the type
opens it: one about `any`, or about a set, does not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.fhir.interaction import Interaction
from gateway.policy.facts import Fact
from gateway.policy.rules import Claim, Dimension, Effect, Rule, Unless, Where
from gateway.yaml_source import Problem

WRITING = frozenset({Interaction.CREATE, Interaction.UPDATE, Interaction.PATCH, Interaction.DELETE})


class Sources:
    """The types that decisions are made of, with whom each of them governs."""

    def __init__(self, rules: Iterable[Rule], facts: Mapping[str, Fact], claims: Mapping[str, Claim]) -> None:
        self._governing: dict[str, list[Rule]] = {}
        everybody = {type_ for claim in claims.values() for type_ in claim.source}
        for rule in rules:
            names, asks_consent = uses(rule)
            if asks_consent:
                everybody.add("Consent")  # one person's consent opens the record to others
            for type_ in {facts[name].type for name in names if name in facts}:
                self._governing.setdefault(type_, []).append(rule)
        self.of_everybody = frozenset(everybody)

    @property
    def types(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self._governing) | self.of_everybody

    def closes(
        self, permit: Rule, type_: str, interaction: Interaction, values: Mapping[str, frozenset[str]]
    ) -> bool:
        """Whether a permit that would let this caller write is not enough, since it does not name the type.

        values is what is known of the caller, by dimension.
        """
        if interaction not in WRITING or type_ in permit.named:
            return False
        return type_ in self.of_everybody or any(
            _may_govern(rule, values) for rule in self._governing.get(type_, ())
        )

    def governing(self, type_: str) -> Sequence[Rule]:
        """The rules that are decided by resources of this type."""
        return self._governing.get(type_, ())


def uses(rule: Rule) -> tuple[frozenset[str], bool]:
    """The facts that a rule looks at, and whether it asks for consents."""
    facts: set[str] = set()
    asks_consent = False
    for where in wheres_of(rule):
        asks_consent = asks_consent or where.consent is not None
        facts |= where.facts
    return frozenset(facts), asks_consent


def wheres_of(rule: Rule) -> Iterator[Where]:
    """Every condition of a rule on resources: its own, those of its exceptions, and those within them."""
    wheres = [rule.where, *_of(rule.unless)]
    while wheres:
        where = wheres.pop()
        wheres.extend(where.any_of)
        yield where


def _of(unless: Unless | None) -> list[Where]:
    if unless is None:
        return []
    return [unless.where, *(where for each in unless.any_of for where in _of(each))]


def _may_govern(rule: Rule, values: Mapping[str, frozenset[str]]) -> bool:
    """Whether a rule may be about this caller. What is not known of a caller does not make it another's."""
    return not any(
        dimension.name in values
        and values[dimension.name].isdisjoint(dimension.values) is not dimension.negated
        for dimension in rule.who
    )


def warnings(rules: Sequence[Rule], facts: Mapping[str, Fact], claims: Mapping[str, Claim]) -> list[Problem]:
    """What should be known of permits that write what decisions are made of."""
    sources = Sources(rules, facts, claims)
    found = []
    for rule in rules:
        if rule.effect is not Effect.PERMIT or not rule.may & WRITING:
            continue
        about = sources.types if rule.resources is None else sources.types & rule.resources
        unnamed = sorted(about - rule.named)
        if unnamed:
            said = (
                f"does not open writes of {', '.join(unnamed)}: decisions are made of it, so it must be named"
            )
            found.append(rule.place.problem(f"rule '{rule.id}' {said}", warning=True))
        for type_ in sorted(about & rule.named):
            others = [each for each in sources.governing(type_) if _may_meet(each.who, rule.who)]
            if type_ in sources.of_everybody or others:
                whom = f"those whom '{others[0].id}' governs" if others else "callers"
                said = f"lets {whom} write {type_}, of which that is decided"
                found.append(rule.place.problem(f"rule '{rule.id}' {said}", warning=True))
    return found


def _may_meet(one: tuple[Dimension, ...], other: tuple[Dimension, ...]) -> bool:
    """Whether a caller may be whom both are about."""
    for mine in one:
        for theirs in other:
            if mine.name != theirs.name or (mine.negated and theirs.negated):
                continue
            if mine.negated or theirs.negated:
                listed, excluded = (theirs, mine) if mine.negated else (mine, theirs)
                if listed.values <= excluded.values:
                    return False
            elif mine.name in _SINGLE and mine.values.isdisjoint(theirs.values):
                return False
    return True


_SINGLE = frozenset({"context", "client", "bound", "issuer"})  # of which a caller has one
