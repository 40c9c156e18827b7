"""Claims of a token as policies see them: by their path, and only where the value is of the declared type."""

from collections.abc import Mapping

from gateway.fhir.ids import is_id
from gateway.policy.rules import Claim

_IN_THE_WAY = object()  # a value where the path goes on: it is not the claim, and it is not nothing


def claim_value(claims: Mapping[str, object], claim: Claim) -> str | list[str] | None:
    """The value of a claim, None when it is absent or not of its declared type (attack case 284)."""
    value = _said(claims, claim)
    match claim.type:
        case "id":
            return value if isinstance(value, str) and is_id(value) else None
        case "codes":
            return value if isinstance(value, list) and all(isinstance(v, str) and v for v in value) else None
        case "reference":
            return value if isinstance(value, str) and _is_reference(value, claim.of) else None
        case _:
            return value if isinstance(value, str) and value else None


def is_said(claims: Mapping[str, object], claim: Claim) -> bool:
    """Whether the token says anything at all in the place of the claim, of its type or not."""
    return _said(claims, claim) is not None


def _said(claims: Mapping[str, object], claim: Claim) -> object:
    value: object = claims
    for step in claim.path:
        if not isinstance(value, Mapping):
            return None if value is None else _IN_THE_WAY
        value = value.get(step)
    return value


def _is_reference(text: str, of: tuple[str, ...]) -> bool:
    type_, slash, id_ = text.partition("/")
    return bool(slash) and is_id(id_) and (not of or type_ in of)


def claim_values(claims: Mapping[str, object], claim: Claim) -> frozenset[str] | None:
    """The values of a claim as a set; None when it is absent or not of its declared type."""
    value = claim_value(claims, claim)
    if value is None:
        return None
    return frozenset(value) if isinstance(value, list) else frozenset({value})
