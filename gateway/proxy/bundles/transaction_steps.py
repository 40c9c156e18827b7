"""The entries of a transaction on their way: what is sent for each, and what the store says of it.

The Bundle that goes to the store is built here, from what was judged and nothing else: writes only, each by literal id
and under the version that was judged, each new resource under a urn that nobody outside knows.
"""

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from authz.protocol.request import RequestError
from gateway.fhir import bundle_graph, resource
from gateway.fhir.interaction import Interaction
from gateway.fhir.outcome import FhirError, Reason
from gateway.proxy import operations
from gateway.proxy.bundles.entries import Part
from gateway.proxy.permitted import Permitted
from gateway.proxy.trail import Trail
from gateway.proxy.writes import creation
from gateway.settings import Upstream

READS = frozenset({Interaction.READ, Interaction.VREAD, Interaction.HISTORY_INSTANCE, Interaction.SEARCH})
_STATUS = re.compile(r"(200|201|202|204)(?![0-9])")
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{1,128}"')
_INSTANT = re.compile(r"[0-9T:.Z+-]{10,40}")


@dataclass(slots=True)
class Step:
    """One entry: its request, its trail, what was decided, and the write that it becomes.

    fresh  the id that stands for a new resource until the store gives it one
    after  what is to be stored, as it was judged; None for a delete and for a read
    sends  whether the store is told: no read, and no create that found its resource
    """

    part: Part
    trail: Trail
    fresh: str = field(default_factory=lambda: str(uuid.uuid4()))
    permitted: Permitted | None = None
    after: dict[str, Any] | None = None
    precondition: Mapping[str, str] = field(default_factory=dict)
    sends: bool = False

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.part.asked.interaction in READS

    @property
    def is_conditional(self) -> bool:
        """Whether criteria say which resource it is about."""
        asked, conditions = self.part.asked, self.part.entry.conditions
        if asked.interaction is Interaction.CREATE:
            return "ifNoneExist" in conditions
        return not self.is_read and asked.id is None

    @property
    def target(self) -> str | None:
        """'Type/id' of what it is about; None while that is not known."""
        asked = self.part.asked if self.permitted is None else self.permitted.asked
        found = None if self.permitted is None else self.permitted.found
        id_ = asked.id if found is None else found.id
        return None if id_ is None or asked.type is None else f"{asked.type}/{id_}"

    @property
    def place(self) -> str | None:
        """'Type/id' by which others refer to its resource, with the fresh id for a new one; None while not known."""
        if self.is_read or self.part.asked.interaction is Interaction.DELETE:
            return None
        if self.is_conditional and self.permitted is None:
            return None
        return self.target or f"{self.part.asked.type}/{self.fresh}"


def names(steps: list[Step]) -> dict[str, str]:
    """The reference that each urn stands for, as far as it is known."""
    named = ((step.part.entry.name, step.place) for step in steps)
    return {name: place for name, place in named if name is not None and place is not None}


