"""The facts of a clinical document's header that a person wants to see, in the document's own words.

Nothing is decided by them: that is the business of header_reader. HL7 CDA R2 4.2.
"""

import re
from collections.abc import Mapping

from gateway.cda.header import CONFIDENTIALITY_SYSTEM

MAX_VALUE = 1024
_MAX_EACH = 16
_LEVELS = {
    "U": "Unrestricted",
    "L": "Low",
    "M": "Moderate",
    "N": "Normal",
    "R": "Restricted",
    "V": "Very restricted",
}
_NAMES = {
    ("title",): "Title",
    ("recordTarget", "patientRole", "patient", "name"): "Patient",
    ("author", "assignedAuthor", "assignedPerson", "name"): "Author",
    ("author", "assignedAuthor", "assignedAuthoringDevice", "softwareName"): "Author",
    ("author", "assignedAuthor", "representedOrganization", "name"): "Organization of the author",
    ("custodian", "assignedCustodian", "representedCustodianOrganization", "name"): "Custodian",
}
_ORDER = (
    "Patient", "Born", "Identifier", "Document", "Date", "Confidentiality", "Author", "Organization of the author",
    "Custodian",
)  # fmt: skip
_ALWAYS = ("Patient", "Document", "Date", "Confidentiality", "Author", "Custodian")
_TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.\d+)?([+-]\d\d)?(\d\d)?")


class Facts:
    """What was read so far. start(), text() and end() are told of the elements below the root, by path."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._left_out: set[str] = set()
        self._pieces: list[str] | None = None
        self._size = self._depth = 0
        self.language = ""

    @property
    def title(self) -> str:
        """The title of the document, or '' where it has none."""
        return next(iter(self._found.get("Title", ())), "")

    def start(self, path: tuple[str, ...], attributes: Mapping[str, str]) -> None:
        """An element begins."""
        if self._pieces is not None:
            self._add(" ")  # a part of a name
            return
        if path in _NAMES:
            self._pieces, self._size, self._depth = [], 0, len(path)
            return
        match path:
            case ("code",):
                said, name = attributes.get("code", ""), attributes.get("displayName", "")
                self._keep("Document", f"{name} ({said})" if name and said else name or said)
            case ("effectiveTime",):
                self._keep("Date", time(attributes.get("value", "")))
            case ("confidentialityCode",):
                self._keep("Confidentiality", _level(attributes))
            case ("languageCode",):
                self.language = attributes.get("code", "").strip()
            case ("recordTarget", "patientRole", "id"):
                root, extension = attributes.get("root", ""), attributes.get("extension", "")
                self._keep("Identifier", f"{extension} ({root})" if extension else root)
            case ("recordTarget", "patientRole", "patient", "birthTime"):
                self._keep("Born", time(attributes.get("value", "")))
            case _:
                pass

    def text(self, text: str) -> None:
        """Text stands there."""
        if self._pieces is not None:
            self._add(text)

    def end(self, path: tuple[str, ...]) -> None:
        """The element of this path ends."""
        if self._pieces is None:
            return
        self._add(" ")
        if len(path) == self._depth:
            self._keep(_NAMES[path], " ".join("".join(self._pieces).split()))
            self._pieces = None

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, in the order in which they are shown."""
        found = []
        for name in _ORDER:
            values = self._found.get(name) or (["not said"] if name in _ALWAYS else [])
            found += [(name, value) for value in values]
            if name in self._left_out:
                found.append((name, "and others, who are in the document"))
        return found

    def _add(self, text: str) -> None:
        if self._pieces is not None and self._size < MAX_VALUE:
            self._pieces.append(text[: MAX_VALUE - self._size])
            self._size += len(text)

    def _keep(self, name: str, value: str) -> None:
        values = self._found.setdefault(name, [])
        if not value.strip() or value in values:
            return
        if len(values) >= _MAX_EACH:
            self._left_out.add(name)
            return
        values.append(value.strip()[:MAX_VALUE])


def time(value: str) -> str:
    """A time stamp of HL7 as people write it; what is none stays as it is."""
    match = _TIME.fullmatch(value.strip())
    if match is None:
        return value.strip()
    year, month, day, hour, minute, second, zone, zone_minutes = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    clock = ":".join(part for part in (hour, minute, second) if part) if minute else ""
    offset = f"{zone}:{zone_minutes or '00'}" if zone else ""
    return " ".join(part for part in (date, clock, offset) if part)


def _level(attributes: Mapping[str, str]) -> str:
    code, system = attributes.get("code", "").strip(), attributes.get("codeSystem", "").strip()
    if code in _LEVELS and system in ("", CONFIDENTIALITY_SYSTEM):
        return f"{_LEVELS[code]} ({code})"
    return f"{code} ({system})" if system else code
