"""The parts of an explanation: each scope, each rule and each of its conditions, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.policy.rules import Rule


class Truth(StrEnum):
    """Whether a condition holds; open is what only a resource can tell, and none was given."""

    TRUE = "true"
    FALSE = "false"
    OPEN = "open"


class Outcome(StrEnum):
    """What a rule does to this request."""

    UNMATCHED = "does not match"
    PERMITS = "permits"
    REFUSES = "refuses"
    HIDES = "takes elements away"
    KEPT = "is kept"
    STEP_UP = "asks for another sign-in"
    OPEN = "depends on the resource"


@dataclass(frozen=True, slots=True)
class Part:
    """One condition: its name, what the rule wants, what the caller has (where it is about the caller)."""

    name: str
    wanted: object
    found: object
    holds: Truth


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """One rule about this type and interaction, all its conditions, and what it does."""

    rule: Rule
    parts: tuple[Part, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ScopeExplanation:
    """One scope of the token, whether it counts for this request, and why."""

    scope: str
    holds: Truth
    why: str
