"""FHIR XML → the JSON value that means the same, so that everything behind decides about one form (FHIR R4 2.6.1).

Strict: what the definitions of R4 do not know, or not in this order or number, is refused and never left out, since a
store that reads it otherwise would keep what nobody judged. Decimals keep their text. Comments and CDATA say nothing.
"""

import re
from collections.abc import Sequence
from typing import Any, NoReturn
from xml.parsers import expat

from gateway.fhir.definitions import is_resource_type
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.resource import Number, is_too_deep
from gateway.fhir.xhtml import Narrative
from gateway.fhir.xml_parser import MAX_ATTRIBUTES, MAX_DEPTH, XmlError, parse_whole, secure_parser
from gateway.fhir.xml_shapes import FHIR, XHTML, Kind, Shape, shapes

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,9})?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")


def parse_resource_xml(content: bytes, *, reason: Reason = Reason.INVALID_BODY) -> dict[str, Any]:
    """The resource of a body in FHIR XML, as JSON has it. Raises FhirError with the reason."""
    reader = _Reader()
    try:
        parse_whole(reader.parser, content)
    except expat.ExpatError as error:
        where = f"line {error.lineno} column {error.offset + 1}"
        raise FhirError(reason, f"The body is not well-formed XML in UTF-8, from {where} on") from error
    except XmlError as error:
        where = f"line {reader.parser.CurrentLineNumber}"
        raise FhirError(reason, f"The body is not FHIR XML, {where}: {error}") from error
    value = reader.resource
    if value is None or is_too_deep(value):
        raise FhirError(reason, f"The XML is nested deeper than {MAX_DEPTH} elements")
    return value


class _Frame:
    """An element that has begun: what became of it so far."""

    __slots__ = ("extras", "last", "members", "name", "path", "scalar", "shape", "value", "values")

    def __init__(self, name: str, shape: Shape | None, path: str) -> None:
        self.name = name
        self.shape = shape  # None for a resource
        self.path = path
        self.members = shapes(path)
        self.value: dict[str, Any] = {}
        self.scalar: Any = None  # of a primitive
        self.last: Shape | None = None  # the member that came last, and its occurrences
        self.values: list[Any] = []
        self.extras: list[Any] = []

    def next(self, name: str) -> Shape:
        """The shape of the member that begins now."""
        shape = self.members.get(name)
        if shape is None or shape.kind is Kind.ATTRIBUTE:
            raise XmlError(f"{self.path} has no such element")
        if self.last is not None:
            if shape is self.last:
                if not shape.repeats:
                    raise XmlError(f"{self.path}.{name} may occur once")
            elif shape.place < self.last.place:
                raise XmlError(f"{self.path}.{name} stands behind what must follow it")
            else:
                self.close()
        self.last = shape
        return shape

    def close(self) -> None:
        """Store the occurrences of the member that came last."""
        if self.last is None:
            return
        name = self.last.name
        values, extras = self.values, self.extras
        self.values, self.extras = [], []
        if self.last.repeats:
            if any(each is not None for each in values):
                self.value[name] = values
            if any(each is not None for each in extras):
                self.value["_" + name] = extras
            return
        if values[0] is not None:
            self.value[name] = values[0]
        if extras[0] is not None:
            self.value["_" + name] = extras[0]


class _Reader:
    """The state between the parser's events. resource is there at the end."""

    def __init__(self) -> None:
        self.resource: dict[str, Any] | None = None
        self.parser = parser = secure_parser()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._stack: list[_Frame] = []
        self._narrative: Narrative | None = None

    def _start(self, name: str, attributes: Sequence[str]) -> None:
        if len(attributes) > 2 * MAX_ATTRIBUTES:
            raise XmlError(f"an element has more than {MAX_ATTRIBUTES} attributes")
        depth = len(self._stack) + (self._narrative.depth if self._narrative is not None else 0)
        if depth >= MAX_DEPTH:
            raise XmlError(f"it is nested deeper than {MAX_DEPTH} elements")
        if self._narrative is not None:
            self._narrative.start(name, attributes)
            return
        uri, _, local = name.rpartition(" ")
        above = self._stack[-1] if self._stack else None
        if above is None or (above.shape is not None and above.shape.kind is Kind.RESOURCE):
            self._start_resource(uri, local, attributes, above)
            return
        shape = above.next(local)
        if uri != (XHTML if shape.kind is Kind.XHTML else FHIR):
            raise XmlError("an element is in no namespace, or in one that is not its own")
        if shape.kind is Kind.XHTML:
            self._narrative = Narrative()
            self._narrative.start(name, attributes)
            return
        frame = _Frame(local, shape, "Element" if shape.is_primitive else shape.path)
        self._stack.append(frame)
        for attribute, value in zip(attributes[::2], attributes[1::2], strict=True):
            self._attribute(frame, shape, attribute, value)

    def _start_resource(self, uri: str, local: str, attributes: Sequence[str], above: _Frame | None) -> None:
        if uri != FHIR or not is_resource_type(local):
            raise XmlError(f"a resource of FHIR R4 is expected, in the namespace {FHIR}")
        if attributes:
            raise XmlError("a resource has no attributes")
        if above is not None:
            if above.value:
                raise XmlError(f"{above.path} holds one resource")
            above.value = {"resourceType": local}  # so that a second one is seen
        frame = _Frame(local, None, local)
        frame.value["resourceType"] = local
        self._stack.append(frame)

    def _attribute(self, frame: _Frame, shape: Shape, name: str, value: str) -> None:
        if not value:
            raise XmlError("an attribute is empty")
        if shape.is_primitive and name == "value":
            frame.scalar = _scalar(shape.kind, value)
            return
        own = frame.members.get(name)
        if own is None or own.kind is not Kind.ATTRIBUTE or shape.kind is Kind.RESOURCE:
            raise XmlError(f"{frame.path} has no such attribute")
        frame.value[name] = value

    def _text(self, content: str) -> None:
        if self._narrative is not None:
            self._narrative.text(content)
        elif content.strip(" \t\r\n"):
            raise XmlError("there is text between the elements")

    def _end(self, name: str) -> None:
        if self._narrative is not None:
            self._narrative.end(name)
            if self._narrative.depth == 0:
                self._put(self._narrative.whole(), None)
                self._narrative = None
            return
        frame = self._stack.pop()
        frame.close()
        if frame.shape is None:
            if self._stack:
                self._stack[-1].value = frame.value
            else:
                self.resource = frame.value
        elif frame.shape.is_primitive:
            if frame.scalar is None and not frame.value:
                _refuse_empty(frame)
            self._put(frame.scalar, frame.value or None)
        else:
            if not frame.value:
                _refuse_empty(frame)
            self._put(frame.value, None)

    def _put(self, value: Any, extra: Any) -> None:
        above = self._stack[-1]
        above.values.append(value)
        above.extras.append(extra)


def _refuse_empty(frame: _Frame) -> NoReturn:
    raise XmlError(f"an element '{frame.name}' is empty")


def _scalar(kind: Kind, text: str) -> Any:
    match kind:
        case Kind.BOOLEAN if text in ("true", "false"):
            return text == "true"
        case Kind.INTEGER if _INTEGER.fullmatch(text):
            return int(text)
        case Kind.DECIMAL if _DECIMAL.fullmatch(text):
            return int(text) if text.lstrip("-").isdigit() else Number(text)
        case Kind.TEXT:
            return text
        case _:
            raise XmlError(f"a value is not a {kind.name.lower()}")
