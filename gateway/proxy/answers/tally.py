"""What went out and whom an answer or a change was about, for the audit record: noted as each resource passes.

The values were parsed and judged already; the usual form of a subject, 'Patient/A', costs a look into two members.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.fhir.compartment import members_naming_patients, patients_of, subject_element
from gateway.fhir.held_resources import HOLDERS, held_resources

MOST_PATIENTS = 1000
"""Patients that a record names; resources about others are counted."""
_MOST_LABELS = 16
_PLAIN = re.compile(r"Patient/([A-Za-z0-9.-]{1,64})")


def members_noted(type: str) -> frozenset[str] | None:
    """The members of a resource of the type that note() looks at, and of meta its security; None for all of them."""
    found = members_naming_patients(type)
    return None if found is None else found | {"meta.security"}


class About:
    """The patients and labels of the resources that were noted. What cannot be told is not guessed."""

    __slots__ = ("_told", "is_noted", "labels", "patients", "unlisted")

    def __init__(self) -> None:
        self.patients: dict[str, None] = {}
        self.labels: dict[str, None] = {}
        self.unlisted = 0  # resources about patients who found no place
        self.is_noted = False
        self._told = 0

    def note(self, resource: Mapping[str, Any], bases: frozenset[str]) -> None:
        """Note a resource that is shown, written or removed. bases are those of the store, in any of its names."""
        self.is_noted = True
        meta = resource.get("meta")
        if type(meta) is dict and "security" in meta and len(self.labels) < _MOST_LABELS:
            self._label(meta["security"])
        kind = resource.get("resourceType")
        if isinstance(kind, str):
            element = subject_element(kind)
            reference = resource.get(element) if element is not None else None
            if isinstance(reference, dict):
                text = reference.get("reference")
                if isinstance(text, str) and text.startswith("Patient/"):
                    id = text[8:]
                    if id in self.patients:
                        return
                    if _PLAIN.fullmatch(text):
                        self._add(id)
                        return
            for id in patients_of(resource, bases) or ():
                self._add(id)
            for held in held_resources(resource) if kind in HOLDERS else ():
                self.note(held, bases)

    @property
    def is_plain(self) -> bool:
        """Whether a record says no more of it than the patients."""
        return self.is_noted and not self.labels and not self.unlisted

    def _add(self, id: str) -> None:
        if not id or id in self.patients:
            return
        if len(self.patients) < MOST_PATIENTS:
            self.patients[id] = None
        else:
            self.unlisted += 1

    def _label(self, security: object) -> None:
        for each in security if isinstance(security, list) else ():
            code = each.get("code") if isinstance(each, dict) else None
            if isinstance(code, str):
                system = each.get("system")
                self.labels[f"{system if isinstance(system, str) else ''}|{code}"] = None

    def record(self, *, in_part: bool = True) -> dict[str, object]:
        """What the audit record says of it: the patients whom no record of this request named before.

        Without in_part all of them, and as if it had not been told.
        """
        if not self.is_noted:
            return {}
        patients = list(self.patients)
        said: dict[str, object] = {"patients": patients[self._told :] if in_part else patients}
        if in_part:
            self._told = len(patients)
        if self.unlisted:
            said["unlisted"] = self.unlisted
        if self.labels:
            said["labels"] = list(self.labels)[:_MOST_LABELS]
        return said


@dataclass(slots=True)
class Tally:
    """What went out and what stayed back, for the audit record."""

    shown: int = 0
    dropped: int = 0
    narrowing_seen: bool | None = None
    rules: set[str] = field(default_factory=set)
    about: About = field(default_factory=About)
