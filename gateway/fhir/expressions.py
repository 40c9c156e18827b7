"""Statements about a resource in a small part of FHIRPath: true, false, or empty where nothing can be said (FHIRPath 2).

    meta.source = 'urn:h1:lis'
    MedicationRequest.requester.reference = %token.user
    status != 'entered-in-error' and %before.subject.reference = subject.reference
    note.exists() or (value.exists() and issued >= '2024-01-01')
    %token.user in performer.reference

Paths are those of gateway.fhir.fhirpath, with or without the type in front. A statement about another type than that
of the resource says nothing against it. `=` asks for one value on either side; more than one is not equal. A name in
%token is a claim that policies know. Everything is resolved when the statement is compiled; there are no loops and no
patterns, and the values that are looked at on one resource are counted.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.fhir.definitions import RESOURCE_TYPES
from gateway.fhir.fhirpath import ExpressionError, Steps, compile_expression
from gateway.fhir.json_patch import same
from gateway.fhir.search import did_you_mean

_TOKEN = re.compile(
    r"\s*(?:'((?:[^'\\]|\\['\\])*)'|(-?[0-9]+(?:\.[0-9]+)?)(?![A-Za-z0-9])"
    r"|(%?[A-Za-z][A-Za-z0-9]*(?:\.(?:[A-Za-z][A-Za-z0-9_-]*(?:\((?:[A-Za-z]*|[A-Za-z]+\s*=\s*'[^'\\]*')\))?))*)"
    r"|(!=|<=|>=|[=<>()]))"
)
_MAX_LENGTH = 1000
_MAX_DEPTH = 20
_MAX_STEPS = 200_000
_MEMBERSHIPS = ("in", "contains")
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
_SIDES = ("%before", "%after")

Truth = bool | None
Values = list[Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement is about: the resource as it is, or as it will be, the version before, the caller's claims."""

    resource: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    claims: Mapping[str, Any] | None = None
    steps: Steps = field(default_factory=lambda: Steps(_MAX_STEPS), compare=False)


Reading = Callable[[Subject], Values]
Statement = Callable[[Subject], Truth]


class StatementError(Exception):
    """A statement that is not of this part of FHIRPath, or that names an element or claim that is not there."""


def compile_statement(
    text: str, type_: str, *, claims: Collection[str] = (), of_a_write: bool = True
) -> Statement:
    """The statement for resources of one type. Raises StatementError.

    Its result is None where an element or claim that it needs is not there; for a permit that is no, for a deny yes.
    The statement itself raises TooManySteps. of_a_write: there are versions before and after, and it may speak of other
    types, of which it says nothing; without, it is about one resource of this type.
    """
    if len(text) > _MAX_LENGTH:
        raise StatementError(f"a statement has at most {_MAX_LENGTH} characters")
    reader = _Reader(text, type_, claims, of_a_write)
    found = reader.either(0)
    reader.expect_end()
    return found


def mentions_before(text: str) -> bool:
    """Whether a statement needs the version before a write."""
    return "%before" in text


