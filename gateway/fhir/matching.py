"""Whether a resource meets search criteria, as a FHIR search would say, judged on the resource alone (FHIR R4 3.1.1.4).

Scopes (`patient/Observation.rs?category=laboratory`) and policies (`match:`) name criteria. They are compiled once;
what cannot be judged exactly on a resource is refused then, since a criterion that is left out widens a permit and one
that never matches disarms a denial.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authz.protocol import encoding
from gateway.fhir import dates, quantities
from gateway.fhir.definitions import SearchParameter, is_resource_type, search_parameter
from gateway.fhir.fhirpath import Expression, ExpressionError, compile_expression, first_members
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.links import local_reference
from gateway.fhir.outcome import FhirError
from gateway.fhir.search import parse_criterion
from gateway.fhir.search_values import split_values, unescape

Test = Callable[[Any], bool]  # of one value that the parameter's expression selects

_PLAIN_TOKENS = frozenset({"code", "boolean", "string", "id", "uri", "ContactPoint"})
_CODED_TOKENS = frozenset({"CodeableConcept", "Coding", "Identifier"})
_TEXTS = frozenset({"string", "markdown"})
_NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
_ADDRESS_PARTS = ("text", "line", "city", "district", "state", "postalCode", "country")
_URIS = frozenset({"uri", "url", "canonical"})


class CriteriaError(Exception):
    """Criteria that cannot be judged on a resource. The text says which and why, for the author of the rule."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One term, compiled: it holds when any selected value passes the test, or none does where it is negated."""

    term: SearchTerm
    expression: Expression
    test: Test
    negated: bool = False

    def holds(self, resource: Mapping[str, Any]) -> bool:
        """Whether the resource meets this term."""
        test = self.test
        return any(test(value) for value in self.expression.values(resource)) != self.negated


@dataclass(frozen=True, slots=True)
class Criteria:
    """Search criteria of one type; all of them must hold.

    terms  the same as search terms, for narrowing a search
    """

    type: str
    terms: tuple[SearchTerm, ...]
    _criteria: tuple[Criterion, ...]

    def matches(self, resource: Mapping[str, Any]) -> bool:
        """Whether the resource is of the type and meets every criterion."""
        return resource.get("resourceType") == self.type and all(
            criterion.holds(resource) for criterion in self._criteria
        )

    @property
    def looks_at(self) -> frozenset[str] | None:
        """The members of a resource that it looks at; None where it is not said which."""
        return first_members("resourceType", *(criterion.expression for criterion in self._criteria))

    def matches_found(self, resource: Mapping[str, Any], sent: frozenset[str]) -> bool:
        """The same of a resource that a search with the criteria in sent ('name=value') is said to have found.

        Of what it says nothing about, what it was found by is true.
        """
        return resource.get("resourceType") == self.type and all(
            each.holds(resource)
            or (f"{each.term.name}={each.term.text}" in sent and not each.expression.values(resource))
            for each in self._criteria
        )


def compile_criteria(type: str, query: str, *, bases: frozenset[str] = frozenset()) -> Criteria:
    """The criteria of a query such as 'category=laboratory&status=final,amended' (terms AND, commas OR).

    Evaluated are token, reference (to resources of the store, whose base URLs are bases), string, date, uri, number
    and quantity parameters with :missing, :not, :exact, :contains and :Type. Raises CriteriaError for all else.
    """
    if not is_resource_type(type):
        raise CriteriaError(f"'{type}' is not a FHIR R4 resource type")
    try:
        pairs = encoding.parse_query(query)
    except ValueError as error:
        raise CriteriaError(f"the criteria of {type}: the query {error}") from error
    if not pairs:
        raise CriteriaError(f"{type} has no criteria")
    criteria = tuple(_criterion(type, name, value, bases) for name, value in pairs)
    return Criteria(type, tuple(criterion.term for criterion in criteria), criteria)


def _criterion(type: str, name: str, value: str, bases: frozenset[str]) -> Criterion:
    try:
        term = parse_criterion(name, value, type)
    except FhirError as error:
        raise CriteriaError(error.diagnostics) from error
    parameter = search_parameter(type, term.code)
    if parameter is None or not parameter.expression:
        raise CriteriaError(f"'{term.code}' cannot be judged on a resource")
    try:
        expression = compile_expression(parameter.expression)
    except ExpressionError as error:
        raise CriteriaError(f"'{term.code}' cannot be judged on a resource: {error}") from error
    if term.modifier == "missing":
        return Criterion(term, expression, lambda value: True, negated=term.values == ("true",))
    return Criterion(
        term, expression, _test(parameter, term, expression, bases), negated=term.modifier == "not"
    )


def _test(
    parameter: SearchParameter, term: SearchTerm, expression: Expression, bases: frozenset[str]
) -> Test:
    texts = split_values(term.text)
    match parameter.type:
        case "token":
            return _token_test(parameter.code, texts, expression)
        case "string":
            return _string_test(parameter.code, term, expression)
        case "uri":
            _check_types(parameter.code, expression, _URIS)
            return frozenset(term.values).__contains__
        case "reference":
            return _reference_test(parameter, term, expression, bases)
        case "date":
            _check_types(parameter.code, expression, dates.TYPES)
            return _any([_or_criteria_error(dates.compile_test, parameter.code, text) for text in texts])
        case "number" | "quantity":
            types = quantities.NUMBERS if parameter.type == "number" else quantities.QUANTITIES
            _check_types(parameter.code, expression, types)
            return _any([_or_criteria_error(quantities.compile_test, parameter.code, text) for text in texts])
        case kind:
            raise CriteriaError(f"'{parameter.code}' is a {kind} parameter, which cannot be judged")


