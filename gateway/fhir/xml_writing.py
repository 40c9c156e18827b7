"""A resource as JSON has it → FHIR XML (FHIR R4 2.6.1). The result reads back as the same value.

What XML has no word for (a member that R4 does not know, a string where a number belongs, an empty object) is refused
and never left out: an answer that silently lacks something is read as if it were whole.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.plain_json import number_text
from gateway.fhir.resource import Number
from gateway.fhir.xhtml import attribute_text, one_spelling
from gateway.fhir.xml_parser import XmlError
from gateway.fhir.xml_shapes import FHIR, Kind, Shape, shapes

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_NO_CHARACTERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML 1.0 2.2
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,9})?")
_PLAIN = re.compile('[^\x00-\x1f&<>"\ud800-\udfff\ufffe\uffff]+').fullmatch  # nothing to escape or refuse
Put = Callable[[str], None]


def write_resource_xml(value: Mapping[str, Any]) -> bytes:
    """The document. Raises FhirError(NOT_ACCEPTABLE) for what cannot be said in XML."""
    parts = [DECLARATION]
    _resource(value, parts.append, root=True)
    return "".join(parts).encode("utf-8")


def write_member_xml(path: str, name: str, value: Any) -> str:
    """One member of the object at path, e.g. 'Bundle' and 'link', with all its occurrences. Raises FhirError."""
    parts: list[str] = []
    _member(path, name, _shape(path, name), value, None, parts.append)
    return "".join(parts)


def _resource(value: Any, put: Put, *, root: bool = False) -> None:
    type = value.get("resourceType") if isinstance(value, Mapping) else None
    if not isinstance(type, str) or not is_resource_type(type):
        _refuse("a resource", "is not one of FHIR R4")
    members = {name: member for name, member in value.items() if name != "resourceType"}
    put(f'<{type} xmlns="{FHIR}"' if root else f"<{type}")
    if not members:
        put("/>")
        return
    put(">")
    _members(type, members, put)
    put(f"</{type}>")


def _members(path: str, value: Mapping[str, Any], put: Put) -> None:
    """The elements of an object, in the order of the definition."""
    known = shapes(path)
    found: list[tuple[int, str, Shape]] = []
    for name in value:
        plain = name[1:] if name.startswith("_") else name
        shape = known.get(plain)
        if shape is None or (plain is not name and not shape.is_primitive):
            _refuse(path, "has a member that FHIR R4 does not know")
        if shape.kind is not Kind.ATTRIBUTE and (plain is name or plain not in value):
            found.append((shape.place, plain, shape))
    found.sort(key=_place)
    for _, name, shape in found:
        one = value.get(name)
        extra = value.get("_" + name)
        is_usual = shape.kind is Kind.TEXT and extra is None and not shape.repeats
        if is_usual and type(one) is str and _PLAIN(one):
            put(f'<{name} value="{one}"/>')
        else:
            _member(path, name, shape, one, extra, put)


def _place(found: tuple[int, str, Shape]) -> int:
    return found[0]


def _member(path: str, name: str, shape: Shape, value: Any, extra: Any, put: Put) -> None:
    if not shape.repeats:
        if isinstance(value, list) or isinstance(extra, list):
            _refuse(f"{path}.{name}", "may occur once")
        _element(path, name, shape, value, extra, put)
        return
    values = [] if value is None else value
    extras = [] if extra is None else extra
    if not isinstance(values, list) or not isinstance(extras, list) or not (values or extras):
        _refuse(f"{path}.{name}", "must be an array that is not empty")
    for number in range(max(len(values), len(extras))):
        one = values[number] if number < len(values) else None
        _element(path, name, shape, one, extras[number] if number < len(extras) else None, put)


def _element(path: str, name: str, shape: Shape, value: Any, extra: Any, put: Put) -> None:
    if shape.is_primitive:
        _primitive(path, name, shape, value, extra, put)
        return
    if shape.kind is Kind.XHTML:
        try:
            put(one_spelling(value) if isinstance(value, str) else _refuse(path, "has no narrative"))
        except XmlError:
            _refuse(path, "holds a narrative that is not well-formed XHTML")
        return
    if not isinstance(value, Mapping) or not value:
        _refuse(f"{path}.{name}", "must be an object that is not empty")
    if shape.kind is Kind.RESOURCE:
        put(f"<{name}>")
        _resource(value, put)
        put(f"</{name}>")
        return
    put(f"<{name}")
    if _attributes(shape.path, value, put) == len(value):
        put("/>")
        return
    put(">")
    _members(shape.path, value, put)
    put(f"</{name}>")


def _primitive(path: str, name: str, shape: Shape, value: Any, extra: Any, put: Put) -> None:
    put(f"<{name}")
    said = 0
    if extra is not None:
        if not isinstance(extra, Mapping) or not extra:
            _refuse(f"{path}._{name}", "must be an object that is not empty")
        said = _attributes("Element", extra, put)
    elif value is None:
        _refuse(f"{path}.{name}", "has neither a value nor an extension")
    if value is not None:
        put(f' value="{_scalar(path, name, shape.kind, value)}"')
    if extra is None or said == len(extra):
        put("/>")
        return
    put(">")
    _members("Element", extra, put)
    put(f"</{name}>")


def _attributes(path: str, value: Mapping[str, Any], put: Put) -> int:
    """Write id and url where they are attributes; how many were."""
    said = 0
    for name in ("id", "url") if path == "Extension" else ("id",):
        if name in value:
            put(f' {name}="{_text(path, name, value[name])}"')
            said += 1
    return said


def _scalar(path: str, name: str, kind: Kind, value: Any) -> str:
    if kind is Kind.TEXT:
        return _text(path, name, value)
    if kind is Kind.BOOLEAN:
        if isinstance(value, bool):
            return "true" if value else "false"
    elif isinstance(value, Number | float):
        text = number_text(value) if isinstance(value, float) else value.text
        if kind is Kind.DECIMAL and _DECIMAL.fullmatch(text):
            return text
    elif isinstance(value, int) and not isinstance(value, bool):
        text = int.__repr__(value)
        if len(text) <= (100 if kind is Kind.DECIMAL else 20):
            return text
    _refuse(f"{path}.{name}", f"is not a {kind.name.lower()}")


def _text(path: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        _refuse(f"{path}.{name}", "must be a string that is not empty")
    if _NO_CHARACTERS.search(value):
        _refuse(f"{path}.{name}", "holds a character that XML does not have")
    return attribute_text(value)


def _shape(path: str, name: str) -> Shape:
    shape = shapes(path).get(name)
    return shape if shape is not None else _refuse(path, "has a member that FHIR R4 does not know")


def _refuse(what: str, why: str) -> NoReturn:
    raise FhirError(Reason.NOT_ACCEPTABLE, f"this answer cannot be said as XML: {what} {why}; ask for JSON")
