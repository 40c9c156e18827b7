"""A FhirRequest in writing: the only form that ever reaches the store, and the line that records and replays keep.

What request.py read is written here from what it was read as, never copied from what came: two spellings of one request
give one text (RFC 3986 6.2.2).
"""

from dataclasses import replace

from gateway.fhir import search, shape
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.request import FORM_TYPE, parse, with_form

_LONGEST_TARGET = 7000  # characters; servers and proxies take 8 KiB of request line
_LONGEST_FORM = 512 * 1024


def upstream_target(asked: FhirRequest) -> str:
    """The request as path and query below the store's base: 'Patient/A', 'Observation?subject=Patient%2FA'.

    Two spellings of one request give one text. A POSTed search has its terms in upstream_form() instead. What shapes
    the answer stays here: the store is asked for whole resources.
    """
    path = "/".join(_upstream_segments(asked))
    query = "" if asked.posted else search.encode_terms(_of_the_store(asked))
    return f"{path}?{query}" if query else path


def _of_the_store(asked: FhirRequest) -> list[SearchTerm]:
    return [
        term
        for term in asked.terms
        if term.code not in shape.PARAMETERS or (term.code == "_summary" and term.text == "count")
    ]


def upstream_form(asked: FhirRequest) -> bytes:
    """The body of a POSTed search, application/x-www-form-urlencoded: all its terms."""
    if not asked.posted:
        raise ValueError("only a search by POST has a form")
    return search.encode_terms(_of_the_store(asked)).encode("ascii")


def fit_for_the_store(asked: FhirRequest) -> FhirRequest:
    """The search as a form where its target would be longer than stores take (FHIR R4 3.1.0.6); else as it is.

    Raises FhirError(FACTS_TOO_MANY) for one that is too long as a form.
    """
    if asked.interaction is not Interaction.SEARCH:
        return asked
    posted = asked if len(upstream_target(asked)) <= _LONGEST_TARGET else replace(asked, posted=True)
    if posted.posted and len(upstream_form(posted)) > _LONGEST_FORM:
        raise FhirError(Reason.FACTS_TOO_MANY, "the search is longer than a store is asked")
    return posted


def canonical_text(asked: FhirRequest) -> str:
    """The whole request as one line, 'GET /Observation?subject=Patient%2FA'; of a search by POST its form behind '?'.

    asked_in() reads it again. A job or file of an export is told without what is sealed in its URL.
    """
    if asked.sealed is not None:
        return f"{asked.method} /{'_file' if asked.operation == 'export-file' else '_job'}"
    query = search.encode_terms(list(asked.terms))
    path = "/".join(_upstream_segments(asked))
    return f"{'HEAD' if asked.head else asked.method} /{path}{'?' if query else ''}{query}"


def asked_in(text: str) -> FhirRequest:
    """The request that canonical_text() wrote. Raises FhirError."""
    method, _, target = text.partition(" ")
    path, _, query = target.partition("?")
    if path.endswith("/_search") and method == "POST":
        return with_form(parse(method, path, ""), FORM_TYPE, query.encode("ascii"))
    return parse(method, path, query)


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
