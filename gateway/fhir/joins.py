"""The parts of a search that read further types: chains, `_has`, `_include`, `_revinclude` (FHIR R4 3.1.1.4-5).

Read here by R4 alone: which types each of them touches, by which references, and in which ways it can be read. Whether
a caller may touch them is not decided here. Bounds keep a term from becoming a search engine of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from gateway.fhir import search
from gateway.fhir.definitions import (
    RESOURCE_TYPES,
    SearchParameter,
    is_resource_type,
    search_parameter,
    search_parameters,
)
from gateway.fhir.fhirpath import Expression, ExpressionError, compile_expression
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.outcome import FhirError, Reason

INCLUDES = frozenset({"_include", "_revinclude"})
MAX_HOPS = 3  # of one chain, `_has` counted in
MAX_READINGS = 16  # of a chain whose types are not named


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a join: from resources to those that they name by a reference parameter, or that name them.

    source   the type that has the parameter `code`
    target   the type that it refers to
    reverse  the step goes against the reference: `_has`, `_revinclude`
    """

    source: str
    code: str
    target: str
    reverse: bool = False

    @property
    def type(self) -> str:
        """The type of the resources that the step reads."""
        return self.source if self.reverse else self.target


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a chain: its hops, the criterion at its end, and the name that says just this."""

    hops: tuple[Hop, ...]
    criterion: SearchTerm
    name: str


@dataclass(frozen=True, slots=True)
class Include:
    """One `_include` or `_revinclude`.

    source   the type that has the parameter `code`
    targets  the types that are included, or whose referrers are
    iterate  it applies to what was included as well
    """

    source: str
    code: str
    targets: frozenset[str]
    reverse: bool
    iterate: bool

    @property
    def name(self) -> str:
        """What policies call it, e.g. 'Observation:performer'."""
        return f"{self.source}:{self.code}"

    @property
    def types(self) -> frozenset[str]:
        """The types of the resources that it adds."""
        return frozenset({self.source}) if self.reverse else self.targets


def join_term(name: str, value: str, type: str) -> SearchTerm:
    """The term of a chain, `_has`, `_include` or `_revinclude` on a type. Raises FhirError for what R4 has no
    meaning for, and for what is wider than the bounds."""
    code = name.partition(":")[0]
    if code in INCLUDES:
        term = SearchTerm(name, code, name.partition(":")[2] or None, None, (value,), value)
        found = include(term)
        fits = type in found.targets if found.reverse else found.source == type
        if not fits and not found.iterate:
            raise FhirError(
                Reason.INVALID_PARAMETER,
                f"'{code}={search.shown(value)}' has nothing to do with {type}: it begins at {found.source}",
            )
        return term
    first = readings(name, value, type)[0]
    if code == "_has":
        return SearchTerm(name, "_has", None, name[5:], first.criterion.values, first.criterion.text)
    head, _, chain = name.partition(".")
    return SearchTerm(name, head.partition(":")[0], None, chain, first.criterion.values, first.criterion.text)


def is_join(term: SearchTerm) -> bool:
    """Whether the term is a chain or `_has`."""
    return term.code == "_has" or term.chain is not None


def includes(terms: Iterable[SearchTerm]) -> tuple[Include, ...]:
    """The includes among the terms of a search."""
    return tuple(include(term) for term in terms if term.code in INCLUDES)


def include(term: SearchTerm) -> Include:
    """What an `_include` or `_revinclude` asks for. Raises FhirError."""
    if term.modifier not in (None, "iterate"):
        raise FhirError(Reason.UNKNOWN_PARAMETER, f"'{term.code}' takes no modifier but ':iterate'")
    if "*" in term.text:
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER, f"'{term.code}' by '*' is closed: name what is to be included"
        )
    parts = term.text.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise FhirError(
            Reason.INVALID_PARAMETER, f"'{term.code}' must be Type:parameter or Type:parameter:TargetType"
        )
    source, code = parts[0], parts[1]
    targets = _targets(_reference_parameter(source, code))
    if len(parts) == 3:
        _check_target(source, code, parts[2], targets)
        targets = frozenset({parts[2]})
    reference_expression(source, code)
    return Include(source, code, targets, term.code == "_revinclude", term.modifier == "iterate")


def readings(name: str, value: str, type: str) -> tuple[Reading, ...]:
    """Every way to read a chain or `_has` on a type; one where each hop has one type. Raises FhirError."""
    return tuple(_readings(name, value, type, MAX_HOPS, MAX_READINGS))


def as_read(term: SearchTerm, reading: Reading) -> SearchTerm:
    """The term with the types of this reading said aloud."""
    return replace(term, name=reading.name, text=reading.criterion.text)


@cache
def reference_expression(type: str, code: str) -> Expression:
    """What the reference parameter selects. Raises FhirError where that cannot be told on a resource."""
    parameter = _reference_parameter(type, code)
    try:
        return compile_expression(parameter.expression)
    except ExpressionError as error:
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER, f"'{type}:{code}' is closed: what it refers to cannot be judged"
        ) from error


def _readings(name: str, value: str, type: str, hops_left: int, ways_left: int) -> list[Reading]:
    if name.startswith("_has:"):
        return _reverse(name, value, type, hops_left, ways_left)
    head, dot, rest = name.partition(".")
    if not dot:
        code = head.partition(":")[0]
        search.check_is_open(code)
        return [Reading((), search.parse_criterion(name, value, type), name)]
    _check_depth(hops_left)
    code, colon, said = head.partition(":")
    targets = _targets(_reference_parameter(type, code))
    if colon:
        _check_target(type, code, said, targets)
        targets = frozenset({said})
    if len(targets) > ways_left:  # asked before any of them is tried: trying costs too
        raise FhirError(
            Reason.AMBIGUOUS_QUERY,
            f"'{search.shown(name)}' may mean many types: name one, as in subject:Patient.name",
        )
    found: list[Reading] = []
    refusal: FhirError | None = None
    for target in sorted(targets):
        try:
            more = _readings(rest, value, target, hops_left - 1, ways_left // len(targets))
        except FhirError as error:
            refusal = refusal or error
            continue
        hop = Hop(type, code, target)
        found += [Reading((hop, *r.hops), r.criterion, f"{code}:{target}.{r.name}") for r in more]
    if not found:
        raise refusal or FhirError(Reason.UNKNOWN_PARAMETER, f"'{search.shown(name)}' refers to nothing")
    return found


def _reverse(name: str, value: str, type: str, hops_left: int, ways_left: int) -> list[Reading]:
    _check_depth(hops_left)
    parts = name.split(":", 3)
    if len(parts) != 4 or not all(parts):
        raise FhirError(Reason.INVALID_PARAMETER, "'_has' must be _has:Type:reference:parameter")
    _, source, code, rest = parts
    _check_target(source, code, type, _targets(_reference_parameter(source, code)))
    hop = Hop(source, code, type, reverse=True)
    return [
        Reading((hop, *r.hops), r.criterion, f"_has:{source}:{code}:{r.name}")
        for r in _readings(rest, value, source, hops_left - 1, ways_left)
    ]


def _reference_parameter(type: str, code: str) -> SearchParameter:
    if not is_resource_type(type):
        raise FhirError(
            Reason.INVALID_PARAMETER,
            f"'{search.shown(type)}' is not a resource type{search.did_you_mean(type, RESOURCE_TYPES)}",
        )
    parameter = search_parameter(type, code)
    if parameter is None or not parameter.expression:
        raise FhirError(
            Reason.UNKNOWN_PARAMETER,
            f"{type} has no search parameter '{search.shown(code)}'"
            f"{search.did_you_mean(code, search_parameters(type))}",
        )
    if parameter.type != "reference":
        raise FhirError(
            Reason.UNKNOWN_PARAMETER,
            f"'{code}' of {type} is a {parameter.type} parameter: it refers to nothing",
        )
    return parameter


def _targets(parameter: SearchParameter) -> frozenset[str]:
    return parameter.targets or RESOURCE_TYPES


def _check_target(source: str, code: str, target: str, targets: frozenset[str]) -> None:
    if target not in targets:
        raise FhirError(
            Reason.UNKNOWN_PARAMETER,
            f"'{code}' of {source} never refers to '{search.shown(target)}'{search.did_you_mean(target, targets)}",
        )


def _check_depth(hops_left: int) -> None:
    if not hops_left:
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"a chain of more than {MAX_HOPS} references is closed")
