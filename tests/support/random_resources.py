"""Resources as the definitions of R4 allow them, at random: any member, any nesting, any text."""

import string
from random import Random
from typing import Any

from gateway.fhir.definitions import members
from gateway.fhir.resource import Number
from gateway.fhir.xhtml import one_spelling
from gateway.fhir.xml_shapes import Kind, Shape, shapes

_CHARACTERS = (
    string.printable.replace("\x0b", "").replace("\x0c", "") + "\u00e4\u20ac\U0001f600\u2028\x85\xa0"
)
_DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'
_OWN_VIEWS = frozenset({"code", "Meta", "Resource", "OperationOutcome"})
_WELL_FORMED = {
    "base64Binary": "AAEC",
    "canonical": "http://example.org/x|1",
    "date": "2020-02-29",
    "dateTime": "2020-02-29T10:00:00.120+01:00",
    "id": "x-1",
    "instant": "2020-02-29T10:00:00.120Z",
    "markdown": "# a\n\n* b & <c>",
    "oid": "urn:oid:1.2.3",
    "string": 'a "b" & <c>\u00e4',
    "time": "10:00:00",
    "uri": "http://example.org/?a=b&c=d",
    "url": "http://example.org/",
    "uuid": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
    "positiveInt": 7,
    "unsignedInt": 0,
    "integer": -3,
}


class RandomResources:
    """Makes resources. well_formed: primitives have values of their types, extensions a URL and a value.

    Left out then is what engines have views of their own about: codes, which are bound, Meta, contained resources,
    ids of elements, and extensions of ids and of primitives that repeat.
    """

    def __init__(self, random: Random, *, well_formed: bool = False) -> None:
        self._random = random
        self._well_formed = well_formed

    def resource(self, type_: str, depth: int = 0) -> dict[str, Any]:
        """One of the type."""
        return {"resourceType": type_, **(self._members(type_, depth) or {"id": "x"})}

    def _members(self, path: str, depth: int) -> dict[str, Any]:
        random, known = self._random, shapes(path)
        value: dict[str, Any] = {}
        chosen: set[str] = set()
        if self._well_formed and path == "Extension":
            name = random.choice(
                [name for name in known if name[:5] == "value" and name[5:] not in ("Code", "Meta")]
            )
            return {"url": "u:x", name: self._value(known[name], members(path)[name].type, depth)}
        for name in random.sample(sorted(known), min(len(known), random.randint(1, 4))):
            shape, type_ = known[name], members(path)[name].type
            if depth > 4 and shape.kind in (Kind.COMPLEX, Kind.RESOURCE):
                continue
            if self._well_formed and (type_ in _OWN_VIEWS or shape.kind is Kind.ATTRIBUTE):
                continue
            choice = name.removesuffix(type_[:1].upper() + type_[1:])
            if self._well_formed and choice != name:
                if choice in chosen:
                    continue
                chosen.add(choice)
            values = [
                self._value(shape, type_, depth) for _ in range(random.randint(1, 3) if shape.repeats else 1)
            ]
            is_extended = random.random() < 0.25 and not (
                self._well_formed and (shape.repeats or "id" in (name, type_))
            )
            if shape.is_primitive and is_extended:
                extras = [
                    random.choice((None, {"extension": [{"url": "u:x", "valueBoolean": True}]}))
                    for _ in values
                ]
                if any(extras):
                    value["_" + name] = extras if shape.repeats else extras[0]
                    values = [
                        None if extra and random.random() < 0.5 else each
                        for each, extra in zip(values, extras, strict=True)
                    ]
            if any(each is not None for each in values):
                value[name] = values if shape.repeats else values[0]
        return value

    def _value(self, shape: Shape, type_: str, depth: int) -> Any:
        random = self._random
        if self._well_formed and type_ in _WELL_FORMED:
            return _WELL_FORMED[type_]
        match shape.kind:
            case Kind.TEXT | Kind.ATTRIBUTE:
                return "".join(random.choice(_CHARACTERS) for _ in range(random.randint(1, 12)))
            case Kind.BOOLEAN:
                return random.random() < 0.5
            case Kind.INTEGER:
                return random.randint(-(2**31), 2**31)
            case Kind.DECIMAL:
                number = Number(f"{random.randint(-9, 9)}.{random.randint(0, 999):03}")
                return random.choice((random.randint(-99, 99), number))
            case Kind.XHTML:
                return one_spelling(f"{_DIV}{random.choice(('x', '<p>a</p>b', 'a<br/>'))}</div>")
            case Kind.RESOURCE:
                return self.resource(random.choice(("Patient", "Observation", "Binary")), depth + 1)
            case _:
                return self._members(shape.path, depth + 1) or {
                    "extension": [{"url": "u:x", "valueBoolean": True}]
                }
