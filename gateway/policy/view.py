"""What of a resource may be seen: elements hidden, elements alone shown, dates rounded, and no copies left of either.

A resource is seen through the union of the views of the permits that hold for it, less what a deny takes away: one
more permit never hides anything, one more deny never shows anything. What was taken out is looked for again where
FHIR keeps copies: in the narrative, in `_name` siblings, in displays and other free text, in contained resources and
in extensions (gateway.policy.copies). A resource from which anything was taken carries the tag SUBSETTED (FHIR R4
3.1.1.5.9), so that no client writes it back as if it were whole.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from gateway.fhir.definitions import choices, element_exists, is_resource_type
from gateway.fhir.labels import INLINE
from gateway.policy.copies import Copies

_OF_A_REFERENCE = frozenset(
    {"id", "extension", "reference", "_reference", "type", "_type", "identifier", "display", "_display"}
)
SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?(?:T.*)?")
_EXTENSIONS = frozenset({"extension", "modifierExtension"})
_KEPT = frozenset({"resourceType"})


class Precision(IntEnum):
    """How much of a date is left."""

    YEAR = 1
    MONTH = 2
    DAY = 3


@dataclass(frozen=True, slots=True)
class Paths:
    """Elements of one type as a tree of JSON members. whole: the element itself is named, with all below it."""

    whole: bool = False
    below: Mapping[str, "Paths"] = field(default_factory=dict)
    precision: Precision | None = None

    def at(self, name: str) -> "Paths | None":
        """What is said of a member and of what is below it."""
        return self if self.whole else self.below.get(name)


_NOTHING = Paths()
_EVERYTHING = Paths(whole=True)


class UnknownElement(Exception):
    """A path that R4 does not have."""


def paths_of(type_: str, elements: Iterable[str], precision: Precision | None = None) -> Paths:
    """The tree of elements such as 'Observation.value' or 'Patient.name.family', a choice under each of its JSON names.

    Elements of other types are passed over. Raises UnknownElement for one that R4 does not have.
    """
    tree: dict[str, Any] = {}
    for element in elements:
        root, *names = element.split(".")
        if not is_resource_type(root) or not names or not element_exists(element):
            raise UnknownElement(element)
        if root == type_:
            _grow(tree, [root], [name.removesuffix("[x]") for name in names])
    return _planted(tree, precision)


def _grow(tree: dict[str, Any], at: list[str], names: list[str]) -> None:
    name, *rest = names
    for path in at:
        for key, element in choices(path, name).items():
            inner = tree.setdefault(key, {})
            if rest:
                _grow(inner, [element.path], rest)
            else:
                inner[""] = {}  # named itself: no member of JSON has this name


def _planted(tree: Mapping[str, Any], precision: Precision | None) -> Paths:
    below = {name: _planted(inner, precision) for name, inner in tree.items() if name}
    return Paths("" in tree, below, precision if "" in tree else None)


@dataclass(frozen=True, slots=True)
class View:
    """What one permit shows of the resources of one type. only is None where every element is shown."""

    only: Paths | None = None
    hide: Paths = _NOTHING
    rounded: Paths = _NOTHING

    @property
    def is_whole(self) -> bool:
        """Whether it shows resources as they are."""
        return self.only is None and not self.hide.below and not self.rounded.below


WHOLE = View()


@dataclass(slots=True)
class _Sight:
    """How one view sees the place where the walk is."""

    only: Paths
    hide: Paths
    rounded: Paths

    def into(self, name: str) -> "_Sight | None":
        """The view one member further down; None where it shows nothing of it."""
        only, hide, rounded = self.only.at(name), self.hide.at(name), self.rounded.at(name)
        if only is None or (hide is not None and hide.whole):
            return None
        return _Sight(only, hide or _NOTHING, rounded or _NOTHING)


def see(
    resource: Mapping[str, Any],
    views: Sequence[View],
    *,
    denied: Paths = _NOTHING,
    nameless: frozenset[str] = frozenset(),
    numberless: frozenset[str] = frozenset(),
    contained: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = None,
) -> Mapping[str, Any]:
    """The resource as these views together show it, less what is denied; the same object when nothing is to be done.

    views are those of the permits that hold for this resource; without one nothing is shown but its type. nameless
    are types whose names the caller may not see: what references to them display is left out. numberless are types whose
    identifiers the caller may not see: those in references to them are left out as well. contained says how a
    contained resource is seen, None for not at all; without it one is seen as it is.
    """
    said = {"display": nameless, "identifier": numberless}
    if (
        any(view.is_whole for view in views)
        and not denied.below
        and not any(said.values())
        and contained is None
    ):
        return resource
    sights = [_Sight(view.only or _EVERYTHING, view.hide, view.rounded) for view in views]
    walk = _Walk(said, contained, takes_labels=_hides_labels(sights, denied))
    seen = walk.members(resource, sights, denied, top=True)
    if not walk.took:
        return resource
    seen.pop("text", None)  # the narrative says all of it in words
    seen.pop("_text", None)
    return tagged(walk.copies.without(seen))


class _Walk:
    """One walk over one resource; remembers what it took out."""

    def __init__(
        self,
        said: Mapping[str, frozenset[str]],
        contained: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None,
        *,
        takes_labels: bool = False,
    ) -> None:
        self._said = {word: types for word, types in said.items() if types}
        self._contained = contained
        self._takes_labels = takes_labels
        self.copies = Copies()
        self.took = False

    def members(
        self, value: Mapping[str, Any], sights: list[_Sight], denied: Paths, *, top: bool = False
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        unsaid = {word for word, types in self._said.items() if _refers_to(value, types)}
        for key, inner in value.items():
            name = key[1:] if key.startswith("_") else key
            if top and key in _KEPT:
                found[key] = inner
                continue
            forbidden = denied.at(name)
            showing = [sight for sight in (each.into(name) for each in sights) if sight is not None]
            if (
                (forbidden is not None and forbidden.whole)
                or not showing
                or (name in unsaid and (name != "identifier" or value.keys() <= _OF_A_REFERENCE))
            ):
                self._take(inner)
                continue
            if self._takes_labels and name in _EXTENSIONS and isinstance(inner, list):
                inner = self._without_labels(inner)
                if not inner:
                    continue
            if top and key == "contained":
                inner = self._seen_contained(inner)
                if inner == []:
                    continue
            left = self._value(key, inner, showing, forbidden or _NOTHING)
            if left is _GONE or (left in ({}, []) and inner not in ({}, [])):
                continue
            found[key] = left
        return found

    def _value(self, key: str, value: Any, sights: list[_Sight], denied: Paths) -> Any:
        precision = _precision(sights)
        if precision is not None:
            if key.startswith("_"):
                self._take(value)
                return _GONE
            return self._rounded(value, precision)
        if isinstance(value, dict):
            return self.members(value, sights, denied)
        if isinstance(value, list):
            left = [self._value(key, item, sights, denied) for item in value]
            return [item for item in left if item is not _GONE and item != {}]
        if all(sight.only.below and not sight.only.whole for sight in sights):
            self._take(value)  # something below it was to be shown, and it has no below
            return _GONE
        return value

    def _rounded(self, value: Any, precision: Precision) -> Any:
        if isinstance(value, dict):
            found = {}
            for key, inner in value.items():
                if key.startswith("_") or key in _EXTENSIONS:
                    self._take(inner)
                else:
                    found[key] = self._rounded(inner, precision)
            return found
        if isinstance(value, list):
            return [self._rounded(item, precision) for item in value]
        if isinstance(value, str) and (match := _DATE.fullmatch(value)) is not None:
            left = "-".join([part for part in match.groups() if part is not None][:precision])
            if left != value:
                self._take(value)
            return left
        return value

    def _without_labels(self, extensions: list[Any]) -> list[Any]:
        """The extensions without labels of the element: they tell what meta.security tells."""
        left = [each for each in extensions if not (isinstance(each, dict) and each.get("url") == INLINE)]
        if len(left) < len(extensions):
            self.took = True
        return left

    def _seen_contained(self, value: Any) -> Any:
        if self._contained is None:
            return value
        if not isinstance(value, list):  # R4 has an array here: what is none is seen by nobody
            self._take(value)
            return []
        found: list[dict[str, Any]] = []
        for item in value:
            seen = self._contained(item) if isinstance(item, dict) else None
            if seen is not item or seen is None:
                self._take_difference(item, seen)
            if seen is not None:
                found.append(dict(seen))
        return found

    def _take(self, value: Any) -> None:
        """Remember what was taken out, to find its copies."""
        self.took = True
        self.copies.take(value)

    def _take_difference(self, whole: Any, left: Mapping[str, Any] | None) -> None:
        self.took = True
        self.copies.take_difference(whole, left)


_GONE = object()


def _hides_labels(sights: Sequence[_Sight], denied: Paths) -> bool:
    """Whether meta.security is not seen."""
    meta = denied.at("meta")
    security = None if meta is None else meta.at("security")
    if security is not None and security.whole:
        return True
    metas = [each.into("meta") for each in sights]
    return all(meta is None or meta.into("security") is None for meta in metas)


def _precision(sights: Sequence[_Sight]) -> Precision | None:
    """The finest rounding of the views that show a place; None when one of them does not round."""
    finest: Precision | None = None
    for sight in sights:
        if sight.rounded.precision is None:
            return None
        finest = sight.rounded.precision if finest is None else max(finest, sight.rounded.precision)
    return finest


def _refers_to(value: Mapping[str, Any], types: frozenset[str]) -> bool:
    """Whether value is a reference to a resource of one of these types, or to one that does not say its type."""
    if not types or not ("reference" in value or "identifier" in value):
        return False
    said = value.get("type")
    if isinstance(said, str):
        return said.rpartition("/")[2] in types
    reference = value.get("reference")
    if not isinstance(reference, str):
        return "type" not in value
    parts = reference.partition("/_history/")[0].split("/")
    return len(parts) < 2 or parts[-2] in types


def tagged(seen: dict[str, Any]) -> dict[str, Any]:
    """What is seen of a resource with the tag that says that it is not whole."""
    meta = seen.get("meta")
    meta = dict(meta) if isinstance(meta, dict) else {}
    tags = meta.get("tag")
    tags = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    if not any(tag.get("code") == SUBSETTED["code"] for tag in tags):
        tags.append(dict(SUBSETTED))
    meta["tag"] = tags
    # resourceType first, as everybody writes it; meta where it was, or behind the id.
    first: dict[str, Any] = {key: seen[key] for key in ("resourceType", "id") if key in seen}
    return first | {"meta": meta} | {key: value for key, value in seen.items() if key != "meta"}