class _Reader:
    """A recursive descent over the tokens of one statement."""

    def __init__(self, text: str, type_: str, claims: Collection[str], of_a_write: bool) -> None:
        self.type = type_
        self.claims = claims
        self.of_a_write = of_a_write
        self.tokens: list[tuple[str, str]] = []
        self.position = 0
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise StatementError(f"cannot be read at '{text[at : at + 20].strip()}'")
            at = match.end()
            kind = next(kind for kind, group in zip(_KINDS, match.groups(), strict=True) if group is not None)
            self.tokens.append((kind, next(group for group in match.groups() if group is not None)))

    def either(self, depth: int) -> Statement:
        parts = [self.all(depth)]
        while self.take("path", "or"):
            parts.append(self.all(depth))
        return parts[0] if len(parts) == 1 else lambda subject: _or([part(subject) for part in parts])

    def all(self, depth: int) -> Statement:
        parts = [self.one(depth)]
        while self.take("path", "and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else lambda subject: _and([part(subject) for part in parts])

    def one(self, depth: int) -> Statement:
        if depth > _MAX_DEPTH:
            raise StatementError(f"it is nested deeper than {_MAX_DEPTH}")
        negated = self.take("path", "not")
        if negated or self.peek() == ("mark", "("):
            self.expect("(")
            inner = self.either(depth + 1)
            self.expect(")")
            return (lambda subject: _not(inner(subject))) if negated else inner
        return self.comparison()

    def comparison(self) -> Statement:
        kind, text = self.next()
        if kind == "path" and (match := re.fullmatch(r"(.+)\.(exists|empty)\(\)", text)):
            reading, applies = self.reading("path", match[1])
            wanted = match[2] == "exists"
            return lambda subject: None if not applies else bool(reading(subject)) is wanted
        left, applies = self.reading(kind, text)
        mark = self.peek()
        if mark is not None and mark[0] == "path" and mark[1] in _MEMBERSHIPS:
            self.position += 1
            right, other_applies = self.reading(*self.next())
            item, items = (left, right) if mark[1] == "in" else (right, left)
            speaks = applies and other_applies
            return lambda subject: _vacuous(speaks, _is_among(item(subject), items(subject)))
        if mark is None or mark[0] != "mark" or mark[1] not in _COMPARISONS:
            if kind != "path":
                raise StatementError("a text or number alone states nothing")
            return lambda subject: _vacuous(applies, _boolean(left(subject)))
        self.position += 1
        operator = mark[1]
        right, other_applies = self.reading(*self.next())
        both = applies and other_applies
        return lambda subject: _vacuous(both, _compared(operator, left(subject), right(subject)))

    def reading(self, kind: str, text: str) -> tuple[Reading, bool]:
        """How a value is had, and whether it speaks of this type at all."""
        if kind == "text":
            value: Any = re.sub(r"\\(['\\])", r"\1", text)
            return (lambda subject: [value]), True
        if kind == "number":
            number: Any = float(text) if "." in text else int(text)
            return (lambda subject: [number]), True
        if kind != "path":
            raise StatementError(f"'{text}' was not expected")
        if text in ("true", "false"):
            truth = text == "true"
            return (lambda subject: [truth]), True
        if text.startswith("%token."):
            return self.claim(text.removeprefix("%token.")), True
        side, dot, path = text.partition(".")
        if text.startswith("%"):
            if not self.of_a_write:
                raise StatementError(f"'{text}' is not known: there is one resource, and %token.claim")
            if side not in _SIDES or not dot:
                raise StatementError(f"'{text}' is not known: %token.claim, %before.element, %after.element")
            return self.elements(path, before=side == "%before")
        return self.elements(text, before=False)

    def claim(self, name: str) -> Reading:
        if name not in self.claims:
            raise StatementError(f"no claim named '{name}' is defined{did_you_mean(name, self.claims)}")

        def values(subject: Subject) -> Values:
            value = None if subject.claims is None else subject.claims.get(name)
            return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]

        return values

    def elements(self, path: str, *, before: bool) -> tuple[Reading, bool]:
        root = path.partition(".")[0]
        if root in RESOURCE_TYPES and root != self.type:
            if not self.of_a_write:
                raise StatementError(f'it speaks of {root}: say it of each type, {{{root}: "…"}}')
            self.check(path)
            return (lambda subject: []), False
        full = path if root in RESOURCE_TYPES else f"{self.type}.{path}"
        expression = self.check(full)

        def values(subject: Subject) -> Values:
            side = subject.before if before else subject.resource
            return [] if side is None else expression.values(side, subject.steps)

        return values, True

    def check(self, path: str) -> Any:
        try:
            return compile_expression(path)
        except ExpressionError as error:
            raise StatementError(str(error)) from error

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def next(self) -> tuple[str, str]:
        token = self.peek()
        if token is None:
            raise StatementError("it ends too early")
        self.position += 1
        return token

    def take(self, kind: str, text: str) -> bool:
        if self.peek() == (kind, text):
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take("mark", text):
            raise StatementError(f"'{text}' was expected")

    def expect_end(self) -> None:
        token = self.peek()
        if token is not None:
            raise StatementError(f"'{token[1]}' was not expected")


_KINDS = ("text", "number", "path", "mark")


def _vacuous(applies: bool, truth: Truth) -> Truth:
    return truth if applies else True


def _boolean(values: Values) -> Truth:
    return values[0] if len(values) == 1 and isinstance(values[0], bool) else None


def _compared(operator: str, left: Values, right: Values) -> Truth:
    if not left or not right:
        return None
    equal = len(left) == len(right) == 1 and same(left[0], right[0])
    if operator == "=":
        return equal
    if operator == "!=":
        return not equal
    if len(left) != 1 or len(right) != 1:
        return None
    return _ordered(operator, left[0], right[0])


def _is_among(item: Values, items: Values) -> Truth:
    """Whether the one value is one of these; nothing can be said of several, or of none."""
    if len(item) != 1 or not items:
        return None
    return any(same(item[0], each) for each in items)


def _ordered(operator: str, left: Any, right: Any) -> Truth:
    """Numbers by value, texts of the same length by their characters: dates of one precision, that is."""
    one, other = _number(left), _number(right)
    if one is None or other is None:
        if not (isinstance(left, str) and isinstance(right, str) and len(left) == len(right)):
            return None
        one, other = left, right
    match operator:
        case "<":
            return bool(one < other)
        case "<=":
            return bool(one <= other)
        case ">":
            return bool(one > other)
        case _:
            return bool(one >= other)


def _number(value: Any) -> Any:
    decimal = getattr(value, "decimal", None)
    if decimal is not None:
        return float(decimal())
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _and(parts: list[Truth]) -> Truth:
    return False if False in parts else None if None in parts else True


def _or(parts: list[Truth]) -> Truth:
    return True if True in parts else None if None in parts else False


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth
