"""Search criteria that a resource alone does not answer: chains, `_has` and `:in` read other resources or value sets.

Only a search of the store can tell whether they are met. They are taken apart here from those that are judged on the
resource (gateway.fhir.matching), and read by R4 alone: each must have one meaning, whatever the store.
"""

import re

from authz.protocol import encoding
from gateway.fhir import joins
from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.matching import CriteriaError
from gateway.fhir.outcome import FhirError

_VALUE_SET = re.compile(r"(?:https?://|urn:)[^\s,\\$|]+(?:\\\|[^\s,\\$|]+)?")


def needs_the_store(part: str) -> bool:
    """Whether one criterion, as 'name=value', is one that only a search of the store can tell."""
    name = part.partition("=")[0]
    return name.startswith("_has:") or "." in name or name.endswith(":in")


def taken_apart(type: str, query: str) -> tuple[str, tuple[SearchTerm, ...]]:
    """The criteria that are judged on the resource, '' for none, and the terms of those that only the store can tell.

    Raises CriteriaError for a term of the store's that has no single meaning.
    """
    parts = query.split("&")
    terms = tuple(_term(type, part) for part in parts if needs_the_store(part))
    return "&".join(part for part in parts if not needs_the_store(part)), terms


def _term(type: str, part: str) -> SearchTerm:
    try:
        [(name, value)] = encoding.parse_query(part)
    except ValueError as error:
        raise CriteriaError(f"'{part.partition('=')[0]}' has no single reading: {error}") from error
    try:
        if name.endswith(":in") and not name.startswith("_has:") and "." not in name:
            return _in_value_set(type, name, value)
        readings = joins.readings(name, value, type)
        term = joins.join_term(name, value, type)
    except FhirError as error:
        raise CriteriaError(error.diagnostics) from error
    if len(readings) > 1:
        said = " or ".join(sorted(reading.name for reading in readings)[:3])
        raise CriteriaError(f"'{name}' may mean {said}: name the type")
    return joins.as_read(term, readings[0])


def _in_value_set(type: str, name: str, value: str) -> SearchTerm:
    code = name.removesuffix(":in")
    parameter = search_parameter(type, code)
    if parameter is None or parameter.type != "token" or not parameter.expression:
        raise CriteriaError(f"':in' is for token parameters: '{code}' is none of {type}")
    if not _VALUE_SET.fullmatch(value):
        raise CriteriaError(f"'{name}' takes the URL of one value set, as in '{name}=http://example.org/vs'")
    return SearchTerm(name, code, "in", None, (value,), value)
