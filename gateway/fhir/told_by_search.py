"""Criteria that no resource can tell by itself, and a search of the store can: chains, `_has`, `:below`.

They say something of other resources, or of code systems. A policy may name them; whether they hold is known only from
a search that provably was narrowed by them.
"""

from dataclasses import dataclass

from authz.protocol import encoding
from gateway.fhir import joins
from gateway.fhir.definitions import is_resource_type, search_parameter
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.matching import Criteria, CriteriaError, compile_criteria
from gateway.fhir.outcome import FhirError
from gateway.fhir.search import encode_terms
from gateway.fhir.search_values import split_values, unescape

_SETS = ("below",)


@dataclass(frozen=True, slots=True)
class SplitCriteria:
    """Criteria of one type: those that are judged on the resource (None without any), and those that a search tells."""

    judged: Criteria | None
    told: tuple[SearchTerm, ...]


def split_criteria(type: str, query: str, *, bases: frozenset[str] = frozenset()) -> SplitCriteria:
    """The criteria of a query, apart. Raises CriteriaError for what neither the resource nor a search can tell."""
    if not is_resource_type(type):
        raise CriteriaError(f"'{type}' is not a FHIR R4 resource type")
    try:
        pairs = encoding.parse_query(query)
    except ValueError as error:
        raise CriteriaError(f"the criteria of {type}: the query {error}") from error
    told = [term for name, value in pairs if (term := _told(type, name, value)) is not None]
    rest = [_as_written(name, value) for name, value in pairs if _told(type, name, value) is None]
    judged = compile_criteria(type, encode_terms(rest), bases=bases) if rest or not told else None
    return SplitCriteria(judged, tuple(told))


def needs_search(query: str) -> bool:
    """Whether some criterion of a query may be one that only a search can tell."""
    names = [part.partition("=")[0] for part in query.split("&")]
    return any("." in name or name.startswith("_has:") or name.endswith(":below") for name in names)


def _as_written(name: str, value: str) -> SearchTerm:
    """A term as it was written, to be written again."""
    return SearchTerm(name, name, None, None, (value,), value)


def _told(type: str, name: str, value: str) -> SearchTerm | None:
    """The term of a criterion that a search alone can tell; None for every other."""
    code, _, modifier = name.partition(":")
    if name.startswith("_has:") or "." in name:
        return _joined(type, name, value)
    parameter = search_parameter(type, code)
    if modifier not in _SETS or parameter is None or parameter.type != "token":
        return None
    if not value:
        raise CriteriaError(f"'{name}' has an empty value")
    try:
        values = tuple(unescape(each) for each in split_values(value))
    except FhirError as error:
        raise CriteriaError(error.diagnostics) from error
    return SearchTerm(name, code, modifier, None, values, value)


def _joined(type: str, name: str, value: str) -> SearchTerm:
    try:
        found = joins.readings(name, value, type)
        split_values(value)
    except FhirError as error:
        raise CriteriaError(error.diagnostics) from error
    if len(found) > 1:
        said = " or ".join(sorted(reading.name for reading in found)[:3])
        raise CriteriaError(f"'{name}' may mean {said}: name the types")
    return joins.as_read(joins.join_term(name, value, type), found[0])
