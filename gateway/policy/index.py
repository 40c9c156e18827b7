"""Which rules may match a caller: per type and interaction a bitmap index over the dimensions of `who`.

Each dimension maps a value to the rules that accept it; a rule without that dimension accepts every value. The AND
of the bitmaps gives the candidates, so the cost does not grow with the number of rules (measured in docs).

What is not known of a caller never opens: a claim that is absent meets no `not:` of a permit, and one that is not of
its declared type meets no permit and every rule that closes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.fhir.interaction import Interaction
from gateway.policy.rules import Effect, Rule

WHOLE_SYSTEM = "*"
"""The place of what is asked of no one type; only rules about any type speak of it."""


@dataclass(slots=True)
class _Dimension:
    every: int = 0  # rules that do not speak of this dimension
    listed: dict[str, int] = field(default_factory=dict)
    negated: dict[str, int] = field(default_factory=dict)  # value → rules that exclude it
    negating: int = 0


@dataclass(slots=True)
class _Bucket:
    rules: list[Rule] = field(default_factory=list)
    closing: int = 0  # rules that deny or require
    dimensions: dict[str, _Dimension] = field(default_factory=dict)


class RuleIndex:
    """The rules of a policy set, found by type, interaction and caller."""

    def __init__(self, rules: Iterable[Rule], types: Iterable[str]) -> None:
        every_type = [*types, WHOLE_SYSTEM]
        self._buckets: dict[tuple[str, Interaction], _Bucket] = {}
        for rule in rules:
            for type_ in every_type if rule.resources is None else rule.resources:
                for interaction in rule.may:
                    self._buckets.setdefault((type_, interaction), _Bucket()).rules.append(rule)
        for bucket in self._buckets.values():
            _fill(bucket)

    def candidates(
        self,
        type_: str,
        interaction: Interaction,
        values: Mapping[str, frozenset[str]],
        doubtful: frozenset[str],
    ) -> list[Rule]:
        """The rules about this type and interaction whose `who` the caller's values meet, in file order.

        values holds what is known, doubtful names the dimensions that have a value which is not of their type.
        """
        bucket = self._buckets.get((type_, interaction))
        if bucket is None:
            return []
        mask = (1 << len(bucket.rules)) - 1
        for name, dimension in bucket.dimensions.items():
            accepted = dimension.every
            known = values.get(name)
            if known is not None:
                excluded = 0
                for value in known:
                    accepted |= dimension.listed.get(value, 0)
                    excluded |= dimension.negated.get(value, 0)
                accepted |= dimension.negating & ~excluded
            elif name in doubtful:
                accepted |= bucket.closing
            else:
                accepted |= dimension.negating & bucket.closing
            mask &= accepted
            if not mask:
                return []
        found = []
        while mask:
            lowest = mask & -mask
            found.append(bucket.rules[lowest.bit_length() - 1])
            mask ^= lowest
        return found


def _fill(bucket: _Bucket) -> None:
    names = {dimension.name for rule in bucket.rules for dimension in rule.who}
    bucket.dimensions = {name: _Dimension() for name in names}
    for number, rule in enumerate(bucket.rules):
        bit = 1 << number
        if rule.effect is not Effect.PERMIT:
            bucket.closing |= bit
        spoken = {dimension.name for dimension in rule.who}
        for name in names - spoken:
            bucket.dimensions[name].every |= bit
        for dimension in rule.who:
            index = bucket.dimensions[dimension.name]
            table = index.negated if dimension.negated else index.listed
            if dimension.negated:
                index.negating |= bit
            for value in dimension.values:
                table[value] = table.get(value, 0) | bit
