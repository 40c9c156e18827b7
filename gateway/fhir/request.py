"""One strict reading of a FHIR REST request: method, path, query and form become one FhirRequest (FHIR R4 3.1.0).

The gateway decides about a request and forwards it; both must mean the same. So there is one grammar, written as
productions, and what has a second reading anywhere behind us (dot segments, encoded slashes, path parameters, empty
segments) is refused, never cleaned up. upstream_target() writes the only form that ever reaches the store.

    /                                   search the system (GET), batch or transaction (POST)
    /metadata  /_history  /_search  /$op
    /Type                               search, create, conditional update, patch and delete
    /Type/_history  /Type/_search  /Type/$op
    /Type/id                            read, update, patch, delete
    /Type/id/_history  /Type/id/_history/version  /Type/id/$op
    /Patient/id/Type                    search in the compartment
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.fhir import search
from gateway.fhir.definitions import RESOURCE_TYPES, is_resource_type, patient_compartment
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import FhirError, Reason

READ_PARAMETERS = frozenset({"_format", "_pretty"})
_CAPABILITIES_PARAMETERS = frozenset({"mode"})
FORM_TYPE = "application/x-www-form-urlencoded"

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")  # FHIR R4 2.24.0.1, id
_SEGMENT = re.compile(r"[A-Za-z0-9._$-]{1,128}")
_OPERATION = re.compile(r"\$[A-Za-z][A-Za-z0-9-]{0,63}")
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_FORM_CONTENT_TYPE = re.compile(
    r"application/x-www-form-urlencoded[ \t]*(?:;[ \t]*charset[ \t]*=[ \t]*\"?utf-8\"?[ \t]*)?", re.IGNORECASE
)
_OTHER_COMPARTMENTS = frozenset({"Device", "Encounter", "Practitioner", "RelatedPerson"})  # FHIR R4 3.1.3

_Route = Mapping[str, FhirRequest]  # by method; HEAD is not listed, it goes with GET


def parse(method: str, path: str, query: str) -> FhirRequest:
    """The one FHIR request that method, path and query mean. Raises FhirError.

    path is what follows the mount, as received: '' or '/...'. query is what follows '?', as received. HEAD becomes
    the GET that it asks about, with head set. The terms of a form come with with_form(). POST to the base is read
    as a batch; whether it is a transaction stands in its body.
    """
    segments = _segments(path)
    routes = _routes(segments)
    asked = routes.get("GET" if method == "HEAD" else method)
    if asked is None or (method == "HEAD" and asked.interaction is Interaction.OPERATION):
        allow = [*routes, *(["HEAD"] if "GET" in routes else []), "OPTIONS"]
        raise FhirError(
            Reason.METHOD_NOT_ALLOWED,
            f"This path takes {', '.join(sorted(allow))}",
            headers=(("Allow", ", ".join(sorted(allow))),),
        )
    asked = replace(asked, terms=_terms(asked, search.query_pairs(query)), head=method == "HEAD")
    if asked.method in ("PUT", "PATCH", "DELETE") and asked.id is None:
        _check_has_criteria(asked)
    return asked


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
    terms = (*asked.terms, *_terms(asked, search.query_pairs(text)))
    search.check_together(terms)
    return replace(asked, terms=terms)


def upstream_target(asked: FhirRequest) -> str:
    """The request as path and query below the store's base: 'Patient/A', 'Observation?subject=Patient%2FA'.

    Two spellings of one request give one text. A POSTed search has its terms in upstream_form() instead.
    """
    path = "/".join(_upstream_segments(asked))
    return path if asked.posted or not asked.terms else f"{path}?{search.encode_terms(asked.terms)}"


def upstream_form(asked: FhirRequest) -> bytes:
    """The body of a POSTed search, application/x-www-form-urlencoded: all its terms."""
    if not asked.posted:
        raise ValueError("only a search by POST has a form")
    return search.encode_terms(asked.terms).encode("ascii")


def is_id(text: str) -> bool:
    """Whether text is a FHIR id. '.' and '..' are not, though the grammar of FHIR R4 2.24.0.1 would have them."""
    return _ID.fullmatch(text) is not None and text not in (".", "..")


def _upstream_segments(asked: FhirRequest) -> list[str]:
    named = [asked.type, asked.id]
    if asked.compartment is not None:
        named = [*asked.compartment, asked.type]
    segments = [segment for segment in named if segment is not None]
    match asked.interaction:
        case Interaction.CAPABILITIES:
            return ["metadata"]
        case Interaction.OPERATION:
            return [*segments, f"${asked.operation}"]
        case Interaction.VREAD:
            return [*segments, "_history", asked.version or ""]
        case Interaction.HISTORY_INSTANCE | Interaction.HISTORY_TYPE | Interaction.HISTORY_SYSTEM:
            return [*segments, "_history"]
        case Interaction.SEARCH if asked.posted:
            return [*segments, "_search"]
        case _:
            return segments


def _segments(path: str) -> list[str]:
    if path in ("", "/"):
        return []
    if not path.startswith("/"):
        raise FhirError(Reason.UNKNOWN_ROUTE)
    raw = path[1:].removesuffix("/").split("/")
    return [_segment(text) for text in raw]


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


def _routes(segments: Sequence[str]) -> _Route:
    """What each method means at the path. Raises FhirError for a path that is not one of the REST API."""
    if "*" in segments:
        if len(segments) == 3 and segments[2] == "*" and segments[0] == "Patient" and is_id(segments[1]):
            raise FhirError(
                Reason.INTERACTION_CLOSED, "A search over all types of a compartment is closed; name one type"
            )
        raise FhirError(Reason.AMBIGUOUS_PATH, "'*' is not an id and not a type")
    match segments:
        case []:
            return {
                "GET": FhirRequest("GET", Interaction.SEARCH),
                "POST": FhirRequest("POST", Interaction.BATCH),
            }
        case ["metadata"]:
            return {"GET": FhirRequest("GET", Interaction.CAPABILITIES)}
        case ["_history"]:
            return {"GET": FhirRequest("GET", Interaction.HISTORY_SYSTEM)}
        case ["_search"]:
            return {"POST": FhirRequest("POST", Interaction.SEARCH, posted=True)}
        case [operation] if operation.startswith("$"):
            return _operation_routes(FhirRequest("GET", Interaction.OPERATION), operation)
    type, *rest = segments
    _check_type(type)
    return _type_routes(type, rest)


def _type_routes(type: str, rest: Sequence[str]) -> _Route:
    match rest:
        case []:
            return {
                "GET": FhirRequest("GET", Interaction.SEARCH, type),
                "POST": FhirRequest("POST", Interaction.CREATE, type),
                "PUT": FhirRequest("PUT", Interaction.UPDATE, type),
                "PATCH": FhirRequest("PATCH", Interaction.PATCH, type),
                "DELETE": FhirRequest("DELETE", Interaction.DELETE, type),
            }
        case ["_history"]:
            return {"GET": FhirRequest("GET", Interaction.HISTORY_TYPE, type)}
        case ["_search"]:
            return {"POST": FhirRequest("POST", Interaction.SEARCH, type, posted=True)}
        case [operation] if operation.startswith("$"):
            return _operation_routes(FhirRequest("GET", Interaction.OPERATION, type), operation)
        case [id, *more] if not id.startswith(("_", "$")):
            _check_id(id, "id")
            return _instance_routes(type, id, more)
    raise FhirError(Reason.UNKNOWN_ROUTE)


def _instance_routes(type: str, id: str, rest: Sequence[str]) -> _Route:
    match rest:
        case []:
            return {
                "GET": FhirRequest("GET", Interaction.READ, type, id),
                "PUT": FhirRequest("PUT", Interaction.UPDATE, type, id),
                "PATCH": FhirRequest("PATCH", Interaction.PATCH, type, id),
                "DELETE": FhirRequest("DELETE", Interaction.DELETE, type, id),
            }
        case ["_history"]:
            return {"GET": FhirRequest("GET", Interaction.HISTORY_INSTANCE, type, id)}
        case ["_history", version]:
            _check_id(version, "version id")
            return {"GET": FhirRequest("GET", Interaction.VREAD, type, id, version)}
        case [operation] if operation.startswith("$"):
            return _operation_routes(FhirRequest("GET", Interaction.OPERATION, type, id), operation)
        case [searched] if type == "Patient" and patient_compartment(searched):
            found = FhirRequest("GET", Interaction.SEARCH, searched, compartment=(type, id))
            return {"GET": found}
        case [searched] if type in _OTHER_COMPARTMENTS and is_resource_type(searched):
            raise FhirError(
                Reason.INTERACTION_CLOSED, "Of the compartments only Patient can be searched here"
            )
    raise FhirError(Reason.UNKNOWN_ROUTE)


def _operation_routes(asked: FhirRequest, operation: str) -> _Route:
    if not _OPERATION.fullmatch(operation):
        raise FhirError(
            Reason.UNKNOWN_ROUTE, "An operation is named by '$', a letter, letters, digits and '-'"
        )
    named = replace(asked, operation=operation[1:])
    return {"GET": named, "POST": replace(named, method="POST")}


def _terms(asked: FhirRequest, pairs: Sequence[tuple[str, str]]) -> tuple[SearchTerm, ...]:
    match asked.interaction:
        case Interaction.SEARCH:
            return search.parse_terms(pairs, asked.type)
        case Interaction.HISTORY_INSTANCE | Interaction.HISTORY_TYPE | Interaction.HISTORY_SYSTEM:
            return search.parse_history_terms(pairs)
        case Interaction.OPERATION:
            return search.parse_operation_terms(pairs)
        case Interaction.CAPABILITIES:
            return search.parse_read_terms(pairs, _CAPABILITIES_PARAMETERS)
        case Interaction.UPDATE | Interaction.PATCH | Interaction.DELETE if asked.id is None:
            return search.parse_terms(pairs, asked.type)
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
