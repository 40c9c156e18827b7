"""What a permit opens of the search grammar, its `query`: a permit takes part in a search only when it allows all of it.

So the union of permits stays a union: what one of them opens is shown under its own conditions, and none of them lends
its includes or chains to another.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.fhir.definitions import search_parameter
from gateway.fhir.interaction import FhirRequest, Interaction, SearchTerm
from gateway.fhir.joins import includes, is_join, readings
from gateway.fhir.opened_terms import filtered_by, opened_words
from gateway.fhir.search import MAX_COUNT, make_term, plain
from gateway.fhir.search_values import split_values


@dataclass(frozen=True, slots=True)
class Query:
    """The `query` of a permit.

    include       'Observation:performer', …: what may be included; None: whatever the caller may see
    chain_depth   how many references a chain or _has may follow
    closed        parameters that this permit does not search by
    needs_one_of  sets of parameters, one of which must be in the search in full
    page_at_most  entries of a page
    total         whether the number of matches may be told where it is exact
    open          which of _filter, _list, _text and _content a search may use
    """

    include: frozenset[str] | None = frozenset()
    chain_depth: int = 0
    closed: frozenset[str] = frozenset()
    needs_one_of: tuple[frozenset[str], ...] = ()
    page_at_most: int | None = None
    total: bool = True
    open: frozenset[str] = frozenset()


EVERYTHING_SIMPLE = Query()
"""The query of a permit that does not say one: no joins, all else."""


def allows(query: Query, asked: FhirRequest) -> bool:
    """Whether a permit with this query takes part in the request; whatever is no search is not its business."""
    if asked.interaction is not Interaction.SEARCH:
        return True
    if not opened_words(asked.terms) <= query.open:
        return False
    if not query.closed.isdisjoint(_codes(asked)):
        return False
    if any(_depth(term, asked.type or "") > query.chain_depth for term in asked.terms if is_join(term)):
        return False
    if query.include is not None and any(i.name not in query.include for i in includes(asked.terms)):
        return False
    if not query.needs_one_of:
        return True
    # What stands in a _filter is never counted.
    named = {plain(term.name) for term in asked.terms if _narrows(term, asked.type or "")}
    return any(together <= named for together in query.needs_one_of)


def needed_by(queries: Iterable[Query], asked: FhirRequest) -> frozenset[str]:
    """The parameters of a search by which these permits take part in it: without them it would find more than they open."""
    named = {plain(term.name) for term in asked.terms}
    return frozenset(
        each for query in queries for together in query.needs_one_of if together <= named for each in together
    )


def page_at_most(queries: Iterable[Query]) -> int | None:
    """The largest page of these permits; None when one of them sets no bound."""
    sizes = [query.page_at_most for query in queries]
    return None if not sizes or None in sizes else max(size for size in sizes if size is not None)


def with_page(asked: FhirRequest, most: int | None) -> FhirRequest:
    """The search with its page no larger than allowed."""
    if most is None:
        return asked
    said = next((term for term in asked.terms if term.code == "_count"), None)
    if said is None:
        return asked.with_terms((make_term("_count", [str(most)]),))
    lowered = make_term("_count", [str(min(int(said.text), most, MAX_COUNT))])
    return replace(asked, terms=tuple(lowered if term is said else term for term in asked.terms))


def counts(asked: FhirRequest) -> str:
    """What the search asks about the number of matches: 'only' it, it 'also' where the store tells it, or 'no'."""
    if any(term.code == "_summary" and term.text == "count" for term in asked.terms):
        return "only"
    total = next((term.text for term in asked.terms if term.code == "_total"), None)
    return "no" if total == "none" else "also"


def without_total(asked: FhirRequest, *, is_told: bool) -> FhirRequest:
    """The search as the store needs it: without `_total=none`, and without any `_total` where no number is told."""
    return replace(
        asked, terms=tuple(t for t in asked.terms if t.code != "_total" or (is_told and t.text != "none"))
    )


def _narrows(term: SearchTerm, type_: str) -> bool:
    """Whether a criterion names what is looked for: what is to be absent, different, or of a system narrows to nobody."""
    if term.code == "_filter" or term.name.endswith((":missing", ":not")):
        return False
    if is_join(term):
        way = readings(term.name, term.text, type_)[0]
        term, type_ = way.criterion, way.hops[-1].type
    parameter = search_parameter(type_, term.code)
    kind = "" if parameter is None else "token" if term.modifier == "identifier" else parameter.type
    wide = _WIDE.get(kind)
    return wide is None or not any(wide.fullmatch(text) for text in split_values(term.text))


_WIDE = {
    "token": re.compile(r"(?:[^|\\]|\\.)*\|", re.DOTALL),  # system|
    **dict.fromkeys(("date", "number", "quantity"), re.compile(r"ne.*", re.DOTALL)),
}
"""By the type of a parameter, values that most resources have."""


def _codes(asked: FhirRequest) -> set[str]:
    """Every parameter that the search goes by on its own type, what it sorts by included."""
    found = {term.code for term in asked.terms}
    found |= {each.code for each in filtered_by(asked.terms, asked.type or "")}
    for term in asked.terms:
        if term.code == "_sort":
            found |= {key.removeprefix("-") for key in term.values}
    return found


def _depth(term: SearchTerm, type_: str) -> int:
    return max(len(reading.hops) for reading in readings(term.name, term.text, type_))
