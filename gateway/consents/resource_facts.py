"""What consents ask of one resource: its type and id, labels, dates, authors, what it refers to, and its codes."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from gateway.fhir.dates import Interval, value_interval
from gateway.fhir.labels import Label, labels_of
from gateway.fhir.links import local_reference

Coding = tuple[str | None, str]
"""System and code; the system is None where none is said."""

_DATES = (
    "effective", "onset", "performed", "occurrence", "collected", "serviced", "timing",
    "date", "dateTime", "period", "authoredOn", "recordedDate", "recorded", "issued", "created", "started", "sent",
    "received", "assertedDate", "dateAsserted", "whenPrepared", "whenHandedOver", "billablePeriod", "timestamp",
)  # fmt: skip
_KINDS_OF_DATE = ("", "DateTime", "Period", "Instant", "Timing", "Date")
_DATE_NAMES = frozenset(f"{name}{kind}" for name in _DATES for kind in _KINDS_OF_DATE)
_AUTHORS = ("author", "recorder", "asserter", "requester", "enterer", "sender", "performer")
_ASKED_TO_PERFORM = frozenset(
    {"ServiceRequest", "MedicationRequest", "DeviceRequest", "CommunicationRequest", "SupplyRequest", "Task"}
)
_OF_THE_VISIT = ("encounter", "context")
_CODES = ("code", "type", "category", "vaccineCode", "medicationCodeableConcept", "class", "serviceType")
_MAX_DEPTH = 64


class ResourceFacts:
    """Facts of one resource, each worked out when it is first asked for.

    labels are those that count for it; None where they cannot be told.
    """

    def __init__(
        self,
        resource: Mapping[str, Any],
        bases: frozenset[str],
        labels: frozenset[Label] | None,
    ) -> None:
        self.resource = resource
        self.bases = bases
        self.labels = labels

    @property
    def type(self) -> str:
        """The resource type; '' where it is none."""
        return str(self.resource.get("resourceType", ""))

    @property
    def place(self) -> str:
        """'Type/id', '' without an id."""
        id_ = self.resource.get("id")
        return f"{self.type}/{id_}" if isinstance(id_, str) else ""

    @cached_property
    def dates(self) -> tuple[Interval, ...] | None:
        """When it took place or was written down; None where one of its dates cannot be read."""
        found = []
        for name, value in self.resource.items():
            if name not in _DATE_NAMES or isinstance(value, list):
                continue
            moment = value_interval(value)
            if moment is None:
                return None
            found.append(moment)
        return tuple(found)

    @cached_property
    def authors(self) -> tuple[frozenset[str], bool]:
        """References to those who wrote it, and whether they are all that it names."""
        found: set[str] = set()
        is_whole = True
        for name in _AUTHORS:
            if name not in self.resource or (name == "performer" and self.type in _ASKED_TO_PERFORM):
                continue
            for each in _objects(self.resource[name]):
                actor = each.get("actor", each)
                text = actor.get("reference") if isinstance(actor, Mapping) else None
                place = self._local(text)
                if place is None:
                    is_whole = False
                else:
                    found.add(place)
        return frozenset(found), is_whole

    @cached_property
    def references(self) -> frozenset[str]:
        """Everything of the store that it refers to, anywhere within it."""
        return frozenset(place for text in _texts(self.resource) if (place := self._local(text)) is not None)

    @cached_property
    def has_unclear_references(self) -> bool:
        """Whether it may refer to more: a reference by identifier, or a visit that is told in words."""
        for name in _OF_THE_VISIT:
            for each in _objects(self.resource.get(name)):
                is_told = isinstance(each.get("reference"), str) or "encounter" in each or "related" in each
                if not is_told and set(each) & {"display", "identifier", "type"}:
                    return True
        return any(_by_identifier(self.resource))

    @cached_property
    def codings(self) -> tuple[frozenset[Coding], bool]:
        """The codings that say what it is, and whether each of its concepts has one."""
        found: set[Coding] = set()
        is_whole = True
        for name in _CODES:
            for each in _objects(self.resource.get(name)):
                codings = set(_codings(each))
                is_whole = is_whole and bool(codings)
                found |= codings
        return frozenset(found), is_whole

    @cached_property
    def codings_within(self) -> frozenset[Coding]:
        """Every coding anywhere within it, but for its security labels and tags."""
        return frozenset(_codings({name: v for name, v in self.resource.items() if name != "meta"}))

    def _local(self, text: object) -> str | None:
        found = local_reference(text, self.bases) if isinstance(text, str) else None
        return None if found is None else f"{found.type}/{found.id}"


def facts_of(resource: Mapping[str, Any], bases: frozenset[str]) -> ResourceFacts:
    """The facts of a resource that has no labels but its own."""
    try:
        labels = labels_of(resource)
    except ValueError:
        return ResourceFacts(resource, bases, None)
    return ResourceFacts(resource, bases, labels)


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping)]


def _within(value: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Every object within a value. Raises ValueError for one that is nested too deep."""
    if depth > _MAX_DEPTH:
        raise ValueError("the resource is nested too deep")
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from _within(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _within(inner, depth + 1)


def _texts(resource: object) -> Iterator[object]:
    return (each["reference"] for each in _within(resource) if "reference" in each)


def _by_identifier(resource: object) -> Iterator[bool]:
    """One item for each reference that names what it means by an identifier alone."""
    for each in _within(resource):
        if "reference" in each or not isinstance(each.get("identifier"), Mapping):
            continue
        if set(each) <= {"identifier", "display", "type", "id", "extension"}:
            yield True


def _codings(value: object) -> Iterator[Coding]:
    for each in _within(value):
        code, system = each.get("code"), each.get("system")
        if isinstance(code, str):
            yield (system if isinstance(system, str) else None), code
