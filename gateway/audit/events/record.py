"""A line of the audit log, read with care: a member of a wrong type is no member, and nothing of it raises."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from gateway.audit.events.codes import Json


@dataclass(frozen=True, slots=True)
class Recorder:
    """Who recorded: what the lines themselves do not repeat.

    issuer        public URL of this server, which names it as observer
    site          the organisation that runs it
    bases         by the name of a route, the public URL of its FHIR base
    disclosed_to  clients whose accesses are disclosures to somebody outside; see `audit.disclosures`
    organizations that are outside
    """

    issuer: str
    site: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)
    disclosed_to: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a chain, with who recorded it."""

    recorder: Recorder
    chain: str
    members: Mapping[str, Any]

    @property
    def event(self) -> str:
        """The word that says what happened."""
        return self.text("event")

    @property
    def sequence(self) -> int:
        """Its number in the chain."""
        found = self.members.get("seq")
        return found if isinstance(found, int) else 0

    def text(self, name: str) -> str:
        """A member that is text; empty without."""
        return text_of(self.members, name)

    def part(self, name: str) -> Mapping[str, Any]:
        """A member that is an object; empty without."""
        return object_of(self.members, name)

    def texts(self, name: str) -> list[str]:
        """The texts of a member that is a list."""
        return texts_of(self.members, name)

    def number(self, name: str) -> int | None:
        """A member that is a whole number; None without."""
        found = self.members.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def base(self) -> str:
        """The FHIR base that it is about: as the line says, as its route is configured, the only one there is, or none."""
        bases = self.recorder.bases
        only = next(iter(bases.values())) if len(bases) == 1 else ""
        return self.text("base") or bases.get(self.text("route"), only)

    def event_id(self, kind: str, number: int = 0) -> str:
        """What an event made of this line is known by, for ever and everywhere the same."""
        of = "\n".join((self.recorder.issuer, self.chain, str(self.sequence), kind, str(number)))
        digits = sha256(of.encode()).hexdigest()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def read_record(line: bytes, recorder: Recorder, *, chain: str = "") -> Record:
    """The record of a line. Raises ValueError for what is no JSON object."""
    try:
        members = json.loads(line)
    except RecursionError as error:
        raise ValueError("the line is nested too deep") from error
    if not isinstance(members, dict):
        raise ValueError("the line is no JSON object")
    return Record(recorder, chain, members)


def text_of(members: Mapping[str, Any], name: str) -> str:
    """A member that is text; empty without. Of a control character a string of FHIR may not have, nothing is left."""
    found = members.get(name)
    if not isinstance(found, str):
        return ""
    return "".join(each for each in found if each >= " " or each in "\t\n\r").strip()


def object_of(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; empty without."""
    found = members.get(name)
    return found if isinstance(found, dict) else {}


def texts_of(members: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a member that is a list; a text alone counts as a list of one."""
    found = members.get(name)
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return [each for each in values if isinstance(each, str) and each.strip()]


def without_empty(value: Json) -> Json:
    """The members that say something: FHIR knows no empty text, list or object."""
    return {name: member for name, member in value.items() if member not in ("", [], {}, None)}
