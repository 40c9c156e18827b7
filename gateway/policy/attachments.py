"""Binaries: what leads to one, what its content is, and what a rule asks of both (`binary`, `cda`).

A Binary says of itself neither whose it is nor what is in it. Both are found out by whoever asks the judge, with reads
that are judged themselves, and stand beside the Binary as values. Of a Binary about which nobody found out anything
nothing can be told: what opens does not hold, what closes does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.cda.header import CONFIDENTIALITY_SYSTEM, DocumentOrganization, Header, InstanceIdentifier
from gateway.fhir.compartment import patients_of
from gateway.fhir.labels import ABOVE_ALL, ORDER, Label

THROUGH: Mapping[str, str] = {"DocumentReference": "location"}
"""The types through which a Binary may be reached, with the parameter of R4 that finds them by its address."""

CLINICAL_DOCUMENT = "cda:ClinicalDocument"


@dataclass(frozen=True, slots=True)
class BinaryCondition:
    """The Binary is reached through a resource that the caller may read: its security context, or one of these types."""

    through: frozenset[str]


@dataclass(frozen=True, slots=True)
class CdaCondition:
    """The content is a clinical document, and its header is as said.

    of_patient  its record targets are the patient whom the resource that leads to it is about
    at_most     the highest confidentiality that passes, as a place in ORDER; None for any
    unlabelled  what a document without one is taken for
    at_least    the lowest confidentiality that passes, None for any; one that nobody knows does not pass
    types       its code is one of these, with the OID of their system; empty for any
    authors     every organisation that its authors write for is one of these, at least one; empty for any
    custodians  the organisation that keeps it is one of these; empty for any
    """

    of_patient: bool = False
    at_most: int | None = None
    unlabelled: int = ABOVE_ALL
    types: frozenset[Label] = frozenset()
    authors: frozenset[InstanceIdentifier] = frozenset()
    custodians: frozenset[InstanceIdentifier] = frozenset()
    at_least: int | None = None


class Unmet(StrEnum):
    """What of a condition a header does not fulfil."""

    TYPE = "its type"
    ORGANIZATION = "the organisations that wrote or keep it"
    TOO_HIGH = "its confidentiality is above"
    TOO_LOW = "its confidentiality is below"


@dataclass(frozen=True, slots=True)
class Content:
    """What the content of a Binary was found to be. patients are those, by id, whom its header names as its own."""

    header: Header | None  # None for what is no clinical document
    patients: frozenset[str] = frozenset()


class SeenBinary(dict[str, Any]):
    """A Binary with what was found about it.

    via      resources that the caller may read and that lead to it
    content  None where it was not looked at, or cannot be read with certainty
    """

    def __init__(
        self,
        members: Mapping[str, Any],
        via: Iterable[Mapping[str, Any]] = (),
        content: Content | None = None,
    ) -> None:
        super().__init__(members)
        self.via = tuple(via)
        self.content = content


@dataclass(frozen=True, slots=True)
class Needs:
    """What rules want to be found out about a Binary: what leads to it, its content, and the patients of that.

    whole is whether a write is judged by more than that, which native content does not show. documents are what
    rules say of the header.
    """

    through: frozenset[str] = frozenset()
    content: bool = False
    patients: bool = False
    whole: bool = False
    documents: tuple[CdaCondition, ...] = field(default=(), compare=False)


NOTHING_NEEDED = Needs()


def needs_of(conditions: Iterable[tuple[BinaryCondition | None, CdaCondition | None]]) -> Needs:
    """What has to be found out before these can be told."""
    told = list(conditions)
    return Needs(
        frozenset(type_ for binary, _ in told if binary is not None for type_ in binary.through),
        any(cda is not None for _, cda in told),
        any(cda is not None and cda.of_patient for _, cda in told),
        documents=tuple(cda for _, cda in told if cda is not None),
    )


def holds_of(
    resource: Mapping[str, Any],
    binary: BinaryCondition | None,
    cda: CdaCondition | None,
    leads: Callable[[Mapping[str, Any]], bool],
    bases: frozenset[str],
) -> bool:
    """Whether both conditions hold. leads tells whether what else a rule asks is true of a resource on the way.

    Raises ValueError where it cannot be told.
    """
    if not isinstance(resource, SeenBinary):
        raise ValueError("nobody found out what leads to this Binary, or what it holds")
    if cda is not None and not _is_such(resource.content, cda):
        return False
    if binary is None:
        return True
    return any(
        leads(_with_labels(via, resource))
        and (cda is None or not cda.of_patient or _is_of(resource, via, bases))
        for via in resource.via
    )


def _with_labels(via: Mapping[str, Any], binary: Mapping[str, Any]) -> Mapping[str, Any]:
    """What leads to a Binary, with the labels of both: neither makes the other less confidential."""
    own = _labels(binary)
    if not own:
        return via
    return {**via, "meta": {**(via.get("meta") or {}), "security": [*_labels(via), *own]}}


def _labels(resource: Mapping[str, Any]) -> list[Any]:
    meta = resource.get("meta")
    found = None if meta is None else meta.get("security")
    return found if isinstance(found, list) else [] if found is None else [found]


def _is_such(content: Content | None, cda: CdaCondition) -> bool:
    if content is None:
        raise ValueError("it is not known what the Binary holds")
    return content.header is not None and unmet(content.header, cda) is None


def unmet(header: Header, cda: CdaCondition) -> Unmet | None:
    """The first thing of a condition that a header does not fulfil; None where it fulfils all of them.

    Whose the document is, is not looked at.
    """
    code = header.code
    if cda.types and (code is None or Label(f"urn:oid:{code.system}", code.code) not in cda.types):
        return Unmet.TYPE
    if cda.authors and not (header.authors and all(_is_named(each, cda.authors) for each in header.authors)):
        return Unmet.ORGANIZATION
    if cda.custodians and (header.custodian is None or not _is_named(header.custodian, cda.custodians)):
        return Unmet.ORGANIZATION
    level = confidentiality_of(header, cda.unlabelled)
    if cda.at_most is not None and level > cda.at_most:
        return Unmet.TOO_HIGH
    if cda.at_least is not None and not cda.at_least <= level < ABOVE_ALL:
        return Unmet.TOO_LOW
    return None


def _is_named(organization: DocumentOrganization, wanted: frozenset[InstanceIdentifier]) -> bool:
    return not wanted.isdisjoint(organization.ids)


def _is_of(binary: SeenBinary, via: Mapping[str, Any], bases: frozenset[str]) -> bool:
    patients = patients_of(via, bases)
    named = frozenset() if binary.content is None else binary.content.patients
    return patients is not None and len(patients) == 1 and patients <= named


def confidentiality_of(header: Header, unlabelled: int) -> int:
    """The place in ORDER of a document's confidentiality; ABOVE_ALL for a code that is none of them.

    A code of another system is not passed over as gateway.fhir.labels does: a header has this one label.
    """
    code = header.confidentiality
    if code is None or not code.code:
        return unlabelled
    is_known = code.system in ("", CONFIDENTIALITY_SYSTEM) and code.code in ORDER
    return ORDER.index(code.code) if is_known else ABOVE_ALL
