"""The `_filter` expression of a search (FHIR R4 3.1.3), read strictly and written in one form.

    expression  = unit | unit ("and" unit)+ | unit ("or" unit)+
    unit        = "(" expression ")" | "not" "(" expression ")" | comparison
    comparison  = parameter operator value

Stricter than FHIR: `and` and `or` beside each other need parentheses, since readers differ on which binds closer; a
value holds no comma, no backslash and no quotation mark, which stores would read in ways of their own. Chains and
filters in brackets are closed: they read other resources. The store is sent what is written here, never what was sent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway.fhir import search
from gateway.fhir.definitions import RESOURCE_TYPES, SearchParameter, is_resource_type, search_parameter
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.outcome import FhirError, Reason

MAX_LENGTH = 2000  # characters
MAX_COMPARISONS = 30
MAX_DEPTH = 8  # parentheses within each other

_TOKEN = re.compile(r' *(?:([()])|"([^"\\,]*)"|([^\s()",\\\[\]]+))')
_CODE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_BARE = re.compile(r"[A-Za-z0-9_.:/|+-]+")
_REFERENCE = re.compile(r"([A-Za-z]+)/([A-Za-z0-9.-]{1,64})")
_ORDERED = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "ap", "sa", "eb"})
_OPERATORS: dict[str, frozenset[str]] = {
    "string": frozenset({"eq", "ne", "co", "sw", "ew"}),
    "token": frozenset({"eq", "ne"}),
    "reference": frozenset({"eq", "ne", "re"}),
    "uri": frozenset({"eq", "ne"}),
    "date": _ORDERED | {"po"},
    "number": _ORDERED,
    "quantity": _ORDERED,
}
"""By the type of the parameter, beside `pr`, which all of them take."""
_CLOSED_OPERATORS = frozenset({"in", "ss", "sb"})  # they ask code systems and value sets


@dataclass(frozen=True, slots=True)
class Comparison:
    """One parameter against one value. term is the plain criterion about the same, for whoever judges it."""

    code: str
    operator: str
    value: str
    is_quoted: bool
    term: SearchTerm


@dataclass(frozen=True, slots=True)
class Negation:
    """What must not hold."""

    of: "Expression"


@dataclass(frozen=True, slots=True)
class Junction:
    """Two or more expressions joined by one word: all of them hold with 'and', one of them with 'or'."""

    word: str
    parts: tuple["Expression", ...]


Expression = Comparison | Negation | Junction


@lru_cache(maxsize=1024)
def read(text: str, type: str) -> Expression:
    """The expression of a `_filter` on a type. Raises FhirError for what is not understood or not open."""
    if len(text) > MAX_LENGTH:
        raise _wrong(f"is {len(text)} characters long, at most {MAX_LENGTH} are read")
    if not text.isprintable():
        raise _wrong("holds a character that is not printable")
    found = _Reader(text, type).whole()
    if len(written(found)) > MAX_LENGTH:  # it is read again as it is written
        raise _wrong(f"is longer than {MAX_LENGTH} characters where it is written in full")
    return found


def written(expression: Expression) -> str:
    """The one form of an expression; read() gives the same expression for it."""
    match expression:
        case Comparison(code=code, operator=operator, value=value, is_quoted=is_quoted):
            return f'{code} {operator} "{value}"' if is_quoted else f"{code} {operator} {value}"
        case Negation(of=of):
            return f"not ({written(of)})"
        case Junction(word=word, parts=parts):
            return f" {word} ".join(
                f"({written(part)})" if isinstance(part, Junction) else written(part) for part in parts
            )


def comparisons(expression: Expression) -> Iterator[Comparison]:
    """Every comparison, wherever it stands."""
    match expression:
        case Comparison():
            yield expression
        case Negation(of=of):
            yield from comparisons(of)
        case Junction(parts=parts):
            for part in parts:
                yield from comparisons(part)


def demands(expression: Expression) -> tuple[SearchTerm, ...]:
    """The criteria that everything found must meet: equalities that stand under no `or` and no `not`."""
    parts = (
        expression.parts if isinstance(expression, Junction) and expression.word == "and" else (expression,)
    )
    return tuple(
        part.term for part in parts if isinstance(part, Comparison) and part.operator in ("eq", "re")
    )


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str, type: str) -> None:
        self._type = type
        self._tokens = _tokens(text)
        self._at = 0
        self._comparisons = 0

    def whole(self) -> Expression:
        found = self._expression(0)
        if self._at != len(self._tokens):
            raise _wrong(f"goes on after its end with '{search.shown(self._tokens[self._at][1])}'")
        return found

    def _expression(self, depth: int) -> Expression:
        parts = [self._unit(depth)]
        word = self._word()
        while self._word() in ("and", "or"):
            if self._word() != word:
                raise FhirError(
                    Reason.AMBIGUOUS_QUERY,
                    "'_filter' mixes and with or: say by parentheses which belongs together",
                )
            self._at += 1
            parts.append(self._unit(depth))
        if len(parts) == 1:
            return parts[0]
        flat: list[Expression] = []
        for part in parts:  # what is joined by one word needs no parentheses
            flat += part.parts if isinstance(part, Junction) and part.word == word else (part,)
        return Junction(word, tuple(flat))

    def _unit(self, depth: int) -> Expression:
        if self._is_mark("("):
            return self._in_parentheses(depth)
        if self._word() == "not" and self._is_mark("(", ahead=1):
            self._at += 1
            return Negation(self._in_parentheses(depth))
        return self._comparison()

    def _in_parentheses(self, depth: int) -> Expression:
        if depth == MAX_DEPTH:
            raise _wrong(f"is nested more than {MAX_DEPTH} deep")
        self._at += 1
        found = self._expression(depth + 1)
        if not self._is_mark(")"):
            raise _wrong("lacks a closing parenthesis, or a word that joins: and, or")
        self._at += 1
        return found

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise _wrong(f"has more than {MAX_COMPARISONS} comparisons")
        code, operator = self._next("word", "a parameter"), self._next("word", "an operator such as eq")
        kind, value = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind not in ("word", "text") or not value:
            raise _wrong(f"has no value after '{search.shown(code)} {search.shown(operator)}'")
        self._at += 1
        return _comparison(code, operator, value, self._type)

    def _next(self, kind: str, expected: str) -> str:
        found = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "its end")
        if found[0] != kind:
            raise _wrong(f"has '{search.shown(found[1])}' where {expected} is expected")
        self._at += 1
        return found[1]

    def _word(self) -> str:
        at = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        return at[1] if at[0] == "word" else ""

    def _is_mark(self, mark: str, *, ahead: int = 0) -> bool:
        at = self._at + ahead
        return at < len(self._tokens) and self._tokens[at] == ("mark", mark)


def _tokens(text: str) -> list[tuple[str, str]]:
    """Marks, texts in quotation marks and words, in order."""
    found: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip(" "))
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip(" ")
            if rest[0] in "[]":
                raise _closed("a filter in brackets reads other resources")
            raise _wrong(
                f"cannot be read from '{search.shown(rest)}' on: values hold no comma and no backslash"
            )
        mark, quoted, word = match.groups()
        found.append(("mark", mark) if mark else ("text", quoted) if quoted is not None else ("word", word))
        position = match.end()
    return found


def _comparison(code: str, operator: str, value: str, type: str) -> Comparison:
    if "." in code:
        raise _closed(f"'{search.shown(code)}' is a chain, which reads other resources")
    if not _CODE.fullmatch(code):
        raise _wrong(f"has '{search.shown(code)}' where a parameter is expected")
    search.check_is_open(code)
    parameter = search_parameter(type, code)
    if parameter is None:
        search.parse_criterion(code, "x", type)  # raises, and says what was nearly written
        raise _wrong(f"names '{code}', which {type} is not searched by")
    kind = parameter.type
    if kind not in _OPERATORS:
        raise _closed(f"'{code}' is a {kind} parameter")
    if operator in _CLOSED_OPERATORS:
        raise _closed(f"the operator '{operator}' asks more than the resource")
    if operator == "pr":
        if value not in ("true", "false"):
            raise _wrong(f"asks whether '{code}' is present: true or false is expected")
        term = search.parse_criterion(f"{code}:missing", "false" if value == "true" else "true", type)
        return Comparison(code, operator, value, False, term)
    if operator not in _OPERATORS[kind]:
        known = ", ".join(sorted(_OPERATORS[kind] | {"pr"}))
        raise _wrong(f"compares '{code}' by '{search.shown(operator)}': a {kind} parameter takes {known}")
    is_word = _BARE.fullmatch(value) is not None and value not in ("and", "or", "not")
    is_quoted = kind == "string" or (kind in ("token", "uri") and not is_word)
    return Comparison(code, operator, value, is_quoted, _term(parameter, operator, value, type))


def _term(parameter: SearchParameter, operator: str, value: str, type: str) -> SearchTerm:
    """The plain criterion about the same. Raises FhirError for a value that the parameter does not have."""
    code = parameter.code
    if parameter.type == "reference":
        named = _REFERENCE.fullmatch(value)
        targets = parameter.targets or RESOURCE_TYPES
        if (
            named is None
            or named[2] in (".", "..")
            or not is_resource_type(named[1])
            or named[1] not in targets
        ):
            raise _wrong(
                f"compares '{code}' with '{search.shown(value)}': Type/id of a type it refers to is expected"
            )
    if operator in _ORDERED and parameter.type in ("date", "number", "quantity"):
        if not _BARE.fullmatch(value) or not (value[0].isdigit() or value[0] in "+-"):
            raise _wrong(f"compares '{code}' with '{search.shown(value)}': a {parameter.type} is expected")
        return search.parse_criterion(code, operator + value, type)
    return search.parse_criterion(code, value, type)


def _wrong(said: str) -> FhirError:
    return FhirError(Reason.INVALID_PARAMETER, f"'_filter' {said}")


def _closed(said: str) -> FhirError:
    return FhirError(Reason.UNSUPPORTED_PARAMETER, f"'_filter' is closed to this: {said}")
