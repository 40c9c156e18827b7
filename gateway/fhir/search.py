"""The search grammar: names, modifiers, values and result parameters of a FHIR search (FHIR R4 3.1.1).

Closed by default. A parameter passes when R4 defines it for the type and the gateway can say what it touches; a name
that R4 does not know is a mistake of the caller (400), one that R4 knows and that is not decided here is closed (403).
What is not understood is never dropped: a store that ignores a parameter answers wider than was asked.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import quote

from authz.protocol import encoding
from gateway.fhir import formats
from gateway.fhir.definitions import (
    RESOURCE_TYPES,
    SearchParameter,
    is_resource_type,
    search_parameter,
    search_parameters,
)
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search_values import INSTANT, check_values, split_values, unescape, with_offset

MAX_TERMS = 100
MAX_JOINS = 10  # chains, _has and includes of one search
MAX_COUNT = 200  # _count above it is lowered to it: a page is a wish (FHIR R4 3.1.1.5.3)

# FHIR R4 3.1.1.5 and the common ones of known stores. Each is closed until a decision about it exists.
CLOSED_PARAMETERS: dict[str, str] = {
    "_has": "a reverse chain reads other types",
    "_filter": "it holds a second query",
    "_query": "it names a query whose meaning the store defines",
    "_list": "membership of a list is not judged here",
    "_text": "a search on the narrative is not judged here",
    "_content": "a search on all text is not judged here",
    "_contained": "contained resources have no owner of their own",
    "_containedType": "contained resources have no owner of their own",
    "_graph": "it returns further resources",
    "_include": "it returns further resources",
    "_revinclude": "it returns further resources",
    "_elements": "a resource is judged whole",
    "_summary": "a resource is judged whole",
    "_total": "a total counts what may not be seen",
    "_score": "it orders by what may not be seen",
    "_security": "security labels are not for the caller to probe",
    "_source": "the source of a resource is not for the caller to probe",
    "_type": "it belongs to a search over several types",
}
OPENABLE = frozenset({"_filter", "_list", "_text", "_content"})
"""Those of them that a permit may open for a plain search, by its `query: open`."""
_RESULT_PARAMETERS = frozenset({"_count", "_sort", "_format", "_pretty"})
_HISTORY_PARAMETERS = frozenset({"_since", "_at", "_count", "_format", "_pretty"})
READ_PARAMETERS = frozenset({"_format", "_pretty"})  # the gateway alone speaks with the store about formats
_INSTANTS = frozenset({"_since", "_at"})
_SHAPES = frozenset({"_elements", "_summary", "_total"})
_TOTALS = ("none", "estimate", "accurate")
_SINGLE = _SHAPES | OPENABLE | {"_count", "_sort", "_format", "_pretty", "_since", "_at", "_type"}

Join = Callable[[str, str, str], SearchTerm]
"""Reads the name and value of a chain, _has or include on a type, or of what is OPENABLE: gateway.fhir.opened_terms."""
_JOINS = frozenset({"_has", "_include", "_revinclude"})

MODIFIERS: dict[str, frozenset[str]] = {
    "number": frozenset({"missing"}),
    "date": frozenset({"missing"}),
    "string": frozenset({"missing", "exact", "contains"}),
    "token": frozenset({"missing", "not"}),
    "reference": frozenset({"missing", "identifier"}),  # and the name of a target type
    "composite": frozenset({"missing"}),
    "quantity": frozenset({"missing"}),
    "uri": frozenset({"missing"}),
    "special": frozenset(),
}
_CLOSED_MODIFIERS: dict[str, frozenset[str]] = {
    "token": frozenset({"text", "in", "not-in", "above", "below", "of-type"}),
    "reference": frozenset({"above", "below"}),
    "uri": frozenset({"above", "below"}),
}


def parse_terms(
    pairs: Sequence[tuple[str, str]], type: str | None, *, join: Join | None = None
) -> tuple[SearchTerm, ...]:
    """The terms of a search of one type, or of the whole system with type None; _format and _pretty are left out.

    pairs are names and values, percent-decoded once, in the order sent. Terms of one name stay apart: each is one
    more AND. join reads chains, _has, includes and what is OPENABLE; without it they are closed, and so is what shapes
    the answer. Raises FhirError for whatever is not understood or not open.
    """
    return _parse(pairs, lambda name, value: _search_term(name, value, type, join))


def parse_history_terms(pairs: Sequence[tuple[str, str]]) -> tuple[SearchTerm, ...]:
    """The terms of a history interaction: _since, _at, _count (FHIR R4 3.1.0.11). Raises FhirError."""
    return _parse(pairs, _history_term)


def parse_read_terms(pairs: Sequence[tuple[str, str]], allowed: Iterable[str] = ()) -> tuple[SearchTerm, ...]:
    """The terms of an interaction that has _format, _pretty and the allowed names only. Raises FhirError."""
    names = frozenset(allowed) | READ_PARAMETERS

    def term(name: str, value: str) -> SearchTerm:
        if name not in names:
            _refuse_unlisted(name, names, "this interaction")
        if name in _SHAPES:
            return SearchTerm(name, name, None, None, tuple(value.split(",")), value)
        return _plain_term(name, value)

    return _parse(pairs, term)


def parse_operation_terms(pairs: Sequence[tuple[str, str]]) -> tuple[SearchTerm, ...]:
    """The parameters of an operation as they are: what they mean is the operation's own. Raises FhirError."""
    return _parse(pairs, _plain_term)


