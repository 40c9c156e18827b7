"""The parameters of a plain search that a permit opens by name: `_filter`, `_list`, `_text`, `_content` (FHIR R4 3.1.1.5).

They are read here and nowhere else, so that no criterion of a policy, a scope, a conditional write or an operation
holds one. Read is not opened: gateway.policy.query says for whom they are.
"""

from collections.abc import Iterable, Iterator

from gateway.fhir import filter_expression, joins, search
from gateway.fhir.filter_expression import Comparison
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import SearchTerm
from gateway.fhir.outcome import FhirError, Reason
from gateway.fhir.search_values import split_values

FULL_TEXT = frozenset({"_text", "_content"})
"""What looks at all of a resource."""
_MAX_TEXT = 200  # characters


def read_term(name: str, value: str, type: str) -> SearchTerm:
    """The term of a plain search of a type that further types or all of a resource are read for. Raises FhirError.

    Chains, `_has` and includes are those of gateway.fhir.joins.
    """
    if name not in search.OPENABLE:
        return joins.join_term(name, value, type)
    if name == "_filter":
        text = filter_expression.written(filter_expression.read(value, type))
        return SearchTerm(name, name, None, None, (text,), text)
    if name == "_list":
        _check_list(value)
        return SearchTerm(name, name, None, None, (value,), value)
    if not value.strip() or not value.isprintable() or len(value) > _MAX_TEXT:
        raise FhirError(
            Reason.INVALID_PARAMETER, f"'{name}' must be words to look for, {_MAX_TEXT} characters at most"
        )
    return SearchTerm(name, name, None, None, split_values(value), value)


def opened_words(terms: Iterable[SearchTerm]) -> frozenset[str]:
    """Which of these parameters a search uses."""
    return frozenset(term.code for term in terms) & search.OPENABLE


def filtered_by(terms: Iterable[SearchTerm], type: str) -> Iterator[Comparison]:
    """Every comparison in the filters of a search."""
    for term in terms:
        if term.code == "_filter":
            yield from filter_expression.comparisons(filter_expression.read(term.text, type))


def demanded_by(terms: Iterable[SearchTerm], type: str) -> Iterator[SearchTerm]:
    """The criteria in the filters of a search that everything found must meet."""
    for term in terms:
        if term.code == "_filter":
            yield from filter_expression.demands(filter_expression.read(term.text, type))


def list_of(terms: Iterable[SearchTerm]) -> str | None:
    """The id of the List whose members a search is about; None where it names none."""
    return next((term.text for term in terms if term.code == "_list"), None)


def _check_list(value: str) -> None:
    if value.startswith("$"):
        raise FhirError(
            Reason.UNSUPPORTED_PARAMETER,
            "'_list' by a name such as $current-problems is closed: the store makes it up",
        )
    if not is_id(value):
        raise FhirError(Reason.INVALID_PARAMETER, "'_list' must be the id of one List")