def bundle_of(steps: list[Step]) -> bytes:
    """The transaction as the store gets it."""
    urns = {f"{s.part.asked.type}/{s.fresh}": f"urn:uuid:{s.fresh}" for s in steps if s.target is None}
    entries = []
    for step in steps:
        entry: dict[str, Any] = {}
        if step.target is None:
            entry["fullUrl"] = f"urn:uuid:{step.fresh}"
        if step.after is not None:
            value = _copied(step.after)
            bundle_graph.rename(value, urns)
            entry["resource"] = value
        entry["request"] = {"method": method_of(step), "url": step.target or step.part.asked.type}
        if "if-match" in step.precondition:
            entry["request"]["ifMatch"] = step.precondition["if-match"]
        entries.append(entry)
    return resource.write_resource({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def conditional(steps: Sequence[Step], bases: Collection[str]) -> dict[str, Step]:
    """References that stand for what a search finds, each with a step that has it."""
    return {
        text: step
        for step in steps
        if step.part.entry.resource is not None
        for text in bundle_graph.conditional_references(step.part.entry.resource, bases)
    }


def by_itself(value: Any, names: Mapping[str, str], bases: Collection[str]) -> dict[str, Any] | None:
    """A resource as it will be stored; None where that hangs on what is found in the store."""
    if bundle_graph.is_open(value, names, bases):
        return None
    copy = _copied(value)
    bundle_graph.resolve(copy, names, {})
    bundle_graph.relative(copy, bases)
    return copy


def resolved(value: Any, names: Mapping[str, str], found: Mapping[str, str]) -> bytes:
    """The bytes of a resource that refers to what others of the Bundle become, and to what was found."""
    copy = _copied(value)
    bundle_graph.resolve(copy, names, found)
    return resource.write_resource(copy)


def _copied(value: Any) -> dict[str, Any]:
    return resource.parse_resource(resource.write_resource(value))


def method_of(step: Step) -> str:
    """How the store is told: a patch is stored by an update."""
    if step.after is None:
        return "DELETE"
    return "POST" if step.target is None else "PUT"


def answers_of(said: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """The entries of the store's answer, one for each that was sent. Raises FhirError(UPSTREAM_INVALID)."""
    entries = said.get("entry", [])
    if said.get("resourceType") != "Bundle" or said.get("type") != "transaction-response":
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer is not a transaction-response")
    if not isinstance(entries, list) or len(entries) != count:
        raise FhirError(Reason.UPSTREAM_INVALID, "the answer has not one entry for each that was sent")
    for entry in entries:
        response = entry.get("response") if isinstance(entry, dict) else None
        status = response.get("status") if isinstance(response, dict) else None
        if not isinstance(status, str) or not _STATUS.match(status):
            raise FhirError(
                Reason.UPSTREAM_INVALID, "an entry of the answer does not say that it was carried out"
            )
    return entries


def response_of(
    step: Step, said: Mapping[str, Any], upstream: Upstream, *, with_outcome: bool
) -> dict[str, Any]:
    """What the caller is told of one write: statuses, versions and places of our own resources, no text of the store.

    Raises FhirError(UPSTREAM_INVALID) where the store speaks of another resource than the one that was sent.
    """
    response = said["response"]
    told: dict[str, Any] = {"status": "204" if step.after is None else response["status"][:3]}
    location = response.get("location")
    made = creation.made(
        {"location": location} if isinstance(location, str) else {}, upstream, step.part.asked.type
    )
    if made.id is not None and step.target not in (None, f"{step.part.asked.type}/{made.id}"):
        raise FhirError(Reason.UPSTREAM_INVALID, "the answers are not in the order of what was sent")
    if step.target is None:
        if made.id is None:
            raise FhirError(Reason.UPSTREAM_INVALID, "the answer does not say where a new resource is")
        told["location"] = made.headers[0][1]
    etag, modified, outcome = (response.get(name) for name in ("etag", "lastModified", "outcome"))
    if isinstance(etag, str) and _TAG.fullmatch(etag):
        told["etag"] = etag
    if isinstance(modified, str) and _INSTANT.fullmatch(modified):
        told["lastModified"] = modified
    if with_outcome and isinstance(outcome, dict):
        with suppress(FhirError):  # it is done, whatever the store says of it
            told["outcome"] = operations.outcome(outcome)
    return told


def id_of(step: Step, told: Mapping[str, Any], upstream: Upstream) -> str:
    """The id of what was written."""
    if step.target is not None:
        return step.target.partition("/")[2]
    return str(told["location"]).removeprefix(f"{upstream.identifier}/").split("/")[1]


def check_apart(steps: list[Step]) -> None:
    """Raise FhirError(INVALID_BODY) when two entries write one resource, or look for one to create (R4 3.1.0.11.2)."""
    seen: set[str] = set()
    for step in steps:
        if step.is_read:
            continue
        marks = []
        if step.target is not None and step.part.asked.interaction is not Interaction.CREATE:
            marks.append(step.target)
        if step.is_conditional and step.part.asked.interaction is Interaction.CREATE:
            marks.append(f"{step.part.asked.type}?{step.part.entry.conditions['ifNoneExist']}")
        for mark in marks:
            if mark in seen:
                raise FhirError(
                    Reason.INVALID_BODY,
                    "another entry writes the same resource",
                    expression=step.part.entry.expression,
                )
            seen.add(mark)


def check_kept(steps: list[Step], bases: Collection[str]) -> None:
    """Raise FhirError(SPLIT_TRANSACTION) where an entry needs what another one deletes."""
    gone = {step.target for step in steps if step.sends and step.after is None}
    for step in steps:
        needs = {step.target} if step.is_read else set()
        if step.after is not None:
            needs |= bundle_graph.referred(step.after, bases)
        if needs & gone:
            raise FhirError(
                Reason.SPLIT_TRANSACTION,
                "it needs a resource that another entry deletes",
                expression=step.part.entry.expression,
            )


def of_all(error: FhirError | RequestError, where: str) -> FhirError:
    """The refusal of a whole transaction by one of its entries."""
    if isinstance(error, RequestError):
        reason = Reason.TOO_LARGE if error.status == 413 else Reason.INVALID_BODY
        return FhirError(reason, error.description, expression=where)
    status = 403 if error.reason is Reason.NOT_FOUND and error.status == 404 else error.status
    return FhirError(error.reason, error.diagnostics, status=status, headers=error.headers, expression=where)
