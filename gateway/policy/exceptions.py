"""Exceptions of rules that close, `unless`, for one caller: whether one holds whatever the resource, or on which.

An exception opens, so that what is not known of caller or resource makes none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.policy.asking import Unsayable
from gateway.policy.conditions import ALWAYS, Condition, all_of, holds, looked_at
from gateway.policy.rules import Dimension, Unless, Where

Compile = Callable[[Where], Condition]
"""Compiles a where for the caller, for an opening. Raises Unsayable."""


@dataclass(frozen=True, slots=True)
class NotExcepted:
    """A rule that closes applies. exception is where it does not all the same; None for nowhere."""

    exception: Condition | None = None

    def closes(self, condition: Condition | None) -> Condition | None:
        """The condition of a deny less its exception. None stands for every resource, as in the argument."""
        exception = self.exception
        if exception is None:
            return condition
        closing = ALWAYS if condition is None else condition
        return Condition(
            lambda resource: (
                holds(closing, resource, on_error=True) and not holds(exception, resource, on_error=False)
            ),
            exact=False,
            looks_at=looked_at((closing, exception)),
        )

    def asks(self, condition: Condition | None) -> Condition | None:
        """The condition of a require, or its exception. None stands for no resource."""
        exception = self.exception
        if exception is None:
            return condition
        return Condition(
            lambda resource: (
                holds(exception, resource, on_error=False)
                or (condition is not None and holds(condition, resource, on_error=False))
            ),
            exact=False,
            looks_at=looked_at((exception,) if condition is None else (exception, condition)),
        )


def applies(
    unless: Unless | None, values: Mapping[str, frozenset[str]], compiled: Compile
) -> NotExcepted | None:
    """How far a rule applies; None where its exception holds for this caller, whatever the resource."""
    exception = None if unless is None else _exception(unless, values, compiled)
    return None if exception is ALWAYS else NotExcepted(exception)


def _exception(unless: Unless, values: Mapping[str, frozenset[str]], compiled: Compile) -> Condition | None:
    """The resources that an exception is about; ALWAYS for all, None for none."""
    if not all(_is_met(dimension, values.get(dimension.name)) for dimension in unless.who):
        return None
    parts = []
    if not unless.where.is_empty:
        try:
            parts.append(compiled(unless.where))
        except Unsayable:
            return None
    if unless.any_of:
        found = [each for way in unless.any_of if (each := _exception(way, values, compiled)) is not None]
        if not found:
            return None
        if not any(each is ALWAYS for each in found):
            parts.append(
                Condition(
                    lambda resource: any(holds(way, resource, on_error=False) for way in found),
                    looks_at=looked_at(found),
                )
            )
    return all_of(parts)


def _is_met(dimension: Dimension, known: frozenset[str] | None) -> bool:
    return known is not None and known.isdisjoint(dimension.values) is dimension.negated
