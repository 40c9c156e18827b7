"""Rich authorization requests (RFC 9396): typed, validated details of what is asked for.

A type says which members its details may have and which values these may take. What a type does not know is refused:
a detail that nobody enforces would be a promise that nobody keeps.

Details are alternatives: what one of them allows is allowed. Within one detail every member limits, and a member that
is not there limits to what the type allows at most.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from authz.protocol.encoding import strict_json
from authz.protocol.errors import ErrorCode, OAuthError, speakable

_MAX_BYTES = 4096
_MAX_DETAILS = 8
_MAX_VALUES = 64
_LISTS = ("locations", "actions", "datatypes")

Detail = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DetailType:
    """One type of authorization details, as declared in the configuration.

    actions and datatypes are the values that may be asked for, and all that a detail without them allows. words says
    on the consent page what a detail of this type is.
    """

    name: str
    actions: frozenset[str]
    datatypes: frozenset[str]
    words: str


def read_details(
    text: str,
    types: Mapping[str, DetailType],
    locations: Mapping[str, str],
    *,
    registered: Collection[str],
) -> tuple[Detail, ...]:
    """The details of an authorization_details parameter, each of a known type with known values only.

    locations maps every spelling of a resource identifier to the one that tokens carry; a detail without locations is
    for all of them. registered are the types that the client may use (RFC 9396 10). Raises
    OAuthError(INVALID_AUTHORIZATION_DETAILS).
    """
    try:
        value = strict_json(text.encode("utf-8"), max_bytes=_MAX_BYTES)
    except ValueError as error:
        raise refused(f"authorization_details must be a JSON array of at most {_MAX_BYTES} bytes") from error
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_DETAILS:
        raise refused(f"authorization_details must be a JSON array of 1 to {_MAX_DETAILS} objects")
    details = tuple(_detail(each, types, locations) for each in value)
    for detail in details:
        if detail["type"] not in registered:
            raise refused(f"the client is not registered for authorization details of type {detail['type']}")
    return details


def _detail(value: object, types: Mapping[str, DetailType], locations: Mapping[str, str]) -> Detail:
    if not isinstance(value, dict):
        raise refused("each of the authorization_details must be an object")
    kind = types.get(value["type"]) if isinstance(value.get("type"), str) else None
    if kind is None:
        raise refused(
            f"type must be one of {', '.join(sorted(types)) or 'none: details are not offered here'}"
        )
    unknown = sorted(value.keys() - {"type", *_LISTS})
    if unknown:
        raise refused(f"{kind.name} has no member {speakable(unknown[0], at_most=60)}")
    found: dict[str, object] = {"type": kind.name}
    for name, allowed in (("actions", kind.actions), ("datatypes", kind.datatypes)):
        if name in value:
            found[name] = _values(value[name], name, allowed)
    if "locations" in value:
        known = _values(value["locations"], "locations", frozenset(locations))
        found["locations"] = list(dict.fromkeys(locations[each] for each in known))
    return found


def _values(value: object, name: str, allowed: frozenset[str]) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_VALUES:
        raise refused(f"{name} must be an array of 1 to {_MAX_VALUES} strings")
    for each in value:
        if not isinstance(each, str) or each not in allowed:
            raise refused(f"{name} may not hold {speakable(str(each), at_most=60)}")
    return list(dict.fromkeys(value))


def open_datatypes(
    details: Iterable[Detail], types: Mapping[str, DetailType], *, location: str | None, action: str
) -> frozenset[str]:
    """The datatypes on which the details together allow this action at this resource; at every one where it is None.

    A detail of a type that is not known allows nothing.
    """
    found: frozenset[str] = frozenset()
    for detail in details:
        if is_for(detail, location) and action in allowed_values(detail, "actions", types):
            found |= allowed_values(detail, "datatypes", types)
    return found


def allowed_values(detail: Detail, name: str, types: Mapping[str, DetailType]) -> frozenset[str]:
    """The actions or datatypes that a detail allows: those that it names and that its type still has, else all of it."""
    kind = types.get(str(detail.get("type")))
    if kind is None:
        return frozenset()
    whole = kind.actions if name == "actions" else kind.datatypes
    if name not in detail:
        return whole
    said = detail[name]
    named = said if isinstance(said, list | tuple) else ()
    return whole & {each for each in named if isinstance(each, str)}


def is_for(detail: Detail, location: str | None) -> bool:
    """Whether a detail speaks of this resource: it names it, or no resource at all. Only the latter is for every one."""
    if "locations" not in detail:
        return True
    said = detail["locations"]
    return location is not None and isinstance(said, list | tuple) and location in said


def is_covered(asked: Iterable[Detail], granted: Sequence[Detail], types: Mapping[str, DetailType]) -> bool:
    """Whether all that the asked details allow is allowed by granted ones of the same type (RFC 9396 6).

    What two granted details allow together is covered; the actions of one with the datatypes of another are not. A
    detail of a type that is not known is covered by nothing.
    """
    for detail in asked:
        if detail.get("type") not in types:
            return False
        same = [each for each in granted if each.get("type") == detail.get("type")]
        said = detail.get("locations")
        locations: list[str | None] = [None]
        if isinstance(said, list | tuple):
            locations = [str(each) for each in said]
        datatypes = allowed_values(detail, "datatypes", types)
        for location, action in product(locations, allowed_values(detail, "actions", types)):
            if not datatypes <= open_datatypes(same, types, location=location, action=action):
                return False
    return True


def refused(description: str) -> OAuthError:
    """The error for details that cannot be granted (RFC 9396 5)."""
    return OAuthError(ErrorCode.INVALID_AUTHORIZATION_DETAILS, description)
