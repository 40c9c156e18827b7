"""Step-up: whether the person's sign-in is what rules ask for, and which sign-in would be (RFC 9470).

What the token does not say was not done: without acr or auth_time no rule that asks for them is met.
"""

from collections.abc import Iterable, Mapping, Sequence

from authz.protocol.tokens import Caller, caller_of
from gateway.policy.claims import claim_values
from gateway.policy.decision import StepUp
from gateway.policy.rules import Claim, Rule, SignIn

_AHEAD_SECONDS = 60  # clocks of our own nodes differ by less


def is_met(asked: SignIn, caller: Caller, claims: Mapping[str, Claim], now: int) -> bool:
    """Whether the sign-in that the token tells of is one that is asked for."""
    if asked.acr:
        reached = claim_values(caller.claims, claims["acr"])
        if reached is None or reached.isdisjoint(asked.acr):
            return False
    if asked.within_seconds is None:
        return True
    at = caller.claims.get("auth_time")
    if not isinstance(at, int) or isinstance(at, bool) or at > now + _AHEAD_SECONDS:
        return False
    return now - at <= asked.within_seconds


def easiest(guards: Iterable[Rule], ways: Sequence[Rule]) -> tuple[StepUp, tuple[Rule, ...]] | None:
    """The sign-in that meets every guard and, where ways are given, the least demanding of them, with those rules.

    None when no sign-in can meet them together. The order of rules has no meaning.
    """
    always = sorted(guards, key=lambda rule: rule.id)
    found = []
    for rules in [(*always, way) for way in ways] or [tuple(always)]:
        together = _together(rule.sign_in for rule in rules)
        if together is not None:
            age = together.max_age
            effort = (bool(together.acr_values), age is not None, -(age or 0), together.acr_values)
            found.append((effort, tuple(rule.id for rule in rules), together, rules))
    if not found:
        return None
    _, _, step_up, rules = min(found, key=lambda each: each[:2])
    return step_up, tuple(rule for rule in rules if not rule.sign_in.is_empty)


def as_signed_in(caller: Caller, asked: StepUp, claims: Mapping[str, Claim], now: int) -> Caller:
    """The caller after the sign-in that is asked for: for the question whether it would open something."""
    changed: dict[str, object] = dict(caller.claims)
    if asked.max_age is not None:
        changed["auth_time"] = now
    claim = claims.get("acr")
    if asked.acr_values and claim is not None and len(claim.path) == 1:
        changed[claim.path[0]] = asked.acr_values[0] if claim.type == "string" else list(asked.acr_values[:1])
    return caller_of(changed, issuer=caller.issuer)


def together(asked: Sequence[StepUp]) -> StepUp | None:
    """The one sign-in that meets all of them; None where none can."""
    return _together(SignIn(each.acr_values, each.max_age) for each in asked)


def _together(asked: Iterable[SignIn]) -> StepUp | None:
    """All of it at once; None when what one asks for another does not take."""
    acr: tuple[str, ...] | None = None
    ages = []
    for each in asked:
        if each.acr:
            acr = each.acr if acr is None else tuple(value for value in acr if value in each.acr)
        if each.within_seconds is not None:
            ages.append(each.within_seconds)
    return None if acr == () else StepUp(acr or (), min(ages, default=None))
