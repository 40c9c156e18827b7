"""Rich authorization requests (RFC 9396): typed, validated details of what is asked for.

A type says which members its details may have and which values these may take. What a type does not know is refused:
a detail that nobody enforces would be a promise that nobody keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authz.protocol.encoding import strict_json
from authz.protocol.errors import ErrorCode, OAuthError, speakable

FHIR_ACCESS = "fhir-access"
_MAX_BYTES = 4096
_MAX_DETAILS = 8
_MAX_VALUES = 64
_LISTS = ("locations", "actions", "datatypes")

Detail = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DetailType:
    """One type of authorization details, as declared in the configuration.

    actions and datatypes are the values that may be asked for; empty where the member is not known to the type.
    words says on the consent page what a detail of this type is.
    """

    name: str
    actions: frozenset[str]
    datatypes: frozenset[str]
    words: str


def read_details(
    text: str, types: Mapping[str, DetailType], locations: Mapping[str, str]
) -> tuple[Detail, ...]:
    """The details of an authorization_details parameter, each of a known type with known values only.

    locations maps every spelling of a resource identifier to the one that tokens carry; a detail without locations is
    for all of them. Raises OAuthError(INVALID_AUTHORIZATION_DETAILS).
    """
    try:
        value = strict_json(text.encode("utf-8"), max_bytes=_MAX_BYTES)
    except ValueError as error:
        raise _refused(f"authorization_details must be a JSON array of at most {_MAX_BYTES} bytes") from error
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_DETAILS:
        raise _refused(f"authorization_details must be a JSON array of 1 to {_MAX_DETAILS} objects")
    return tuple(_detail(each, types, locations) for each in value)


def _detail(value: object, types: Mapping[str, DetailType], locations: Mapping[str, str]) -> Detail:
    if not isinstance(value, dict):
        raise _refused("each of the authorization_details must be an object")
    kind = types.get(value["type"]) if isinstance(value.get("type"), str) else None
    if kind is None:
        raise _refused(
            f"type must be one of {', '.join(sorted(types)) or 'none: details are not offered here'}"
        )
    unknown = sorted(value.keys() - {"type", *_LISTS})
    if unknown:
        raise _refused(f"{kind.name} has no member {speakable(unknown[0], at_most=60)}")
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
        raise _refused(f"{name} must be an array of 1 to {_MAX_VALUES} strings")
    for each in value:
        if not isinstance(each, str) or each not in allowed:
            raise _refused(f"{name} may not hold {speakable(str(each), at_most=60)}")
    return list(dict.fromkeys(value))


def covers(details: Sequence[Detail], *, location: str, action: str, datatype: str | None) -> bool:
    """Whether one of the details allows this action on this type of data at this resource.

    A member that a detail does not have does not limit it.
    """
    return any(
        _within(detail, "locations", location)
        and _within(detail, "actions", action)
        and (datatype is None or _within(detail, "datatypes", datatype))
        for detail in details
    )


def _within(detail: Detail, name: str, value: str) -> bool:
    allowed = detail.get(name)
    return allowed is None or (isinstance(allowed, list | tuple) and value in allowed)


def in_words(detail: Detail, types: Mapping[str, DetailType]) -> str:
    """One line for the consent page."""
    kind = types.get(str(detail.get("type")))
    parts = [kind.words if kind is not None else str(detail.get("type"))]
    for name, said in (("actions", "may"), ("datatypes", "of")):
        values = detail.get(name)
        if isinstance(values, list | tuple):
            parts.append(f"{said} {', '.join(map(str, values))}")
    return ": ".join([parts[0], " ".join(parts[1:])]) if len(parts) > 1 else parts[0]


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_AUTHORIZATION_DETAILS, description)
