"""Security labels of a resource: how confidential it is, and which sensitivities it carries (FHIR R4 6.1.1, HL7 DS4P).

A label is a coding of meta.security. Confidentiality is an order, U < L < M < N < R < V, and the highest label counts.
What is labelled inside a resource counts for all of it: contained resources, and DS4P's labels of single elements,
whose place is not judged. A code of a known order that nobody knows is higher than every known one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ORDER = ("U", "L", "M", "N", "R", "V")
ABOVE_ALL = len(ORDER)
SYSTEMS: Mapping[str, str] = {
    "v3-Confidentiality": CONFIDENTIALITY,
    "v3-ActCode": ACT_CODE,
    "v3-ActReason": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "v3-ObservationValue": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
}
"""Short names that policies use, with the code systems that they stand for."""

_OTHER_NAMES: Mapping[str, str] = {
    "http://hl7.org/fhir/v3/Confidentiality": CONFIDENTIALITY,
    "urn:oid:2.16.840.1.113883.5.25": CONFIDENTIALITY,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
}
INLINE = "http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label"
"""The extension by which DS4P labels a single element."""
_BELOW: Mapping[str, frozenset[str]] = {
    "BH": frozenset({"COGN", "DVD", "EMOTDIS", "MH", "PSY", "PSYTHPN", "SUD", "ETHUD", "OPIOIDUD"}),
    "SUD": frozenset({"ETHUD", "OPIOIDUD"}),
    "ETH": frozenset({"ETHUD", "OPIOIDUD"}),
}
"""Sensitivities of v3-ActCode that are kinds of another one."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label: code system and code. system is '' where the resource names none."""

    system: str
    code: str


@dataclass(frozen=True, slots=True)
class LabelCondition:
    """What a rule asks of labels; all that is given must hold.

    at_most     the highest confidentiality that is let through, as a place in ORDER; None for any
    any_of      one of these labels is there
    without     none of these labels is there
    unlabelled  what the confidentiality of a resource without such a label is taken for; ABOVE_ALL for 'deny'
    inherit     elements by which the labels of other resources count too
    """

    at_most: int | None = None
    any_of: frozenset[Label] = frozenset()
    without: frozenset[Label] = frozenset()
    unlabelled: int = ABOVE_ALL
    inherit: tuple[str, ...] = ()

    def holds(self, resource: Mapping[str, Any]) -> bool:
        """Whether the resource's own labels are as asked. Raises ValueError where they cannot be read."""
        return self.holds_for(labels_of(resource))

    def holds_for(self, found: frozenset[Label]) -> bool:
        """Whether labels are as asked."""
        if self.at_most is not None and confidentiality(found, self.unlabelled) > self.at_most:
            return False
        if self.any_of and not any(is_one_of(label, self.any_of) for label in found):
            return False
        return not any(is_one_of(label, self.without) for label in found)


def read_label(text: str) -> Label:
    """The label of a policy's 'v3-ActCode|PSY' or 'http://…|code'. Raises ValueError saying what is wrong."""
    system, bar, code = text.rpartition("|")
    if not bar or not code or not system:
        raise ValueError(f"'{text}' is not a label: system and code, such as 'v3-ActCode|PSY'")
    if ":" not in system and system not in SYSTEMS:
        raise ValueError(f"'{system}' is not a code system: one of {', '.join(SYSTEMS)}, or a URI")
    return Label(SYSTEMS.get(system, system), code)


def label_of(system: str, code: str) -> Label:
    """The label of a coding, its system by the name that policies use."""
    return Label(_OTHER_NAMES.get(system, system), code)


def labels_of(resource: Mapping[str, Any]) -> frozenset[Label]:
    """Every label on and in the resource. Raises ValueError for labels that are no codings: nothing is passed over."""
    return frozenset(_labels(resource))


def confidentiality(labels: Iterable[Label], unlabelled: int) -> int:
    """The place in ORDER of the highest confidentiality among labels; ABOVE_ALL for an unknown code of that system.

    A code without a system counts where it is one of ORDER and higher: it may have been meant, but it lowers nothing.
    """
    found, meant = [], []
    for label in labels:
        if label.system == CONFIDENTIALITY:
            found.append(_place(label))
        elif not label.system and label.code in ORDER:
            meant.append(_place(label))
    return max(max(found, default=unlabelled), *meant) if meant else max(found, default=unlabelled)


def _place(label: Label) -> int:
    return ORDER.index(label.code) if label.code in ORDER else ABOVE_ALL


def is_one_of(label: Label, wanted: frozenset[Label]) -> bool:
    """Whether a label is one of those wanted, or a kind of one; a code without a system may be of any."""
    for each in wanted:
        if label.system not in ("", each.system):
            continue
        if label.code == each.code or (each.system == ACT_CODE and label.code in _BELOW.get(each.code, ())):
            return True
    return False


def kinds_of(label: Label) -> frozenset[str]:
    """The codes that is_one_of() takes for this one: its own, and those of what is a kind of it."""
    below = _BELOW.get(label.code, frozenset()) if label.system == ACT_CODE else frozenset()
    return below | {label.code}


def _labels(value: Any, depth: int = 0) -> Iterator[Label]:
    if depth > 64:
        raise ValueError("the resource is nested too deep to find its labels")
    if isinstance(value, list):
        for item in value:
            yield from _labels(item, depth + 1)
        return
    if not isinstance(value, Mapping):
        return
    if "meta" in value and (depth == 0 or "resourceType" in value):
        yield from _codings(value["meta"])
    if value.get("url") == INLINE:
        yield _coding(value.get("valueCoding"))
    for key, inner in value.items():
        if key != "meta" and isinstance(inner, dict | list):
            yield from _labels(inner, depth + 1)


def _codings(meta: Any) -> Iterator[Label]:
    if meta is None:
        return
    if not isinstance(meta, Mapping):
        raise ValueError("meta is not an object")
    security = meta.get("security")
    if security is None:
        return
    for item in security if isinstance(security, list) else [security]:
        yield _coding(item)


def _coding(item: Any) -> Label:
    if not isinstance(item, Mapping):
        raise ValueError("a security label is not a coding")
    system, code = item.get("system", ""), item.get("code", "")
    if not isinstance(system, str) or not isinstance(code, str):
        raise ValueError("a security label has a system or code that is no text")
    return label_of(system.strip(), code.strip())
