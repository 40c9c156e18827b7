"""`query` of a rule: which joins, parameters and pages a permit opens of the search grammar."""

from gateway.fhir import joins
from gateway.fhir.definitions import RESOURCE_TYPES, search_parameter, search_parameters
from gateway.fhir.interaction import Interaction, SearchTerm
from gateway.fhir.outcome import FhirError
from gateway.fhir.search import CLOSED_PARAMETERS, MAX_COUNT, OPENABLE
from gateway.policy.query import Query
from gateway.policy.reading.reader import Reader
from gateway.yaml_source import Mapping, Node, Scalar, did_you_mean

_KEYS = ("include", "chain_depth", "closed", "needs_one_of", "page_at_most", "total", "open")
_WORDS = ("none", "any-permitted")


def read_query(
    reader: Reader,
    body: Mapping,
    *,
    permits: bool,
    may: frozenset[Interaction],
    resources: frozenset[str] | None,
) -> Query:
    """The query of a rule, with every mistake at its place."""
    node = body.node("query")
    query = reader.mapping(node, "query")
    if node is None or query is None:
        return Query()
    if not permits:
        reader.problem(node, "'query' is for a permit: a deny or a require speaks about every search")
    elif Interaction.SEARCH not in may:
        reader.problem(node, "'query' is about searches: add search to may, or take it away")
    reader.keys(query, "query", _KEYS)
    types = RESOURCE_TYPES if resources is None else resources
    closed = frozenset(_closed(reader, item, types) for item in reader.items(query.node("closed"), "closed"))
    page = _number(reader, query.node("page_at_most"), "page_at_most", 1, MAX_COUNT)
    return Query(
        include=_include(reader, query.node("include"), types),
        chain_depth=_number(reader, query.node("chain_depth"), "chain_depth", 0, joins.MAX_HOPS) or 0,
        closed=closed,
        needs_one_of=tuple(
            _together(reader, item, types)
            for item in reader.items(query.node("needs_one_of"), "needs_one_of")
        ),
        page_at_most=page,
        total=reader.word(query.node("total"), "total", ("exact", "never")) != "never",
        open=frozenset(_open(reader, item, closed) for item in reader.items(query.node("open"), "open")),
    )


def _include(reader: Reader, node: Node | None, types: frozenset[str]) -> frozenset[str] | None:
    if isinstance(node, Scalar) and node.text in _WORDS:
        return None if node.text == "any-permitted" else frozenset()
    found: set[str] = set()
    for item in reader.items(node, "include"):
        text = reader.text(item, "include")
        if not text:
            continue
        try:
            include = joins.include(SearchTerm("_include", "_include", None, None, (text,), text))
        except FhirError as error:
            reader.problem(item, f"include '{text}': {error.diagnostics}")
            continue
        if text != include.name:
            reader.problem(item, f"an include is named by type and parameter: write '{include.name}'")
        elif include.source not in types and not include.targets & types:
            reader.problem(
                item, f"'{text}' neither begins nor ends at a type of this rule: nobody can ask for it"
            )
        found.add(include.name)
    return frozenset(found)


def _open(reader: Reader, node: Node, closed: frozenset[str]) -> str:
    text = reader.text(node, "parameter")
    if text and text not in OPENABLE:
        known = ", ".join(sorted(OPENABLE))
        reader.problem(
            node, f"'{text}' is none of {known}, which alone are opened here.{did_you_mean(text, OPENABLE)}"
        )
    elif text in closed:
        reader.problem(node, f"'{text}' is opened and closed by the same rule: say one of the two")
    return text


def _closed(reader: Reader, node: Node, types: frozenset[str]) -> str:
    text = reader.text(node, "parameter")
    known = {code for type_ in types for code in search_parameters(type_)}
    if text and text not in known and text not in CLOSED_PARAMETERS:
        reader.problem(
            node, f"no type of this rule has a search parameter '{text}'.{did_you_mean(text, known)}"
        )
    return text


def _together(reader: Reader, node: Node, types: frozenset[str]) -> frozenset[str]:
    """Parameters that must be in the search together, as in 'family+birthdate': some type of the rule has them all."""
    text = reader.text(node, "needs_one_of")
    names = frozenset(name.strip() for name in text.split("+") if name.strip())
    wrong = {type_: mistakes for type_ in sorted(types) if (mistakes := _mistakes(sorted(names), type_))}
    if names and types and wrong.keys() == types:
        for said in next(iter(wrong.values())):
            reader.problem(node, said)
    return names


def _mistakes(names: list[str], type_: str) -> list[str]:
    return [said for name in names if (said := _mistake(name, type_)) is not None]


def _mistake(name: str, type_: str) -> str | None:
    if ":" in name:
        return f"needs_one_of '{name}': write it without modifiers and types"
    if "." not in name:
        if search_parameter(type_, name) is None:
            return f"{type_} has no search parameter '{name}'.{did_you_mean(name, search_parameters(type_))}"
        return None
    try:
        found = joins.readings(name, "x", type_)
    except FhirError as error:
        return f"'{name}' of {type_}: {error.diagnostics}"
    if len(found) > 1:
        said = ", ".join(reading.name for reading in found[:3])
        return f"'{name}' of {type_} may mean several types ({said}): name a parameter of one"
    return None


def _number(reader: Reader, node: Node | None, what: str, least: int, most: int) -> int | None:
    if node is None:
        return None
    if isinstance(node, Scalar) and type(node.value) is int and least <= node.value <= most:
        return node.value
    reader.problem(node, f"{what} must be a number from {least} to {most}")
    return None
