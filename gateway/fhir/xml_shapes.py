"""How the members of a JSON object look in XML: attribute or element, which kind, in which order (FHIR R4 2.6.1).

Order, cardinality and types come from the table of elements that the rest of the gateway reads; nothing is kept twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from types import MappingProxyType

from gateway.fhir.definitions import is_resource_type, members

FHIR = "http://hl7.org/fhir"
XHTML = "http://www.w3.org/1999/xhtml"
_PRIMITIVES = frozenset(
    {
        "base64Binary", "canonical", "code", "date", "dateTime", "id", "instant", "markdown", "oid", "string", "time",
        "uri", "url", "uuid",
    }
)  # fmt: skip
_INTEGERS = frozenset({"integer", "positiveInt", "unsignedInt"})


class Kind(Enum):
    """What a member is in XML."""

    ATTRIBUTE = auto()  # Element.id and Extension.url
    TEXT = auto()  # a primitive that JSON has as a string
    DECIMAL = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    XHTML = auto()  # Narrative.div
    COMPLEX = auto()
    RESOURCE = auto()  # an element that holds one resource


_PRIMITIVE = frozenset({Kind.TEXT, Kind.DECIMAL, Kind.INTEGER, Kind.BOOLEAN})


@dataclass(frozen=True, slots=True)
class Shape:
    """One member. path is where its own members are listed, place its position among its neighbours."""

    name: str
    kind: Kind
    path: str
    repeats: bool
    place: int
    is_primitive: bool


@cache
def shapes(path: str) -> Mapping[str, Shape]:
    """The members below a type or a path such as 'Observation.component', in order; empty for what is not known."""
    known = members(path).items()
    return MappingProxyType(
        {
            name: Shape(name, kind, element.path, element.repeats, place, kind in _PRIMITIVE)
            for place, (name, element) in enumerate(known)
            for kind in (_kind(path, name, element.type),)
        }
    )


def _kind(path: str, name: str, type: str) -> Kind:
    if (name == "id" and not is_resource_type(path)) or (name == "url" and path == "Extension"):
        return Kind.ATTRIBUTE
    if type in _PRIMITIVES:
        return Kind.TEXT
    if type in _INTEGERS:
        return Kind.INTEGER
    if type == "Resource" or is_resource_type(type):
        return Kind.RESOURCE
    return {"decimal": Kind.DECIMAL, "boolean": Kind.BOOLEAN, "xhtml": Kind.XHTML}.get(type, Kind.COMPLEX)
