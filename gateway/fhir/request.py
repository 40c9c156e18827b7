"""One strict reading of a FHIR REST request: method, path, query and form become one FhirRequest (FHIR R4 3.1.0).

The gateway decides about a request and forwards it; both must mean the same. So there is one grammar, written as
productions, and what has a second reading anywhere behind us (dot segments, encoded slashes, path parameters, empty
segments) is refused, never cleaned up. request_target.py writes the only form that ever reaches the store.

    /                                   search the system (GET), batch or transaction (POST)
    /metadata  /_history  /_search  /$op
    /Type                               search, create, conditional update, patch and delete
    /Type/_history  /Type/_search  /Type/$op
    /Type/id                            read, update, patch, delete
    /Type/id/_history  /Type/id/_history/version  /Type/id/$op
    /Patient/id/Type                    search in the compartment
    /_job/sealed                        status (GET) and end (DELETE) of an export
    /_file/sealed                       a file of an export
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.fhir import operations, search, shape
from gateway.fhir.definitions import RESOURCE_TYPES, is_resource_type, patient_compartment
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.opened_terms import read_term
from gateway.fhir.outcome import FhirError, Reason

_CAPABILITIES_PARAMETERS = frozenset({"mode"})
FORM_TYPE = "application/x-www-form-urlencoded"

_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9_-]{0,63}")  # the usual one: no dot, no escape
_SEGMENT = re.compile(r"[A-Za-z0-9._$-]{1,128}")
_OPERATION_NAME = re.compile(r"\$[A-Za-z][A-Za-z0-9-]{0,63}")
_SEALED = re.compile(r"/(_job|_file)/([A-Za-z0-9_-]{1,7600})")
_OF_JOBS = {"_job": {"GET": "export-status", "DELETE": "export-cancel"}, "_file": {"GET": "export-file"}}
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_FORM_CONTENT_TYPE = re.compile(
    r"application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?", re.IGNORECASE
)
# Of FHIR R4 beside Patient.
_OTHER_COMPARTMENTS = frozenset({"Device", "Encounter", "Practitioner", "RelatedPerson"})

_BASE = {"GET": Interaction.SEARCH, "POST": Interaction.BATCH}
_CAPABILITIES = {"GET": Interaction.CAPABILITIES}
_POSTED_SEARCH = {"POST": Interaction.SEARCH}
_OPERATION = {"GET": Interaction.OPERATION, "POST": Interaction.OPERATION}
_WRITES = {"PUT": Interaction.UPDATE, "PATCH": Interaction.PATCH, "DELETE": Interaction.DELETE}
_TYPE = {"GET": Interaction.SEARCH, "POST": Interaction.CREATE, **_WRITES}
_INSTANCE = {"GET": Interaction.READ, **_WRITES}


class _Place(NamedTuple):
    """What a path names, and what each method means there. HEAD is not listed: it goes with GET."""

    methods: Mapping[str, Interaction]
    type: str | None = None
    id: str | None = None
    version: str | None = None
    compartment: tuple[str, str] | None = None
    operation: str | None = None


def parse(method: str, path: str, query: str) -> FhirRequest:
    """The one FHIR request that method, path and query mean. Raises FhirError.

    path is what follows the mount, as received: '' or '/...'. query is what follows '?', as received. HEAD becomes
    the GET that it asks about, with head set. The terms of a form come with with_form(). POST to the base is read
    as a batch; whether it is a transaction stands in its body.
    """
    sealed = _SEALED.fullmatch(path)
    if sealed is not None:
        return _sealed(method, sealed[1], sealed[2], query)
    place = _place(_segments(path))
    head = method == "HEAD"
    interaction = place.methods.get("GET" if head else method)
    if interaction is None or (head and interaction is Interaction.OPERATION):
        allow = ", ".join(sorted([*place.methods, *(["HEAD"] if "GET" in place.methods else []), "OPTIONS"]))
        raise FhirError(Reason.METHOD_NOT_ALLOWED, f"This path takes {allow}", headers=(("Allow", allow),))
    asked = FhirRequest(
        method="GET" if head else method,
        interaction=interaction,
        type=place.type,
        id=place.id,
        version=place.version,
        compartment=place.compartment,
        operation=place.operation,
        terms=_terms(interaction, place, search.query_pairs(query)),
        posted=interaction is Interaction.SEARCH and method == "POST",
        head=head,
    )
    if asked.id is None and asked.method in _WRITES:
        _check_has_criteria(asked)
    return asked


def _sealed(method: str, kind: str, token: str, query: str) -> FhirRequest:
    """A job or file of an export. What the token stands for is known to the gateway that sealed it."""
    operation = _OF_JOBS[kind].get(method)
    if operation is None:
        allow = ", ".join(sorted([*_OF_JOBS[kind], "OPTIONS"]))
        raise FhirError(Reason.METHOD_NOT_ALLOWED, f"This path takes {allow}", headers=(("Allow", allow),))
    search.parse_read_terms(search.query_pairs(query))
    return FhirRequest(method, Interaction.OPERATION, operation=operation, sealed=token)


def with_form(asked: FhirRequest, content_type: str | None, body: bytes) -> FhirRequest:
    """The POSTed search with the terms of its form behind those of its query; both apply (FHIR R4 3.1.1.4.0).

    Raises FhirError: UNSUPPORTED_MEDIA_TYPE for any other media type or charset, and as parse() does.
    """
    if not asked.posted:
        raise ValueError("only a search by POST has a form")
    if content_type is None and not body:
        return asked
    if content_type is None or not _FORM_CONTENT_TYPE.fullmatch(content_type.strip(" \t")):
        raise FhirError(Reason.UNSUPPORTED_MEDIA_TYPE, f"A search by POST must be {FORM_TYPE} in UTF-8")
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError as error:
        raise FhirError(
            Reason.AMBIGUOUS_QUERY, "the form must be ASCII, with all other characters escaped"
        ) from error
    terms = (*asked.terms, *search.parse_terms(search.query_pairs(text), asked.type, join=read_term))
    search.check_together(terms)
    shape.check(terms, asked.type)
    return replace(asked, terms=terms)


def _segments(path: str) -> list[str]:
    if path in ("", "/"):
        return []
    if not path.startswith("/"):
        raise FhirError(Reason.UNKNOWN_ROUTE)
    raw = path[1:].removesuffix("/").split("/")
    return [text if _PLAIN_SEGMENT.fullmatch(text) else _segment(text) for text in raw]


def _segment(text: str) -> str:
    """One path segment, percent-decoded once. Raises FhirError AMBIGUOUS_PATH."""
    decoded = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if decoded == "*":
        return decoded
    if decoded in ("", ".", ".."):
        raise FhirError(Reason.AMBIGUOUS_PATH, "The path holds an empty segment or a dot segment")
    if not _SEGMENT.fullmatch(decoded):
        raise FhirError(
            Reason.AMBIGUOUS_PATH,
            "A path segment may hold the letters A-Z and a-z, digits, '-', '.', '_' and '$', 128 at most",
        )
    return decoded


def _place(segments: Sequence[str]) -> _Place:
    """What the path names. Raises FhirError for a path that is not one of the REST API."""
    if "*" in segments:
        if len(segments) == 3 and segments[2] == "*" and segments[0] == "Patient" and is_id(segments[1]):
            raise FhirError(
                Reason.INTERACTION_CLOSED, "A search over all types of a compartment is closed; name one type"
            )
        raise FhirError(Reason.AMBIGUOUS_PATH, "'*' is not an id and not a type")
    match segments:
        case []:
            return _Place(_BASE)
        case ["metadata"]:
            return _Place(_CAPABILITIES)
        case ["_history"]:
            return _Place({"GET": Interaction.HISTORY_SYSTEM})
        case ["_search"]:
            return _Place(_POSTED_SEARCH)
        case [operation] if operation.startswith("$"):
            return _Place(_OPERATION, operation=_operation(operation))
    type, *rest = segments
    _check_type(type)
    return _place_of_type(type, rest)


def _place_of_type(type: str, rest: Sequence[str]) -> _Place:
    match rest:
        case []:
            return _Place(_TYPE, type)
        case ["_history"]:
            return _Place({"GET": Interaction.HISTORY_TYPE}, type)
        case ["_search"]:
            return _Place(_POSTED_SEARCH, type)
        case [operation] if operation.startswith("$"):
            return _Place(_OPERATION, type, operation=_operation(operation))
        case [id, *more] if not id.startswith(("_", "$")):
            _check_id(id, "id")
            return _place_of_instance(type, id, more)
    raise FhirError(Reason.UNKNOWN_ROUTE)


def _place_of_instance(type: str, id: str, rest: Sequence[str]) -> _Place:
    match rest:
        case []:
            return _Place(_INSTANCE, type, id)
        case ["_history"]:
            return _Place({"GET": Interaction.HISTORY_INSTANCE}, type, id)
        case ["_history", version]:
            _check_id(version, "version id")
            return _Place({"GET": Interaction.VREAD}, type, id, version)
        case [operation] if operation.startswith("$"):
            return _Place(_OPERATION, type, id, operation=_operation(operation))
        case [searched] if type == "Patient" and patient_compartment(searched):
            return _Place({"GET": Interaction.SEARCH}, searched, compartment=(type, id))
        case [searched] if type in _OTHER_COMPARTMENTS and is_resource_type(searched):
            raise FhirError(
                Reason.INTERACTION_CLOSED, "Of the compartments only Patient can be searched here"
            )
    raise FhirError(Reason.UNKNOWN_ROUTE)


def _operation(text: str) -> str:
    if not _OPERATION_NAME.fullmatch(text):
        raise FhirError(
            Reason.UNKNOWN_ROUTE, "An operation is named by '$', a letter, letters, digits and '-'"
        )
    return text[1:]


def _terms(
    interaction: Interaction, place: _Place, pairs: Sequence[tuple[str, str]]
) -> tuple[SearchTerm, ...]:
    if not pairs:
        return ()
    match interaction:
        case Interaction.SEARCH:
            found = search.parse_terms(pairs, place.type, join=read_term)
            shape.check(found, place.type)
            return found
        case Interaction.READ | Interaction.VREAD:
            found = search.parse_read_terms(pairs, shape.PARAMETERS)
            shape.check(found, place.type)
            if any(term.text == "count" for term in found):
                raise FhirError(Reason.INVALID_PARAMETER, "'_summary=count' is for searches")
            return found
        case Interaction.HISTORY_INSTANCE | Interaction.HISTORY_TYPE | Interaction.HISTORY_SYSTEM:
            return search.parse_history_terms(pairs)
        case Interaction.OPERATION:
            return operations.parse_terms(place.operation or "", place.type, pairs)
        case Interaction.CAPABILITIES:
            return search.parse_read_terms(pairs, _CAPABILITIES_PARAMETERS)
        case Interaction.UPDATE | Interaction.PATCH | Interaction.DELETE if place.id is None:
            return search.parse_terms(pairs, place.type)
        case _:
            return search.parse_read_terms(pairs)


def _check_has_criteria(asked: FhirRequest) -> None:
    if any(term.code in ("_count", "_sort") for term in asked.terms):
        raise FhirError(Reason.UNKNOWN_PARAMETER, "A conditional write takes search criteria only")
    if not asked.terms:
        raise FhirError(
            Reason.INVALID_PARAMETER,
            f"{asked.method} on a type needs search criteria: without them it would mean every {asked.type}",
        )


def _check_type(type: str) -> None:
    if is_resource_type(type):
        return
    close = difflib.get_close_matches(type, RESOURCE_TYPES, n=1, cutoff=0.75)
    same = [name for name in RESOURCE_TYPES if name.lower() == type.lower()]
    hint = f"Did you mean '{(same or close)[0]}'?" if same or close else ""
    raise FhirError(Reason.UNKNOWN_TYPE, hint)


def _check_id(text: str, what: str) -> None:
    if not is_id(text):
        raise FhirError(
            Reason.AMBIGUOUS_PATH,
            f"The {what} must be 1 to 64 letters, digits, '-' and '.' (FHIR R4 2.24.0.1)",
        )