def check_together(terms: Sequence[SearchTerm]) -> None:
    """Refuse what must not occur twice among the terms of query and form. Raises FhirError."""
    if len(terms) > MAX_TERMS:
        raise FhirError(
            Reason.INVALID_PARAMETER, f"{len(terms)} parameters are sent, at most {MAX_TERMS} are accepted"
        )
    joins = sum(term.code in _JOINS or term.chain is not None for term in terms)
    if joins > MAX_JOINS:
        raise FhirError(
            Reason.INVALID_PARAMETER,
            f"{joins} chains and includes are sent, at most {MAX_JOINS} are accepted",
        )
    seen: set[str] = set()
    for term in terms:
        if term.code in _SINGLE:
            if term.code in seen:
                raise FhirError(Reason.AMBIGUOUS_QUERY, f"'{term.code}' is sent more than once")
            seen.add(term.code)


def parse_criterion(name: str, value: str, type: str | None) -> SearchTerm:
    """One search criterion, by R4's own definitions alone: nothing is closed but chains. Raises FhirError."""
    code, modifier, chain = _take_apart(name)
    parameter = _known_parameter(code, type)
    if chain is not None:
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER, f"'{code}.{shown(chain)}' is closed: a chain reads other types"
        )
    if modifier is not None:
        _check_modifier(parameter, modifier)
    if parameter.type == "date":
        value = with_offset(value)
    alternatives = split_values(value)
    check_values(parameter, modifier, alternatives)
    return SearchTerm(name, code, modifier, None, tuple(unescape(each) for each in alternatives), value)


def query_pairs(text: str) -> list[tuple[str, str]]:
    """Names and values of a query or form, percent-decoded once. Raises FhirError AMBIGUOUS_QUERY.

    ';', '[' and ']' split parameters or make arrays for some stores; they must be escaped. An '&' with nothing behind it,
    which programs that join texts leave, means nothing to anybody.
    """
    if (odd := next((mark for mark in ";[]#" if mark in text), None)) is not None:
        raise FhirError(Reason.AMBIGUOUS_QUERY, f"'{odd}' in a query must be sent as %{ord(odd):02X}")
    try:
        return encoding.parse_query("&".join(filter(None, text.split("&"))) if "&" in text else text)
    except ValueError as error:
        raise FhirError(Reason.AMBIGUOUS_QUERY, f"the query {error}") from error


def make_term(code: str, values: Sequence[str], *, modifier: str | None = None) -> SearchTerm:
    """A term of the gateway's own. values are plain: what FHIR escapes is escaped here, so none can break out."""
    if not values:
        raise ValueError(f"a term on '{code}' needs at least one value: an empty list would restrict nothing")
    name = code if modifier is None else f"{code}:{modifier}"
    text = ",".join(re.sub(r"([\\,|$])", r"\\\1", value) for value in values)
    return SearchTerm(name, code, modifier, None, tuple(values), text)


