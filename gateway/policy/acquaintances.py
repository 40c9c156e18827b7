"""What does not change about a caller from one request to the next, worked out once: a token is used many times.

That is its standing, the values that rules know it by, and the layers about those requests whose decision looks at
nothing but the caller: no clock, no address, no emergency, no fact, consent or label of another resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from authz.protocol.tokens import Caller
from gateway.fhir.held_resources import HOLDERS
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy.decision import Deny, Environment
from gateway.policy.layers import Layers
from gateway.policy.rules import Rule
from gateway.policy.scope_layer import Standing
from gateway.policy.sources import uses, wheres_of

_AT_MOST = 10_000  # as many as tokens are remembered
_LAYERS_AT_MOST = 20_000  # of all callers together: about 6 KB each
_INSTANCES = frozenset({Interaction.READ, Interaction.VREAD, Interaction.HISTORY_INSTANCE})

Place = tuple[str, Interaction, str]
"""A type, an interaction and the identifier of a mount."""


@dataclass(slots=True)
class Acquaintance:
    """One caller as one policy set sees it. layers holds None where they have to be worked out at every request.

    standing is a Deny for a caller of none, whom no rule is asked about.
    values is what is known of the caller by dimension of `who`; doubtful are those of which something else is said;
    claims are those that policies speak of, as far as they are of their types.
    of_the_moment is by interaction whether a rule about any type may speak otherwise tomorrow.
    """

    caller: Caller
    standing: Standing | Deny
    values: Mapping[str, frozenset[str]]
    doubtful: frozenset[str]
    claims: dict[str, list[str]]
    layers: dict[Place, Layers | Deny | None] = field(default_factory=dict)
    of_the_moment: dict[Interaction, bool] = field(default_factory=dict)


class Acquaintances:
    """The callers that were asked about lately. A caller is known again as the same object, as a kept token gives it."""

    def __init__(self) -> None:
        self._known: dict[int, Acquaintance] = {}
        self._layers = 0  # of all that are known

    def find(self, caller: Caller) -> Acquaintance | None:
        """What is known of this caller; None for somebody new."""
        found = self._known.get(id(caller))
        return found if found is not None and found.caller is caller else None

    def keep(self, acquaintance: Acquaintance) -> Acquaintance:
        """Keep it, in the place of the oldest where there are too many. The caller lives as long, so its id is its own."""
        if len(self._known) >= _AT_MOST:
            self._forget_oldest()
        self._known[id(acquaintance.caller)] = acquaintance
        return acquaintance

    def keep_layers(self, acquaintance: Acquaintance, place: Place, layers: Layers | Deny | None) -> None:
        """Keep what speaks at a place for a caller that is known; the oldest callers go where that is too much."""
        while self._layers >= _LAYERS_AT_MOST:
            self._forget_oldest()
        if self.find(acquaintance.caller) is acquaintance:
            acquaintance.layers[place] = layers
            self._layers += 1

    def _forget_oldest(self) -> None:
        self._layers -= len(self._known.pop(next(iter(self._known))).layers)


def place_of(asked: FhirRequest, type_: str, environment: Environment) -> Place | None:
    """Where the layers about a request may be kept; None where they hang on more of it than its place."""
    if asked.interaction not in _INSTANCES or asked.terms or type_ == "Binary" or type_ in HOLDERS:
        return None
    if environment.emergency is not None or environment.known.found_by or environment.known.supposes:
        return None
    return type_, asked.interaction, environment.location


def looks_at_the_moment(rule: Rule) -> bool:
    """Whether a rule looks at more than caller and resource."""
    timed = rule.hours is not None or rule.valid is not None or rule.sign_in.within_seconds is not None
    if timed or rule.networks is not None or rule.break_glass is not None:
        return True
    facts, asks_consent = uses(rule)
    inherits = any(where.labels is not None and where.labels.inherit for where in wheres_of(rule))
    return bool(facts) or asks_consent or inherits
