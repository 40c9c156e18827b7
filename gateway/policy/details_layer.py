"""The details layer: what the token's authorization details allow, beside its scopes and never beyond them (RFC 9396).

A token without details is limited by its scopes alone. A token with details opens only what scopes and details allow,
both. Details that cannot be read, or are of a type that is not enforced here, open nothing at all.
"""

from collections.abc import Mapping

from authz.protocol.authorization_details import DetailType, open_datatypes
from authz.protocol.tokens import Caller
from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import Reason
from gateway.policy.scope_layer import LETTERS

ACTIONS = tuple(str(interaction) for interaction in LETTERS)
"""What a detail may allow: the interactions that scopes have a letter for, each by its own name."""

FHIR_ACCESS = DetailType(
    name="fhir-access",
    actions=frozenset(ACTIONS),
    datatypes=frozenset(RESOURCE_TYPES),
    words="Health data",
)
"""The type that is shipped: access to FHIR resources by action, type and place."""

_CLAIM = "authorization_details"


class DetailsRefusal(Exception):
    """The token's details open nothing here."""

    def __init__(self, reason: Reason, explanation: str) -> None:
        super().__init__(explanation)
        self.reason = reason
        self.explanation = explanation


def open_types(
    caller: Caller, types: Mapping[str, DetailType], *, location: str, interaction: Interaction
) -> frozenset[str] | None:
    """The resource types on which the details allow this interaction at this place; None for a token without details.

    location is the identifier of the mount. Raises DetailsRefusal: a type that is not enforced here, or no details.
    """
    if _CLAIM not in caller.claims:
        return None
    details = caller.claims[_CLAIM]
    if not isinstance(details, list | tuple) or not details:
        raise DetailsRefusal(
            Reason.DETAILS_UNKNOWN, "authorization_details of the token are no list of details"
        )
    for detail in details:
        kind = detail.get("type") if isinstance(detail, Mapping) else None
        if not isinstance(kind, str) or kind not in types:
            raise DetailsRefusal(
                Reason.DETAILS_UNKNOWN,
                "the token has authorization details of a type that is not enforced here",
            )
        unknown = detail.keys() - {"type", "locations", "actions", "datatypes"}
        if unknown:
            raise DetailsRefusal(
                Reason.DETAILS_UNKNOWN,
                "the token has authorization details with a member that is not enforced",
            )
    return open_datatypes(details, types, location=location, action=str(interaction))