def plain(name: str) -> str:
    """The name of a parameter without modifiers and types: 'subject:Patient.identifier' is subject.identifier."""
    return ".".join(part.partition(":")[0] for part in name.split("."))


def encode_terms(terms: Iterable[SearchTerm]) -> str:
    """The terms as application/x-www-form-urlencoded text, the same for every spelling that means the same."""
    return "&".join(f"{quote(term.name, safe=':')}={quote(term.text, safe='')}" for term in terms)


def _parse(
    pairs: Sequence[tuple[str, str]], term: Callable[[str, str], SearchTerm]
) -> tuple[SearchTerm, ...]:
    if sum(name == "_count" for name, _ in pairs) > 1:  # one of them may stand for a count
        raise FhirError(Reason.AMBIGUOUS_QUERY, "'_count' is sent more than once")
    terms = [term(name, value) for name, value in pairs]
    check_together(terms)
    return tuple(made for made in terms if made.code not in READ_PARAMETERS)


def _search_term(name: str, value: str, type: str | None, join: Join | None) -> SearchTerm:
    code, modifier, chain = _take_apart(name)
    if join is not None and type is not None and (chain is not None or code in _JOINS or name in OPENABLE):
        return join(name, value, type)
    if join is not None and type is not None and code in _SHAPES and modifier is None and chain is None:
        if code == "_total" and value not in _TOTALS:
            raise FhirError(Reason.INVALID_PARAMETER, "'_total' must be none, estimate or accurate")
        return SearchTerm(code, code, None, None, tuple(value.split(",")), value)
    if name == "_count" and join is not None and type is not None and re.fullmatch("0{1,10}", value):
        # FHIR R4 3.1.1.5.3: a page of none asks for the count alone.
        return SearchTerm("_summary", "_summary", None, None, ("count",), "count")
    if code in _RESULT_PARAMETERS or (type is None and code == "_type"):
        if modifier is not None or chain is not None:
            raise FhirError(Reason.UNKNOWN_PARAMETER, f"'{code}' takes no modifier and no chain")
        return _result_term(code, value, type)
    if code == "_elements" and modifier is not None:  # the store would leave out what the decision needs
        raise FhirError(Reason.UNKNOWN_PARAMETER, "'_elements' takes no modifier")
    check_is_open(code)
    return parse_criterion(name, value, type)


def check_is_open(code: str) -> None:
    """Raise FhirError for a parameter that is closed to everybody."""
    if code in CLOSED_PARAMETERS:
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"'{code}' is closed: {CLOSED_PARAMETERS[code]}")


def _take_apart(name: str) -> tuple[str, str | None, str | None]:
    """code, modifier and chain: 'subject:Patient.name' is subject, Patient, name. Of _has only the code is taken."""
    if name.startswith(("_has:", "_include:", "_revinclude:")):
        return name.partition(":")[0], None, None
    head, dot, chain = name.partition(".")
    code, colon, modifier = head.partition(":")
    return code, modifier if colon else None, chain if dot else None


def _known_parameter(code: str, type: str | None) -> SearchParameter:
    parameter = search_parameter(type or "Resource", code)
    if parameter is not None and (parameter.expression or code.startswith("_")):
        return parameter
    choices = [*search_parameters(type or "Resource"), *(_RESULT_PARAMETERS - {code})]
    raise FhirError(
        Reason.UNKNOWN_PARAMETER,
        f"{type or 'a search over all types'} has no search parameter '{shown(code)}'{did_you_mean(code, choices)}",
    )


def _check_modifier(parameter: SearchParameter, modifier: str) -> None:
    allowed = MODIFIERS[parameter.type]
    if modifier in allowed or (parameter.type == "reference" and modifier in _target_types(parameter)):
        return
    if modifier in _CLOSED_MODIFIERS.get(parameter.type, ()):
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"':{modifier}' is closed on '{parameter.code}'")
    known = sorted(allowed | (_target_types(parameter) if parameter.type == "reference" else set()))
    raise FhirError(
        Reason.UNKNOWN_PARAMETER,
        f"'{parameter.code}' is a {parameter.type} parameter and has no modifier"
        f" ':{shown(modifier)}'{did_you_mean(modifier, known)}",
    )


