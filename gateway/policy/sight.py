"""How one caller sees resources of one type: the views of the permits, and what denies take away.

A resource is seen through the union of the views of the permits that hold for it, less every `fields` of a deny. A
search may not ask for what it would not show: a permit whose view hides what the search touches does not open that
search, and a deny that takes it away closes it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from gateway.fhir.compartment import subject_parameter
from gateway.fhir.definitions import RESOURCE_TYPES, element_exists, search_parameter
from gateway.fhir.fhirpath import ExpressionError, compile_expression
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.joins import includes
from gateway.fhir.opened_terms import FULL_TEXT, filtered_by
from gateway.policy.conditions import Condition, holds
from gateway.policy.decision import Resource
from gateway.policy.masking import masked
from gateway.policy.rules import Returned
from gateway.policy.view import WHOLE, Paths, View, paths_of, see

# Of joins the types that they go through are asked about by themselves, each with what it is searched by. Who may
# search the members of a List sees in the List itself what they are.
_LOOKS_AT_NOTHING = frozenset(
    {
        "_count",
        "_sort",
        "_id",
        "_elements",
        "_summary",
        "_total",
        "_include",
        "_revinclude",
        "_has",
        "_list",
        "_filter",
    }
)

_OTHER_WORDS = {"_since": "_lastUpdated", "_at": "_lastUpdated"}  # of a history, for what a search looks at

PEOPLE = ("Patient", "Person", "Practitioner", "RelatedPerson")
"""Types whose names stand as `display` in references to them, and their identifiers as `identifier`."""
SAID: Mapping[str, tuple[tuple[str, ...], ...]] = {"display": (("name",),), "identifier": (("identifier",),)}
"""What a reference repeats of whom it names, with the element that holds it."""

Taken = tuple[str, Condition, tuple[str, ...]]
"""A deny of fields: its name, when it holds, and the elements."""


@cache
def view_of(returned: Returned | None, type_: str) -> View:
    """The view of one permit on resources of one type. The id is always seen: every link says it."""
    if returned is None:
        return WHOLE
    only = None if returned.only is None else paths_of(type_, (*returned.only, f"{type_}.id"))
    rounded: dict[str, Paths] = {}
    for path, precision in returned.rounded:
        rounded = _merged(rounded, paths_of(type_, [path], precision).below)
    return View(only, paths_of(type_, returned.hide), Paths(below=rounded))


def _merged(one: Mapping[str, Paths], other: Mapping[str, Paths]) -> dict[str, Paths]:
    found = dict(one)
    for name, paths in other.items():
        known = found.get(name)
        found[name] = (
            paths
            if known is None
            else Paths(
                known.whole or paths.whole,
                _merged(known.below, paths.below),
                known.precision if paths.precision is None else paths.precision,
            )
        )
    return found


@cache
def denied_paths(type_: str, fields: tuple[str, ...]) -> Paths:
    """The elements of one type that fields name: those of its own, and those without a type."""
    found = []
    for each in fields:
        path = each if each.partition(".")[0] in RESOURCE_TYPES else f"{type_}.{each}"
        if element_exists(path):
            found.append(path)
    return paths_of(type_, found)


@cache
def hidden_of_people(returned: Returned | None, word: str) -> frozenset[str]:
    """The types of people of whom a permit hides this by what it says of them."""
    if returned is None:
        return frozenset()
    spoken = {path.partition(".")[0] for path in returned.only or ()}
    element = SAID[word][0][0]
    return frozenset(
        type_
        for type_ in PEOPLE
        if is_hidden(view_of(returned, type_), SAID[word])
        and (type_ in spoken or any(path.startswith(f"{type_}.{element}") for path in returned.hide))
    )


@dataclass(frozen=True, slots=True)
class Sight:
    """How the caller sees resources of a type.

    returned   what each permit shows, by the name of its rule
    taken      the denies of fields about this type
    unshown    by word of SAID, people of whom no permit shows it to this caller: a permit with a view does not either
    unsaid     by word of SAID, people of whom denies take it away
    contained  how a contained resource is seen, None for as it is
    hides_within  whether something may be left out of a contained resource, of whatever type
    """

    type: str
    returned: Mapping[str, Returned | None]
    taken: tuple[Taken, ...]
    unshown: Mapping[str, frozenset[str]]
    unsaid: Mapping[str, frozenset[str]]
    contained: Callable[[Resource], Resource | None] | None
    hides_within: Callable[[], bool] = lambda: False
    _plain: dict[tuple[str, ...], bool] = field(default_factory=dict, repr=False, compare=False)

    def see(self, resource: Resource, permits: tuple[str, ...]) -> tuple[Resource, tuple[str, ...]]:
        """What is seen of a resource for which these permits hold, and the denies that took something away."""
        if not self.taken and "contained" not in resource and self._is_plain(permits):
            return resource, ()
        names, fields = self._taken_from(resource)
        ways = [self.returned[name] for name in permits]
        seen = see(
            resource,
            [view_of(returned, self.type) for returned in ways],
            denied=denied_paths(self.type, fields),
            nameless=self.left_out("display", ways),
            numberless=self.left_out("identifier", ways),
            contained=self.contained if "contained" in resource else None,
        )
        if seen is resource:
            return resource, ()
        return masked(seen, resource), names

    def is_plain(self, permits: tuple[str, ...]) -> bool:
        """Whether some of these permits, whichever they are, show a resource that contains no other as it is."""
        # Of two permits that leave nothing out, neither makes the other leave something out.
        return not self.taken and all(self._is_plain((permit,)) for permit in permits)

    def _is_plain(self, permits: tuple[str, ...]) -> bool:
        """Whether nothing that these permits show is left out of a resource that contains no other."""
        found = self._plain.get(permits)
        if found is None:
            ways = [self.returned[name] for name in permits]
            found = self._plain[permits] = any(
                view_of(returned, self.type).is_whole for returned in ways
            ) and not any(self.left_out(word, ways) for word in SAID)
        return found

    def left_out(self, word: str, ways: Iterable[Returned | None]) -> frozenset[str]:
        """The people in references to whom this is left out, where what these permits return is seen."""
        found = frozenset(PEOPLE)
        for returned in ways:
            whole = returned is None or view_of(returned, self.type).is_whole
            found &= hidden_of_people(returned, word) | (frozenset() if whole else self.unshown[word])
        return found | self.unsaid[word]

    def shows_all(self, returned: Returned | None) -> bool:
        """Whether nothing at all is left out of what a permit returns, in references and contained resources too."""
        said = any(self.left_out(word, [returned]) for word in SAID)
        return view_of(returned, self.type).is_whole and not said and not self.hides_within()

    def _taken_from(self, resource: Resource) -> tuple[tuple[str, ...], tuple[str, ...]]:
        held = [
            (name, fields)
            for name, condition, fields in self.taken
            if holds(condition, resource, on_error=True)
        ]
        return tuple(name for name, _ in held), tuple(field for _, fields in held for field in fields)


def touched(asked: FhirRequest) -> tuple[tuple[str, ...], ...] | None:
    """The elements, as ways through JSON, that a search looks at. None where they cannot be told: it may be any."""
    if asked.type is None:
        return None
    codes = {term.code for term in asked.terms if term.code not in _LOOKS_AT_NOTHING}
    if codes & FULL_TEXT:
        return None
    codes = {_OTHER_WORDS.get(code, code) for code in codes}
    codes |= {each.code for each in filtered_by(asked.terms, asked.type)}
    codes |= {include.code for include in includes(asked.terms) if include.source == asked.type}
    for term in asked.terms:
        if term.code == "_sort":
            codes.update(value.removeprefix("-") for value in term.values)
    if asked.compartment is not None and asked.type != "Patient":
        codes.add(subject_parameter(asked.type) or "patient")
    return ways_of(asked.type, codes)


def ways_of(type_: str, codes: Iterable[str]) -> tuple[tuple[str, ...], ...] | None:
    """The elements that search parameters look at; None where they cannot be told: it may be any."""
    found: list[tuple[str, ...]] = []
    for code in sorted(set(codes) - _LOOKS_AT_NOTHING):
        ways = _ways(type_, code)
        if ways is None:
            return None
        found.extend(ways)
    return tuple(found)


@cache
def _ways(type_: str, code: str) -> tuple[tuple[str, ...], ...] | None:
    parameter = search_parameter(type_, code)
    if parameter is None or not parameter.expression or parameter.type in ("composite", "special"):
        return None
    try:
        routes = compile_expression(parameter.expression).routes
    except ExpressionError:
        return None
    return tuple(tuple(step for step in route.steps if isinstance(step, str)) for route in routes)


def is_hidden(view: View, ways: Iterable[tuple[str, ...]] | None) -> bool:
    """Whether a view hides, or shows less of, one of these elements; of what cannot be told, whether it hides any."""
    if view.is_whole:
        return False
    if ways is None:
        return True
    return any(
        (view.only is not None and not _is_whole(view.only, way))
        or _is_spoken_of(view.hide, way)
        or _is_spoken_of(view.rounded, way)
        for way in ways
    )


def takes_away(type_: str, fields: tuple[str, ...], ways: Iterable[tuple[str, ...]] | None) -> bool:
    """Whether a deny of these fields takes away one of these elements, or a part of it."""
    denied = denied_paths(type_, fields)
    if not denied.below:
        return False
    return ways is None or any(_is_spoken_of(denied, way) for way in ways)


def _is_whole(paths: Paths, way: tuple[str, ...]) -> bool:
    at: Paths | None = paths
    for name in way:
        at = None if at is None else at.at(name)
    return at is not None and at.whole


def _is_spoken_of(paths: Paths, way: tuple[str, ...]) -> bool:
    """Whether something is said of an element, of what is above it or of what is below it."""
    at: Paths | None = paths
    for name in way:
        if at is None or at.whole:
            break
        at = at.below.get(name)
    return at is not None and (at.whole or bool(at.below))
