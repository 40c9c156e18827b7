"""The part of FHIRPath that R4's search parameters use, compiled to plain steps (FHIRPath 2.0.0, FHIR R4 3.1.2).

Supported: dotted paths rooted at the type, unions, choices (`Observation.value` stands for valueQuantity and its
siblings), `.ofType(T)`, `.as(T)`, `(X as T)`, `.where(name='text')`, `.where(resolve() is T)`. Everything is resolved
against the element table when it is compiled, so a misspelt path fails at load, not in silence at the first request.
`resolve() is T` looks at the literal reference alone; nothing is fetched.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from gateway.fhir.definitions import RESOURCE_TYPES, choices, members
from gateway.fhir.search import did_you_mean

_TOKEN = re.compile(r"\s*(?:([A-Za-z][A-Za-z0-9]*)|'([^'\\]*)'|([.()|=]))")
_LITERAL = re.compile(r"(?:.*/)?([A-Za-z]+)/[A-Za-z0-9.-]{1,64}(?:/_history/[A-Za-z0-9.-]{1,64})?", re.DOTALL)

Filter = Callable[[Any], bool]


class ExpressionError(Exception):
    """An expression that is not of the supported part, or that names an element which R4 does not have."""


class TooManySteps(ValueError):
    """A resource so large that looking through it was given up."""


@dataclass(slots=True)
class Steps:
    """The values that may still be looked at, on one resource."""

    left: int

    def take(self, count: int) -> None:
        """Count values that are looked at. Raises TooManySteps."""
        self.left -= count
        if self.left < 0:
            raise TooManySteps


@dataclass(frozen=True, slots=True)
class Route:
    """One way from the resource to values of one data type: member names and filters, in order."""

    type: str
    path: str  # where its members are listed
    steps: tuple[str | Filter, ...]

    def values(self, resource: Any, steps: Steps | None = None) -> list[Any]:
        """The values at the end of the way; arrays are opened, null is left out. Raises TooManySteps."""
        nodes = [resource]
        for step in self.steps:
            if steps is not None:
                steps.take(len(nodes))
            if isinstance(step, str):
                nodes = [
                    item
                    for node in nodes
                    if isinstance(node, dict) and (value := node.get(step)) is not None
                    for item in (_opened(value) if isinstance(value, list) else (value,))
                ]
            else:
                nodes = [node for node in nodes if step(node)]
            if not nodes:
                return nodes
        return nodes


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: the union of its routes."""

    routes: tuple[Route, ...]

    @property
    def types(self) -> frozenset[str]:
        """The data types that the values can have."""
        return frozenset(route.type for route in self.routes)

    def values(self, resource: Any, steps: Steps | None = None) -> list[Any]:
        """Every value that the expression selects in the resource. Raises TooManySteps."""
        if len(self.routes) == 1:
            return self.routes[0].values(resource, steps)
        return [value for route in self.routes for value in route.values(resource, steps)]


def first_members(*looked_at: str | Expression) -> frozenset[str] | None:
    """These members of a resource, and those by which expressions go into it; None where one looks at it whole."""
    found: set[str] = set()
    for each in looked_at:
        if isinstance(each, str):
            found.add(each)
            continue
        for route in each.routes:
            first = route.steps[0] if route.steps else None
            if not isinstance(first, str):
                return None
            found.add(first)
    return frozenset(found)


@cache
def compile_expression(expression: str) -> Expression:
    """The compiled expression. Raises ExpressionError for what is not supported or not in R4."""
    reader = _Reader(expression)
    routes = reader.union()
    reader.expect_end()
    return Expression(tuple(dict.fromkeys(routes)))


def _opened(value: list[Any]) -> list[Any]:
    """The items of an array. FHIR has no array in an array; opened all the same, so that nothing hides in one."""
    if any(isinstance(item, list) for item in value):
        return [inner for item in value for inner in (_opened(item) if isinstance(item, list) else [item])]
    return [item for item in value if item is not None]


class _Reader:
    """A recursive descent over the tokens of one expression."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens: list[tuple[str, str]] = []
        self.position = 0
        at = 0
        while at < len(expression.rstrip()):
            match = _TOKEN.match(expression, at)
            if match is None:
                raise self.error(f"at '{expression[at : at + 20]}'")
            kind = "name" if match[1] else "text" if match[2] is not None else "mark"
            self.tokens.append((kind, match[1] or match[2] or match[3] or ""))
            at = match.end()

    def union(self) -> list[Route]:
        routes = self.path()
        while self.take("|"):
            routes = [*routes, *self.path()]
        return routes

    def path(self) -> list[Route]:
        if self.take("("):
            routes = self.union()
            if self.take("as"):
                routes = self.of_type(routes, self.name())
            self.expect(")")
        else:
            root = self.name()
            if root not in RESOURCE_TYPES:
                raise self.error(f"'{root}' is not a resource type")
            routes = [Route(root, root, ())]
        while self.take("."):
            routes = self.step(routes, self.name())
        if self.take("as"):
            routes = self.of_type(routes, self.name())
        return routes

    def step(self, routes: list[Route], name: str) -> list[Route]:
        if not self.take("("):
            found = [
                Route(element.type, element.path, (*route.steps, key))
                for route in routes
                for key, element in choices(route.path, name).items()
            ]
            if not found:
                known = {member for route in routes for member in members(route.path)}
                raise self.error(f"there is no element '{name}'{did_you_mean(name, known)}")
            return found
        match name:
            case "ofType" | "as":
                found = self.of_type(routes, self.name())
            case "where":
                condition = self.condition(routes)
                found = [Route(route.type, route.path, (*route.steps, condition)) for route in routes]
            case _:
                raise self.error(f"the function '{name}' is not supported")
        self.expect(")")
        return found

    def condition(self, routes: list[Route]) -> Filter:
        name = self.name()
        if name == "resolve" and self.take("("):
            self.expect(")")
            self.expect("is")
            wanted = self.name()
            if wanted not in RESOURCE_TYPES or any(route.type != "Reference" for route in routes):
                raise self.error("resolve() is supported on references to resource types")
            return _refers_to(wanted)
        self.expect("=")
        kind, text = self.next()
        if kind != "text" or not all(choices(route.path, name) for route in routes):
            raise self.error("where() compares an element with a text")
        return _equals(name, text)

    def of_type(self, routes: Sequence[Route], wanted: str) -> list[Route]:
        found = [route for route in routes if route.type == wanted]
        if not found:
            raise self.error(f"nothing there is of type {wanted}")
        return found

    def name(self) -> str:
        kind, text = self.next()
        if kind != "name":
            raise self.error(f"a name was expected before '{text}'")
        return text

    def next(self) -> tuple[str, str]:
        if self.position >= len(self.tokens):
            raise self.error("it ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def take(self, text: str) -> bool:
        if self.position < len(self.tokens) and self.tokens[self.position] in (
            ("mark", text),
            ("name", text),
        ):
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.error(f"'{text}' was expected")

    def expect_end(self) -> None:
        if self.position < len(self.tokens):
            raise self.error(f"'{self.tokens[self.position][1]}' was not expected")

    def error(self, what: str) -> ExpressionError:
        return ExpressionError(f"cannot judge '{self.expression}': {what}")


@cache
def _refers_to(type: str) -> Filter:
    def holds(node: Any) -> bool:
        text = node.get("reference") if isinstance(node, dict) else None
        match = _LITERAL.fullmatch(text) if isinstance(text, str) else None
        return match is not None and match[1] == type

    return holds


@cache
def _equals(name: str, text: str) -> Filter:
    return lambda node: isinstance(node, dict) and node.get(name) == text