def _target_types(parameter: SearchParameter) -> frozenset[str]:
    return parameter.targets or RESOURCE_TYPES


def _result_term(code: str, value: str, type: str | None) -> SearchTerm:
    if code in READ_PARAMETERS:
        _check_format(code, value)
    elif code == "_count":
        value = page_size(value)
    elif code == "_sort":
        _check_sort(value, type)
    elif code == "_type":
        unknown = [name for name in value.split(",") if not is_resource_type(name)]
        if unknown:
            raise FhirError(
                Reason.INVALID_PARAMETER,
                f"'_type' names '{shown(unknown[0])}'{did_you_mean(unknown[0], RESOURCE_TYPES)}",
            )
    return SearchTerm(code, code, None, None, tuple(value.split(",")), value)


def _history_term(name: str, value: str) -> SearchTerm:
    if name not in _HISTORY_PARAMETERS:
        _refuse_unlisted(name, _HISTORY_PARAMETERS, "a history")
    value = with_offset(value) if name in _INSTANTS else value
    if name in _INSTANTS and not INSTANT.fullmatch(value):
        raise FhirError(Reason.INVALID_PARAMETER, f"'{name}' must be a date such as 2024-05-31T10:00:00Z")
    return _plain_term(name, page_size(value) if name == "_count" else value)


def _plain_term(name: str, value: str) -> SearchTerm:
    if name in READ_PARAMETERS:
        _check_format(name, value)
    if name in _INSTANTS:
        value = with_offset(value)
    return SearchTerm(name, name, None, None, (value,), value)


def page_size(value: str) -> str:
    """The value of _count, lowered to MAX_COUNT. Raises FhirError."""
    if not re.fullmatch(r"[0-9]{1,10}", value):
        raise FhirError(Reason.INVALID_PARAMETER, f"'_count' must be a number from 1 to {MAX_COUNT}")
    if int(value) == 0:
        raise FhirError(Reason.INVALID_PARAMETER, "'_count' of 0 asks for a count, which is closed here")
    return str(min(int(value), MAX_COUNT))


def _check_sort(value: str, type: str | None) -> None:
    for key in value.split(","):
        code = key.removeprefix("-")
        parameter = search_parameter(type or "Resource", code)
        if "." in code or ":" in code or code in CLOSED_PARAMETERS:
            raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"'_sort' by '{shown(code)}' is closed")
        if parameter is None or parameter.type in ("composite", "special"):
            own = search_parameters(type or "Resource")
            raise FhirError(
                Reason.INVALID_PARAMETER,
                f"'_sort' names '{shown(code)}', by which {type or 'all types'} cannot be sorted"
                f"{did_you_mean(code, own)}",
            )


def _check_format(code: str, value: str) -> None:
    if code == "_pretty":
        if value not in ("true", "false"):
            raise FhirError(Reason.INVALID_PARAMETER, "'_pretty' must be true or false")
    elif formats.of_parameter(value) is None:
        raise FhirError(Reason.NOT_ACCEPTABLE, f"'_format' must be json, xml, {formats.BOTH}")


def _refuse_unlisted(name: str, allowed: Iterable[str], what: str) -> None:
    code = name.partition(":")[0]
    if code in CLOSED_PARAMETERS:
        raise FhirError(Reason.UNSUPPORTED_PARAMETER, f"'{code}' is closed on {what}")
    raise FhirError(
        Reason.UNKNOWN_PARAMETER,
        f"'{shown(name)}' is not a parameter of {what}{did_you_mean(name, allowed)}",
    )


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of a message that names what was nearly written, '' when nothing was."""
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.7)
    return f". Did you mean '{close[0]}'?" if close else ""


def shown(name: str) -> str:
    """What the caller wrote, fit for one line of a message: ASCII without quotation mark and backslash."""
    if not name.isprintable():
        return "?"
    return re.sub(r'["\\]', "?", name[:40].encode("ascii", "replace").decode("ascii"))