def _any(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _or_criteria_error(compile_test: Callable[[str], Test], code: str, text: str) -> Test:
    try:
        return compile_test(text)
    except ValueError as error:
        raise CriteriaError(f"'{code}': {error}") from error


def _check_types(code: str, expression: Expression, known: frozenset[str]) -> None:
    if unknown := sorted(expression.types - known):
        raise CriteriaError(f"'{code}' also means values of type {unknown[0]}, which cannot be judged")


def _token_test(code: str, texts: tuple[str, ...], expression: Expression) -> Test:
    """FHIR R4 3.1.1.4.10. Codes are compared with case; a system is compared literally."""
    _check_types(code, expression, _PLAIN_TOKENS | _CODED_TOKENS)
    anywhere: set[str] = set()  # code
    exact: set[tuple[str | None, str]] = set()  # system|code; None for |code
    systems: set[str] = set()  # system|
    for text in texts:
        system, bar, token = _split_at_bar(text)
        if not bar:
            anywhere.add(system)
        elif expression.types <= _PLAIN_TOKENS:
            raise CriteriaError(f"'{code}' is plain text without a code system; leave out '{system}|'")
        elif not token:
            if not system:
                raise CriteriaError(f"'{code}' has neither a system nor a code")
            systems.add(system)
        else:
            exact.add((system or None, token))

    def coded(value: Any) -> bool:
        token = value.get("code", value.get("value"))
        system = value.get("system")
        return token in anywhere or (system, token) in exact or system in systems

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return value in anywhere
        if isinstance(value, bool):
            return ("true" if value else "false") in anywhere
        if not isinstance(value, dict):
            return False
        codings = value.get("coding")
        if isinstance(codings, list):
            return any(
                isinstance(coding, dict) and _has_plain_token(coding) and coded(coding) for coding in codings
            )
        return _has_plain_token(value) and coded(value)

    return test


def _has_plain_token(value: Mapping[str, Any]) -> bool:
    """Whether code, value and system are text: what is not cannot be looked up, and is not FHIR."""
    return all(isinstance(value.get(name, ""), str) for name in ("code", "value", "system"))


def _split_at_bar(text: str) -> tuple[str, bool, str]:
    """system, whether there is a bar, code; the escapes resolved after the bar is found."""
    position = 0
    while position < len(text) and text[position] != "|":
        position += 2 if text[position] == "\\" else 1
    found = position < len(text)
    return unescape(text[:position]), found, unescape(text[position + 1 :])


def _string_test(code: str, term: SearchTerm, expression: Expression) -> Test:
    """FHIR R4 3.1.1.4.8: begins with it, without regard to case, accents and other combining marks."""
    _check_types(code, expression, _TEXTS | {"HumanName", "Address"})
    if term.modifier == "exact":
        exact = frozenset(term.values)
        return lambda value: any(text in exact for text in _texts(value))
    wanted = tuple(_folded(value) for value in term.values)
    if term.modifier == "contains":
        return lambda value: any(each in _folded(text) for text in _texts(value) for each in wanted)
    return lambda value: any(_folded(text).startswith(wanted) for text in _texts(value))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict):
        return []
    parts = [value.get(name) for name in dict.fromkeys((*_NAME_PARTS, *_ADDRESS_PARTS))]
    opened = [item for part in parts for item in (part if isinstance(part, list) else [part])]
    return [item for item in opened if isinstance(item, str)]


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(mark for mark in decomposed if not unicodedata.combining(mark)).split())


def _reference_test(
    parameter: SearchParameter, term: SearchTerm, expression: Expression, bases: frozenset[str]
) -> Test:
    """FHIR R4 3.1.1.4.12: literal references only. A version in the resource's reference does not matter."""
    _check_types(parameter.code, expression, _URIS | {"Reference"})
    if term.modifier == "identifier":
        raise CriteriaError(f"'{term.name}' means a logical reference, which cannot be judged")
    local: set[tuple[str, str]] = set()
    for value in term.values:
        named = f"{term.modifier}/{value}" if term.modifier is not None else value
        reference = local_reference(named, bases)
        if reference is not None and reference.version is None:
            local.add((reference.type, reference.id))
        elif term.modifier is None and "/" not in value and ":" not in value and parameter.targets:
            local |= {(target, value) for target in parameter.targets}
        elif ":" not in value:
            raise CriteriaError(f"'{term.name}' must be 'Type/id' or an id, not '{value}'")
    absolute = frozenset(value for value in term.values if ":" in value)

    def test(value: Any) -> bool:
        text = value.get("reference") if isinstance(value, dict) else value
        if not isinstance(text, str):
            return False
        if text in absolute:
            return True
        found = local_reference(text, bases)
        return found is not None and (found.type, found.id) in local

    return test
